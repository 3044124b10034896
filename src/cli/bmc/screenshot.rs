//! `bmc screenshot`: what stands on a machine's screen.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::look;
use crate::{
    cli::{args::bmc::Screenshot as Args, globals::Globals},
    model::{Failure, failure::Cause},
    output::{Exit, Stop},
};

#[derive(Serialize)]
struct Said {
    file: PathBuf,
    bytes: usize,
}

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    let (session, names) = look::chosen(globals, &args.targets)?;
    if args.out.is_some() && names.len() > 1 {
        let why = "--out is of one machine; without it each gets a file of its name";
        return Err(Stop::usage(Failure::new(Cause::Refused, "bmc screenshot", why)));
    }
    let rows = look::over_these(&session, &names, |client| {
        Box::pin(async move { client.redfish("take a screenshot")?.screenshot().await })
    })?;
    let mut written = Vec::new();
    for (name, result) in rows {
        let result = result.and_then(|shot| {
            let file = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.{}", shot.format)));
            write(&file, &shot.bytes)?;
            Ok(Said { file, bytes: shot.bytes.len() })
        });
        written.push((name, result));
    }
    look::show(
        globals,
        written,
        |_| vec!["FILE", "BYTES"],
        |said, _| vec![vec![said.file.display().to_string(), said.bytes.to_string()]],
    )
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(file, bytes)
        .map_err(|e| Failure::new(Cause::Local, format!("write {}", file.display()), e.to_string()))
}
