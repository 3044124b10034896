//! Where this user's state and caches lie (XDG Base Directory 0.8), the same with and without sudo.

use std::path::{Path, PathBuf};

use crate::model::{Failure, failure::Cause};

/// Home of the person: under sudo that of the one who called it, so that both see the same state.
fn home() -> Result<PathBuf, Failure> {
    let behind_sudo = std::env::var("SUDO_USER")
        .ok()
        .and_then(|name| nix::unistd::User::from_name(&name).ok().flatten())
        .map(|u| u.dir);
    behind_sudo.or_else(|| std::env::var_os("HOME").map(PathBuf::from)).filter(|p| p.is_absolute()).ok_or_else(|| {
        Failure::new(Cause::Local, "find the state folder", "HOME names no absolute path")
            .next("rackctl --store sqlite:PATH …")
    })
}

fn base(variable: &str, below_home: &str) -> Result<PathBuf, Failure> {
    match std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_absolute()) {
        Some(path) => Ok(path),
        None => Ok(home()?.join(below_home)),
    }
}

pub fn state() -> Result<PathBuf, Failure> {
    Ok(base("XDG_STATE_HOME", ".local/state")?.join("rackctl"))
}

/// Packages and built artifacts: all of it can be made again.
pub fn cache() -> Result<PathBuf, Failure> {
    Ok(base("XDG_CACHE_HOME", ".cache")?.join("rackctl"))
}

/// The static program for installers and nodes: named by the environment, beside this one, or where a build leaves it.
pub fn node_program() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("RACKCTL_NODE_PROGRAM").map(PathBuf::from) {
        return Ok(path);
    }
    let here =
        std::env::current_exe().map_err(|e| Failure::new(Cause::Local, "find the node program", e.to_string()))?;
    let folder = here.parent().unwrap_or(Path::new("/"));
    let places = [
        folder.join("rackctl-node"),
        folder.join("../lib/rackctl/rackctl-node"),
        folder.join("../x86_64-unknown-linux-gnu/node/rackctl-node"),
        folder.join("../../x86_64-unknown-linux-gnu/node/rackctl-node"),
    ];
    // A build for this host leaves a dynamic one beside us: the image code refuses it, so static places come first.
    places.iter().skip(1).chain(places.iter().take(1)).find(|p| p.is_file()).cloned().ok_or_else(|| {
        Failure::new(
            Cause::Local,
            "find the node program",
            "rackctl-node is neither beside rackctl nor in ../lib/rackctl",
        )
        .next("RACKCTL_NODE_PROGRAM=/path/to/rackctl-node rackctl …")
    })
}
