//! What a laboratory is: names, addresses and machines, derived from a few numbers. Pure.

use std::{net::Ipv4Addr, path::PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{bmc::Faults, simulated::Timing};
use crate::model::{
    Failure, Mac,
    failure::Cause,
    fleet::{BootMode, Lifecycle},
};

/// Interface names, BMC addresses (`.201` on) and the pool (`.100` on) leave room for this many.
pub const MACHINES_MAX: u32 = 50;
/// Longest name: the namespace, the context and the registry entry are made of it.
pub const NAME_MAX: usize = 32;
/// Size of each machine's only disk; a sparse file.
pub const DISK_BYTES: u64 = 4 << 30;
/// Memory of a machine in MiB, either firmware.
pub const MEMORY_MIB: u32 = 512;
/// Longest serial that virtio-blk hands to the guest.
const DISK_SERIAL_MAX: usize = 20;

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    /// Machines with the role `control-plane`.
    pub nodes: u32,
    /// Machines that wait as spares.
    pub spares: u32,
    /// Of the nodes, how many become members of the cluster; default all.
    pub cluster_size: Option<u32>,
    /// Simulated machines instead of emulated ones, and how fast they are.
    pub simulated: Option<Timing>,
    /// How BMCs misbehave from the beginning: of one machine by its name, or of all.
    pub bmc_faults: Vec<(Option<String>, Faults)>,
    /// Where everything of it is kept; default `$XDG_STATE_HOME/rackctl/labs/NAME`.
    pub dir: Option<PathBuf>,
    /// The program that is run as `PROGRAM __lab-supervisor DIR`; default this very program.
    pub program: Option<PathBuf>,
}

impl Spec {
    pub fn new(name: impl Into<String>) -> Self {
        Spec {
            name: name.into(),
            nodes: 3,
            spares: 0,
            cluster_size: None,
            simulated: None,
            bmc_faults: Vec::new(),
            dir: None,
            program: None,
        }
    }
}

/// A laboratory as it stands in `lab.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lab {
    /// Shape of this file.
    pub version: u32,
    pub name: String,
    /// Random per creation: two laboratories of one name are not the same machines.
    pub id: Uuid,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub machines: Vec<MachineSpec>,
    /// How many of them are the cluster's; `None`: all active ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_size: Option<u32>,
    /// Where the machines are simulated ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Timing>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MachineSpec {
    /// `n1`…
    pub name: String,
    pub lifecycle: Lifecycle,
    pub firmware: BootMode,
    pub identity: Identity,
    pub mac: Mac,
    /// On the provisioning network, /24.
    pub address: Ipv4Addr,
    pub bmc_address: Ipv4Addr,
    pub memory_mib: u32,
    pub disk_bytes: u64,
    /// How its BMC misbehaves all its life.
    #[serde(default, skip_serializing_if = "Faults::is_empty")]
    pub bmc_faults: Faults,
}

/// What a machine says that it is. Tests swap parts of it while the laboratory runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Identity {
    /// SMBIOS type 1, and what the BMC reports.
    pub serial: String,
    pub uuid: Uuid,
    /// At most 20 bytes, all that virtio-blk carries.
    pub disk_serial: String,
}

/// Those of all machines, then its own over them.
fn faults_of(spec: &Spec, node: &str) -> Faults {
    let mut faults = Faults::default();
    for of_all in [true, false] {
        for (named, more) in &spec.bmc_faults {
            if (of_all && named.is_none()) || (!of_all && named.as_deref() == Some(node)) {
                faults = more.over(&faults);
            }
        }
    }
    faults
}

impl Lab {
    pub const VERSION: u32 = 1;

    /// The machines of `spec`: n1…nN, then the spares; every third one boots BIOS.
    pub fn plan(spec: &Spec, id: Uuid, created_ms: u64) -> Result<Lab, Failure> {
        check_name(&spec.name)?;
        let count = spec.nodes.saturating_add(spec.spares);
        if spec.nodes == 0 || count > MACHINES_MAX {
            return Err(Failure::new(
                Cause::Refused,
                format!("lab {}: plan the machines", spec.name),
                format!(
                    "{} nodes and {} spares: at least one node and at most {MACHINES_MAX} machines are possible",
                    spec.nodes, spec.spares
                ),
            )
            .next(format!("rackctl lab create {} --nodes 3 --spares 1", spec.name)));
        }
        if let Some(size) = spec.cluster_size.filter(|size| *size == 0 || *size > spec.nodes) {
            return Err(Failure::new(
                Cause::Refused,
                format!("lab {}: plan the cluster", spec.name),
                format!("a cluster of {size} cannot be made of {} nodes", spec.nodes),
            )
            .next(format!("rackctl lab create {} --nodes {} --cluster-size {}", spec.name, spec.nodes, spec.nodes)));
        }
        let machines = (1..=count)
            .map(|i| {
                let name = format!("n{i}");
                // Not more than 50, see above: neither byte overflows.
                let low = i as u8;
                MachineSpec {
                    lifecycle: if i <= spec.nodes { Lifecycle::Active } else { Lifecycle::Spare },
                    firmware: firmware(i),
                    identity: Identity {
                        serial: format!("LAB-{}-{name}", spec.name),
                        uuid: Uuid::new_v5(&id, name.as_bytes()),
                        disk_serial: disk_serial(&spec.name, &name),
                    },
                    mac: Mac([0x52, 0x54, 0x00, 0x77, Sha256::digest(spec.name.as_bytes())[0], low]),
                    address: Ipv4Addr::new(10, 77, 0, 10 + low),
                    bmc_address: Ipv4Addr::new(10, 77, 0, 200 + low),
                    memory_mib: MEMORY_MIB,
                    disk_bytes: DISK_BYTES,
                    bmc_faults: faults_of(spec, &name),
                    name,
                }
            })
            .collect::<Vec<MachineSpec>>();
        for (named, _) in &spec.bmc_faults {
            if let Some(node) = named.as_ref().filter(|node| !machines.iter().any(|m| m.name == **node)) {
                return Err(unknown_node(&spec.name, node, &machines));
            }
        }
        Ok(Lab {
            version: Self::VERSION,
            name: spec.name.clone(),
            id,
            created_ms,
            machines,
            cluster_size: spec.cluster_size.filter(|size| *size < spec.nodes),
            simulated: spec.simulated.clone(),
        })
    }

    /// Active machines that are not the cluster's come after those that are.
    pub fn is_member(&self, machine: &MachineSpec) -> bool {
        let place = self.machines.iter().position(|m| m.name == machine.name).unwrap_or(usize::MAX);
        machine.lifecycle == Lifecycle::Active && self.cluster_size.is_none_or(|size| place < size as usize)
    }

    /// The network namespace, a name under `/run/netns`.
    pub fn netns(&self) -> String {
        netns(&self.name)
    }

    pub fn machine(&self, node: &str) -> Result<&MachineSpec, Failure> {
        self.machines.iter().find(|m| m.name == node).ok_or_else(|| unknown_node(&self.name, node, &self.machines))
    }
}

pub fn netns(lab: &str) -> String {
    format!("rackctl-{lab}")
}

pub fn unknown_node(lab: &str, node: &str, machines: &[MachineSpec]) -> Failure {
    let names: Vec<&str> = machines.iter().map(|m| m.name.as_str()).collect();
    Failure::new(
        Cause::Refused,
        format!("lab {lab}: find machine {node}"),
        format!("there is no such machine; it has {}", names.join(", ")),
    )
    .next("rackctl lab list")
}

/// Two UEFI machines and one BIOS machine, then alternating, so that any size has both.
fn firmware(i: u32) -> BootMode {
    match i {
        1 | 2 => BootMode::Uefi,
        _ if i % 2 == 1 => BootMode::Bios,
        _ => BootMode::Uefi,
    }
}

/// `LAB-NAME-n1` where that fits, else the name is cut and told apart by its digest.
fn disk_serial(lab: &str, node: &str) -> String {
    let whole = format!("LAB-{lab}-{node}");
    if whole.len() <= DISK_SERIAL_MAX {
        return whole;
    }
    let digest = hex::encode(Sha256::digest(lab.as_bytes()));
    format!("LAB-{}{}-{node}", &lab[..4], &digest[..6])
}

/// Lower-case letters, digits and inner hyphens: it becomes part of file, namespace and context names.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= NAME_MAX
        && bytes.iter().all(|b| plain(*b) || *b == b'-')
        && bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain);
    if good {
        return Ok(());
    }
    Err(Failure::new(
        Cause::Refused,
        "lab: check the name",
        format!("`{name}` is not 1 to {NAME_MAX} lower-case letters, digits and inner hyphens"),
    )
    .next("rackctl lab create demo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str, nodes: u32, spares: u32) -> Result<Lab, Failure> {
        Lab::plan(&Spec { nodes, spares, ..Spec::new(name) }, Uuid::nil(), 0)
    }

    #[test]
    fn default_is_two_uefi_and_one_bios() {
        let lab = plan("demo", 3, 2).unwrap();
        let firmware: Vec<_> = lab.machines.iter().map(|m| m.firmware).collect();
        use BootMode::{Bios, Uefi};
        assert_eq!(firmware, [Uefi, Uefi, Bios, Uefi, Bios]);
        let spares: Vec<_> =
            lab.machines.iter().filter(|m| m.lifecycle == Lifecycle::Spare).map(|m| m.name.as_str()).collect();
        assert_eq!(spares, ["n4", "n5"]);
    }

    #[test]
    fn a_smaller_cluster_is_of_the_first_nodes() {
        let lab = Lab::plan(&Spec { cluster_size: Some(2), spares: 1, ..Spec::new("demo") }, Uuid::nil(), 0).unwrap();
        let members: Vec<_> = lab.machines.iter().filter(|m| lab.is_member(m)).map(|m| m.name.as_str()).collect();
        assert_eq!(members, ["n1", "n2"]);
        let text = serde_json::to_string(&plan("demo", 3, 0).unwrap()).unwrap();
        assert!(!text.contains("simulated") && !text.contains("clusterSize"), "older files stay as they are");
    }

    #[test]
    fn nothing_is_shared_between_machines_or_laboratories() {
        let mut seen = std::collections::BTreeSet::new();
        for (name, id) in [("demo", Uuid::from_u128(1)), ("other", Uuid::from_u128(2))] {
            let lab = Lab::plan(&Spec { nodes: 50, ..Spec::new(name) }, id, 0).unwrap();
            for m in lab.machines {
                for text in [m.mac.to_string(), m.identity.serial, m.identity.uuid.to_string()] {
                    assert!(seen.insert(text.clone()), "{text} twice");
                }
                assert!(u32::from(m.address) < u32::from(Ipv4Addr::new(10, 77, 0, 100)), "in the pool: {}", m.address);
            }
        }
    }

    #[test]
    fn disk_serials_fit_and_differ_whatever_the_name() {
        let mut seen = std::collections::BTreeSet::new();
        for name in ["demo", "acceptance-run-of-tuesday-1", "acceptance-run-of-tuesday-2"] {
            for m in plan(name, 50, 0).unwrap().machines {
                assert!(m.identity.disk_serial.len() <= DISK_SERIAL_MAX, "{}", m.identity.disk_serial);
                assert!(seen.insert(m.identity.disk_serial));
            }
        }
        assert_eq!(disk_serial("demo", "n1"), "LAB-demo-n1");
    }

    #[test]
    fn refuses_names_and_sizes_by_name() {
        for name in ["", "-a", "a-", "A", "a/b", "..", "a b", &"a".repeat(33)] {
            assert!(plan(name, 3, 0).is_err(), "{name:?}");
        }
        for size in [0, 4] {
            let spec = Spec { cluster_size: Some(size), ..Spec::new("demo") };
            assert!(Lab::plan(&spec, Uuid::nil(), 0).is_err(), "{size} of 3");
        }
        for (nodes, spares) in [(0, 1), (51, 0), (25, 26), (u32::MAX, 1)] {
            assert!(plan("demo", nodes, spares).is_err(), "{nodes}+{spares}");
        }
    }
}
