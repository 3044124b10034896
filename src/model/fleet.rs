//! What should be: the inventory after resolution, defaults and templates.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Mac,
    baseline::Baseline,
    playbook::Playbook,
    rollout::{ChangeWindow, DomainLimits, Rollout},
};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    /// Derived from the canonical paths that it was loaded from (or from a `fleet` label): keys the default store.
    pub id: String,
    /// Names the laboratory that the fleet is, if it is one; shown first in every plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    pub sites: BTreeMap<String, Site>,
    pub networks: BTreeMap<String, Network>,
    pub hardware_classes: BTreeMap<String, HardwareClass>,
    pub profiles: BTreeMap<String, Profile>,
    pub nodes: BTreeMap<String, Node>,
    pub clusters: BTreeMap<String, Cluster>,
    pub images: BTreeMap<String, Image>,
    pub credentials: BTreeMap<String, Credential>,
    pub playbooks: BTreeMap<String, Playbook>,
    /// Where each object stands: `kind/name` → `file:line`.
    pub places: BTreeMap<String, String>,
    /// Where a node's value comes from: node → path (`bootMode`) → `HardwareClass/r750`.
    pub origins: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Site {
    pub domain: Option<String>,
    pub ntp: Vec<String>,
    pub dns: Vec<Ipv4Addr>,
    pub ssh: SshSpec,
    /// When what reboots or wipes may begin; empty: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub change_windows: Vec<ChangeWindow>,
    /// How much of a failure domain may be unavailable at once.
    #[serde(default)]
    pub disruption: DomainLimits,
    /// A second person approves what destroys data.
    #[serde(default)]
    pub second_operator: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshSpec {
    pub user: Option<String>,
    /// Absolute after resolution.
    pub identity: Option<PathBuf>,
    pub authorized_keys: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    pub interface: String,
    /// Name under `/run/netns` that the servers and clients of a run enter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    pub subnets: Vec<Subnet>,
    pub mtu: u16,
    pub dhcp: DhcpMode,
    pub lease_s: u32,
    /// How long another DHCP server is listened for before ours answers first; zero: not at all.
    #[serde(default = "probe_ms")]
    pub probe_ms: u32,
    pub http_port: u16,
    pub api_port: u16,
}

/// Servers that look whether an address is free before they offer it do so for three seconds.
pub const PROBE_MS: u32 = 3_500;

fn probe_ms() -> u32 {
    PROBE_MS
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    pub cidr: Ipv4Net,
    pub gateway: Option<Ipv4Addr>,
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    pub relays: Vec<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DhcpMode {
    /// We are the DHCP server of this network.
    #[default]
    Authoritative,
    /// Another server gives addresses; we add what to boot.
    Proxy,
    Off,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    #[default]
    Amd64,
    Arm64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootMode {
    #[default]
    Uefi,
    Bios,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootMethod {
    #[default]
    Pxe,
    UefiHttp,
    VirtualMedia,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    #[default]
    Active,
    Spare,
    Maintenance,
    Decommissioned,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Management {
    #[default]
    Full,
    Power,
    Observe,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub site: Option<String>,
    pub hardware_class: Option<String>,
    pub profile: Option<String>,
    pub lifecycle: Lifecycle,
    pub management: Management,
    pub protect: bool,
    pub identity: Identity,
    pub bmc: Option<Bmc>,
    pub interfaces: Vec<Interface>,
    pub disks: BTreeMap<String, DiskRule>,
    pub location: Location,
    pub arch: Arch,
    pub boot_mode: BootMode,
    pub boot_method: BootMethod,
    /// `ttyS0,115200`
    pub console: Option<String>,
    pub minimum: Minimum,
    /// What boots for the installation.
    pub image: Option<String>,
    pub kernel_params: Vec<String>,
    pub install: Option<Install>,
    pub services: Vec<String>,
    pub ssh: SshSpec,
    pub dns: Vec<Ipv4Addr>,
    /// What its BIOS, firmware and volumes are to be.
    #[serde(default, skip_serializing_if = "Baseline::is_unsaid")]
    pub baseline: Baseline,
}

impl Node {
    /// The interface that it boots from: role `provision`, else the first one.
    pub fn provision(&self) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.role.as_deref() == Some("provision")).or(self.interfaces.first())
    }
    /// The disk rule whose use is `root`.
    pub fn root_disk(&self) -> Option<(&String, &DiskRule)> {
        self.disks.iter().find(|(_, rule)| rule.use_for == DiskUse::Root)
    }
    /// First address of the provisioning interface.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.provision().and_then(|i| i.addresses.first()).map(|a| a.addr())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub serial: Option<String>,
    pub uuid: Option<Uuid>,
    pub serial_from: SerialFrom,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SerialFrom {
    #[default]
    SerialNumber,
    /// Dell's service tag stands in SKU.
    Sku,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bmc {
    /// Tried in this order.
    pub endpoints: Vec<Endpoint>,
    pub system: Option<String>,
    pub mac: Option<Mac>,
    pub shared_nic: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub at: EndpointAt,
    /// Name of a Credential.
    pub credential: String,
    pub trust: Trust,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointAt {
    /// `https://HOST[:PORT]`, without a trailing slash.
    Redfish(String),
    Ipmi(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trust {
    /// `sha256:HEX` of the SubjectPublicKeyInfo.
    Pin(String),
    /// Absolute path of a PEM file.
    Ca(PathBuf),
    /// Nothing said yet: no request is sent; `rackctl bmc trust` sets it.
    #[default]
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    pub name: Option<String>,
    pub mac: Mac,
    pub network: Option<String>,
    pub role: Option<String>,
    pub addresses: Vec<Ipv4Net>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskRule {
    pub serial: Option<String>,
    pub wwn: Option<String>,
    /// `*` stands for any text.
    pub model: Option<String>,
    pub min_size_bytes: Option<u64>,
    pub max_size_bytes: Option<u64>,
    pub use_for: DiskUse,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskUse {
    Root,
    #[default]
    Keep,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    pub rack: Option<String>,
    pub unit: Option<u32>,
    pub power: Option<String>,
    pub chassis: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Minimum {
    pub cores: Option<u32>,
    pub memory_bytes: Option<u64>,
}

/// A closed set of drivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Install {
    /// Our own installer writes a system image: the name of an Image whose build has a system.
    Image { system: String },
    /// `flake#attribute`, run from the installer of the node's image.
    NixosAnywhere { flake: String, extra_args: Vec<String> },
    /// An operator's own program: argv, JSON on standard input, with phases and deadlines.
    Exec { command: Vec<String>, deadline_s: u64 },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HardwareClass {
    /// As written; what a machine of it is to be stands in [`Node::baseline`].
    pub bios: BTreeMap<String, serde_json::Value>,
    pub firmware: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub image: Option<String>,
    pub services: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub name: String,
    pub driver: ClusterDriver,
    /// Names of the nodes that the selector chose, active ones only, in order: the desired voters.
    pub members: Vec<String>,
    pub size: u32,
    pub spares: Vec<String>,
    pub depends_on: Vec<String>,
    pub rollout: Rollout,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ClusterDriver {
    Etcd {
        version: String,
        client_port: u16,
        peer_port: u16,
    },
    /// Named in the inventory and not driven by this version: planning it is refused by name.
    Other {
        kind: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Image {
    /// `debian-12`: built by our own image code.
    Distro {
        distro: String,
        arch: Arch,
        packages: Vec<String>,
    },
    Nix {
        flake: String,
    },
    /// Ready files, each with its SHA-256 in hex.
    Files {
        kernel: PathBuf,
        kernel_sha256: String,
        initrd: PathBuf,
        initrd_sha256: String,
        cmdline: String,
        /// What an installer of ours fetches and writes; without them it boots and installs nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage2: Option<ReadyFile>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        system: Option<ReadyFile>,
        /// Network loaders by the names under which TFTP serves them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        loaders: BTreeMap<String, ReadyFile>,
    },
}

/// A file that is there, and the SHA-256 that it must have, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyFile {
    pub path: PathBuf,
    pub sha256: String,
}

/// Where a password comes from: never the password itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    pub username: String,
    pub password_from: SecretSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SecretSource {
    /// `service/user`
    Keyring(String),
    Exec {
        command: Vec<String>,
    },
    /// Absolute path; refused when others can read it.
    File(PathBuf),
    Env(String),
    Age(PathBuf),
    Sops(PathBuf),
}

impl Fleet {
    /// Host and port of a member's client or peer endpoint.
    pub fn member_address(&self, node: &str, port: u16) -> Option<SocketAddr> {
        self.nodes.get(node).and_then(Node::address).map(|a| SocketAddr::from((a, port)))
    }
}
