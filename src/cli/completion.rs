//! `rackctl completion`: the script that makes a shell ask rackctl itself.

use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use super::{
    COMPLETE_VAR,
    args::host::{Completion, Shell},
};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Stop, stdout},
};

pub fn run(args: &Completion) -> Result<Exit, Stop> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let fault = |why: String| Failure::new(Cause::Local, "rackctl completion", why);
    let mut script = Vec::new();
    shell
        .write_registration(COMPLETE_VAR, "rackctl", "rackctl", "rackctl", &mut script)
        .map_err(|e| fault(e.to_string()))?;
    let text = String::from_utf8(script).map_err(|e| fault(e.to_string()))?;
    stdout::print(&text)?;
    Ok(Exit::Done)
}
