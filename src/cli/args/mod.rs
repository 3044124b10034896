//! The grammar of the command line, kubectl's habits throughout. Strings come in here and typed
//! arguments leave; nothing here does anything.

use clap::{Parser, Subcommand};

pub mod act;
pub mod bmc;
pub mod globals;
pub mod host;
pub mod lab;
pub mod look;
pub mod run;
pub mod state;
pub mod targets;
pub mod values;

pub use globals::GlobalArgs;
pub use targets::Targets;

const AFTER: &str = "\
EXIT CODES
    0  done, verified                     5  locked by another operator
    1  failed                             6  needs approval (prints the hash)
    2  usage, or a fault in the inventory 7  needs a person: an outcome cannot be observed
    3  refused by a guard on every node   130  interrupted; the run can be resumed
    4  some nodes done, some not

EXAMPLES
    rackctl lab create demo --nodes 3          a fleet of emulated machines to try everything on
    rackctl --context lab-demo get nodes       what there is, and how it stands
    rackctl plan                               what would be done, and why
    rackctl apply --allow data-loss            bare machines become members of a healthy cluster
    rackctl get nodes -l role=db -o yaml       for scripts";

/// From bare machines to a healthy cluster: BMCs, network boot, installation and membership.
#[derive(Debug, Parser)]
#[command(name = "rackctl", version, after_long_help = AFTER, after_help = "`rackctl help VERB` shows examples; `rackctl --help` the exit codes.", max_term_width = 100, propagate_version = false, infer_long_args = false)]
pub struct Cli {
    #[command(flatten)]
    pub globals: GlobalArgs,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Get(look::Get),
    Describe(look::Describe),
    Explain(look::Explain),
    Schema(look::Schema),
    Validate(look::Validate),
    Diff(look::Diff),
    Plan(run::Plan),
    Apply(run::Apply),
    Install(run::Install),
    Join(run::Join),
    Upgrade(run::Upgrade),
    Power(act::Power),
    Boot(act::Boot),
    Bmc(bmc::Bmc),
    Inspect(act::Inspect),
    Console(act::Console),
    Ssh(act::Ssh),
    Logs(look::Logs),
    Image(host::Image),
    Runs(look::Runs),
    Run(run::RunPlaybook),
    Playbook(run::PlaybookArgs),
    Resume(run::Resume),
    Pause(run::Pause),
    Abort(run::Abort),
    Approve(run::Approve),
    Lock(state::Lock),
    Audit(state::Audit),
    Store(state::Store),
    State(state::State),
    Lab(lab::Lab),
    Doctor(host::Doctor),
    Config(host::Config),
    Completion(host::Completion),
    Man(host::Man),
    Version(host::Version),
    /// The network-boot servers of a run: started by the run itself.
    #[command(name = "__netboot", hide = true)]
    Netboot {
        /// Descriptor of the socket pair to the run.
        fd: i32,
    },
    /// The supervisor of a laboratory: started by `lab create`.
    #[command(name = "__lab-supervisor", hide = true)]
    LabSupervisor {
        dir: std::path::PathBuf,
    },
    /// What the SSH server of a simulated machine runs.
    #[command(name = "__lab-node", hide = true)]
    LabNode {
        control: std::path::PathBuf,
        node: String,
    },
}

#[cfg(test)]
mod tests;
