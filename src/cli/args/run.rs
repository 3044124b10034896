//! Verbs that plan and run.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use super::{
    targets::{Select, Targets},
    values,
};
use crate::{
    cli::complete,
    model::{goal::Ceiling, rollout::Count},
};

/// How far a run may go, and how it is confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "How far it may go")]
pub struct Limits {
    /// Wipe at most so many disks in this run
    #[arg(long, value_name = "N")]
    pub max_wipes: Option<u32>,
    /// Run only if the plan has this hash (8 hex digits or more)
    #[arg(long, value_name = "HASH", value_parser = values::hash)]
    pub approve: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Plan and show, do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long the approval of what destroys data is good for; default 12h
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub expires: Option<std::time::Duration>,
}

/// Goal and machines, as in `install n1 n2`, `join`, `n1`, or nothing for the whole inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct GoalArgs {
    /// install, join, or nothing for the desired state; then names and ranges of nodes
    #[arg(value_name = "GOAL|NAME", add = ArgValueCompleter::new(complete::goals))]
    pub words: Vec<String>,
    #[command(flatten)]
    pub select: Select,
    /// With `install`: also machines that have a system
    #[arg(long)]
    pub reinstall: bool,
    /// Steps that are allowed: reversible (default), reboot, data-loss
    #[arg(long, value_name = "KINDS", value_parser = values::ceiling, add = ArgValueCompleter::new(complete::ceilings))]
    pub allow: Option<Ceiling>,
}

/// The first word of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoalWord {
    Apply,
    Install,
    Join,
}

impl GoalArgs {
    /// The goal, and the machines it is about.
    pub fn split(&self) -> (GoalWord, Targets) {
        let (word, names) = match self.words.split_first() {
            Some((first, rest)) if first == "install" => (GoalWord::Install, rest),
            Some((first, rest)) if first == "join" => (GoalWord::Join, rest),
            _ => (GoalWord::Apply, self.words.as_slice()),
        };
        (word, Targets { names: names.to_vec(), select: self.select.clone() })
    }
}

/// What would be done and why; changes nothing
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl plan
    rackctl plan --allow data-loss --out plan.json
    rackctl plan install n2 --reinstall --requests
    rackctl plan -o json | sha256sum")]
pub struct Plan {
    #[command(flatten)]
    pub goal: GoalArgs,
    /// Wipe at most so many disks
    #[arg(long, value_name = "N")]
    pub max_wipes: Option<u32>,
    /// Show every request that would be sent
    #[arg(long)]
    pub requests: bool,
    /// Keep the plan for `apply --plan`
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub out: Option<PathBuf>,
}

/// Plan, show, confirm, run: bring machines to their desired state
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Without --allow only reversible steps are taken. An installed machine is never reinstalled and
nothing is decommissioned because a file went away.

EXAMPLES
    rackctl apply
    rackctl apply --allow data-loss --max-wipes 3
    rackctl apply --plan plan.json --approve 3f2a9c01
    rackctl apply install n4 --yes --allow data-loss")]
pub struct Apply {
    #[command(flatten)]
    pub goal: GoalArgs,
    /// Run this kept plan, if the machines are still as it was made for
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with_all = ["words", "selector", "field_selector", "all", "reinstall", "allow"])]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub limits: Limits,
}

/// Put the operating system on machines: DATA LOSS on their root disks
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl install n1 n2 n3
    rackctl install -l role=db --max-wipes 3 --yes
    rackctl install n2 --reinstall")]
pub struct Install {
    #[command(flatten)]
    pub targets: Targets,
    /// Also machines that have a system: shows disk, contents found and effect on quorum
    #[arg(long)]
    pub reinstall: bool,
    #[command(flatten)]
    pub limits: Limits,
}

/// Make installed machines members of their clusters, one at a time
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl join n4
    rackctl join --all --dry-run")]
pub struct Join {
    #[command(flatten)]
    pub targets: Targets,
    #[command(flatten)]
    pub limits: Limits,
}

/// Bring machines to what the inventory says of them
#[derive(Clone, Debug, Args)]
pub struct Upgrade {
    #[command(subcommand)]
    pub what: UpgradeWhat,
}

#[derive(Clone, Debug, Subcommand)]
pub enum UpgradeWhat {
    Firmware(UpgradeFirmware),
}

/// Bring firmware and BIOS attributes to the baseline of the inventory, in waves: machines are restarted
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
What a HardwareClass or a Node says under firmware, firmwareImages and bios is compared with what the
machine's BMC shows, and brought about: image, restart, attributes, restart. Members of clusters go as
their cluster's rollout and quorum allow, one at a time by default; machines of no cluster by the flags
below. A machine that is off is started for it and switched off again. Volumes are made by `rackctl
apply` before a machine is installed, and never deleted.

EXAMPLES
    rackctl upgrade firmware --all --dry-run
    rackctl upgrade firmware -l role=worker --waves 1,25%,50% --max-unavailable 2
    rackctl upgrade firmware n1 n2 --yes")]
pub struct UpgradeFirmware {
    #[command(flatten)]
    pub targets: Targets,
    /// Sizes of the waves, numbers or shares; the first is the canary, the last repeats. Default for machines of no
    /// cluster: 1,25%,50%
    #[arg(long, value_name = "N|SHARE,…", value_delimiter = ',', value_parser = values::count)]
    pub waves: Vec<Count>,
    /// So many may be away at once, for any reason; for members never more than their cluster's rollout says. Default
    /// for machines of no cluster: 25%
    #[arg(long, value_name = "N|SHARE", value_parser = values::count)]
    pub max_unavailable: Option<Count>,
    /// Failures after which no other machine begins. Default for machines of no cluster: 1
    #[arg(long, value_name = "N|SHARE", value_parser = values::count)]
    pub halt_after: Option<Count>,
    /// Pause between two waves
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub soak: Option<std::time::Duration>,
    /// Also where a cluster stops serving by it
    #[arg(long)]
    pub lose_quorum: bool,
    #[command(flatten)]
    pub limits: Limits,
}

/// Go on with a run that was interrupted, paused or halted
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl resume
    rackctl resume r-20260102-1530
    rackctl resume r-20260102-1530 --approve 3f2a9c01     its approval has run out")]
pub struct Resume {
    /// The run; without it the last one that did not end
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Approve what the run destroys anew, by the hash of its plan (8 hex digits or more); of a playbook: what its
    /// steps destroy, as often as needed
    #[arg(long, value_name = "HASH", value_parser = values::hash)]
    pub approve: Vec<String>,
    /// Of a playbook: do not ask before steps that destroy nothing
    #[arg(short, long)]
    pub yes: bool,
    /// Of a playbook: how the program ended that ran when rackctl died, as you have found out
    #[arg(long, value_name = "HOW", value_enum)]
    pub settle: Option<Settle>,
    /// How long that approval is good for; default 12h
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub expires: Option<std::time::Duration>,
}

/// What a person found out of a program that nobody else can tell the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Settle {
    /// It did its work: the playbook goes on with the next step
    Done,
    /// It did not: it is run again
    Again,
}

/// Carry out a playbook of the inventory: its steps, one after the other, each a run of its own
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
A step that destroys data asks for approval of its own plan, whose hash is known only when its turn
comes: at a terminal a word is typed; elsewhere the playbook stops with exit code 6, and prints the
hash and the command that goes on. `rackctl describe playbook NAME` shows steps and parameters.

EXAMPLES
    rackctl get playbooks
    rackctl run bootstrap --dry-run
    rackctl run bootstrap --set cluster=core --approve 3f2a9c01
    rackctl run rolling-restart --set machine=n2 --yes")]
pub struct RunPlaybook {
    /// The playbook
    #[arg(value_name = "PLAYBOOK", add = ArgValueCompleter::new(complete::playbooks))]
    pub playbook: String,
    /// A parameter of it
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::assignment, add = ArgValueCompleter::new(complete::parameters))]
    pub set: Vec<(String, String)>,
    /// Show every step with what it would do as things stand now; nothing is changed
    #[arg(long)]
    pub dry_run: bool,
    /// Approve a step's plan by its hash (8 hex digits or more); as often as needed
    #[arg(long, value_name = "HASH", value_parser = values::hash)]
    pub approve: Vec<String>,
    /// Do not ask before steps that destroy nothing
    #[arg(short, long)]
    pub yes: bool,
    /// Wipe at most so many disks in each step
    #[arg(long, value_name = "N")]
    pub max_wipes: Option<u32>,
    /// How long an approval of what destroys data is good for; default 12h
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub expires: Option<std::time::Duration>,
}

/// Playbooks by their noun
#[derive(Clone, Debug, Args)]
pub struct PlaybookArgs {
    #[command(subcommand)]
    pub verb: PlaybookVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum PlaybookVerb {
    /// As `rackctl run`
    Run(RunPlaybook),
    /// As `rackctl get playbooks`
    List,
}

/// Let a run finish the steps in hand and stop; `resume` goes on with it
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl pause
    rackctl pause r-20260102-1530 --reason 'storage team is at the rack'")]
pub struct Pause {
    /// The run; without it the one that is under way
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// For the journal
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Give a run up: steps in hand are finished or parked, every machine it began is left safe
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
No machine that it began boots from the network any more, and no boot override is left. What was
done stays done; the next apply plans from what is there.

EXAMPLES
    rackctl abort
    rackctl abort r-20260102-1530 --reason 'wrong site' --yes")]
pub struct Abort {
    /// The run; without it the last one that did not end
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// For the journal
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Approve a plan of somebody else that destroys data
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Where a site asks for a second operator (spec.approval.secondOperator), `apply --approve HASH` of
the first one leaves a request, and names this command.

EXAMPLES
    rackctl approve 3f2a9c01
    rackctl approve 3f2a9c01 --expires 2h --yes")]
pub struct Approve {
    /// Hash of the plan (8 hex digits or more)
    #[arg(value_name = "HASH", value_parser = values::hash)]
    pub hash: String,
    /// How long the approval is good for; default 12h
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub expires: Option<std::time::Duration>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
