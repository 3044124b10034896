//! What an earlier process of the same run left in the journal.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rackctl_wire::Claim;
use serde_json::{Value, json};

use super::{World, baselines::SENT, clock, desk::Order};
use crate::{
    engine::Past,
    model::{
        Failure,
        baseline::BaselinePart,
        failure::Cause,
        power::{PowerAction, PowerState},
    },
    plan::{Plan, Step, StepId, StepKind, Subject, wipe_guard::Target},
    store::{Draft, Record, RecordKind, RunState, Store, StoreError},
};

/// In a fact's body: a member that was taken out again because it did not catch up.
pub const TAKEN_OUT: &str = "takenOut";

/// Per step: done, attempt, and whether an intent stands without an end.
pub fn past(records: &[Record]) -> BTreeMap<StepId, Past> {
    let mut past: BTreeMap<StepId, Past> = BTreeMap::new();
    for record in records {
        if let (RecordKind::Fact, Some(member)) = (record.kind, record.body.get(TAKEN_OUT).and_then(Value::as_str)) {
            // It comes in again from the beginning, under another id.
            for word in ["add-learner", "start-member", "await-synced"] {
                if let Some(entry) = past.get_mut(&format!("{}/{word}-{member}", record.step)) {
                    (entry.done, entry.intent_open) = (false, false);
                }
            }
            continue;
        }
        let entry = past.entry(record.step.clone()).or_default();
        entry.attempt = entry.attempt.max(record.attempt);
        // The last word on it counts: a new attempt is not what failed.
        if !matches!(record.kind, RecordKind::Finalized | RecordKind::Fact) {
            entry.failed = record.kind == RecordKind::Failed;
        }
        match record.kind {
            RecordKind::Intent => {
                entry.intent_open = true;
                entry.done = false;
            }
            RecordKind::Done => {
                entry.done = true;
                entry.intent_open = false;
            }
            // A failed step of a run that is resumed is looked at again.
            RecordKind::Failed => entry.intent_open = false,
            // Nothing of the attempt has left.
            RecordKind::Result if record.body.get("sent") == Some(&false.into()) => entry.intent_open = false,
            RecordKind::Finalized => entry.left_unsafe = record.body.get("failure").is_some_and(|f| !f.is_null()),
            _ => {}
        }
    }
    past
}

/// Earlier runs that are looked at for nodes that they could not leave safe.
const RUNS_BACK: usize = 5;

/// `past` with what earlier runs owe: nodes of the plan that the last run on them could not leave safe.
pub fn owed(store: &dyn Store, plan: &Plan, run: &str, past: &mut BTreeMap<StepId, Past>) -> Result<(), StoreError> {
    let touched = |t: &&crate::plan::Track| !t.steps.is_empty() && matches!(t.subject, Subject::Node(_));
    let mut open: BTreeSet<&str> = plan.tracks.iter().filter(touched).map(|t| t.subject.name()).collect();
    // What this run itself says of a node is newer.
    open.retain(|node| !past.contains_key(*node));
    for head in store.run_heads()?.into_iter().filter(|h| h.id != run).take(RUNS_BACK) {
        let scope: Vec<&str> = open.iter().copied().filter(|n| head.goal.scope().0.iter().any(|s| s == n)).collect();
        if scope.is_empty() {
            continue;
        }
        // A run that succeeded left all its nodes safe.
        if head.state != RunState::Succeeded {
            let before = self::past(&store.journal(&head.id)?);
            let left = |n: &&str| before.get(*n).is_some_and(|p| p.left_unsafe);
            for node in scope.iter().filter(|n| left(n)) {
                past.entry((*node).to_owned()).or_default().left_unsafe = true;
            }
            open.retain(|n| !scope.contains(n) || !before.keys().any(|id| id.split('/').next() == Some(*n)));
        } else {
            open.retain(|n| !scope.contains(n));
        }
    }
    Ok(())
}

/// The intent's body of a step, if one stands in the journal.
pub fn intent(records: &[Record], step: &str) -> Option<serde_json::Value> {
    records.iter().rev().find(|r| r.kind == RecordKind::Intent && r.step == step).map(|r| r.body.clone())
}

/// Whether the node was on when this run began to switch it off and on again, and may stand in the dark since. Whoever
/// only breaks the run off wants it back.
pub fn owes_power(plan: &Plan, records: &[Record], node: &str) -> bool {
    let restarts = |kind: &StepKind| match kind {
        StepKind::Baseline(BaselinePart::Restart { stays_off: false, .. }) => true,
        StepKind::SetPower { action, .. } => {
            matches!(action, PowerAction::PowerCycle | PowerAction::ForceRestart | PowerAction::GracefulRestart)
        }
        _ => false,
    };
    let on = serde_json::json!(PowerState::On);
    let owes = |step: &Step| {
        let own = || records.iter().filter(|r| r.step == step.id);
        let was_on = own().any(|r| r.kind == RecordKind::Intent && r.body.get("power") == Some(&on));
        was_on && !own().any(|r| r.kind == RecordKind::Done)
    };
    plan.steps().any(|s| restarts(&s.kind) && s.id.split('/').next() == Some(node) && owes(s))
}

/// Stands in the body of the fact that a claim is void: the machine that had made it is off.
pub const CLAIM_VOID: &str = "claimVoid";

/// To be made durable before the next boot of the same attempt may claim.
pub fn claim_is_void(node: &str) -> Draft {
    Draft {
        subject: node.to_owned(),
        step: format!("{node}/await-claim"),
        attempt: 1,
        kind: RecordKind::Fact,
        body: json!({ CLAIM_VOID: true }),
    }
}

/// Puts the world of a resumed run back to where the journal says it was: claims, targets, offers, orders, voters.
/// To be done before a server answers, and before [`super::execute`].
pub fn restore(world: &World, records: &[Record]) -> Result<(), Failure> {
    for record in records.iter().filter(|r| r.kind == RecordKind::Fact) {
        if let Some(sent) = record.body.get(SENT) {
            world.restore_sent(&record.step, serde_json::from_value(sent.clone()).map_err(|e| unreadable(record, &e))?);
        }
    }
    let past = past(records);
    let done = |id: &str| past.get(id).is_some_and(|p| p.done);
    for track in &world.plan.tracks {
        match &track.subject {
            Subject::Cluster(cluster) => {
                for step in track.steps.iter().filter(|s| done(&s.id)) {
                    if let StepKind::Bootstrap { member } | StepKind::Promote { member } = &step.kind {
                        world.add_voter(cluster, member);
                    }
                }
            }
            Subject::Node(node) => {
                let id = |word: &str| format!("{node}/{word}");
                let Some(boot) = past.get(&id("boot-installer")).filter(|p| p.done || p.intent_open) else { continue };
                // The newest boot attempt is the one whose facts count.
                let facts: Vec<&Record> = {
                    let begun = records
                        .iter()
                        .rposition(|r| r.kind == RecordKind::Intent && r.step == id("boot-installer"))
                        .unwrap_or(0);
                    records[begun..].iter().filter(|r| r.kind == RecordKind::Fact && r.subject == *node).collect()
                };
                if !done(&id("withdraw-netboot")) {
                    let until = clock::since_boot() + Duration::from_secs(StepKind::AwaitClaim.deadline_s());
                    world.desk().offer(node, boot.attempt, until);
                    world.offer_in_memory(node, boot.attempt);
                }
                for fact in facts {
                    if let Some(claim) = fact.body.get("claim") {
                        let claim: Claim = serde_json::from_value(claim.clone()).map_err(|e| unreadable(fact, &e))?;
                        world.desk().restore(claim);
                    }
                    if fact.body.get(CLAIM_VOID).is_some() {
                        world.desk().void(node);
                    }
                    if let Some(target) = fact.body.get("target") {
                        let target: Target =
                            serde_json::from_value(target.clone()).map_err(|e| unreadable(fact, &e))?;
                        world.set_target(node, target);
                    }
                }
                world.desk().order(node, Order::resumed(done(&id("reboot-to-disk"))));
            }
        }
    }
    Ok(())
}

fn unreadable(record: &Record, error: &serde_json::Error) -> Failure {
    Failure::new(Cause::Malformed, format!("journal record {}", record.seq), error.to_string()).next("rackctl version")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::goal::{Goal, Scope},
        store::{Draft, Fence, Holder, MemoryStore, RunRecord},
    };

    fn record(seq: u64, step: &str, attempt: u32, kind: RecordKind) -> Record {
        Record {
            schema: 1,
            run: "r".into(),
            seq,
            at_ms: 0,
            subject: "n1".into(),
            step: step.into(),
            attempt,
            kind,
            fence: 1,
            actor: "a".into(),
            body: json!({}),
            previous: String::new(),
            hash: String::new(),
        }
    }

    // fault: F52 invariant: I11 harness: D
    #[test]
    fn an_intent_without_an_end_stays_open_and_a_new_attempt_reopens_a_step() {
        use RecordKind::{Done, Intent};
        let records =
            [record(1, "a", 1, Intent), record(2, "a", 1, Done), record(3, "b", 1, Intent), record(4, "a", 2, Intent)];
        let past = past(&records);
        assert!(past["b"].intent_open && !past["b"].done);
        assert!(past["a"].intent_open && !past["a"].done);
        assert_eq!(past["a"].attempt, 2);
    }

    fn run(id: &str, started_ms: u64, state: RunState, nodes: &[&str]) -> RunRecord {
        let nodes = nodes.iter().map(|n| (*n).to_owned()).collect();
        RunRecord {
            id: id.into(),
            started_ms,
            ended_ms: None,
            state,
            goal: Goal::Join { nodes: Scope(nodes) },
            plan_hash: String::new(),
            fleet: json!(null),
            plan: json!(null),
            actor: Holder::this(),
        }
    }

    fn finalized(store: &MemoryStore, run: &str, node: &str, failure: serde_json::Value) {
        let fence = Fence { locks: vec![], actor: String::new() };
        let body = json!({ "failure": failure });
        let draft = Draft { subject: node.into(), step: node.into(), attempt: 1, kind: RecordKind::Finalized, body };
        store.append(run, 1, &fence, draft).unwrap();
    }

    // invariant: I9 harness: D
    #[test]
    fn what_the_last_run_on_a_node_could_not_leave_safe_is_owed_to_it() {
        let store = MemoryStore::new();
        let bad = || json!({ "cause": "unreachable", "what": "w", "why": "y" });
        for (id, at, state) in [
            ("r1", 1, RunState::Failed),
            ("r2", 2, RunState::Failed),
            ("r3", 3, RunState::Succeeded),
            ("r4", 4, RunState::Running),
        ] {
            let nodes: &[&str] = if id == "r3" { &["n3"] } else { &["n1", "n2", "n3"] };
            store.create_run(&run(id, at, state, nodes)).unwrap();
        }
        for node in ["n1", "n2", "n3", "n4"] {
            finalized(&store, "r1", node, bad());
        }
        // The second run made up for n2 alone; the third one, which succeeded, for n3.
        finalized(&store, "r2", "n2", json!(null));
        let mut plan = Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) });
        for node in ["n1", "n2", "n3"] {
            let mut track = crate::plan::Track::new(Subject::Node(node.into()));
            track.push(StepKind::PowerOn, String::new());
            plan.tracks.push(track);
        }
        let mut past = BTreeMap::new();
        owed(&store, &plan, "r4", &mut past).unwrap();
        let owing: Vec<&String> = past.iter().filter(|(_, p)| p.left_unsafe).map(|(id, _)| id).collect();
        assert_eq!(owing, ["n1"]);
        // What the run's own journal says is newer.
        let mut past = BTreeMap::from([("n1".to_owned(), Past::default())]);
        owed(&store, &plan, "r4", &mut past).unwrap();
        assert!(!past["n1"].left_unsafe);
    }

    // fault: F41 invariant: I11 harness: D
    #[test]
    fn a_learner_that_was_taken_out_comes_in_again_from_the_beginning() {
        let at = |seq, step: &str, kind| record(seq, step, 1, kind);
        let steps = ["cluster/c/add-learner-n2", "cluster/c/start-member-n2", "cluster/c/add-learner-n1"];
        let mut records: Vec<Record> = steps.iter().zip(1..).map(|(s, seq)| at(seq, s, RecordKind::Done)).collect();
        records.push(Record { body: json!({ TAKEN_OUT: "n2" }), ..at(4, "cluster/c", RecordKind::Fact) });
        let done = |past: &BTreeMap<StepId, Past>| steps.map(|s| past[s].done);
        assert_eq!(done(&past(&records)), [false, false, true]);
        records.push(at(5, steps[0], RecordKind::Done));
        assert_eq!(done(&past(&records)), [true, false, true]);
    }

    // invariant: I15 harness: D
    #[test]
    fn an_attempt_of_which_nothing_left_is_no_open_intent() {
        let kept = Record { body: json!({ "sent": false }), ..record(2, "a", 1, RecordKind::Result) };
        let past = past(&[record(1, "a", 1, RecordKind::Intent), kept]);
        assert!(!past["a"].intent_open && !past["a"].done);
    }
}
