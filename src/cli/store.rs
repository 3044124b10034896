//! `store export|import|migrate`

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use serde_json::json;

use super::{
    args::state::{Store as Args, StoreVerb},
    audit::write_whole,
    globals::Globals,
    opened::{self, Place},
    session::{Session, named, stop, store_path},
};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Stop, stdout},
    run::clock,
    store::{Draft, EtcdStore, Export, Fence, Head, Holder, Record, RecordKind, SqliteStore, Store},
};

/// Largest export that is read.
const EXPORT_MAX_BYTES: u64 = 4 << 30;

pub fn store(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    match &args.verb {
        StoreVerb::Export { out } => export(globals, out),
        StoreVerb::Import { file } => import(globals, file),
        StoreVerb::Migrate { to: Some(to), .. } => migrate(globals, to),
        StoreVerb::Migrate { undo: true, force, .. } => undo(globals, *force),
        StoreVerb::Migrate { .. } => upgrade(globals),
    }
}

fn export(globals: &Globals, out: &Path) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let export = session.store.export().map_err(|e| stop(&e))?;
    let mut text = serde_json::to_vec(&export).map_err(|e| Failure::new(Cause::Local, "export", e.to_string()))?;
    text.push(b'\n');
    if out == Path::new("-") {
        stdout::judge(std::io::stdout().lock().write_all(&text))?;
    } else {
        write_whole(out, &text)?;
    }
    stdout::note(&counts(&export));
    Ok(Exit::Done)
}

fn import(globals: &Globals, file: &Path) -> Result<Exit, Stop> {
    let what = format!("import {}", file.display());
    let mut text = Vec::new();
    File::open(file)
        .and_then(|f| f.take(EXPORT_MAX_BYTES).read_to_end(&mut text))
        .map_err(|e| Stop::usage(Failure::new(Cause::Local, &what, e.to_string())))?;
    let export: Export = serde_json::from_slice(&text).map_err(|e| {
        let why = format!("it is no export of this version, or was cut off: {e}");
        Failure::new(Cause::Malformed, &what, why).next("rackctl store export --out FILE")
    })?;
    let session = Session::open(globals)?;
    session.store.import(&export).map_err(|e| stop(&e))?;
    imported(&*session.store, &export, None)?;
    stdout::note(&counts(&export));
    stdout::note(
        "The store that they came from must not be gone on with: two states of one fleet know nothing of each other",
    );
    Ok(Exit::Done)
}

fn counts(export: &Export) -> String {
    format!(
        "{} runs, {} records, {} nodes; head {} (record {}), lineage {} at {}",
        export.runs.len(),
        export.records.len(),
        export.nodes.len(),
        if export.head.hash.is_empty() { "-" } else { &export.head.hash },
        export.head.seq,
        export.lineage.id,
        export.lineage.serial
    )
}

/// The chain says where it goes on.
fn imported(store: &dyn Store, export: &Export, from: Option<&Place>) -> Result<Record, Stop> {
    let draft = Draft {
        subject: "store".to_owned(),
        step: "import".to_owned(),
        attempt: 1,
        kind: RecordKind::Imported,
        body: json!({
            "records": export.head.seq,
            "head": export.head.hash,
            "lineage": export.lineage.id,
            "serial": export.lineage.serial,
            "from": from.map(ToString::to_string),
        }),
    };
    let fence = Fence::of_nothing(&Holder::this());
    store.append("store", clock::unix_ms(), &fence, draft).map_err(|e| stop(&e))
}

/// From a file of an older schema.
fn upgrade(globals: &Globals) -> Result<Exit, Stop> {
    let path = store_path(globals.store.as_deref(), &globals.fleet()?)?;
    match SqliteStore::migrate(&path).map_err(|e| stop(&named(e, &path)))? {
        None => stdout::note(&format!("{} is of this version already", path.display())),
        Some(done) => stdout::note(&format!(
            "{}: schema {} became {}, {} records kept as they were; a copy of the old file is {}",
            path.display(),
            done.from,
            done.to,
            done.records,
            done.kept.display()
        )),
    }
    Ok(Exit::Done)
}

/// Closed, copied, and closed it stays: at no moment can both be written.
fn migrate(globals: &Globals, to: &str) -> Result<Exit, Stop> {
    let fleet = globals.fleet()?;
    let (from, to) = (Place::of(globals.store.as_deref(), &fleet)?, Place::of(Some(to), &fleet)?);
    let what = format!("move {from} to {to}");
    if from == to {
        return Err(Stop::usage(Failure::new(Cause::Refused, what, "that is where it is").next("rackctl lock list")));
    }
    read_only(globals, &what)?;
    if let Place::File(path) = &from
        && !path.exists()
    {
        return Err(Stop::usage(
            Failure::new(Cause::Refused, what, "there is no such file").next("rackctl --store URL runs"),
        ));
    }
    let source = from.open(&fleet)?;
    let named = to.to_string();
    let moved = source.moved().map_err(|e| stop(&e))?;
    if let Some(elsewhere) = moved.as_ref().filter(|place| **place != named) {
        let why = format!("it was moved to {elsewhere} before");
        return Err(Failure::new(Cause::Guard, what, why).next(format!("rackctl --store {elsewhere} …")).into());
    }
    let lineage = source.lineage().map_err(|e| stop(&e))?;
    if let Place::Etcd(url) = &to {
        // By what the source knows: the target knows nothing yet.
        opened::outside(url, &fleet)?;
        let probe = EtcdStore::connect(url).map_err(|e| stop(&e))?;
        opened::not_itself(&probe, url, &fleet, &*source)?;
    }
    let target = to.open(&fleet)?;
    let done = |state: &str, head: &Head| {
        stdout::note(&format!(
            "{state} {to}: head {} (record {}). {from} is closed; from now on: --store {to}, RACKCTL_STORE, or the \
             context's `store`",
            if head.hash.is_empty() { "-" } else { &head.hash },
            head.seq
        ));
        Ok(Exit::Done)
    };
    if moved.is_some() && target.lineage().is_ok_and(|other| other.id == lineage.id) {
        return done("everything is in", &target.head().map_err(|e| stop(&e))?);
    }
    source.set_moved(Some(&named)).map_err(|e| stop(&e))?;
    let copied = source.export().and_then(|export| target.import(&export).map(|()| export));
    let export = match copied {
        Ok(export) => export,
        // Its last answer may have been lost.
        Err(error) => match (target.lineage().map(|other| other.id == lineage.id), source.export()) {
            (Ok(true), Ok(export)) => export,
            (Ok(false), _) => {
                source.set_moved(None).map_err(|e| stop(&e))?;
                return Err(stop(&error));
            }
            _ => {
                let mut stop = stop(&error);
                stop.failures.push(
                    Failure::new(
                        Cause::Local,
                        what,
                        format!("{from} stays closed: whether {to} has it all is not known"),
                    )
                    .next(format!("rackctl store migrate --to {to} (again), or rackctl store migrate --undo")),
                );
                return Err(stop);
            }
        },
    };
    let record = imported(&*target, &export, Some(&from))?;
    stdout::note(&counts(&export));
    done("moved to", &Head { seq: record.seq, hash: record.hash })
}

/// A move that did not come to its end is taken back.
fn undo(globals: &Globals, force: bool) -> Result<Exit, Stop> {
    let fleet = globals.fleet()?;
    let from = Place::of(globals.store.as_deref(), &fleet)?;
    let what = format!("open {from} again");
    read_only(globals, &what)?;
    let source = from.open(&fleet)?;
    let Some(place) = source.moved().map_err(|e| stop(&e))? else {
        stdout::note(&format!("{from} is open"));
        return Ok(Exit::Done);
    };
    if !force {
        let again = "rackctl store migrate --undo --force, once nobody uses the other one";
        let other = Place::of(Some(&place), &fleet)?.open(&fleet).and_then(|s| s.lineage().map_err(|e| stop(&e)));
        let why = match other {
            Ok(other) if other.id == source.lineage().map_err(|e| stop(&e))?.id => {
                format!("{place} has the content: two states of one fleet would know nothing of each other")
            }
            Ok(_) => String::new(),
            Err(stop) if stop.failures.iter().any(|f| f.why.contains("import")) => String::new(),
            Err(stop) => {
                let why: Vec<String> = stop.failures.iter().map(ToString::to_string).collect();
                format!("{place} cannot be asked: {}", why.join("; "))
            }
        };
        if !why.is_empty() {
            return Err(Failure::new(Cause::Guard, what, why).next(again).into());
        }
    }
    source.set_moved(None).map_err(|e| stop(&e))?;
    stdout::note(&format!("{from} is open again; nothing of it may be used in {place}"));
    Ok(Exit::Done)
}

fn read_only(globals: &Globals, what: &str) -> Result<(), Stop> {
    match globals.read_only {
        true => Err(Failure::new(Cause::Guard, what, "--read-only: no store is written").into()),
        false => Ok(()),
    }
}
