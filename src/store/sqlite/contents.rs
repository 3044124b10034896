//! Fleets and plans, each once, by the digest of their text: what is read proves itself.

use rusqlite::{Connection, OptionalExtension, params};

use super::{failed, from_json};
use crate::{
    model::{Failure, failure::Cause},
    store::{RunRecord, StoreError, parts},
};

pub(super) const TABLES: &str = "
    CREATE TABLE content (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
";

/// One that is there and is what it should be is not written again.
pub(super) fn put(connection: &Connection, name: &str, text: &str) -> Result<(), StoreError> {
    if find(connection, name)?.is_some_and(|found| found == text) {
        return Ok(());
    }
    connection
        .prepare_cached("INSERT INTO content VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET body = excluded.body")
        .and_then(|mut s| s.execute(params![name, text]))
        .map_err(failed("keep a fleet or a plan"))?;
    Ok(())
}

fn find(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    connection
        .prepare_cached("SELECT body FROM content WHERE name = ?1")
        .and_then(|mut s| s.query_row([name], |row| row.get(0)).optional())
        .map_err(failed("read a fleet or a plan"))
}

pub(super) fn get(connection: &Connection, name: &str) -> Result<String, StoreError> {
    let refuse = |why: &str| -> StoreError {
        let why = format!("the fleet or plan {name} of a run {why}");
        Failure::new(Cause::Guard, "state file: read", why).next("rackctl state rebuild").into()
    };
    match find(connection, name)? {
        Some(text) if parts::name(&text) == name => Ok(text),
        Some(_) => Err(refuse("is not what was written")),
        None => Err(refuse("is missing")),
    }
}

pub(super) fn whole(connection: &Connection, kept: RunRecord) -> Result<RunRecord, StoreError> {
    parts::whole(kept, |name| from_json(&get(connection, name)?))
}
