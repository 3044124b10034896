//! The files on the data partition by which a disk is known later.

use crate::node_error::{Doing, NodeError, Result};
use rackctl_wire::{NodeConfig, PROTOCOL, WriteTicket};
use serde::{Deserialize, Serialize};
use std::path::Path;
use uuid::Uuid;

pub const NODE: &str = "node.json";
pub const INSTALLED: &str = "installed.json";
pub const HOST_KEY: &str = "ssh/ssh_host_ed25519_key";
pub const AUTHORIZED_KEYS: &str = "ssh/authorized_keys";
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Written last: what it names stands on this disk, whole and read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Installed {
    pub protocol: u32,
    pub ticket: String,
    pub system_sha256: String,
    pub disk_guid: Uuid,
}

impl Installed {
    pub fn of(ticket: &WriteTicket) -> Self {
        Self {
            protocol: PROTOCOL,
            ticket: ticket.id.clone(),
            system_sha256: ticket.system_sha256.clone(),
            disk_guid: ticket.disk_guid,
        }
    }
}

pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let length = std::fs::metadata(path).doing(format_args!("reading {}", path.display()))?.len();
    if length > FILE_MAX_BYTES {
        return Err(NodeError::new("io", format!("{} is too large", path.display())));
    }
    let bytes = std::fs::read(path).doing(format_args!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).doing(format_args!("reading {}", path.display()))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).doing("encoding JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Everything that makes the disk this node's, but for the marker.
pub fn write_identity(data: &Path, node: &NodeConfig, host_key: &str, host_key_public: &str) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    for dir in ["ssh", "log", "etcd"] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data.join(dir))
            .doing(format_args!("making {dir} on the data partition"))?;
    }
    crate::files::write_atomic(&data.join(HOST_KEY), host_key.as_bytes(), 0o600)?;
    crate::files::write_atomic(
        &data.join(HOST_KEY).with_extension("pub"),
        format!("{host_key_public}\n").as_bytes(),
        0o644,
    )?;
    let keys: String = node.authorized_keys.iter().map(|key| format!("{key}\n")).collect();
    crate::files::write_atomic(&data.join(AUTHORIZED_KEYS), keys.as_bytes(), 0o600)?;
    crate::files::write_atomic(&data.join(NODE), &json(node)?, 0o644)
}

pub fn write_marker(data: &Path, installed: &Installed) -> Result<()> {
    crate::files::write_atomic(&data.join(INSTALLED), &json(installed)?, 0o644)
}

/// Whether the data partition says that this very ticket was carried out to the end.
pub fn is_complete(data: &Path, ticket: &WriteTicket) -> bool {
    read::<Installed>(&data.join(INSTALLED)).is_ok_and(|installed| installed == Installed::of(ticket))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn ticket() -> WriteTicket {
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
                authorized_keys: vec!["ssh-ed25519 AAAA op".into()],
                dns: vec![],
            },
        }
    }

    // fault: F35 harness: D
    #[test]
    fn the_marker_is_of_one_ticket_and_one_system() {
        let dir = tempfile::tempdir().unwrap();
        let ticket = ticket();
        assert!(!is_complete(dir.path(), &ticket));
        write_identity(dir.path(), &ticket.node, "KEY", "ssh-ed25519 AAAA").unwrap();
        assert!(!is_complete(dir.path(), &ticket));
        write_marker(dir.path(), &Installed::of(&ticket)).unwrap();
        assert!(is_complete(dir.path(), &ticket));
        for change in [
            |t: &mut WriteTicket| t.id.push('x'),
            |t: &mut WriteTicket| t.system_sha256.push('x'),
            |t: &mut WriteTicket| t.disk_guid = Uuid::nil(),
        ] {
            let mut other = ticket.clone();
            change(&mut other);
            assert!(!is_complete(dir.path(), &other));
        }
        assert_eq!(read::<NodeConfig>(&dir.path().join(NODE)).unwrap(), ticket.node);
        assert_eq!(std::fs::read_to_string(dir.path().join(AUTHORIZED_KEYS)).unwrap(), "ssh-ed25519 AAAA op\n");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(dir.path().join(HOST_KEY)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
