//! The default store: one SQLite file, WAL, `synchronous=FULL`; one writer, readers see a run while it goes on.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    BmcSession, ClusterRecord, Draft, Fence, Holder, Lock, Record, RunRecord, RunState, SCHEMA_VERSION, Store,
    StoreError, chain,
};
use crate::model::{Failure, facts::NodeRecord, failure::Cause};

/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub struct SqliteStore {
    connection: Mutex<Connection>,
}

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, started_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS journal (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS journal_run ON journal (run, seq);
    CREATE TABLE IF NOT EXISTS locks (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS fences (name TEXT PRIMARY KEY, fence INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS nodes (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS clusters (name TEXT PRIMARY KEY, generation INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS bmc_sessions (node TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS observed (node TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
";

fn failed(what: &str) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    move |error| StoreError::Failed(Failure::new(Cause::Local, format!("state file: {what}"), error.to_string()))
}

fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|e| StoreError::Failed(Failure::new(Cause::Local, "state file: write", e.to_string())))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| {
        StoreError::Failed(
            Failure::new(
                Cause::Malformed,
                "state file: read",
                format!("a record cannot be read ({e}): it was written by another version, or damaged"),
            )
            .next("rackctl version"),
        )
    })
}

impl SqliteStore {
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        let local = |why: String| {
            StoreError::Failed(Failure::new(Cause::Local, format!("open the state file {}", path.display()), why))
        };
        if let Some(folder) = path.parent() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| local(e.to_string()))?;
            refuse_network_file_system(folder)?;
        }
        let connection = Connection::open(path).map_err(|e| local(e.to_string()))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed("open"))?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed("open"))?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed("open"))?;
        connection.execute_batch(TABLES).map_err(failed("open"))?;
        connection
            .execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?1)", params![SCHEMA_VERSION.to_string()])
            .map_err(failed("open"))?;
        let schema: String = connection
            .query_row("SELECT value FROM meta WHERE key = 'schema'", [], |row| row.get(0))
            .map_err(failed("open"))?;
        if schema != SCHEMA_VERSION.to_string() {
            return Err(local(format!(
                "it has schema {schema}, this rackctl reads {SCHEMA_VERSION}: use the version that wrote it"
            )));
        }
        Ok(SqliteStore { connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no half transaction: dropping one rolls it back.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write<T>(
        &self,
        what: &str,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        let value = body(&transaction)?;
        transaction.commit().map_err(failed(what))?;
        Ok(value)
    }

    fn all<T: DeserializeOwned>(&self, query: &str, parameter: Option<&str>) -> Result<Vec<T>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare(query).map_err(failed("read"))?;
        let rows = statement
            .query_map(rusqlite::params_from_iter(parameter), |row| row.get::<_, String>(0))
            .map_err(failed("read"))?;
        rows.map(|row| from_json(&row.map_err(failed("read"))?)).collect()
    }

    fn pairs<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<(String, T)>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare(query).map_err(failed("read"))?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(failed("read"))?;
        rows.map(|row| {
            let (name, body) = row.map_err(failed("read"))?;
            Ok((name, from_json(&body)?))
        })
        .collect()
    }
}

/// WAL needs shared memory between processes, which network file systems do not give.
fn refuse_network_file_system(folder: &Path) -> Result<(), StoreError> {
    const NFS: i64 = 0x6969;
    const SMB2: i64 = 0xfe53_4d42;
    const CIFS: i64 = 0xff53_4d42;
    let kind = nix::sys::statfs::statfs(folder).map(|s| s.filesystem_type().0).unwrap_or(0);
    if [NFS, SMB2, CIFS].contains(&kind) {
        return Err(StoreError::Failed(
            Failure::new(
                Cause::Guard,
                format!("open the state file in {}", folder.display()),
                "it lies on a network file system, where SQLite's locks do not hold",
            )
            .next("rackctl --store sqlite:/var/lib/rackctl/state.db …"),
        ));
    }
    Ok(())
}

fn lock_of(transaction: &Transaction<'_>, name: &str) -> Result<Option<Lock>, StoreError> {
    let body: Option<String> = transaction
        .query_row("SELECT body FROM locks WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .map_err(failed("read locks"))?;
    body.as_deref().map(from_json).transpose()
}

impl Store for SqliteStore {
    fn create_run(&self, run: &RunRecord) -> Result<(), StoreError> {
        let body = to_json(run)?;
        self.write("create run", |t| {
            t.execute("INSERT INTO runs VALUES (?1, ?2, ?3)", params![run.id, run.started_ms as i64, body])
                .map_err(failed("create run"))?;
            Ok(())
        })
    }

    fn set_run_state(&self, run: &str, state: RunState, ended_ms: Option<u64>) -> Result<(), StoreError> {
        self.write("set run state", |t| {
            let body: String = t
                .query_row("SELECT body FROM runs WHERE id = ?1", [run], |row| row.get(0))
                .map_err(failed("set run state"))?;
            let mut record: RunRecord = from_json(&body)?;
            record.state = state;
            record.ended_ms = ended_ms;
            t.execute("UPDATE runs SET body = ?2 WHERE id = ?1", params![run, to_json(&record)?])
                .map_err(failed("set run state"))?;
            Ok(())
        })
    }

    fn runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        self.all("SELECT body FROM runs ORDER BY started_ms DESC, id DESC", None)
    }

    fn run(&self, id: &str) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.all("SELECT body FROM runs WHERE id = ?1", Some(id))?.pop())
    }

    fn append(&self, run: &str, now_ms: u64, fence: &Fence, draft: Draft) -> Result<Record, StoreError> {
        self.write("append to the journal", |t| {
            for (name, number) in &fence.locks {
                match lock_of(t, name)? {
                    Some(lock) if lock.fence == *number => {}
                    other => {
                        return Err(StoreError::Fenced {
                            name: name.clone(),
                            fence: *number,
                            holder: other.map_or("nobody holds it".to_owned(), |lock| {
                                format!("{} does, fence {}", lock.holder, lock.fence)
                            }),
                        });
                    }
                }
            }
            let last: Option<(i64, String)> = t
                .query_row("SELECT seq, body FROM journal ORDER BY seq DESC LIMIT 1", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()
                .map_err(failed("append to the journal"))?;
            let (seq, previous) = match last {
                Some((seq, body)) => (seq as u64 + 1, from_json::<Record>(&body)?.hash),
                None => (1, String::new()),
            };
            let mut record = Record {
                schema: SCHEMA_VERSION,
                run: run.to_owned(),
                seq,
                at_ms: now_ms,
                subject: draft.subject,
                step: draft.step,
                attempt: draft.attempt,
                kind: draft.kind,
                fence: fence.highest(),
                actor: fence.actor.clone(),
                body: draft.body,
                previous,
                hash: String::new(),
            };
            record.hash = chain::hash(&record);
            t.execute("INSERT INTO journal VALUES (?1, ?2, ?3)", params![seq as i64, run, to_json(&record)?])
                .map_err(failed("append to the journal"))?;
            Ok(record)
        })
    }

    fn journal(&self, run: &str) -> Result<Vec<Record>, StoreError> {
        self.all("SELECT body FROM journal WHERE run = ?1 ORDER BY seq", Some(run))
    }

    fn chain(&self) -> Result<Vec<Record>, StoreError> {
        self.all("SELECT body FROM journal ORDER BY seq", None)
    }

    fn lock(&self, names: &[String], run: &str, holder: &Holder, now_ms: u64) -> Result<Fence, StoreError> {
        self.write("lock", |t| {
            let mut locks = Vec::new();
            for name in names {
                if let Some(lock) = lock_of(t, name)?
                    && lock.holder != *holder
                    && lock.holder.alive()
                {
                    return Err(StoreError::Locked(Box::new(lock)));
                }
                // Fences outlive locks: a number is never given twice.
                t.execute(
                    "INSERT INTO fences VALUES (?1, 1) ON CONFLICT (name) DO UPDATE SET fence = fence + 1",
                    params![name],
                )
                .map_err(failed("lock"))?;
                let fence: i64 = t
                    .query_row("SELECT fence FROM fences WHERE name = ?1", [name], |row| row.get(0))
                    .map_err(failed("lock"))?;
                let lock = Lock {
                    name: name.clone(),
                    run: run.to_owned(),
                    holder: holder.clone(),
                    fence: fence as u64,
                    since_ms: now_ms,
                };
                t.execute("INSERT OR REPLACE INTO locks VALUES (?1, ?2)", params![name, to_json(&lock)?])
                    .map_err(failed("lock"))?;
                locks.push((name.clone(), fence as u64));
            }
            Ok(Fence { locks, actor: holder.to_string() })
        })
    }

    fn unlock(&self, fence: &Fence) -> Result<(), StoreError> {
        self.write("unlock", |t| {
            for (name, number) in &fence.locks {
                if lock_of(t, name)?.is_some_and(|lock| lock.fence == *number) {
                    t.execute("DELETE FROM locks WHERE name = ?1", [name]).map_err(failed("unlock"))?;
                }
            }
            Ok(())
        })
    }

    fn locks(&self) -> Result<Vec<Lock>, StoreError> {
        self.all("SELECT body FROM locks ORDER BY name", None)
    }

    fn node_records(&self) -> Result<Vec<(String, NodeRecord)>, StoreError> {
        self.pairs("SELECT name, body FROM nodes ORDER BY name")
    }

    fn put_node_record(&self, node: &str, record: &NodeRecord) -> Result<(), StoreError> {
        let body = to_json(record)?;
        self.write("record a node", |t| {
            t.execute("INSERT OR REPLACE INTO nodes VALUES (?1, ?2)", params![node, body])
                .map_err(failed("record a node"))?;
            Ok(())
        })
    }

    fn cluster_record(&self, cluster: &str) -> Result<Option<ClusterRecord>, StoreError> {
        Ok(self.all("SELECT body FROM clusters WHERE name = ?1", Some(cluster))?.pop())
    }

    fn put_cluster_record(&self, cluster: &str, expected: u64, record: &ClusterRecord) -> Result<(), StoreError> {
        let body = to_json(record)?;
        self.write("record a cluster", |t| {
            let now: i64 = t
                .query_row("SELECT generation FROM clusters WHERE name = ?1", [cluster], |row| row.get(0))
                .optional()
                .map_err(failed("record a cluster"))?
                .unwrap_or(0);
            if now as u64 != expected {
                return Err(StoreError::Conflict(format!(
                    "cluster {cluster} is at generation {now}, not {expected}: somebody else made it meanwhile"
                )));
            }
            t.execute(
                "INSERT OR REPLACE INTO clusters VALUES (?1, ?2, ?3)",
                params![cluster, record.generation as i64, body],
            )
            .map_err(failed("record a cluster"))?;
            Ok(())
        })
    }

    fn bmc_sessions(&self) -> Result<Vec<BmcSession>, StoreError> {
        self.all("SELECT body FROM bmc_sessions ORDER BY node", None)
    }

    fn put_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError> {
        let body = to_json(session)?;
        self.write("note a BMC session", |t| {
            t.execute("INSERT OR REPLACE INTO bmc_sessions VALUES (?1, ?2)", params![session.node, body])
                .map_err(failed("note a BMC session"))?;
            Ok(())
        })
    }

    fn drop_bmc_session(&self, node: &str) -> Result<(), StoreError> {
        self.write("drop a BMC session", |t| {
            t.execute("DELETE FROM bmc_sessions WHERE node = ?1", [node]).map_err(failed("drop a BMC session"))?;
            Ok(())
        })
    }

    fn put_observed(&self, node: &str, at_ms: u64, facts: &serde_json::Value) -> Result<(), StoreError> {
        let body = to_json(facts)?;
        self.write("keep an observation", |t| {
            t.execute("INSERT OR REPLACE INTO observed VALUES (?1, ?2, ?3)", params![node, at_ms as i64, body])
                .map_err(failed("keep an observation"))?;
            Ok(())
        })
    }

    fn observed(&self) -> Result<Vec<(String, u64, serde_json::Value)>, StoreError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare("SELECT node, at_ms, body FROM observed ORDER BY node").map_err(failed("read"))?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?)))
            .map_err(failed("read"))?;
        rows.map(|row| {
            let (node, at, body) = row.map_err(failed("read"))?;
            Ok((node, at as u64, from_json(&body)?))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordKind;

    fn store() -> (tempfile::TempDir, SqliteStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
        (folder, store)
    }

    fn draft(step: &str) -> Draft {
        Draft {
            subject: "n1".into(),
            step: step.into(),
            attempt: 1,
            kind: RecordKind::Intent,
            body: serde_json::json!({"a": 1}),
        }
    }

    #[test]
    fn the_chain_shows_an_edited_a_removed_and_a_swapped_record() {
        let (_folder, store) = store();
        let fence = store.lock(&["node/n1".into()], "r", &Holder::this(), 1).unwrap();
        for step in ["a", "b", "c"] {
            store.append("r", 5, &fence, draft(step)).unwrap();
        }
        let chain = store.chain().unwrap();
        assert_eq!(super::super::verify(&chain).unwrap(), chain[2].hash);
        let mut edited = chain.clone();
        edited[1].body = serde_json::json!({"a": 2});
        assert_eq!(super::super::verify(&edited).unwrap_err().seq, 2);
        let mut removed = chain.clone();
        removed.remove(1);
        assert_eq!(super::super::verify(&removed).unwrap_err().seq, 2);
        let mut swapped = chain;
        swapped.swap(0, 1);
        assert_eq!(super::super::verify(&swapped).unwrap_err().seq, 1);
    }

    #[test]
    fn a_live_holder_is_named_and_a_dead_one_is_fenced_off() {
        let (_folder, store) = store();
        let me = Holder::this();
        // Process 1 lives as long as the machine: stands for another operator.
        let other = Holder { pid: 1, started_ticks: 0, user: "bob".into(), ..me.clone() };
        let dead = Holder { boot_id: "earlier".into(), ..other.clone() };
        let old = store.lock(&["node/n1".into()], "r1", &dead, 1).unwrap();
        let new = store.lock(&["node/n1".into(), "node/n2".into()], "r2", &me, 2).unwrap();
        assert!(new.locks[0].1 > old.locks[0].1);
        assert!(matches!(store.append("r1", 3, &old, draft("a")), Err(StoreError::Fenced { .. })));
        assert!(store.append("r2", 3, &new, draft("a")).is_ok());
        store.unlock(&old).unwrap();
        assert_eq!(store.locks().unwrap().len(), 2, "a stale fence unlocks nothing");
        let alive_elsewhere = Holder { host: "elsewhere".into(), ..other };
        let error = store.lock(&["node/n3".into(), "node/n2".into()], "r3", &alive_elsewhere, 4).unwrap_err();
        assert!(matches!(error, StoreError::Locked(ref lock) if lock.name == "node/n2"), "{error}");
        assert!(!store.locks().unwrap().iter().any(|l| l.name == "node/n3"), "all or none");
    }

    #[test]
    fn a_cluster_is_made_once_per_generation() {
        let (_folder, store) = store();
        let record = |generation, token: &str| ClusterRecord {
            generation,
            run: "r".into(),
            bootstrap_member: "n1".into(),
            token: token.into(),
            cluster_id: None,
        };
        store.put_cluster_record("c", 0, &record(1, "a")).unwrap();
        assert!(matches!(store.put_cluster_record("c", 0, &record(1, "b")), Err(StoreError::Conflict(_))));
        assert_eq!(store.cluster_record("c").unwrap().unwrap().token, "a");
    }
}
