//! Everything that is kept by name: one table of kind, name and JSON, with a checksum per row and one per kind.
//!
//! SQLite notices a page that makes no sense, not a bit that changed inside a value or a row that went away with
//! its page. A node record that is gone would read as "nothing is installed": so every read is held against sums.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{failed, from_json, to_json};
use crate::{
    model::{Failure, failure::Cause},
    store::StoreError,
};

pub(super) const TABLES: &str = "
    CREATE TABLE shelf (kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, sum BLOB NOT NULL,
        PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;
    CREATE TABLE sums (kind TEXT PRIMARY KEY, sum BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Lock,
    /// Highest fence given, by lock name: outlives the lock.
    Fence,
    Node,
    Cluster,
    BmcSession,
    Observed,
    Control,
    Approval,
    // Derived of the others, so neither exported nor missed:
    RunHead,
    Standing,
}

impl Kind {
    /// What is no outline.
    pub(super) const ALL: [Kind; 9] = [
        Kind::Run,
        Kind::Lock,
        Kind::Fence,
        Kind::Node,
        Kind::Cluster,
        Kind::BmcSession,
        Kind::Observed,
        Kind::Control,
        Kind::Approval,
    ];

    fn word(self) -> &'static str {
        match self {
            Kind::Run => "run",
            Kind::Lock => "lock",
            Kind::Fence => "fence",
            Kind::Node => "node",
            Kind::Cluster => "cluster",
            Kind::BmcSession => "bmcSession",
            Kind::Observed => "observed",
            Kind::Control => "control",
            Kind::Approval => "approval",
            Kind::RunHead => "runHead",
            Kind::Standing => "standing",
        }
    }
}

pub(super) type Sum = [u8; 16];

fn sum(kind: Kind, name: &str, body: &str) -> Sum {
    let mut hasher = Sha256::new();
    for part in [kind.word(), name, body] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut sum = Sum::default();
    sum.copy_from_slice(&hasher.finalize()[..16]);
    sum
}

pub(super) fn fold(into: &mut Sum, one: &Sum) {
    into.iter_mut().zip(one).for_each(|(a, b)| *a ^= b);
}

fn damaged(kind: Kind, why: &str) -> StoreError {
    StoreError::Failed(
        Failure::new(Cause::Guard, "state file: read", format!("what it keeps of kind {} {why}", kind.word()))
            .next("rackctl state rebuild"),
    )
}

/// The sum kept under a word: a kind's, or a journal's.
pub(super) fn kept_sum(connection: &Connection, word: &str) -> Result<Sum, StoreError> {
    connection
        .prepare_cached("SELECT sum FROM sums WHERE kind = ?1")
        .and_then(|mut s| s.query_row([word], |row| row.get(0)).optional())
        .map_err(failed("read"))
        .map(Option::unwrap_or_default)
}

pub(super) fn keep_sum(connection: &Connection, word: &str, sum: &Sum) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO sums VALUES (?1, ?2) ON CONFLICT (kind) DO UPDATE SET sum = excluded.sum")
        .and_then(|mut s| s.execute(params![word, sum]))
        .map_err(failed("write"))?;
    Ok(())
}

/// `None` as a body removes.
pub(super) fn change(
    connection: &Connection,
    kind: Kind,
    changes: &[(String, Option<String>)],
) -> Result<(), StoreError> {
    let mut total = kept_sum(connection, kind.word())?;
    let write = failed("write");
    let mut old = connection.prepare_cached("SELECT sum FROM shelf WHERE kind = ?1 AND name = ?2").map_err(&write)?;
    let mut put = connection
        .prepare_cached(
            "INSERT INTO shelf VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body, sum = excluded.sum",
        )
        .map_err(&write)?;
    let mut remove = connection.prepare_cached("DELETE FROM shelf WHERE kind = ?1 AND name = ?2").map_err(&write)?;
    for (name, body) in changes {
        let before: Option<Sum> =
            old.query_row(params![kind.word(), name], |row| row.get(0)).optional().map_err(&write)?;
        if let Some(before) = before {
            fold(&mut total, &before);
        }
        match body {
            Some(body) => {
                let after = sum(kind, name, body);
                fold(&mut total, &after);
                put.execute(params![kind.word(), name, body, after]).map_err(&write)?;
            }
            None => drop(remove.execute(params![kind.word(), name]).map_err(&write)?),
        }
    }
    keep_sum(connection, kind.word(), &total)
}

pub(super) fn put<T: Serialize>(connection: &Connection, kind: Kind, name: &str, value: &T) -> Result<(), StoreError> {
    change(connection, kind, &[(name.to_owned(), Some(to_json(value)?))])
}

pub(super) fn remove(connection: &Connection, kind: Kind, name: &str) -> Result<(), StoreError> {
    change(connection, kind, &[(name.to_owned(), None)])
}

/// All of a kind, by name. Refused when one is changed, missing or one too many.
pub(super) fn all<T: DeserializeOwned>(connection: &Connection, kind: Kind) -> Result<Vec<(String, T)>, StoreError> {
    let mut found = Vec::new();
    each(connection, kind, |name, body| {
        // Damage is told before what cannot be understood.
        found.push((name.to_owned(), from_json(body)));
        Ok(())
    })?;
    found.into_iter().map(|(name, value)| Ok((name, value?))).collect()
}

/// As [`all`], as text. What was handed out before an error is not to be believed.
pub(super) fn each(
    connection: &Connection,
    kind: Kind,
    mut each: impl FnMut(&str, &str) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let read = failed("read");
    let mut statement =
        connection.prepare_cached("SELECT name, body, sum FROM shelf WHERE kind = ?1 ORDER BY name").map_err(&read)?;
    let mut rows = statement.query([kind.word()]).map_err(&read)?;
    let mut total = Sum::default();
    while let Some(row) = rows.next().map_err(&read)? {
        let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?)).map_err(&read);
        let (name, body) = (text(0)?, text(1)?);
        let said: Sum = row.get(2).map_err(&read)?;
        if sum(kind, name, body) != said {
            return Err(damaged(kind, &format!("under the name {name} is not what was written")));
        }
        fold(&mut total, &said);
        each(name, body)?;
    }
    if total != kept_sum(connection, kind.word())? {
        return Err(damaged(kind, "is not complete, or holds what was never written"));
    }
    Ok(())
}

/// The names of a kind, which are not held against its sum.
pub(super) fn names(connection: &Connection, kind: Kind) -> Result<Vec<String>, StoreError> {
    let read = failed("read");
    let mut statement =
        connection.prepare_cached("SELECT name FROM shelf WHERE kind = ?1 ORDER BY name").map_err(&read)?;
    let rows = statement.query_map([kind.word()], |row| row.get(0)).map_err(&read)?;
    rows.map(|row| row.map_err(&read)).collect()
}

/// Forgets a kind.
pub(super) fn clear(connection: &Connection, kind: Kind) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM shelf WHERE kind = ?1")
        .and_then(|mut s| s.execute([kind.word()]))
        .map_err(failed("write"))?;
    keep_sum(connection, kind.word(), &Sum::default())
}

/// One by name. Before it is said to be absent, the whole kind is held against its sum.
pub(super) fn get<T: DeserializeOwned>(
    connection: &Connection,
    kind: Kind,
    name: &str,
) -> Result<Option<T>, StoreError> {
    let row: Option<(String, Sum)> = connection
        .prepare_cached("SELECT body, sum FROM shelf WHERE kind = ?1 AND name = ?2")
        .and_then(|mut s| s.query_row(params![kind.word(), name], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(failed("read"))?;
    match row {
        Some((body, said)) if sum(kind, name, &body) == said => from_json(&body).map(Some),
        Some(_) => Err(damaged(kind, &format!("under the name {name} is not what was written"))),
        None => match all::<serde_json::Value>(connection, kind)?.iter().any(|(n, _)| n == name) {
            true => Err(damaged(kind, "has an index that does not fit it")),
            false => Ok(None),
        },
    }
}
