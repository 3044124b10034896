//! A manifest's file in place of what it was: whole or not at all, and only if nobody changed it meanwhile.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    inventory::yaml::MAX_FILE_BYTES,
    model::{Failure, failure::Cause},
};

/// What a file was before it was written anew.
#[must_use]
#[derive(Debug)]
pub struct Rewritten {
    /// Links followed.
    path: PathBuf,
    before: String,
    now: String,
}

/// Gives the text of the file to `edit`, and puts what it returns in its place. Owner's and group's rights stay.
///
/// # Errors
/// The file cannot be read or written, somebody else changed it in between, or `edit` says why it cannot be done.
pub fn rewrite(path: &Path, edit: impl FnOnce(&str) -> Result<String, String>) -> Result<Rewritten, Failure> {
    let fail = |cause, why: String| Failure::new(cause, format!("write {}", path.display()), why);
    let local = |e: io::Error| fail(Cause::Local, e.to_string());
    let real = fs::canonicalize(path).map_err(local)?;
    let about = fs::metadata(&real).map_err(local)?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES as u64 {
        return Err(fail(Cause::Local, "it is no file of manifests".into()));
    }
    let before = fs::read_to_string(&real).map_err(local)?;
    let now = edit(&before).map_err(|why| fail(Cause::Refused, why))?;
    if now != before {
        replace(&real, &before, &now).map_err(local)?;
    }
    Ok(Rewritten { path: real, before, now })
}

impl Rewritten {
    /// The file as it was before, unless somebody else has changed it since.
    pub fn undo(self) -> io::Result<()> {
        if self.now == self.before { Ok(()) } else { replace(&self.path, &self.now, &self.before) }
    }
}

fn replace(path: &Path, before: &str, now: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // A name that begins with a dot is no manifest to whoever loads the folder meanwhile.
    let mut file = tempfile::Builder::new().prefix(".rackctl-").suffix(".new").tempfile_in(folder)?;
    file.write_all(now.as_bytes())?;
    file.as_file().set_permissions(fs::metadata(path)?.permissions())?;
    file.as_file().sync_all()?;
    if fs::read_to_string(path)? != before {
        return Err(io::Error::other("somebody else changed it meanwhile: nothing was written"));
    }
    file.persist(path).map_err(|e| e.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_keeps_its_rights_and_can_be_undone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.yaml");
        fs::write(&path, "a: 1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link.yaml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let done = rewrite(&link, |text| Ok(text.replace('1', "2"))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a: 2\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        done.undo().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a: 1\n");
        let failure = rewrite(&path, |_| Err("not so".into())).unwrap_err();
        assert_eq!((failure.cause, failure.why.as_str()), (Cause::Refused, "not so"));
        let raced = rewrite(&path, |text| {
            fs::write(&path, "theirs").unwrap();
            Ok(format!("{text}more"))
        });
        assert!(raced.unwrap_err().why.contains("somebody else"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
