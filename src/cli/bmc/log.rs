//! `bmc log`: what machines and their BMCs wrote down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::sync::watch;

use super::{change, look};
use crate::{
    bmc::{
        self,
        logs::{Entry, Log},
    },
    cli::{
        args::bmc::Log as Args,
        globals::Globals,
        session::{Session, block_on},
    },
    engine::retry,
    model::{Failure, bmc::BmcChange, failure::Cause},
    output::{Exit, Format, Stop, clean, stdout},
};

/// Between two looks of `--follow`: a BMC answers 2 to 6 requests a second, and has other things to do.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);
/// What `--follow` begins with.
const FIRST_ENTRIES: usize = 10;

#[derive(Serialize)]
struct Said {
    logs: Vec<Log>,
}

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    if args.clear {
        let change = BmcChange::ClearLog { log: args.log.clone() };
        return change::run(
            globals,
            &args.targets,
            change,
            change::Asked { yes: args.yes, dry_run: args.dry.dry_run, ..change::Asked::default() },
        );
    }
    if args.follow {
        let (session, names) = look::chosen(globals, &args.targets)?;
        return block_on(follow(globals, args, &session, &names));
    }
    let wanted = args.log.clone();
    let mut rows = look::over(globals, &args.targets, move |client| {
        let wanted = wanted.clone();
        Box::pin(async move { Ok(Said { logs: client.logs(wanted.as_deref()).await? }) })
    })?;
    if let Some(most) = args.tail {
        rows.iter_mut().filter_map(|(_, r)| r.as_mut().ok()).for_each(|said| tail(&mut said.logs, most));
    }
    for (name, said) in rows.iter().filter_map(|(n, r)| Some((n, r.as_ref().ok()?))) {
        for log in said.logs.iter().filter(|l| l.unreadable || l.more) {
            let what =
                if log.unreadable { "names entries that it does not give" } else { "has more entries than were read" };
            stdout::note(&format!("{name}: its log {} {what}", clean::line(&log.id)));
        }
    }
    look::show(
        globals,
        rows,
        |_| vec!["TIME", "LOG", "SEVERITY", "SENSOR", "MESSAGE"],
        |said, _| merged(&said.logs).into_iter().map(|(log, entry)| cells(log, entry)).collect(),
    )
}

fn cells(log: &Log, entry: &Entry) -> Vec<String> {
    let message = entry.message.as_ref().or(entry.message_id.as_ref()).cloned();
    vec![
        look::or_dash(&entry.at),
        log.id.clone(),
        look::or_dash(&entry.severity),
        look::or_dash(&entry.sensor),
        look::or_dash(&message),
    ]
}

/// The entries of all logs of a machine by their times; those of one log keep their order.
fn merged(logs: &[Log]) -> Vec<(&Log, &Entry)> {
    let mut all: Vec<(&Log, &Entry)> = Vec::new();
    let mut queues: Vec<(&Log, std::iter::Peekable<std::slice::Iter<'_, Entry>>)> =
        logs.iter().map(|log| (log, log.entries.iter().peekable())).collect();
    loop {
        // Without a time an entry comes as soon as its log has its turn.
        let time = |e: Option<&&Entry>| e.map(|e| e.at.clone().unwrap_or_default());
        let next =
            queues.iter_mut().enumerate().filter_map(|(at, (_, entries))| Some((time(entries.peek())?, at))).min();
        let Some((_, at)) = next else { return all };
        let Some((log, entries)) = queues.get_mut(at) else { return all };
        all.extend(entries.next().map(|entry| (*log, entry)));
    }
}

/// The last `most` of all logs together.
fn tail(logs: &mut [Log], most: usize) {
    let kept: BTreeSet<(usize, Entry)> = {
        let all = merged(logs);
        let skip = all.len().saturating_sub(most);
        let at = |log: &Log| logs.iter().position(|l| l.path == log.path).unwrap_or_default();
        all.into_iter().skip(skip).map(|(log, entry)| (at(log), entry.clone())).collect()
    };
    for (at, log) in logs.iter_mut().enumerate() {
        log.entries.retain(|entry| kept.contains(&(at, entry.clone())));
    }
}

/// A machine whose logs are followed, with its log-in: a new one for each look would be what its BMC writes down next.
struct Watched {
    name: String,
    client: Option<bmc::Client>,
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
        let mark = client.log_mark().await?;
        if mark.is_some() && mark == self.mark {
            return Ok(Vec::new());
        }
        let logs = client.logs(wanted).await?;
        // Asked for before the log was read: an entry between the two is read twice and not missed.
        self.mark = mark;
        Ok(logs)
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
}

/// Prints what is new until ^C, which is the ordinary end: every log-in is closed then. A machine that does not answer is
/// told once and asked again.
async fn follow(globals: &Globals, args: &Args, session: &Session, names: &[String]) -> Result<Exit, Stop> {
    let passwords = session.passwords(names).await?;
    let mut stopped = interrupted()?;
    let watch = |name: &String| Watched {
        name: name.clone(),
        client: None,
        known: BTreeMap::new(),
        mark: None,
        silent: false,
        ended: None,
    };
    let mut all: Vec<Watched> = names.iter().map(watch).collect();
    let result = async {
        let mut first = true;
        while !*stopped.borrow() && all.iter().any(|w| w.ended.is_none()) {
            let passwords = &passwords;
            let mut looks = stream::iter(all.iter_mut().filter(|w| w.ended.is_none()).map(|watched| async move {
                let logs = watched.look(session, passwords, args.log.as_deref()).await;
                (watched, logs)
            }))
            .buffer_unordered(session.concurrency.max(1));
            while let Some((watched, logs)) = looks.next().await {
                match logs {
                    Ok(logs) => {
                        watched.silent = false;
                        let mut fresh = watched.fresh(logs);
                        if first {
                            tail(&mut fresh, args.tail.unwrap_or(FIRST_ENTRIES));
                        }
                        print(globals, &watched.name, &fresh)?;
                    }
                    Err(failure) if retry::passes(failure.cause) => {
                        if !std::mem::replace(&mut watched.silent, true) {
                            stdout::note(&format!("{}: {}; asked again", watched.name, failure.why));
                        }
                    }
                    Err(failure) => watched.ended = Some(failure),
                }
            }
            drop(looks);
            first = false;
            let _ = tokio::time::timeout(FOLLOW_EVERY, stopped.wait_for(|stop| *stop)).await;
        }
        Ok(())
    }
    .await;
    let mut rows: look::Rows<()> = Vec::new();
    for watched in all {
        if let Some(client) = watched.client {
            let _ = client.close().await;
        }
        rows.push((watched.name, watched.ended.map_or(Ok(()), Err)));
    }
    result.and_then(|()| look::end(rows))
}

/// Turns true at ^C or SIGTERM; a second one ends the program at once.
fn interrupted() -> Result<watch::Receiver<bool>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let fault = |e: std::io::Error| Failure::new(Cause::Local, "listen for ^C", e.to_string());
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        for count in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if count > 0 {
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
            let _ = tell.send(true);
        }
    });
    Ok(told)
}

fn print(globals: &Globals, name: &str, logs: &[Log]) -> Result<(), Stop> {
    let mut text = String::new();
    for (log, entry) in merged(logs) {
        match globals.format {
            Format::Json | Format::Jsonl => {
                let line = serde_json::json!({ "name": name, "log": log.id, "entry": entry });
                text.push_str(&format!("{line}\n"));
            }
            _ => {
                let line = format!("{name}  {}", cells(log, entry).join("  "));
                text.push_str(&clean::line(&line));
                text.push('\n');
            }
        }
    }
    if text.is_empty() { Ok(()) } else { stdout::print(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::logs::Owner;

    fn entry(id: &str, at: &str) -> Entry {
        Entry {
            id: id.into(),
            at: Some(at.into()),
            severity: None,
            message: Some(format!("m{id}")),
            message_id: None,
            sensor: None,
        }
    }

    fn log(id: &str, entries: Vec<Entry>) -> Log {
        let path = format!("/l/{id}");
        Log { id: id.into(), owner: Owner::System, path, clear: None, entries, more: false, unreadable: false }
    }

    #[test]
    fn logs_are_read_as_one_and_cut_as_one() {
        let mut logs = vec![
            log("a", vec![entry("1", "2026-01-01T00:00:00Z"), entry("2", "2026-01-03T00:00:00Z")]),
            log("b", vec![entry("1", "2026-01-02T00:00:00Z"), entry("2", "2026-01-04T00:00:00Z")]),
        ];
        let order: Vec<String> = merged(&logs).iter().map(|(l, e)| format!("{}{}", l.id, e.id)).collect();
        assert_eq!(order, ["a1", "b1", "a2", "b2"]);
        tail(&mut logs, 2);
        let order: Vec<String> = merged(&logs).iter().map(|(l, e)| format!("{}{}", l.id, e.id)).collect();
        assert_eq!(order, ["a2", "b2"]);
        tail(&mut logs, 0);
        assert!(merged(&logs).is_empty());
    }
}
