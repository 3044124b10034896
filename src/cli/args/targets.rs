//! Which machines a verb is about.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::cli::complete;

/// `NAME…`, ranges, `-l`, `--field-selector`, `--all`: kubectl's ways to name things.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Targets {
    /// Nodes: names and ranges, as in n1 n[010-040] '!n017'
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::nodes))]
    pub names: Vec<String>,
    #[command(flatten)]
    pub select: Select,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Select {
    /// By label, as in role=db,tier!=test,gpu,!old
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// By field, as in power=off,rack=r1
    #[arg(long, value_name = "FIELD=VALUE,…")]
    pub field_selector: Option<String>,
    /// All nodes of the inventory
    #[arg(long)]
    pub all: bool,
}

impl Targets {
    /// Nothing said at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.select == Select::default()
    }
}
