//! Opening: which file may be believed, and how one is made.

use std::{
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
    sync::Mutex,
    time::Duration,
};

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{
    Inner, SqliteStore, contents, failed, journal, shelf,
    witness::{self, Seen, Witness},
};
use crate::{
    model::{Failure, failure::Cause},
    store::StoreError,
};

/// How the file is laid out. Records have a version of their own, `SCHEMA_VERSION`.
/// 2: sums over everything, one table by name. 3: fleets and plans once each, and where the content was
/// moved to.
pub(super) const FILE_SCHEMA: u32 = 3;

/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn local(path: &Path, why: impl Into<String>) -> Failure {
    Failure::new(Cause::Local, format!("open the state file {}", path.display()), why)
}

/// Records at the end of the chain that are verified at every opening; all others when they are read.
const TAIL: u64 = 256;

/// A state that must not be believed. What it knew of machines is to be found out anew.
fn lost(path: &Path, why: &str) -> StoreError {
    let what = format!("open the state file {}", path.display());
    Failure::new(Cause::Guard, what, why).next("rackctl state rebuild").into()
}

impl SqliteStore {
    /// Opens the file, or makes it where nothing says that there was one. Refused with [`Cause::Guard`]: a file that
    /// is damaged, older than its witness, another one, or gone while its witness is there.
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        folder_of(path)?;
        let place = witness::path_of(path);
        // Read before the file: a process that writes meanwhile tells the witness last.
        let seen = witness::read(&place)?;
        let kept = seen.as_ref().filter(|seen| seen.lineage.serial > 0);
        if let (Some(seen), false) = (kept, path.exists()) {
            return Err(lost(path, &format!("it is gone; it held {} records", seen.head.seq)));
        }
        let mut connection = connect(path).map_err(|e| first_bad(path, e, kept))?;
        match schema(&connection).map_err(|e| first_bad(path, e, kept))? {
            None => match kept {
                Some(seen) => {
                    return Err(lost(
                        path,
                        &format!("it is empty; it held {} records: the first lost record is 1", seen.head.seq),
                    ));
                }
                None => make(&mut connection)?,
            },
            Some(found) if found == FILE_SCHEMA.to_string() => {}
            Some(found) => return Err(other_schema(path, &found)),
        }
        let state = journal::state(&connection).map_err(|e| first_bad(path, e, kept))?;
        journal::tail_holds(&connection, &state.head, TAIL)?;
        if let Some(seen) = kept {
            witness::agrees(seen, &state, |seq| journal::hash_at(&connection, seq)).map_err(|why| lost(path, &why))?;
        }
        if seen.is_none_or(|seen| seen.lineage.id != state.lineage.id) {
            Witness::replace(&place, &Seen { lineage: state.lineage, head: state.head })?;
        }
        let file = identity(path).map_err(|e| local(path, e.to_string()))?;
        let witness = Witness::open(&place)?;
        let inner = Inner { connection, path: path.to_owned(), file, witness, sure: None };
        Ok(SqliteStore { inner: Mutex::new(inner) })
    }
}

/// Device and inode.
pub(super) fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

pub(super) fn folder_of(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| local(path, e.to_string()))?;
    refuse_network_file_system(folder)
}

/// A file of which not even the head can be read: no record of it can.
fn first_bad(path: &Path, error: StoreError, kept: Option<&Seen>) -> StoreError {
    match error {
        StoreError::Failed(failure) if failure.cause == Cause::Guard => {
            let held = kept.map(|seen| format!("; it held {}", seen.head.seq)).unwrap_or_default();
            lost(path, &format!("{}: the first bad record is 1{held}", failure.why))
        }
        other => other,
    }
}

fn other_schema(path: &Path, found: &str) -> StoreError {
    let why = format!("it has schema {found}, this rackctl keeps {FILE_SCHEMA}");
    let next = match found.parse::<u32>() {
        Ok(older) if older < FILE_SCHEMA => "rackctl store migrate",
        Ok(_) => "use the version that wrote it",
        Err(_) => "rackctl state rebuild",
    };
    Failure { cause: Cause::Guard, ..local(path, why) }.next(next).into()
}

pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path).map_err(|e| local(path, e.to_string()))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed("open"))?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed("open"))?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed("open"))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// `None`: nothing was ever kept in this file.
pub(super) fn schema(connection: &Connection) -> Result<Option<String>, StoreError> {
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed("open"))?;
    if tables == 0 {
        return Ok(None);
    }
    connection
        .query_row("SELECT value FROM meta WHERE key = 'schema'", [], |row| row.get(0))
        .map(Some)
        .map_err(failed("open"))
}

/// All tables in one transaction. Two processes may come here at once: the second finds them made.
pub(super) fn make(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed("open"))?;
    if schema(&transaction)?.is_some() {
        return Ok(());
    }
    make_tables(&transaction)?;
    transaction.commit().map_err(failed("open"))
}

pub(super) fn make_tables(transaction: &Connection) -> Result<(), StoreError> {
    transaction
        .execute_batch("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;")
        .and_then(|()| transaction.execute_batch(journal::TABLES))
        .and_then(|()| transaction.execute_batch(shelf::TABLES))
        .and_then(|()| transaction.execute_batch(contents::TABLES))
        .and_then(|()| transaction.execute("INSERT INTO meta VALUES ('schema', ?1)", params![FILE_SCHEMA.to_string()]))
        .and_then(|_| {
            transaction
                .execute("INSERT INTO state VALUES (1, ?1, 0, 0, '', 0, '')", params![Uuid::new_v4().to_string()])
        })
        .map_err(failed("open"))?;
    Ok(())
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
