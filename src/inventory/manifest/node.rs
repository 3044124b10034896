//! `kind: Node`

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    hardware_class::{BootSpec, DiskSpec, FirmwareImageSpec, MinimumSpec, RaidSpec},
    profile::{ImageRef, InstallSpec},
    site::SshSpec,
    text::{HostPort, HttpsUrl, InterfaceAddress, Ipv4, MacText, Name, Pin, UuidText},
};
use crate::model::fleet::{Arch, BootMode, Lifecycle, Management, SerialFrom};

/// A machine. Whatever site, hardware class and profile say may be said here anew.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: Node
/// metadata: { name: n1, labels: { role: control-plane } }
/// spec:
///   site: fra1
///   hardwareClass: r750
///   profile: control-plane
///   identity: { serial: F54P1G3, uuid: 4c4c4544-0034-5010-8031-c6c04f474831 }
///   bmc:
///     endpoints:
///       - redfish: "https://10.0.0.11"
///         credential: bmc-default
///         tls: { pin: "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
///       - { ipmi: "10.0.0.11:623", credential: bmc-default }
///     system: "1"
///   interfaces:
///     - { name: eno1, mac: "52:54:00:77:00:01", network: prov, role: provision, addresses: [10.77.0.11/24] }
///   bonds: [{ name: bond0, members: [eno1, eno2], mode: 802.3ad, pxeMember: eno1 }]
///   vlans: [{ name: vlan20, link: bond0, id: 20, network: cluster, addresses: [10.20.0.11/24] }]
///   disks: { root: { match: { serial: S3X1 } } }
///   location: { rack: r1, unit: 12, power: a, chassis: c1 }
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// Name of its Site.
    pub site: Option<Name>,
    /// Name of its HardwareClass.
    pub hardware_class: Option<Name>,
    /// Name of its Profile.
    pub profile: Option<Name>,
    /// `active`, `spare`, `maintenance` or `decommissioned`. Default `active`.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// What rackctl may do at all: `full`, `power` (no disk, no BMC settings) or `observe`. Default `full`.
    #[serde(default)]
    pub management: Management,
    /// True: no power, boot or disk change whatever the plan says. Default false.
    #[serde(default)]
    pub protect: bool,
    /// What the machine says of itself; compared before anything is changed.
    pub identity: Option<IdentitySpec>,
    /// Its management controller.
    pub bmc: Option<BmcSpec>,
    /// Its network interfaces; that with role `provision` (else the first) boots.
    #[serde(default)]
    pub interfaces: Vec<InterfaceSpec>,
    /// Interfaces that work as one.
    #[serde(default)]
    pub bonds: Vec<BondSpec>,
    /// Tagged networks on an interface or bond.
    #[serde(default)]
    pub vlans: Vec<VlanSpec>,
    /// Rules that choose disks, by name. Exactly one may be for `root`.
    #[serde(default)]
    pub disks: BTreeMap<String, DiskSpec>,
    /// Where it stands: its failure domains.
    pub location: Option<LocationSpec>,
    /// Processor architecture. From the hardware class; default `amd64`.
    pub arch: Option<Arch>,
    /// Firmware interface it boots with. From the hardware class; default `uefi`.
    pub boot_mode: Option<BootMode>,
    /// How it is made to boot the installer. From the hardware class.
    pub boot: Option<BootSpec>,
    /// Serial console of the kernel: `ttyS0,115200`. From the hardware class.
    pub console: Option<String>,
    /// BIOS attributes by Redfish name, and their values.
    #[serde(default)]
    pub bios: BTreeMap<String, serde_json::Value>,
    /// Firmware versions by component (id or name in `rackctl bmc firmware`). Text: write them in quotes.
    #[serde(default)]
    pub firmware: BTreeMap<String, String>,
    /// What brings those versions, by component. Without one a version that differs is shown and refused.
    #[serde(default)]
    pub firmware_images: BTreeMap<String, FirmwareImageSpec>,
    /// Volumes of the RAID controller.
    #[serde(default)]
    pub raid: Vec<RaidSpec>,
    /// What the machine must have at least.
    pub minimum: Option<MinimumSpec>,
    /// What boots for the installation. From the profile.
    pub image: Option<ImageRef>,
    /// Kernel arguments, one word each. From the profile.
    pub kernel_params: Option<Vec<String>>,
    /// How the operating system comes onto the disk. From the profile.
    pub install: Option<InstallSpec>,
    /// Names of services that must run on it. From the profile.
    pub services: Option<Vec<String>>,
    /// DNS domain. From the site.
    pub domain: Option<String>,
    /// Time servers. From the site.
    pub ntp: Option<Vec<String>>,
    /// Name servers, IPv4 addresses. From the site.
    pub dns: Option<Vec<Ipv4>>,
    /// How the installed machine is reached. From the site.
    pub ssh: Option<SshSpec>,
}

/// What a machine says of itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentitySpec {
    /// Serial number or service tag, as printed on the machine.
    pub serial: Option<String>,
    /// SMBIOS UUID.
    pub uuid: Option<UuidText>,
    /// Where the serial stands: `serialNumber`, or `sku` (Dell's service tag). Default `serialNumber`.
    pub serial_from: Option<SerialFrom>,
}

/// A management controller.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BmcSpec {
    /// Ways to reach it, tried in this order; at least one.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<EndpointSpec>,
    /// Id of the system, where one BMC has several.
    pub system: Option<String>,
    /// MAC address of the BMC itself.
    pub mac: Option<MacText>,
    /// True: BMC and host share a port, and link drops on reset are expected. Default false.
    #[serde(default, rename = "sharedNic")]
    pub shared_nic: bool,
}

/// A way to reach a BMC: exactly one of `redfish` and `ipmi`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["redfish"]}, {"required": ["ipmi"]}]))]
pub struct EndpointSpec {
    /// `https://HOST[:PORT]`, without user or path.
    pub redfish: Option<HttpsUrl>,
    /// `HOST[:PORT]`; the default port is 623.
    pub ipmi: Option<HostPort>,
    /// Name of a Credential.
    pub credential: Name,
    /// How its certificate is checked. Absent: no request is sent until `rackctl bmc trust` has set it.
    pub tls: Option<TlsSpec>,
}

/// How a certificate is checked. Exactly one way.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["pin"]}, {"required": ["ca"]}]))]
pub struct TlsSpec {
    /// `sha256:` and the SHA-256 of the certificate's public key (SubjectPublicKeyInfo) in hex.
    pub pin: Option<Pin>,
    /// PEM file of the certification authority. Relative to this manifest.
    pub ca: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InterfaceSpec {
    /// Name in the installed system: `eno1`.
    pub name: Option<String>,
    /// MAC address.
    pub mac: MacText,
    /// Name of the Network it is plugged into.
    pub network: Option<Name>,
    /// `provision` marks the interface that boots; any other word is yours.
    pub role: Option<String>,
    /// IPv4 addresses with prefix: `10.77.0.11/24`.
    #[serde(default)]
    pub addresses: Vec<InterfaceAddress>,
}

/// Interfaces that work as one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BondSpec {
    /// Name in the installed system: `bond0`.
    pub name: String,
    /// Names of its interfaces.
    #[schemars(length(min = 1))]
    pub members: Vec<String>,
    /// How they share the work. Default `active-backup`.
    pub mode: Option<BondMode>,
    /// The member that boots while the bond is not up yet.
    pub pxe_member: Option<String>,
    /// Name of the Network.
    pub network: Option<Name>,
    /// IPv4 addresses with prefix.
    #[serde(default)]
    pub addresses: Vec<InterfaceAddress>,
}

/// How the interfaces of a bond share the work (names of the Linux kernel).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub enum BondMode {
    #[serde(rename = "802.3ad")]
    Lacp,
    #[serde(rename = "active-backup")]
    ActiveBackup,
    #[serde(rename = "balance-rr")]
    BalanceRr,
    #[serde(rename = "balance-xor")]
    BalanceXor,
    #[serde(rename = "broadcast")]
    Broadcast,
    #[serde(rename = "balance-tlb")]
    BalanceTlb,
    #[serde(rename = "balance-alb")]
    BalanceAlb,
}

/// A tagged network.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VlanSpec {
    /// Name in the installed system: `vlan20`.
    pub name: String,
    /// Name of the interface or bond below it.
    pub link: String,
    /// VLAN id, 1 to 4094.
    #[schemars(range(min = 1, max = 4094))]
    pub id: u16,
    /// Name of the Network.
    pub network: Option<Name>,
    /// IPv4 addresses with prefix.
    #[serde(default)]
    pub addresses: Vec<InterfaceAddress>,
}

/// Where a machine stands: its failure domains.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocationSpec {
    /// Rack.
    pub rack: Option<String>,
    /// Lowest rack unit.
    pub unit: Option<u32>,
    /// Power feed.
    pub power: Option<String>,
    /// Chassis, where several machines share one.
    pub chassis: Option<String>,
}
