//! Calls apt.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    apt::{self, Sources},
    backports,
    needs::{self, Need},
    root,
    system::System,
};
use crate::{
    exec::{self, Argv},
    trouble::Trouble,
};

/// Packages that images are built from; an index without them is no index.
const PROBES: [&str; 2] = ["linux-image-cloud-amd64", "etcd-server"];
/// Mirrors drop old versions: an index older than this leads to packages that are gone.
const INDEX_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// When [`fresh_index`] last renewed it: apt gives its files the mirror's times, not ours.
const STAMP: &str = "target/xtask/apt-index";

/// Renews apt's index where it is empty or old.
pub fn fresh_index() -> Result<(), Trouble> {
    let policy = Argv::new(&["apt-cache", "policy", "--"]).args(PROBES).ask();
    let offered = policy.is_some_and(|(done, said)| done && apt::all_offered(&said, &PROBES));
    let young = |path: &Path| {
        let changed = fs::metadata(path).and_then(|m| m.modified());
        changed.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < INDEX_AGE_MAX)
    };
    let stamp = exec::root().join(STAMP);
    if offered && (young(Path::new("/var/lib/apt/lists")) || young(&stamp)) {
        return Ok(());
    }
    match apt::update(root::prefix(), &Sources::default()).run() {
        Ok(()) => {}
        Err(trouble) if offered => eprintln!("warning: {trouble}\nwarning: going on with the index that is there"),
        Err(trouble) => return Err(trouble.next("apt-get update")),
    }
    let written = stamp.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&stamp, ""));
    written.map_err(|e| Trouble::new(STAMP, e.to_string()))
}

/// Installs the packages of these needs; those of the QEMU family from backports where nothing else fits.
pub fn install(system: &System, missing: &[Need]) -> Result<(), Trouble> {
    let (plain, family) = needs::packages(missing);
    let here = Sources::default();
    if !plain.is_empty() {
        apt::install(root::prefix(), &here, &plain).run()?;
    }
    if family.is_empty() {
        return Ok(());
    }
    match apt::rehearse(&here, &family).ask() {
        Some((true, _)) => apt::install(root::prefix(), &here, &family).run(),
        Some((false, said)) if system.is_debian_12 => {
            eprintln!("apt cannot install {} from this host's sources without removing something:", family.join(" "));
            said.lines()
                .filter(|l| l.starts_with("E:") || l.contains("Breaks"))
                .for_each(|l| eprintln!("  {}", l.trim()));
            eprintln!("they are taken from {}-backports, by a private configuration of apt", system.codename);
            let private = Private::make(&system.codename)?;
            apt::update(root::prefix(), &private.sources(None)).run()?;
            apt::install(root::prefix(), &private.sources(Some(&system.codename)), &family).run()
        }
        // Once more, so that its own words are seen.
        _ => apt::install(root::prefix(), &here, &family).run(),
    }
}

/// A configuration of apt that lives as long as this value; the host's sources and index stay as they are.
struct Private {
    folder: PathBuf,
}

impl Private {
    fn make(codename: &str) -> Result<Private, Trouble> {
        let folder = std::env::temp_dir().join(format!("rackctl-xtask-apt-{}", std::process::id()));
        let trouble =
            |e: std::io::Error| Trouble::new(format!("private configuration {}", folder.display()), e.to_string());
        let files = host_sources();
        let backports = backports::source(&files, codename).ok_or_else(|| {
            Trouble::new(
                "backports",
                format!(
                    "no source in /etc/apt has the suite {codename}, from which the archive's address could be taken"
                ),
            )
            .next(format!("add {codename}-backports to /etc/apt/sources.list.d, then run the same command again"))
        })?;
        // A folder that is already there is not ours: create_dir refuses it.
        fs::create_dir(&folder).map_err(trouble)?;
        let private = Private { folder: folder.clone() };
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).map_err(trouble)?;
        for part in ["parts", "lists", "lists/partial"] {
            fs::create_dir(folder.join(part)).map_err(trouble)?;
        }
        for (name, text) in files.iter().chain([&("zz-xtask-backports.sources".to_owned(), backports)]) {
            fs::write(folder.join("parts").join(name), text).map_err(trouble)?;
        }
        Ok(private)
    }

    fn sources(&self, codename: Option<&str>) -> Sources {
        let part = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        Sources { private: Some((part("parts"), part("lists"))), release: codename.map(|c| format!("{c}-backports")) }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // The index in it was written by root.
        let removed = Argv::new(root::prefix()).args(["rm", "-rf", "--"]).args([self.folder.to_string_lossy()]).ask();
        if removed.is_none_or(|(done, _)| !done) {
            eprintln!("warning: {} could not be removed", self.folder.display());
        }
    }
}

/// Name and text of the host's sources.
fn host_sources() -> Vec<(String, String)> {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<(String, String)> = [PathBuf::from("/etc/apt/sources.list")]
        .into_iter()
        .chain(parts)
        .filter(|path| path.extension().is_some_and(|e| e == "list" || e == "sources"))
        .filter_map(|path| Some((path.file_name()?.to_string_lossy().into_owned(), fs::read_to_string(&path).ok()?)))
        .collect();
    files.sort();
    files
}
