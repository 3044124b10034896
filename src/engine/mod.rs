//! Level 2: a run as a state machine: `handle(now, event) -> effects`. Pure: time is an argument, nothing is
//! done here, and whoever carries an effect out reports it back as an event.
//!
//! A step's life: *waiting* → *observing* → (*acting* →) *verifying* → *done*. What is found done is not done
//! again; what was begun before a crash (an intent without a result) is only observed (engine.md, "Resume").
//! Which node may begin is [`admission`]'s; which failure is worth another attempt is [`retry`]'s.

mod admission;
mod budget;
mod doors;
mod event;
mod finalize;
mod halt;
mod leave;
pub mod look;
pub mod play;
mod progress;
pub mod retry;
mod settle;
mod state;
mod step;
mod turn;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::plan::{Plan, StepId, Subject};

use admission::Admission;
pub use admission::{FRESH_MS, SHARED_CAUSE};
pub use event::{Effect, Event, Found, Now};
use finalize::Finalizers;
pub use finalize::LEAVE_SAFE;
pub use halt::HALT;
use leave::Leaving;
pub use progress::{TrackView, view};
pub use settle::Outcome;
pub use state::{Phase, StepState};
use state::{Stop, TrackState};

pub struct Engine {
    steps: Vec<StepState>,
    index: HashMap<StepId, usize>,
    tracks: Vec<TrackState>,
    /// Step → tracks with a step that awaits it.
    waiters: HashMap<usize, BTreeSet<usize>>,
    admission: Admission,
    /// Tracks whose next step may be able to begin.
    ready: BTreeSet<usize>,
    /// Tracks that wait for a moment: (moment, track).
    timers: BTreeSet<(u64, usize)>,
    busy: usize,
    open: usize,
    changed: BTreeSet<usize>,
    finalizers: Finalizers,
    /// Steps whose next request takes a machine away, and that wait for a look.
    leaving: Leaving,
    stop: Option<Stop>,
    halted: bool,
    finished: bool,
    woken_for: Option<u64>,
    /// Tracks under way at once, at most.
    concurrency: usize,
    stagger_ms: u64,
    /// The next node begins then at the earliest.
    next_begin_ms: u64,
}

/// What the journal of an earlier process says of a step.
#[derive(Clone, Debug, Default)]
pub struct Past {
    pub done: bool,
    pub attempt: u32,
    /// That attempt failed: whoever resumes begins another one.
    pub failed: bool,
    pub intent_open: bool,
    /// Of a node and not of a step: it could not be left safe.
    pub left_unsafe: bool,
}

/// Named limits of a run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Nodes under way at once, at most.
    pub concurrency: usize,
    /// Between the beginnings of two nodes, in milliseconds.
    pub stagger_ms: u64,
}

impl Engine {
    pub fn new(plan: &Plan, options: Options, past: &BTreeMap<StepId, Past>) -> Engine {
        let mut steps: Vec<StepState> = Vec::new();
        let mut tracks = Vec::with_capacity(plan.tracks.len());
        for (number, track) in plan.tracks.iter().enumerate() {
            let first = steps.len();
            let mut begun = false;
            for step in &track.steps {
                let past = past.get(&step.id).cloned().unwrap_or_default();
                begun |= past.done || past.intent_open;
                let phase = if past.done { Phase::Done } else { Phase::Waiting };
                let base = if past.failed { past.attempt } else { 0 };
                steps.push(StepState {
                    step: step.clone(),
                    phase,
                    attempt: past.attempt.max(base + 1),
                    base,
                    resumed: past.intent_open,
                    since_ms: 0,
                    not_before_ms: 0,
                    held: None,
                    track: number,
                    went: false,
                    withheld: None,
                    withheld_ms: None,
                });
            }
            let end = steps.len();
            begin_anew(&mut steps[first..end]);
            let cursor = (first..end).find(|i| steps[*i].phase != Phase::Done).unwrap_or(end);
            let admitted = matches!(track.subject, Subject::Cluster(_)) || begun;
            tracks.push(TrackState {
                subject: track.subject.clone(),
                first,
                end,
                cursor,
                admitted,
                begun,
                over: cursor == end,
                since_ms: None,
                late: false,
            });
        }
        let index: HashMap<StepId, usize> = steps.iter().enumerate().map(|(i, s)| (s.step.id.clone(), i)).collect();
        let mut waiters: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for state in &steps {
            for awaited in state.step.awaits.iter().filter_map(|a| index.get(a)) {
                waiters.entry(*awaited).or_default().insert(state.track);
            }
        }
        let admission = Admission::new(plan, |t| tracks[t].begun, |t| tracks[t].over);
        let ready = tracks.iter().enumerate().filter(|(_, t)| t.admitted && !t.over).map(|(i, _)| i).collect();
        let open = tracks.iter().filter(|t| !t.over).count();
        let owes = |t: &&TrackState| past.get(&t.subject.to_string()).is_some_and(|p| p.left_unsafe);
        let owed = tracks.iter().filter(owes).map(|t| t.subject.clone()).collect();
        Engine {
            steps,
            index,
            waiters,
            admission,
            ready,
            timers: BTreeSet::new(),
            busy: 0,
            open,
            changed: (0..tracks.len()).collect(),
            tracks,
            finalizers: Finalizers::owing(owed),
            leaving: Leaving::default(),
            stop: None,
            halted: false,
            finished: false,
            woken_for: None,
            concurrency: options.concurrency.max(1),
            stagger_ms: options.stagger_ms,
            next_begin_ms: 0,
        }
    }

    pub fn step(&self, id: &str) -> Option<&StepState> {
        self.index.get(id).map(|i| &self.steps[*i])
    }
    /// The subject whose track has the step.
    pub fn subject(&self, id: &str) -> Option<&Subject> {
        self.step(id).map(|s| &self.tracks[s.track].subject)
    }
    pub fn is_done(&self, id: &str) -> bool {
        self.step(id).is_some_and(|s| s.phase == Phase::Done)
    }

    /// One event in, what is to be done next out. An event of a step that is not in that phase is late and ignored.
    pub fn handle(&mut self, now: impl Into<Now>, event: Event) -> Vec<Effect> {
        let now = now.into();
        let mut effects = Vec::new();
        match event {
            Event::Begin => self.finalize_owed_first(&mut effects),
            Event::Tick => self.woken_for = self.woken_for.filter(|at| *at > now.mono_ms),
            Event::Interrupt => self.stop = self.stop.or(Some(Stop::Interrupt)),
            Event::Pause => self.stop = self.stop.or(Some(Stop::Pause)),
            Event::Abort => self.stop = Some(Stop::Abort),
            Event::Around { down } => {
                if self.admission.around(now.mono_ms, down) {
                    self.judge(now, &mut effects);
                } else {
                    self.look_once_more(now);
                }
            }
            Event::Observed { step, found } => self.observed(now, &step, found, &mut effects),
            Event::Acted { step, result } => self.acted(now, &step, result, &mut effects),
            Event::Verified { step, result } => self.verified(now, &step, result, &mut effects),
            Event::Ready { step } => self.wants_to_go(now, &step, &mut effects),
            Event::Finalized { subject, result, .. } => self.finalized(now, &subject, result),
        }
        self.advance(now, &mut effects);
        effects
    }
}

/// Whoever resumes a run begins where the next attempt of what failed begins: nobody claims whose machine was not booted
/// again.
fn begin_anew(track: &mut [StepState]) {
    let Some(failed) = track.iter().position(|s| s.base > 0) else { return };
    let Some(word) = retry::begins_at(&track[failed].step.kind) else { return };
    let Some(begin) = track[..=failed].iter().position(|s| s.step.kind.word() == word) else { return };
    let way = &mut track[begin..=failed];
    let tried = way.iter().map(|s| if s.base > 0 { s.base } else { s.attempt }).max().unwrap_or_default();
    for state in way {
        (state.phase, state.resumed) = (Phase::Waiting, false);
        (state.base, state.attempt) = (tried, tried + 1);
    }
}

#[cfg(test)]
mod rollout_tests;
#[cfg(test)]
mod safety_tests;
#[cfg(test)]
mod tests;
