//! Tells the boot loader that this slot is good.

use crate::mounts;
use crate::node_error::{Doing, NodeError, Result};
use rackctl_wire::image::layout::grubenv;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MOUNT: &str = "/boot";
const FILE: &str = "/boot/grub/grubenv";

/// The environment after a good boot of `slot`; `None` if it says so already.
fn good(mut values: BTreeMap<String, String>, slot: &str) -> Option<BTreeMap<String, String>> {
    let before = values.clone();
    values.insert("default_slot".into(), slot.into());
    // A trial of the other slot is an order for the next boot and stays.
    if values.get("try_slot").is_none_or(|trial| trial.is_empty() || trial == slot) {
        values.remove("try_slot");
        values.remove("try_left");
    }
    (values != before).then_some(values)
}

/// Called when a slot on trial has come up whole. `esp`: the partition's device.
pub fn mark_good(esp: &Path, slot: &str) -> Result<bool> {
    mounts::device(esp, "vfat", Path::new(MOUNT), false)?;
    let result = rewrite(Path::new(FILE), slot);
    nix::unistd::sync();
    let unmounted = mounts::unmount(Path::new(MOUNT));
    let changed = result?;
    unmounted.map(|()| changed)
}

/// In place: GRUB finds the block where it was, and 1024 bytes are two sectors at most.
fn rewrite(path: &Path, slot: &str) -> Result<bool> {
    let bytes = std::fs::read(path).doing(format_args!("reading {}", path.display()))?;
    let values = grubenv::parse(&bytes)
        .ok_or_else(|| NodeError::new("io", format!("{} is no environment block", path.display())))?;
    let Some(values) = good(values, slot) else { return Ok(false) };
    let bytes = grubenv::render(&values).ok_or_else(|| NodeError::new("space", "the environment block is full"))?;
    let file = std::fs::OpenOptions::new().write(true).open(path).doing("opening the environment block")?;
    file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).doing("writing the environment block")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_trial_becomes_the_slot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("grubenv");
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<BTreeMap<_, _>>()
        };
        let write = |pairs: &[(&str, &str)]| std::fs::write(&path, grubenv::render(&map(pairs)).unwrap()).unwrap();
        let read = || grubenv::parse(&std::fs::read(&path).unwrap()).unwrap();
        write(&[("default_slot", "a"), ("try_slot", "b"), ("try_left", "2"), ("kept", "x")]);
        assert!(rewrite(&path, "b").unwrap());
        assert_eq!(read(), map(&[("default_slot", "b"), ("kept", "x")]));
        assert!(!rewrite(&path, "b").unwrap());
        write(&[("default_slot", "b"), ("try_slot", "a"), ("try_left", "3")]);
        assert!(!rewrite(&path, "b").unwrap(), "an order for the next boot stays");
        std::fs::write(&path, "junk").unwrap();
        assert!(rewrite(&path, "a").is_err());
    }
}
