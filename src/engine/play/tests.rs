//! A world that answers, with crashes at every point of it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{goal::Scope, play::Recovery};

fn step(id: &str, act: Act) -> BoundStep {
    BoundStep { id: id.into(), title: id.into(), act, skipped: None, on_failure: Recovery::default() }
}

fn join(id: &str) -> BoundStep {
    step(id, Act::Join { nodes: Scope(vec!["n1".into()]) })
}

fn exec(id: &str) -> BoundStep {
    step(id, Act::Exec { command: vec!["/bin/x".into()], deadline_ms: 1_000, repeatable: false })
}

fn bound(steps: Vec<BoundStep>) -> Bound {
    Bound { playbook: "p".into(), parameters: BTreeMap::new(), steps }
}

fn failure() -> Failure {
    Failure::new(Cause::Refused, "x", "it does not want to")
}

/// How many attempts of a step fail before one works.
type Script = BTreeMap<String, u32>;

/// What happened outside, which no crash takes back.
#[derive(Default)]
struct World {
    now_ms: u64,
    marks: Vec<Mark>,
    /// Runs that steps made, with their ends.
    runs: BTreeMap<String, End>,
    /// How often each program was started, by step.
    programs: BTreeMap<String, Vec<u32>>,
    /// Points passed: before and after each effect, and after each answer.
    points: usize,
    crash_at: Vec<usize>,
    parked: usize,
}

impl World {
    /// Is this where the process dies?
    fn crashes(&mut self) -> bool {
        self.points += 1;
        self.crash_at.contains(&self.points)
    }

    fn answer(&mut self, script: &Script, step: &str, attempt: u32) -> End {
        let fails = script.get(step).copied().unwrap_or(0);
        if attempt <= fails { End::Failed(failure()) } else { End::Done(None) }
    }
}

struct Ran {
    outcome: PlayOutcome,
    standings: Vec<(String, Standing)>,
    world: World,
}

/// One playbook to its end, with a new process after each crash and each parking.
fn drive(bound: &Bound, script: &Script, crash_at: &[usize]) -> Ran {
    let mut world = World { crash_at: crash_at.to_vec(), ..World::default() };
    for _process in 0..200 {
        if let Some(outcome) = process(bound, script, &mut world) {
            let standings =
                rows("r", bound, &world.marks).into_iter().map(|r| (r.step, r.standing)).collect::<Vec<_>>();
            return Ran { outcome, standings, world };
        }
    }
    panic!("no end: {:?}", world.marks);
}

/// `None`: it crashed, or parked.
fn process(bound: &Bound, script: &Script, world: &mut World) -> Option<PlayOutcome> {
    let mut play = Play::new("r", bound.clone(), &world.marks);
    let mut queue: Vec<PlayEvent> = Vec::new();
    if let Some(step) = play.unsettled() {
        // The person looks: a program that was started did its work unless it is one that fails.
        let started = world.programs.contains_key(&step.id) && script.get(&step.id).copied().unwrap_or(0) == 0;
        queue.push(PlayEvent::Settled(if started { Settled::Done } else { Settled::Again }));
    }
    queue.push(PlayEvent::Begin);
    let mut at = 0;
    while at < queue.len() {
        let event = queue[at].clone();
        at += 1;
        assert!(at < 500, "no end");
        world.now_ms += 7;
        for effect in play.handle(world.now_ms, event) {
            if world.crashes() {
                return None;
            }
            let mut ended = |step: String, attempt, end| queue.push(PlayEvent::Ended { step, attempt, end });
            match effect {
                PlayEffect::Mark(mark) => world.marks.push(mark),
                PlayEffect::RunGoal { step, attempt, run, .. } => {
                    let end = match world.runs.get(&run) {
                        Some(end) => end.clone(),
                        None => {
                            let end = world.answer(script, &step, attempt);
                            world.runs.insert(run, end.clone());
                            end
                        }
                    };
                    ended(step, attempt, end);
                }
                PlayEffect::Exec { step, attempt, .. } => {
                    world.programs.entry(step.clone()).or_default().push(attempt);
                    let end = if script.get(&step).copied().unwrap_or(0) == 0 {
                        End::Done(None)
                    } else {
                        End::Failed(failure())
                    };
                    ended(step, attempt, end);
                }
                PlayEffect::Gate { step, attempt, .. }
                | PlayEffect::AwaitPower { step, attempt, .. }
                | PlayEffect::Notify { step, attempt, .. }
                | PlayEffect::AskApproval { step, attempt, .. } => {
                    let end = world.answer(script, &step, attempt);
                    ended(step, attempt, end);
                }
                PlayEffect::AskPerson { step, attempt, .. } => {
                    let parked = Failure::new(Cause::Guard, step.clone(), "nobody is there");
                    ended(step, attempt, End::Parked(parked));
                }
                PlayEffect::Wait { until_ms } => {
                    world.now_ms = world.now_ms.max(until_ms);
                    queue.push(PlayEvent::Tick);
                }
                PlayEffect::Finished(PlayOutcome::Parked(_)) => {
                    world.parked += 1;
                    return None;
                }
                PlayEffect::Finished(outcome) => return Some(outcome),
            }
            if world.crashes() {
                return None;
            }
        }
    }
    panic!("it waits for nothing: {:?}", world.marks);
}

#[test]
fn steps_are_done_in_order_and_marked_first() {
    let mut skipped = join("play/02-join");
    skipped.skipped = Some("when: x (false)".into());
    let wait = step("play/03-wait", Act::Wait { for_ms: 5_000 });
    let mut play = Play::new("r-1", bound(vec![join("play/01-join"), skipped, wait]), &[]);
    let effects = play.handle(10, PlayEvent::Begin);
    let [PlayEffect::Mark(mark), PlayEffect::RunGoal { run, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((mark.kind.clone(), run.as_str()), (MarkKind::Intent, "r-1.01"));
    let late = PlayEvent::Ended { step: "play/03-wait".into(), attempt: 1, end: End::Done(None) };
    assert_eq!(play.handle(11, late), [], "it is not in hand");
    let done = PlayEvent::Ended { step: "play/01-join".into(), attempt: 1, end: End::Done(None) };
    let effects = play.handle(12, done.clone());
    assert!(matches!(effects.last(), Some(PlayEffect::Wait { until_ms: 5_012 })), "{effects:?}");
    assert_eq!(play.handle(13, done), [], "said twice");
    assert_eq!(play.handle(5_000, PlayEvent::Tick), [PlayEffect::Wait { until_ms: 5_012 }], "too early");
    let effects = play.handle(5_012, PlayEvent::Tick);
    assert!(matches!(effects.last(), Some(PlayEffect::Finished(PlayOutcome::Succeeded))), "{effects:?}");
}

#[test]
fn ids_of_runs_follow_from_step_and_attempt() {
    assert_eq!(child_run("r-1", "play/03-install", 1), "r-1.03");
    assert_eq!(child_run("r-1", "play/03-install", 2), "r-1.03-2");
    assert_eq!(child_run("r-1", "play/03-install/01-power", 1), "r-1.03.01");
    let hash = approval_hash("r", "a", "b");
    assert!(hash.len() == 64 && hash != approval_hash("r", "ab", "") && hash != approval_hash("ra", "", "b"));
}

#[test]
fn failures_stop_go_on_try_again_or_rescue() {
    let script = |fails: u32| Script::from([("play/01-join".to_owned(), fails)]);
    let run = |recovery: Recovery, fails| {
        let first = BoundStep { on_failure: recovery, ..join("play/01-join") };
        let ran = drive(&bound(vec![first, join("play/02-join")]), &script(fails), &[]);
        (ran.outcome, ran.world.runs.keys().cloned().collect::<Vec<_>>())
    };
    let stop = Recovery::default();
    assert_eq!(run(stop.clone(), 1), (PlayOutcome::Failed, vec!["r.01".into()]));
    let go_on = Recovery { then: Then::Continue, ..stop.clone() };
    assert_eq!(run(go_on.clone(), 1), (PlayOutcome::Partly, vec!["r.01".into(), "r.02".into()]));
    let retry = Recovery { retry: 2, delay_ms: 100, ..stop.clone() };
    let all = ["r.01", "r.01-2", "r.01-3", "r.02"].map(str::to_owned).to_vec();
    assert_eq!(run(retry.clone(), 2), (PlayOutcome::Succeeded, all));
    assert_eq!(run(retry, 3).0, PlayOutcome::Failed);
    let rescue = |then| Recovery { steps: vec![join("play/01-join/01-join")], then, ..Recovery::default() };
    assert_eq!(run(rescue(Then::Stop), 1), (PlayOutcome::Failed, vec!["r.01".into(), "r.01.01".into()]));
    let three = ["r.01", "r.01.01", "r.02"].map(str::to_owned).to_vec();
    assert_eq!(run(rescue(Then::Continue), 1), (PlayOutcome::Partly, three));
}

#[test]
fn a_rescue_that_fails_ends_it() {
    let recovery = Recovery { steps: vec![join("play/01-join/01-join")], then: Then::Continue, ..Recovery::default() };
    let first = BoundStep { on_failure: recovery, ..join("play/01-join") };
    let script = Script::from([("play/01-join".to_owned(), 9), ("play/01-join/01-join".to_owned(), 9)]);
    assert_eq!(drive(&bound(vec![first, join("play/02-join")]), &script, &[]).outcome, PlayOutcome::Failed);
}

#[test]
fn what_must_not_be_tried_again_is_not() {
    for cause in [Cause::Unauthorized, Cause::Untrusted, Cause::NeedsPerson] {
        let recovery = Recovery { retry: 5, then: Then::Continue, ..Recovery::default() };
        let steps = vec![BoundStep { on_failure: recovery, ..join("play/01-join") }, join("play/02-join")];
        let mut play = Play::new("r", bound(steps), &[]);
        play.handle(0, PlayEvent::Begin);
        let end = End::Failed(Failure::new(cause, "x", "y"));
        let effects = play.handle(1, PlayEvent::Ended { step: "play/01-join".into(), attempt: 1, end });
        assert!(matches!(&effects[0], PlayEffect::Mark(Mark { kind: MarkKind::Failed { .. }, .. })), "{effects:?}");
        let ends = effects.contains(&PlayEffect::Finished(PlayOutcome::NeedsPerson));
        assert_eq!(ends, cause == Cause::NeedsPerson, "what only a person can see is not gone past");
    }
}

#[test]
fn an_interrupt_waits_for_what_cannot_be_cut_off() {
    let finished = [PlayEffect::Finished(PlayOutcome::Interrupted)];
    let mut play = Play::new("r", bound(vec![exec("play/01-exec"), join("play/02-join")]), &[]);
    play.handle(0, PlayEvent::Begin);
    assert_eq!(play.handle(1, PlayEvent::Interrupt), []);
    let done = PlayEvent::Ended { step: "play/01-exec".into(), attempt: 1, end: End::Done(None) };
    let effects = play.handle(2, done);
    assert!(matches!(&effects[0], PlayEffect::Mark(Mark { kind: MarkKind::Done { .. }, .. })));
    assert_eq!(effects[1..], finished);
    let mut play = Play::new("r", bound(vec![step("play/01-wait", Act::Wait { for_ms: 9 })]), &[]);
    play.handle(0, PlayEvent::Begin);
    assert_eq!(play.handle(1, PlayEvent::Interrupt), finished);
    assert_eq!(play.handle(2, PlayEvent::Tick), [], "it is over");
}

// fault: F52 invariant: I11 I15 harness: S
#[test]
fn a_program_that_was_cut_off_is_settled_by_a_person() {
    let steps = || bound(vec![exec("play/01-exec"), join("play/02-join")]);
    let intent = Mark { at_ms: 1, step: "play/01-exec".into(), attempt: 1, kind: MarkKind::Intent };
    let mut play = Play::new("r", steps(), std::slice::from_ref(&intent));
    let effects = play.handle(5, PlayEvent::Begin);
    assert!(
        matches!(effects.last(), Some(PlayEffect::Finished(PlayOutcome::Parked(f))) if f.cause == Cause::NeedsPerson && f.next.as_ref().is_some_and(|n| n.contains("--settle"))),
        "{effects:?}"
    );
    for (how, attempt) in [(Settled::Done, None), (Settled::Again, Some(2))] {
        let mut play = Play::new("r", steps(), std::slice::from_ref(&intent));
        assert_eq!(play.unsettled().map(|s| s.id.as_str()), Some("play/01-exec"));
        let mut effects = play.handle(5, PlayEvent::Settled(how));
        effects.extend(play.handle(6, PlayEvent::Begin));
        let again = effects.iter().find_map(|e| match e {
            PlayEffect::Exec { attempt, .. } => Some(*attempt),
            _ => None,
        });
        assert_eq!(again, attempt, "{effects:?}");
    }
}

#[test]
fn times_begin_where_they_began() {
    let approve = Act::Approve { message: "go?".into(), deadline_ms: 1_000 };
    let marks = [Mark { at_ms: 50, step: "play/01-approve".into(), attempt: 1, kind: MarkKind::Intent }];
    let mut play = Play::new("r", bound(vec![step("play/01-approve", approve)]), &marks);
    let effects = play.handle(900, PlayEvent::Begin);
    assert!(matches!(&effects[..], [PlayEffect::AskApproval { until_ms: 1_050, .. }]), "{effects:?}");
    let marks = [Mark { at_ms: 50, step: "play/01-wait".into(), attempt: 1, kind: MarkKind::Intent }];
    let mut play = Play::new("r", bound(vec![step("play/01-wait", Act::Wait { for_ms: 100 })]), &marks);
    assert_eq!(play.handle(120, PlayEvent::Begin), [PlayEffect::Wait { until_ms: 150 }]);
}

#[test]
fn the_table_shows_how_each_step_stands() {
    let recovery = Recovery { retry: 1, steps: vec![join("play/01-join/01-join")], ..Recovery::default() };
    let steps = bound(vec![BoundStep { on_failure: recovery, ..join("play/01-join") }, join("play/02-join")]);
    let script = Script::from([("play/01-join".to_owned(), 9)]);
    let ran = drive(&steps, &script, &[]);
    let shown: Vec<String> = rows("r", &steps, &ran.world.marks)
        .iter()
        .map(|r| {
            let word = r.standing.word();
            format!("{} {word} {} {}", r.step, r.attempt, r.run.as_deref().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        shown,
        ["play/01-join failed 2 r.01-2", "play/01-join/01-join done 1 r.01.01", "play/02-join waiting 1 -"]
    );
}

fn acts() -> impl Strategy<Value = Act> {
    let nodes = || Scope(vec!["n1".into()]);
    prop_oneof![
        Just(Act::Join { nodes: nodes() }),
        Just(Act::Install { nodes: nodes(), reinstall: false }),
        Just(Act::Gate { cluster: "core".into(), healthy_ms: 1, deadline_ms: 9 }),
        Just(Act::Wait { for_ms: 50 }),
        Just(Act::Approve { message: "m".into(), deadline_ms: 9 }),
        Just(Act::Exec { command: vec!["/x".into()], deadline_ms: 9, repeatable: false }),
        Just(Act::Notify { message: "m".into(), to: Target::Command { command: vec!["/x".into()] } }),
        Just(Act::Pause { message: "m".into() }),
    ]
}

prop_compose! {
    fn plays()(steps in prop::collection::vec(
        (acts(), 0u32..3, any::<bool>(), prop::bool::weighted(0.15), 0u32..4, prop::collection::vec((acts(), 0u32..2), 0..3)),
        1..5,
    )) -> (Bound, Script) {
        let mut script = Script::new();
        let mut out = Vec::new();
        for (number, (act, retry, go_on, skipped, fails, rescue)) in steps.into_iter().enumerate() {
            let id = format!("play/{:02}-{}", number + 1, act.word());
            script.insert(id.clone(), fails);
            let rescue: Vec<BoundStep> = rescue.into_iter().enumerate().map(|(at, (act, fails))| {
                let id = format!("{id}/{:02}-{}", at + 1, act.word());
                script.insert(id.clone(), fails);
                step(&id, act)
            }).collect();
            let then = if go_on { Then::Continue } else { Then::Stop };
            let on_failure = Recovery { retry, delay_ms: 30, steps: rescue, then };
            let skipped = skipped.then(|| "no".to_owned());
            out.push(BoundStep { on_failure, skipped, ..step(&id, act) });
        }
        (bound(out), script)
    }
}

/// No program that did its work was started again, none twice in one attempt; no step came back from its end.
fn never_twice(bound: &Bound, script: &Script, ran: &Ran) {
    for (step, attempts) in &ran.world.programs {
        let mut once = attempts.clone();
        once.dedup();
        assert_eq!(&once, attempts, "{step}: an attempt was begun twice");
        assert!(script.get(step).copied().unwrap_or(0) > 0 || attempts.len() == 1, "{step}: begun again after its end");
    }
    for one in bound.all() {
        let ends = ran.world.marks.iter().filter(|m| {
            m.step == one.id
                && matches!(m.kind, MarkKind::Done { .. } | MarkKind::Failed { .. } | MarkKind::Skipped { .. })
        });
        assert!(ends.count() <= 1, "{} ended twice: {:?}", one.id, ran.world.marks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    // fault: F52 invariant: I11 harness: S
    /// A crash at any one point, and at any two, gives the same end.
    #[test]
    fn a_crash_anywhere_changes_nothing((bound, script) in plays(), second in 1usize..60) {
        let whole = drive(&bound, &script, &[]);
        never_twice(&bound, &script, &whole);
        for point in 1..=whole.world.points {
            for crashes in [vec![point], vec![point, point + second]] {
                let ran = drive(&bound, &script, &crashes);
                prop_assert_eq!(&ran.outcome, &whole.outcome, "{:?}\n{:?}", crashes, ran.world.marks);
                prop_assert_eq!(&ran.standings, &whole.standings, "{:?}", crashes);
                never_twice(&bound, &script, &ran);
                let runs: Vec<&String> = ran.world.runs.keys().collect();
                prop_assert_eq!(runs, whole.world.runs.keys().collect::<Vec<_>>(), "{:?}", crashes);
            }
        }
    }

    /// Marks survive being written down.
    #[test]
    fn marks_are_read_as_they_were_written((bound, script) in plays()) {
        for mark in drive(&bound, &script, &[]).world.marks {
            let text = serde_json::to_string(&mark).unwrap();
            prop_assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark);
        }
    }
}
