//! `bmc log --follow`: what is new in the logs of machines, until ^C.
//!
//! A BMC that has a stream of events is read when it says that something happened, and now and then all the same: its
//! queue of events is short, and a stream that broke off missed what came meanwhile. Others are asked every few seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, future, stream};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{log, look};
use crate::{
    bmc::{
        self,
        client::Events,
        logs::{Entry, Log},
    },
    cli::{args::bmc::Log as Args, globals::Globals, interrupt, session::Session},
    engine::retry,
    model::Failure,
    output::{Exit, Format, Stop, clean, stdout},
};

/// Between two looks at a BMC without a stream: it answers 2 to 6 requests a second, and has other things to do.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at a BMC whose stream is silent.
const TRUST_STREAM: Duration = Duration::from_secs(60);
/// Between two looks at a BMC however many events it sends; what comes in a burst is read at once.
const REST: Duration = Duration::from_secs(1);
/// A stream that broke off sooner is not opened again: this BMC cannot do it.
const STREAM_WORTH: Duration = Duration::from_secs(20);
/// What is shown first.
const FIRST_ENTRIES: usize = 10;

/// What a BMC says by itself.
enum Hearing {
    Unasked,
    Open {
        events: Box<Events>,
        since: Instant,
    },
    /// It has no stream, or one that does not last.
    Deaf,
}

/// A machine whose logs are followed, with its log-in: a new one for each look would be what its BMC writes down next.
struct Watched {
    name: String,
    client: Option<bmc::Client>,
    hearing: Hearing,
    /// The next look.
    due: Instant,
    looked: Instant,
    /// Nothing of it was shown yet.
    first: bool,
    /// Entries of the last look, by the path of their log.
    known: BTreeMap<String, BTreeSet<Entry>>,
    /// Of the BMC's log as it was last read: see [`bmc::Client::log_mark`].
    mark: Option<String>,
    /// Told that it does not answer.
    silent: bool,
    /// What will not mend.
    ended: Option<Failure>,
}

impl Watched {
    fn new(name: &str, now: Instant) -> Watched {
        Watched {
            name: name.to_owned(),
            client: None,
            hearing: Hearing::Unasked,
            due: now,
            looked: now,
            first: true,
            known: BTreeMap::new(),
            mark: None,
            silent: false,
            ended: None,
        }
    }

    async fn look(
        &mut self,
        session: &Session,
        passwords: &bmc::Passwords,
        wanted: Option<&str>,
    ) -> Result<Vec<Log>, Failure> {
        if self.client.is_none() {
            self.client = Some(session.bmc(session.node(&self.name)?, passwords, look::LOOK).await?);
        }
        let Some(client) = &self.client else { return Ok(Vec::new()) };
        if matches!(self.hearing, Hearing::Unasked) {
            // Before the log is read: what happens between the two is heard. A stream that is named and not given is
            // one that this BMC does not have; the log is read either way.
            self.hearing = match client.events().await {
                Ok(Some(events)) => Hearing::Open { events: Box::new(events), since: Instant::now() },
                Err(failure) if retry::passes(failure.cause) => Hearing::Unasked,
                Ok(None) | Err(_) => Hearing::Deaf,
            };
        }
        let mark = client.log_mark().await?;
        if mark.is_some() && mark == self.mark {
            return Ok(Vec::new());
        }
        let logs = client.logs(wanted).await?;
        // Asked for before the log was read: an entry between the two is read twice and not missed.
        self.mark = mark;
        Ok(logs)
    }

    /// After a look.
    fn rest(&mut self, now: Instant) {
        self.looked = now;
        self.due = now + if matches!(self.hearing, Hearing::Open { .. }) { TRUST_STREAM } else { ASK_EVERY };
    }

    /// Until it is to be looked at. Nothing is lost where the wait is given up.
    async fn wait(&mut self) {
        while Instant::now() < self.due {
            let due = self.due;
            let Hearing::Open { events, since } = &mut self.hearing else { return sleep_until(due).await };
            let heard = tokio::select! {
                heard = events.next() => heard,
                () = sleep_until(due) => return,
            };
            let now = Instant::now();
            self.due = self.due.min(now.max(self.looked + REST));
            if heard.is_err() {
                let lasted = now - *since >= STREAM_WORTH;
                self.hearing = if lasted { Hearing::Unasked } else { Hearing::Deaf };
            }
        }
    }

    /// What was not there at the last look.
    fn fresh(&mut self, mut logs: Vec<Log>) -> Vec<Log> {
        for log in &mut logs {
            let now: BTreeSet<Entry> = log.entries.iter().cloned().collect();
            let before = self.known.insert(log.path.clone(), now).unwrap_or_default();
            log.entries.retain(|entry| !before.contains(entry));
        }
        logs
    }

    /// What a look gave.
    fn take(&mut self, globals: &Globals, args: &Args, logs: Result<Vec<Log>, Failure>) -> Result<(), Stop> {
        match logs {
            Ok(logs) => {
                self.silent = false;
                let mut fresh = self.fresh(logs);
                if std::mem::take(&mut self.first) {
                    log::tail(&mut fresh, args.tail.unwrap_or(FIRST_ENTRIES));
                }
                print(globals, &self.name, &fresh)?;
            }
            Err(failure) if retry::passes(failure.cause) => {
                if !std::mem::replace(&mut self.silent, true) {
                    stdout::note(&format!("{}: {}; asked again", self.name, failure.why));
                }
            }
            Err(failure) => self.ended = Some(failure),
        }
        Ok(())
    }
}

/// Prints what is new until ^C, which is the ordinary end: every log-in is closed then. A machine that does not answer is
/// told once and asked again.
pub async fn run(globals: &Globals, args: &Args, session: &Session, names: &[String]) -> Result<Exit, Stop> {
    let passwords = session.passwords(names).await?;
    let ear = interrupt::listen("", "")?;
    let mut stopped = ear.told();
    let now = Instant::now();
    let mut all: Vec<Watched> = names.iter().map(|name| Watched::new(name, now)).collect();
    let result = rounds(globals, args, session, &passwords, &mut all, &mut stopped).await;
    let mut rows: look::Rows<()> = Vec::new();
    for watched in all {
        drop(watched.hearing);
        if let Some(client) = watched.client {
            let _ = client.close().await;
        }
        rows.push((watched.name, watched.ended.map_or(Ok(()), Err)));
    }
    result.and_then(|()| look::end(rows))
}

async fn rounds(
    globals: &Globals,
    args: &Args,
    session: &Session,
    passwords: &bmc::Passwords,
    all: &mut [Watched],
    stopped: &mut watch::Receiver<bool>,
) -> Result<(), Stop> {
    while !*stopped.borrow() && all.iter().any(|w| w.ended.is_none()) {
        let now = Instant::now();
        let due = all.iter_mut().filter(|w| w.ended.is_none() && w.due <= now);
        let mut looks = stream::iter(due.map(|watched| async move {
            let logs = watched.look(session, passwords, args.log.as_deref()).await;
            watched.rest(Instant::now());
            (watched, logs)
        }))
        .buffer_unordered(session.concurrency.max(1));
        while let Some((watched, logs)) = looks.next().await {
            watched.take(globals, args, logs)?;
        }
        drop(looks);
        let waits: Vec<_> = all.iter_mut().filter(|w| w.ended.is_none()).map(|w| Box::pin(w.wait())).collect();
        if waits.is_empty() {
            break;
        }
        tokio::select! {
            _ = future::select_all(waits) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }
    Ok(())
}

fn print(globals: &Globals, name: &str, logs: &[Log]) -> Result<(), Stop> {
    let mut text = String::new();
    for (of, entry) in log::merged(logs) {
        match globals.format {
            Format::Json | Format::Jsonl => {
                let line = serde_json::json!({ "name": name, "log": of.id, "entry": entry });
                text.push_str(&format!("{line}\n"));
            }
            _ => {
                let line = format!("{name}  {}", log::cells(of, entry).join("  "));
                text.push_str(&clean::line(&line));
                text.push('\n');
            }
        }
    }
    if text.is_empty() { Ok(()) } else { stdout::print(&text) }
}
