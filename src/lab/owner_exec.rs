//! Who owns a laboratory, and what is left of one whose owner died.

use std::{
    fs,
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::{
    layout::{Layout, OWNERS},
    netns,
    process::Owner,
    process_exec::{self, local},
    spec,
};
use crate::model::{Failure, failure::Cause};

/// Held: nobody else makes, runs or cleans a laboratory of this name on this host. Ends with the process.
pub struct Ownership {
    name: String,
    file: Flock<fs::File>,
}

fn path(name: &str) -> PathBuf {
    Path::new(OWNERS).join(name)
}

/// Takes the name, or says who has it. The file stays when it is given back: removing it would race with the next one.
pub fn take(name: &str, dir: &Path) -> Result<Ownership, Failure> {
    let what = || format!("lab {name}: take the namespace {}", spec::netns(name));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(OWNERS).map_err(|e| local(what(), e))?;
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path(name))
        .map_err(|e| local(what(), e))?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            // Half a text only while the owner writes it: it is named all the same, without its number.
            let _ = file.read_to_string(&mut text);
            let who = serde_json::from_str::<Owner>(&text)
                .map(|owner| format!("process {} from {}", owner.process.pid, owner.dir.display()))
                .unwrap_or_else(|_| "another process".into());
            return Err(Failure::new(Cause::Busy, what(), format!("a living laboratory owns it: {who}"))
                .next(format!("rackctl lab delete {name}")));
        }
        Err((_, error)) => return Err(local(what(), error)),
    };
    let me = process_exec::identify(std::process::id() as i32).ok_or_else(|| local(what(), "/proc is not readable"))?;
    let text = serde_json::to_vec(&Owner { process: me, dir: dir.to_owned() }).map_err(|e| local(what(), e))?;
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text)).map_err(|e| local(what(), e))?;
    Ok(Ownership { name: name.to_owned(), file })
}

impl Ownership {
    /// Removes what a dead laboratory left outside and inside its directory, except its files of value: processes that
    /// are proven to be its own, the namespace with its taps, sockets and pid files.
    pub fn clean(&self, layout: &Layout) -> Result<(), Failure> {
        for folder in machine_folders(layout) {
            let files = layout.machine(&folder);
            if let Some(process) = process_exec::recorded(&files.pid()) {
                process_exec::end(&process)?;
            }
            for path in [files.pid(), files.qmp_socket(), files.serial_socket()] {
                process_exec::remove_if_there(&path)?;
            }
        }
        self.remove_namespace()?;
        for path in [layout.pid(), layout.control()] {
            process_exec::remove_if_there(&path)?;
        }
        Ok(())
    }

    pub fn remove_namespace(&self) -> Result<(), Failure> {
        let netns = spec::netns(&self.name);
        if Path::new("/run/netns").join(&netns).exists() {
            process_exec::run(&netns::remove(&netns))?;
        }
        Ok(())
    }

    /// Nobody is named any more, as soon as the lock is given back.
    pub fn forget(self) {
        if let Err(error) = self.file.set_len(0) {
            eprintln!("forget the owner of {}: {error}", self.name);
        }
    }
}

/// Every `nN` folder: read from the disk and not from lab.json, which may be gone.
fn machine_folders(layout: &Layout) -> Vec<String> {
    let Ok(entries) = fs::read_dir(&layout.dir) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| is_machine_folder(name)).collect()
}

fn is_machine_folder(name: &str) -> bool {
    name.strip_prefix('n').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_machine_folders_are_looked_into() {
        for (name, is) in [("n1", true), ("n50", true), ("n", false), ("inventory", false), ("nx", false), ("", false)]
        {
            assert_eq!(is_machine_folder(name), is, "{name}");
        }
    }

    #[test]
    fn a_dead_machine_is_ended_only_if_its_record_proves_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let mut children = Vec::new();
        for (node, skew) in [("n1", 0), ("n2", 1)] {
            fs::create_dir(dir.path().join(node)).unwrap();
            let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let mut process = process_exec::identify(child.id() as i32).unwrap();
            process.start_ticks += skew;
            fs::write(layout.machine(node).pid(), serde_json::to_vec(&process).unwrap()).unwrap();
            children.push(child);
        }
        // Without the lock's file: nothing outside the directory is touched, the namespace does not exist.
        let file = tempfile::tempfile().unwrap();
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).unwrap();
        Ownership { name: format!("none-{}", std::process::id()), file }.clean(&layout).unwrap();
        assert!(children[0].try_wait().unwrap().is_some(), "ours is ended");
        assert!(children[1].try_wait().unwrap().is_none(), "a stranger with the same number lives on");
        assert!(!layout.machine("n2").pid().exists());
        for mut child in children {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}
