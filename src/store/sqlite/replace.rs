//! A new state in the place of one that was lost, and what can still be read of that one.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{
    SqliteStore, failed, open,
    witness::{self, Seen, Witness},
};
use crate::{
    model::{Failure, facts::NodeRecord, failure::Cause},
    store::{Store, StoreError},
};

/// A state that is being made beside the one whose place it will take.
pub struct Replacement {
    store: SqliteStore,
    fresh: PathBuf,
    path: PathBuf,
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn local(path: &Path) -> impl Fn(std::io::Error) -> StoreError + '_ {
    move |error| Failure::new(Cause::Local, format!("replace {}", path.display()), error.to_string()).into()
}

impl Replacement {
    /// An empty state beside `path`. Whatever stands at `path` stays as it is until [`Replacement::settle`].
    pub fn begin(path: &Path) -> Result<Replacement, StoreError> {
        open::folder_of(path)?;
        let fresh = with_end(path, ".rebuilt");
        // Left by a rebuild that did not end: nothing of it was ever in force.
        for old in [fresh.clone(), with_end(&fresh, "-wal"), with_end(&fresh, "-shm"), witness::path_of(&fresh)] {
            match std::fs::remove_file(&old) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(local(path)(error)),
                _ => {}
            }
        }
        Ok(Replacement { store: SqliteStore::open(&fresh)?, fresh, path: path.to_owned() })
    }

    pub fn store(&self) -> &SqliteStore {
        &self.store
    }

    /// Puts it into place; gives where the old one lies now, if there was one. The witness changes first: at every
    /// moment between, the state is refused, and a rebuild can be begun again.
    pub fn settle(self, now_ms: u64) -> Result<Option<PathBuf>, StoreError> {
        let Replacement { store, fresh, path } = self;
        let seen = Seen { lineage: store.lineage()?, head: store.head()? };
        // In one file, without a log beside it.
        store
            .inner()
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
            .map_err(failed("replace"))?;
        drop(store);
        let place = witness::path_of(&path);
        let failed = local(&path);
        if let Some(folder) = path.parent() {
            witness::own_like(&fresh, folder);
        }
        Witness::replace(&place, &seen)?;
        let aside = with_end(&path, &format!(".lost-{now_ms}"));
        let mut kept = None;
        for end in ["", "-wal", "-shm"] {
            match std::fs::rename(with_end(&path, end), with_end(&aside, end)) {
                Ok(()) => kept = Some(aside.clone()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        std::fs::rename(&fresh, &path).map_err(&failed)?;
        let _ = std::fs::remove_file(witness::path_of(&fresh));
        std::fs::File::open(path.parent().unwrap_or(Path::new("."))).and_then(|f| f.sync_all()).map_err(&failed)?;
        Ok(kept)
    }
}

impl SqliteStore {
    /// What a state that must not be believed says of nodes, as far as it can be read. Hints, to be held against the
    /// machines themselves: it may be old, and a value may be wrong. The file is not changed.
    pub fn salvage(path: &Path) -> Vec<(String, NodeRecord)> {
        let read = || -> Option<Vec<(String, NodeRecord)>> {
            // Opening a log beside a file writes to both: a copy is opened.
            let copy = tempfile::tempdir().ok()?;
            let at = copy.path().join("state.db");
            for end in ["", "-wal"] {
                let from = with_end(path, end);
                if from.exists() {
                    std::fs::copy(from, with_end(&at, end)).ok()?;
                }
            }
            let connection = Connection::open(&at).ok()?;
            let both = ["SELECT name, body FROM shelf WHERE kind = 'node'", "SELECT name, body FROM nodes"];
            let mut statement = both.iter().find_map(|query| connection.prepare(query).ok())?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).ok()?;
            // Up to the first row that cannot be read.
            Some(
                rows.map_while(Result::ok)
                    .filter_map(|(name, body)| Some((name, serde_json::from_str(&body).ok()?)))
                    .collect(),
            )
        };
        read().unwrap_or_default()
    }
}
