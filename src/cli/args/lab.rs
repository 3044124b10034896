//! Laboratories: fleets of emulated machines with BMCs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use crate::cli::complete;

const MACHINES_MAX: i64 = crate::lab::spec::MACHINES_MAX as i64;
pub const DEFAULT_NAME: &str = "demo";

/// A fleet of emulated machines, each with a BMC of its own
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl lab create demo --nodes 3 --spares 1
    rackctl lab create many --nodes 40 --cluster-size 5 --simulated
    rackctl --context lab-demo apply --allow data-loss
    rackctl lab console demo n1
    rackctl lab delete demo")]
pub struct Lab {
    #[command(subcommand)]
    pub verb: LabVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum LabVerb {
    /// Make one, powered off; prints the path of the inventory that describes it
    ///
    /// Writes the context lab-NAME, so that --context lab-NAME is enough afterwards.
    Create(LabCreate),
    /// All of this host
    List,
    /// End its processes and remove its files, namespace and context
    Delete {
        #[arg(default_value = DEFAULT_NAME, add = ArgValueCompleter::new(complete::labs))]
        name: String,
    },
    /// The serial console of one of its machines; `~.` leaves
    Console {
        #[arg(add = ArgValueCompleter::new(complete::labs))]
        name: String,
        #[arg(add = ArgValueCompleter::new(complete::lab_nodes))]
        node: String,
    },
    /// Its BMCs
    Bmc {
        #[command(subcommand)]
        verb: LabBmcVerb,
    },
}

#[derive(Clone, Debug, Args)]
pub struct LabCreate {
    #[arg(default_value = DEFAULT_NAME)]
    pub name: String,
    /// Machines that become members
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=MACHINES_MAX))]
    pub nodes: u32,
    /// Machines that stand by
    #[arg(long, value_name = "M", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=MACHINES_MAX))]
    pub spares: u32,
    /// Of these, how many become members of the cluster; the others are installed and stay without one [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MACHINES_MAX))]
    pub cluster_size: Option<u32>,
    /// Machines that are simulated on the wire, not emulated: no QEMU, no images, a boot within a second
    #[arg(long)]
    pub simulated: bool,
    /// How long a simulated machine writes its disk [default: 100ms]
    #[arg(long, value_name = "DURATION", requires = "simulated", value_parser = super::values::duration)]
    pub write_time: Option<std::time::Duration>,
    /// Where its files go [default: a folder of the XDG state folder]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum LabBmcVerb {
    /// Make the BMC of a machine misbehave; what is not named ends
    Set {
        /// Laboratory
        #[arg(long, default_value = DEFAULT_NAME, add = ArgValueCompleter::new(complete::labs))]
        lab: String,
        #[arg(add = ArgValueCompleter::new(complete::lab_nodes))]
        node: String,
        /// Repeatable
        #[arg(long, value_name = "FAULT", required = true, value_enum)]
        fault: Vec<BmcFault>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BmcFault {
    /// Behave again
    None,
    /// A boot override is answered 200 and not applied
    IgnoreBootOverride,
    /// A reset is answered 204 and nothing happens
    PowerNoop,
    /// A reset is carried out and the connection breaks before the answer
    LoseResetAnswer,
    /// Another key and certificate from now on, as an impostor has
    SwapCertificate,
}
