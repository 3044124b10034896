//! Many simulated fleets, optimised: `examples/simulate.rs` does it.

use std::process::ExitCode;

use crate::{exec::Argv, trouble::Trouble};

pub fn run(rest: &[String]) -> Result<ExitCode, Trouble> {
    let words = ["cargo", "run", "--profile", "sim", "--quiet", "--example", "simulate", "--"];
    let status = Argv::new(&words).args(rest.to_vec()).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
