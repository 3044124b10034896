//! Level 2: a run as a state machine: `handle(now, event) -> effects`. Pure: time is an argument, nothing is
//! done here, and whoever carries an effect out reports it back as an event.
//!
//! A step's life: *waiting* → *observing* → (*acting* →) *verifying* → *done*. What is found done is not done
//! again; what was begun before a crash (an intent without a result) is only observed (engine.md, "Resume").
//! Which node may begin is [`admission`]'s; which failure is worth another attempt is [`retry`]'s.

mod admission;
mod budget;
mod doors;
pub mod look;
pub mod play;
mod progress;
pub mod retry;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Failure, failure::Cause},
    plan::{Class, Danger, Plan, Step, StepId, Subject},
};

use admission::Admission;
pub use admission::{FRESH_MS, SHARED_CAUSE};
pub use progress::{TrackView, view};

/// Between two looks at a step that a guard holds back.
const HOLD_PAUSE_MS: u64 = 1_000;

/// The two clocks: time since boot decides, wall time is for change windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono_ms: u64,
    pub unix_ms: u64,
}

impl From<u64> for Now {
    /// One virtual clock for both.
    fn from(ms: u64) -> Now {
        Now { mono_ms: ms, unix_ms: ms }
    }
}

/// What a look at the world says of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It holds already.
    Done,
    NotDone,
    /// Begun and still going on: wait for it, do not begin again.
    UnderWay,
    /// Cannot be told.
    Unknown(Failure),
    /// The world contradicts the plan.
    Contradiction(Failure),
    /// A guard says: not now (a cluster settles, an approval is missing). It is looked at again until the step's
    /// deadline.
    Held(Failure),
}

#[derive(Clone, Debug)]
pub enum Event {
    Begin,
    /// Asked for by [`Effect::Wake`].
    Tick,
    Observed {
        step: StepId,
        found: Found,
    },
    /// The driver's answer: not yet believed.
    Acted {
        step: StepId,
        result: Result<(), Failure>,
    },
    Verified {
        step: StepId,
        result: Result<(), Failure>,
    },
    Finalized {
        subject: Subject,
        result: Result<(), Failure>,
    },
    /// Nodes that are unavailable now, for any reason.
    Around {
        down: BTreeSet<String>,
    },
    /// ^C: effects in hand are finished, what only waits is parked, nothing new is begun.
    Interrupt,
    /// Steps in hand are finished, nothing new is begun.
    Pause,
    /// As an interrupt, and every node that was begun is left safe.
    Abort,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Observe {
        step: StepId,
        attempt: u32,
        resumed: bool,
    },
    /// The caller makes the intent durable first (invariant 4).
    Act {
        step: StepId,
        attempt: u32,
    },
    Verify {
        step: StepId,
        attempt: u32,
        deadline_s: u64,
    },
    /// The step holds: to be made durable.
    Complete {
        step: StepId,
        attempt: u32,
    },
    /// The step failed for good: to be made durable.
    Fail {
        step: StepId,
        attempt: u32,
        failure: Failure,
    },
    /// Another attempt of these steps is due.
    Again {
        step: StepId,
        attempt: u32,
        failure: Failure,
    },
    /// Network boot withdrawn, override cleared.
    Finalize {
        subject: Subject,
    },
    /// Ask who is unavailable, and answer with [`Event::Around`].
    LookAround,
    /// Send [`Event::Tick`] then (the clock of `mono_ms`).
    Wake {
        at_ms: u64,
    },
    /// No new node begins: to be made durable and shown.
    Halt {
        why: Failure,
    },
    Finished,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase")]
pub enum Phase {
    Waiting,
    Observing,
    Acting,
    Verifying,
    Done,
    Failed {
        failure: Failure,
    },
    /// Will not be done: an earlier step failed, or one that it awaits.
    Skipped {
        because: StepId,
    },
}

impl Phase {
    fn in_hand(&self) -> bool {
        matches!(self, Phase::Observing | Phase::Acting | Phase::Verifying)
    }
    fn ended(&self) -> bool {
        matches!(self, Phase::Done | Phase::Failed { .. } | Phase::Skipped { .. })
    }
}

#[derive(Clone, Debug)]
pub struct StepState {
    pub step: Step,
    pub phase: Phase,
    pub attempt: u32,
    /// An intent without a result stands in the journal.
    resumed: bool,
    pub since_ms: u64,
    /// A retry or a guard waits until then.
    not_before_ms: u64,
    /// What a guard said last, and since when it holds the step back.
    pub held: Option<(Failure, u64)>,
    track: usize,
}

#[derive(Debug)]
struct TrackState {
    subject: Subject,
    /// First and last + 1 of its steps.
    first: usize,
    end: usize,
    /// The first step that is not done.
    cursor: usize,
    /// Let in by admission; cluster tracks always are.
    admitted: bool,
    /// Something was done or tried for it.
    begun: bool,
    over: bool,
    since_ms: Option<u64>,
    late: bool,
}

/// Why nothing new begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Interrupt,
    Pause,
    Abort,
}

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
    finalizing: BTreeSet<Subject>,
    finalized: BTreeSet<Subject>,
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

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    /// Some tracks, not all, reached their end.
    Partly,
    Failed,
    NeedsPerson,
    Interrupted,
    Paused,
    Aborted,
    /// Too many failures, or a shared cause: nodes were left that never began.
    Halted,
}

/// What the journal of an earlier process says of a step.
#[derive(Clone, Debug, Default)]
pub struct Past {
    pub done: bool,
    pub attempt: u32,
    pub intent_open: bool,
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
                steps.push(StepState {
                    step: step.clone(),
                    phase,
                    attempt: past.attempt.max(1),
                    resumed: past.intent_open,
                    since_ms: 0,
                    not_before_ms: 0,
                    held: None,
                    track: number,
                });
            }
            let end = steps.len();
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
            finalizing: BTreeSet::new(),
            finalized: BTreeSet::new(),
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
            Event::Begin | Event::Tick => {}
            Event::Interrupt => self.stop = self.stop.or(Some(Stop::Interrupt)),
            Event::Pause => self.stop = self.stop.or(Some(Stop::Pause)),
            Event::Abort => self.stop = Some(Stop::Abort),
            Event::Around { down } => self.admission.around(now.mono_ms, down),
            Event::Observed { step, found } => self.observed(now, &step, found, &mut effects),
            Event::Acted { step, result } => self.acted(now, &step, result, &mut effects),
            Event::Verified { step, result } => self.verified(now, &step, result, &mut effects),
            Event::Finalized { subject, .. } => {
                self.finalizing.remove(&subject);
                self.finalized.insert(subject);
            }
        }
        self.advance(now, &mut effects);
        effects
    }

    fn set(&mut self, now: Now, index: usize, phase: Phase) {
        let state = &mut self.steps[index];
        let (before, after) = (state.phase.in_hand(), phase.in_hand());
        state.phase = phase;
        state.since_ms = now.unix_ms;
        if before != after {
            self.busy = if after { self.busy + 1 } else { self.busy - 1 };
        }
        self.changed.insert(state.track);
    }

    /// Index of the step, if it is in that phase.
    fn at(&self, id: &str, phase: &Phase) -> Option<usize> {
        self.index.get(id).copied().filter(|i| self.steps[*i].phase == *phase)
    }

    fn observed(&mut self, now: Now, id: &str, found: Found, effects: &mut Vec<Effect>) {
        let Some(at) = self.at(id, &Phase::Observing) else { return };
        let state = &mut self.steps[at];
        let class = state.step.kind.class();
        let attempt = state.attempt;
        if let Found::Held(failure) = found {
            return self.hold(now, at, failure, effects);
        }
        state.held = None;
        let resumed = std::mem::take(&mut state.resumed);
        let verify = Effect::Verify { step: id.to_owned(), attempt, deadline_s: state.step.kind.deadline_s() };
        match found {
            Found::Done => self.complete(now, at, effects),
            Found::UnderWay => {
                self.set(now, at, Phase::Verifying);
                effects.push(verify);
            }
            Found::Contradiction(failure) => self.failed(now, at, failure, effects),
            _ if class == Class::Observe => {
                self.set(now, at, Phase::Verifying);
                effects.push(verify);
            }
            // Begun before a crash, and no look can tell how it ended: only a person can.
            Found::Unknown(failure) if class == Class::Destroy && resumed => {
                let failure = Failure { cause: Cause::NeedsPerson, ..failure };
                self.failed(now, at, failure, effects);
            }
            Found::Unknown(failure) if class != Class::Set => {
                if !retry::passes(failure.cause) {
                    return self.failed(now, at, failure, effects);
                }
                // Looking again is free, and what was begun stays unknown until it is seen.
                self.steps[at].resumed = resumed;
                self.hold(now, at, failure, effects);
            }
            Found::NotDone | Found::Unknown(_) | Found::Held(_) => {
                // ^C came while it was looked at: nothing new is begun.
                if self.stop.is_some_and(|s| s != Stop::Pause) {
                    self.steps[at].resumed = resumed;
                    return self.set(now, at, Phase::Waiting);
                }
                self.set(now, at, Phase::Acting);
                effects.push(Effect::Act { step: id.to_owned(), attempt });
            }
        }
    }

    /// Looked at again after a pause, until the step's own limit.
    fn hold(&mut self, now: Now, at: usize, failure: Failure, effects: &mut Vec<Effect>) {
        let state = &mut self.steps[at];
        let since = state.held.as_ref().map_or(now.mono_ms, |(_, since)| *since);
        if now.mono_ms.saturating_sub(since) > state.step.kind.deadline_s() * 1_000 {
            return self.failed(now, at, failure, effects);
        }
        state.held = Some((failure, since));
        let (until, track) = (now.mono_ms + HOLD_PAUSE_MS, state.track);
        state.not_before_ms = until;
        self.set(now, at, Phase::Waiting);
        self.timers.insert((until, track));
    }

    fn acted(&mut self, now: Now, id: &str, result: Result<(), Failure>, effects: &mut Vec<Effect>) {
        let Some(at) = self.at(id, &Phase::Acting) else { return };
        let (attempt, deadline_s) = (self.steps[at].attempt, self.steps[at].step.kind.deadline_s());
        match result {
            // No answer is no failure: what happened is found out by looking (I15).
            Err(failure) if !matches!(failure.cause, Cause::Unreachable | Cause::Deadline) => {
                if !self.again(now, at, &failure, effects) {
                    self.failed(now, at, failure, effects);
                }
            }
            _ => {
                self.set(now, at, Phase::Verifying);
                effects.push(Effect::Verify { step: id.to_owned(), attempt, deadline_s });
            }
        }
    }

    fn verified(&mut self, now: Now, id: &str, result: Result<(), Failure>, effects: &mut Vec<Effect>) {
        let Some(at) = self.at(id, &Phase::Verifying) else { return };
        match result {
            Ok(()) => self.complete(now, at, effects),
            Err(failure) => {
                if !self.again(now, at, &failure, effects) {
                    self.failed(now, at, failure, effects);
                }
            }
        }
    }

    fn complete(&mut self, now: Now, at: usize, effects: &mut Vec<Effect>) {
        let (id, attempt, track) = (self.steps[at].step.id.clone(), self.steps[at].attempt, self.steps[at].track);
        self.set(now, at, Phase::Done);
        effects.push(Effect::Complete { step: id, attempt });
        let own = &mut self.tracks[track];
        while own.cursor < own.end && self.steps[own.cursor].phase == Phase::Done {
            own.cursor += 1;
        }
        if own.cursor == own.end {
            self.over(now, track, None, effects);
        } else {
            self.ready.insert(track);
            // What follows may have been skipped meanwhile.
            self.close_if_dead(track);
        }
        // Those that awaited it.
        for waiter in self.waiters.get(&at).into_iter().flatten() {
            if self.tracks[*waiter].admitted {
                self.ready.insert(*waiter);
            }
        }
    }

    fn failed(&mut self, now: Now, at: usize, failure: Failure, effects: &mut Vec<Effect>) {
        let (id, attempt, track) = (self.steps[at].step.id.clone(), self.steps[at].attempt, self.steps[at].track);
        effects.push(Effect::Fail { step: id, attempt, failure: failure.clone() });
        self.set(now, at, Phase::Failed { failure });
        self.skip_rest(now, at);
        self.over(now, track, Some(at), effects);
    }

    /// The track is through, or will never be.
    fn over(&mut self, now: Now, track: usize, failed: Option<usize>, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.tracks[track].over, true) {
            return;
        }
        self.open -= 1;
        self.ready.remove(&track);
        let failure = failed.and_then(|at| {
            let state = &self.steps[at];
            let Phase::Failed { failure } = &state.phase else { return None };
            Some((&state.step.id, failure, state.step.kind.word()))
        });
        if let Some(why) = self.admission.end(now.mono_ms, track, failure) {
            self.halted = true;
            effects.push(Effect::Halt { why });
        }
        let subject = self.tracks[track].subject.clone();
        if failed.is_some() {
            self.finalize(subject, effects);
        }
    }

    fn finalize(&mut self, subject: Subject, effects: &mut Vec<Effect>) {
        if matches!(subject, Subject::Node(_))
            && !self.finalized.contains(&subject)
            && self.finalizing.insert(subject.clone())
        {
            effects.push(Effect::Finalize { subject });
        }
    }

    /// Everything behind a failed step of its track, and what awaits any of that, will never be done.
    fn skip_rest(&mut self, now: Now, failed: usize) {
        let because = self.steps[failed].step.id.clone();
        let mut dead = vec![failed];
        while let Some(at) = dead.pop() {
            let own = self.steps[at].track;
            let mut next: Vec<usize> = (at + 1..self.tracks[own].end).collect();
            for waiter in self.waiters.get(&at).into_iter().flatten() {
                let id = &self.steps[at].step.id;
                let range = self.tracks[*waiter].first..self.tracks[*waiter].end;
                next.extend(range.filter(|i| self.steps[*i].step.awaits.contains(id)));
            }
            for index in next {
                if self.steps[index].phase != Phase::Waiting {
                    continue;
                }
                self.set(now, index, Phase::Skipped { because: because.clone() });
                dead.push(index);
                self.close_if_dead(self.steps[index].track);
            }
        }
    }

    /// A track of which nothing is in hand and nothing can begin any more.
    fn close_if_dead(&mut self, track: usize) {
        let own = &self.tracks[track];
        if own.over || !self.steps[own.cursor..own.end].iter().all(|s| s.phase.ended()) {
            return;
        }
        if self.steps[own.first..own.end].iter().any(|s| matches!(s.phase, Phase::Failed { .. })) {
            // `failed` closes it, and finalizes.
            return;
        }
        self.tracks[track].over = true;
        self.open -= 1;
        self.ready.remove(&track);
        self.admission.drop_waiting(track);
    }

    fn again(&mut self, now: Now, at: usize, failure: &Failure, effects: &mut Vec<Effect>) -> bool {
        let state = &self.steps[at];
        let (own, track) = (state.attempt, state.track);
        let first = self.tracks[track].first;
        let Some(rule) = retry::rule(&state.step.kind, failure.cause, own) else { return false };
        let begin = match rule.from {
            Some(word) => (first..=at).find(|i| self.steps[*i].step.kind.word() == word).unwrap_or(at),
            None => at,
        };
        // The way back goes through steps that were tried more often than this one: none of their attempts is counted,
        // or its token used, a second time.
        let attempt = self.steps[begin..=at].iter().map(|s| s.attempt).max().unwrap_or(own);
        if attempt >= rule.attempts {
            return false;
        }
        if self.stop.is_some_and(|s| s != Stop::Pause) {
            // Parked: the next process looks at it.
            self.steps[at].resumed = true;
            self.set(now, at, Phase::Waiting);
            return true;
        }
        let until = now.mono_ms + rule.pause(attempt + 1);
        for index in begin..=at {
            self.steps[index].attempt = attempt + 1;
            self.steps[index].not_before_ms = until;
            self.set(now, index, Phase::Waiting);
        }
        self.tracks[track].cursor = begin;
        self.timers.insert((until, track));
        let step = self.steps[at].step.id.clone();
        effects.push(Effect::Again { step, attempt: attempt + 1, failure: failure.clone() });
        true
    }

    /// Begins what may begin, and notices the end.
    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some((at, track)) = self.timers.first().copied().filter(|(at, _)| *at <= now.mono_ms) {
            self.timers.remove(&(at, track));
            self.ready.insert(track);
            self.notice_late(now, track, effects);
        }
        let mut wake = None;
        if self.stop.is_none() {
            let mut room = self.concurrency.saturating_sub(self.admission.in_hand());
            if self.stagger_ms > 0 {
                room = room.min(usize::from(now.mono_ms >= self.next_begin_ms));
            }
            let answer = self.admission.admit(now.mono_ms, now.unix_ms, room);
            wake = answer.wake_ms;
            if self.stagger_ms > 0 {
                if !answer.begin.is_empty() {
                    self.next_begin_ms = now.mono_ms + self.stagger_ms;
                }
                let next = self.next_begin_ms.max(now.mono_ms + 1);
                wake = Some(wake.map_or(next, |at| at.min(next))).filter(|_| self.admission.waits());
            }
            if answer.look {
                effects.push(Effect::LookAround);
            }
            for track in answer.begin {
                self.tracks[track].admitted = true;
                self.tracks[track].since_ms = Some(now.mono_ms);
                self.ready.insert(track);
                if let Some(limit) = self.admission.deadline_ms(track) {
                    self.timers.insert((now.mono_ms + limit, track));
                }
            }
            if self.halted {
                self.give_up(now);
            }
            self.begin_ready(now, effects);
        }
        self.notice_end(effects);
        let next = self.timers.first().map(|(at, _)| *at);
        let wake = [wake, next].into_iter().flatten().min();
        if let Some(at_ms) = wake.filter(|at| !self.finished && self.woken_for != Some(*at)) {
            self.woken_for = Some(at_ms);
            effects.push(Effect::Wake { at_ms });
        }
    }

    fn begin_ready(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // Each has its turn once: what cannot begin now is made ready again by what it waits for.
        while self.busy < self.concurrency
            && let Some(track) = self.ready.pop_first()
        {
            let own = &self.tracks[track];
            if own.over || !own.admitted || own.cursor >= own.end {
                continue;
            }
            let at = own.cursor;
            let state = &self.steps[at];
            let may = state.phase == Phase::Waiting
                && state.not_before_ms <= now.mono_ms
                && state.step.awaits.iter().all(|a| self.is_done(a));
            if !may {
                continue;
            }
            let (id, attempt, resumed) = (state.step.id.clone(), state.attempt, state.resumed);
            effects.push(Effect::Observe { step: id, attempt, resumed });
            self.tracks[track].begun = true;
            self.set(now, at, Phase::Observing);
        }
    }

    fn notice_late(&mut self, now: Now, track: usize, effects: &mut Vec<Effect>) {
        let (Some(since), Some(limit)) = (self.tracks[track].since_ms, self.admission.deadline_ms(track)) else {
            return;
        };
        let own = &mut self.tracks[track];
        if own.over || own.late || now.mono_ms < since + limit {
            return;
        }
        own.late = true;
        self.changed.insert(track);
        if let Some(why) = self.admission.late(track) {
            self.halted = true;
            effects.push(Effect::Halt { why });
        }
    }

    /// After a halt, what never began never will.
    fn give_up(&mut self, now: Now) {
        for track in self.admission.give_up_halted() {
            let own = &self.tracks[track];
            for index in own.first..own.end {
                if self.steps[index].phase == Phase::Waiting {
                    self.set(now, index, Phase::Skipped { because: HALT.to_owned() });
                    self.skip_awaiting(now, index);
                }
            }
            self.tracks[track].over = true;
            self.open -= 1;
            self.ready.remove(&track);
        }
        for track in 0..self.tracks.len() {
            if matches!(self.tracks[track].subject, Subject::Cluster(_)) && !self.tracks[track].over {
                self.give_up_members(now, track);
            }
        }
    }

    /// A member that is on its way in is brought to its end; the next one does not begin (I14).
    fn give_up_members(&mut self, now: Now, track: usize) {
        let (first, end) = (self.tracks[track].first, self.tracks[track].end);
        let begun: BTreeSet<String> = self.steps[first..end]
            .iter()
            .filter(|s| s.phase != Phase::Waiting || s.held.is_some() || s.attempt > 1)
            .filter_map(|s| s.step.kind.member().map(str::to_owned))
            .collect();
        let new = |s: &StepState| s.phase == Phase::Waiting && s.step.kind.member().is_some_and(|m| !begun.contains(m));
        let Some(at) = (first..end).find(|i| new(&self.steps[*i])) else { return };
        for rest in at..end {
            if self.steps[rest].phase == Phase::Waiting {
                self.set(now, rest, Phase::Skipped { because: HALT.to_owned() });
            }
        }
        self.close_if_dead(track);
    }

    fn skip_awaiting(&mut self, now: Now, index: usize) {
        let id = self.steps[index].step.id.clone();
        for waiter in self.waiters.get(&index).cloned().unwrap_or_default() {
            let (first, end) = (self.tracks[waiter].first, self.tracks[waiter].end);
            if let Some(at) = (first..end).find(|i| self.steps[*i].step.awaits.contains(&id)) {
                for rest in at..end {
                    if self.steps[rest].phase == Phase::Waiting {
                        self.set(now, rest, Phase::Skipped { because: HALT.to_owned() });
                    }
                }
                self.close_if_dead(waiter);
            }
        }
    }

    fn notice_end(&mut self, effects: &mut Vec<Effect>) {
        let still = match self.stop {
            None => self.open > 0,
            Some(Stop::Pause) => self.busy > 0,
            // What is only looked at or waited for is looked at again by the next process.
            Some(Stop::Interrupt | Stop::Abort) => self.steps.iter().any(|s| s.phase == Phase::Acting),
        };
        if still || self.finished {
            return;
        }
        if self.stop == Some(Stop::Abort) {
            let begun: Vec<Subject> =
                self.tracks.iter().filter(|t| t.begun && t.cursor < t.end).map(|t| t.subject.clone()).collect();
            for subject in begun {
                self.finalize(subject, effects);
            }
        }
        if self.finalizing.is_empty() {
            self.finished = true;
            effects.push(Effect::Finished);
        }
    }

    pub fn outcome(&self) -> Outcome {
        let failures = || {
            self.steps
                .iter()
                .filter_map(|s| if let Phase::Failed { failure } = &s.phase { Some(failure) } else { None })
        };
        let ended = self.tracks.iter().filter(|t| t.cursor == t.end).count();
        let all = ended == self.tracks.len();
        match self.stop {
            Some(Stop::Abort) => Outcome::Aborted,
            _ if all => Outcome::Succeeded,
            Some(Stop::Interrupt) => Outcome::Interrupted,
            Some(Stop::Pause) => Outcome::Paused,
            None if failures().any(|f| f.cause == Cause::NeedsPerson) => Outcome::NeedsPerson,
            None if self.halted => Outcome::Halted,
            None if self.tracks.iter().any(|t| t.cursor == t.end && t.first < t.end) => Outcome::Partly,
            None => Outcome::Failed,
        }
    }

    /// Failures, with the steps that they happened in.
    pub fn failures(&self) -> Vec<(&StepId, &Failure)> {
        self.steps
            .iter()
            .filter_map(|s| if let Phase::Failed { failure } = &s.phase { Some((&s.step.id, failure)) } else { None })
            .collect()
    }

    /// Nodes that something destroys or restarts in this run: the ones that its end must leave safe.
    pub fn endangered(&self) -> impl Iterator<Item = &Subject> {
        self.tracks
            .iter()
            .filter(|t| self.steps[t.first..t.end].iter().any(|s| s.step.danger >= Danger::Reboot))
            .map(|t| &t.subject)
    }
}

/// Stands where a step's id would, for what a halt kept from beginning.
pub const HALT: &str = "halt";

#[cfg(test)]
mod rollout_tests;
#[cfg(test)]
mod tests;
