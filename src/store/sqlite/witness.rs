//! A small file beside the state file that says how far it has come. A state file that is missing, older or
//! another one is noticed by it, and never taken for "nothing is installed".
//!
//! It is written after each commit that matters, without an fsync. That is cheap (one write of 256 bytes into the
//! page cache), and it is enough: what is in the page cache survives the death of the process, and a commit is
//! durable before the witness hears of it, so after a power cut the witness may lag behind the file and never run
//! ahead of it. What a power cut can hide is a rollback to a moment within the last half minute before it; the
//! beginning of every run is therefore written through to the disk, before its first effect. Two slots are
//! written in turn, each with its checksum: a torn write leaves the other.

use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::journal::State;
use crate::{
    model::{Failure, failure::Cause},
    store::{Head, Lineage, StoreError},
};

const SLOT_BYTES: usize = 256;

/// What the witness has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub lineage: Lineage,
    pub head: Head,
}

pub(super) struct Witness {
    file: File,
}

pub(super) fn path_of(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".witness");
    PathBuf::from(name)
}

fn slot(seen: &Seen) -> [u8; SLOT_BYTES] {
    let hash = if seen.head.hash.is_empty() { "-" } else { &seen.head.hash };
    let text = format!("{} {} {} {hash}", seen.lineage.id, seen.lineage.serial, seen.head.seq);
    let line = format!("{} {text}", &hex::encode(Sha256::digest(&text))[..16]);
    let mut bytes = [b' '; SLOT_BYTES];
    // 16 + 36 + 20 + 20 + 64 and four spaces: it fits.
    bytes.iter_mut().zip(line.bytes()).for_each(|(to, from)| *to = from);
    bytes[SLOT_BYTES - 1] = b'\n';
    bytes
}

fn parse(bytes: &[u8]) -> Option<Seen> {
    let line = std::str::from_utf8(bytes).ok()?.trim_end();
    let (sum, text) = line.split_once(' ')?;
    if hex::encode(Sha256::digest(text)).get(..16) != Some(sum) {
        return None;
    }
    let mut words = text.splitn(4, ' ');
    let id: Uuid = words.next()?.parse().ok()?;
    let (serial, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let hash = words.next().filter(|hash| *hash != "-").unwrap_or_default().to_owned();
    Some(Seen { lineage: Lineage { id, serial }, head: Head { seq, hash } })
}

fn local(path: &Path, error: &std::io::Error) -> StoreError {
    Failure::new(Cause::Local, format!("witness {}", path.display()), error.to_string()).into()
}

/// What stands there; `None`: no witness. One that cannot be read is refused: it may have known better.
pub(super) fn read(path: &Path) -> Result<Option<Seen>, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(local(path, &error)),
    };
    let slots = bytes.chunks(SLOT_BYTES).take(2).filter_map(parse);
    match slots.max_by_key(|seen| seen.lineage.serial) {
        Some(seen) => Ok(Some(seen)),
        None => Err(Failure::new(
            Cause::Guard,
            format!("witness {}", path.display()),
            "it is damaged: whether the state beside it is the newest cannot be told",
        )
        .next(format!("rackctl audit verify, compare the head with your last summary, then rm {}", path.display()))
        .into()),
    }
}

impl Witness {
    pub(super) fn open(path: &Path) -> Result<Witness, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| local(path, &e))?;
        Ok(Witness { file })
    }

    /// Never fails a write that is durable already: a witness that lags notices less, nothing worse.
    pub(super) fn write(&self, seen: &Seen) {
        let place = (seen.lineage.serial % 2) * SLOT_BYTES as u64;
        let _ = self.file.write_all_at(&slot(seen), place);
    }

    pub(super) fn sync(&self) {
        let _ = self.file.sync_data();
    }

    /// A witness that knows this and nothing else, durable with its name.
    pub(super) fn replace(path: &Path, seen: &Seen) -> Result<(), StoreError> {
        // Several commands may be the first at once: each makes its own, and the last name given stands.
        let fresh = path.with_extension(format!("witness.{}.new", std::process::id()));
        let put = || {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all_at(&slot(seen), 0)?;
            file.write_all_at(&slot(seen), SLOT_BYTES as u64)?;
            file.sync_all()?;
            own_like(&fresh, path.parent().unwrap_or(Path::new(".")));
            std::fs::rename(&fresh, path)?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        put().map_err(|e| local(path, &e))
    }
}

/// What root makes in a person's folder belongs to that person: the next command may come without sudo.
pub(super) fn own_like(path: &Path, like: &Path) {
    use std::os::unix::fs::MetadataExt;
    if nix::unistd::geteuid().is_root()
        && let Ok(owner) = std::fs::metadata(like)
    {
        let _ = std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()));
    }
}

/// Whether the state can be the one that the witness saw, or a later one. `hash_at` gives the hash of a record.
pub(super) fn agrees(
    seen: &Seen,
    state: &State,
    hash_at: impl FnOnce(u64) -> Result<Option<String>, StoreError>,
) -> Result<(), String> {
    if state.lineage.id != seen.lineage.id {
        return Err(format!(
            "it is another state (lineage {}) than the one that was here (lineage {})",
            state.lineage.id, seen.lineage.id
        ));
    }
    if state.head.seq < seen.head.seq {
        return Err(format!(
            "it is an older copy, or lost its end: it ends at record {}, and {} were written: the first lost record is {}",
            state.head.seq,
            seen.head.seq,
            state.head.seq + 1
        ));
    }
    if state.lineage.serial < seen.lineage.serial {
        return Err(format!(
            "it is an older copy: its last write is number {}, and {} were made",
            state.lineage.serial, seen.lineage.serial
        ));
    }
    if seen.head.seq > 0 {
        match hash_at(seen.head.seq) {
            Ok(Some(hash)) if hash == seen.head.hash => {}
            Ok(_) => return Err(format!("record {} is not the one that was written there", seen.head.seq)),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(serial: u64, seq: u64) -> Seen {
        let lineage = Lineage { id: Uuid::from_u128(7), serial };
        Seen { lineage, head: Head { seq, hash: if seq == 0 { String::new() } else { format!("{seq:064x}") } } }
    }

    #[test]
    fn the_last_write_is_read_back_and_a_torn_one_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        assert_eq!(read(&path).unwrap(), None);
        Witness::replace(&path, &seen(0, 0)).unwrap();
        assert_eq!(read(&path).unwrap(), Some(seen(0, 0)));
        let witness = Witness::open(&path).unwrap();
        witness.write(&seen(u64::MAX - 1, u64::MAX - 1));
        witness.write(&seen(u64::MAX, u64::MAX));
        assert_eq!(read(&path).unwrap(), Some(seen(u64::MAX, u64::MAX)));
        let whole = std::fs::read(&path).unwrap();
        for at in SLOT_BYTES..SLOT_BYTES + 40 {
            let mut torn = whole.clone();
            torn[at] ^= 0x20;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(read(&path).unwrap(), Some(seen(u64::MAX - 1, u64::MAX - 1)), "byte {at}");
        }
        std::fs::write(&path, "nonsense").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn older_and_other_states_are_told_apart() {
        let state = |id: u128, serial: u64, seq: u64| State {
            lineage: Lineage { id: Uuid::from_u128(id), serial },
            head: seen(serial, seq).head,
            hands: 0,
            moved: String::new(),
        };
        let hash = |seq: u64| Ok(Some(format!("{seq:064x}")));
        let ask = |state: &State| agrees(&seen(20, 9), state, hash);
        assert_eq!(ask(&state(7, 20, 9)), Ok(()));
        assert_eq!(ask(&state(7, 31, 12)), Ok(()), "a witness may lag");
        assert!(ask(&state(8, 31, 12)).unwrap_err().contains("another state"));
        assert!(ask(&state(7, 12, 5)).unwrap_err().contains("the first lost record is 6"));
        assert!(ask(&state(7, 19, 9)).unwrap_err().contains("older copy"));
        let forked = agrees(&seen(20, 9), &state(7, 31, 12), |_| Ok(Some("ff".into())));
        assert!(forked.unwrap_err().contains("record 9"));
    }
}
