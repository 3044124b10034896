use super::*;
use crate::{
    model::{
        Failure,
        failure::Cause,
        goal::{Goal, Scope},
    },
    plan::{Step, StepKind, Track},
};

fn step(subject: &Subject, kind: StepKind, awaits: &[&str]) -> Step {
    Step {
        id: format!("{subject}/{}", kind.word()),
        danger: kind.danger(),
        kind,
        why: String::new(),
        awaits: awaits.iter().map(|s| (*s).to_owned()).collect(),
    }
}

const OPTIONS: Options = Options { concurrency: 8, stagger_ms: 0 };

fn plan(tracks: Vec<Track>) -> Plan {
    Plan { tracks, ..Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) }) }
}

fn two_tracks() -> Plan {
    let n1 = Subject::Node("n1".into());
    let c = Subject::Cluster("c".into());
    plan(vec![
        Track {
            subject: n1.clone(),
            steps: vec![
                step(&n1, StepKind::CheckIdentity, &[]),
                step(
                    &n1,
                    StepKind::BootInstaller { target: crate::model::power::BootTarget::Pxe, mode: Default::default() },
                    &[],
                ),
                step(&n1, StepKind::AwaitClaim, &[]),
                step(&n1, StepKind::WriteDisk { system_sha256: "s".into(), generation: 1 }, &[]),
            ],
            ..Track::new(Subject::Node(String::new()))
        },
        Track {
            subject: c.clone(),
            steps: vec![step(&c, StepKind::Bootstrap { member: "n1".into() }, &["n1/write-disk"])],
            ..Track::new(Subject::Node(String::new()))
        },
    ])
}

fn observed(step: &str, found: Found) -> Event {
    Event::Observed { step: step.into(), found }
}

fn failure(cause: Cause) -> Failure {
    Failure::new(cause, "w", "y")
}

#[test]
fn a_step_found_done_is_never_acted() {
    let mut engine = Engine::new(&two_tracks(), OPTIONS, &BTreeMap::new());
    let effects = engine.handle(0, Event::Begin);
    assert_eq!(effects, [Effect::Observe { step: "n1/check-identity".into(), attempt: 1, resumed: false }]);
    let effects = engine.handle(1, observed("n1/check-identity", Found::Done));
    assert!(effects.contains(&Effect::Complete { step: "n1/check-identity".into(), attempt: 1 }));
    let effects = engine.handle(2, observed("n1/boot-installer", Found::Done));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Act { .. })));
}

// fault: F4 invariant: I15 harness: S
#[test]
fn a_lost_answer_is_looked_at_and_a_refusal_fails_the_track_alone() {
    let mut engine = Engine::new(&two_tracks(), OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    engine.handle(1, observed("n1/check-identity", Found::Done));
    let effects = engine.handle(2, observed("n1/boot-installer", Found::NotDone));
    assert_eq!(effects, [Effect::Act { step: "n1/boot-installer".into(), attempt: 1 }]);
    let effects =
        engine.handle(3, Event::Acted { step: "n1/boot-installer".into(), result: Err(failure(Cause::Unreachable)) });
    assert!(matches!(effects[0], Effect::Verify { .. }));
    let effects =
        engine.handle(4, Event::Verified { step: "n1/boot-installer".into(), result: Err(failure(Cause::Refused)) });
    assert!(effects.iter().any(|e| matches!(e, Effect::Fail { .. })));
    assert!(effects.contains(&Effect::Finalize { subject: Subject::Node("n1".into()), attempt: 1 }));
    assert!(!effects.contains(&Effect::Finished), "the finalizer comes first");
    assert!(matches!(engine.step("cluster/c/bootstrap").unwrap().phase, Phase::Skipped { .. }));
    let effects =
        engine.handle(5, Event::Finalized { subject: Subject::Node("n1".into()), attempt: 1, result: Ok(()) });
    assert_eq!(effects, [Effect::Finished]);
    assert_eq!(engine.outcome(), Outcome::Failed);
}

// fault: F27 F7 invariant: I18 harness: S
#[test]
fn a_machine_that_never_claims_is_booted_again_a_bounded_number_of_times() {
    let mut engine = Engine::new(&two_tracks(), OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    engine.handle(1, observed("n1/check-identity", Found::Done));
    let mut now = 2;
    for attempt in 1..=StepKind::BOOT_ATTEMPTS {
        let effects = engine.handle(now, observed("n1/boot-installer", Found::NotDone));
        assert_eq!(effects, [Effect::Act { step: "n1/boot-installer".into(), attempt }]);
        engine.handle(now, Event::Acted { step: "n1/boot-installer".into(), result: Ok(()) });
        engine.handle(now, Event::Verified { step: "n1/boot-installer".into(), result: Ok(()) });
        engine.handle(now, observed("n1/await-claim", Found::NotDone));
        let late = Event::Verified { step: "n1/await-claim".into(), result: Err(failure(Cause::Deadline)) };
        let effects = engine.handle(now, late);
        let wake = effects.iter().find_map(|e| if let Effect::Wake { at_ms } = e { Some(*at_ms) } else { None });
        let Some(at) = wake else { break };
        assert_eq!(engine.handle(at - 1, Event::Tick), [], "not before its pause");
        now = at;
        engine.handle(now, Event::Tick);
    }
    assert!(matches!(engine.step("n1/await-claim").unwrap().phase, Phase::Failed { .. }));
}

// fault: F52 invariant: I5 I11 harness: S
#[test]
fn a_destroying_step_begun_before_a_crash_is_never_begun_blindly() {
    let past = |intent_open| {
        let mut past: BTreeMap<StepId, Past> = ["n1/check-identity", "n1/boot-installer", "n1/await-claim"]
            .map(|s| (s.to_owned(), Past { done: true, attempt: 1, ..Past::default() }))
            .into();
        past.insert("n1/write-disk".into(), Past { attempt: 1, intent_open, ..Past::default() });
        past
    };
    let mut engine = Engine::new(&two_tracks(), OPTIONS, &past(true));
    assert_eq!(
        engine.handle(0, Event::Begin),
        [Effect::Observe { step: "n1/write-disk".into(), attempt: 1, resumed: true }]
    );
    let effects = engine.handle(1, observed("n1/write-disk", Found::Unknown(failure(Cause::Unreachable))));
    assert!(matches!(&effects[0], Effect::Fail { failure, .. } if failure.cause == Cause::NeedsPerson));
    let mut engine = Engine::new(&two_tracks(), OPTIONS, &past(true));
    engine.handle(0, Event::Begin);
    let effects = engine.handle(1, observed("n1/write-disk", Found::UnderWay));
    assert!(matches!(effects[0], Effect::Verify { .. }), "waited for, not begun again");
}

// fault: F52 invariant: I11 harness: S
#[test]
fn who_resumes_a_run_begins_another_attempt_of_what_failed() {
    let done = |attempt| Past { done: true, attempt, ..Past::default() };
    let past = BTreeMap::from([
        ("n1/check-identity".to_owned(), done(1)),
        ("n1/boot-installer".to_owned(), Past { attempt: 2, failed: true, ..Past::default() }),
    ]);
    let mut engine = Engine::new(&two_tracks(), OPTIONS, &past);
    assert_eq!(
        engine.handle(0, Event::Begin),
        [Effect::Observe { step: "n1/boot-installer".into(), attempt: 3, resumed: false }]
    );
    engine.handle(1, observed("n1/boot-installer", Found::NotDone));
    let refused = || Event::Acted { step: "n1/boot-installer".into(), result: Err(failure(Cause::Busy)) };
    let effects = engine.handle(2, refused());
    let again = |e: &Effect| matches!(e, Effect::Again { attempt: 4, .. });
    assert!(effects.iter().any(again), "the attempts that failed before are not counted: {effects:?}");
    // Where nobody claimed, the machine is booted again.
    let past = BTreeMap::from([
        ("n1/check-identity".to_owned(), done(1)),
        ("n1/boot-installer".to_owned(), done(3)),
        ("n1/await-claim".to_owned(), Past { attempt: 1, failed: true, ..Past::default() }),
    ]);
    let mut engine = Engine::new(&two_tracks(), OPTIONS, &past);
    let effects = engine.handle(0, Event::Begin);
    assert_eq!(effects, [Effect::Observe { step: "n1/boot-installer".into(), attempt: 4, resumed: false }]);
}

// fault: F51 harness: S
#[test]
fn an_interrupt_waits_for_the_effect_in_hand_and_begins_nothing() {
    let mut engine = Engine::new(&two_tracks(), OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    engine.handle(1, observed("n1/check-identity", Found::Done));
    engine.handle(2, observed("n1/boot-installer", Found::NotDone));
    assert_eq!(engine.handle(3, Event::Interrupt), []);
    let effects = engine.handle(4, Event::Acted { step: "n1/boot-installer".into(), result: Ok(()) });
    assert!(effects.contains(&Effect::Finished));
    assert_eq!(engine.outcome(), Outcome::Interrupted);
}

#[test]
fn late_events_change_nothing() {
    let mut engine = Engine::new(&two_tracks(), OPTIONS, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    assert_eq!(engine.handle(1, Event::Acted { step: "n1/check-identity".into(), result: Ok(()) }), []);
    assert_eq!(engine.handle(1, Event::Verified { step: "n1/write-disk".into(), result: Ok(()) }), []);
    assert_eq!(engine.handle(1, observed("nobody", Found::Done)), []);
}
