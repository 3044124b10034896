//! A wipe ticket: which disk it is for, and its carrying out.

use super::{Machine, stage2};
use crate::cmdline::Sha256Hex;
use crate::node_error::{Doing, NodeError, Result};
use crate::progress::Progress;
use crate::volume::BlockDevice;
use crate::writer::{self, Identity};
use rackctl_wire::{Disk, Stage, WriteTicket};
use std::fs::File;
use std::path::Path;

/// The one disk that the ticket is for, or why there is none. Nothing is read from any disk here.
pub fn check(ticket: &WriteTicket, system: &Sha256Hex, disks: &[Disk]) -> Result<Disk> {
    rackctl_wire::ticket::disk_of(ticket, system, disks).map_err(|error| NodeError::new(error.kind, error.message))
}

struct Keys {
    private: String,
    public: String,
}

impl Keys {
    fn of(machine: &Machine) -> Result<Self> {
        Ok(Self { private: machine.system_key.private_file()?, public: machine.system_key.public_line() })
    }

    fn identity(&self) -> Identity<'_> {
        Identity { host_key: &self.private, host_key_public: &self.public }
    }
}

/// Whether the disk bears the result of this ticket already.
pub fn known(machine: &Machine, ticket: &WriteTicket, disk: &Disk) -> Result<bool> {
    let device = BlockDevice::open(&disk.name, disk.size_bytes, Path::new(stage2::ROOT))?;
    writer::already_written(&device, ticket, &Keys::of(machine)?.identity())
}

impl writer::Watch for Progress {
    fn enter(&self, stage: Stage) {
        Progress::enter(self, stage);
    }

    fn bytes(&self, done: u64, total: u64) {
        Progress::bytes(self, done, Some(total));
    }
}

pub fn write(machine: &Machine, ticket: &WriteTicket, disk: &Disk, bundle: &Path, progress: &Progress) -> Result<()> {
    let device = BlockDevice::open(&disk.name, disk.size_bytes, Path::new(stage2::ROOT))?;
    let file = File::open(bundle).doing("opening the system bundle")?;
    let reader = zstd::stream::read::Decoder::new(file).doing("reading the system bundle")?;
    let keys = Keys::of(machine)?;
    let result = writer::write(&device, reader, ticket, &keys.identity(), std::env::consts::ARCH, progress);
    let _ = std::fs::remove_file(bundle);
    result
}
