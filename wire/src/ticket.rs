//! Whether a wipe ticket may be carried out here. Pure.

use crate::{Disk, PROTOCOL, WriteTicket, installer_line::Sha256Hex};

/// Why it may not; nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketError {
    /// As in [`crate::StageError::kind`].
    pub kind: &'static str,
    pub message: String,
}

impl TicketError {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The one disk that the ticket is for, or why there is none. Nothing is read from any disk here.
pub fn disk_of(ticket: &WriteTicket, system: &Sha256Hex, disks: &[Disk]) -> Result<Disk, TicketError> {
    if Sha256Hex::parse(&ticket.system_sha256).as_ref() != Some(system) {
        let message =
            format!("the ticket is for the system {}, the command line for {}", ticket.system_sha256, system.0);
        return Err(TicketError::new("digestMismatch", message));
    }
    if ticket.node.protocol != PROTOCOL {
        return Err(TicketError::new("protocol", format!("the ticket speaks protocol {}", ticket.node.protocol)));
    }
    if ticket.disk_serial.is_none() && ticket.disk_wwn.is_none() {
        return Err(TicketError::new("diskNotFound", "the ticket names neither a serial nor a WWN"));
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
        [disk] => Err(TicketError::new(
            "diskNotFound",
            format!(
                "the disk with {} has {} bytes, the ticket says {}",
                wanted(),
                disk.size_bytes,
                ticket.disk_size_bytes
            ),
        )),
        [] => Err(TicketError::new("diskNotFound", format!("no disk has {}", wanted()))),
        several => Err(TicketError::new("diskNotFound", format!("{} disks have {}", several.len(), wanted()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, NodeConfig};

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

    fn ticket() -> WriteTicket {
        WriteTicket {
            id: "t-1".into(),
            disk_serial: Some("DISK-01".into()),
            disk_wwn: None,
            disk_size_bytes: 1 << 30,
            disk_guid: uuid::uuid!("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
            system_sha256: "ab".repeat(32),
            node: NodeConfig {
                protocol: PROTOCOL,
                node: "n1".into(),
                fleet: "f".into(),
                run: "r".into(),
                generation: 3,
                hostname: "n1".into(),
                interfaces: vec![],
                authorized_keys: vec![],
                dns: vec![],
            },
        }
    }

    // fault: F31 F32 invariant: I5 harness: D
    #[test]
    fn exactly_one_disk_of_the_right_size() {
        let ticket = ticket();
        let system = Sha256Hex::parse(&ticket.system_sha256).unwrap();
        let good = disk("vda", Some("DISK-01"), None, 1 << 30);
        let other = disk("vdb", Some("DISK-02"), None, 1 << 30);
        assert_eq!(disk_of(&ticket, &system, &[other.clone(), good.clone()]).unwrap(), good);
        let kind = |ticket: &WriteTicket, disks: &[Disk]| disk_of(ticket, &system, disks).unwrap_err().kind;
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
