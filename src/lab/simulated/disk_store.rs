//! Keeps a simulated disk in a file: at once when it changes, whole or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::disk::Disk;
use crate::{
    lab::process_exec::local,
    model::{Failure, failure::Cause},
};

pub struct DiskStore {
    path: PathBuf,
    disk: Mutex<Disk>,
}

impl DiskStore {
    /// A file that is not there is a disk from the factory.
    pub fn open(path: &Path) -> Result<DiskStore, Failure> {
        let what = || format!("read {}", path.display());
        let disk = match fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| Failure::new(Cause::Malformed, what(), e.to_string()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Disk::default(),
            Err(error) => return Err(local(what(), error)),
        };
        Ok(DiskStore { path: path.to_owned(), disk: Mutex::new(disk) })
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self) -> Disk {
        self.lock().clone()
    }

    /// In the file when this returns; where that fails, nothing has changed. Not synced: a laboratory does not
    /// outlive its host.
    pub fn change(&self, change: impl FnOnce(&mut Disk)) -> Result<(), String> {
        let mut disk = self.lock();
        let mut next = disk.clone();
        change(&mut next);
        let text = serde_json::to_vec_pretty(&next).map_err(|e| e.to_string())?;
        let beside = self.path.with_extension("new");
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &self.path));
        written.map_err(|e| format!("write {}: {e}", self.path.display()))?;
        *disk = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_there_after_a_restart_and_a_failed_change_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.json");
        let store = DiskStore::open(&path).unwrap();
        store.change(|disk| disk.wipes = 3).unwrap();
        assert_eq!(DiskStore::open(&path).unwrap().get().wipes, 3);
        drop(dir);
        assert!(store.change(|disk| disk.wipes = 4).is_err());
        assert_eq!(store.get().wipes, 3);
    }
}
