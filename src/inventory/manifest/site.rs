//! `kind: Site`

use schemars::JsonSchema;
use serde::Deserialize;

use super::text::{Count, Ipv4, TimeOfDay};

/// One provisioning domain; a runner near it may do its work. Its values flow to its nodes.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: Site
/// metadata: { name: fra1 }
/// spec:
///   domain: fra1.example.net
///   ntp: [10.0.0.1]
///   dns: [10.0.0.1]
///   ssh: { user: root, identity: ~/.ssh/id_ed25519, authorizedKeys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA ops"] }
///   changeWindows: [{ days: [tue, thu], from: "08:00", to: "16:00", timezone: Europe/Berlin }]
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteSpec {
    /// DNS domain of the site's machines: `fra1.example.net`.
    pub domain: Option<String>,
    /// Time servers, names or addresses.
    #[serde(default)]
    pub ntp: Vec<String>,
    /// Name servers, IPv4 addresses; also told by DHCP.
    #[serde(default)]
    pub dns: Vec<Ipv4>,
    /// How installed machines are reached.
    pub ssh: Option<SshSpec>,
    /// When changes that reboot or wipe are allowed. Empty: always.
    #[serde(default)]
    pub change_windows: Vec<ChangeWindow>,
    /// How many machines of one failure domain may be unavailable at once, over all clusters.
    pub disruption: Option<DisruptionSpec>,
    /// Who says yes to what destroys data.
    pub approval: Option<ApprovalSpec>,
}

/// How many machines of one failure domain may be unavailable at once, for any reason: numbers, or shares of the
/// domain's machines.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisruptionSpec {
    /// Machines with the same `location.rack`. Default: not limited.
    pub rack: Option<Count>,
    /// Machines on the same power feed, `location.power`. Default: not limited.
    pub power: Option<Count>,
    /// Machines of one chassis, `location.chassis`. Default 1.
    pub chassis: Option<Count>,
}

/// Who says yes to what destroys data.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalSpec {
    /// True: somebody else than the one who runs it must approve as well (`rackctl approve HASH`). Default false.
    #[serde(default)]
    pub second_operator: bool,
}

/// How installed machines are reached over SSH.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SshSpec {
    /// The account. Default `root`.
    pub user: Option<String>,
    /// Private key file; `~` is the home folder, otherwise relative to this manifest. Default: the SSH agent.
    pub identity: Option<String>,
    /// Public keys, one line each, that are let in: `ssh-ed25519 AAAA… name`.
    pub authorized_keys: Option<Vec<String>>,
}

/// A span of time in which changes are allowed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeWindow {
    /// Days of the week. Empty: every day.
    #[serde(default)]
    pub days: Vec<Day>,
    /// Begin, `HH:MM`.
    pub from: TimeOfDay,
    /// End, `HH:MM`; before the begin: on the next day.
    pub to: TimeOfDay,
    /// IANA name: `Europe/Berlin`. Default `UTC`.
    pub timezone: Option<String>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}
