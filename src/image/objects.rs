//! Objects: immutable files named by the SHA-256 of their content, and the records of builds beside them.
//!
//! `<objects>/<hex>` is an object, `<objects>/builds/<key>.json` the record ([`Artifacts`]) of a build from the inputs with that key.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Artifacts;
use super::exec::sha256_hex;
use crate::model::Failure;
use crate::model::failure::Cause;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Object {
    /// Hex, lower case.
    pub sha256: String,
    pub path: PathBuf,
    pub size_bytes: u64,
}

fn local<'a>(what: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Failure + 'a {
    move |e| Failure::new(Cause::Local, what, format!("{}: {e}", path.display()))
}

/// Written whole or not at all: a reader never sees half of it.
pub(super) fn write_atomically(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let what = "write a file";
    fs::create_dir_all(dir).map_err(local(what, dir))?;
    let path = dir.join(name);
    let mut temp = tempfile::NamedTempFile::new_in(dir).map_err(local(what, dir))?;
    temp.write_all(bytes).map_err(local(what, &path))?;
    temp.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(local(what, &path))?;
    temp.as_file().sync_all().map_err(local(what, &path))?;
    temp.persist(&path).map_err(|e| local(what, &path)(e.error))?;
    Ok(path)
}

pub fn put(objects_dir: &Path, bytes: &[u8]) -> Result<Object, Failure> {
    let sha256 = sha256_hex(bytes);
    let path = objects_dir.join(&sha256);
    let object = Object { sha256, path, size_bytes: bytes.len() as u64 };
    if check(&object).is_err() {
        write_atomically(objects_dir, &object.sha256, bytes)?;
        check(&object)?;
    }
    Ok(object)
}

/// Reads the object again: size and digest.
pub fn check(object: &Object) -> Result<(), Failure> {
    let what = format!("verify object {}", object.sha256);
    let bytes = fs::read(&object.path).map_err(local(&what, &object.path))?;
    let (size, digest) = (bytes.len() as u64, sha256_hex(&bytes));
    if (size, &digest) != (object.size_bytes, &object.sha256) {
        let why = format!("{size} bytes with SHA-256 {digest}, not {} bytes", object.size_bytes);
        return Err(Failure::new(Cause::Mismatch, what, why).next(format!("rm {}", object.path.display())));
    }
    Ok(())
}

fn builds(objects_dir: &Path) -> PathBuf {
    objects_dir.join("builds")
}

pub fn record(objects_dir: &Path, artifacts: &Artifacts) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(artifacts)
        .map_err(|e| Failure::new(Cause::Malformed, "record a build", e.to_string()))?;
    write_atomically(&builds(objects_dir), &format!("{}.json", artifacts.key), &text).map(|_| ())
}

/// The build from inputs with this key, if all its objects are there with their sizes.
pub fn find(objects_dir: &Path, key: &str) -> Option<Artifacts> {
    let text = fs::read(builds(objects_dir).join(format!("{key}.json"))).ok()?;
    let mut artifacts: Artifacts = serde_json::from_slice(&text).ok()?;
    artifacts.move_to(objects_dir);
    let there = |object: &Object| fs::metadata(&object.path).is_ok_and(|m| m.len() == object.size_bytes);
    (artifacts.key == key && artifacts.objects().iter().all(|object| there(object))).then_some(artifacts)
}

/// All recorded builds, by key.
pub fn list(objects_dir: &Path) -> Result<Vec<Artifacts>, Failure> {
    let dir = builds(objects_dir);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(local("list builds", &dir)(e)),
    };
    let mut keys: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_string))
        .collect();
    keys.sort();
    Ok(keys.iter().filter_map(|key| find(objects_dir, key)).collect())
}

/// Every object of a build, read again.
pub fn verify(artifacts: &Artifacts) -> Result<(), Failure> {
    artifacts.objects().into_iter().try_for_each(check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_what_they_are_called_and_are_healed() {
        let dir = tempfile::tempdir().unwrap();
        let object = put(dir.path(), b"kernel").unwrap();
        assert_eq!(object.path.file_name().unwrap().to_str().unwrap(), object.sha256);
        check(&object).unwrap();
        fs::write(&object.path, b"kernle").unwrap();
        assert_eq!(check(&object).unwrap_err().cause, Cause::Mismatch);
        assert_eq!(put(dir.path(), b"kernel").unwrap(), object);
        check(&object).unwrap();
    }
}
