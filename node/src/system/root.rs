//! Finds the system's disk, mounts its root and data, and goes over to it.

use super::{BOOTED, Booted};
use crate::cmdline::SystemLine;
use crate::console::say;
use crate::init::SWITCHED;
use crate::node_error::{Doing, NodeError, Result};
use crate::volume::partition_node;
use crate::{children, disks, files, mounts, sshd};
use rackctl_wire::gpt::{HEAD_SECTORS, SECTOR_BYTES, Table};
use rackctl_wire::image::layout;
use std::convert::Infallible;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use uuid::Uuid;

const NEW: &str = "/newroot";
/// Disks on slow buses come up late.
const DISK_WAIT: Duration = Duration::from_secs(60);

/// Disk and partition number of the partition with this GUID: one disk, or a reason.
pub fn choose(tables: &[(String, Table)], esp: Uuid) -> Result<Option<(usize, usize)>> {
    let mut found = Vec::new();
    for (disk, (_, table)) in tables.iter().enumerate() {
        if let Some(number) = table.partitions.iter().position(|partition| partition.guid == esp) {
            found.push((disk, number + 1));
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => {
            let names: Vec<&str> = several.iter().map(|(disk, _)| tables[*disk].0.as_str()).collect();
            let message =
                format!("the disks {} all hold the partition {esp}: one is a copy, take it out", names.join(", "));
            Err(NodeError::new("diskNotFound", message))
        }
    }
}

fn tables() -> Vec<(String, Table)> {
    disks::here()
        .into_iter()
        .filter_map(|disk| {
            let mut head = vec![0; (HEAD_SECTORS * SECTOR_BYTES) as usize];
            let file = std::fs::File::open(Path::new("/dev").join(&disk.name)).ok()?;
            file.read_exact_at(&mut head, 0).ok()?;
            Some((disk.name, Table::decode_head(&head, disk.size_bytes).ok()?))
        })
        .collect()
}

fn find(line: &SystemLine) -> Result<(String, Table, usize)> {
    let began = Instant::now();
    loop {
        let mut tables = tables();
        if let Some((disk, esp)) = choose(&tables, line.esp)? {
            let (name, table) = tables.swap_remove(disk);
            return Ok((name, table, esp));
        }
        if began.elapsed() > DISK_WAIT {
            let names: Vec<String> = disks::here().into_iter().map(|disk| disk.name).collect();
            let message = format!("no disk holds the partition {} (disks: {})", line.esp, names.join(", "));
            return Err(NodeError::new("diskNotFound", message));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn node(disk: &str, table: &Table, name: &str) -> Result<PathBuf> {
    let index = table
        .partitions
        .iter()
        .position(|partition| partition.name == name)
        .ok_or_else(|| NodeError::new("diskNotFound", format!("{disk} has no partition named {name}")))?;
    Ok(partition_node(&Path::new("/dev").join(disk), index + 1))
}

pub fn mount_and_switch(line: &SystemLine) -> Result<Infallible> {
    let (disk, table, esp) = find(line)?;
    let new = Path::new(NEW);
    let root_node = node(&disk, &table, &format!("root-{}", line.slot))?;
    mounts::root(&root_node, new)?;
    say(format!("slot {} of disk {disk} ({})", line.slot, table.disk_guid));
    // Mounted anew and not moved: opening /dev/null for e2fsck needs the old /dev, its root a new one.
    mounts::kernel_file_systems(new, false)?;
    mounts::tmpfs(&new.join("tmp"), "mode=1777,size=25%")?;
    mounts::tmpfs(&new.join("var"), "mode=0755,size=25%")?;
    let data = node(&disk, &table, "data")?;
    check_data(new, &data);
    mounts::device(&data, "ext4", &new.join("data"), false)?;
    let booted = Booted {
        slot: line.slot.clone(),
        trial: line.trial,
        disk_guid: table.disk_guid,
        disk_serial: disks::identity(Path::new("/sys/block"), &disk).and_then(|disk| disk.serial),
        disk,
        esp,
    };
    std::fs::create_dir_all("/run/rackctl").doing("making /run/rackctl")?;
    files::write_atomic(Path::new(BOOTED), &serde_json::to_vec(&booted).doing("encoding JSON")?, 0o644)?;
    mounts::move_to(Path::new("/run"), &new.join("run"))?;
    for dir in ["/proc", "/sys", "/dev"] {
        mounts::detach(Path::new(dir));
    }
    empty_initramfs();
    mounts::switch_to(new)?;
    let error = Command::new(layout::NODE_PROGRAM).arg(SWITCHED).exec();
    Err(NodeError::io(format_args!("executing {}", layout::NODE_PROGRAM), error))
}

/// Mends what a power cut left; what is beyond automatic repair is said and mounted if it can be.
fn check_data(new: &Path, data: &Path) {
    let mut command = Command::new(layout::E2FSCK);
    command.arg("-p").arg(data).env_clear();
    sshd::in_root(&mut command, Some(new));
    match children::output(&mut command) {
        // 1: errors were mended (e2fsck(8), exit code).
        Ok((status, _)) if matches!(status.code(), Some(0 | 1)) => {}
        Ok((status, text)) => say(format!("e2fsck on {}: {status}: {text}", data.display())),
        Err(error) => say(format!("e2fsck cannot be run: {error}")),
    }
}

/// The initramfs lives in memory: what is not needed any more is given back. The program itself is
/// held open by the kernel until the exec.
fn empty_initramfs() {
    for path in ["/rackctl", "/lib", "/usr"] {
        let _ = std::fs::remove_dir_all(path);
    }
    let _ = std::fs::remove_file("/init");
}

#[cfg(test)]
mod tests {
    use super::*;
    use rackctl_wire::gpt::{Partition, TYPE_ESP};

    fn disk(name: &str, esp: u128) -> (String, Table) {
        let partition = |guid| Partition {
            kind: TYPE_ESP,
            guid: Uuid::from_u128(guid),
            first_lba: 2048,
            last_lba: 4095,
            name: "esp".into(),
        };
        (name.into(), Table { disk_guid: Uuid::from_u128(esp + 1), partitions: vec![partition(7), partition(esp)] })
    }

    #[test]
    fn the_disk_that_grub_came_from_and_no_other() {
        let tables = [disk("vda", 100), disk("vdb", 200)];
        assert_eq!(choose(&tables, Uuid::from_u128(200)), Ok(Some((1, 2))));
        assert_eq!(choose(&tables, Uuid::from_u128(300)), Ok(None));
        let message = choose(&[disk("vda", 100), disk("vdb", 100)], Uuid::from_u128(100)).unwrap_err().message;
        assert!(message.contains("vda, vdb"), "{message}");
    }
}
