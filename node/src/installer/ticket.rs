//! A wipe ticket: which disk it is for, and its carrying out.

use super::{Machine, stage2};
use crate::cmdline::Sha256Hex;
use crate::node_error::{Doing, NodeError, Result};
use crate::progress::Progress;
use crate::volume::BlockDevice;
use crate::writer::{self, Identity};
use rackctl_wire::{Disk, PROTOCOL, Stage, WriteTicket};
use std::fs::File;
use std::path::Path;

/// The one disk that the ticket is for, or why there is none. Nothing is read from any disk here.
pub fn check(ticket: &WriteTicket, system: &Sha256Hex, disks: &[Disk]) -> Result<Disk> {
    if Sha256Hex::parse(&ticket.system_sha256).as_ref() != Some(system) {
        let message =
            format!("the ticket is for the system {}, the command line for {}", ticket.system_sha256, system.0);
        return Err(NodeError::new("digestMismatch", message));
    }
    if ticket.node.protocol != PROTOCOL {
        return Err(NodeError::new("protocol", format!("the ticket speaks protocol {}", ticket.node.protocol)));
    }
    if ticket.disk_serial.is_none() && ticket.disk_wwn.is_none() {
        return Err(NodeError::new("diskNotFound", "the ticket names neither a serial nor a WWN"));
    }
    // What the ticket names must fit, both of them if it names both.
    let fits = |wanted: &Option<String>, seen: &Option<String>| wanted.is_none() || wanted == seen;
    let matching: Vec<&Disk> = disks
        .iter()
        .filter(|disk| fits(&ticket.disk_serial, &disk.serial) && fits(&ticket.disk_wwn, &disk.wwn))
        .collect();
    let wanted = || {
        let name = |label: &str, value: &Option<String>| value.as_ref().map(|value| format!("{label} {value}"));
        let names: Vec<String> =
            [name("serial", &ticket.disk_serial), name("WWN", &ticket.disk_wwn)].into_iter().flatten().collect();
        names.join(", ")
    };
    match matching.as_slice() {
        [disk] if disk.size_bytes == ticket.disk_size_bytes => Ok((*disk).clone()),
        [disk] => Err(NodeError::new(
            "diskNotFound",
            format!(
                "the disk with {} has {} bytes, the ticket says {}",
                wanted(),
                disk.size_bytes,
                ticket.disk_size_bytes
            ),
        )),
        [] => Err(NodeError::new("diskNotFound", format!("no disk has {}", wanted()))),
        several => Err(NodeError::new("diskNotFound", format!("{} disks have {}", several.len(), wanted()))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rackctl_wire::Content;

    fn disk(name: &str, serial: Option<&str>, wwn: Option<&str>, size_bytes: u64) -> Disk {
        Disk {
            name: name.into(),
            serial: serial.map(str::to_owned),
            wwn: wwn.map(str::to_owned),
            model: None,
            size_bytes,
            content: Content::default(),
        }
    }

    #[test]
    fn exactly_one_disk_of_the_right_size() {
        let ticket = crate::marker::tests::ticket();
        let system = Sha256Hex::parse(&ticket.system_sha256).unwrap();
        let good = disk("vda", Some("DISK-01"), None, 1 << 30);
        let other = disk("vdb", Some("DISK-02"), None, 1 << 30);
        assert_eq!(check(&ticket, &system, &[other.clone(), good.clone()]).unwrap(), good);
        let kind = |ticket: &WriteTicket, disks: &[Disk]| check(ticket, &system, disks).unwrap_err().kind;
        assert_eq!(kind(&ticket, std::slice::from_ref(&other)), "diskNotFound");
        assert_eq!(kind(&ticket, &[good.clone(), good.clone()]), "diskNotFound");
        assert_eq!(kind(&ticket, &[disk("vda", Some("DISK-01"), None, 1 << 31)]), "diskNotFound");
        let mut both = ticket.clone();
        both.disk_wwn = Some("naa.1".into());
        assert_eq!(kind(&both, std::slice::from_ref(&good)), "diskNotFound");
        let mut nameless = ticket.clone();
        nameless.disk_serial = None;
        assert_eq!(kind(&nameless, &[disk("vda", None, None, 1 << 30)]), "diskNotFound");
        let mut foreign = ticket.clone();
        foreign.system_sha256 = "cd".repeat(32);
        assert_eq!(kind(&foreign, &[good]), "digestMismatch");
    }
}
