//! Mounts, each with what it is for.

use crate::node_error::{Doing, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::Path;

fn one(kind: &str, at: &Path, flags: MsFlags, options: Option<&str>) -> Result<()> {
    std::fs::create_dir_all(at).doing(format_args!("making {}", at.display()))?;
    match mount(Some(kind), at, Some(kind), flags, options) {
        // The kernel has mounted devtmpfs already (CONFIG_DEVTMPFS_MOUNT).
        Err(nix::errno::Errno::EBUSY) => Ok(()),
        result => result.doing(format_args!("mounting {kind} at {}", at.display())),
    }
}

fn plain() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

/// proc, sys, dev (with pts and shm) and, if wanted, a fresh /run, below `root`.
pub fn kernel_file_systems(root: &Path, run: bool) -> Result<()> {
    one("proc", &root.join("proc"), plain(), None)?;
    one("sysfs", &root.join("sys"), plain(), None)?;
    one("devtmpfs", &root.join("dev"), MsFlags::MS_NOSUID, Some("mode=0755"))?;
    one(
        "devpts",
        &root.join("dev/pts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("mode=0620,gid=5,ptmxmode=0666"),
    )?;
    if run {
        tmpfs(&root.join("run"), "mode=0755")?;
    }
    Ok(())
}

/// `options` as in tmpfs(5): `mode=0755,size=90%`.
pub fn tmpfs(at: &Path, options: &str) -> Result<()> {
    one("tmpfs", at, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
}

pub fn device(device: &Path, kind: &str, at: &Path, read_only: bool) -> Result<()> {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    // A look at an ext4 must not replay its journal: that would write.
    let mut options = None;
    if read_only {
        flags |= MsFlags::MS_RDONLY;
        options = (kind == "ext4").then_some("noload");
    }
    std::fs::create_dir_all(at).doing(format_args!("making {}", at.display()))?;
    mount(Some(device), at, Some(kind), flags, options).doing(format_args!(
        "mounting {} ({kind}) at {}",
        device.display(),
        at.display()
    ))
}

pub fn root(device: &Path, at: &Path) -> Result<()> {
    std::fs::create_dir_all(at).doing(format_args!("making {}", at.display()))?;
    mount(Some(device), at, Some("squashfs"), MsFlags::MS_RDONLY, None::<&str>).doing(format_args!(
        "mounting {} (squashfs) at {}",
        device.display(),
        at.display()
    ))
}

pub fn move_to(from: &Path, at: &Path) -> Result<()> {
    mount(Some(from), at, None::<&str>, MsFlags::MS_MOVE, None::<&str>).doing(format_args!(
        "moving {} to {}",
        from.display(),
        at.display()
    ))
}

pub fn unmount(at: &Path) -> Result<()> {
    umount2(at, MntFlags::empty()).doing(format_args!("unmounting {}", at.display()))
}

/// Away now, gone when nobody uses it any more.
pub fn detach(at: &Path) {
    let _ = umount2(at, MntFlags::MNT_DETACH);
}

/// On the way to a restart: what cannot be unmounted is made read-only.
pub fn release(at: &Path) {
    if umount2(at, MntFlags::empty()).is_err() {
        let _ = mount(None::<&str>, at, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>);
    }
}

/// Makes the mounted tree at `new` the root of this process (what `switch_root` does); the old
/// initramfs is emptied by [`crate::system::root`] before.
pub fn switch_to(new: &Path) -> Result<()> {
    std::env::set_current_dir(new).doing(format_args!("entering {}", new.display()))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).doing("moving the new root to /")?;
    nix::unistd::chroot(".").doing("changing the root")?;
    std::env::set_current_dir("/").doing("entering the new root")
}
