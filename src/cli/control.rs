//! `pause` and `abort`: a wish to the process that holds the run, or, where that is dead, done here.

use std::time::Duration;

use super::{
    args::run::{Abort, Pause},
    globals::Globals,
    resume,
    session::{Session, stop},
};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Stop, stdout},
    run::clock,
    store::{Control, ControlKind, Holder, RunRecord, RunState},
};

/// How long the holder may take to finish what it has in hand before this command leaves it to it.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(300);

/// The run that is meant: named, or the newest that did not end.
pub fn open_run(session: &Session, id: Option<&str>, doing: &str) -> Result<Option<RunRecord>, Stop> {
    let Some(id) = id else {
        let runs = session.store.runs().map_err(|e| stop(&e))?;
        let newest = runs.iter().find(|r| r.state.is_open());
        // A step of a playbook is gone on with by the playbook.
        let playbook = newest.and_then(|r| r.id.split_once('.')).map(|(playbook, _)| playbook);
        let parent = runs.iter().find(|r| Some(r.id.as_str()) == playbook && r.state.is_open());
        return Ok(parent.or(newest).cloned());
    };
    let run = session.store.run(id).map_err(|e| stop(&e))?.ok_or_else(|| {
        Stop::usage(Failure::new(Cause::Refused, format!("run {id}"), "there is no such run").next("rackctl runs"))
    })?;
    if !run.state.is_open() {
        let why = format!("it has ended ({:?}); a new apply plans from what is there now", run.state);
        return Err(Failure::new(Cause::Guard, format!("{doing} {id}"), why).next("rackctl apply").into());
    }
    Ok(Some(run))
}

/// Whether a living process has the run in hand.
fn held(session: &Session, run: &str) -> Result<Option<Holder>, Stop> {
    let locks = session.store.locks().map_err(|e| stop(&e))?;
    Ok(locks.into_iter().find(|l| l.run == run && l.holder.alive()).map(|l| l.holder))
}

fn wish(session: &Session, run: &RunRecord, kind: ControlKind, reason: Option<String>) -> Result<(), Stop> {
    let control = Control { kind, actor: Holder::this(), at_ms: clock::unix_ms(), reason };
    session.store.set_control(&run.id, Some(&control)).map_err(|e| stop(&e))
}

/// Waits until the holder has done it.
fn wait(session: &Session, run: &RunRecord, holder: &Holder, what: &str) -> Result<RunState, Stop> {
    stdout::note(&format!("run {}: waiting for {holder} to {what}", run.id));
    let until = clock::since_boot() + PATIENCE;
    loop {
        let state = session.store.run(&run.id).map_err(|e| stop(&e))?.map_or(run.state, |r| r.state);
        if state != RunState::Running || held(session, &run.id)?.is_none() {
            return Ok(state);
        }
        if clock::since_boot() > until {
            let why = format!(
                "{holder} has steps in hand since more than {} s; it will {what} when they end",
                PATIENCE.as_secs()
            );
            return Err(Failure::new(Cause::Deadline, format!("run {}", run.id), why).next("rackctl runs").into());
        }
        std::thread::sleep(POLL);
    }
}

fn changes(session: &Session, verb: &str) -> Result<(), Stop> {
    if session.read_only {
        return Err(Failure::new(Cause::Guard, verb, "--read-only: no run is changed").into());
    }
    Ok(())
}

pub fn pause(globals: &Globals, args: &Pause) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    changes(&session, "pause")?;
    let Some(run) = open_run(&session, args.run.as_deref(), "pause")? else {
        stdout::note("No run is open: nothing to pause.");
        return Ok(Exit::Done);
    };
    let Some(holder) = held(&session, &run.id)? else {
        stdout::note(&format!("Run {} stands still already: no process has it in hand.", run.id));
        return Ok(Exit::Done);
    };
    wish(&session, &run, ControlKind::Pause, args.reason.clone())?;
    let state = wait(&session, &run, &holder, "finish what is in hand")?;
    stdout::note(&format!("run {}: {state:?}; go on with: rackctl resume {}", run.id, run.id).to_lowercase());
    Ok(Exit::Done)
}

pub fn abort(globals: &Globals, args: &Abort) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    changes(&session, "abort")?;
    let Some(run) = open_run(&session, args.run.as_deref(), "abort")? else {
        stdout::note("No run is open: nothing to abort.");
        return Ok(Exit::Done);
    };
    if !args.yes && stdout::stdin_is_terminal() {
        stdout::note(&format!("abort {} of {}: {}", run.id, run.actor, run.goal.scope().0.join(", ")));
        stdout::note("Type `yes` to go on, anything else to leave:");
        let mut answer = String::new();
        let read = std::io::BufRead::read_line(&mut std::io::stdin().lock(), &mut answer);
        if read.is_err() || answer.trim() != "yes" {
            let failure = Failure::new(Cause::Guard, "abort", "it was not confirmed; nothing was done");
            return Err(Stop::with(Exit::NeedsApproval, failure.next("rackctl abort … --yes")));
        }
    }
    wish(&session, &run, ControlKind::Abort, args.reason.clone())?;
    match held(&session, &run.id)? {
        Some(holder) => {
            let state = wait(&session, &run, &holder, "leave its machines safe")?;
            if state == RunState::Running {
                // It died over it: what it left is done here.
                return resume::finish_off(globals, session, run);
            }
            stdout::note(&format!("run {}: {}", run.id, format!("{state:?}").to_lowercase()));
            Ok(if state == RunState::Aborted { Exit::Done } else { Exit::Failed })
        }
        None => resume::finish_off(globals, session, run),
    }
}
