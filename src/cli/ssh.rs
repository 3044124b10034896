//! `ssh` and `console`: a shell whose host key is the pinned one, and the serial console.

use std::os::unix::process::CommandExt;

use super::{
    args::act::{Console, Ssh},
    globals::Globals,
    session::{Session, failure},
};
use crate::{
    lab,
    model::{Failure, failure::Cause},
    output::{Exit, Stop},
    remote,
    run::observe,
};

pub fn ssh(globals: &Globals, args: &Ssh) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let node = session.node(&args.name)?;
    let records = session.store.node_records().map_err(|e| failure(&e))?;
    let record = records.into_iter().find(|(n, _)| *n == args.name).map(|(_, r)| r).ok_or_else(|| {
        Failure::new(
            Cause::Guard,
            format!("{}: ssh", args.name),
            "no installation of it is recorded, so no host key is known to be its own",
        )
        .next(format!("rackctl install {}", args.name))
    })?;
    let target = observe::ssh_target(node, &record.system_host_key)?;
    let command: Vec<String> = args.command.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    let ssh = remote::client::Ssh::prepare(target, &session.scratch()?)?;
    let argv = ssh.interactive(&command)?;
    session.enter(std::slice::from_ref(&args.name))?;
    // The process becomes ssh; what it leaves behind is one public key in a scratch folder.
    let error = std::process::Command::new(&argv[0]).args(&argv[1..]).exec();
    Err(Failure::new(Cause::Local, format!("{}: start ssh", args.name), error.to_string())
        .next("rackctl doctor")
        .into())
}

pub fn console(globals: &Globals, args: &Console) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    session.node(&args.name)?;
    let names = std::slice::from_ref(&args.name);
    let space = session.networks(names).iter().find_map(|n| session.fleet.networks[n].netns.clone());
    match space.as_deref().and_then(|s| s.strip_prefix("rackctl-")) {
        Some(laboratory) => {
            lab::console(laboratory, &args.name)?;
            Ok(Exit::Done)
        }
        None => Err(Failure::new(
            Cause::Guard,
            format!("{}: console", args.name),
            "this version attaches to the consoles of laboratories; serial-over-LAN of real BMCs is not driven yet",
        )
        .next("ipmitool -I lanplus -H BMC -U USER sol activate")
        .into()),
    }
}
