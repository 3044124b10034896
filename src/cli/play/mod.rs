//! `run`, and `resume`, `pause`, `abort` of what it began: a playbook is a run whose steps each make a run of their own.
//!
//! [`drive`] is the loop around [`crate::engine::play`]; [`steps`] does what a step asks for; [`watch`] keeps the run's
//! lock alive and hears the operator; [`dry`] shows and does nothing.

mod drive;
mod dry;
mod steps;
mod watch;

use serde_json::json;

use super::{
    apply,
    args::run::{Limits, Resume, RunPlaybook, Settle},
    globals::Globals,
    resume as runs,
    session::{Session, stop},
};
use crate::{
    engine::play::{self, PlayEvent, Settled},
    inventory::play::bind,
    model::{
        Failure, Fleet,
        failure::Cause,
        goal::{Goal, Scope},
        play::Play,
    },
    output::{Exit, Stop, stdout},
    run::{clock, play::marks},
    store::{Draft, Fence, Holder, Record, RecordKind, RunRecord, RunState},
};

/// Who holds it carries the playbook on.
fn lock_name(run: &str) -> String {
    format!("playbook/{run}")
}

fn draft(kind: RecordKind, body: serde_json::Value) -> Draft {
    Draft { subject: "run".into(), step: "run".into(), attempt: 1, kind, body }
}

/// How far its steps may go: kept in the journal, so that a resumed playbook asks no more than the first one did.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terms {
    yes: bool,
    max_wipes: Option<u32>,
    /// Hashes of plans, or their beginnings.
    approvals: Vec<String>,
    expires_ms: Option<u64>,
}

impl Terms {
    fn limits(&self) -> Limits {
        let expires = self.expires_ms.map(std::time::Duration::from_millis);
        Limits { max_wipes: self.max_wipes, approve: None, yes: self.yes, dry_run: false, expires }
    }
}

/// As much as the first thread of a program has: a run's futures are large, in unoptimised builds above all.
const STACK_BYTES: usize = 8 << 20;

/// In the thread of its own that a step's run needs: namespaces belong to threads, and so do server processes.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("step".to_owned()).stack_size(STACK_BYTES);
        let ended = match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread.join(),
            // No thread is to be had: as `Scope::spawn` does.
            Err(error) => Err(Box::new(error.to_string()) as Box<dyn std::any::Any + Send>),
        };
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub fn run(globals: &Globals, args: &RunPlaybook) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let bound =
        bind(&session.fleet, &args.playbook, &args.set).map_err(|failures| Stop { exit: Exit::Usage, failures })?;
    if args.dry_run || session.read_only {
        dry::show(globals, &session, &bound)?;
        if args.dry_run {
            return Ok(Exit::Done);
        }
        let why = "--read-only: nothing is changed; the steps above are what would be done";
        return Err(Failure::new(Cause::Guard, format!("run {}", args.playbook), why).into());
    }
    let terms = Terms {
        yes: args.yes,
        max_wipes: args.max_wipes,
        approvals: args.approve.clone(),
        expires_ms: args.expires.and_then(|e| u64::try_from(e.as_millis()).ok()),
    };
    let id = apply::run_id();
    let fence = session.lock(&[lock_name(&id)], &id)?;
    let begun = begin(&session, &bound, &id, &fence, &terms);
    let result = begun.and_then(|()| {
        let machine = play::Play::new(&id, bound, &[]);
        drive::drive(globals, &session, machine, &id, &fence, &terms, vec![PlayEvent::Begin])
    });
    session.store.unlock(&fence).map_err(|e| stop(&e))?;
    result
}

fn begin(session: &Session, bound: &Play, id: &str, fence: &Fence, terms: &Terms) -> Result<(), Stop> {
    let plan = apply::to_value(bound)?;
    let goal = Goal::Playbook {
        name: bound.playbook.clone(),
        parameters: bound.parameters.clone(),
        nodes: Scope(bound.nodes()),
    };
    let record = RunRecord {
        id: id.to_owned(),
        started_ms: clock::unix_ms(),
        ended_ms: None,
        state: RunState::Running,
        goal,
        plan_hash: play::hash(bound),
        fleet: apply::to_value(&session.fleet)?,
        plan,
        actor: Holder::this(),
    };
    let started = draft(RecordKind::RunStarted, json!({ "plan": play::hash(bound), "terms": terms }));
    session.store.append(id, clock::unix_ms(), fence, started).map_err(|e| stop(&e))?;
    session.store.create_run(&record).map_err(|e| stop(&e))?;
    stdout::note(&format!(
        "playbook {}, run {id}: {} steps; from another terminal: rackctl describe run {id}, rackctl pause {id}",
        bound.playbook,
        bound.steps.len()
    ));
    Ok(())
}

/// What a playbook's run was begun with.
fn recalled(record: &RunRecord) -> Result<(Fleet, Play), Failure> {
    let unreadable = |e: serde_json::Error| {
        let why = format!("it was recorded by version {}: {e}", record.actor.version);
        Failure::new(Cause::Malformed, format!("resume {}", record.id), why).next("use the version that began it")
    };
    let fleet = serde_json::from_value(record.fleet.clone()).map_err(unreadable)?;
    let bound = serde_json::from_value(record.plan.clone()).map_err(unreadable)?;
    Ok((fleet, bound))
}

/// The terms of the beginning, with the approvals that were given since.
fn terms(records: &[Record]) -> Terms {
    let of = |record: &Record| serde_json::from_value::<Terms>(record.body.get("terms")?.clone()).ok();
    let began = |r: &&Record| matches!(r.kind, RecordKind::RunStarted | RecordKind::RunResumed);
    records.iter().filter(began).filter_map(of).next_back().unwrap_or_default()
}

pub fn resume(globals: &Globals, found: Session, record: &RunRecord, args: &Resume) -> Result<Exit, Stop> {
    let what = format!("resume {}", record.id);
    let (fleet, bound) = recalled(record)?;
    let session = Session { fleet, ..found };
    if session.read_only {
        return Err(Failure::new(Cause::Guard, what, "--read-only: a resumed playbook changes machines").into());
    }
    let fence = session.lock(&[lock_name(&record.id)], &record.id)?;
    let go_on = || {
        let records = session.store.journal(&record.id).map_err(|e| stop(&e))?;
        let mut terms = terms(&records);
        terms.approvals.extend(args.approve.iter().cloned());
        terms.yes |= args.yes;
        if let Some(expires) = args.expires {
            terms.expires_ms = u64::try_from(expires.as_millis()).ok();
        }
        let machine = play::Play::new(&record.id, bound, &marks(&records));
        let mut events = Vec::new();
        match (args.settle, machine.unsettled()) {
            (Some(Settle::Done), Some(_)) => events.push(PlayEvent::Settled(Settled::Done)),
            (Some(Settle::Again), Some(_)) => events.push(PlayEvent::Settled(Settled::Again)),
            (Some(_), None) => {
                let why = "--settle is for a program that ran when rackctl died; no step of this run is one";
                let failure = Failure::new(Cause::Refused, what.clone(), why);
                return Err(Stop::usage(failure.next(format!("rackctl resume {}", record.id))));
            }
            (None, _) => {}
        }
        events.push(PlayEvent::Begin);
        // An old wish is not a new one.
        session.store.set_control(&record.id, None).map_err(|e| stop(&e))?;
        session.store.set_run_state(&record.id, RunState::Running, None).map_err(|e| stop(&e))?;
        let resumed = draft(RecordKind::RunResumed, json!({ "terms": terms }));
        session.store.append(&record.id, clock::unix_ms(), &fence, resumed).map_err(|e| stop(&e))?;
        stdout::note(&format!("resuming run {} ({} records)", record.id, records.len()));
        drive::drive(globals, &session, machine, &record.id, &fence, &terms, events)
    };
    let result = go_on();
    session.store.unlock(&fence).map_err(|e| stop(&e))?;
    result
}

/// The end of a playbook whose process is dead and that was given up: the run in hand is left safe, and nothing else
/// is done.
pub fn give_up(globals: &Globals, session: Session, record: &RunRecord) -> Result<Exit, Stop> {
    let fence = session.lock(&[lock_name(&record.id)], &record.id)?;
    let go = || {
        let prefix = format!("{}.", record.id);
        let all = session.store.runs().map_err(|e| stop(&e))?;
        let mut exit = Exit::Done;
        for child in all.into_iter().filter(|r| r.id.starts_with(&prefix) && r.state.is_open()) {
            exit = aside(|| runs::finish_off(globals, session.clone(), child))?;
        }
        let given_up = draft(RecordKind::RunAborted, json!({ "outcome": "aborted" }));
        session.store.append(&record.id, clock::unix_ms(), &fence, given_up).map_err(|e| stop(&e))?;
        session.store.set_run_state(&record.id, RunState::Aborted, Some(clock::unix_ms())).map_err(|e| stop(&e))?;
        stdout::note(&format!("run {}: aborted", record.id));
        Ok(exit)
    };
    let result = go();
    session.store.unlock(&fence).map_err(|e| stop(&e))?;
    result
}
