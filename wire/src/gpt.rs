//! GUID partition tables: bytes in, values out, and back (UEFI 2.10, section 5.3).

use crate::image::{Manifest, layout::partition_guid};
use std::fmt;
use uuid::Uuid;

pub const SECTOR_BYTES: u64 = 512;
/// Sectors taken at each end: protective MBR + header + 128 entries; entries + header.
pub const HEAD_SECTORS: u64 = 34;
pub const TAIL_SECTORS: u64 = 33;
/// Where partitions begin unless a loader counts on another place: 1 MiB.
pub const ALIGN_SECTORS: u64 = 2048;
/// Bytes of a boot sector that belong to the loader; the partition table of the MBR follows.
pub const BOOT_CODE_BYTES: usize = 440;

/// Partition types.
pub const TYPE_BIOS_BOOT: Uuid = uuid::uuid!("21686148-6449-6e6f-744e-656564454649");
pub const TYPE_ESP: Uuid = uuid::uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
pub const TYPE_LINUX: Uuid = uuid::uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

const MAGIC: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_BYTES: usize = 92;
const ENTRY_BYTES: usize = 128;
const ENTRIES: usize = 128;
const NAME_UNITS: usize = 36;
const SECTOR: usize = SECTOR_BYTES as usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub kind: Uuid,
    pub guid: Uuid,
    pub first_lba: u64,
    /// Inclusive.
    pub last_lba: u64,
    pub name: String,
}

impl Partition {
    pub fn offset_bytes(&self) -> u64 {
        self.first_lba * SECTOR_BYTES
    }

    pub fn size_bytes(&self) -> u64 {
        (self.last_lba - self.first_lba + 1) * SECTOR_BYTES
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub disk_guid: Uuid,
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GptError {
    /// The bytes handed in are not [`HEAD_SECTORS`] or [`TAIL_SECTORS`] long.
    Short,
    /// No `EFI PART` where the header should be.
    NoHeader { header: &'static str },
    /// A checksum does not fit the bytes it covers.
    Checksum { header: &'static str, what: &'static str },
    /// A header or an entry says something that cannot be.
    Invalid { what: String },
    /// The two copies are not of the same table.
    CopiesDiffer,
    /// The partitions need more than the disk has.
    NoRoom { needed_bytes: u64, disk_bytes: u64 },
}

impl fmt::Display for GptError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GptError::Short => write!(out, "too few bytes for a GUID partition table"),
            GptError::NoHeader { header } => write!(out, "no GPT header ({header})"),
            GptError::Checksum { header, what } => write!(out, "wrong checksum of the {what} of the {header} GPT"),
            GptError::Invalid { what } => write!(out, "not a valid GPT: {what}"),
            GptError::CopiesDiffer => write!(out, "the two copies of the GPT differ"),
            GptError::NoRoom { needed_bytes, disk_bytes } => {
                write!(out, "the partitions need {needed_bytes} bytes, the disk has {disk_bytes}")
            }
        }
    }
}

impl std::error::Error for GptError {}

/// The bytes of a table, for both ends of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// [`HEAD_SECTORS`] sectors for LBA 0: protective MBR with the boot code, header, entries.
    pub head: Vec<u8>,
    /// [`TAIL_SECTORS`] sectors for `tail_lba`: entries, header.
    pub tail: Vec<u8>,
    pub tail_lba: u64,
}

/// CRC-32 as in UEFI 2.10, section 5.3.2 (IEEE 802.3, reflected).
pub fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

fn invalid(what: impl Into<String>) -> GptError {
    GptError::Invalid { what: what.into() }
}

/// Where the partitions of `manifest` stand on a disk of this size. Only the last one may have the
/// size zero (the rest of the disk, in whole MiB).
pub fn layout(manifest: &Manifest, disk_bytes: u64, disk_guid: Uuid) -> Result<Table, GptError> {
    let sectors = disk_bytes / SECTOR_BYTES;
    // One past the last LBA that a partition may use.
    let end = sectors.saturating_sub(TAIL_SECTORS);
    let mut next = HEAD_SECTORS;
    let mut partitions = Vec::new();
    let count = manifest.partitions.len();
    if count == 0 || count > ENTRIES {
        return Err(invalid(format!("{count} partitions")));
    }
    for (index, spec) in manifest.partitions.iter().enumerate() {
        let no_room = |needed: u64| GptError::NoRoom { needed_bytes: needed.saturating_mul(SECTOR_BYTES), disk_bytes };
        let first = match spec.first_lba {
            Some(fixed) if fixed < next => {
                return Err(invalid(format!("partition {} begins before the end of the one before", spec.name)));
            }
            Some(fixed) => fixed,
            None => next.max(1).div_ceil(ALIGN_SECTORS).saturating_mul(ALIGN_SECTORS),
        };
        let length = match spec.size_bytes {
            0 if index + 1 == count => {
                let room = end.saturating_sub(first) / ALIGN_SECTORS * ALIGN_SECTORS;
                if room == 0 {
                    return Err(no_room(first.saturating_add(ALIGN_SECTORS + TAIL_SECTORS)));
                }
                room
            }
            0 => return Err(invalid(format!("partition {} takes the rest but is not the last", spec.name))),
            size => size.div_ceil(SECTOR_BYTES),
        };
        let past = first.checked_add(length).ok_or_else(|| no_room(u64::MAX))?;
        if past > end {
            return Err(no_room(past.saturating_add(TAIL_SECTORS)));
        }
        partitions.push(Partition {
            kind: spec.kind,
            guid: partition_guid(disk_guid, &spec.name),
            first_lba: first,
            last_lba: past - 1,
            name: spec.name.clone(),
        });
        next = past;
    }
    let table = Table { disk_guid, partitions };
    table.check(sectors)?;
    Ok(table)
}

impl Table {
    pub fn partition(&self, name: &str) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.name == name)
    }

    fn check(&self, sectors: u64) -> Result<(), GptError> {
        if sectors < HEAD_SECTORS + TAIL_SECTORS + 1 {
            return Err(GptError::Short);
        }
        if self.partitions.len() > ENTRIES {
            return Err(invalid("more than 128 partitions"));
        }
        let last_usable = sectors - TAIL_SECTORS - 1;
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for partition in &self.partitions {
            let Partition { first_lba, last_lba, name, .. } = partition;
            if *first_lba < HEAD_SECTORS || last_lba < first_lba || *last_lba > last_usable {
                return Err(invalid(format!(
                    "partition {name} ({first_lba}..={last_lba}) is outside of the usable part"
                )));
            }
            if name.encode_utf16().count() > NAME_UNITS {
                return Err(invalid(format!("name {name} is too long")));
            }
            if partition.kind.is_nil() {
                return Err(invalid(format!("partition {name} has no type")));
            }
            spans.push((*first_lba, *last_lba));
        }
        spans.sort_unstable();
        if spans.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
            return Err(invalid("partitions overlap"));
        }
        Ok(())
    }

    /// The bytes for a disk of `disk_bytes` (rounded down to whole sectors). `boot_code`: at most
    /// [`BOOT_CODE_BYTES`].
    pub fn encode(&self, disk_bytes: u64, boot_code: &[u8]) -> Result<Encoded, GptError> {
        let sectors = disk_bytes / SECTOR_BYTES;
        self.check(sectors)?;
        if boot_code.len() > BOOT_CODE_BYTES {
            return Err(invalid(format!("{} bytes of boot code, at most {BOOT_CODE_BYTES} fit", boot_code.len())));
        }
        let mut entries = vec![0u8; ENTRIES * ENTRY_BYTES];
        for (partition, entry) in self.partitions.iter().zip(entries.chunks_exact_mut(ENTRY_BYTES)) {
            entry[0..16].copy_from_slice(&partition.kind.to_bytes_le());
            entry[16..32].copy_from_slice(&partition.guid.to_bytes_le());
            entry[32..40].copy_from_slice(&partition.first_lba.to_le_bytes());
            entry[40..48].copy_from_slice(&partition.last_lba.to_le_bytes());
            for (unit, place) in partition.name.encode_utf16().zip(entry[56..].chunks_exact_mut(2)) {
                place.copy_from_slice(&unit.to_le_bytes());
            }
        }
        let mut head = vec![0u8; SECTOR];
        head[..boot_code.len()].copy_from_slice(boot_code);
        protective_entry(&mut head, sectors);
        head.extend(self.header(1, sectors - 1, 2, sectors, &entries));
        head.extend(&entries);
        let tail_lba = sectors - TAIL_SECTORS;
        let mut tail = entries.clone();
        tail.extend(self.header(sectors - 1, 1, tail_lba, sectors, &entries));
        Ok(Encoded { head, tail, tail_lba })
    }

    fn header(&self, own: u64, other: u64, entries_lba: u64, sectors: u64, entries: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; SECTOR];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&REVISION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        bytes[24..32].copy_from_slice(&own.to_le_bytes());
        bytes[32..40].copy_from_slice(&other.to_le_bytes());
        bytes[40..48].copy_from_slice(&HEAD_SECTORS.to_le_bytes());
        bytes[48..56].copy_from_slice(&(sectors - TAIL_SECTORS - 1).to_le_bytes());
        bytes[56..72].copy_from_slice(&self.disk_guid.to_bytes_le());
        bytes[72..80].copy_from_slice(&entries_lba.to_le_bytes());
        bytes[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
        bytes[84..88].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
        bytes[88..92].copy_from_slice(&crc32(entries).to_le_bytes());
        let crc = crc32(&bytes[..HEADER_BYTES]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a table from both ends of a disk and demands that both copies are whole and the same.
    /// `head`: at least the first [`HEAD_SECTORS`], `tail`: the last [`TAIL_SECTORS`] sectors.
    pub fn decode(head: &[u8], tail: &[u8], disk_bytes: u64) -> Result<Table, GptError> {
        let primary = Table::decode_head(head, disk_bytes)?;
        let backup = Table::decode_tail(tail, disk_bytes)?;
        if primary != backup {
            return Err(GptError::CopiesDiffer);
        }
        Ok(primary)
    }

    /// Reads the backup copy alone: `tail` are the last [`TAIL_SECTORS`] sectors.
    pub fn decode_tail(tail: &[u8], disk_bytes: u64) -> Result<Table, GptError> {
        if tail.len() != TAIL_SECTORS as usize * SECTOR || disk_bytes < (HEAD_SECTORS + TAIL_SECTORS + 1) * SECTOR_BYTES
        {
            return Err(GptError::Short);
        }
        let sectors = disk_bytes / SECTOR_BYTES;
        let (entries, header) = tail.split_at(tail.len() - SECTOR);
        decode_copy(header, entries, "backup", sectors - 1, sectors)
    }

    /// Reads the primary copy alone: enough to say what a disk bears.
    pub fn decode_head(head: &[u8], disk_bytes: u64) -> Result<Table, GptError> {
        if head.len() < HEAD_SECTORS as usize * SECTOR || disk_bytes < (HEAD_SECTORS + TAIL_SECTORS + 1) * SECTOR_BYTES
        {
            return Err(GptError::Short);
        }
        let entries = &head[2 * SECTOR..HEAD_SECTORS as usize * SECTOR];
        decode_copy(&head[SECTOR..2 * SECTOR], entries, "primary", 1, disk_bytes / SECTOR_BYTES)
    }
}

fn protective_entry(mbr: &mut [u8], sectors: u64) {
    let entry = &mut mbr[446..462];
    // Not active; CHS 0/0/2 to the largest value; type EE (UEFI 2.10, table 5-4).
    entry[1..4].copy_from_slice(&[0x00, 0x02, 0x00]);
    entry[4] = 0xee;
    entry[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&1u32.to_le_bytes());
    entry[12..16].copy_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr[510] = 0x55;
    mbr[511] = 0xaa;
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn guid_at(bytes: &[u8], at: usize) -> Uuid {
    bytes.get(at..at + 16).and_then(|part| part.try_into().ok()).map_or(Uuid::nil(), Uuid::from_bytes_le)
}

fn decode_copy(
    header: &[u8],
    entries: &[u8],
    which: &'static str,
    own_lba: u64,
    sectors: u64,
) -> Result<Table, GptError> {
    if header.get(..8) != Some(MAGIC.as_slice()) {
        return Err(GptError::NoHeader { header: which });
    }
    let size = u32_at(header, 12) as usize;
    if !(HEADER_BYTES..=header.len()).contains(&size) {
        return Err(invalid(format!("header size {size}")));
    }
    let mut covered = header[..size].to_vec();
    covered[16..20].fill(0);
    if crc32(&covered) != u32_at(header, 16) {
        return Err(GptError::Checksum { header: which, what: "header" });
    }
    if u64_at(header, 24) != own_lba {
        return Err(invalid(format!("{which} header says it stands at LBA {}", u64_at(header, 24))));
    }
    // Only the usual form is read: other sizes are legal, but no tool in use makes them.
    if u32_at(header, 80) as usize != ENTRIES || u32_at(header, 84) as usize != ENTRY_BYTES {
        return Err(invalid(format!("{} entries of {} bytes", u32_at(header, 80), u32_at(header, 84))));
    }
    let expected_entries_lba = if own_lba == 1 { 2 } else { sectors - TAIL_SECTORS };
    if u64_at(header, 72) != expected_entries_lba {
        return Err(invalid(format!("{which} entries at LBA {}", u64_at(header, 72))));
    }
    if crc32(entries) != u32_at(header, 88) {
        return Err(GptError::Checksum { header: which, what: "entries" });
    }
    let partitions = entries
        .chunks_exact(ENTRY_BYTES)
        .filter(|entry| !guid_at(entry, 0).is_nil())
        .map(|entry| {
            let units: Vec<u16> = entry[56..]
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .take_while(|unit| *unit != 0)
                .collect();
            Partition {
                kind: guid_at(entry, 0),
                guid: guid_at(entry, 16),
                first_lba: u64_at(entry, 32),
                last_lba: u64_at(entry, 40),
                name: String::from_utf16_lossy(&units),
            }
        })
        .collect();
    let table = Table { disk_guid: guid_at(header, 56), partitions };
    table.check(sectors)?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Fill, PartitionSpec};
    use std::process::Command;

    const MIB: u64 = 1 << 20;

    fn manifest() -> Manifest {
        let spec = |name: &str, kind, first_lba, size_bytes| PartitionSpec {
            name: name.into(),
            kind,
            first_lba,
            size_bytes,
            fill: Fill::Empty,
        };
        Manifest {
            protocol: 1,
            name: "test".into(),
            arch: "amd64".into(),
            boot_code: None,
            partitions: vec![
                spec("bios", TYPE_BIOS_BOOT, Some(34), 1_000_000),
                spec("esp", TYPE_ESP, None, 64 * MIB),
                spec("root-a", TYPE_LINUX, None, 100 * MIB),
                spec("root-b", TYPE_LINUX, None, 100 * MIB),
                spec("data", TYPE_LINUX, None, 0),
            ],
        }
    }

    fn guid() -> Uuid {
        uuid::uuid!("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    }

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn layout_is_aligned_and_fills_the_disk() {
        let table = layout(&manifest(), 1 << 30, guid()).unwrap();
        assert_eq!(table.partition("bios").unwrap().first_lba, 34);
        for name in ["esp", "root-a", "root-b", "data"] {
            assert_eq!(table.partition(name).unwrap().first_lba % ALIGN_SECTORS, 0, "{name}");
        }
        let data = table.partition("data").unwrap();
        let left = (1u64 << 30) / SECTOR_BYTES - TAIL_SECTORS - 1 - data.last_lba;
        assert!(left < ALIGN_SECTORS, "{left} sectors left");
        assert_eq!(table, layout(&manifest(), 1 << 30, guid()).unwrap());
    }

    #[test]
    fn a_small_disk_and_bad_manifests_are_refused() {
        assert!(matches!(layout(&manifest(), 200 * MIB, guid()), Err(GptError::NoRoom { .. })));
        assert!(layout(&manifest(), 0, guid()).is_err());
        let mut bad = manifest();
        bad.partitions[1].size_bytes = 0;
        assert!(matches!(layout(&bad, 1 << 30, guid()), Err(GptError::Invalid { .. })));
        let mut bad = manifest();
        bad.partitions[1].first_lba = Some(40);
        assert!(matches!(layout(&bad, 1 << 30, guid()), Err(GptError::Invalid { .. })));
        let mut huge = manifest();
        huge.partitions[1].size_bytes = u64::MAX;
        assert!(matches!(layout(&huge, 1 << 30, guid()), Err(GptError::NoRoom { .. })));
    }

    #[test]
    fn what_is_encoded_is_decoded_and_every_damaged_byte_is_seen() {
        let size = 1 << 30;
        let table = layout(&manifest(), size, guid()).unwrap();
        let encoded = table.encode(size, &[0xeb; 440]).unwrap();
        assert_eq!(&encoded.head[..440], &[0xeb; 440]);
        assert_eq!(Table::decode(&encoded.head, &encoded.tail, size).unwrap(), table);
        for at in [512, 530, 570, 600, 1024, 1024 + 40, 1024 + 57, 34 * 512 - 1] {
            let mut head = encoded.head.clone();
            head[at] ^= 1;
            assert!(Table::decode(&head, &encoded.tail, size).is_err(), "byte {at} of the head");
        }
        let mut tail = encoded.tail.clone();
        tail[32] ^= 1;
        assert!(Table::decode(&encoded.head, &tail, size).is_err());
        assert!(Table::decode(&encoded.head, &encoded.tail, size + 512).is_err(), "grown disk");
        assert!(table.encode(size, &[0; 441]).is_err());
    }

    #[test]
    fn decoding_never_panics() {
        for length in [0usize, 1, 511, 512, 1024, 34 * 512] {
            for size in [0u64, 512, 1 << 20, u64::MAX] {
                assert!(Table::decode(&vec![0xff; length], &vec![0; length], size).is_err());
            }
        }
    }

    #[test]
    fn sfdisk_reads_the_same_table() {
        let size = 1u64 << 30;
        let table = layout(&manifest(), size, guid()).unwrap();
        let encoded = table.encode(size, &[]).unwrap();
        let path = std::env::temp_dir().join(format!("rackctl-gpt-{}.img", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(size).unwrap();
        use std::os::unix::fs::FileExt;
        file.write_all_at(&encoded.head, 0).unwrap();
        file.write_all_at(&encoded.tail, encoded.tail_lba * SECTOR_BYTES).unwrap();
        let output = ["sfdisk", "/usr/sbin/sfdisk", "/sbin/sfdisk"]
            .iter()
            .find_map(|tool| Command::new(tool).arg("--dump").arg(&path).output().ok());
        let verify = ["sgdisk", "/usr/sbin/sgdisk", "/sbin/sgdisk"]
            .iter()
            .find_map(|tool| Command::new(tool).arg("--verify").arg(&path).output().ok());
        std::fs::remove_file(&path).unwrap();
        match verify {
            Some(verify) => {
                let text = String::from_utf8_lossy(&verify.stdout).into_owned();
                assert!(text.contains("No problems found"), "{text}");
            }
            None => eprintln!("SKIPPED: sgdisk is not installed"),
        }
        let Some(output) = output else {
            eprintln!("SKIPPED: sfdisk is not installed");
            return;
        };
        assert!(output.status.success(), "{output:?}");
        let dump = String::from_utf8(output.stdout).unwrap().to_lowercase();
        assert!(dump.contains(&format!("label-id: {}", guid())), "{dump}");
        for partition in &table.partitions {
            let start = format!("start={:>12}, size={:>12}", partition.first_lba, partition.size_bytes() / 512);
            let line =
                dump.lines().find(|line| line.contains(&start)).unwrap_or_else(|| panic!("{start} is not in\n{dump}"));
            assert!(line.contains(&format!("uuid={}", partition.guid)), "{line}");
            assert!(line.contains(&format!("type={}", partition.kind)), "{line}");
            assert!(line.contains(&format!("name=\"{}\"", partition.name)), "{line}");
        }
    }
}
