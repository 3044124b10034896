//! Opening: which file may be believed, and how one is made.

use std::{path::Path, sync::Mutex, time::Duration};

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{Inner, SqliteStore, failed, journal, shelf};
use crate::{
    model::{Failure, failure::Cause},
    store::{SCHEMA_VERSION, StoreError},
};

/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

fn local(path: &Path, why: impl Into<String>) -> Failure {
    Failure::new(Cause::Local, format!("open the state file {}", path.display()), why)
}

impl SqliteStore {
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        if let Some(folder) = path.parent() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|e| local(path, e.to_string()))?;
            refuse_network_file_system(folder)?;
        }
        let mut connection = connect(path)?;
        match schema(&connection)? {
            None => make(&mut connection)?,
            Some(found) if found == SCHEMA_VERSION.to_string() => {}
            Some(found) => {
                let why = format!("it has schema {found}, this rackctl keeps {SCHEMA_VERSION}");
                let older = found.parse::<u32>().is_ok_and(|n| n < SCHEMA_VERSION);
                let next = if older { "rackctl store migrate" } else { "use the version that wrote it" };
                return Err(Failure { cause: Cause::Guard, ..local(path, why) }.next(next).into());
            }
        }
        Ok(SqliteStore { inner: Mutex::new(Inner { connection, sure: None }) })
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path).map_err(|e| local(path, e.to_string()))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed("open"))?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed("open"))?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed("open"))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// `None`: nothing was ever kept in this file.
fn schema(connection: &Connection) -> Result<Option<String>, StoreError> {
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed("open"))?;
    if tables == 0 {
        return Ok(None);
    }
    connection
        .query_row("SELECT value FROM meta WHERE key = 'schema'", [], |row| row.get(0))
        .optional()
        .map_err(failed("open"))
}

/// All tables in one transaction. Two processes may come here at once: the second finds them made.
fn make(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed("open"))?;
    if schema(&transaction)?.is_some() {
        return Ok(());
    }
    transaction
        .execute_batch("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;")
        .and_then(|()| transaction.execute_batch(journal::TABLES))
        .and_then(|()| transaction.execute_batch(shelf::TABLES))
        .and_then(|()| {
            transaction.execute("INSERT INTO meta VALUES ('schema', ?1)", params![SCHEMA_VERSION.to_string()])
        })
        .and_then(|_| {
            transaction.execute("INSERT INTO state VALUES (1, ?1, 0, 0, '', 0)", params![Uuid::new_v4().to_string()])
        })
        .map_err(failed("open"))?;
    transaction.commit().map_err(failed("open"))
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
