//! What a person asks for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    bmc::BmcChange,
    power::{BootTarget, PowerAction},
    rollout::RolloutWish,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "goal", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Goal {
    /// Bring the inventory to its desired state, within the ceiling.
    Apply { nodes: Scope, allow: Ceiling },
    /// Put the operating system on machines. `reinstall`: also on those that have it.
    Install { nodes: Scope, reinstall: bool },
    /// Make installed nodes members of their clusters.
    Join { nodes: Scope },
    /// Change the power of machines. `force`: the operating system is not asked first.
    /// `wait`: until it is seen to hold. `lose_quorum`: also where a cluster stops serving by it.
    Power { nodes: Scope, action: PowerAction, force: bool, wait: bool, lose_quorum: bool },
    /// What machines boot from, the next time or from now on.
    /// `url`: where UEFI HTTP boot goes, or the image that is put in for a boot from `cd`.
    Boot {
        nodes: Scope,
        target: BootTarget,
        persistent: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
    },
    /// Change something of the BMCs themselves, or by them. `lose_quorum`: also where a cluster stops serving by it.
    /// `installed`: also where data of an installed machine is lost.
    Bmc { nodes: Scope, change: BmcChange, lose_quorum: bool, installed: bool },
    /// Look at machines from the installer, which writes to no disk, and leave them as they were. `installed`: also those
    /// that rackctl installed. `lose_quorum`: also where a cluster stops serving meanwhile.
    Inspect { nodes: Scope, installed: bool, lose_quorum: bool },
    /// Bring firmware and BIOS of machines to their baseline, restarting them. `rollout`: how, for machines of no
    /// cluster, and stricter than their clusters' own rules for the others.
    Baseline { nodes: Scope, rollout: RolloutWish, lose_quorum: bool },
    /// The steps of a playbook, each a run of its own. `nodes`: all that they may touch.
    Playbook { name: String, parameters: BTreeMap<String, String>, nodes: Scope },
}

impl Goal {
    /// The nodes that it is about.
    pub fn scope(&self) -> &Scope {
        match self {
            Goal::Apply { nodes, .. }
            | Goal::Install { nodes, .. }
            | Goal::Join { nodes }
            | Goal::Power { nodes, .. }
            | Goal::Boot { nodes, .. }
            | Goal::Bmc { nodes, .. }
            | Goal::Inspect { nodes, .. }
            | Goal::Baseline { nodes, .. }
            | Goal::Playbook { nodes, .. } => nodes,
        }
    }

    /// Whether machines may boot from here, and so need servers and images.
    pub fn boots(&self) -> bool {
        matches!(self, Goal::Apply { .. } | Goal::Install { .. } | Goal::Inspect { .. })
    }

    /// `power`, `boot set` and what `bmc` changes: over in one step a node.
    pub fn is_short(&self) -> bool {
        matches!(self, Goal::Power { .. } | Goal::Boot { .. } | Goal::Bmc { .. })
    }

    /// A short goal by which machines stop, or may: their clusters have a say.
    pub fn takes_away(&self) -> bool {
        match self {
            Goal::Power { action, .. } => *action != PowerAction::On,
            Goal::Bmc { change, .. } => change.takes_away(),
            Goal::Baseline { .. } => true,
            _ => false,
        }
    }

    /// The operator wants it also where a cluster stops serving by it.
    pub fn may_lose_quorum(&self) -> bool {
        matches!(
            self,
            Goal::Power { lose_quorum: true, .. }
                | Goal::Bmc { lose_quorum: true, .. }
                | Goal::Inspect { lose_quorum: true, .. }
                | Goal::Baseline { lose_quorum: true, .. }
        )
    }

    /// Its steps hold what they touch; itself it holds nothing.
    pub fn is_playbook(&self) -> bool {
        matches!(self, Goal::Playbook { .. })
    }

    /// The word of the command line.
    pub fn word(&self) -> &'static str {
        match self {
            Goal::Apply { .. } => "apply",
            Goal::Install { .. } => "install",
            Goal::Join { .. } => "join",
            Goal::Power { .. } => "power",
            Goal::Boot { .. } => "boot set",
            Goal::Bmc { change, .. } => change.word(),
            Goal::Inspect { .. } => "inspect",
            Goal::Baseline { .. } => "upgrade firmware",
            Goal::Playbook { .. } => "playbook",
        }
    }
}

/// Names in the inventory's order; resolved before planning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope(pub Vec<String>);

/// How destructive a run may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ceiling {
    #[default]
    Reversible,
    Reboot,
    DataLoss,
}
