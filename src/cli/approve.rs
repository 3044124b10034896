//! Approvals: what a person allowed to be destroyed, until when, and `approve` for a second one.

use std::{io::BufRead, time::Duration};

use super::{
    args::run::Approve,
    globals::Globals,
    session::{Session, stop},
};
use crate::{
    model::{Failure, approval::Envelope, clock::utc, failure::Cause},
    output::{Exit, Stop, Table, clean, stdout},
    plan::{
        Plan,
        approval::{APPROVAL_MS, covers, envelope},
    },
    run::clock,
    store::{Approval, Draft, Fence, Holder, Record, RecordKind},
};

/// Of the operator who runs it; none where the plan destroys nothing.
pub fn of_this_operator(session: &Session, plan: &Plan, expires: Option<Duration>) -> Result<Option<Approval>, Stop> {
    let envelope = envelope(plan);
    if envelope.nodes.is_empty() {
        return Ok(None);
    }
    let now = clock::unix_ms();
    let approval = Approval {
        plan_hash: plan.hash(),
        envelope,
        approver: Holder::this(),
        at_ms: now,
        expires_ms: now + expires.map_or(APPROVAL_MS, |e| e.as_millis() as u64),
    };
    // Kept, so that a second operator finds what is asked.
    session.store.put_approval(&approval).map_err(|e| stop(&e))?;
    Ok(Some(approval))
}

/// Where a site of a destroyed node asks for it, somebody else must have approved the same plan.
pub fn second_operator(session: &Session, plan: &Plan) -> Result<(), Stop> {
    let wanted = envelope(plan);
    let asked = wanted.nodes.iter().find(|n| {
        let site = session.fleet.nodes.get(*n).and_then(|n| n.site.as_ref()).and_then(|s| session.fleet.sites.get(s));
        site.is_some_and(|s| s.second_operator)
    });
    let Some(node) = asked else { return Ok(()) };
    let (me, now, hash) = (Holder::this(), clock::unix_ms(), plan.hash());
    let given = session.store.approvals(&hash).map_err(|e| stop(&e))?;
    let other = given.iter().find(|a| a.approver.user != me.user && now < a.expires_ms && covers(&a.envelope, plan));
    if other.is_some() {
        return Ok(());
    }
    let why = format!("the site of {node} asks for a second operator, and nobody but {} has approved {hash}", me.user);
    let next = format!("somebody else: rackctl approve {}", plan.short_hash());
    Err(Stop::with(Exit::NeedsApproval, Failure::new(Cause::Guard, "approval", why).next(next)))
}

/// The approval becomes part of the run's journal: a resumed run reads it from there.
pub fn record(session: &Session, run: &str, fence: &Fence, approval: &Approval) -> Result<(), Stop> {
    let draft = Draft {
        subject: "run".into(),
        step: "run".into(),
        attempt: 1,
        kind: RecordKind::Approved,
        body: serde_json::json!({ "approval": approval }),
    };
    session.store.append(run, clock::unix_ms(), fence, draft).map(drop).map_err(|e| stop(&e))
}

/// The newest approval in a run's journal.
pub fn recorded(records: &[Record]) -> Option<(Envelope, u64)> {
    let given = |r: &&Record| matches!(r.kind, RecordKind::Approved | RecordKind::RunStarted);
    let newest = records.iter().rev().find(given)?;
    let approval: Approval = serde_json::from_value(newest.body.get("approval")?.clone()).ok()?;
    Some((approval.envelope, approval.expires_ms))
}

pub fn approve(globals: &Globals, args: &Approve) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    if session.read_only {
        let why = "--read-only: no approval is given";
        return Err(Failure::new(Cause::Guard, format!("approve {}", args.hash), why).into());
    }
    let now = clock::unix_ms();
    let all = session.store.approvals(&args.hash).map_err(|e| stop(&e))?;
    let asked = all.iter().filter(|a| now < a.expires_ms).max_by_key(|a| a.at_ms);
    let Some(asked) = asked else {
        let why = format!("nobody has asked for an approval of a plan whose hash begins with {}", args.hash);
        return Err(Failure::new(Cause::Refused, format!("approve {}", args.hash), why)
            .next("the operator who runs it: rackctl apply … --approve HASH")
            .into());
    };
    let me = Holder::this();
    if asked.approver.user == me.user {
        let why = format!("{} asked for it: the second operator is somebody else", me.user);
        return Err(Failure::new(Cause::Guard, format!("approve {}", args.hash), why).into());
    }
    let mut table = Table::new(["NODE", "WIPES", "GETS"]);
    for node in &asked.envelope.nodes {
        let disk = asked.envelope.disks.get(node).map(String::as_str).unwrap_or("-");
        let system = asked.envelope.artifacts.get(node).map(|a| &a[..a.len().min(12)]).unwrap_or("-");
        table.row([node.as_str(), disk, system]);
    }
    if asked.envelope.nodes.is_empty() {
        // A step of a playbook that asks: its words are all there is to it.
        asked.envelope.kinds.iter().for_each(|words| stdout::note(&clean::lines(words)));
    } else {
        stdout::note(&table.render(stdout::width()));
    }
    stdout::note(&format!("{} asked for it on {}: {} disks", asked.approver, utc(asked.at_ms), asked.envelope.wipes));
    if !args.yes {
        if !stdout::stdin_is_terminal() {
            let failure = Failure::new(Cause::Guard, "approval", "there is no terminal to ask at");
            let next = format!("rackctl approve {} --yes", args.hash);
            return Err(Stop::with(Exit::NeedsApproval, failure.next(next)));
        }
        stdout::note("Type `yes` to approve, anything else to leave:");
        let mut answer = String::new();
        if std::io::stdin().lock().read_line(&mut answer).is_err() || answer.trim() != "yes" {
            let failure = Failure::new(Cause::Guard, "approval", "it was not given; nothing was done");
            return Err(Stop::with(Exit::NeedsApproval, failure));
        }
    }
    let own = Approval {
        approver: me,
        at_ms: now,
        expires_ms: now + args.expires.map_or(APPROVAL_MS, |e| e.as_millis() as u64),
        ..asked.clone()
    };
    session.store.put_approval(&own).map_err(|e| stop(&e))?;
    stdout::note(&format!("approved until {}: {}", utc(own.expires_ms), own.plan_hash));
    Ok(Exit::Done)
}
