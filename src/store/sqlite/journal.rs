//! The journal and its head. An append costs a read of the head and of the last row, a check of the locks (none while
//! no lock changed hands), three rows written and one fsync.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params, types::Type};

use super::{
    damage, failed, locks,
    shelf::{self, Sum},
    to_json,
};
use crate::store::{
    Draft, Fence, Head, Lineage, Record, StoreError,
    chain::{self, Link},
};

pub(super) const TABLES: &str = "
    CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), lineage TEXT NOT NULL, serial INTEGER NOT NULL,
        seq INTEGER NOT NULL, hash TEXT NOT NULL, hands INTEGER NOT NULL, moved TEXT NOT NULL) STRICT;
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
    /// Where its content went; empty: nowhere.
    pub moved: String,
}

pub(super) fn state(connection: &Connection) -> Result<State, StoreError> {
    connection
        .prepare_cached("SELECT lineage, serial, seq, hash, hands, moved FROM state")
        .and_then(|mut s| {
            s.query_row([], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })
        })
        .map_err(failed("read its head"))
        .and_then(|(id, serial, seq, hash, hands, moved): (String, i64, i64, String, i64, String)| {
            let id = id.parse().map_err(|_| broken(1, "the name of its lineage cannot be read"))?;
            let lineage = Lineage { id, serial: serial as u64 };
            Ok(State { lineage, head: Head { seq: seq as u64, hash }, hands: hands as u64, moved })
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

/// Writes a record as it is, and adds it to the sum of its run.
fn insert(connection: &Connection, record: &Record) -> Result<(), StoreError> {
    put(connection, record)?;
    let word = run_word(&record.run);
    let mut total = shelf::kept_sum(connection, &word)?;
    shelf::fold(&mut total, &sum_of(record));
    shelf::keep_sum(connection, &word, &total)
}

/// A whole chain into an empty journal: each run's sum is written once.
pub(super) fn insert_all(connection: &Connection, records: &[Record]) -> Result<(), StoreError> {
    let mut totals: BTreeMap<&str, Sum> = BTreeMap::new();
    for record in records {
        put(connection, record)?;
        shelf::fold(totals.entry(&record.run).or_default(), &sum_of(record));
    }
    totals.iter().try_for_each(|(run, total)| shelf::keep_sum(connection, &run_word(run), total))
}

fn put(connection: &Connection, record: &Record) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO journal VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut s| {
            let body = serde_json::to_string(record).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
            s.execute(params![record.seq as i64, record.run, record.hash, body])
        })
        .map_err(failed("append to the journal"))?;
    Ok(())
}

fn run_word(run: &str) -> String {
    format!("journal/{run}")
}

/// The first half of the record's hash.
fn sum_of(record: &Record) -> Sum {
    let mut sum = Sum::default();
    let _ = hex::decode_to_slice(record.hash.get(..32).unwrap_or_default(), &mut sum);
    sum
}

pub(super) fn set_head(connection: &Connection, head: &Head) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE state SET seq = ?1, hash = ?2")
        .and_then(|mut s| s.execute(params![head.seq as i64, head.hash]))
        .map_err(failed("append to the journal"))?;
    Ok(())
}

/// The whole chain, verified up to its head.
pub(super) fn chain(connection: &Connection) -> Result<Vec<Record>, StoreError> {
    let head = state(connection)?.head;
    let mut records = Vec::new();
    walk(connection, Link::start(), &head, |record| records.push(record))?;
    Ok(records)
}

/// The records behind one, verified up to the head.
pub(super) fn after(connection: &Connection, mark: &Head) -> Result<Vec<Record>, StoreError> {
    let head = state(connection)?.head;
    let from = match mark.seq {
        0 => Link::start(),
        seq => Link { seq, previous: Some(mark.hash.clone()) },
    };
    let mut records = Vec::new();
    walk(connection, from, &head, |record| records.push(record))?;
    Ok(records)
}

/// The last records, oldest first; those of one subject, where one is named. For views: the chain is not verified.
pub(super) fn last(connection: &Connection, subject: Option<&str>, most: usize) -> Result<Vec<Record>, StoreError> {
    let read = failed("read the journal");
    let mut statement = connection
        .prepare_cached(
            "SELECT seq, run, hash, body FROM journal WHERE ?1 = '' OR instr(body, ?1) > 0 ORDER BY seq DESC",
        )
        .map_err(&read)?;
    // As it stands in a body; what else holds these letters is sorted out below.
    let within = subject.map(|s| to_json(&s)).transpose()?.map_or(String::new(), |name| format!("\"subject\":{name}"));
    let mut rows = statement.query([within]).map_err(&read)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(&read)? {
        let record = record_of(row).map_err(&read)?;
        if subject.is_none_or(|s| record.subject == s) {
            records.push(record);
        }
        if records.len() >= most {
            break;
        }
    }
    records.reverse();
    Ok(records)
}

/// The end of the chain holds. Reads so many records at most; where they do not hold, all, to name the first bad one.
pub(super) fn tail_holds(connection: &Connection, head: &Head, records: u64) -> Result<(), StoreError> {
    let after = head.seq.saturating_sub(records);
    let from = if after == 0 { Link::start() } else { Link { seq: after, previous: None } };
    walk(connection, from, head, drop).map_err(|error| match walk(connection, Link::start(), head, drop) {
        Err(first) => first,
        Ok(()) => error,
    })
}

fn walk(connection: &Connection, mut link: Link, head: &Head, mut each: impl FnMut(Record)) -> Result<(), StoreError> {
    let read = failed("read the journal");
    let mut statement = connection
        .prepare_cached("SELECT seq, run, hash, body FROM journal WHERE seq > ?1 ORDER BY seq")
        .map_err(&read)?;
    let mut rows = statement.query([link.seq as i64]).map_err(&read)?;
    loop {
        let next = link.seq + 1;
        let Some(row) = rows.next().map_err(|e| unreadable(next, e))? else { break };
        let record = record_of(row).map_err(|e| unreadable(next, e))?;
        link.take(&record)?;
        each(record);
    }
    if link.seq != head.seq || link.previous.as_ref().is_some_and(|hash| *hash != head.hash) {
        return Err(broken(link.seq.min(head.seq) + 1, "records are missing at the end, or too many are there"));
    }
    Ok(())
}

/// The columns must say what the body says: they are what is searched by.
fn record_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    let (seq, run, hash, body): (i64, String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    let strange = |why: String| rusqlite::Error::FromSqlConversionFailure(3, Type::Text, why.into());
    let record: Record = serde_json::from_str(&body).map_err(|e| strange(e.to_string()))?;
    if (record.seq as i64, &record.run, &record.hash) != (seq, &run, &hash) {
        return Err(strange("its number, run or hash are not those of its row".to_owned()));
    }
    Ok(record)
}

/// A row that makes no sense is a bad record; a disk that does not answer is not.
fn unreadable(seq: u64, error: rusqlite::Error) -> StoreError {
    if damage(&error) { broken(seq, &error.to_string()) } else { failed("read the journal")(error) }
}

/// The records of a run, each whole and none missing.
pub(super) fn of_run(connection: &Connection, run: &str) -> Result<Vec<Record>, StoreError> {
    let mut total = Sum::default();
    let mut records = Vec::new();
    let mut by_index = || -> rusqlite::Result<bool> {
        let mut statement =
            connection.prepare_cached("SELECT seq, run, hash, body FROM journal WHERE run = ?1 ORDER BY seq")?;
        let mut rows = statement.query([run])?;
        while let Some(row) = rows.next()? {
            let record = record_of(row)?;
            if chain::hash(&record) != record.hash {
                return Ok(false);
            }
            shelf::fold(&mut total, &sum_of(&record));
            records.push(record);
        }
        Ok(true)
    };
    match by_index() {
        Ok(true) if shelf::kept_sum(connection, &run_word(run)).is_ok_and(|kept| kept == total) => Ok(records),
        Err(error) if !damage(&error) => Err(failed("read the journal")(error)),
        // Something does not fit: the chain says what, or that only the way to it is damaged.
        _ => Ok(chain(connection)?.into_iter().filter(|r| r.run == run).collect()),
    }
}

pub(super) fn hash_at(connection: &Connection, seq: u64) -> Result<Option<String>, StoreError> {
    connection
        .prepare_cached("SELECT hash FROM journal WHERE seq = ?1")
        .and_then(|mut s| s.query_row([seq as i64], |row| row.get(0)).optional())
        .map_err(|e| unreadable(seq, e))
}
