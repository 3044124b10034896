//! The second stage: fetched, checked, unpacked, and the SSH server started in it.

use super::Machine;
use crate::fetch;
use crate::mounts;
use crate::node_error::{Doing, NodeError, Result};
use crate::progress::Progress;
use crate::service::Service;
use crate::sshd;
use crate::unpack;
use std::path::{Path, PathBuf};

pub const ROOT: &str = "/stage2";
const ARCHIVE: &str = "/run/rackctl/stage2.tar.zst";

pub async fn bring_up(machine: &Machine, authorized_keys: &[String], progress: &Progress) -> Result<()> {
    let digest = &machine.line.stage2;
    let url = format!("{}/o/{}", machine.line.assets, digest.0);
    fetch::object(&url, digest, Path::new(ARCHIVE), |done, total| progress.bytes(done, total)).await?;
    tokio::task::spawn_blocking(unpack).await.map_err(|error| NodeError::io("unpacking", error))??;
    let key = machine.installer_key.private_file()?;
    sshd::prepare(Path::new(ROOT), &key, authorized_keys)?;
    Service::start("sshd", PathBuf::from("/run/rackctl/sshd.log"), || sshd::command(Some(Path::new(ROOT))))?;
    Ok(())
}

fn unpack() -> Result<()> {
    let root = Path::new(ROOT);
    mounts::tmpfs(root, "mode=0755,size=80%")?;
    unpack::into(Path::new(ARCHIVE), root)?;
    std::fs::remove_file(ARCHIVE).doing("removing the archive")?;
    mounts::kernel_file_systems(root, true)
}
