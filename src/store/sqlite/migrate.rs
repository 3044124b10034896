//! From a file of an older schema to this one's, in one transaction: at every moment it is the one or the other.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use rusqlite::{Connection, params};
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{
    SqliteStore, contents, failed, from_json, journal,
    open::{self, FILE_SCHEMA},
    shelf::{self, Kind},
    transfer,
    witness::{self, Seen, Witness},
};
use crate::{
    model::{Failure, facts::NodeRecord, failure::Cause},
    store::{
        ClusterRecord, EXPORT_VERSION, Export, Head, Holder, Lineage, RunRecord, Sighting, StoreError, parts, verify,
    },
};

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The schema that the file had.
    pub from: u32,
    /// The one that it has now.
    pub to: u32,
    pub records: u64,
    /// A copy of the file as it was.
    pub kept: PathBuf,
}

/// A lock is read for its holder alone.
#[derive(Deserialize)]
struct OldLock {
    name: String,
    run: String,
    holder: Holder,
}

impl SqliteStore {
    /// Brings a file of an older schema to this one. `None`: it has this one already. The records keep their bytes,
    /// so that the chain goes on; a copy of the old file stays beside it.
    pub fn migrate(path: &Path) -> Result<Option<Migrated>, StoreError> {
        let refused = |why: String, next: &str| -> StoreError {
            Failure::new(Cause::Guard, format!("migrate {}", path.display()), why).next(next).into()
        };
        if !path.exists() {
            return Err(refused("there is no such file".to_owned(), "rackctl --store sqlite:PATH store migrate"));
        }
        let mut connection = open::connect(path)?;
        let from = match open::schema(&connection)?.as_deref() {
            Some("1") => 1,
            Some("2") => 2,
            Some(found) if *found == FILE_SCHEMA.to_string() => return Ok(None),
            found => {
                let why = format!("its schema is {}", found.unwrap_or("not said"));
                return Err(refused(why, "use the version that wrote it"));
            }
        };
        let kept = path.with_extension(format!("db.v{from}"));
        if kept.exists() {
            return Err(refused(format!("{} is in the way", kept.display()), "move that file elsewhere"));
        }
        let copy = kept.to_str().ok_or_else(|| refused("its path is not UTF-8".to_owned(), "move the file"))?;
        connection.execute("VACUUM INTO ?1", [copy]).map_err(failed("keep a copy"))?;
        witness::own_like(&kept, path);
        let moved = change(&mut connection, from, &refused).inspect_err(|_| {
            // Nothing was changed: the copy would only be in the way of the next try.
            let _ = std::fs::remove_file(&kept);
        })?;
        if let Some(seen) = &moved.seen {
            Witness::replace(&witness::path_of(path), seen)?;
        }
        // What fleets took that were kept again and again; a file that stays large is as good.
        let _ = connection.execute_batch("VACUUM");
        Ok(Some(Migrated { from, to: FILE_SCHEMA, records: moved.records, kept }))
    }
}

struct Moved {
    records: u64,
    /// For a file that had no witness before.
    seen: Option<Seen>,
}

fn change(
    connection: &mut Connection,
    from: u32,
    refused: &dyn Fn(String, &str) -> StoreError,
) -> Result<Moved, StoreError> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed("migrate"))?;
    let locks: Vec<OldLock> = match from {
        1 => bodies(&transaction, "SELECT body FROM locks ORDER BY name")?,
        _ => shelf::all(&transaction, Kind::Lock)?.into_iter().map(|(_, lock)| lock).collect(),
    };
    if let Some(held) = locks.iter().find(|l| l.holder.alive()) {
        let why = format!("{} is held by {} (run {})", held.name, held.holder, held.run);
        return Err(refused(why, "let that run end, or stop it with ^C"));
    }
    let moved = match from {
        1 => from_first(&transaction)?,
        _ => from_second(&transaction)?,
    };
    transaction.commit().map_err(failed("migrate"))?;
    Ok(moved)
}

fn from_first(transaction: &Connection) -> Result<Moved, StoreError> {
    let export = read(transaction)?;
    for table in ["runs", "journal", "locks", "fences", "nodes", "clusters", "bmc_sessions", "observed", "meta"] {
        transaction.execute_batch(&format!("DROP TABLE {table}")).map_err(failed("migrate"))?;
    }
    open::make_tables(transaction)?;
    transfer::import(transaction, &export)?;
    Ok(Moved { records: export.head.seq, seen: Some(Seen { lineage: export.lineage, head: export.head }) })
}

/// Fleets and plans come out of their runs; nothing else changes.
fn from_second(transaction: &Connection) -> Result<Moved, StoreError> {
    transaction
        .execute_batch(contents::TABLES)
        .and_then(|()| transaction.execute_batch("ALTER TABLE state ADD COLUMN moved TEXT NOT NULL DEFAULT ''"))
        .map_err(failed("migrate"))?;
    let records = journal::chain(transaction)?.len() as u64;
    let none = BTreeMap::new();
    for name in shelf::names(transaction, Kind::Run)? {
        // One at a time: a hundred runs of a large fleet do not fit into memory at once.
        let Some(run) = shelf::get::<RunRecord>(transaction, Kind::Run, &name)? else { continue };
        let (kept, parts) = parts::apart(&run, &none)?;
        parts.iter().try_for_each(|(name, text)| contents::put(transaction, name, text))?;
        shelf::put(transaction, Kind::Run, &name, &kept)?;
    }
    // Held against their sum: none was missing.
    shelf::each(transaction, Kind::Run, |_, _| Ok(()))?;
    transaction
        .execute("UPDATE meta SET value = ?1 WHERE key = 'schema'", [FILE_SCHEMA.to_string()])
        .map_err(failed("migrate"))?;
    Ok(Moved { records, seen: None })
}

/// Everything of the first schema.
fn read(connection: &Connection) -> Result<Export, StoreError> {
    let records = bodies(connection, "SELECT body FROM journal ORDER BY seq")?;
    let hash = verify(&records)?;
    let observed: Vec<(String, i64, String)> =
        rows(connection, "SELECT node, at_ms, body FROM observed", |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let observed: Result<BTreeMap<_, _>, StoreError> = observed
        .into_iter()
        .map(|(node, at, body)| Ok((node, Sighting { at_ms: at as u64, facts: from_json(&body)? })))
        .collect();
    let fences =
        rows(connection, "SELECT name, fence FROM fences", |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(Export {
        schema: EXPORT_VERSION,
        lineage: Lineage { id: Uuid::new_v4(), serial: 1 },
        head: Head { seq: records.len() as u64, hash },
        runs: bodies(connection, "SELECT body FROM runs ORDER BY id")?,
        contents: BTreeMap::new(),
        records,
        fences: fences.into_iter().collect(),
        nodes: named::<NodeRecord>(connection, "SELECT name, body FROM nodes")?,
        clusters: named::<ClusterRecord>(connection, "SELECT name, body FROM clusters")?,
        bmc_sessions: bodies(connection, "SELECT body FROM bmc_sessions ORDER BY node")?,
        observed: observed?,
        controls: BTreeMap::new(),
        approvals: Vec::new(),
    })
}

fn rows<T>(
    connection: &Connection,
    query: &str,
    each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(query).map_err(failed("read the first schema"))?;
    let rows = statement.query_map(params![], each).map_err(failed("read the first schema"))?;
    rows.collect::<rusqlite::Result<Vec<T>>>().map_err(failed("read the first schema"))
}

fn bodies<T: DeserializeOwned>(connection: &Connection, query: &str) -> Result<Vec<T>, StoreError> {
    rows(connection, query, |row| row.get::<_, String>(0))?.iter().map(|body| from_json(body)).collect()
}

fn named<T: DeserializeOwned>(connection: &Connection, query: &str) -> Result<BTreeMap<String, T>, StoreError> {
    rows(connection, query, |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
        .into_iter()
        .map(|(name, body)| Ok((name, from_json(&body)?)))
        .collect()
}
