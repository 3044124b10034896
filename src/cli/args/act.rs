//! Verbs about single machines: power, boot, console, shell.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use super::{Targets, values};
use crate::{
    cli::complete,
    model::power::{BootTarget, PowerAction},
};

/// Switch machines on and off, and see that they are
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl power status --all
    rackctl power on n[1-40] --stagger 2s
    rackctl power off n1                 asks the operating system
    rackctl power off n1 --force         does not")]
pub struct Power {
    #[command(subcommand)]
    pub verb: PowerVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum PowerVerb {
    /// Switch on
    On(PowerArgs),
    /// Shut down by asking the operating system; --force cuts the power
    Off(PowerArgs),
    /// Off, wait, and on again
    Cycle(PowerArgs),
    /// Restart: by asking the operating system; --force does not. Off and on where the BMC would not show a restart
    Reset(PowerArgs),
    /// What the BMCs say
    Status {
        #[command(flatten)]
        targets: Targets,
    },
}

#[derive(Clone, Debug, Args)]
pub struct PowerArgs {
    #[command(flatten)]
    pub targets: Targets,
    /// Without asking the operating system
    #[arg(long)]
    pub force: bool,
    /// Do not wait until the machine is in that state
    #[arg(long)]
    pub no_wait: bool,
    /// Pause between two machines
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub stagger: Option<Duration>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Also where a cluster stops serving by it
    #[arg(long)]
    pub lose_quorum: bool,
    /// Say what would be sent, send nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl PowerVerb {
    /// What is asked of the BMC; `None` for `status`.
    pub fn action(&self) -> Option<(PowerAction, &PowerArgs)> {
        Some(match self {
            PowerVerb::On(args) => (PowerAction::On, args),
            PowerVerb::Off(args) if args.force => (PowerAction::ForceOff, args),
            PowerVerb::Off(args) => (PowerAction::GracefulShutdown, args),
            PowerVerb::Cycle(args) => (PowerAction::PowerCycle, args),
            PowerVerb::Reset(args) if args.force => (PowerAction::ForceRestart, args),
            PowerVerb::Reset(args) => (PowerAction::GracefulRestart, args),
            PowerVerb::Status { .. } => return None,
        })
    }
}

/// What a machine boots from next
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl boot show --all
    rackctl boot set pxe n1
    rackctl boot set disk n1 --persistent
    rackctl boot set cd n1 --url http://10.0.0.5/rescue.iso
    rackctl boot set none n1          as ever: no override, order and media as they were")]
pub struct Boot {
    #[command(subcommand)]
    pub verb: BootVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum BootVerb {
    /// Set it, for the next boot alone, and read it back
    Set {
        #[arg(value_enum)]
        target: BootWord,
        #[command(flatten)]
        targets: Targets,
        /// Until it is set otherwise
        #[arg(long)]
        persistent: bool,
        /// http: the file that UEFI HTTP boot fetches. cd: the image that is put into its virtual drive, and taken out by
        /// `boot set none`
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// Say what would be sent, send nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// What the BMCs say
    Show {
        #[command(flatten)]
        targets: Targets,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BootWord {
    /// Nothing: as the firmware's own order says
    None,
    Pxe,
    /// UEFI HTTP boot
    Http,
    Disk,
    Cd,
    /// The firmware's setup screen
    Setup,
}

impl From<BootWord> for BootTarget {
    fn from(word: BootWord) -> Self {
        match word {
            BootWord::None => BootTarget::None,
            BootWord::Pxe => BootTarget::Pxe,
            BootWord::Http => BootTarget::Http,
            BootWord::Disk => BootTarget::Disk,
            BootWord::Cd => BootTarget::Cd,
            BootWord::Setup => BootTarget::Setup,
        }
    }
}

/// What machines have and the inventory does not say, as manifests to merge
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl inspect n1                     serial, UUID, MAC addresses, the disk: what its BMC knows
    rackctl inspect --all > found.yaml
    rackctl inspect n1 --write             into the manifest of n1, which keeps its comments
    rackctl inspect --all -o json          everything that was seen
    rackctl inspect n1 --boot              boots the installer, which looks and writes to no disk
    rackctl inspect n1 --boot --yes -o yaml

Nothing that stands in the inventory is replaced: what differs is told, with exit code 1.
With --boot a machine restarts twice: into the installer, and back to how it was found, on or off. Its network
boot and its boot override are withdrawn before that, also where something fails.")]
pub struct Inspect {
    #[command(flatten)]
    pub targets: Targets,
    /// Boot the installer over the network and look from there: disks, interfaces and their links, memory, firmware
    #[arg(long)]
    pub boot: bool,
    /// Write what is found into the manifests of the machines
    #[arg(long)]
    pub write: bool,
    /// Also machines that rackctl installed: out of service meanwhile, one at a time as their cluster allows
    #[arg(long, requires = "boot")]
    pub installed: bool,
    /// Also where a cluster stops serving meanwhile
    #[arg(long, requires = "boot")]
    pub lose_quorum: bool,
    /// Do not ask
    #[arg(short, long, requires = "boot")]
    pub yes: bool,
    /// Say what would be done, do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The serial console of a machine; `~.` leaves
#[derive(Clone, Debug, Args)]
pub struct Console {
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::nodes))]
    pub name: String,
}

/// A shell on a machine, its host key verified
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl ssh n1
    rackctl ssh n1 -- uname -a")]
pub struct Ssh {
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::nodes))]
    pub name: String,
    /// Run this instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}
