//! The system bundle: what stands in the object that [`crate::cmdline::SYSTEM`] names.
//!
//! A zstd-compressed tar archive whose first entry is `manifest.json` ([`Manifest`]); the other
//! entries are the parts that it names, in its order. The digest of the bundle is checked before
//! the first byte is written to a disk; the digest of each part is checked again by reading back.

use serde::{Deserialize, Serialize};

pub const MANIFEST_NAME: &str = "manifest.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Manifest {
    pub protocol: u32,
    pub name: String,
    pub arch: String,
    /// First 440 bytes of the disk: the BIOS loader's boot sector. The partition table stays ours.
    pub boot_code: Option<Part>,
    /// In the order in which they stand on the disk. The last one takes the rest of it.
    pub partitions: Vec<PartitionSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PartitionSpec {
    /// GPT name: `bios`, `esp`, `root-a`, `root-b`, `data`.
    pub name: String,
    pub kind: uuid::Uuid,
    /// Where it must begin, when a loader counts on it (LBA of 512 bytes); else aligned to 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_lba: Option<u64>,
    /// Zero: what is left.
    pub size_bytes: u64,
    pub fill: Fill,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Fill {
    /// An entry of the archive, written from the partition's first byte.
    Part(Part),
    /// Zeros at both ends, so that no old signature survives.
    Empty,
    /// A new ext4 with this label, made on the machine.
    Ext4 { label: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Part {
    pub entry: String,
    pub size_bytes: u64,
    pub sha256: String,
}
