//! What is, as observed: each fact with its source and time.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Failure, Mac,
    power::{BootOverride, PowerState},
};

/// Milliseconds since 1970, for people; decisions inside a process use the boot-time clock.
pub type UnixMs = u64;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    pub nodes: BTreeMap<String, NodeFacts>,
    pub clusters: BTreeMap<String, Observed<ClusterFacts>>,
    /// Other DHCP servers that answered a probe, per network.
    pub rogue_dhcp: BTreeMap<String, Vec<Ipv4Addr>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed<T> {
    pub at: UnixMs,
    pub value: Result<T, Failure>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc: Option<Observed<BmcFacts>>,
    /// What the machine's baseline is compared with; absent: it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<super::baseline::BaselineFacts>,
    /// Identities that the BMC reports otherwise than the inventory, each with both values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_mismatches: Vec<String>,
    /// What the installed system says over SSH, with the pinned host key. An error is "no such answer".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Observed<rackctl_wire::NodeStatus>>,
    /// What the store remembers of the last installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<NodeRecord>,
}

/// The machine as its BMC describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BmcFacts {
    /// The endpoint that answered.
    pub endpoint: String,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub serial: Option<String>,
    pub sku: Option<String>,
    pub uuid: Option<Uuid>,
    pub power: PowerState,
    pub boot: Option<BootOverride>,
    /// Overrides that the BMC offers.
    pub boot_targets: Vec<super::power::BootTarget>,
    pub drives: Vec<DriveFacts>,
    pub macs: Vec<Mac>,
    pub cores: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub bios_version: Option<String>,
    pub bmc_version: Option<String>,
    /// Branches of the BMC that are there and could not be read, with what it said: what they hold is unknown, not absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

impl BmcFacts {
    /// Whether there may be drives that are not among [`BmcFacts::drives`]: where the BMC keeps them could not be read.
    pub fn drives_unread(&self) -> bool {
        let path = |line: &str| line.split(": ").next().unwrap_or_default().to_lowercase();
        self.unread.iter().map(|line| path(line)).any(|path| path.contains("storage") || path.contains("drives"))
    }
}

/// The machine as its installer saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HardwareFacts {
    /// What its firmware says of it (SMBIOS).
    pub machine: rackctl_wire::MachineIds,
    /// Logical processors.
    pub cores: u32,
    /// As far as its kernel has it.
    pub memory_bytes: u64,
    pub disks: Vec<rackctl_wire::Disk>,
    /// `None`: an older installer, which does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<rackctl_wire::Hardware>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriveFacts {
    pub name: String,
    pub serial: Option<String>,
    pub wwn: Option<String>,
    pub model: Option<String>,
    pub size_bytes: Option<u64>,
}

/// Kept in the store, per node, across runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecord {
    pub generation: u64,
    pub run: String,
    /// `installing` from the wipe ticket on, `installed` once it was seen to come up from its disk.
    pub phase: InstallPhase,
    /// `ssh-ed25519 AAAA…` of the installed system; empty where it is not known (phase `unknown`).
    pub system_host_key: String,
    pub disk_guid: Uuid,
    pub disk_serial: Option<String>,
    pub system_sha256: String,
    pub at: UnixMs,
    /// What a write that is not proven yet was to replace: it may be on the disk still. Absent: it was blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Overwritten>,
}

impl NodeRecord {
    /// Whether a system of ours may run on it: also the older one, where a write over it is not proven and the machine
    /// may have come up with what it had.
    pub fn may_serve(&self) -> bool {
        self.phase != InstallPhase::Installing || self.over.is_some_and(|over| over.installed)
    }
}

/// A disk of ours as it was when its next write was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overwritten {
    pub disk_guid: Uuid,
    /// It had been seen to come up; `false`: a write that nobody saw the end of.
    pub installed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InstallPhase {
    Installing,
    Installed,
    /// The state was lost, and what is on the machine could not be told: nothing is installed on it by itself.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// Hex, as etcd prints it.
    pub cluster_id: String,
    pub members: Vec<MemberFacts>,
    /// Member id of the leader, hex.
    pub leader: Option<String>,
    pub alarms: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberFacts {
    /// Hex.
    pub id: String,
    /// Empty: added, never started.
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub learner: bool,
    /// `/health` of its own client URL said so.
    pub healthy: bool,
    pub version: Option<String>,
    pub raft_index: Option<u64>,
}
