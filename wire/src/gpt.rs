//! GUID partition tables: bytes in, values out, and back (UEFI 2.10, section 5.3).

use uuid::Uuid;

pub const SECTOR_BYTES: u64 = 512;
/// Sectors taken at each end: protective MBR + header + 128 entries; entries + header.
pub const HEAD_SECTORS: u64 = 34;
pub const TAIL_SECTORS: u64 = 33;

/// Partition types.
pub const TYPE_BIOS_BOOT: Uuid = uuid::uuid!("21686148-6449-6e6f-744e-656564454649");
pub const TYPE_ESP: Uuid = uuid::uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
pub const TYPE_LINUX: Uuid = uuid::uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub kind: Uuid,
    pub guid: Uuid,
    pub first_lba: u64,
    /// Inclusive.
    pub last_lba: u64,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub disk_guid: Uuid,
    pub partitions: Vec<Partition>,
}
