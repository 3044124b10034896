//! Level 1: Fleet + Facts + Goal → Plan. Pure: no clock, no files, no network.
//!
//! A plan is a set of tracks, each a straight line of steps of one subject (a node or a cluster). The one
//! edge between tracks is a step's `awaits`, and it always points to a track that is planned earlier: no
//! cycle can be written. What must not be done is not planned and not warned of: it is a [`Refusal`].

mod cluster;
mod hash;
mod node;
pub mod quorum;
pub mod wipe_guard;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::model::{
    Fleet,
    facts::Facts,
    fleet::{BootMode, ClusterDriver},
    goal::{Ceiling, Goal},
    power::BootTarget,
};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    Node(String),
    Cluster(String),
}

impl Subject {
    pub fn name(&self) -> &str {
        match self {
            Subject::Node(name) | Subject::Cluster(name) => name,
        }
    }
    /// Name of the lock that a track of this subject needs.
    pub fn lock(&self) -> String {
        match self {
            Subject::Node(name) => format!("node/{name}"),
            Subject::Cluster(name) => format!("cluster/{name}"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Node(name) => f.write_str(name),
            Subject::Cluster(name) => write!(f, "cluster/{name}"),
        }
    }
}

/// `n1/write-disk`, `cluster/core/promote-n2`: unique in a plan.
pub type StepId = String;

/// What observation may settle and what it may not (engine.md, "Words").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// Changes nothing.
    Observe,
    /// May be done again: the same value is set.
    Set,
    /// Leaves a mark by which a later look knows that it was done.
    Once,
    /// Destroys data; done under a ticket.
    Destroy,
}

/// The label that people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Danger {
    #[serde(rename = "reversible")]
    Reversible,
    #[serde(rename = "reboot")]
    Reboot,
    #[serde(rename = "DATA LOSS")]
    DataLoss,
}

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Danger::Reversible => "reversible",
            Danger::Reboot => "reboot",
            Danger::DataLoss => "DATA LOSS",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StepKind {
    /// Serial and UUID that the BMC reports are the inventory's.
    CheckIdentity,
    /// Offer network boot to this machine alone, set the one-time override, read it back, power on or cycle.
    BootInstaller {
        target: BootTarget,
        mode: BootMode,
    },
    /// The installer claims with the token of this boot, and names MAC, UUID and serial.
    AwaitClaim,
    /// The disks that the machine reports, held against the inventory and looked at for foreign data.
    CheckDisks,
    /// Wipe ticket; written and read back by the installer.
    WriteDisk {
        system_sha256: String,
        generation: u64,
    },
    /// Network boot withdrawn and the boot override cleared, before the machine restarts.
    WithdrawNetboot,
    RebootToDisk,
    /// The installed system answers over SSH with its own key, from that disk, with that generation.
    AwaitInstalled {
        generation: u64,
    },
    /// An installed machine that is off is started; nothing is written.
    PowerOn,
    /// The cluster's first member, under the one-time bootstrap ticket.
    Bootstrap {
        member: String,
    },
    AddLearner {
        member: String,
    },
    StartMember {
        member: String,
    },
    AwaitSynced {
        member: String,
    },
    Promote {
        member: String,
    },
    /// Cluster id, member list, and a linearizable read through it of a key written through another.
    VerifyMember {
        member: String,
    },
}

impl StepKind {
    pub fn class(&self) -> Class {
        match self {
            StepKind::CheckIdentity
            | StepKind::AwaitClaim
            | StepKind::CheckDisks
            | StepKind::AwaitInstalled { .. }
            | StepKind::AwaitSynced { .. }
            | StepKind::VerifyMember { .. } => Class::Observe,
            StepKind::WithdrawNetboot | StepKind::StartMember { .. } => Class::Set,
            StepKind::BootInstaller { .. }
            | StepKind::RebootToDisk
            | StepKind::PowerOn
            | StepKind::Bootstrap { .. }
            | StepKind::AddLearner { .. }
            | StepKind::Promote { .. } => Class::Once,
            StepKind::WriteDisk { .. } => Class::Destroy,
        }
    }

    pub fn danger(&self) -> Danger {
        match self {
            StepKind::WriteDisk { .. } => Danger::DataLoss,
            StepKind::BootInstaller { .. } | StepKind::RebootToDisk => Danger::Reboot,
            _ => Danger::Reversible,
        }
    }

    /// The word in step ids, logs and reports.
    pub fn word(&self) -> &'static str {
        match self {
            StepKind::CheckIdentity => "check-identity",
            StepKind::BootInstaller { .. } => "boot-installer",
            StepKind::AwaitClaim => "await-claim",
            StepKind::CheckDisks => "check-disks",
            StepKind::WriteDisk { .. } => "write-disk",
            StepKind::WithdrawNetboot => "withdraw-netboot",
            StepKind::RebootToDisk => "reboot-to-disk",
            StepKind::AwaitInstalled { .. } => "await-installed",
            StepKind::PowerOn => "power-on",
            StepKind::Bootstrap { .. } => "bootstrap",
            StepKind::AddLearner { .. } => "add-learner",
            StepKind::StartMember { .. } => "start-member",
            StepKind::AwaitSynced { .. } => "await-synced",
            StepKind::Promote { .. } => "promote",
            StepKind::VerifyMember { .. } => "verify-member",
        }
    }

    /// The member that a cluster's step is about.
    pub fn member(&self) -> Option<&str> {
        match self {
            StepKind::Bootstrap { member }
            | StepKind::AddLearner { member }
            | StepKind::StartMember { member }
            | StepKind::AwaitSynced { member }
            | StepKind::Promote { member }
            | StepKind::VerifyMember { member } => Some(member),
            _ => None,
        }
    }

    /// Named limit of one attempt, in seconds, from its begin to its verified end.
    pub fn deadline_s(&self) -> u64 {
        match self {
            StepKind::CheckIdentity => 60,
            StepKind::BootInstaller { .. } | StepKind::WithdrawNetboot | StepKind::PowerOn => 180,
            StepKind::AwaitClaim => 420,
            StepKind::CheckDisks => 300,
            StepKind::WriteDisk { .. } => 1_800,
            StepKind::RebootToDisk => 120,
            StepKind::AwaitInstalled { .. } => 420,
            StepKind::Bootstrap { .. } | StepKind::AddLearner { .. } | StepKind::StartMember { .. } => 120,
            StepKind::AwaitSynced { .. } => 300,
            StepKind::Promote { .. } | StepKind::VerifyMember { .. } => 60,
        }
    }

    /// How often the whole way from `boot-installer` on is tried when a machine does not come up.
    pub const BOOT_ATTEMPTS: u32 = 3;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub id: StepId,
    pub kind: StepKind,
    pub danger: Danger,
    pub why: String,
    /// Steps of other tracks that must hold before this one begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaits: Vec<StepId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    pub subject: Subject,
    pub steps: Vec<Step>,
    /// What needed no step, in words: `installed as generation 1, up from disk LAB-n1`.
    pub found: Vec<String>,
    /// Of a cluster: the members that voted when the plan was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<String>,
}

/// A subject that this plan leaves alone, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    pub subject: Subject,
    /// `identityMismatch`, `protected`, `managementObserve`, `rogueDhcp`, `ceiling`, `unreachable`…
    pub kind: String,
    pub why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Digests of what an installation boots and writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifacts {
    pub kernel_sha256: String,
    pub initrd_sha256: String,
    pub stage2_sha256: String,
    pub system_sha256: String,
}

/// Everything the plan was made for and of; see [`Plan::hash`] for what its name covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub schema: u32,
    pub tool_version: String,
    pub fleet: String,
    pub goal: Goal,
    pub tracks: Vec<Track>,
    pub refusals: Vec<Refusal>,
    /// Per node: the digests that it will boot and be given.
    pub artifacts: BTreeMap<String, Artifacts>,
    /// Per node in the plan: serial, UUID, MAC and root disk rule that it is bound to.
    pub bound: BTreeMap<String, String>,
    /// Networks on which DHCP will answer, and how.
    pub networks: BTreeMap<String, String>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.tracks.iter().all(|t| t.steps.is_empty())
    }
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.tracks.iter().flat_map(|t| &t.steps)
    }
    pub fn count(&self, danger: Danger) -> usize {
        self.steps().filter(|s| s.danger == danger).count()
    }
    /// Machines that will restart at least once.
    pub fn reboots(&self) -> usize {
        self.tracks.iter().filter(|t| t.steps.iter().any(|s| s.danger == Danger::Reboot)).count()
    }
    pub fn locks(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tracks.iter().map(|t| t.subject.lock()).collect();
        names.extend(self.networks.keys().map(|n| format!("network/{n}")));
        names.sort();
        names
    }
}

/// What planning needs besides the fleet and the facts.
pub struct Known<'a> {
    /// Image name → digests; an image that is absent could not be built.
    pub artifacts: &'a BTreeMap<String, Artifacts>,
    /// Cluster name → recorded generation, if it was ever made.
    pub cluster_generations: &'a BTreeMap<String, u64>,
}

pub fn plan(fleet: &Fleet, facts: &Facts, goal: &Goal, known: &Known<'_>) -> Plan {
    let (scope, ceiling, installs, joins) = match goal {
        Goal::Apply { nodes, allow } => (&nodes.0, *allow, true, true),
        Goal::Install { nodes, .. } => (&nodes.0, Ceiling::DataLoss, true, false),
        Goal::Join { nodes } => (&nodes.0, Ceiling::Reversible, false, true),
    };
    let reinstall = matches!(goal, Goal::Install { reinstall: true, .. });
    let mut plan = Plan {
        schema: 1,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        fleet: fleet.id.clone(),
        goal: goal.clone(),
        tracks: Vec::new(),
        refusals: Vec::new(),
        artifacts: BTreeMap::new(),
        bound: BTreeMap::new(),
        networks: BTreeMap::new(),
    };
    for name in scope {
        let Some(node) = fleet.nodes.get(name) else { continue };
        match node::track(fleet, node, facts, known, &node::Wish { installs, reinstall, ceiling }) {
            Ok(done) => {
                if !done.track.steps.is_empty()
                    && let Some(network) = node.provision().and_then(|i| i.network.clone())
                    && done.needs_network
                {
                    let how = fleet
                        .networks
                        .get(&network)
                        .map_or("unknown".to_owned(), |n| format!("{:?}", n.dhcp).to_lowercase());
                    plan.networks.insert(network, how);
                }
                if let Some(artifacts) = done.artifacts {
                    plan.artifacts.insert(name.clone(), artifacts);
                }
                plan.bound.insert(name.clone(), node::binding(node));
                plan.tracks.push(done.track);
            }
            Err(refusal) => plan.refusals.push(refusal),
        }
    }
    if joins {
        for cluster in fleet.clusters.values() {
            if !cluster.members.iter().any(|m| scope.contains(m)) {
                continue;
            }
            if let ClusterDriver::Other { kind } = &cluster.driver {
                plan.refusals.push(Refusal {
                    subject: Subject::Cluster(cluster.name.clone()),
                    kind: "unsupportedDriver".into(),
                    why: format!("its driver `{kind}` is not driven by this version; etcd is"),
                    next: None,
                });
                continue;
            }
            match cluster::track(cluster, scope, facts, known, &plan) {
                Ok(track) => plan.tracks.push(track),
                Err(refusal) => plan.refusals.push(refusal),
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests;
