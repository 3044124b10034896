//! `ssh` and `console`: a shell whose host key is the pinned one, and the serial console.

use std::{
    os::unix::{net::UnixStream, process::CommandExt},
    sync::Arc,
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    args::act::{Console, Ssh},
    globals::Globals,
    session::{Session, block_on, failure},
};
use crate::{
    bmc::{self, ipmi::client::Heard},
    lab,
    model::{Failure, failure::Cause},
    output::{Exit, Stop, stdout},
    remote,
    run::observe,
};

/// Of the log-in at the BMC, and of each command there.
const LOG_IN: Duration = Duration::from_secs(30);

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
        None => {
            session.enter(names)?;
            block_on(async {
                let passwords = session.passwords(names).await?;
                let options = bmc::Options {
                    read_only: session.read_only,
                    deadline: LOG_IN,
                    // An IPMI session that is left open ends by itself.
                    ledger: Arc::new(bmc::NoLedger),
                    observer: session.observer(),
                    gate: None,
                };
                let client = bmc::Client::open_ipmi(session.node(&args.name)?, &passwords, options).await?;
                let ended = serial(&client).await;
                let _ = client.close().await;
                Ok(ended.map(|()| Exit::Done)?)
            })
        }
    }
}

/// Serial over LAN on this terminal, until `~.` or until the BMC ends it.
async fn serial(client: &bmc::Client) -> Result<(), Failure> {
    let what = || format!("{}: console", client.node());
    let local = |error: std::io::Error| Failure::new(Cause::Local, what(), error.to_string());
    let mut console = client.ipmi("console")?.console(false).await?;
    let (ours, terminal) = UnixStream::pair().map_err(local)?;
    ours.set_nonblocking(true).map_err(local)?;
    let mut ours = tokio::net::UnixStream::from_std(ours).map_err(local)?;
    stdout::note(&format!("[{}: ~. at the start of a line leaves]", client.node()));
    // The terminal is read by a thread of its own: closing our end ends it.
    let mut attached = tokio::task::spawn_blocking(move || lab::attach(&terminal).map(drop));
    let mut typed = [0u8; 4096];
    let ended = loop {
        tokio::select! {
            left = &mut attached => break left.unwrap_or_else(|error| Err(local(error.into()))),
            read = ours.read(&mut typed) => match read {
                Ok(count) if count > 0 => {
                    let bytes = typed.get(..count).unwrap_or_default();
                    match console.send(bytes) {
                        Ok(taken) if taken == count => {}
                        Ok(_) => {
                            let why = "the BMC takes the text slower than it comes: some of it was not sent";
                            break Err(Failure::new(Cause::Busy, what(), why));
                        }
                        Err(failure) => break Err(failure),
                    }
                }
                // It was left: the task says how.
                _ => {}
            },
            heard = console.next() => match heard {
                // A terminal that was left takes nothing more; the task says how it was left.
                Ok(Heard::Bytes(bytes)) => drop(ours.write_all(&bytes).await),
                Ok(Heard::Closed) => {
                    break Err(Failure::new(Cause::Unreachable, what(), "the BMC ended it: another session took it, or it restarts"));
                }
                Err(failure) => break Err(failure),
            },
        }
    };
    drop(ours);
    if !attached.is_finished() {
        let _ = attached.await;
    }
    let closed = console.close().await;
    ended.and(closed)
}
