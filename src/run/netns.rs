//! A run on a laboratory's network goes on inside the laboratory's namespace.

use std::{fs::File, path::Path};

use nix::sched::{CloneFlags, setns};

use crate::model::{Failure, failure::Cause};

/// Enters `/run/netns/NAME`. Must be called before any thread is started: only the calling thread moves.
pub fn enter(name: &str) -> Result<(), Failure> {
    let what = format!("enter the network namespace {name}");
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err(Failure::new(Cause::Guard, what, "a name is wanted, no path"));
    }
    let path = Path::new("/run/netns").join(name);
    let file = File::open(&path).map_err(|e| {
        let why = match e.kind() {
            std::io::ErrorKind::NotFound => "there is no such namespace: its laboratory is not running".to_owned(),
            _ => e.to_string(),
        };
        Failure::new(Cause::Local, what.clone(), why).next("rackctl lab list")
    })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        nix::errno::Errno::EPERM => Failure::new(Cause::Local, what.clone(), "it needs root (CAP_SYS_ADMIN)")
            .next("sudo rackctl …, or rackctl doctor"),
        other => Failure::new(Cause::Local, what.clone(), other.to_string()),
    })
}
