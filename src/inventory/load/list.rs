//! Which files make up an inventory, and what the file system says of each.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, DirEntry, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{MAX_FILES, MAX_FOLDERS_DEEP, Source, fault};
use crate::inventory::{
    fault::{Fault, Report},
    parallel,
};

/// A file to read, or text that is here already.
pub(super) struct Listed {
    /// As the operator named it, or `stdin`.
    pub(super) name: PathBuf,
    /// What the caller read from standard input.
    pub(super) text: Option<String>,
    /// Of a regular file, taken before it is read.
    pub(super) stamp: Option<Stamp>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Nanoseconds since 1970 of the last change of its content, and of the last change of anything.
    pub(super) modified_ns: i128,
    pub(super) changed_ns: i128,
}

impl Stamp {
    pub(super) fn of(about: &Metadata) -> Stamp {
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Stamp {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified_ns: ns(about.mtime(), about.mtime_nsec()),
            changed_ns: ns(about.ctime(), about.ctime_nsec()),
        }
    }
}

/// Folders and files so far, by device and inode: what two sources name is read once, and a link to a folder above
/// is not followed without end.
type Seen = HashSet<(u64, u64)>;

struct Lister<'a> {
    here: &'a Path,
    seen: Seen,
    files: Vec<Listed>,
    faults: &'a mut Vec<Fault>,
}

/// In the order of the sources, each folder in the order of its paths.
pub(super) fn list(sources: &[Source], here: &Path, faults: &mut Vec<Fault>) -> Vec<Listed> {
    let mut lister = Lister { here, seen: Seen::new(), files: Vec::new(), faults };
    for source in sources {
        match source {
            Source::Stdin(text) => {
                lister.files.push(Listed { name: "stdin".into(), text: Some(text.clone()), stamp: None });
            }
            Source::Path(path) => match fs::metadata(here.join(path)) {
                Ok(about) if about.is_dir() => lister.folder(path, &about, 0),
                Ok(about) => lister.file(path, &about),
                Err(error) => lister.faults.push(unreadable(path, &error)),
            },
        }
    }
    let Lister { files, faults, .. } = lister;
    if files.is_empty() && faults.is_empty() {
        let folders = sources.iter().filter_map(|s| if let Source::Path(path) = s { Some(path) } else { None });
        faults
            .extend(folders.map(|path| fault(path.clone(), "no *.yaml, *.yml or *.json in this folder".into(), None)));
    }
    files
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    fault(path, format!("the file cannot be read: {error}"), help(error))
}

pub(super) fn help(error: &std::io::Error) -> Option<&'static str> {
    (error.kind() == std::io::ErrorKind::NotFound).then_some("check the path after -f (or RACKCTL_INVENTORY)")
}

/// What an entry of a folder is, or what its link leads to; `None`: hidden, or nothing that is there.
fn listed(entry: DirEntry) -> Option<(OsString, Metadata)> {
    let name = entry.file_name();
    if name.as_encoded_bytes().starts_with(b".") {
        return None;
    }
    // Asked of the open folder: no path is walked for each of thousands of files.
    let about = match entry.file_type() {
        Ok(kind) if !kind.is_symlink() => entry.metadata(),
        _ => fs::metadata(entry.path()),
    };
    Some((name, about.ok()?))
}

/// `rackctl.lock.yaml` holds what was observed, not what is wanted.
fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    let lock = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"rackctl.lock."));
    extension.is_some_and(|e| matches!(e, "yaml" | "yml" | "json")) && !lock
}

impl Lister<'_> {
    fn folder(&mut self, path: &Path, about: &Metadata, depth: usize) {
        if depth > MAX_FOLDERS_DEEP {
            let message = format!("more than {MAX_FOLDERS_DEEP} folders inside each other");
            return self.faults.push(fault(path, message, None));
        }
        if !self.seen.insert((about.dev(), about.ino())) {
            return;
        }
        let entries = fs::read_dir(self.here.join(path)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                return self.faults.push(fault(path, format!("the folder cannot be read: {error}"), None));
            }
        };
        // Of thousands of files, to ask after each takes most of the time.
        let ask = |entry, _: &mut Report| listed(entry);
        let asked = parallel::each(entries, &mut Report::default(), ask);
        let mut entries: Vec<(OsString, Metadata)> = asked.into_iter().flatten().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, about) in entries {
            let entry = path.join(&name);
            if about.is_dir() {
                self.folder(&entry, &about, depth + 1);
            } else if about.is_file() && is_manifest(&entry) {
                self.file(&entry, &about);
            }
        }
    }

    fn file(&mut self, path: &Path, about: &Metadata) {
        if !self.seen.insert((about.dev(), about.ino())) {
            return;
        }
        if self.files.len() > MAX_FILES {
            return;
        }
        if self.files.len() == MAX_FILES {
            self.faults.push(fault(path, format!("more than {MAX_FILES} files"), None));
        }
        // `/dev/stdin`, a pipe of a shell (`<(…)`) are files too, which can be read once.
        let stamp = about.is_file().then(|| Stamp::of(about));
        self.files.push(Listed { name: path.to_owned(), text: None, stamp });
    }
}
