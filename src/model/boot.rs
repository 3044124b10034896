//! What the network-boot servers are told, and what they tell.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Mac,
    fleet::{Arch, DhcpMode},
};

/// Immutable; replaced whole when anything changes (invariant 9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BootTable {
    /// Counts the tables of one run.
    pub version: u64,
    pub network: BootNetwork,
    pub machines: Vec<BootMachine>,
    pub objects: Vec<BootObject>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BootNetwork {
    pub name: String,
    pub interface: String,
    /// Our address on that interface: server identifier, next server, and host of every URL.
    pub server: Ipv4Addr,
    pub subnets: Vec<BootSubnet>,
    pub dhcp: DhcpMode,
    pub lease_s: u32,
    /// How long another DHCP server is listened for before the first answer; zero: not at all.
    pub probe_ms: u32,
    pub mtu: u16,
    pub http_port: u16,
    /// The provisioning API in the main process (HTTPS).
    pub api: SocketAddrV4,
    /// `sha256:HEX` of the API's public key.
    pub api_pin: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BootSubnet {
    pub cidr: Ipv4Net,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Relays whose requests are answered; anything else with a giaddr is not.
    #[serde(default)]
    pub relays: Vec<Ipv4Addr>,
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BootMachine {
    pub node: String,
    pub mac: Mac,
    /// A client that names another UUID in option 97 is not this machine. All-zero counts as "not said".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    pub arch: Arch,
    pub address: Ipv4Addr,
    pub hostname: String,
    pub boot: BootChoice,
}

impl std::fmt::Debug for BootMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not derived: the choice may carry the one-time token.
        write!(f, "BootMachine({} {} {})", self.node, self.mac, self.address)
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BootChoice {
    /// Address only: nothing to boot is offered. What a withdrawn machine gets: its firmware goes on to the disk.
    Withdrawn,
    /// iPXE is told to leave and boot the local disk.
    LocalDisk,
    /// Kernel and initrd by digest (hex, both in [`BootTable::objects`]).
    Installer {
        kernel_sha256: String,
        initrd_sha256: String,
        /// Whole words `key=value`, validated: no white space, no `$`, no quotes.
        cmdline: Vec<String>,
        /// The seed (JSON of `rackctl_wire::Seed`): a secret, served as a cpio archive to this machine alone.
        seed_json: String,
    },
}

/// A file that is served at `/o/SHA256` (HTTP), and over TFTP where it has a `tftp_name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BootObject {
    pub sha256: String,
    pub path: std::path::PathBuf,
    pub size_bytes: u64,
    /// `snponly.efi`, `undionly.kpxe`, `ipxe-arm64.efi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tftp_name: Option<String>,
}

/// What the servers saw and did: one line per boot step. Secrets never stand here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum NetbootEvent {
    /// Sockets are open and capabilities dropped.
    Ready {
        version: u64,
    },
    /// A table was taken over.
    TableTaken {
        version: u64,
    },
    /// The servers cannot start or go on: cause and what mends it.
    Failed {
        failure: super::Failure,
    },
    DhcpOffered {
        node: String,
        mac: Mac,
        address: Ipv4Addr,
        client: String,
    },
    DhcpAcked {
        node: String,
        mac: Mac,
        address: Ipv4Addr,
        client: String,
    },
    /// Each packet that is not answered says why (bounded: repeated reasons are counted, not repeated).
    DhcpIgnored {
        mac: Option<Mac>,
        reason: String,
        count: u64,
    },
    TftpSent {
        address: Ipv4Addr,
        name: String,
        bytes: u64,
    },
    TftpRefused {
        address: Ipv4Addr,
        name: String,
        reason: String,
    },
    ScriptServed {
        node: String,
        mac: Mac,
    },
    SeedServed {
        node: String,
        mac: Mac,
    },
    ObjectServed {
        address: Ipv4Addr,
        sha256: String,
        bytes: u64,
        whole: bool,
    },
    HttpRefused {
        address: Ipv4Addr,
        path: String,
        status: u16,
    },
    /// Another DHCP server answered on this network.
    RogueDhcp {
        server: Ipv4Addr,
    },
}

/// Down the socket pair, one JSON document a line: main process → server child.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub enum ServerOrder {
    Serve(Box<BootTable>),
}
