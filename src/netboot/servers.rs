//! The parent's end: starts the server process, sends it tables, receives its events.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::model::{
    Failure,
    boot::{BootTable, NetbootEvent, ServerOrder},
    failure::Cause,
};

/// Events that wait for the run; the child's own queue fills up behind it.
const QUEUE: usize = 1024;
const LONGEST_EVENT: u64 = 1 << 20;
/// The child ends by itself when the pair closes; after this it is killed.
const END_WITHIN: Duration = Duration::from_millis(300);
/// How long a table may take to be written to a child that does not read.
const ORDER_WITHIN: Duration = Duration::from_secs(10);

/// The running server process. Dropping it ends the process and waits for it.
#[derive(Debug)]
pub struct Servers {
    process: Process,
    pair: UnixStream,
}

#[derive(Debug)]
struct Process {
    child: Child,
    pair: UnixStream,
}

/// Sends tables. The servers live as long as this does.
#[derive(Debug)]
pub struct OrderSender {
    process: Process,
}

impl Servers {
    /// Starts the child from this program's own file. Call it on the main thread before any other is started: the
    /// child dies with the thread that made it, and inherits that thread's network namespace.
    ///
    /// `netns` is the name (`/run/netns/NAME`) of the namespace that the caller has entered, if any.
    pub fn spawn(netns: Option<&str>) -> Result<Servers, Failure> {
        let program = std::env::current_exe().map_err(|error| fault("find this program's file", &error))?;
        Servers::spawn_program(&program, &["__netboot", "0"], netns)
    }

    /// The same with another program, which must call [`super::child::main`] with descriptor 0.
    pub fn spawn_program(program: &Path, args: &[&str], netns: Option<&str>) -> Result<Servers, Failure> {
        if let Some(name) = netns {
            entered(name)?;
        }
        let (ours, theirs) = UnixStream::pair().map_err(|error| fault("make a socket pair", &error))?;
        ours.set_write_timeout(Some(ORDER_WITHIN)).map_err(|error| fault("set up a socket pair", &error))?;
        let mut command = Command::new(program);
        // The pair is the child's standard input: descriptor 0, with no flag to set and none to forget.
        command.args(args).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).env_clear();
        for name in ["PATH", "LANG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let child = command.spawn().map_err(|error| fault(&format!("start {}", program.display()), &error))?;
        let pair = ours.try_clone().map_err(|error| fault("set up a socket pair", &error))?;
        Ok(Servers { process: Process { child, pair: ours }, pair })
    }

    /// Two ends: tables in, events out. The events end (`None`) when the process has ended. Needs no runtime.
    pub fn into_async(self) -> (OrderSender, mpsc::Receiver<NetbootEvent>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let Servers { process, pair } = self;
        // A thread and not a task: a busy runtime must not hold up the servers' reports, nor they the runtime.
        thread::spawn(move || read_events(pair, &sender));
        (OrderSender { process }, receiver)
    }

    pub fn id(&self) -> u32 {
        self.process.child.id()
    }
}

impl OrderSender {
    /// Replaces the table in force. Short enough to call from async code: the socket buffer takes it, and a child that
    /// does not read is an error after ten seconds.
    pub fn serve(&mut self, table: &BootTable) -> Result<(), Failure> {
        let order = ServerOrder::Serve(Box::new(table.clone()));
        let mut line = serde_json::to_vec(&order)
            .map_err(|error| Failure::new(Cause::Malformed, "write a boot table", error.to_string()))?;
        line.push(b'\n');
        self.process.pair.write_all(&line).map_err(|error| fault("send a boot table to the boot servers", &error))
    }

    pub fn id(&self) -> u32 {
        self.process.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.pair.shutdown(Shutdown::Both);
        let deadline = Instant::now() + END_WITHIN;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_events(pair: UnixStream, sender: &mpsc::Sender<NetbootEvent>) {
    let mut lines = BufReader::new(pair);
    loop {
        let mut line = Vec::new();
        match lines.by_ref().take(LONGEST_EVENT).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let event = serde_json::from_slice(&line).unwrap_or_else(|error| NetbootEvent::Failed {
            failure: Failure::new(Cause::Malformed, "read the boot servers' events", error.to_string()),
        });
        if sender.blocking_send(event).is_err() {
            return;
        }
    }
}

fn entered(name: &str) -> Result<(), Failure> {
    let what = format!("start boot servers in network namespace {name}");
    let id = |path: &str| {
        std::fs::metadata(path)
            .map(|meta| (meta.dev(), meta.ino()))
            .map_err(|error| Failure::new(Cause::Local, what.clone(), format!("{path}: {error}")).next("ip netns list"))
    };
    if id("/proc/thread-self/ns/net")? == id(&format!("/run/netns/{name}"))? {
        return Ok(());
    }
    Err(Failure::new(Cause::Guard, what, "this thread has not entered it"))
}

fn fault(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Cause::Local, what, error.to_string())
}
