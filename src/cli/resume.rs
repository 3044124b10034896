//! `resume`: go on with a run from its journal. The inventory is not read again: the run has its own.

use super::{
    approve,
    args::run::Resume,
    conduct::{self, Run},
    control,
    globals::Globals,
    play, prepare,
    session::{Session, block_on, stop},
};
use crate::{
    model::{Failure, Fleet, boot::BootObject, clock::utc, failure::Cause},
    netboot::servers::Servers,
    output::{Exit, Stop, stdout},
    plan::{Danger, Plan},
    run::clock,
    store::{Draft, Record, RecordKind, RunRecord, RunState},
};

pub fn resume(globals: &Globals, args: &Resume) -> Result<Exit, Stop> {
    // Where the store is depends on the fleet of the inventory; what is run, on the fleet of the run.
    let session = Session::open(globals)?;
    let Some(record) = control::open_run(&session, args.run.as_deref(), "resume")? else {
        stdout::note("No run is open: nothing to resume.");
        return Ok(Exit::Done);
    };
    if record.goal.is_playbook() {
        return play::resume(globals, session, &record, args);
    }
    go_on(globals, session, &record, Some(args))
}

/// A run that a step of a playbook made, gone on with by the playbook.
pub fn step(globals: &Globals, session: Session, record: &RunRecord, args: &Resume) -> Result<Exit, Stop> {
    go_on(globals, session, record, Some(args))
}

/// The end of a run whose process is dead and that was given up: its finalizers, and nothing else.
pub fn finish_off(globals: &Globals, session: Session, record: RunRecord) -> Result<Exit, Stop> {
    if record.goal.is_playbook() {
        return play::give_up(globals, session, &record);
    }
    go_on(globals, session, &record, None)
}

/// `args` absent: it is aborted.
fn go_on(globals: &Globals, found: Session, record: &RunRecord, args: Option<&Resume>) -> Result<Exit, Stop> {
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
    let abort = args.is_none();
    let names = &record.goal.scope().0.clone();
    let space = session.enter(names)?;
    let child = if abort || plan.networks.is_empty() { None } else { Some(Servers::spawn(space.as_deref())?) };
    block_on(async {
        let mut locks = plan.locks();
        locks.extend(names.iter().map(|n| format!("node/{n}")));
        // What the process that died held beyond the plan's (the network, before it was known that no machine boots):
        // nobody else gives it back.
        let held = session.store.locks().map_err(|e| stop(&e))?;
        locks.extend(held.into_iter().filter(|lock| lock.run == record.id).map(|lock| lock.name));
        locks.sort();
        locks.dedup();
        let fence = session.lock(&locks, &record.id)?;
        let go_on = async {
            let records = session.store.journal(&record.id).map_err(|e| stop(&e))?;
            let mut approval = approve::recorded(&records);
            if let Some(args) = args {
                if let Some(hash) = args.approve.first() {
                    if !args.approve.iter().any(|hash| record.plan_hash.starts_with(hash.as_str())) {
                        let why = format!("--approve {hash} names another plan; this one is {}", record.plan_hash);
                        let failure = Failure::new(Cause::Guard, "approval", why).next("rackctl runs");
                        return Err(Stop::with(Exit::NeedsApproval, failure));
                    }
                    if let Some(given) = approve::of_this_operator(&session, &plan, args.expires)? {
                        approve::second_operator(&session, &plan)?;
                        approve::record(&session, &record.id, &fence, &given)?;
                        approval = Some((given.envelope, given.expires_ms));
                    }
                }
                still_approved(record, &plan, &records, approval.as_ref().map(|(_, until)| *until))?;
                // An old wish is not a new one.
                session.store.set_control(&record.id, None).map_err(|e| stop(&e))?;
            }
            let passwords = session.passwords(names).await?;
            session.sweep(&passwords).await?;
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
                body: serde_json::json!({ "abort": abort }),
            };
            session.store.append(&record.id, clock::unix_ms(), &fence, draft).map_err(|e| stop(&e))?;
            let doing = if abort { "leaving the machines of run" } else { "resuming run" };
            stdout::note(&format!(
                "{doing} {}{} ({} records)",
                record.id,
                if abort { " safe" } else { "" },
                records.len()
            ));
            let run = Run {
                id: record.id.clone(),
                plan: plan.clone(),
                fence: fence.clone(),
                passwords,
                objects,
                servers,
                records,
                child,
                approval,
                abort,
            };
            conduct::conduct(globals, &session, run).await
        };
        let result = go_on.await;
        session.release(&fence, result)
    })
}

/// Nothing is destroyed on an approval that has run out: asked anew before anything is touched.
fn still_approved(record: &RunRecord, plan: &Plan, records: &[Record], until: Option<u64>) -> Result<(), Stop> {
    let past = crate::run::past(records);
    let left =
        plan.steps().filter(|s| s.danger == Danger::DataLoss && !past.get(&s.id).is_some_and(|p| p.done)).count();
    let why = match until {
        _ if left == 0 => return Ok(()),
        Some(until) if clock::unix_ms() < until => return Ok(()),
        Some(until) => format!("{left} disks are still to be written, and its approval was good until {}", utc(until)),
        None => format!("{left} disks are still to be written, and its journal holds no approval"),
    };
    let hash: String = record.plan_hash.chars().take(12).collect();
    let failure = Failure::new(Cause::Guard, format!("resume {}", record.id), why);
    Err(Stop::with(Exit::NeedsApproval, failure.next(format!("rackctl resume {} --approve {hash}", record.id))))
}
