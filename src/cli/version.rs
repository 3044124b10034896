//! `rackctl version`: starts nothing, reads nothing.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::globals::Globals;
use crate::output::{Exit, Stop, format::API_VERSION, stdout};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The bare `rackctl version`, answered before the grammar is built: scripts ask for it often.
pub fn at_once() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let word = words.next()?;
    if !(word == "version" || word == "--version" || word == "-V") || words.next().is_some() {
        return None;
    }
    Some(match stdout::print(&text()) {
        Ok(()) => Exit::Done.into(),
        Err(stop) => stop.exit.into(),
    })
}

pub fn run(globals: &Globals) -> Result<Exit, Stop> {
    stdout::print(&globals.format.render_one(&value(), |_| text()))?;
    Ok(Exit::Done)
}

fn text() -> String {
    format!("rackctl {VERSION}\n")
}

fn value() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "Version", "metadata": { "name": "rackctl" }, "spec": {},
        "status": {
            "version": VERSION, "os": std::env::consts::OS, "arch": std::env::consts::ARCH,
            "manifests": API_VERSION, "nodeProtocol": rackctl_wire::PROTOCOL,
        },
    })
}
