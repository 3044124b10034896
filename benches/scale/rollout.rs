//! A run of the engine in a world where everything that is begun succeeds: what is left is the engine's own work.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    time::{Duration, Instant},
};

use rackctl::{
    engine::{Effect, Engine, Event, Found, Now, Options, Outcome, view},
    plan::{Danger, Plan},
};

/// Saturday, 2026-11-21, 08:00 UTC.
const START_MS: u64 = 1_795_248_000_000;
/// Events of one step at most, looks and ticks included: more is a run that does not get on.
const EVENTS_A_STEP: usize = 100;

/// What a run took.
#[derive(Debug, Default)]
pub struct Ran {
    pub steps: usize,
    pub events: usize,
    /// How often it was asked who is unavailable.
    pub looks: usize,
    /// Of the engine and its views.
    pub took: Duration,
    pub slowest: Duration,
}

/// To its end. Each event comes a millisecond after the one before.
pub fn run(plan: &Plan, concurrency: usize) -> Ran {
    let began = Instant::now();
    let mut engine = Engine::new(plan, Options { concurrency, stagger_ms: 0 }, &BTreeMap::new());
    let mut ran = Ran { steps: plan.steps().count(), took: began.elapsed(), ..Ran::default() };
    // Their drivers ask once more before they send what takes the machine away.
    let takes_away: HashSet<&str> =
        plan.steps().filter(|s| s.danger >= Danger::Reboot).map(|s| s.id.as_str()).collect();
    let mut queue = VecDeque::from([Event::Begin]);
    let mut alarms: BTreeSet<u64> = BTreeSet::new();
    let mut now = 0;
    let mut done = 0;
    loop {
        let event = match queue.pop_front() {
            Some(event) => event,
            None => {
                let at = alarms.pop_first().expect("nothing is under way, and nothing is waited for");
                now = at.max(now);
                Event::Tick
            }
        };
        now += 1;
        ran.events += 1;
        assert!(ran.events < ran.steps * EVENTS_A_STEP, "{ran:?}, {done} done");
        let turn = Instant::now();
        let at = Now { mono_ms: now, unix_ms: START_MS + now };
        let effects = engine.handle(at, event);
        // As the run shows them after each event.
        drop(view(&mut engine, at));
        let turn = turn.elapsed();
        ran.took += turn;
        ran.slowest = ran.slowest.max(turn);
        for effect in effects {
            match effect {
                Effect::Observe { step, .. } => queue.push_back(Event::Observed { step, found: Found::NotDone }),
                Effect::Act { step, .. } if takes_away.contains(step.as_str()) => {
                    queue.push_back(Event::Ready { step })
                }
                Effect::Act { step, .. } | Effect::Go { step } => {
                    queue.push_back(Event::Acted { step, result: Ok(()) })
                }
                Effect::Withhold { step, failure } => queue.push_back(Event::Acted { step, result: Err(failure) }),
                Effect::NotSent { .. } => {}
                Effect::Verify { step, .. } => queue.push_back(Event::Verified { step, result: Ok(()) }),
                Effect::LookAround => {
                    ran.looks += 1;
                    queue.push_back(Event::Around { down: BTreeSet::new() });
                }
                Effect::Wake { at_ms } => drop(alarms.insert(at_ms)),
                Effect::Complete { .. } => done += 1,
                Effect::Finished => {
                    assert_eq!((engine.outcome(), done), (Outcome::Succeeded, ran.steps));
                    return ran;
                }
                other => panic!("{other:?}"),
            }
        }
        // Alarms that have gone off while there was other work.
        while alarms.first().is_some_and(|at| *at <= now) {
            alarms.pop_first();
            queue.push_back(Event::Tick);
        }
    }
}
