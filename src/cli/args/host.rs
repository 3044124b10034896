//! Verbs about this host and this program.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use crate::cli::complete;

/// Boot artifacts and system images
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl image build
    rackctl image list
    rackctl image verify")]
pub struct Image {
    #[command(subcommand)]
    pub verb: ImageVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ImageVerb {
    /// Build images of the inventory from verified packages
    Build {
        /// Images; without a name all that the inventory builds
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::images))]
        names: Vec<String>,
        /// Where the artifacts go [default: the artifact store of this user]
        #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
        output_dir: Option<PathBuf>,
        /// The program that installers and nodes run [default: rackctl-node beside rackctl]
        #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        node_program: Option<PathBuf>,
    },
    /// What has been built, with digests and sizes
    List,
    /// Hash everything that has been built again
    Verify {
        /// Builds, by the beginning of their key; without one all
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
    },
}

/// What this host lacks, and the command that mends it
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit 1 when something needed is missing.

EXAMPLES
    rackctl doctor
    rackctl doctor --interface br0 -o json")]
pub struct Doctor {
    /// Interface that machines boot from [default: those of the inventory's networks]
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,
}

/// The contexts of ~/.config/rackctl/config.yaml
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl config view
    rackctl config use-context lab-demo")]
pub struct Config {
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show the file as it is understood
    View,
    /// Make a context the default one
    UseContext {
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete::contexts))]
        name: String,
    },
}

/// Print the completion script of a shell
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Names of nodes, contexts and images complete from the inventory.

EXAMPLES
    source <(rackctl completion bash)
    source <(rackctl completion zsh)
    rackctl completion fish > ~/.config/fish/completions/rackctl.fish")]
pub struct Completion {
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Print the manual page, or write all of them
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl man | man -l -
    rackctl man power | man -l -
    rackctl man --dir ~/.local/share/man/man1")]
pub struct Man {
    /// A verb; without it the page of rackctl
    #[arg(value_name = "VERB", conflicts_with = "dir", add = ArgValueCompleter::new(complete::verbs))]
    pub verb: Option<String>,
    /// Write one page per verb into this folder
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// Print the version
#[derive(Clone, Debug, Args)]
pub struct Version {}
