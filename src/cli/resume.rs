//! `resume`: go on with a run from its journal. The inventory is not read again: the run has its own.

use super::{
    args::run::Resume,
    conduct::{self, Run},
    globals::Globals,
    prepare,
    session::{Session, block_on, stop},
};
use crate::{
    model::{Failure, Fleet, boot::BootObject, failure::Cause},
    netboot::servers::Servers,
    output::{Exit, Stop, stdout},
    plan::Plan,
    run::clock,
    store::{Draft, Holder, LEASE, RecordKind, RunState},
};

pub fn resume(globals: &Globals, args: &Resume) -> Result<Exit, Stop> {
    // Where the store is depends on the fleet of the inventory; what is run, on the fleet of the run.
    let found = Session::open(globals)?;
    let runs = found.store.runs().map_err(|e| stop(&e))?;
    let open = |s: RunState| matches!(s, RunState::Running | RunState::Interrupted);
    let record = match &args.run {
        Some(id) => runs.into_iter().find(|r| r.id == *id).ok_or_else(|| {
            Stop::usage(Failure::new(Cause::Refused, format!("run {id}"), "there is no such run").next("rackctl runs"))
        })?,
        None => match runs.into_iter().find(|r| open(r.state)) {
            Some(record) => record,
            None => {
                stdout::note("No run is open: nothing to resume.");
                return Ok(Exit::Done);
            }
        },
    };
    if !open(record.state) {
        let why = format!("it has ended ({:?}); a new apply plans from what is there now", record.state);
        return Err(Failure::new(Cause::Guard, format!("resume {}", record.id), why).next("rackctl apply").into());
    }
    let unreadable = |e: serde_json::Error| {
        Failure::new(
            Cause::Malformed,
            format!("resume {}", record.id),
            format!("it was recorded by version {}: {e}", record.actor.version),
        )
        .next("use the version that began it")
    };
    let fleet: Fleet = serde_json::from_value(record.fleet.clone()).map_err(unreadable)?;
    let plan: Plan = serde_json::from_value(record.plan.clone()).map_err(unreadable)?;
    let session = Session { fleet, ..found };
    if session.read_only {
        return Err(Failure::new(
            Cause::Guard,
            format!("resume {}", record.id),
            "--read-only: a resumed run changes machines",
        )
        .into());
    }
    let names = &prepare::scope(&record.goal).0.clone();
    let space = session.enter(names)?;
    let child = if plan.networks.is_empty() { None } else { Some(Servers::spawn(space.as_deref())?) };
    block_on(async {
        let mut locks = plan.locks();
        locks.extend(names.iter().map(|n| format!("node/{n}")));
        locks.sort();
        locks.dedup();
        let fence =
            session.store.lock(&locks, &record.id, &Holder::this(), &clock::stamp(), LEASE).map_err(|e| stop(&e))?;
        let go_on = async {
            let passwords = session.passwords(names).await?;
            session.sweep(&passwords).await?;
            let records = session.store.journal(&record.id).map_err(|e| stop(&e))?;
            let objects: Vec<BootObject> = records
                .iter()
                .find(|r| r.kind == RecordKind::RunStarted)
                .and_then(|r| r.body.get("objects"))
                .and_then(|o| serde_json::from_value(o.clone()).ok())
                .unwrap_or_default();
            let servers = prepare::servers(&session, plan.networks.keys());
            session.store.set_run_state(&record.id, RunState::Running, None).map_err(|e| stop(&e))?;
            let draft = Draft {
                subject: "run".into(),
                step: "run".into(),
                attempt: 1,
                kind: RecordKind::RunResumed,
                body: serde_json::Value::Null,
            };
            session.store.append(&record.id, clock::unix_ms(), &fence, draft).map_err(|e| stop(&e))?;
            stdout::note(&format!("resuming run {} ({} records)", record.id, records.len()));
            let run = Run {
                id: record.id.clone(),
                plan: plan.clone(),
                fence: fence.clone(),
                passwords,
                objects,
                servers,
                records,
                child,
            };
            conduct::conduct(globals, &session, run).await
        };
        let result = go_on.await;
        session.store.unlock(&fence).map_err(|e| stop(&e))?;
        result
    })
}
