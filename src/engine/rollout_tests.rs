//! Waves, budget, windows, halt, pause and abort, on a rollout that restarts what serves.

use super::*;
use crate::{
    model::{
        Failure,
        failure::Cause,
        goal::{Goal, Scope},
        power::PowerAction,
        rollout::{ChangeWindow, Count, Rollout},
    },
    plan::{Domain, Pool, StepKind, Track},
};

fn id(n: usize) -> StepId {
    format!("n{n}/set-power")
}

/// `count` members that serve, each to be restarted.
fn rolling(count: usize, rollout: Rollout) -> Plan {
    let mut plan = Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) });
    for n in 0..count {
        let mut track = Track::new(Subject::Node(format!("n{n}")));
        let kind = StepKind::SetPower { action: PowerAction::PowerCycle, force: false, wait: true };
        track.push(kind, String::new());
        track.pool = Some("core".into());
        track.disrupts = true;
        plan.tracks.push(track);
    }
    let nodes = (0..count).map(|n| format!("n{n}")).collect();
    plan.pools.insert("core".into(), Pool { rollout, nodes });
    plan
}

/// A small world: what is begun is done after `took` ms; who is down is told when asked.
struct World {
    engine: Engine,
    now: u64,
    down: BTreeSet<String>,
    /// Order in which nodes began, with the time.
    begun: Vec<(u64, String)>,
    /// The most that were taken at once.
    most: usize,
    taken: usize,
    halted: Option<Failure>,
    finished: bool,
    fails: BTreeSet<StepId>,
    due: BTreeMap<(u64, u64), Event>,
    count: u64,
}

impl World {
    fn new(plan: &Plan, concurrency: usize) -> World {
        let engine = Engine::new(plan, Options { concurrency, stagger_ms: 0 }, &BTreeMap::new());
        World {
            engine,
            now: 0,
            down: BTreeSet::new(),
            begun: Vec::new(),
            most: 0,
            taken: 0,
            halted: None,
            finished: false,
            fails: BTreeSet::new(),
            due: BTreeMap::new(),
            count: 0,
        }
    }

    fn later(&mut self, ms: u64, event: Event) {
        self.count += 1;
        self.due.insert((self.now + ms, self.count), event);
    }

    fn feed(&mut self, event: Event) {
        for effect in self.engine.handle(self.now, event) {
            match effect {
                Effect::Observe { step, .. } => self.later(1, Event::Observed { step, found: Found::NotDone }),
                Effect::Act { step, .. } => {
                    let node = step.split('/').next().unwrap_or_default().to_owned();
                    self.begun.push((self.now, node));
                    self.taken += 1;
                    self.most = self.most.max(self.taken + self.down.len());
                    let result = if self.fails.contains(&step) {
                        Err(Failure::new(Cause::Refused, "w", "broken"))
                    } else {
                        Ok(())
                    };
                    self.later(1_000, Event::Acted { step, result });
                }
                Effect::Verify { step, .. } => self.later(1, Event::Verified { step, result: Ok(()) }),
                Effect::Complete { .. } | Effect::Fail { .. } => self.taken -= 1,
                Effect::LookAround => {
                    let down = self.down.clone();
                    self.later(50, Event::Around { down });
                }
                Effect::Wake { at_ms } => self.later(at_ms.saturating_sub(self.now).max(1), Event::Tick),
                Effect::Finalize { subject, attempt } => {
                    self.later(1, Event::Finalized { subject, attempt, result: Ok(()) })
                }
                Effect::Halt { why } => self.halted = Some(why),
                Effect::Finished => self.finished = true,
                Effect::Again { .. } | Effect::Go { .. } | Effect::Withhold { .. } | Effect::NotSent { .. } => {}
            }
        }
    }

    fn run(&mut self, until: u64) {
        if self.count == 0 {
            self.feed(Event::Begin);
        }
        while let Some(((at, _), _)) = self.due.first_key_value().map(|(k, v)| (*k, v.clone())) {
            if at > until || self.finished {
                break;
            }
            if let Some((_, event)) = self.due.pop_first() {
                self.now = self.now.max(at);
                self.feed(event);
            }
        }
        self.now = self.now.max(until);
    }

    fn names(&self) -> Vec<&str> {
        self.begun.iter().map(|(_, n)| n.as_str()).collect()
    }
}

// invariant: I3 harness: S
#[test]
fn never_more_at_once_than_the_budget_and_each_is_seen_healthy_before_the_next() {
    for max in 1..4 {
        let rollout = Rollout { max_unavailable: max, min_healthy_s: 10, ..Rollout::default() };
        let mut world = World::new(&rolling(7, rollout), 64);
        world.run(600_000);
        assert!(world.finished && world.engine.outcome() == Outcome::Succeeded);
        assert_eq!(world.most, max as usize);
        let times: Vec<u64> = world.begun.iter().map(|(at, _)| *at).collect();
        for (index, at) in times.iter().enumerate().skip(max as usize) {
            assert!(
                at - times[index - max as usize] >= 11_000,
                "min_healthy after the end of the one before: {times:?}"
            );
        }
    }
}

// fault: F50 invariant: I3 harness: S
#[test]
fn what_is_down_for_other_reasons_stops_a_rollout_until_it_is_up_again() {
    let mut world = World::new(&rolling(3, Rollout::default()), 64);
    world.down.insert("n2".into());
    world.run(100_000);
    // n2 itself costs nothing more: it is down already.
    assert_eq!(world.names(), ["n2"]);
    let waiting = super::view(&mut world.engine, Now::from(100_000));
    let n0 = waiting.iter().find(|t| t.subject == "n0").and_then(|t| t.waiting.clone()).unwrap_or_default();
    assert!(n0.contains("2 of core would be unavailable, 1 may be (now: n2)"), "{n0}");
    world.down.clear();
    world.run(400_000);
    assert!(world.finished);
    assert_eq!((world.names().len(), world.most), (3, 2), "n2 counted twice by this world alone");
}

#[test]
fn the_canary_is_alone_soaks_and_the_waves_grow() {
    let rollout = Rollout {
        max_unavailable: 100,
        waves: vec![Count::Number(1), Count::Percent(20), Count::Percent(50)],
        soak_s: 30,
        min_healthy_s: 0,
        ..Rollout::default()
    };
    let mut world = World::new(&rolling(10, rollout), 64);
    world.run(1_000_000);
    assert!(world.finished);
    let mut waves: Vec<(u64, usize)> = Vec::new();
    for (at, _) in &world.begun {
        match waves.last_mut() {
            Some((begin, n)) if at - *begin < 500 => *n += 1,
            _ => waves.push((*at, 1)),
        }
    }
    assert_eq!(waves.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 5, 2]);
    assert!(waves.windows(2).all(|w| w[1].0 - w[0].0 >= 31_000), "{waves:?}");
}

// invariant: I14 harness: S
#[test]
fn a_broken_canary_halts_and_nothing_else_begins() {
    let mut world = World::new(&rolling(5, Rollout::default()), 64);
    world.fails.insert(id(0));
    world.run(600_000);
    assert!(world.finished);
    assert_eq!(world.names(), ["n0"]);
    assert_eq!(world.engine.outcome(), Outcome::Halted);
    assert!(world.halted.as_ref().is_some_and(|f| f.why.contains("1 of 5 nodes of core failed")));
    assert!(matches!(&world.engine.step(&id(3)).unwrap().phase, Phase::Skipped { because } if because == HALT));
}

// invariant: I14 harness: S
#[test]
fn a_share_of_failures_is_a_limit_too() {
    let rollout = Rollout { halt_after: Count::Percent(50), min_healthy_s: 0, ..Rollout::default() };
    let mut plan = rolling(4, rollout);
    // Different steps fail, so that no shared cause stops it first.
    plan.pools.get_mut("core").unwrap().rollout.max_unavailable = 1;
    let mut world = World::new(&plan, 64);
    world.fails.extend([id(0), id(1), id(2)]);
    world.run(600_000);
    assert_eq!(world.names(), ["n0", "n1"]);
}

// invariant: I14 harness: S
#[test]
fn one_cause_that_stops_three_nodes_halts_a_run_without_any_limit() {
    let mut plan = rolling(10, Rollout { halt_after: Count::Number(100), min_healthy_s: 0, ..Rollout::default() });
    plan.tracks[9].pool = None;
    let mut world = World::new(&plan, 1);
    world.fails.extend((0..10).map(id));
    world.run(600_000);
    assert!(world.halted.as_ref().is_some_and(|f| f.why.contains("3 nodes failed at set-power in the same way")));
    assert_eq!(world.begun.len(), 3);
}

// invariant: I14 harness: S
#[test]
fn a_cause_that_halts_three_pools_halts_the_fourth_too() {
    let rollout = Rollout { halt_after: Count::Number(1), min_healthy_s: 0, ..Rollout::default() };
    let mut plan = rolling(8, rollout.clone());
    plan.pools.clear();
    for n in 0..8 {
        let pool = format!("p{}", n / 2);
        plan.tracks[n].pool = Some(pool.clone());
        let pool = plan.pools.entry(pool).or_insert_with(|| Pool { rollout: rollout.clone(), nodes: Vec::new() });
        pool.nodes.push(format!("n{n}"));
    }
    // One node at a time: n0, n2 and n4 halt their own pools; by then it is everybody's cause.
    let mut world = World::new(&plan, 1);
    world.fails.extend((0..8).map(id));
    world.run(600_000);
    assert_eq!(world.begun.len(), 3, "{:?}", world.begun);
    assert!(world.halted.as_ref().is_some_and(|f| f.why.contains("in the same way")), "{:?}", world.halted);
}

// fault: F19 invariant: I3 harness: S
#[test]
fn machines_of_one_chassis_go_one_by_one_and_another_chassis_does_not_wait() {
    let mut plan = rolling(4, Rollout { max_unavailable: 4, min_healthy_s: 0, ..Rollout::default() });
    for (n, chassis) in [(0, "a"), (1, "a"), (2, "b"), (3, "b")] {
        plan.tracks[n].domains = vec![format!("chassis/{chassis}")];
    }
    for (chassis, nodes) in [("a", ["n0", "n1"]), ("b", ["n2", "n3"])] {
        let nodes = nodes.map(str::to_owned).to_vec();
        plan.domains.insert(format!("chassis/{chassis}"), Domain { limit: 1, nodes });
    }
    let mut world = World::new(&plan, 64);
    world.run(600_000);
    assert_eq!(world.names(), ["n0", "n2", "n1", "n3"]);
    assert_eq!(world.most, 2);
}

#[test]
fn outside_its_window_nothing_begins_and_it_is_said_when_it_opens() {
    // 2026-11-21 07:00 UTC, a Saturday; the window opens at 08:00.
    let open = 1_795_248_000_000;
    let mut plan = rolling(1, Rollout::default());
    plan.tracks[0].site = Some("fra1".into());
    let window = ChangeWindow { days: vec![5], from_min: 480, to_min: 600, timezone: "UTC".into() };
    plan.windows.insert("fra1".into(), vec![window]);
    let mut world = World::new(&plan, 64);
    world.now = open - 60_000;
    world.run(open - 1);
    assert!(world.begun.is_empty());
    let waiting = super::view(&mut world.engine, Now::from(open - 1)).remove(0).waiting.unwrap_or_default();
    assert_eq!(waiting, "waits for the change window of fra1, until 2026-11-21T08:00:00Z");
    world.run(open + 20_000);
    assert_eq!(world.names(), ["n0"]);
}

#[test]
fn a_pause_finishes_the_step_in_hand_and_an_abort_leaves_what_was_begun_safe() {
    for (event, outcome) in [(Event::Pause, Outcome::Paused), (Event::Abort, Outcome::Aborted)] {
        let mut world = World::new(&rolling(3, Rollout::default()), 64);
        world.run(500);
        assert_eq!(world.begun.len(), 1);
        world.feed(event);
        world.run(600_000);
        assert!(world.finished);
        assert_eq!((world.begun.len(), world.engine.outcome()), (1, outcome));
        assert_eq!(world.engine.finalizers.ended(), usize::from(outcome == Outcome::Aborted));
        assert!(outcome == Outcome::Aborted || world.engine.is_done(&id(0)), "the step in hand was finished");
    }
}

// invariant: I18 harness: S
#[test]
fn what_a_guard_holds_back_is_looked_at_again_until_its_limit() {
    let plan = rolling(1, Rollout::default());
    let mut engine = Engine::new(&plan, Options { concurrency: 1, stagger_ms: 0 }, &BTreeMap::new());
    engine.handle(0, Event::Begin);
    engine.handle(0, Event::Around { down: BTreeSet::new() });
    let held = || Event::Observed { step: id(0), found: Found::Held(Failure::new(Cause::Guard, "w", "settles")) };
    let mut now = 10;
    let mut looks = 0;
    loop {
        let effects = engine.handle(now, held());
        if let Some(Effect::Fail { failure, .. }) = effects.iter().find(|e| matches!(e, Effect::Fail { .. })) {
            assert_eq!(failure.why, "settles");
            break;
        }
        let Some(Effect::Wake { at_ms }) = effects.last() else { panic!("nobody wakes it: {effects:?}") };
        now = *at_ms;
        assert!(engine.handle(now, Event::Tick).iter().any(|e| matches!(e, Effect::Observe { .. })));
        looks += 1;
    }
    assert!((500..=700).contains(&looks), "once a second for 600 s: {looks}");
}

#[test]
fn nodes_begin_one_after_the_other_where_a_stagger_is_asked_for() {
    let mut plan = rolling(3, Rollout::default());
    for track in &mut plan.tracks {
        track.disrupts = false;
        track.pool = None;
    }
    let mut world = World::new(&plan, 64);
    world.engine.stagger_ms = 2_000;
    world.run(60_000);
    let times: Vec<u64> = world.begun.iter().map(|(at, _)| at / 100).collect();
    assert_eq!(times, [0, 20, 40]);
}

/// 10,000 nodes, eight steps each: what the engine costs a step, without any I/O. The figure is printed by
/// `cargo xtask bench scale`; here only that no step costs by the size of the fleet.
#[test]
fn ten_thousand_nodes_come_to_their_end() {
    let mut plan = Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) });
    for n in 0..10_000 {
        let mut track = Track::new(Subject::Node(format!("n{n}")));
        track.push(StepKind::CheckIdentity, String::new());
        track.push(StepKind::PowerOn, String::new());
        plan.tracks.push(track);
    }
    let mut world = World::new(&plan, 256);
    world.feed(Event::Begin);
    while let Some((_, event)) = world.due.pop_first() {
        world.now += 1;
        // This world counts restarts alone.
        world.taken = 1;
        world.feed(event);
    }
    assert!(world.finished && world.engine.outcome() == Outcome::Succeeded);
}
