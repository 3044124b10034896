//! `kind: Network`

use schemars::JsonSchema;
use serde::Deserialize;

use super::text::{Cidr, Duration, Ipv4};
use crate::model::fleet::DhcpMode;

/// A network: its addresses, and where the boot servers listen.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: Network
/// metadata: { name: prov }
/// spec:
///   interface: br0
///   subnets: [{ cidr: 10.77.0.0/24, gateway: 10.77.0.1, pool: [10.77.0.100, 10.77.0.199], relays: [10.80.0.1] }]
///   mtu: 1500
///   dhcp: { mode: authoritative, leaseTime: 10m }
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// Network interface of this host on which the boot servers listen: `br0`. Absent: nothing boots from this network.
    pub interface: Option<String>,
    /// Name of a network namespace (under `/run/netns`) that holds the interface. Default: this host's own.
    pub netns: Option<String>,
    /// Its IPv4 subnets, at least one.
    #[schemars(length(min = 1))]
    pub subnets: Vec<SubnetSpec>,
    /// Largest packet, in bytes. Default 1500.
    #[schemars(range(min = 576, max = 9216))]
    pub mtu: Option<u16>,
    /// What rackctl does about DHCP here.
    pub dhcp: Option<DhcpSpec>,
    /// TCP port of the boot files. Default 8080.
    #[schemars(range(min = 1))]
    pub http_port: Option<u16>,
    /// TCP port of the provisioning API (HTTPS). Default 8443.
    #[schemars(range(min = 1))]
    pub api_port: Option<u16>,
}

/// An IPv4 subnet.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubnetSpec {
    /// `10.77.0.0/24`
    pub cidr: Cidr,
    /// The router that machines are told, inside the subnet.
    pub gateway: Option<Ipv4>,
    /// First and last address for machines without one of their own (discovery).
    #[schemars(length(min = 2, max = 2))]
    pub pool: Option<Vec<Ipv4>>,
    /// DHCP relays whose requests are answered.
    #[serde(default)]
    pub relays: Vec<Ipv4>,
}

/// What rackctl does about DHCP.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DhcpSpec {
    /// `authoritative` (we give addresses), `proxy` (another server does; we add what to boot) or `off`.
    #[serde(default)]
    pub mode: DhcpMode,
    /// How long a lease holds. Default `10m`.
    pub lease_time: Option<Duration>,
    /// How long another DHCP server is listened for before ours answers first (`authoritative` only); servers that
    /// look whether an address is free answer after three seconds. `0s` where nobody else can be. Default `3500ms`.
    pub probe_time: Option<Duration>,
}
