//! Level 1: Fleet + Facts + Goal → Plan. Pure: no clock, no files, no network.
//!
//! A plan is a set of tracks, each a straight line of steps of one subject (a node or a cluster). The one
//! edge between tracks is a step's `awaits`, and it always points to a track that is planned earlier: no
//! cycle can be written. What must not be done is not planned and not warned of: it is a [`Refusal`].

pub mod approval;
pub mod baseline;
mod cluster;
mod fit;
mod hash;
pub mod inspect;
mod node;
mod pools;
mod power;
pub mod quorum;
mod step;
pub mod wipe_guard;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::model::{
    Fleet,
    facts::Facts,
    fleet::ClusterDriver,
    goal::{Ceiling, Goal},
    rollout::{ChangeWindow, Rollout},
};

pub use fit::CLOCK_SKEW_MS;
pub use step::{Class, Danger, Step, StepId, StepKind};

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
    /// Of a node: the pool whose rollout it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Of a node: the failure domains that limit it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// It serves now, or may again when it has its turn, and its steps take that away for a while.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disrupts: bool,
}

impl Track {
    pub fn new(subject: Subject) -> Track {
        Track {
            subject,
            steps: Vec::new(),
            found: Vec::new(),
            voters: Vec::new(),
            pool: None,
            domains: Vec::new(),
            site: None,
            disrupts: false,
        }
    }

    /// Adds a step; its id is the subject and the kind's name.
    pub fn push(&mut self, kind: StepKind, why: String) {
        let id = format!("{}/{}", self.subject, kind.name());
        self.steps.push(Step { id, danger: kind.danger(), kind, why, awaits: Vec::new() });
    }
}

/// Nodes that are changed under one rollout: the members of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    pub rollout: Rollout,
    /// All of them, also those that the plan leaves alone.
    pub nodes: Vec<String>,
}

/// Machines that fail together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// So many of them may be unavailable at once.
    pub limit: u32,
    pub nodes: Vec<String>,
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
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, Pool>,
    /// `rack/r1`, `power/a`, `chassis/c1`: those that are limited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub domains: BTreeMap<String, Domain>,
    /// Per site: when what reboots or wipes may begin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<String, Vec<ChangeWindow>>,
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

impl Plan {
    pub fn empty(fleet: &str, goal: &Goal) -> Plan {
        Plan {
            schema: 2,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            fleet: fleet.to_owned(),
            goal: goal.clone(),
            tracks: Vec::new(),
            refusals: Vec::new(),
            artifacts: BTreeMap::new(),
            bound: BTreeMap::new(),
            networks: BTreeMap::new(),
            pools: BTreeMap::new(),
            domains: BTreeMap::new(),
            windows: BTreeMap::new(),
        }
    }
}

pub fn plan(fleet: &Fleet, facts: &Facts, goal: &Goal, known: &Known<'_>) -> Plan {
    let mut plan = Plan::empty(&fleet.id, goal);
    match goal {
        Goal::Apply { nodes, allow } => {
            let wish = node::Wish { installs: true, reinstall: false, baselines: true, ceiling: *allow };
            converge(fleet, facts, known, &nodes.0, &wish, true, &mut plan);
        }
        Goal::Install { nodes, reinstall } => {
            let wish =
                node::Wish { installs: true, reinstall: *reinstall, baselines: true, ceiling: Ceiling::DataLoss };
            converge(fleet, facts, known, &nodes.0, &wish, false, &mut plan);
        }
        Goal::Join { nodes } => {
            let wish = node::Wish { installs: false, reinstall: false, baselines: false, ceiling: Ceiling::Reversible };
            converge(fleet, facts, known, &nodes.0, &wish, true, &mut plan);
        }
        Goal::Power { .. } | Goal::Boot { .. } | Goal::Bmc { .. } => {
            power::tracks(fleet, facts, goal, known, &mut plan)
        }
        Goal::Inspect { nodes, installed, .. } => inspect::tracks(fleet, facts, known, &nodes.0, *installed, &mut plan),
        Goal::Baseline { .. } => baseline::tracks(fleet, facts, known, &mut plan),
        // Its steps are planned, each when its turn comes.
        Goal::Playbook { .. } => {}
    }
    pools::attach(fleet, facts, known, &mut plan);
    plan
}

/// Machines to their installed systems, and these into their clusters.
fn converge(
    fleet: &Fleet,
    facts: &Facts,
    known: &Known<'_>,
    scope: &[String],
    wish: &node::Wish,
    joins: bool,
    plan: &mut Plan,
) {
    for name in scope {
        let Some(node) = fleet.nodes.get(name) else { continue };
        match node::track(fleet, node, facts, known, wish) {
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
                plan.bound.insert(name.clone(), node::binding(node) + &baseline::binding(&done.track));
                plan.tracks.push(done.track);
                plan.refusals.extend(done.left);
            }
            Err(refusal) => plan.refusals.push(refusal),
        }
    }
    baseline::keep_quorums(fleet, facts, plan);
    if !joins {
        return;
    }
    let machines = cluster::Machines::of(plan, scope);
    let (mut tracks, mut refusals) = (Vec::new(), Vec::new());
    for cluster in fleet.clusters.values().filter(|c| c.members.iter().any(|m| machines.wants(m))) {
        if let ClusterDriver::Other { kind } = &cluster.driver {
            refusals.push(Refusal {
                subject: Subject::Cluster(cluster.name.clone()),
                kind: "unsupportedDriver".into(),
                why: format!("its driver `{kind}` is not driven by this version; etcd is"),
                next: None,
            });
            continue;
        }
        match cluster::track(fleet, cluster, facts, known, &machines) {
            Ok(track) => tracks.push(track),
            Err(refusal) => refusals.push(refusal),
        }
    }
    plan.tracks.extend(tracks);
    plan.refusals.extend(refusals);
}

#[cfg(test)]
mod tests;
