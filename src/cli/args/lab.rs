//! Laboratories: fleets of emulated machines with BMCs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use crate::{
    cli::complete,
    lab::bmc::{Fault, Faults, PROFILES},
};

const MACHINES_MAX: i64 = crate::lab::spec::MACHINES_MAX as i64;
pub const DEFAULT_NAME: &str = "demo";

/// A fleet of emulated machines, each with a BMC of its own
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl lab create demo --nodes 3 --spares 1
    rackctl lab create many --nodes 40 --cluster-size 5 --simulated
    rackctl lab create odd --nodes 3 --bmc-fault n2:supermicro-x13 --bmc-fault power-lag=5s
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
    /// How BMCs misbehave from the beginning: `FAULT[=VALUE]` of all, `n2:FAULT[=VALUE]` of one; repeatable
    ///
    /// `rackctl lab bmc set --help` lists the faults.
    #[arg(long, value_name = "[NODE:]FAULT", value_parser = created_fault)]
    pub bmc_fault: Vec<(Option<String>, Faults)>,
    /// Where its files go [default: a folder of the XDG state folder]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum LabBmcVerb {
    /// Make the BMC of a machine misbehave; what is not named ends
    ///
    /// Each fault is one that a real BMC has shown. Faults that a machine was created with stay; those set here lie
    /// over them and replace what was set here before.
    #[command(after_help = "\
EXAMPLES
    rackctl lab bmc set n2 --fault power-noop
    rackctl lab bmc set n2 --fault power-lag=20s --fault session-cap=2
    rackctl lab bmc set n2 --fault supermicro-x13
    rackctl lab bmc set n2 --list -o wide
    rackctl lab bmc set n2 --clear

`--help` lists all faults.", after_long_help = faults_help())]
    Set {
        /// Laboratory
        #[arg(long, default_value = DEFAULT_NAME, add = ArgValueCompleter::new(complete::labs))]
        lab: String,
        #[arg(add = ArgValueCompleter::new(complete::lab_nodes))]
        node: String,
        /// A fault, or a vendor's set of them; repeatable, a later one of the same name wins
        #[arg(long, value_name = "FAULT[=VALUE]", value_parser = bmc_fault, required_unless_present_any = ["clear", "list"], add = ArgValueCompleter::new(complete::bmc_faults))]
        fault: Vec<BmcFault>,
        /// Behave again, as it was made (an identity or a key that was changed stays)
        #[arg(long, conflicts_with_all = ["fault", "list"])]
        clear: bool,
        /// Show what it does now, and change nothing
        #[arg(long, conflicts_with = "fault")]
        list: bool,
    },
    /// Show a BMC of a recorded Redfish tree on a loopback port, until ^C
    ///
    /// Power, boot overrides and sessions live; everything else is as it was recorded. Prints its address, its user,
    /// the file of its password and the pin of its key.
    #[command(after_help = "\
EXAMPLES
    rackctl lab bmc serve --tree trees/dell-r750 --password-file bmc-password
    rackctl lab bmc serve --tree trees/dell-r750 --password-file bmc-password --fault session-cap=2")]
    Serve {
        /// Folder that holds redfish/v1/index.json; without it the laboratory's own BMC is shown
        #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
        tree: Option<PathBuf>,
        /// File whose first line is the password of the user `admin`
        #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        password_file: PathBuf,
        /// Where it listens; loopback addresses alone
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
        /// A fault, or a vendor's set of them; repeatable
        #[arg(long, value_name = "FAULT[=VALUE]", value_parser = nature, add = ArgValueCompleter::new(complete::bmc_faults))]
        fault: Vec<Faults>,
    },
}

/// What can be done to a BMC of a laboratory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BmcFault {
    /// Behave again
    None,
    Set(Faults),
    /// Another key and certificate from now on, as an impostor has
    SwapCertificate,
    /// Another board or disk
    Serial(String),
    Uuid(uuid::Uuid),
    DiskSerial(String),
}

fn bmc_fault(text: &str) -> Result<BmcFault, String> {
    Ok(match text.split_once('=') {
        None if text == "none" => BmcFault::None,
        None if text == "swap-certificate" => BmcFault::SwapCertificate,
        Some(("bmc-serial", serial)) => BmcFault::Serial(serial.to_owned()),
        Some(("disk-serial", serial)) => BmcFault::DiskSerial(serial.to_owned()),
        Some(("uuid", uuid)) => BmcFault::Uuid(uuid.parse().map_err(|e| format!("`{uuid}` is no UUID: {e}"))?),
        _ => BmcFault::Set(Faults::parse_one(text)?),
    })
}

fn nature(text: &str) -> Result<Faults, String> {
    Faults::parse_one(text)
}

/// `power-noop` of all machines, `n2:power-noop` of one.
fn created_fault(text: &str) -> Result<(Option<String>, Faults), String> {
    match text.split_once(':').filter(|(node, _)| !node.contains('=')) {
        Some((node, fault)) => Ok((Some(node.to_owned()), Faults::parse_one(fault)?)),
        None => Ok((None, Faults::parse_one(text)?)),
    }
}

/// All that the table has, a line each.
fn faults_help() -> String {
    let mut text = String::from("FAULTS\n");
    let mut line = |name: &str, does: &str, source: &str| {
        text.push_str(&format!("    {name}\n        {does} ({source})\n"));
    };
    line("none", "behave again", "the same as --clear");
    line("swap-certificate", "another key and certificate from now on", "an impostor, a factory reset");
    line("bmc-serial=TEXT, uuid=UUID, disk-serial=TEXT", "another board or disk; it stays", "a swapped machine");
    for fault in Fault::ALL {
        let example = fault.takes().example();
        let name = if example.is_empty() { fault.name().to_owned() } else { format!("{}={example}", fault.name()) };
        line(&name, fault.does(), fault.source());
    }
    text.push_str("\nVENDORS (sets of the faults above)\n");
    for profile in PROFILES {
        text.push_str(&format!("    {}\n        {} ({})\n", profile.name, profile.does, profile.source));
    }
    text.push_str("\nEXAMPLES\n    rackctl lab bmc set n2 --fault power-noop\n    rackctl lab bmc set n2 --fault ami-megarac --fault power-lag=20s\n    rackctl lab bmc set n2 --list\n    rackctl lab bmc set n2 --clear");
    text
}
