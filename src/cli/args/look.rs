//! Verbs that look and change nothing.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::targets::{Select, Targets};
use crate::cli::complete;

/// Show objects of the inventory and how they stand
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
KINDS
    nodes (no), networks (net), hardwareclasses (hc), profiles, clusters (cl), images (img), sites,
    credentials, playbooks (pb), runs, locks, leases, events (ev), members

EXAMPLES
    rackctl get nodes
    rackctl get no n[1-3] -o wide
    rackctl get nodes -l role=db --field-selector power=off -o name
    rackctl get node n1 -o jsonpath='{.items[0].status.phase}'
    rackctl get nodes -w --refresh")]
pub struct Get {
    /// nodes, clusters, networks, …: plural, singular or short
    #[arg(value_name = "KIND", add = ArgValueCompleter::new(complete::kinds))]
    pub kind: String,
    /// Names and ranges, as in n1 n[010-040] '!n017'
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::names))]
    pub names: Vec<String>,
    #[command(flatten)]
    pub select: Select,
    /// Show again whatever changes
    #[arg(short, long)]
    pub watch: bool,
    /// Ask the machines first instead of showing what was last seen
    #[arg(long)]
    pub refresh: bool,
}

/// Everything about one object: desired, observed, what it waits for, and how to finish by hand
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl describe node n1
    rackctl describe cluster core")]
pub struct Describe {
    #[arg(value_name = "KIND", add = ArgValueCompleter::new(complete::kinds))]
    pub kind: String,
    #[arg(value_name = "NAME", required = true, add = ArgValueCompleter::new(complete::names))]
    pub names: Vec<String>,
    /// Ask the machines first instead of showing what was last seen
    #[arg(long)]
    pub refresh: bool,
}

/// What a kind or a field of it means
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl explain node
    rackctl explain node.bmc.endpoints
    rackctl explain cluster.rollout")]
pub struct Explain {
    /// A kind, or a field of it, with dots
    #[arg(value_name = "KIND[.FIELD…]", add = ArgValueCompleter::new(complete::fields))]
    pub path: String,
}

/// The JSON Schema of the manifests, for editors
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl schema > rackctl.schema.json")]
pub struct Schema {}

/// Check the whole inventory and show all faults at once, each with its place
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl validate
    rackctl validate -f inventory/ -f profiles/
    nix eval --json .#fleet | rackctl validate -f -")]
pub struct Validate {}

/// Desired against observed, per node; exit 1 when they differ
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl diff
    rackctl diff n1 -o json")]
pub struct Diff {
    #[command(flatten)]
    pub targets: Targets,
}

/// What a node or a run said
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl logs n1
    rackctl logs r-20260102-1530 --follow")]
pub struct Logs {
    /// A node or a run
    #[arg(value_name = "NAME|RUN", add = ArgValueCompleter::new(complete::nodes))]
    pub name: String,
    /// Go on as it happens
    #[arg(long)]
    pub follow: bool,
    /// The last N lines alone
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
}

/// The runs of this fleet, newest last
#[derive(Clone, Debug, Args)]
pub struct Runs {}
