//! From a file of the first schema to this one's, in one transaction: at every moment it is the one or the other.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use rusqlite::{Connection, params};
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{
    SqliteStore, failed, from_json, open, transfer,
    witness::{self, Seen, Witness},
};
use crate::{
    model::{Failure, facts::NodeRecord, failure::Cause},
    store::{ClusterRecord, Export, Head, Holder, Lineage, SCHEMA_VERSION, Sighting, StoreError, verify},
};

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The schema that the file had.
    pub from: u32,
    pub records: u64,
    /// A copy of the file as it was.
    pub kept: PathBuf,
}

/// Of the first schema a lock is read for its holder alone.
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
        match open::schema(&connection)?.as_deref() {
            Some("1") => {}
            Some(found) if *found == SCHEMA_VERSION.to_string() => return Ok(None),
            found => {
                let why = format!("its schema is {}", found.unwrap_or("not said"));
                return Err(refused(why, "use the version that wrote it"));
            }
        }
        let kept = path.with_extension("db.v1");
        if kept.exists() {
            return Err(refused(format!("{} is in the way", kept.display()), "move that file elsewhere"));
        }
        let copy = kept.to_str().ok_or_else(|| refused("its path is not UTF-8".to_owned(), "move the file"))?;
        connection.execute("VACUUM INTO ?1", [copy]).map_err(failed("keep a copy"))?;
        witness::own_like(&kept, path);
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(failed("migrate"))?;
        let locks: Vec<OldLock> = bodies(&transaction, "SELECT body FROM locks ORDER BY name")?;
        if let Some(held) = locks.iter().find(|l| l.holder.alive()) {
            let why = format!("{} is held by {} (run {})", held.name, held.holder, held.run);
            return Err(refused(why, "let that run end, or stop it with ^C"));
        }
        let export = read(&transaction)?;
        for table in ["runs", "journal", "locks", "fences", "nodes", "clusters", "bmc_sessions", "observed", "meta"] {
            transaction.execute_batch(&format!("DROP TABLE {table}")).map_err(failed("migrate"))?;
        }
        open::make_tables(&transaction)?;
        transfer::import(&transaction, &export)?;
        transaction.commit().map_err(failed("migrate"))?;
        Witness::replace(&witness::path_of(path), &Seen { lineage: export.lineage, head: export.head.clone() })?;
        Ok(Some(Migrated { from: 1, records: export.head.seq, kept }))
    }
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
        schema: SCHEMA_VERSION,
        lineage: Lineage { id: Uuid::new_v4(), serial: 1 },
        head: Head { seq: records.len() as u64, hash },
        runs: bodies(connection, "SELECT body FROM runs ORDER BY id")?,
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
