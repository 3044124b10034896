//! Puts a system bundle on a disk and proves that it stands there.
//!
//! The order is what makes a broken write harmless: old marks away, then the table with the ticket's
//! GUID (this disk was begun), then the contents, read back, then what boots it, then the marker
//! (this disk is complete).

use crate::hostkey::hex;
use crate::marker::{self, Installed};
use crate::node_error::{Doing, NodeError, Result};
use crate::volume::Volume;
use rackctl_wire::gpt::{self, BOOT_CODE_BYTES, HEAD_SECTORS, Partition, SECTOR_BYTES, TAIL_SECTORS, Table};
use rackctl_wire::image::{Fill, MANIFEST_NAME, Manifest, Part};
use rackctl_wire::{BODY_MAX_BYTES, PROTOCOL, Stage, WriteTicket};
use sha2::{Digest, Sha256};
use std::io::Read;

const CHUNK: usize = 1 << 20;
/// Zeroed at both ends of the disk and of every old and new partition: farther in, no known mark begins.
const WIPE_BYTES: u64 = 2 << 20;

/// Where the work stands; called often.
pub trait Watch {
    fn enter(&self, stage: Stage);
    fn bytes(&self, done: u64, total: u64);
}

/// The system's own SSH host key.
pub struct Identity<'a> {
    pub host_key: &'a str,
    pub host_key_public: &'a str,
}

/// The first entry of the bundle. `arch` is the machine's own, in Debian's words.
fn manifest(entry: &mut dyn Read, name: &str, arch: &str) -> Result<Manifest> {
    let bad = |why: String| NodeError::new("unsupported", format!("the system bundle: {why}"));
    if name != MANIFEST_NAME {
        return Err(bad(format!("its first entry is {name}, not {MANIFEST_NAME}")));
    }
    let mut bytes = Vec::new();
    entry.take(BODY_MAX_BYTES as u64).read_to_end(&mut bytes).doing("reading the manifest")?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if manifest.protocol != PROTOCOL {
        return Err(NodeError::new(
            "protocol",
            format!("the bundle speaks protocol {}, not {PROTOCOL}", manifest.protocol),
        ));
    }
    if !manifest.arch.is_empty() && !arch_names(arch).contains(&manifest.arch.as_str()) {
        return Err(bad(format!("it is for {}, this machine is {arch}", manifest.arch)));
    }
    Ok(manifest)
}

fn arch_names(arch: &str) -> &'static [&'static str] {
    match arch {
        "x86_64" => &["amd64", "x86_64"],
        "aarch64" => &["arm64", "aarch64"],
        _ => &[],
    }
}

/// A part with the place where it goes.
struct Planned<'a> {
    part: &'a Part,
    /// `None`: the boot code.
    partition: Option<&'a Partition>,
}

fn planned<'a>(manifest: &'a Manifest, table: &'a Table) -> Result<Vec<Planned<'a>>> {
    let mut parts: Vec<Planned> = manifest.boot_code.iter().map(|part| Planned { part, partition: None }).collect();
    for (spec, partition) in manifest.partitions.iter().zip(&table.partitions) {
        if let Fill::Part(part) = &spec.fill {
            parts.push(Planned { part, partition: Some(partition) });
        }
    }
    for Planned { part, partition } in &parts {
        let room = partition.map_or(BOOT_CODE_BYTES as u64, Partition::size_bytes);
        if part.size_bytes > room {
            let message = format!("{} has {} bytes, its place {room}", part.entry, part.size_bytes);
            return Err(NodeError::new("space", message));
        }
    }
    Ok(parts)
}

/// Carries out a ticket. `bundle` is the uncompressed archive, its digest already checked; `reopen`
/// is not needed: every part is written as it comes by.
pub fn write(
    volume: &dyn Volume,
    bundle: impl Read,
    ticket: &WriteTicket,
    identity: &Identity<'_>,
    arch: &str,
    watch: &dyn Watch,
) -> Result<()> {
    watch.enter(Stage::Writing);
    let mut archive = tar::Archive::new(bundle);
    let mut entries = archive.entries().doing("reading the system bundle")?;
    let mut next = || -> Result<Option<(String, tar::Entry<'_, _>)>> {
        match entries.next() {
            None => Ok(None),
            Some(entry) => {
                let entry = entry.doing("reading the system bundle")?;
                let name = entry.path().doing("reading the system bundle")?.display().to_string();
                Ok(Some((name.trim_start_matches("./").to_owned(), entry)))
            }
        }
    };
    let Some((name, mut entry)) = next()? else {
        return Err(NodeError::new("unsupported", "the system bundle is empty"));
    };
    let manifest = manifest(&mut entry, &name, arch)?;
    let table = gpt::layout(&manifest, volume.size(), ticket.disk_guid).map_err(|error| {
        NodeError::new(
            if matches!(error, gpt::GptError::NoRoom { .. }) { "space" } else { "unsupported" },
            error.to_string(),
        )
    })?;
    let parts = planned(&manifest, &table)?;
    let data = data_partition(&manifest, &table)?;
    // Nothing was written up to here.
    begin(volume, &table)?;
    let total: u64 = parts.iter().map(|planned| planned.part.size_bytes).sum();
    let mut done = 0;
    let mut boot_code = Vec::new();
    for Planned { part, partition } in &parts {
        let Some((name, mut entry)) = next()? else {
            return Err(NodeError::new("unsupported", format!("the system bundle ends before {}", part.entry)));
        };
        if name != part.entry || entry.size() != part.size_bytes {
            let message = format!(
                "the system bundle has {name} ({} bytes) in the place of {} ({} bytes)",
                entry.size(),
                part.entry,
                part.size_bytes
            );
            return Err(NodeError::new("unsupported", message));
        }
        match partition {
            Some(partition) => copy(volume, &mut entry, part, partition, &mut |more| {
                done += more;
                watch.bytes(done, total);
            })?,
            None => {
                entry.read_to_end(&mut boot_code).doing("reading the boot code")?;
                same(&part.entry, &hex(&Sha256::digest(&boot_code)), &part.sha256)?;
            }
        }
    }
    for (index, (spec, partition)) in manifest.partitions.iter().zip(&table.partitions).enumerate() {
        if let Fill::Ext4 { label } = &spec.fill {
            volume.make_ext4(index + 1, partition, label)?;
        }
    }
    volume.sync().doing("syncing the disk")?;
    watch.enter(Stage::ReadBack);
    read_back(volume, &parts, &table, watch, total)?;
    watch.enter(Stage::BootSetup);
    finish(volume, &table, data, &boot_code, ticket, identity)
}

fn data_partition<'a>(manifest: &Manifest, table: &'a Table) -> Result<(usize, &'a Partition)> {
    manifest
        .partitions
        .iter()
        .zip(&table.partitions)
        .enumerate()
        .find(|(_, (spec, _))| spec.name == "data" && matches!(spec.fill, Fill::Ext4 { .. }))
        .map(|(index, (_, partition))| (index + 1, partition))
        .ok_or_else(|| NodeError::new("unsupported", "the system bundle has no ext4 partition named data"))
}

/// Old marks away, new table on.
fn begin(volume: &dyn Volume, table: &Table) -> Result<()> {
    let old = old_table(volume);
    wipe_ends(volume, 0, volume.size())?;
    for partition in old.iter().flat_map(|old| &old.partitions).chain(&table.partitions) {
        wipe_ends(volume, partition.offset_bytes(), partition.size_bytes())?;
    }
    // The wipe must be on the medium before the table is: else a crash could leave old marks under a new table.
    volume.sync().doing("syncing the disk")?;
    write_table(volume, table, &[])?;
    volume.reread_table()
}

fn old_table(volume: &dyn Volume) -> Option<Table> {
    let mut head = vec![0; (HEAD_SECTORS * SECTOR_BYTES) as usize];
    volume.read_at(&mut head, 0).ok()?;
    Table::decode_head(&head, volume.size()).ok()
}

fn wipe_ends(volume: &dyn Volume, base: u64, size: u64) -> Result<()> {
    let zeros = vec![0u8; size.min(WIPE_BYTES) as usize];
    volume.write_at(&zeros, base).doing("wiping old marks")?;
    volume.write_at(&zeros, base + size - zeros.len() as u64).doing("wiping old marks")
}

fn write_table(volume: &dyn Volume, table: &Table, boot_code: &[u8]) -> Result<()> {
    let encoded = table.encode(volume.size(), boot_code).doing("making the partition table")?;
    // The backup first: a primary without a backup would be mended by tools with what they find.
    volume.write_at(&encoded.tail, encoded.tail_lba * SECTOR_BYTES).doing("writing the partition table")?;
    volume.write_at(&encoded.head, 0).doing("writing the partition table")?;
    volume.sync().doing("syncing the disk")
}

fn same(what: &str, seen: &str, expected: &str) -> Result<()> {
    if seen == expected.strip_prefix("sha256:").unwrap_or(expected) {
        return Ok(());
    }
    Err(NodeError::new("digestMismatch", format!("{what} has sha256:{seen}, expected was sha256:{expected}")))
}

fn copy(
    volume: &dyn Volume,
    entry: &mut dyn Read,
    part: &Part,
    partition: &Partition,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut buffer = vec![0u8; CHUNK];
    let mut hash = Sha256::new();
    let mut at = partition.offset_bytes();
    let mut left = part.size_bytes;
    while left > 0 {
        let chunk = &mut buffer[..left.min(CHUNK as u64) as usize];
        entry.read_exact(chunk).doing(format_args!("reading {}", part.entry))?;
        hash.update(&*chunk);
        volume.write_at(chunk, at).doing(format_args!("writing {}", partition.name))?;
        at += chunk.len() as u64;
        left -= chunk.len() as u64;
        progress(chunk.len() as u64);
    }
    same(&part.entry, &hex(&hash.finalize()), &part.sha256)
}

fn read_back(volume: &dyn Volume, parts: &[Planned<'_>], table: &Table, watch: &dyn Watch, total: u64) -> Result<()> {
    volume.drop_cache().doing("dropping what is cached of the disk")?;
    let mut buffer = vec![0u8; CHUNK];
    let mut done = 0;
    for Planned { part, partition } in parts {
        let Some(partition) = partition else { continue };
        let mut hash = Sha256::new();
        let mut read = 0;
        while read < part.size_bytes {
            let chunk = &mut buffer[..(part.size_bytes - read).min(CHUNK as u64) as usize];
            volume
                .read_at(chunk, partition.offset_bytes() + read)
                .doing(format_args!("reading back {}", partition.name))?;
            hash.update(&*chunk);
            read += chunk.len() as u64;
            done += chunk.len() as u64;
            watch.bytes(done, total);
        }
        same(&format!("{} read back from the disk", partition.name), &hex(&hash.finalize()), &part.sha256)?;
    }
    check_table(volume, table)
}

fn check_table(volume: &dyn Volume, table: &Table) -> Result<()> {
    let mut head = vec![0; (HEAD_SECTORS * SECTOR_BYTES) as usize];
    let mut tail = vec![0; (TAIL_SECTORS * SECTOR_BYTES) as usize];
    volume.read_at(&mut head, 0).doing("reading back the partition table")?;
    let tail_at = (volume.size() / SECTOR_BYTES - TAIL_SECTORS) * SECTOR_BYTES;
    volume.read_at(&mut tail, tail_at).doing("reading back the partition table")?;
    match Table::decode(&head, &tail, volume.size()) {
        Ok(seen) if seen == *table => Ok(()),
        Ok(_) => Err(NodeError::new("digestMismatch", "the partition table read back is not the one written")),
        Err(error) => Err(NodeError::new("digestMismatch", format!("the partition table read back: {error}"))),
    }
}

fn finish(
    volume: &dyn Volume,
    table: &Table,
    data: (usize, &Partition),
    boot_code: &[u8],
    ticket: &WriteTicket,
    identity: &Identity<'_>,
) -> Result<()> {
    volume.with_data(data.0, data.1, false, &mut |at| {
        marker::write_identity(at, &ticket.node, identity.host_key, identity.host_key_public)
    })?;
    write_table(volume, table, boot_code)?;
    volume.drop_cache().doing("dropping what is cached of the disk")?;
    check_table(volume, table)?;
    let mut seen = vec![0; boot_code.len()];
    volume.read_at(&mut seen, 0).doing("reading back the boot code")?;
    if seen != boot_code {
        return Err(NodeError::new("digestMismatch", "the boot code read back is not the one written"));
    }
    volume.with_data(data.0, data.1, false, &mut |at| marker::write_marker(at, &Installed::of(ticket)))?;
    volume.sync().doing("syncing the disk")
}

/// Whether this very ticket was carried out on this disk before. If so, the disk gets the host key of
/// this boot, which is the one that the claim told the server.
pub fn already_written(volume: &dyn Volume, ticket: &WriteTicket, identity: &Identity<'_>) -> Result<bool> {
    let Some(table) = old_table(volume).filter(|table| table.disk_guid == ticket.disk_guid) else {
        return Ok(false);
    };
    let Some(index) = table.partitions.iter().position(|partition| partition.name == "data") else {
        return Ok(false);
    };
    let partition = &table.partitions[index];
    let mut complete = false;
    let looked = volume.with_data(index + 1, partition, true, &mut |at| {
        complete = marker::is_complete(at, ticket);
        Ok(())
    });
    // A data partition that cannot be mounted is one that was not finished.
    if looked.is_err() || !complete {
        return Ok(false);
    }
    volume.with_data(index + 1, partition, false, &mut |at| {
        marker::write_identity(at, &ticket.node, identity.host_key, identity.host_key_public)
    })?;
    volume.sync().doing("syncing the disk")?;
    Ok(true)
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
