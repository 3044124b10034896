//! `bmc log`: what machines and their BMCs wrote down.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{change, follow, look};
use crate::{
    bmc::logs::{Entry, Log},
    cli::{args::bmc::Log as Args, globals::Globals, session::block_on},
    model::bmc::BmcChange,
    output::{Exit, Stop, clean, stdout},
};

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
        return block_on(follow::run(globals, args, &session, &names));
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

pub(super) fn cells(log: &Log, entry: &Entry) -> Vec<String> {
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
pub(super) fn merged(logs: &[Log]) -> Vec<(&Log, &Entry)> {
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
pub(super) fn tail(logs: &mut [Log], most: usize) {
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
