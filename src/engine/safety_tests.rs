//! The last look before a machine is taken away, finalizers that fail, waits that end, members that join without others.

use super::*;
use crate::{
    model::{
        Failure,
        failure::Cause,
        goal::{Goal, Scope},
        power::PowerAction,
        rollout::{ChangeWindow, Rollout},
    },
    plan::{Pool, Step, StepKind, Track},
};

const OPTIONS: Options = Options { concurrency: 64, stagger_ms: 0 };

fn failure(cause: Cause) -> Failure {
    Failure::new(cause, "w", "y")
}

fn power(node: &str) -> Track {
    let mut track = Track::new(Subject::Node(node.into()));
    track.push(StepKind::SetPower { action: PowerAction::PowerCycle, force: false, wait: true }, String::new());
    (track.pool, track.disrupts) = (Some("core".into()), true);
    track
}

/// Members that serve, each to be restarted; so many may be away.
fn restarts(nodes: &[&str], max_unavailable: u32) -> Plan {
    let mut plan = Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) });
    plan.tracks = nodes.iter().map(|n| power(n)).collect();
    let rollout = Rollout { max_unavailable, min_healthy_s: 0, ..Rollout::default() };
    let others = ["x", "y"].map(str::to_owned);
    let nodes = nodes.iter().map(|n| (*n).to_owned()).chain(others).collect();
    plan.pools.insert("core".into(), Pool { rollout, nodes });
    plan
}

fn around(down: &[&str]) -> Event {
    Event::Around { down: down.iter().map(|n| (*n).to_owned()).collect() }
}
fn id(node: &str) -> StepId {
    format!("{node}/set-power")
}
fn observed(step: StepId, found: Found) -> Event {
    Event::Observed { step, found }
}
fn ready(node: &str) -> Event {
    Event::Ready { step: id(node) }
}
fn home(step: StepId, cause: Cause) -> Event {
    Event::Acted { step, result: Err(failure(cause)) }
}
fn goes(effects: &[Effect]) -> Vec<&str> {
    effects.iter().filter_map(|e| if let Effect::Go { step } = e { Some(step.as_str()) } else { None }).collect()
}
fn withheld(effects: &[Effect]) -> Option<&Failure> {
    effects.iter().find_map(|e| if let Effect::Withhold { failure, .. } = e { Some(failure) } else { None })
}

/// All that are planned have been let in, and their drivers are about to send.
fn about_to_send(plan: &Plan, nodes: &[&str]) -> Engine {
    let mut engine = Engine::new(plan, OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    engine.handle(1, around(&[]));
    for node in nodes {
        let effects = engine.handle(2, observed(id(node), Found::NotDone));
        assert!(effects.contains(&Effect::Act { step: id(node), attempt: 1 }), "{effects:?}");
    }
    engine
}

// fault: F50 invariant: I3 harness: S
#[test]
fn nothing_is_taken_away_without_a_look_that_began_after_all_was_ready() {
    let mut engine = about_to_send(&restarts(&["a"], 1), &["a"]);
    let effects = engine.handle(20_000, ready("a"));
    assert!(effects.contains(&Effect::LookAround) && goes(&effects).is_empty(), "{effects:?}");
    assert!(goes(&engine.handle(20_100, around(&["x"]))).is_empty(), "another one went away since it was let in");
    let effects = engine.handle(22_200, Event::Tick);
    assert!(effects.contains(&Effect::LookAround), "{effects:?}");
    assert_eq!(goes(&engine.handle(22_300, around(&[]))), ["a/set-power"]);
}

/// The loop keeps the earliest wake alone. What makes it needless may come before it, and ask for a later one.
// invariant: I11 harness: D
#[test]
fn no_wake_is_lost_behind_an_earlier_one() {
    let mut engine = about_to_send(&restarts(&["a"], 1), &["a"]);
    let mut kept: Option<u64> = None;
    let keep = |effects: &[Effect], kept: &mut Option<u64>| {
        for effect in effects {
            if let Effect::Wake { at_ms } = effect {
                *kept = Some(kept.map_or(*at_ms, |old: u64| old.min(*at_ms)));
            }
        }
    };
    engine.handle(20_000, ready("a"));
    keep(&engine.handle(20_100, around(&["x"])), &mut kept);
    let look_again = kept.unwrap();
    // Its driver is cut off before the next look, and the step is held past it.
    keep(&engine.handle(look_again - 500, home(id("a"), Cause::Deadline)), &mut kept);
    assert_eq!(kept, Some(look_again), "the later one is not kept");
    for _ in 0..3 {
        let Some(at) = kept.take() else { break };
        let effects = engine.handle(at, Event::Tick);
        if effects.iter().any(|e| matches!(e, Effect::Observe { step, .. } if *step == id("a"))) {
            return;
        }
        keep(&effects, &mut kept);
    }
    panic!("nobody wakes the run up again");
}

#[test]
fn a_look_that_began_before_is_not_believed() {
    let mut engine = about_to_send(&restarts(&["a", "b"], 2), &["a", "b"]);
    assert!(engine.handle(10, ready("a")).contains(&Effect::LookAround));
    assert!(!engine.handle(20, ready("b")).contains(&Effect::LookAround), "one at a time");
    let effects = engine.handle(30, around(&[]));
    assert_eq!(goes(&effects), ["a/set-power"]);
    assert!(effects.contains(&Effect::LookAround), "b has one of its own");
    assert_eq!(goes(&engine.handle(40, around(&[]))), ["b/set-power"]);
}

// invariant: I3 harness: S
#[test]
fn of_two_that_have_their_turn_one_goes_when_a_third_is_down() {
    let mut engine = about_to_send(&restarts(&["a", "b"], 2), &["a", "b"]);
    engine.handle(10, ready("a"));
    engine.handle(10, ready("b"));
    assert_eq!(goes(&engine.handle(20, around(&["x"]))), ["a/set-power"], "and they do not wait for each other");
    engine.handle(2_100, Event::Tick);
    assert_eq!(goes(&engine.handle(2_200, around(&["x", "a"]))).len(), 0);
}

#[test]
fn a_node_that_is_down_itself_and_one_that_serves_nothing_go() {
    let mut engine = about_to_send(&restarts(&["a"], 1), &["a"]);
    engine.handle(10, ready("a"));
    assert_eq!(goes(&engine.handle(20, around(&["a"]))), ["a/set-power"]);
    let mut plan = restarts(&["a"], 1);
    plan.tracks[0].disrupts = false;
    let mut engine = Engine::new(&plan, OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    engine.handle(1, observed(id("a"), Found::NotDone));
    // The plan saw it silent; it was there before, and may serve again.
    assert!(engine.handle(2, ready("a")).contains(&Effect::LookAround));
    assert_eq!(goes(&engine.handle(3, around(&["x"]))).len(), 0);
    let mut engine = Engine::new(&three(vec![]), OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    engine.handle(1, observed("n1/power-on".into(), Found::NotDone));
    let new = Event::Ready { step: "n1/power-on".into() };
    assert_eq!(engine.handle(2, new), [Effect::Go { step: "n1/power-on".into() }], "nobody misses it");
}

/// Once round: ready, withheld after a while, home, waiting. Time at which it is looked at again.
fn withheld_once(engine: &mut Engine, from: u64) -> Result<u64, Failure> {
    let mut now = from;
    let mut effects = engine.handle(now, ready("a"));
    while withheld(&effects).is_none() {
        assert!(now < from + 60_000, "nobody sends it home");
        if effects.contains(&Effect::LookAround) {
            now += 100;
            effects = engine.handle(now, around(&["x"]));
        } else {
            now += 1_000;
            effects = engine.handle(now, Event::Tick);
        }
    }
    let effects = engine.handle(now + 10, home(id("a"), Cause::Guard));
    if let Some(Effect::Fail { failure, .. }) = effects.iter().find(|e| matches!(e, Effect::Fail { .. })) {
        return Err(failure.clone());
    }
    assert!(effects.iter().any(|e| matches!(e, Effect::NotSent { attempt: 1, .. })), "{effects:?}");
    Ok(now + 1_100)
}

// invariant: I18 harness: S
#[test]
fn who_may_not_go_is_sent_home_comes_again_and_ends_with_the_names() {
    let mut engine = about_to_send(&restarts(&["a"], 1), &["a"]);
    let (mut now, mut rounds) = (10, 0);
    let told = loop {
        match withheld_once(&mut engine, now) {
            Ok(at) => now = at,
            Err(failure) => break failure,
        }
        rounds += 1;
        assert!(rounds < 100, "no end");
        let effects = engine.handle(now, Event::Tick);
        assert!(effects.contains(&Effect::Observe { step: id("a"), attempt: 1, resumed: false }), "{effects:?}");
        let effects = engine.handle(now, observed(id("a"), Found::NotDone));
        assert!(effects.contains(&Effect::Act { step: id("a"), attempt: 1 }), "nothing was sent: the same attempt");
    };
    assert!(now > 600_000, "{now}");
    assert!(told.why.contains("2 of core would be unavailable, 1 may be (now: x)"), "{told:?}");
    assert_eq!(told.next.as_deref(), Some("rackctl describe node x"));
}

// invariant: I15 harness: S
#[test]
fn a_driver_cut_off_while_it_waits_has_sent_nothing_and_one_that_went_has_another_attempt() {
    let mut engine = about_to_send(&restarts(&["a"], 1), &["a"]);
    engine.handle(10, ready("a"));
    let effects = engine.handle(20, home(id("a"), Cause::Deadline));
    assert!(effects.iter().any(|e| matches!(e, Effect::NotSent { .. })), "{effects:?}");
    assert!(!effects.iter().any(|e| matches!(e, Effect::Verify { .. })), "{effects:?}");

    let mut engine = about_to_send(&restarts(&["a"], 1), &["a"]);
    engine.handle(10, ready("a"));
    assert_eq!(goes(&engine.handle(20, around(&[]))), ["a/set-power"]);
    // The operating system did not listen; the power is to be cut.
    engine.handle(30_000, ready("a"));
    let effects = engine.handle(30_010, home(id("a"), Cause::Deadline));
    assert!(effects.iter().any(|e| matches!(e, Effect::Again { attempt: 2, .. })), "{effects:?}");
}

// fault: F4 invariant: I15 I20 harness: S
#[test]
fn a_restart_without_an_answer_is_looked_at_and_not_taken_for_done() {
    for (went, attempt) in [(false, 2), (true, 2)] {
        let mut engine = about_to_send(&restarts(&["a"], 1), &["a"]);
        if went {
            engine.handle(10, ready("a"));
            engine.handle(20, around(&[]));
        }
        let effects = engine.handle(100, home(id("a"), Cause::Unreachable));
        assert!(!effects.iter().any(|e| matches!(e, Effect::Verify { .. })), "{effects:?}");
        let effects = engine.handle(10_000, Event::Tick);
        assert!(effects.contains(&Effect::Observe { step: id("a"), attempt, resumed: went }), "{effects:?}");
    }
}

// fault: F51 harness: S
#[test]
fn after_an_interrupt_nobody_goes() {
    let mut engine = about_to_send(&restarts(&["a"], 1), &["a"]);
    engine.handle(10, ready("a"));
    let effects = engine.handle(20, Event::Interrupt);
    assert!(withheld(&effects).is_some() && !effects.contains(&Effect::Finished), "{effects:?}");
    let effects = engine.handle(30, home(id("a"), Cause::Guard));
    assert!(effects.contains(&Effect::Finished), "{effects:?}");
    assert!(goes(&engine.handle(40, around(&[]))).is_empty());
}

// invariant: I18 I14 harness: S
#[test]
fn a_wait_for_what_is_down_ends_with_its_names() {
    let mut engine = Engine::new(&restarts(&["a", "b"], 1), OPTIONS, &BTreeMap::new());
    let mut effects = engine.handle(0, Event::Begin);
    let (mut now, mut halted) = (0, None);
    while halted.is_none() {
        assert!(now < 2_000_000, "it waits for ever");
        now += 500;
        effects = if effects.contains(&Effect::LookAround) {
            engine.handle(now, around(&["x", "y"]))
        } else {
            engine.handle(now, Event::Tick)
        };
        halted = effects.iter().find_map(|e| if let Effect::Halt { why } = e { Some(why.clone()) } else { None });
    }
    assert!((900_000..910_000).contains(&now), "as long as one node may take: {now}");
    let told = halted.unwrap();
    assert!(told.why.contains("3 of core would be unavailable, 1 may be (now: x, y)"), "{told:?}");
    assert_eq!(told.next.as_deref(), Some("rackctl describe node x; when it serves again: rackctl resume"));
    assert!(effects.contains(&Effect::Finished));
    assert_eq!(engine.outcome(), Outcome::Halted);
}

#[test]
fn what_this_run_has_in_hand_is_waited_for_as_long_as_it_takes() {
    let mut engine = about_to_send(&restarts(&["a", "b"], 1), &["a"]);
    for now in (0..3_000_000).step_by(2_000) {
        let effects = engine.handle(now, Event::Tick);
        let late = effects.iter().any(|e| matches!(e, Effect::Halt { why } if why.why.contains("waited")));
        assert!(!late, "{now}: {effects:?}");
        if effects.contains(&Effect::LookAround) {
            engine.handle(now, around(&["a"]));
        }
    }
}

#[test]
fn a_window_that_never_opens_is_not_waited_for() {
    let mut plan = restarts(&["a"], 1);
    plan.tracks[0].site = Some("fra1".into());
    let never = ChangeWindow { days: vec![], from_min: 0, to_min: 0, timezone: "Nowhere".into() };
    plan.windows.insert("fra1".into(), vec![never]);
    let mut engine = Engine::new(&plan, OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    let effects = engine.handle(900_000, Event::Tick);
    let halted = |e: &Effect| matches!(e, Effect::Halt { why } if why.why.contains("none is near"));
    assert!(effects.iter().any(halted), "{effects:?}");
}

/// `a` failed and is to be left safe.
fn to_be_left_safe() -> Engine {
    let mut engine = about_to_send(&restarts(&["a"], 1), &["a"]);
    let effects = engine.handle(10, home(id("a"), Cause::Refused));
    assert!(effects.contains(&Effect::Finalize { subject: Subject::Node("a".into()), attempt: 1 }));
    engine
}

fn finalized(attempt: u32, result: Result<(), Failure>) -> Event {
    Event::Finalized { subject: Subject::Node("a".into()), attempt, result }
}

// invariant: I9 I18 I20 harness: S
#[test]
fn what_could_not_be_left_safe_is_tried_again_and_then_told() {
    let mut engine = to_be_left_safe();
    let (mut now, mut pauses) = (100, Vec::new());
    for attempt in 1..retry::FINALIZER_ATTEMPTS {
        let effects = engine.handle(now, finalized(attempt, Err(failure(Cause::Unreachable))));
        let Some(Effect::Wake { at_ms }) = effects.last() else { panic!("nobody wakes it: {effects:?}") };
        assert_eq!(engine.handle(*at_ms - 1, Event::Tick), [], "not before its pause");
        let again = Effect::Finalize { subject: Subject::Node("a".into()), attempt: attempt + 1 };
        pauses.push(at_ms - now);
        now = *at_ms;
        assert_eq!(engine.handle(now, Event::Tick).first(), Some(&again));
    }
    assert_eq!(pauses, [3_000, 6_000, 12_000, 24_000]);
    let last = engine.handle(now, finalized(retry::FINALIZER_ATTEMPTS, Err(failure(Cause::Unreachable))));
    assert_eq!(last, [Effect::Finished]);
    let told = engine.failures().into_iter().find(|(id, _)| *id == "a/leave-safe").map(|(_, f)| f.clone()).unwrap();
    assert!(told.why.contains("override may be left"), "{told:?}");
    assert!(told.next.is_some_and(|n| n.contains("rackctl boot set none a")));

    let mut engine = to_be_left_safe();
    engine.handle(100, finalized(1, Err(failure(Cause::Busy))));
    engine.handle(4_000, Event::Tick);
    assert_eq!(engine.handle(4_100, finalized(2, Ok(()))), [Effect::Finished]);
    assert!(engine.failures().iter().all(|(id, _)| *id != "a/leave-safe"), "it was done in the end");
}

#[test]
fn a_password_is_not_tried_again_and_an_interrupt_ends_the_pauses() {
    let mut engine = to_be_left_safe();
    assert_eq!(engine.handle(100, finalized(1, Err(failure(Cause::Unauthorized)))), [Effect::Finished]);
    let mut engine = to_be_left_safe();
    engine.handle(100, finalized(1, Err(failure(Cause::Unreachable))));
    assert_eq!(engine.handle(200, Event::Interrupt), [Effect::Finished]);
    assert!(engine.failures().iter().any(|(id, _)| *id == "a/leave-safe"));
}

// invariant: I9 harness: S
#[test]
fn what_an_earlier_run_left_is_made_up_for_before_its_node_is_touched() {
    let past = BTreeMap::from([("a".to_owned(), Past { left_unsafe: true, ..Past::default() })]);
    let mut plan = restarts(&["a"], 1);
    plan.tracks[0].disrupts = false;
    let mut engine = Engine::new(&plan, OPTIONS, &past);
    let first = Effect::Finalize { subject: Subject::Node("a".into()), attempt: 1 };
    assert_eq!(engine.handle(0, Event::Begin), [first]);
    let effects = engine.handle(10, finalized(1, Ok(())));
    assert_eq!(effects, [Effect::Observe { step: id("a"), attempt: 1, resumed: false }]);
    let effects = engine.handle(20, observed(id("a"), Found::Contradiction(failure(Cause::Guard))));
    let again = Effect::Finalize { subject: Subject::Node("a".into()), attempt: 1 };
    assert!(effects.contains(&again), "and once more when it fails: {effects:?}");
    // Begun before: the track goes on, and its end makes up for it.
    let past = past.into_iter().chain([(id("a"), Past { intent_open: true, attempt: 1, ..Past::default() })]).collect();
    let mut engine = Engine::new(&plan, OPTIONS, &past);
    assert_eq!(engine.handle(0, Event::Begin), [Effect::Observe { step: id("a"), attempt: 1, resumed: true }]);
    let effects = engine.handle(10, observed(id("a"), Found::Done));
    assert!(effects.iter().any(|e| matches!(e, Effect::Finalize { .. })), "{effects:?}");
    let effects = engine.handle(20, finalized(1, Err(failure(Cause::Unauthorized))));
    assert!(effects.contains(&Effect::Finished));
    assert_eq!(engine.outcome(), Outcome::Partly, "every step is done, and the node is not safe");
}

fn member_step(kind: StepKind, awaits: &[&str]) -> Step {
    let id = format!("cluster/c/{}-{}", kind.word(), kind.member().unwrap_or_default());
    let awaits = awaits.iter().map(|a| (*a).to_owned()).collect();
    Step { id, danger: kind.danger(), kind, why: String::new(), awaits }
}

/// Three machines that come up, and what their cluster does then.
fn three(cluster: Vec<Step>) -> Plan {
    let mut plan = Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) });
    for node in ["n1", "n2", "n3"] {
        let mut track = Track::new(Subject::Node(node.into()));
        track.push(StepKind::PowerOn, String::new());
        plan.tracks.push(track);
    }
    let mut track = Track::new(Subject::Cluster("c".into()));
    track.steps = cluster;
    plan.tracks.push(track);
    plan
}

/// Machines come up or fail; every step of the cluster that begins is done. Its steps, in order.
fn joined(engine: &mut Engine, order: &[(&str, bool)]) -> Vec<StepId> {
    let mut done = Vec::new();
    let mut queue: Vec<Event> = vec![Event::Begin];
    queue.extend(order.iter().map(|(node, up)| {
        let found = if *up { Found::Done } else { Found::Contradiction(failure(Cause::Mismatch)) };
        observed(format!("{node}/power-on"), found)
    }));
    let mut at = 0;
    while at < queue.len() {
        assert!(at < 100, "no end");
        for effect in engine.handle(at as u64, queue[at].clone()) {
            match effect {
                Effect::Observe { step, .. } if step.starts_with("cluster") => {
                    done.push(step.clone());
                    queue.insert(at + 1, observed(step, Found::Done));
                }
                Effect::Finalize { subject, attempt } => {
                    queue.push(Event::Finalized { subject, attempt, result: Ok(()) });
                }
                _ => {}
            }
        }
        at += 1;
    }
    assert!(engine.finished, "{queue:?}");
    done
}

fn joins() -> Vec<Step> {
    let m = |n: &str| n.to_owned();
    vec![
        member_step(StepKind::Bootstrap { member: m("n1") }, &["n1/power-on"]),
        member_step(StepKind::VerifyMember { member: m("n1") }, &[]),
        member_step(StepKind::AddLearner { member: m("n2") }, &["n2/power-on"]),
        member_step(StepKind::Promote { member: m("n2") }, &[]),
        member_step(StepKind::AddLearner { member: m("n3") }, &["n3/power-on"]),
        member_step(StepKind::Promote { member: m("n3") }, &[]),
    ]
}

// fault: F31 F36 invariant: I14 harness: S
#[test]
fn members_behind_a_failed_machine_join_without_it() {
    let made = ["bootstrap-n1", "verify-member-n1", "add-learner-n3", "promote-n3"].map(|s| format!("cluster/c/{s}"));
    for order in [
        [("n2", false), ("n1", true), ("n3", true)],
        [("n1", true), ("n3", true), ("n2", false)],
        [("n3", true), ("n2", false), ("n1", true)],
    ] {
        let mut engine = Engine::new(&three(joins()), OPTIONS, &BTreeMap::new());
        assert_eq!(joined(&mut engine, &order), made, "{order:?}");
        assert_eq!(engine.outcome(), Outcome::Partly);
        assert!(
            matches!(&engine.step("cluster/c/promote-n2").unwrap().phase, Phase::Skipped { because } if because == "n2/power-on")
        );
        let cluster = super::view(&mut engine, Now::from(200)).into_iter().find(|t| t.subject == "cluster/c").unwrap();
        assert!(cluster.failed && cluster.done == 4, "{cluster:?}");
    }
}

#[test]
fn without_its_first_member_there_is_no_cluster_to_join() {
    let mut engine = Engine::new(&three(joins()), OPTIONS, &BTreeMap::new());
    let done = joined(&mut engine, &[("n2", true), ("n1", false), ("n3", true)]);
    assert_eq!(done, Vec::<StepId>::new());
}

#[test]
fn a_member_that_fails_in_its_cluster_stops_the_others() {
    let mut engine = Engine::new(&three(joins()), OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    for node in ["n1", "n2", "n3"] {
        engine.handle(1, observed(format!("{node}/power-on"), Found::Done));
    }
    for step in ["bootstrap-n1", "verify-member-n1"] {
        engine.handle(2, observed(format!("cluster/c/{step}"), Found::Done));
    }
    let broken = Found::Contradiction(failure(Cause::Guard));
    let effects = engine.handle(3, observed("cluster/c/add-learner-n2".into(), broken));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Observe { .. })), "{effects:?}");
    assert!(matches!(engine.step("cluster/c/promote-n3").unwrap().phase, Phase::Skipped { .. }));
}

#[test]
fn a_cluster_whose_machines_return_is_verified_when_those_that_can_are_up() {
    let all = ["n1/power-on", "n2/power-on", "n3/power-on"];
    let verify = |n: &str, awaits: &[&str]| member_step(StepKind::VerifyMember { member: n.to_owned() }, awaits);
    let steps = vec![verify("n1", &all), verify("n2", &[]), verify("n3", &[])];
    let mut engine = Engine::new(&three(steps.clone()), OPTIONS, &BTreeMap::new());
    let done = joined(&mut engine, &[("n3", false), ("n1", true), ("n2", true)]);
    assert_eq!(
        done.first().map(String::as_str),
        Some("cluster/c/verify-member-n1"),
        "another machine is none of its own"
    );
    // Its own machine failed: what it waited for, the next one waits for.
    let mut engine = Engine::new(&three(steps), OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    let bad = Found::Contradiction(failure(Cause::Mismatch));
    let effects = engine.handle(1, observed("n1/power-on".into(), bad));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Observe { .. })), "{effects:?}");
    assert_eq!(engine.step("cluster/c/verify-member-n2").unwrap().step.awaits, ["n2/power-on", "n3/power-on"]);
}
