//! The journal and its head. An append costs one read of the head, one check of the locks (none while no lock
//! changed hands), two rows written and one fsync.

use rusqlite::{Connection, OptionalExtension, params};

use super::{failed, from_json, locks};
use crate::store::{Draft, Fence, Head, Lineage, Record, StoreError, chain};

pub(super) const TABLES: &str = "
    CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), lineage TEXT NOT NULL, serial INTEGER NOT NULL,
        seq INTEGER NOT NULL, hash TEXT NOT NULL, hands INTEGER NOT NULL) STRICT;
    CREATE TABLE journal (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, hash TEXT NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE INDEX journal_run ON journal (run, seq);
";

/// The one row of `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub lineage: Lineage,
    pub head: Head,
    /// Rises whenever a lock is taken, stolen or released: while it stands, a fence that was checked holds.
    pub hands: u64,
}

pub(super) fn state(connection: &Connection) -> Result<State, StoreError> {
    connection
        .prepare_cached("SELECT lineage, serial, seq, hash, hands FROM state")
        .and_then(|mut s| {
            s.query_row([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        })
        .map_err(failed("read its head"))
        .and_then(|(id, serial, seq, hash, hands): (String, i64, i64, String, i64)| {
            let id = id.parse().map_err(|_| broken(1, "the name of its lineage cannot be read"))?;
            let lineage = Lineage { id, serial: serial as u64 };
            Ok(State { lineage, head: Head { seq: seq as u64, hash }, hands: hands as u64 })
        })
}

/// A chain that does not hold, as a refusal.
pub(super) fn broken(seq: u64, why: &str) -> StoreError {
    chain::Broken { seq, why: why.to_owned() }.into()
}

/// Checks the fence, then writes the record. `sure` is the fence that was found in force at that count of hands.
pub(super) fn append(
    connection: &Connection,
    sure: &mut Option<(Fence, u64)>,
    run: &str,
    now_ms: u64,
    fence: &Fence,
    draft: Draft,
) -> Result<Record, StoreError> {
    let state = state(connection)?;
    let known = sure.as_ref().is_some_and(|(known, hands)| *hands == state.hands && known == fence);
    if !known {
        locks::in_force(connection, fence)?;
        *sure = Some((fence.clone(), state.hands));
    }
    write(connection, &state.head, run, now_ms, fence, draft)
}

/// Writes a record after the head, which must be the last row.
pub(super) fn write(
    connection: &Connection,
    head: &Head,
    run: &str,
    now_ms: u64,
    fence: &Fence,
    draft: Draft,
) -> Result<Record, StoreError> {
    let last: Option<(i64, String)> = connection
        .prepare_cached("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1")
        .and_then(|mut s| s.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(failed("append to the journal"))?;
    let (seq, hash) = last.map_or((0, String::new()), |(seq, hash)| (seq as u64, hash));
    if (seq, &hash) != (head.seq, &head.hash) {
        return Err(broken(seq.min(head.seq) + 1, "the journal does not end where its head says"));
    }
    let record = chain::seal(chain::follow(seq, hash, run, now_ms, fence, draft));
    insert(connection, &record)?;
    set_head(connection, &Head { seq: record.seq, hash: record.hash.clone() })?;
    Ok(record)
}

pub(super) fn insert(connection: &Connection, record: &Record) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO journal VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut s| {
            let body = serde_json::to_string(record).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
            s.execute(params![record.seq as i64, record.run, record.hash, body])
        })
        .map_err(failed("append to the journal"))?;
    Ok(())
}

pub(super) fn set_head(connection: &Connection, head: &Head) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE state SET seq = ?1, hash = ?2")
        .and_then(|mut s| s.execute(params![head.seq as i64, head.hash]))
        .map_err(failed("append to the journal"))?;
    Ok(())
}

/// The whole chain.
pub(super) fn chain(connection: &Connection) -> Result<Vec<Record>, StoreError> {
    read(connection, "SELECT body FROM journal ORDER BY seq", None)
}

pub(super) fn of_run(connection: &Connection, run: &str) -> Result<Vec<Record>, StoreError> {
    read(connection, "SELECT body FROM journal WHERE run = ?1 ORDER BY seq", Some(run))
}

fn read(connection: &Connection, query: &str, run: Option<&str>) -> Result<Vec<Record>, StoreError> {
    let mut statement = connection.prepare_cached(query).map_err(failed("read"))?;
    let rows =
        statement.query_map(rusqlite::params_from_iter(run), |row| row.get::<_, String>(0)).map_err(failed("read"))?;
    rows.map(|row| from_json(&row.map_err(failed("read"))?)).collect()
}
