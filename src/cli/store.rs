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
    session::{Session, named, stop, store_path},
};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Stop, stdout},
    run::clock,
    store::{Draft, Export, Fence, Holder, RecordKind, SqliteStore},
};

/// Largest export that is read.
const EXPORT_MAX_BYTES: u64 = 4 << 30;

pub fn store(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    match &args.verb {
        StoreVerb::Export { out } => export(globals, out),
        StoreVerb::Import { file } => import(globals, file),
        StoreVerb::Migrate => migrate(globals),
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
    stdout::note(&format!(
        "{} runs, {} records, {} nodes; head {} (record {}), lineage {} at {}",
        export.runs.len(),
        export.records.len(),
        export.nodes.len(),
        if export.head.hash.is_empty() { "-" } else { &export.head.hash },
        export.head.seq,
        export.lineage.id,
        export.lineage.serial
    ));
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
        }),
    };
    let record = session
        .store
        .append("store", clock::unix_ms(), &Fence::of_nothing(&Holder::this()), draft)
        .map_err(|e| stop(&e))?;
    stdout::note(&format!(
        "{} runs, {} records, {} nodes are in it; head {} (record {}). The store that they came from must not be \
         gone on with: two states of one fleet know nothing of each other",
        export.runs.len(),
        export.records.len(),
        export.nodes.len(),
        record.hash,
        record.seq
    ));
    Ok(Exit::Done)
}

fn migrate(globals: &Globals) -> Result<Exit, Stop> {
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
