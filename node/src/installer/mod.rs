//! PID 1 of the installer: claim, second stage, look at the disks, do what the directives say.

mod claim;
mod reporter;
mod stage2;
mod ticket;

use crate::api::Api;
use crate::clock;
use crate::cmdline::InstallerLine;
use crate::console::say;
use crate::disks;
use crate::dmi;
use crate::fetch;
use crate::hardware;
use crate::hostkey::HostKey;
use crate::init::{reboot, stay};
use crate::net;
use crate::node_error::{NodeError, Result};
use crate::progress::Progress;
use crate::seed;
use claim::Session;
use rackctl_wire::{Directive, Seed, Stage, WriteTicket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long drivers and links may take.
const INTERFACE_WAIT: Duration = Duration::from_secs(60);
const CARRIER_WAIT: Duration = Duration::from_secs(20);
/// For the last report of a boot.
const LAST_WORD: Duration = Duration::from_secs(2);
const BUNDLE: &str = "/run/rackctl/system.tar.zst";

/// Everything that is known and made before the first word to the server.
pub struct Machine {
    pub line: InstallerLine,
    pub seed: Seed,
    pub boot_id: String,
    pub installer_key: HostKey,
    pub system_key: HostKey,
}

pub fn run(line: &str) -> ! {
    let machine = match prepare(line) {
        Ok(machine) => Arc::new(machine),
        Err(error) => {
            say(format!("FAILED before the claim: {error}"));
            stay()
        }
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work(machine)),
        Err(error) => say(format!("FAILED: no runtime: {error}")),
    }
    stay()
}

fn prepare(line: &str) -> Result<Machine> {
    let line = InstallerLine::parse(line)?;
    say(format!("installer of node {}", line.node));
    let seed = seed::take(&line.node)?;
    std::fs::create_dir_all("/run/rackctl").map_err(|error| NodeError::io("making /run/rackctl", error))?;
    net::loopback()?;
    let interface = net::wait_for(&line.mac, INTERFACE_WAIT)?;
    net::configure(&interface, &[line.address], None)?;
    if !net::wait_for_carrier(&interface, CARRIER_WAIT) {
        say(format!("{interface} has no carrier yet: going on"));
    }
    if line.gateway.is_some() {
        net::configure(&interface, &[], line.gateway)?;
    }
    say(format!("{interface} ({}) has {}/{}", line.mac, line.address.address, line.address.prefix));
    Ok(Machine {
        line,
        seed,
        boot_id: dmi::boot_id(),
        installer_key: HostKey::generate()?,
        system_key: HostKey::generate()?,
    })
}

async fn work(machine: Arc<Machine>) {
    let api = match Api::new(&machine.line) {
        Ok(api) => Arc::new(api),
        Err(error) => return say(format!("FAILED: {error}")),
    };
    let claim = match claim::make(&machine) {
        Ok(claim) => claim,
        Err(error) => return say(format!("FAILED: {error}")),
    };
    let answer = match claim::patiently(&api, &claim).await {
        Ok(answer) => answer,
        Err(error) => return say(format!("FAILED: the claim: {error}")),
    };
    if let Err(error) = clock::set_wall(answer.time_unix_s) {
        say(format!("the clock could not be set: {error}"));
    }
    say("claimed");
    let progress = Progress::new(machine.line.node.clone(), machine.boot_id.clone());
    let (orders, directives) = watch::channel(None);
    let session = Session { api, claim, token: answer.session.clone() };
    tokio::spawn(reporter::run(session, progress.clone(), orders));
    match bring_up(&machine, &answer.authorized_keys, &progress).await {
        Ok(()) => progress.enter(Stage::Ready),
        Err(error) => progress.fail(&error),
    }
    follow(machine, progress, directives).await;
}

async fn bring_up(machine: &Machine, authorized_keys: &[String], progress: &Progress) -> Result<()> {
    // So that links have come up by the time they are looked at.
    hardware::raise();
    progress.enter(Stage::SecondStage);
    stage2::bring_up(machine, authorized_keys, progress).await?;
    // Those whose drivers the second stage has brought.
    hardware::raise();
    progress.enter(Stage::Examining);
    let found =
        tokio::task::spawn_blocking(disks::examine).await.map_err(|e| NodeError::io("looking at the disks", e))?;
    for disk in &found {
        let kinds: Vec<&str> = disk.content.signatures.iter().map(|signature| signature.kind.as_str()).collect();
        say(format!(
            "disk {} serial {} {} bytes: {}",
            disk.name,
            disk.serial.as_deref().unwrap_or("-"),
            disk.size_bytes,
            if disk.content.is_blank() { "blank".into() } else { format!("bears {}", kinds.join(" ")) }
        ));
    }
    progress.found(found, hardware::here());
    Ok(())
}

/// Does what the last directive says, one at a time.
async fn follow(machine: Arc<Machine>, progress: Progress, mut directives: watch::Receiver<Option<Directive>>) {
    let mut last = None;
    let mut begun: Option<String> = None;
    while directives.changed().await.is_ok() {
        let directive = directives.borrow_and_update().clone();
        if directive == last {
            continue;
        }
        match &directive {
            Some(Directive::Wait { reason }) => say(format!("waiting: {reason}")),
            Some(Directive::Stop { reason }) => say(format!("STOPPED: {reason}")),
            Some(Directive::Reboot) => {
                // So that nobody has to wait for our silence; but a server that is away does not keep us.
                progress.enter(Stage::Restarting);
                let _ = tokio::time::timeout(LAST_WORD, progress.told(Stage::Restarting)).await;
                reboot();
            }
            Some(Directive::Write(ticket)) if begun.is_none() && progress.stage() == Stage::Ready => {
                begun = Some(ticket.id.clone());
                progress.ticket(&ticket.id);
                match carry_out(&machine, ticket, &progress).await {
                    Ok(()) => progress.enter(Stage::Written),
                    Err(error) => progress.fail(&error),
                }
            }
            Some(Directive::Write(ticket)) if begun.as_ref() != Some(&ticket.id) => {
                say(format!("ticket {} is not carried out: this boot has come too far", ticket.id));
            }
            Some(Directive::Write(_)) | None => {}
        }
        last = directive;
    }
    say("no more directives come; SSH stays up");
}

async fn carry_out(machine: &Arc<Machine>, order: &WriteTicket, progress: &Progress) -> Result<()> {
    progress.enter(Stage::Fetching);
    let disk = ticket::check(order, &machine.line.system, &disks::here())?;
    say(format!("ticket {} is for disk {} ({} bytes)", order.id, disk.name, disk.size_bytes));
    let known = {
        let (machine, order, disk) = (machine.clone(), order.clone(), disk.clone());
        tokio::task::spawn_blocking(move || ticket::known(&machine, &order, &disk))
            .await
            .map_err(|error| NodeError::io("looking at the disk", error))??
    };
    if known {
        say("the disk bears this ticket's system already, whole");
        return Ok(());
    }
    let url = format!("{}/o/{}", machine.line.assets, machine.line.system.0);
    fetch::object(&url, &machine.line.system, Path::new(BUNDLE), |done, total| progress.bytes(done, total)).await?;
    say("the system bundle is here and is the right one");
    let (machine, order, watch) = (machine.clone(), order.clone(), progress.clone());
    tokio::task::spawn_blocking(move || ticket::write(&machine, &order, &disk, Path::new(BUNDLE), &watch))
        .await
        .map_err(|error| NodeError::io("writing", error))?
}
