//! What stands on a whole disk: partition tables, everything in the partitions, or bytes that nobody knows.

use crate::signatures::{Source, probe};
use rackctl_wire::gpt::{HEAD_SECTORS, SECTOR_BYTES, TAIL_SECTORS, Table};
use rackctl_wire::{Content, Signature};
use std::io;

const MIB: u64 = 1 << 20;
/// Looked through at both ends where nothing was recognised.
const END_BYTES: u64 = 4 * MIB;
/// Ranges between the ends, evenly spread.
const SPREAD: u64 = 64;
const SPREAD_BYTES: usize = 64 << 10;
/// Logical partitions in an MBR's chain that are followed.
const CHAIN_MAX: usize = 64;
const SECTOR: usize = SECTOR_BYTES as usize;

/// Reads only. Signatures come in the order of their places.
pub fn content(source: &dyn Source) -> io::Result<Content> {
    let size = source.size();
    let mut content = Content::default();
    let head = source.read(0, HEAD_SECTORS as usize * SECTOR)?;
    let mut areas = Vec::new();
    match gpt(source, &head, &mut content)? {
        Some(table) => areas.extend(table.partitions.iter().map(|part| (part.offset_bytes(), part.size_bytes()))),
        None => areas.extend(mbr(source, &head, &mut content)?),
    }
    content.signatures.extend(probe(source, 0, size)?);
    for (base, length) in areas {
        for signature in probe(source, base, length)? {
            if !content.signatures.contains(&signature) {
                content.signatures.push(signature);
            }
        }
    }
    content.signatures.sort_by(|a, b| (a.offset_bytes, &a.kind).cmp(&(b.offset_bytes, &b.kind)));
    if content.signatures.is_empty() {
        content.first_nonzero_byte = first_nonzero(source)?;
    }
    Ok(content)
}

fn bare(kind: &str, offset_bytes: u64) -> Signature {
    Signature { kind: kind.into(), offset_bytes, label: None, uuid: None }
}

/// Notes every GPT header, damaged ones too; gives the table back if one copy can be read.
fn gpt(source: &dyn Source, head: &[u8], content: &mut Content) -> io::Result<Option<Table>> {
    let size = source.size();
    let mut mark = |offset: u64, bytes: &[u8]| {
        if bytes.starts_with(b"EFI PART") {
            content.signatures.push(bare("gpt", offset));
        }
    };
    // Sector sizes of 512 and 4096 bytes.
    mark(512, head.get(512..).unwrap_or_default());
    mark(4096, head.get(4096..).unwrap_or_default());
    let last = (size / SECTOR_BYTES).saturating_sub(1) * SECTOR_BYTES;
    if last > 512 {
        mark(last, &source.read(last, SECTOR)?);
    }
    let table = match Table::decode_head(head, size) {
        Ok(table) => Some(table),
        Err(_) if size > (HEAD_SECTORS + TAIL_SECTORS) * SECTOR_BYTES => {
            let at = (size / SECTOR_BYTES - TAIL_SECTORS) * SECTOR_BYTES;
            Table::decode_tail(&source.read(at, TAIL_SECTORS as usize * SECTOR)?, size).ok()
        }
        Err(_) => None,
    };
    content.disk_guid = table.as_ref().map(|table| table.disk_guid);
    Ok(table)
}

struct MbrEntry {
    kind: u8,
    first: u64,
    sectors: u64,
}

fn mbr_entries(sector: &[u8]) -> Option<Vec<MbrEntry>> {
    if sector.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let entries = sector.get(446..510)?.chunks_exact(16).map(|entry| MbrEntry {
        kind: entry[4],
        first: u64::from(u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]])),
        sectors: u64::from(u32::from_le_bytes([entry[12], entry[13], entry[14], entry[15]])),
    });
    Some(entries.filter(|entry| entry.kind != 0 && entry.sectors != 0).collect())
}

/// An MBR is noted unless the sector is that of a file system on the whole disk.
fn mbr(source: &dyn Source, head: &[u8], content: &mut Content) -> io::Result<Vec<(u64, u64)>> {
    let Some(entries) = mbr_entries(head) else {
        return Ok(Vec::new());
    };
    let valid = head.get(446..510).is_some_and(|table| table.chunks_exact(16).all(|entry| entry[0] & 0x7f == 0));
    if !valid || (entries.is_empty() && !probe(source, 0, source.size())?.is_empty()) {
        return Ok(Vec::new());
    }
    content.signatures.push(bare("mbr", 0));
    let mut areas = Vec::new();
    for entry in entries {
        areas.push((entry.first * SECTOR_BYTES, entry.sectors * SECTOR_BYTES));
        if matches!(entry.kind, 0x05 | 0x0f | 0x85) {
            logical(source, entry.first, &mut areas)?;
        }
    }
    Ok(areas)
}

/// Logical partitions: each sector of the chain names one and the place of the next sector.
fn logical(source: &dyn Source, extended: u64, areas: &mut Vec<(u64, u64)>) -> io::Result<()> {
    let mut at = extended;
    for _ in 0..CHAIN_MAX {
        let Some(entries) = mbr_entries(&source.read(at * SECTOR_BYTES, SECTOR)?) else {
            return Ok(());
        };
        let mut next = None;
        for entry in entries {
            if matches!(entry.kind, 0x05 | 0x0f | 0x85) {
                next = Some(extended + entry.first);
            } else {
                areas.push(((at + entry.first) * SECTOR_BYTES, entry.sectors * SECTOR_BYTES));
            }
        }
        match next {
            Some(next) if next > at => at = next,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// The ranges that are sampled: whole ends, and places evenly spread between them.
fn samples(size: u64) -> Vec<(u64, u64)> {
    if size <= 2 * END_BYTES {
        return vec![(0, size)];
    }
    let mut ranges = vec![(0, END_BYTES)];
    let between = size - 2 * END_BYTES;
    for index in 0..SPREAD {
        let at = END_BYTES + between / SPREAD * index;
        ranges.push((at / SECTOR_BYTES * SECTOR_BYTES, SPREAD_BYTES as u64));
    }
    ranges.push((size - END_BYTES, END_BYTES));
    ranges
}

fn first_nonzero(source: &dyn Source) -> io::Result<Option<u64>> {
    for (base, length) in samples(source.size()) {
        let mut done = 0;
        while done < length {
            let chunk = source.read(base + done, SPREAD_BYTES.min((length - done) as usize))?;
            if let Some(at) = chunk.iter().position(|byte| *byte != 0) {
                return Ok(Some(base + done + at as u64));
            }
            if chunk.is_empty() {
                break;
            }
            done += chunk.len() as u64;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::tests::{sparse, tool};
    use rackctl_wire::gpt::{Partition, TYPE_LINUX};
    use std::os::unix::fs::FileExt;
    use uuid::Uuid;

    const GUID: Uuid = uuid::uuid!("6ba7b810-9dad-11d1-80b4-00c04fd430c8");

    fn table() -> Table {
        let partition = Partition { kind: TYPE_LINUX, guid: GUID, first_lba: 2048, last_lba: 67_583, name: "x".into() };
        Table { disk_guid: GUID, partitions: vec![partition] }
    }

    fn kinds(content: &Content) -> Vec<(&str, u64)> {
        content.signatures.iter().map(|s| (s.kind.as_str(), s.offset_bytes)).collect()
    }

    #[test]
    fn a_partitioned_disk_with_a_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let (path, image) = sparse(dir.path(), 64 * MIB);
        let encoded = table().encode(64 * MIB, &[]).unwrap();
        image.0.write_all_at(&encoded.head, 0).unwrap();
        image.0.write_all_at(&encoded.tail, encoded.tail_lba * 512).unwrap();
        let made = tool("mke2fs", &["-q", "-F", "-t", "ext4", "-E", "offset=1048576", "@", "32m"], &path);
        let content = content(&image).unwrap();
        assert_eq!(content.disk_guid, Some(GUID));
        let mut expected = vec![("gpt", 512), ("gpt", 64 * MIB - 512)];
        if made {
            expected.insert(1, ("ext4", MIB));
        }
        assert_eq!(kinds(&content), expected);
    }

    #[test]
    fn a_lone_backup_table_still_leads_to_the_partitions() {
        let dir = tempfile::tempdir().unwrap();
        let (_, image) = sparse(dir.path(), 64 * MIB);
        let encoded = table().encode(64 * MIB, &[]).unwrap();
        image.0.write_all_at(&encoded.tail, encoded.tail_lba * 512).unwrap();
        image.0.write_all_at(b"XFSB", MIB).unwrap();
        let content = content(&image).unwrap();
        assert_eq!(content.disk_guid, Some(GUID));
        assert_eq!(kinds(&content), [("xfs", MIB), ("gpt", 64 * MIB - 512)]);
    }

    #[test]
    fn mbr_with_a_logical_partition() {
        let dir = tempfile::tempdir().unwrap();
        let (_, image) = sparse(dir.path(), 64 * MIB);
        let sector = |entries: &[(u8, u32, u32)]| {
            let mut bytes = [0u8; 512];
            for (index, (kind, first, count)) in entries.iter().enumerate() {
                let entry = &mut bytes[446 + 16 * index..462 + 16 * index];
                entry[4] = *kind;
                entry[8..12].copy_from_slice(&first.to_le_bytes());
                entry[12..].copy_from_slice(&count.to_le_bytes());
            }
            bytes[510..].copy_from_slice(&[0x55, 0xaa]);
            bytes
        };
        image.0.write_all_at(&sector(&[(0x83, 2048, 2048), (0x05, 8192, 65536)]), 0).unwrap();
        image.0.write_all_at(&sector(&[(0x83, 64, 4096), (0x05, 8192, 4096)]), 8192 * 512).unwrap();
        image.0.write_all_at(&sector(&[(0x83, 64, 4096)]), 16384 * 512).unwrap();
        image.0.write_all_at(b"XFSB", 2048 * 512).unwrap();
        image.0.write_all_at(b"hsqs", (16384 + 64) * 512).unwrap();
        let content = content(&image).unwrap();
        assert_eq!(kinds(&content), [("mbr", 0), ("xfs", 2048 * 512), ("squashfs", (16384 + 64) * 512)]);
        assert!(!content.is_blank());
    }

    #[test]
    fn a_whole_disk_file_system_is_no_mbr() {
        let dir = tempfile::tempdir().unwrap();
        let (path, image) = sparse(dir.path(), 64 * MIB);
        if tool("mkfs.vfat", &["-F", "32"], &path) {
            assert_eq!(kinds(&content(&image).unwrap()), [("vfat", 0)]);
        }
    }

    #[test]
    fn blank_and_unknown_disks() {
        let dir = tempfile::tempdir().unwrap();
        let (_, image) = sparse(dir.path(), 640 * MIB);
        assert!(content(&image).unwrap().is_blank());
        let between = END_BYTES + (640 * MIB - 2 * END_BYTES) / SPREAD * 10 + 77;
        for at in [3 * MIB, 640 * MIB - 5, between] {
            image.0.write_all_at(&[7], at).unwrap();
            let seen = content(&image).unwrap();
            assert_eq!(seen.first_nonzero_byte, Some(at));
            assert!(!seen.is_blank());
            image.0.write_all_at(&[0], at).unwrap();
        }
    }
}
