//! A connection to one QEMU.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::qmp::{self, Message};
use crate::model::{Failure, failure::Cause};

/// QEMU opens its socket within this, even on a host that is busy with other machines.
const CONNECT: Duration = Duration::from_secs(20);
const CONNECT_POLL: Duration = Duration::from_millis(10);
const ANSWER: Duration = Duration::from_secs(10);
/// SHUTDOWN events waiting to be looked at; QEMU stops at the first.
const EVENTS_MAX: usize = 8;

type Answers = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<Value, String>>>>>;

pub struct Qmp {
    node: String,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    answers: Answers,
    next: AtomicU64,
}

impl Qmp {
    /// Connects as soon as the socket is there and negotiates. Reasons of SHUTDOWN events come out of the receiver,
    /// which ends with the connection.
    pub async fn connect(node: &str, path: &Path) -> Result<(Qmp, mpsc::Receiver<String>), Failure> {
        let fault = |cause, why: String| Failure::new(cause, format!("{node}: reach QEMU's control socket"), why);
        let stream = timeout(CONNECT, async {
            loop {
                match UnixStream::connect(path).await {
                    Ok(stream) => return stream,
                    Err(_) => sleep(CONNECT_POLL).await,
                }
            }
        })
        .await
        .map_err(|_| fault(Cause::Deadline, format!("{} not open after {} s", path.display(), CONNECT.as_secs())))?;
        let (reader, writer) = stream.into_split();
        let answers = Answers::default();
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(read(reader, answers.clone(), events));
        let qmp =
            Qmp { node: node.to_owned(), writer: tokio::sync::Mutex::new(writer), answers, next: AtomicU64::new(1) };
        // QEMU takes this command before it has sent its greeting, too.
        qmp.command("qmp_capabilities").await?;
        Ok((qmp, receiver))
    }

    pub async fn command(&self, name: &str) -> Result<Value, Failure> {
        let fault = |cause, why: String| Failure::new(cause, format!("{}: QEMU command {name}", self.node), why);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let ask = async {
            let mut writer = self.writer.lock().await;
            writer.write_all(qmp::command(id, name).as_bytes()).await.map_err(|error| error.to_string())?;
            drop(writer);
            receiver.await.map_err(|_| "QEMU closed the connection".to_owned())
        };
        let answer = timeout(ANSWER, ask).await;
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        match answer {
            Err(_) => Err(fault(Cause::Deadline, format!("no answer in {} s", ANSWER.as_secs()))),
            Ok(Err(why)) => Err(fault(Cause::Unreachable, why)),
            Ok(Ok(Err(why))) => Err(fault(Cause::Refused, why)),
            Ok(Ok(Ok(value))) => Ok(value),
        }
    }

    /// `running`, `shutdown`, `paused`… as QEMU says now.
    pub async fn status(&self) -> Result<String, Failure> {
        let value = self.command("query-status").await?;
        value.get("status").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
            Failure::new(Cause::Malformed, format!("{}: QEMU command query-status", self.node), value.to_string())
        })
    }
}

async fn read(reader: OwnedReadHalf, answers: Answers, events: mpsc::Sender<String>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(qmp::LINE_MAX).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(n) if n > 0) || line.last() != Some(&b'\n') {
            break;
        }
        match qmp::parse(&String::from_utf8_lossy(&line)) {
            Some(Message::Answer { id, result }) => {
                if let Some(sender) = answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
                    // Nobody waits any more: the deadline has passed.
                    let _ = sender.send(result);
                }
            }
            Some(Message::Shutdown { reason }) => {
                if events.send(reason).await.is_err() {
                    break;
                }
            }
            Some(Message::Greeting | Message::Other) | None => {}
        }
    }
    // Whoever still waits for an answer is told that there is none.
    answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
