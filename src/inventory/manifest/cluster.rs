//! `kind: Cluster`

use schemars::JsonSchema;
use serde::Deserialize;

use super::text::{Count, Duration, Name, SelectorText, Version};

/// A cluster: who its members are, and how it is changed.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: Cluster
/// metadata: { name: core }
/// spec:
///   driver: { etcd: { version: "3.4.23", clientPort: 2379, peerPort: 2380, tls: { ca: pki/core-ca.pem, issue: true } } }
///   members: { selector: "role=control-plane", size: 3, pool: "lifecycle=spare" }
///   dependsOn: []
///   rollout: { maxUnavailable: 1, waves: [1, "25%", "50%"], soak: 30s, minHealthy: 10s, deadline: 15m, haltAfter: 2 }
///   backup: { every: 1h, to: ./backups, maxAge: 2h }
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    /// What kind of cluster it is. Exactly one.
    pub driver: ClusterDriver,
    /// Who belongs to it.
    pub members: MembersSpec,
    /// Names of Clusters that must be healthy first: the order of a cold start.
    #[serde(default)]
    pub depends_on: Vec<Name>,
    /// How changes go through it.
    pub rollout: Option<RolloutSpec>,
    /// Snapshots.
    pub backup: Option<BackupSpec>,
}

/// What kind of cluster it is. Exactly one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["etcd"]}, {"required": ["http"]}, {"required": ["exec"]}]))]
pub struct ClusterDriver {
    /// etcd.
    pub etcd: Option<EtcdDriver>,
    /// A service with an HTTP interface for membership.
    pub http: Option<HttpDriver>,
    /// A program of yours.
    pub exec: Option<ClusterExec>,
}

/// etcd.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EtcdDriver {
    /// Version that the members run, in quotes: `"3.4.23"`.
    pub version: Version,
    /// TCP port for clients. Default 2379.
    #[schemars(range(min = 1))]
    pub client_port: Option<u16>,
    /// TCP port between members. Default 2380.
    #[schemars(range(min = 1))]
    pub peer_port: Option<u16>,
    /// Certificates. Absent: plain HTTP.
    pub tls: Option<EtcdTls>,
}

/// Certificates of a cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EtcdTls {
    /// PEM file of the cluster's authority. Relative to this manifest.
    pub ca: String,
    /// True: rackctl issues the members' certificates. Default false.
    #[serde(default)]
    pub issue: bool,
}

/// A service with an HTTP interface for membership.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpDriver {
    /// A known service: `chainfire`, `flaredb`.
    pub preset: String,
    /// TCP port of the interface. Default: that of the preset.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// A program of yours that knows the cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterExec {
    /// Program and arguments; no shell. A program that begins with `./`, `../` or `~/` is relative to this manifest.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// How long one call may take. Default `30s`.
    pub deadline: Option<Duration>,
}

/// Who belongs to a cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MembersSpec {
    /// Nodes that are members while they are active: `role=control-plane`.
    pub selector: SelectorText,
    /// Number of voters.
    #[schemars(range(min = 1))]
    pub size: u32,
    /// Nodes that may replace a member, spares only: `lifecycle=spare`. Default: none.
    pub pool: Option<SelectorText>,
}

/// How changes go through a cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutSpec {
    /// Members that may be down at once: a number or a share (`"25%"`), at least 1. Default 1.
    pub max_unavailable: Option<Count>,
    /// Sizes of the first waves: numbers or shares of the nodes that the plan changes. The last one repeats; the first
    /// is the canary. Default: what serves goes by `maxUnavailable` alone, new machines do not wait for each other.
    #[serde(default)]
    pub waves: Vec<Count>,
    /// Pause between waves. Default none.
    pub soak: Option<Duration>,
    /// How long a member must be healthy before the next one is touched. Default `10s`.
    pub min_healthy: Option<Duration>,
    /// How long one member may take. Default `15m`.
    pub deadline: Option<Duration>,
    /// Failures after which nothing new begins: a number, or a share (`"10%"`) of the nodes that the plan changes.
    /// Default 1.
    pub halt_after: Option<Count>,
}

/// Snapshots of a cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupSpec {
    /// How often.
    pub every: Duration,
    /// Folder that they are written to. Relative to this manifest.
    pub to: String,
    /// Goals that may lose data are refused when the last verified snapshot is older.
    pub max_age: Option<Duration>,
}
