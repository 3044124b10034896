//! A playbook for one run: parameters filled in, nodes chosen, texts turned into values. It is kept with the run, so
//! that a resumed one does what was begun, whatever the inventory says by then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    goal::{Ceiling, Goal, Scope},
    playbook::{BootWord, OnOff, PowerWord, Then},
    power::{BootTarget, PowerAction},
};

/// `play/03-install`; a step of its `onFailure`: `play/03-install/01-notify`.
pub type PlayStepId = String;

/// What is stored as the plan of a playbook's run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Play {
    pub playbook: String,
    /// All of them, defaults included.
    pub parameters: BTreeMap<String, String>,
    pub steps: Vec<BoundStep>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundStep {
    pub id: PlayStepId,
    /// For people: the step's name, or what it does.
    pub title: String,
    pub act: Act,
    /// Why it is passed over: what its `when` said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    #[serde(default)]
    pub on_failure: Recovery,
}

/// What follows a failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// Further attempts.
    #[serde(default)]
    pub retry: u32,
    #[serde(default)]
    pub delay_ms: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<BoundStep>,
    #[serde(default)]
    pub then: Then,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Act {
    Apply {
        nodes: Scope,
        allow: Ceiling,
    },
    Install {
        nodes: Scope,
        reinstall: bool,
    },
    Join {
        nodes: Scope,
    },
    Power {
        nodes: Scope,
        action: PowerWord,
        force: bool,
        lose_quorum: bool,
    },
    Boot {
        nodes: Scope,
        target: BootWord,
        persistent: bool,
    },
    /// Healthy for so long, within the deadline.
    Gate {
        cluster: String,
        healthy_ms: u64,
        deadline_ms: u64,
    },
    AwaitPower {
        node: String,
        power: OnOff,
        deadline_ms: u64,
    },
    Wait {
        for_ms: u64,
    },
    Approve {
        message: String,
        deadline_ms: u64,
    },
    Exec {
        command: Vec<String>,
        deadline_ms: u64,
        repeatable: bool,
    },
    Notify {
        message: String,
        to: Target,
    },
    Pause {
        message: String,
    },
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Target {
    Command {
        command: Vec<String>,
    },
    /// `pin`: `sha256:HEX`, with an https address.
    Url {
        url: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pin: Option<String>,
    },
}

/// What a step that died with its process may be met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redo {
    /// It is a run of its own: gone on with from its journal.
    ByItsRun,
    /// It looks, waits or says: done again without harm.
    Freely,
    /// Whether it happened cannot be seen: a person says.
    APersonSays,
}

impl Act {
    /// The nodes that the step's own run is about; `None`: it makes no run.
    pub fn scope(&self) -> Option<&Scope> {
        match self {
            Act::Apply { nodes, .. }
            | Act::Install { nodes, .. }
            | Act::Join { nodes }
            | Act::Power { nodes, .. }
            | Act::Boot { nodes, .. } => Some(nodes),
            _ => None,
        }
    }

    /// The goal of the step's own run.
    pub fn goal(&self) -> Option<Goal> {
        Some(match self.clone() {
            Act::Apply { nodes, allow } => Goal::Apply { nodes, allow },
            Act::Install { nodes, reinstall } => Goal::Install { nodes, reinstall },
            Act::Join { nodes } => Goal::Join { nodes },
            Act::Power { nodes, action, force, lose_quorum } => {
                let action = match (action, force) {
                    (PowerWord::On, _) => PowerAction::On,
                    (PowerWord::Off, false) => PowerAction::GracefulShutdown,
                    (PowerWord::Off, true) => PowerAction::ForceOff,
                    (PowerWord::Cycle, _) => PowerAction::PowerCycle,
                    (PowerWord::Reset, false) => PowerAction::GracefulRestart,
                    (PowerWord::Reset, true) => PowerAction::ForceRestart,
                };
                Goal::Power { nodes, action, force, wait: true, lose_quorum }
            }
            Act::Boot { nodes, target, persistent } => {
                let target = match target {
                    BootWord::None => BootTarget::None,
                    BootWord::Pxe => BootTarget::Pxe,
                    BootWord::Http => BootTarget::Http,
                    BootWord::Disk => BootTarget::Disk,
                    BootWord::Cd => BootTarget::Cd,
                    BootWord::Setup => BootTarget::Setup,
                };
                Goal::Boot { nodes, target, persistent, url: None }
            }
            _ => return None,
        })
    }

    pub const fn redo(&self) -> Redo {
        match self {
            Act::Apply { .. } | Act::Install { .. } | Act::Join { .. } | Act::Power { .. } | Act::Boot { .. } => {
                Redo::ByItsRun
            }
            Act::Exec { repeatable: false, .. } => Redo::APersonSays,
            _ => Redo::Freely,
        }
    }

    pub const fn word(&self) -> &'static str {
        match self {
            Act::Apply { .. } => "apply",
            Act::Install { .. } => "install",
            Act::Join { .. } => "join",
            Act::Power { .. } => "power",
            Act::Boot { .. } => "boot",
            Act::Gate { .. } => "gate",
            Act::AwaitPower { .. } | Act::Wait { .. } => "wait",
            Act::Approve { .. } => "approve",
            Act::Exec { .. } => "exec",
            Act::Notify { .. } => "notify",
            Act::Pause { .. } => "pause",
        }
    }

    /// One line for people: `install n1, n2, n3`, `wait until cluster core is healthy for 60 s`.
    pub fn text(&self) -> String {
        let seconds = |ms: u64| if ms.is_multiple_of(1_000) { format!("{} s", ms / 1_000) } else { format!("{ms} ms") };
        let names = |nodes: &Scope| match nodes.0.as_slice() {
            several if several.len() > NAMES_SHOWN => {
                format!("{} and {} more", several[..NAMES_SHOWN].join(", "), several.len() - NAMES_SHOWN)
            }
            several => several.join(", "),
        };
        match self {
            Act::Apply { nodes, .. } => format!("bring {} to their desired state", names(nodes)),
            Act::Install { nodes, reinstall: true } => format!("install {}, also where a system is", names(nodes)),
            Act::Install { nodes, .. } => format!("install {}", names(nodes)),
            Act::Join { nodes } => format!("join {}", names(nodes)),
            Act::Power { nodes, action, force, .. } => {
                format!("power {} {}{}", action.word(), names(nodes), if *force { ", without asking" } else { "" })
            }
            Act::Boot { nodes, target, persistent } => {
                let lasts = if *persistent { " from now on" } else { " next" };
                format!("boot {} from {}{lasts}", names(nodes), target.word())
            }
            Act::Gate { cluster, healthy_ms, deadline_ms } => {
                let (healthy, deadline) = (seconds(*healthy_ms), seconds(*deadline_ms));
                format!("wait until cluster {cluster} is healthy for {healthy}, at most {deadline}")
            }
            Act::AwaitPower { node, power, deadline_ms } => {
                let word = if *power == OnOff::On { "on" } else { "off" };
                format!("wait until {node} is {word}, at most {}", seconds(*deadline_ms))
            }
            Act::Wait { for_ms } => format!("wait {}", seconds(*for_ms)),
            Act::Approve { message, deadline_ms } => {
                format!("wait for another operator's approval, at most {}: {message}", seconds(*deadline_ms))
            }
            Act::Exec { command, .. } => format!("run {}", command.join(" ")),
            Act::Notify { message, .. } => format!("say {message}"),
            Act::Pause { message } => format!("wait for a person: {message}"),
        }
    }
}

/// More names would hide what the line says.
const NAMES_SHOWN: usize = 8;

impl Play {
    /// Steps in order, each followed by those of its `onFailure`.
    pub fn all(&self) -> impl Iterator<Item = &BoundStep> {
        self.steps.iter().flat_map(|s| std::iter::once(s).chain(&s.on_failure.steps))
    }

    pub fn step(&self, id: &str) -> Option<&BoundStep> {
        self.all().find(|s| s.id == id)
    }

    /// Every node that some step may touch, once, sorted.
    pub fn nodes(&self) -> Vec<String> {
        let mut names: Vec<String> = self.all().filter_map(|s| s.act.scope()).flat_map(|s| s.0.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}
