//! A record that no store took, kept in a file that needs none: what was done at a machine is not forgotten because a
//! disk was full.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::StoreError;

impl StoreError {
    /// For [`StoreError::Unwritten`]: writes its [`dump`](StoreError::dump) into the first of these folders that
    /// takes it, else where temporary files go, and names the file in the failure. All others stay as they are.
    pub fn rescued(mut self, folders: &[&Path]) -> StoreError {
        let Some(line) = self.dump() else { return self };
        let StoreError::Unwritten { failure, run, .. } = &mut self else { return self };
        let name = format!("unwritten-{run}.jsonl");
        let mine = folders.iter().find_map(|folder| keep(&folder.join(&name), &line).ok());
        match mine.or_else(|| aside(&name, &line).ok()) {
            Some(file) => failure.why += &format!("; what was to be recorded is in {}", file.display()),
            None => failure.why += "; no other disk takes what was to be recorded",
        }
        failure.next.get_or_insert_with(|| format!("rackctl resume {run}"));
        self
    }
}

/// Behind what is there: a run may lose several.
fn keep(path: &Path, line: &str) -> std::io::Result<PathBuf> {
    let open = |new: bool| {
        let mut options = OpenOptions::new();
        options.append(true).create_new(new).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        options.open(path)
    };
    let (mut file, new) = match open(true) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => (open(false)?, false),
        other => (other?, true),
    };
    if !file.metadata()?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    put(&mut file, line).inspect_err(|_| {
        if new {
            let _ = std::fs::remove_file(path);
        }
    })?;
    if let (true, Some(Ok(owner))) = (nix::unistd::geteuid().is_root(), path.parent().map(std::fs::metadata)) {
        // What root makes in a person's folder belongs to that person.
        let _ = std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()));
    }
    Ok(path.to_owned())
}

/// Others write there too: a file of a name that nobody could know before.
fn aside(name: &str, line: &str) -> std::io::Result<PathBuf> {
    let mut file = tempfile::Builder::new().prefix("rackctl-").suffix(&format!("-{name}")).tempfile()?;
    put(file.as_file_mut(), line)?;
    Ok(file.keep().map_err(|e| e.error)?.1)
}

/// Whole and on the disk: half a line is worth nothing.
fn put(file: &mut File, line: &str) -> std::io::Result<()> {
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Failure, failure::Cause},
        store::{Draft, RecordKind},
    };

    fn unwritten(step: &str) -> StoreError {
        let body = json!({ "was": "done" });
        let draft = Draft { subject: "n1".into(), step: step.into(), attempt: 1, kind: RecordKind::Done, body };
        let failure = Failure::new(Cause::Local, "state file: append to the journal", "the disk is full");
        StoreError::Unwritten { failure, run: "r-1".into(), draft: Box::new(draft) }
    }

    // fault: F58 harness: D
    #[test]
    fn what_was_not_recorded_is_kept_where_there_is_room_and_the_failure_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("nowhere");
        for step in ["n1/a", "n1/b"] {
            let failure = unwritten(step).rescued(&[&nowhere, folder.path()]).to_failure();
            let file = folder.path().join("unwritten-r-1.jsonl");
            assert!(failure.why.starts_with("the disk is full; "), "{failure}");
            assert!(failure.why.ends_with(&file.display().to_string()), "{failure}");
            assert_eq!(failure.next.as_deref(), Some("rackctl resume r-1"));
            let text = std::fs::read_to_string(&file).unwrap();
            let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!((&last["run"], &last["unwritten"]["step"]), (&json!("r-1"), &json!(step)));
        }
        assert_eq!(std::fs::read_to_string(folder.path().join("unwritten-r-1.jsonl")).unwrap().lines().count(), 2);
        // A link that somebody laid there is not followed.
        let (trap, victim) = (tempfile::tempdir().unwrap(), folder.path().join("victim"));
        std::fs::write(&victim, "").unwrap();
        std::os::unix::fs::symlink(&victim, trap.path().join("unwritten-r-1.jsonl")).unwrap();
        let failure = unwritten("n1/c").rescued(&[trap.path()]).to_failure();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "");
        let elsewhere = failure.why.rsplit(' ').next().unwrap().to_owned();
        assert!(std::fs::read_to_string(&elsewhere).unwrap().contains("n1/c"), "{failure}");
        std::fs::remove_file(elsewhere).unwrap();
        let other = StoreError::Conflict("x".into()).rescued(&[folder.path()]);
        assert_eq!(other.to_string(), "x");
    }
}
