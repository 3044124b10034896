//! What `rackctl` and the node program say to each other: values only, no I/O.
//!
//! The installer talks to the provisioning API over HTTPS (server key pinned, see [`cmdline::PIN`]):
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/claim` | [`Claim`] | [`ClaimAnswer`]; a repeated claim with the same `attempt` gets the same answer |
//! | `POST /v1/report` with `Authorization: Bearer <session>` | [`Report`] | [`Directive`] |
//!
//! Errors are any status ≥ 400 with an [`ApiError`]. The installer reports at least every
//! [`REPORT_INTERVAL_MS`] and does what the last directive says; it keeps trying while the API is
//! away, because the operator's process may have crashed and be resumed.
//!
//! Installed nodes are spoken to over SSH alone: `rackctl-node status` prints a [`NodeStatus`],
//! `rackctl-node etcd start` reads an [`EtcdMember`] from standard input, `rackctl-node etcd stop` stops it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod gpt;
pub mod image;
pub mod installer_line;
pub mod member;
pub mod openssh;
pub mod ticket;

/// Version of everything in this crate. Either side refuses another one by name.
pub const PROTOCOL: u32 = 1;
/// The installer says where it stands at least this often.
pub const REPORT_INTERVAL_MS: u64 = 1_000;
/// How long the installer keeps trying to reach an API that does not answer before it stops and says so.
pub const API_PATIENCE_S: u64 = 1_800;
/// Largest body that either side of the API accepts.
pub const BODY_MAX_BYTES: usize = 1 << 20;

/// Keys of the kernel command line of the installer. None of the values is secret: the one-time
/// token travels in the [`Seed`], which the kernel does not print.
pub mod cmdline {
    /// Name of the node.
    pub const NODE: &str = "rackctl.node";
    /// `https://ADDRESS:PORT` of the provisioning API.
    pub const API: &str = "rackctl.api";
    /// `sha256:HEX` over the SubjectPublicKeyInfo of the API's certificate.
    pub const PIN: &str = "rackctl.pin";
    /// `http://ADDRESS:PORT` of the asset server; objects are at `/o/HEX`.
    pub const ASSETS: &str = "rackctl.assets";
    /// `sha256:HEX` of the second stage.
    pub const STAGE2: &str = "rackctl.stage2";
    /// `sha256:HEX` of the system bundle (see [`crate::image`]).
    pub const SYSTEM: &str = "rackctl.system";
    /// MAC address of the provisioning interface.
    pub const MAC: &str = "rackctl.mac";
    /// `ADDRESS/PREFIX` of the provisioning interface: no DHCP client is needed in the installer.
    pub const ADDRESS: &str = "rackctl.address";
    /// Default gateway, if there is one.
    pub const GATEWAY: &str = "rackctl.gateway";
}

/// Where the seed stands in the installer's initramfs: a second cpio archive, served to one machine only.
pub const SEED_PATH: &str = "/rackctl/seed.json";

/// What only this boot of this machine may know.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    pub protocol: u32,
    pub node: String,
    /// One-time token, 128 bits in hex.
    pub token: String,
}

/// What the firmware says of the machine (SMBIOS, through `/sys/class/dmi/id`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MachineIds {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board_serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    #[serde(default)]
    pub macs: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Disk {
    /// Kernel name, `vda`: for people; never used to choose a disk.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub size_bytes: u64,
    pub content: Content,
}

/// The machine beside its disks, for the inventory: no decision that destroys rests on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Hardware {
    /// Its firmware started the kernel as UEFI does; else BIOS.
    pub uefi: bool,
    /// Model of its first processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    #[serde(default)]
    pub interfaces: Vec<Nic>,
}

/// A network interface with a device behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Nic {
    /// The kernel's name in the installer; the installed system may have another.
    pub name: String,
    /// Lower case, with colons.
    pub mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// It has a carrier; `None`: it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<u32>,
}

/// What was found on a disk, read only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Content {
    /// GUID of the GPT, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_guid: Option<Uuid>,
    /// Everything recognised: partition tables, file systems, RAID, LVM, LUKS, ZFS, each with its place.
    #[serde(default)]
    pub signatures: Vec<Signature>,
    /// First non-zero byte in the sampled ranges where nothing was recognised. `None`: the samples are all zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_nonzero_byte: Option<u64>,
}

impl Content {
    /// Nothing recognised and nothing but zeros in the sampled ranges.
    pub fn is_blank(&self) -> bool {
        self.signatures.is_empty() && self.first_nonzero_byte.is_none()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Signature {
    /// `gpt`, `mbr`, `ext4`, `xfs`, `btrfs`, `vfat`, `squashfs`, `luks`, `lvm2`, `mdraid`, `zfs`, `swap`, `bcachefs`…
    pub kind: String,
    pub offset_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Claim {
    pub protocol: u32,
    pub node: String,
    pub token: String,
    /// Random id of this boot of the installer (128 bits in hex): who has claimed claims again with the same.
    pub attempt: String,
    /// MAC address that the machine booted from.
    pub mac: String,
    pub machine: MachineIds,
    /// SSH host key of the installer, `ssh-ed25519 AAAA…`. Its private half never leaves the machine.
    pub installer_host_key: String,
    /// SSH host key that the installed system will have. Made here too: a key that is never sent cannot leak.
    pub system_host_key: String,
    pub boot_id: String,
    pub cores: u32,
    pub memory_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClaimAnswer {
    pub protocol: u32,
    /// Bearer of the reports that follow.
    pub session: String,
    /// Who may log in to the installer as root.
    pub authorized_keys: Vec<String>,
    /// Seconds since 1970: a fresh machine's clock may say anything.
    pub time_unix_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    Claimed,
    /// Fetching and checking the second stage.
    SecondStage,
    /// Looking at the disks, read only.
    Examining,
    /// Disks are known ([`Report::disks`]); waiting for the wipe ticket.
    Ready,
    /// Fetching and checking the system bundle.
    Fetching,
    Writing,
    ReadBack,
    BootSetup,
    /// The disk bears the ticket's GUID and everything read back is what was written.
    Written,
    /// The order to restart was taken: nothing comes after this report in this boot. A server that does not know
    /// this stage hears of the restart by the silence that follows.
    Restarting,
    /// Stopped; [`Report::error`] says why. Nothing more will be done in this boot.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Report {
    pub protocol: u32,
    pub node: String,
    pub boot_id: String,
    pub stage: Stage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// From [`Stage::Ready`] on: every disk of the machine, as it was before anything was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<Vec<Disk>>,
    /// From [`Stage::Ready`] on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Hardware>,
    /// From [`Stage::Fetching`] on: the ticket that is being carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StageError>,
    /// Milliseconds since the kernel started, and those at which each stage began: the machine's own time.
    pub uptime_ms: u64,
    #[serde(default)]
    pub stage_started_ms: Vec<(Stage, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StageError {
    /// The stage in which it happened.
    pub stage: Stage,
    /// `digestMismatch`, `diskNotFound`, `io`, `network`, `space`, `unsupported`…
    pub kind: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Directive {
    /// Nothing yet; `reason` is for the console.
    Wait { reason: String },
    /// Write, once. The same ticket again is no new order.
    Write(Box<WriteTicket>),
    /// Sync and restart. Given only after network boot was withdrawn.
    Reboot,
    /// Touch nothing, say why on the console, stay reachable by SSH.
    Stop { reason: String },
}

/// The right to destroy what is on one disk of one machine, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WriteTicket {
    pub id: String,
    /// The disk, by serial or by WWN; exactly one disk must match, and its size must be the one reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_wwn: Option<String>,
    pub disk_size_bytes: u64,
    /// GUID for the new GPT: uuidv5 of run, node and disk, the mark by which a later look knows this very write.
    pub disk_guid: Uuid,
    /// SHA-256 (hex) of the system bundle; must equal the one on the command line.
    pub system_sha256: String,
    pub node: NodeConfig,
}

/// Stands on the data partition of an installed node as `node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeConfig {
    pub protocol: u32,
    pub node: String,
    pub fleet: String,
    pub run: String,
    /// Counts the installations of this node: a machine that comes back with an older one is stale.
    pub generation: u64,
    pub hostname: String,
    /// MAC of the interface, `ADDRESS/PREFIX`, gateway.
    pub interfaces: Vec<InterfaceConfig>,
    pub authorized_keys: Vec<String>,
    #[serde(default)]
    pub dns: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InterfaceConfig {
    pub mac: String,
    pub addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// What an installed node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeStatus {
    pub protocol: u32,
    pub config: NodeConfig,
    pub boot_id: String,
    pub uptime_ms: u64,
    /// `a` or `b`: the root that is running.
    pub slot: String,
    /// The disk that the root was mounted from: proof that the machine came up from it.
    pub root_disk_guid: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk_serial: Option<String>,
    pub system_sha256: String,
    pub machine: MachineIds,
    /// Its wall clock when it answered, milliseconds since 1970; absent from older installations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdStatus>,
}

/// How etcd is to be run on a node; kept there as `etcd.json`, started again at every boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EtcdMember {
    pub protocol: u32,
    /// Must equal [`NodeConfig::generation`]: a stale installation never starts a member.
    pub generation: u64,
    pub cluster: String,
    pub name: String,
    /// `new` only under the bootstrap ticket, else `existing`.
    pub initial_cluster_state: String,
    /// `name=peerURL,…`
    pub initial_cluster: String,
    /// Fresh for every bootstrap: etcd's cluster id is derived from it.
    pub initial_cluster_token: String,
    pub listen_client_urls: String,
    pub advertise_client_urls: String,
    pub listen_peer_urls: String,
    pub initial_advertise_peer_urls: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EtcdStatus {
    pub configured: EtcdMember,
    pub running: bool,
    /// Times that it was started since boot, and the last exit, if it exited.
    pub starts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Whether its data directory holds a write-ahead log.
    pub has_data: bool,
    /// Last lines of its log, cleaned.
    #[serde(default)]
    pub log_tail: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiError {
    /// `unknownToken`, `tokenUsed`, `identityMismatch`, `unknownSession`, `protocol`, `tooLarge`…
    pub kind: String,
    pub message: String,
}
