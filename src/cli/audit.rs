//! `audit verify` and `audit export`.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    args::{
        GlobalArgs,
        state::{Audit as Args, AuditVerb},
    },
    globals::Globals,
    session::{Session, stop},
};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Stop, format::API_VERSION, stdout},
    store::{
        Head,
        audit::{Audit, Header},
    },
};

/// Longest line of an export that is read: a record holds a plan's objects at most.
const LINE_MAX_BYTES: u64 = 64 << 20;

pub fn audit(globals: &GlobalArgs, args: &Args) -> Result<Exit, Stop> {
    match &args.verb {
        // A file needs neither inventory nor store.
        AuditVerb::Verify { file: Some(file), head } => of_file(&Globals::bare(globals), file, head.clone()),
        AuditVerb::Verify { file: None, head } => of_store(&Globals::load(globals)?, head.as_deref()),
        AuditVerb::Export { run, out } => export(&Globals::load(globals)?, run.as_deref(), out.as_deref()),
    }
}

/// A chain that does not hold is what is looked for here: the check failed (exit 1), nobody refused it.
fn finding(failure: Failure) -> Stop {
    Stop::with(Exit::Failed, failure)
}

fn is_finding(failure: &Failure) -> bool {
    failure.cause == Cause::Guard && failure.next.as_deref() == Some("rackctl state rebuild")
}

fn broken(what: String, why: String) -> Stop {
    finding(Failure::new(Cause::Mismatch, what, why).next("rackctl state rebuild"))
}

fn of_store(globals: &Globals, wanted: Option<&str>) -> Result<Exit, Stop> {
    // Opening looks at the head and its witness: what was cut off at the end is noticed there. A store of another
    // version, or one that was moved, is refused as everywhere else (exit 3): nothing was found out about its chain.
    let session = Session::open(globals).map_err(|stop| match stop.exit {
        Exit::Refused if stop.failures.iter().any(is_finding) => Stop { exit: Exit::Failed, ..stop },
        _ => stop,
    })?;
    let bad = |e: crate::store::StoreError| match e.to_failure() {
        failure if is_finding(&failure) => finding(failure),
        failure => failure.into(),
    };
    let records = session.store.chain().map_err(bad)?;
    let head = session.store.head().map_err(bad)?;
    let lineage = session.store.lineage().map_err(bad)?;
    if let Some(wanted) = wanted
        && !records.iter().any(|r| r.hash.starts_with(wanted))
    {
        let why = format!("no record has the hash {wanted}: the chain is another one, or was cut and made anew");
        return Err(broken("audit".to_owned(), why));
    }
    say(globals, json!({ "records": records.len(), "head": head, "lineage": lineage }), &head, records.len() as u64)
}

fn say(globals: &Globals, status: Value, head: &Head, records: u64) -> Result<Exit, Stop> {
    let value = json!({ "apiVersion": API_VERSION, "kind": "Audit", "metadata": { "name": "chain" }, "spec": {}, "status": status });
    let hash = if head.hash.is_empty() { "-" } else { &head.hash };
    let text = format!("the chain holds: {records} records, head {hash} (record {})\n", head.seq);
    stdout::print(&globals.format.render_one(&value, |_| text))?;
    Ok(Exit::Done)
}

fn of_file(globals: &Globals, path: &Path, wanted: Option<String>) -> Result<Exit, Stop> {
    let what = format!("audit {}", path.display());
    let local = |e: std::io::Error| Stop::from(Failure::new(Cause::Local, &what, e.to_string()));
    let malformed = |why: String| finding(Failure::new(Cause::Malformed, &what, why).next("rackctl audit export"));
    let unreadable = |e: std::io::Error| Stop::usage(Failure::new(Cause::Local, &what, e.to_string()));
    let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
    let first = line(&mut lines).map_err(local)?.ok_or_else(|| malformed("it is empty".to_owned()))?;
    let mut audit = Audit::begin(&first, wanted).map_err(malformed)?;
    let bad = |e: crate::store::Broken| broken(what.clone(), e.to_string());
    while let Some(line) = line(&mut lines).map_err(local)? {
        audit.take(&line).map_err(bad)?;
    }
    let found = audit.end().map_err(bad)?;
    let status = json!({ "records": found.records, "head": found.header.head, "lineage": found.header.lineage, "run": found.header.run });
    say(globals, status, &found.header.head, found.records)
}

fn line(from: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    from.take(LINE_MAX_BYTES).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() as u64 == LINE_MAX_BYTES {
        return Err(std::io::Error::other(format!("a line is longer than {LINE_MAX_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(std::io::Error::other)?;
    Ok(Some(text.trim_end_matches('\n').to_owned()))
}

fn export(globals: &Globals, run: Option<&str>, out: Option<&Path>) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let store = &session.store;
    let records = match run {
        Some(run) => store.journal(run),
        None => store.chain(),
    }
    .map_err(|e| stop(&e))?;
    if let (Some(run), true) = (run, records.is_empty()) {
        let failure = Failure::new(Cause::Refused, format!("audit export --run {run}"), "it has no records");
        return Err(Stop::usage(failure.next("rackctl runs")));
    }
    let header = Header::of(
        &records,
        run.map(str::to_owned),
        store.head().map_err(|e| stop(&e))?,
        store.lineage().map_err(|e| stop(&e))?,
    );
    let unwritable = |e: serde_json::Error| Failure::new(Cause::Local, "audit export", e.to_string());
    let mut text = serde_json::to_string(&header).map_err(unwritable)? + "\n";
    for record in &records {
        text += &serde_json::to_string(record).map_err(unwritable)?;
        text.push('\n');
    }
    match out.filter(|out| *out != Path::new("-")) {
        None => stdout::print(&text)?,
        Some(path) => {
            write_whole(path, text.as_bytes())?;
            stdout::note(&format!("{} records written to {}", records.len(), path.display()));
        }
    }
    Ok(Exit::Done)
}

/// Whole or not at all, for this user's eyes alone.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let put = || {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    put().map_err(|e: std::io::Error| Failure::new(Cause::Local, format!("write {}", path.display()), e.to_string()))
}
