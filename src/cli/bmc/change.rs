//! What `bmc` changes: one short run each, under locks, guards and journal.

use std::{sync::Arc, time::Duration};

use crate::{
    cli::{
        args::{
            Targets,
            bmc::{Nmi, Reset, Taking},
        },
        globals::Globals,
        seen,
        session::Session,
        short::{self, Short},
        targets::{self, Nothing},
    },
    model::{Failure, Secret, bmc::BmcChange, failure::Cause, goal::Goal},
    output::{Exit, Stop, stdout},
};

/// How a change was asked for.
#[derive(Default)]
pub struct Asked {
    pub yes: bool,
    pub lose_quorum: bool,
    pub installed: bool,
    pub dry_run: bool,
    pub secret: Option<Arc<Secret>>,
}

impl Asked {
    pub fn taking(taking: Taking) -> Asked {
        Asked { yes: taking.yes, lose_quorum: taking.lose_quorum, ..Asked::default() }
    }
}

pub fn nmi(globals: &Globals, args: &Nmi) -> Result<Exit, Stop> {
    let asked = Asked { dry_run: args.dry.dry_run, ..Asked::taking(args.taking) };
    run(globals, &args.targets, BmcChange::Nmi, asked)
}

pub fn reset(globals: &Globals, args: &Reset) -> Result<Exit, Stop> {
    run(
        globals,
        &args.targets,
        BmcChange::RestartBmc,
        Asked { yes: args.yes, dry_run: args.dry.dry_run, ..Asked::default() },
    )
}

pub fn run(globals: &Globals, targets: &Targets, change: BmcChange, asked: Asked) -> Result<Exit, Stop> {
    let goal =
        |nodes| Goal::Bmc { nodes, change: change.clone(), lose_quorum: asked.lose_quorum, installed: asked.installed };
    if asked.dry_run {
        return short::plan_alone(globals, targets, Nothing::IsRefused, &goal);
    }
    if change.destroys() && !asked.yes {
        confirm_loss(globals, targets, &change)?;
    }
    let ask = match &change {
        _ if asked.yes || change.destroys() => None,
        BmcChange::Nmi => Some("bmc nmi"),
        BmcChange::UpdateFirmware { .. } => Some("bmc firmware --update"),
        BmcChange::RestartBmc => Some("bmc reset"),
        BmcChange::ClearLog { .. } => Some("bmc log --clear"),
        BmcChange::SetPassword { .. } => Some("bmc users --set-password"),
        BmcChange::DeleteUser { .. } => Some("bmc users --delete"),
        BmcChange::EnableUser { on: false, .. } => Some("bmc users --disable"),
        BmcChange::ReplaceCertificate { .. } => Some("bmc cert --replace"),
        _ => None,
    };
    let short = Short {
        heading: "RESULT",
        field: "result",
        ask,
        secret: asked.secret,
        stagger: Duration::ZERO,
        patience: globals.timeout.unwrap_or(Duration::from_secs(change.deadline_s())),
        limit: None,
        hint: "",
    };
    short::run(globals, targets, Nothing::IsRefused, &short, &goal)
}

/// Whoever destroys data types what is lost; a script says `--yes`.
fn confirm_loss(globals: &Globals, targets: &Targets, change: &BmcChange) -> Result<(), Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, Nothing::IsRefused)?;
    let what = format!("bmc raid: {}", change.word());
    let lost = match change {
        BmcChange::CreateVolume { drives, .. } => format!("everything on the drives {}", drives.join(", ")),
        BmcChange::DeleteVolume { volume } => format!("everything on the volume {volume}"),
        _ => "data".to_owned(),
    };
    if !stdout::stdin_is_terminal() {
        let why = format!("DATA LOSS: {lost} of {} would be gone", names.join(", "));
        let failure = Failure::new(Cause::Guard, what, why).next("--yes says that this is meant");
        return Err(Stop::with(Exit::NeedsApproval, failure));
    }
    stdout::note(&format!("DATA LOSS on {}: {lost}", names.join(", ")));
    stdout::note("Type `wipe` to go on, anything else to leave:");
    let mut answer = String::new();
    let read = std::io::BufRead::read_line(&mut std::io::stdin().lock(), &mut answer);
    if read.is_ok() && answer.trim() == "wipe" {
        return Ok(());
    }
    let failure = Failure::new(Cause::Guard, what, "it was not confirmed; nothing was done");
    Err(Stop::with(Exit::NeedsApproval, failure))
}
