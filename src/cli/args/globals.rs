//! Flags that every verb knows.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, ValueHint};

use super::values;
use crate::output::Format;

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global flags")]
pub struct GlobalArgs {
    /// Manifests: a file, a folder, or `-` for standard input; repeatable [env: RACKCTL_INVENTORY, separated by `:`]
    ///
    /// Default: the context's, else the folders inventory/, profiles/ and playbooks/ of the working directory.
    #[arg(short = 'f', long = "filename", short_alias = 'i', visible_alias = "inventory", value_name = "PATH", global = true, value_hint = ValueHint::AnyPath)]
    pub filename: Vec<PathBuf>,

    /// Where the state is: `sqlite:PATH` or `etcd://host:port,…` [env: RACKCTL_STORE]
    ///
    /// Default: the context's, else a file in the XDG state folder, keyed by the fleet's id.
    #[arg(long, value_name = "URL", global = true)]
    pub store: Option<String>,

    /// A context of ~/.config/rackctl/config.yaml: inventory, store, site
    #[arg(long, value_name = "NAME", global = true, add = clap_complete::engine::ArgValueCompleter::new(crate::cli::complete::contexts))]
    pub context: Option<String>,

    /// No write leaves this process; the drivers enforce it
    #[arg(long, global = true)]
    pub read_only: bool,

    /// table, wide, json, jsonl, yaml, name, jsonpath=…, custom-columns=…
    #[arg(short, long, value_name = "FORMAT", global = true, add = clap_complete::engine::ArgValueCompleter::new(crate::cli::complete::formats))]
    pub output: Option<Format>,

    /// Say more on standard error: every request to a BMC, every step that is done
    #[arg(short, long = "verbose", global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Form of the messages on standard error
    #[arg(long, value_name = "FORM", global = true, value_enum)]
    pub log_format: Option<LogFormat>,

    /// Colours: auto looks at the terminal and at NO_COLOR
    #[arg(long, value_name = "WHEN", global = true, value_enum)]
    pub color: Option<ColorWhen>,

    /// Give up after this long, as in 90s, 15m, 1h; a run is interrupted and can be resumed
    #[arg(long, value_name = "DURATION", global = true, value_parser = values::duration)]
    pub timeout: Option<Duration>,

    /// At most so many machines at the same time
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u32).range(1..=i64::from(values::CONCURRENCY_MAX)))]
    pub concurrency: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    #[default]
    Auto,
    Always,
    Never,
}
