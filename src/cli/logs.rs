//! `logs`: what the journal says of a run or of a node, oldest first.

use std::time::Duration;

use super::{
    args::look::Logs,
    globals::Globals,
    session::{Session, stop},
};
use crate::{
    model::{Failure, clock, failure::Cause},
    output::{Exit, Format, Stop, clean, stdout},
    store::{Record, RecordKind},
};

const FOLLOW_EVERY: Duration = Duration::from_millis(500);

pub fn logs(globals: &Globals, args: &Logs) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let is_run = session.store.run(&args.name).map_err(|e| stop(&e))?.is_some();
    if !is_run && !session.fleet.nodes.contains_key(&args.name) && !session.fleet.clusters.contains_key(&args.name) {
        return Err(Stop::usage(
            Failure::new(
                Cause::Refused,
                format!("logs {}", args.name),
                "neither a run nor a node or cluster of the inventory",
            )
            .next("rackctl runs"),
        ));
    }
    let read = || -> Result<Vec<Record>, Stop> {
        if is_run {
            return session.store.journal(&args.name).map_err(|e| stop(&e));
        }
        let mut all = session.store.chain().map_err(|e| stop(&e))?;
        all.retain(|r| r.subject == args.name);
        Ok(all)
    };
    let records = read()?;
    let skip = args.tail.map_or(0, |n| records.len().saturating_sub(n));
    let mut last = records.last().map_or(0, |r| r.seq);
    print(globals, &records[skip..])?;
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        std::thread::sleep(FOLLOW_EVERY);
        let fresh: Vec<Record> = read()?.into_iter().filter(|r| r.seq > last).collect();
        last = fresh.last().map_or(last, |r| r.seq);
        print(globals, &fresh)?;
        if is_run && fresh.iter().any(|r| r.kind == RecordKind::RunEnded) {
            return Ok(Exit::Done);
        }
    }
}

fn print(globals: &Globals, records: &[Record]) -> Result<(), Stop> {
    let mut text = String::new();
    for record in records {
        match globals.format {
            Format::Json | Format::Jsonl => text.push_str(&(serde_json::to_string(record).unwrap_or_default() + "\n")),
            _ => text.push_str(&(line(record) + "\n")),
        }
    }
    stdout::print(&text)
}

/// With its time and kind.
pub fn line(record: &Record) -> String {
    let failed = record.kind == RecordKind::Finalized && record.body.get("failure").is_some_and(|f| !f.is_null());
    let word = if failed { "NOT left safe" } else { kind_word(record.kind) };
    format!("{} {word:<14} {}", clock::utc(record.at_ms), said(record))
}

/// The step, and what is to be said of it.
pub fn said(record: &Record) -> String {
    let mut said = record.step.clone();
    if record.attempt > 1 {
        said.push_str(&format!(" (attempt {})", record.attempt));
    }
    if let Some(failure) = record.body.get("failure").filter(|f| !f.is_null()) {
        let part = |field: &str| failure.get(field).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        said.push_str(&format!(": {}: {}", part("what"), part("why")));
        let next = part("next");
        if !next.is_empty() {
            said.push_str(&format!(" (next: {next})"));
        }
    } else if let Some(outcome) = record.body.get("outcome").and_then(|v| v.as_str()) {
        said.push_str(&format!(": {outcome}"));
    } else if let Some(serial) = record.body.pointer("/target/disk/serial").and_then(|v| v.as_str()) {
        said.push_str(&format!(": disk {serial}"));
    } else if record.body.get("claim").is_some() {
        said.push_str(": claimed");
    }
    clean::line(&said).into_owned()
}

pub fn kind_word(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::RunStarted => "run started",
        RecordKind::RunResumed => "run resumed",
        RecordKind::Observed => "observed",
        RecordKind::Intent => "begins",
        RecordKind::Result => "answered",
        RecordKind::Done => "done",
        RecordKind::Failed => "FAILED",
        RecordKind::Fact => "fact",
        RecordKind::Finalized => "left safe",
        RecordKind::RunEnded => "run ended",
        RecordKind::RunPaused => "run paused",
        RecordKind::RunHalted => "run HALTED",
        RecordKind::RunAborted => "run aborted",
        RecordKind::Approved => "approved",
        RecordKind::LockStolen => "lock STOLEN",
        RecordKind::Imported => "imported",
        RecordKind::Rebuilt => "rebuilt",
        RecordKind::Waited => "waits",
    }
}
