//! The one disk of a simulated machine: what stands on it, as values. Pure; [`super::disk_store`] keeps it.

use rackctl_wire::{Content, Disk as Shown, EtcdMember, NodeConfig, Signature, WriteTicket};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::host_key::HostKey;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disk {
    pub state: DiskState,
    /// How often a write began: counted by the disk itself, whatever anybody else believes.
    pub wipes: u64,
    /// GUID of its partition table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<Uuid>,
    /// The ticket whose write began last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<HostKey>,
    /// The member that was configured, and whether it is started at boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdMember>,
    #[serde(default)]
    pub etcd_enabled: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DiskState {
    #[default]
    Blank,
    /// A write began and did not end: it bears the ticket's GUID and boots nothing.
    Dirty,
    /// Written and read back.
    Written,
    /// Bears something that is none of ours; for tests of the wipe guard.
    Foreign,
}

impl Disk {
    /// The table with the ticket's GUID stands, everything of before is gone.
    pub fn begin(&mut self, ticket: &WriteTicket) {
        *self = Disk {
            state: DiskState::Dirty,
            wipes: self.wipes + 1,
            guid: Some(ticket.disk_guid),
            ticket: Some(ticket.id.clone()),
            ..Disk::default()
        };
    }

    /// Everything stands, read back.
    pub fn complete(&mut self, ticket: &WriteTicket, key: &HostKey) {
        self.state = DiskState::Written;
        self.system_sha256 = Some(ticket.system_sha256.clone());
        self.identify(ticket, key);
    }

    /// The keys of this boot, which are those that the claim told.
    pub fn identify(&mut self, ticket: &WriteTicket, key: &HostKey) {
        self.node = Some(ticket.node.clone());
        self.host_key = Some(key.clone());
    }

    /// Whether this very ticket was carried out to its end before.
    pub fn bears(&self, ticket: &WriteTicket) -> bool {
        self.state == DiskState::Written
            && self.guid == Some(ticket.disk_guid)
            && self.ticket.as_ref() == Some(&ticket.id)
            && self.system_sha256.as_ref() == Some(&ticket.system_sha256)
    }

    pub fn is_bootable(&self) -> bool {
        self.state == DiskState::Written
    }

    /// As an installer sees it.
    pub fn shown(&self, serial: &str, size_bytes: u64) -> Shown {
        let table =
            |guid: Uuid| Signature { kind: "gpt".into(), offset_bytes: 512, label: None, uuid: Some(guid.to_string()) };
        let signatures = match self.state {
            DiskState::Blank => vec![],
            DiskState::Dirty | DiskState::Written => self.guid.map(table).into_iter().collect(),
            DiskState::Foreign => {
                vec![Signature { kind: "ext4".into(), offset_bytes: 1080, label: Some("payroll".into()), uuid: None }]
            }
        };
        Shown {
            name: "vda".into(),
            serial: Some(serial.to_owned()),
            wwn: None,
            model: None,
            size_bytes,
            content: Content { disk_guid: self.guid, signatures, first_nonzero_byte: None },
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use rackctl_wire::PROTOCOL;

    pub fn ticket() -> WriteTicket {
        WriteTicket {
            id: "t-1".into(),
            disk_serial: Some("D1".into()),
            disk_wwn: None,
            disk_size_bytes: 1 << 30,
            disk_guid: Uuid::from_u128(5),
            system_sha256: "ab".repeat(32),
            node: NodeConfig {
                protocol: PROTOCOL,
                node: "n1".into(),
                fleet: "f".into(),
                run: "r".into(),
                generation: 1,
                hostname: "n1".into(),
                interfaces: vec![],
                authorized_keys: vec![],
                dns: vec![],
            },
        }
    }

    #[test]
    fn a_write_that_broke_off_is_seen_counted_and_boots_nothing() {
        let (ticket, key) = (ticket(), HostKey::generate().unwrap());
        let mut disk = Disk::default();
        assert!(disk.shown("D1", 1).content.is_blank());
        disk.begin(&ticket);
        assert!(!disk.is_bootable() && !disk.bears(&ticket) && disk.wipes == 1);
        assert_eq!(disk.shown("D1", 1).content.disk_guid, Some(ticket.disk_guid));
        disk.begin(&ticket);
        disk.complete(&ticket, &key);
        assert!(disk.is_bootable() && disk.bears(&ticket) && disk.wipes == 2);
        assert!(!disk.bears(&WriteTicket { id: "t-2".into(), ..ticket.clone() }));
        disk.etcd_enabled = true;
        disk.begin(&ticket);
        assert!(!disk.etcd_enabled && disk.host_key.is_none(), "data dies with a wipe");
    }

    #[test]
    fn a_foreign_disk_is_not_blank() {
        let disk = Disk { state: DiskState::Foreign, ..Disk::default() };
        assert!(!disk.shown("D1", 1).content.is_blank() && !disk.is_bootable());
    }
}
