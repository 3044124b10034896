//! What the supervisor separates itself from before it starts simulated machines: the host's network, and where sshd
//! needs it, the host's list of users.

use std::{fs, os::unix::fs::DirBuilderExt};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::User,
};

use crate::{
    lab::{
        layout::Layout,
        process_exec::{self, local},
    },
    model::Failure,
};

/// sshd's unprivileged half runs as this user, in this folder; both are fixed when it is compiled.
const USER: &str = "sshd";
const FOLDER: &str = "/run/sshd";
const USERS: &str = "/etc/passwd";

/// To be called before any thread is started: later ones are to be inside, too.
pub fn separate(layout: &Layout) -> Result<(), Failure> {
    let fault = |e: nix::errno::Errno| local("lab: enter a network namespace of the machines' own", e);
    unshare(CloneFlags::CLONE_NEWNET).map_err(fault)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(FOLDER)
        .map_err(|e| local(format!("make folder {FOLDER}"), e))?;
    match User::from_name(USER) {
        Ok(Some(_)) => Ok(()),
        _ => lend_user(layout),
    }
}

/// A host where sshd was never set up: this process and its children see one line more in the list of users.
fn lend_user(layout: &Layout) -> Result<(), Failure> {
    let what = || format!("lab: a user `{USER}` for sshd");
    let mut users = fs::read_to_string(USERS).map_err(|e| local(what(), e))?;
    users.push_str("sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n");
    let file = layout.dir.join("passwd");
    process_exec::write_atomically(&file, users.as_bytes(), 0o644)?;
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none))
        .and_then(|()| mount(Some(&file), USERS, none, MsFlags::MS_BIND, none))
        .map_err(|e| local(what(), e))
}
