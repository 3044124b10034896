//! Verbs whose parts are built on other branches. Replaced at the merge, and then deleted.

use super::{args, globals::Globals};
use crate::{
    model::{Failure, Fleet, facts::UnixMs, failure::Cause},
    output::{
        Exit, Kind, Stop,
        records::Record,
        resource::{Observation, Status},
    },
};

pub fn elsewhere(what: &str) -> Stop {
    Failure::new(Cause::Local, format!("rackctl {what}"), "this part is built on another branch").into()
}

macro_rules! elsewhere {
    ($($name:ident: $args:ty),* $(,)?) => {
        $(pub fn $name(_: &Globals, _: &$args) -> Result<Exit, Stop> {
            Err(elsewhere(stringify!($name)))
        })*
    };
}

elsewhere! {
    diff: args::look::Diff,
    plan: args::run::Plan,
    apply: args::run::Apply,
    install: args::run::Install,
    join: args::run::Join,
    resume: args::run::Resume,
    power: args::act::Power,
    boot: args::act::Boot,
    bmc: args::act::Bmc,
    console: args::act::Console,
    ssh: args::act::Ssh,
    logs: args::look::Logs,
}

pub fn netboot(_fd: i32) -> Result<Exit, Stop> {
    Err(elsewhere("__netboot"))
}

/// What the store remembers of every node and cluster; with `refresh`, the machines are asked first.
pub fn status(_: &Globals, _: &Fleet, now: UnixMs, refresh: bool) -> Result<Status, Stop> {
    if refresh {
        return Err(elsewhere("get --refresh"));
    }
    Ok(Status { now, ..Status::default() })
}

/// Everything that the store has of one node.
pub fn observation(_: &Globals, _: &Fleet, _node: &str) -> Result<Observation, Stop> {
    Ok(Observation::default())
}

/// Runs, locks, leases, events, members.
pub fn records(_: &Globals, _: &Fleet, kind: Kind) -> Result<Vec<Record>, Stop> {
    Err(elsewhere(&format!("get {}", kind.plural())))
}
