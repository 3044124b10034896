//! Level 2: a run as a state machine: `handle(now, event) -> effects`. Pure: time is an argument, nothing is
//! done here, and whoever carries an effect out reports it back as an event.
//!
//! A step's life: *waiting* → *observing* → (*acting* →) *verifying* → *done*. What is found done is not done
//! again; what was begun before a crash (an intent without a result) is only observed (engine.md, "Resume").

pub mod look;
mod progress;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Failure, failure::Cause},
    plan::{Class, Plan, Step, StepId, StepKind, Subject},
};

pub use progress::{TrackView, view};

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
}

#[derive(Clone, Debug)]
pub enum Event {
    Begin,
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
    /// ^C: what is in hand is finished or parked, nothing new is begun.
    Interrupt,
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

#[derive(Clone, Debug)]
pub struct StepState {
    pub step: Step,
    pub phase: Phase,
    pub attempt: u32,
    /// An intent without a result stands in the journal.
    resumed: bool,
    pub since_ms: u64,
}

pub struct Engine {
    steps: BTreeMap<StepId, StepState>,
    /// Step ids in order, per track.
    tracks: Vec<(Subject, Vec<StepId>)>,
    finalizing: BTreeSet<Subject>,
    finalized: BTreeSet<Subject>,
    interrupted: bool,
    finished: bool,
    /// Effects under way at once, at most.
    concurrency: usize,
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
}

/// What the journal of an earlier process says of a step.
#[derive(Clone, Debug, Default)]
pub struct Past {
    pub done: bool,
    pub attempt: u32,
    pub intent_open: bool,
}

impl Engine {
    pub fn new(plan: &Plan, concurrency: usize, past: &BTreeMap<StepId, Past>) -> Engine {
        let mut steps = BTreeMap::new();
        let mut tracks = Vec::new();
        for track in &plan.tracks {
            tracks.push((track.subject.clone(), track.steps.iter().map(|s| s.id.clone()).collect()));
            for step in &track.steps {
                let past = past.get(&step.id).cloned().unwrap_or_default();
                let phase = if past.done { Phase::Done } else { Phase::Waiting };
                let state = StepState {
                    step: step.clone(),
                    phase,
                    attempt: past.attempt.max(1),
                    resumed: past.intent_open,
                    since_ms: 0,
                };
                steps.insert(step.id.clone(), state);
            }
        }
        Engine {
            steps,
            tracks,
            finalizing: BTreeSet::new(),
            finalized: BTreeSet::new(),
            interrupted: false,
            finished: false,
            concurrency: concurrency.max(1),
        }
    }

    pub fn step(&self, id: &str) -> Option<&StepState> {
        self.steps.get(id)
    }
    pub fn tracks(&self) -> &[(Subject, Vec<StepId>)] {
        &self.tracks
    }
    pub fn is_done(&self, id: &str) -> bool {
        self.steps.get(id).is_some_and(|s| s.phase == Phase::Done)
    }

    /// One event in, what is to be done next out. An event of a step that is not in that phase is late and ignored.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Begin => {}
            Event::Interrupt => self.interrupted = true,
            Event::Observed { step, found } => self.observed(now_ms, &step, found, &mut effects),
            Event::Acted { step, result } => self.acted(now_ms, &step, result, &mut effects),
            Event::Verified { step, result } => self.verified(now_ms, &step, result, &mut effects),
            Event::Finalized { subject, .. } => {
                self.finalizing.remove(&subject);
                self.finalized.insert(subject);
            }
        }
        self.advance(now_ms, &mut effects);
        effects
    }

    fn set(&mut self, now_ms: u64, id: &str, phase: Phase) {
        if let Some(state) = self.steps.get_mut(id) {
            state.phase = phase;
            state.since_ms = now_ms;
        }
    }

    fn observed(&mut self, now_ms: u64, id: &str, found: Found, effects: &mut Vec<Effect>) {
        let Some(state) = self.steps.get_mut(id).filter(|s| s.phase == Phase::Observing) else { return };
        let class = state.step.kind.class();
        let (attempt, resumed) = (state.attempt, std::mem::take(&mut state.resumed));
        let verify = Effect::Verify { step: id.to_owned(), attempt, deadline_s: state.step.kind.deadline_s() };
        match found {
            Found::Done => self.complete(now_ms, id, effects),
            Found::UnderWay => {
                self.set(now_ms, id, Phase::Verifying);
                effects.push(verify);
            }
            Found::Contradiction(failure) => self.failed(now_ms, id, failure, effects),
            _ if class == Class::Observe => {
                self.set(now_ms, id, Phase::Verifying);
                effects.push(verify);
            }
            // Begun before a crash, and no look can tell how it ended: only a person can.
            Found::Unknown(failure) if class == Class::Destroy && resumed => {
                let failure = Failure { cause: Cause::NeedsPerson, ..failure };
                self.failed(now_ms, id, failure, effects);
            }
            Found::Unknown(failure) if class != Class::Set => self.failed(now_ms, id, failure, effects),
            Found::NotDone | Found::Unknown(_) => {
                self.set(now_ms, id, Phase::Acting);
                effects.push(Effect::Act { step: id.to_owned(), attempt });
            }
        }
    }

    fn acted(&mut self, now_ms: u64, id: &str, result: Result<(), Failure>, effects: &mut Vec<Effect>) {
        let Some(state) = self.steps.get(id).filter(|s| s.phase == Phase::Acting) else { return };
        let (attempt, deadline_s) = (state.attempt, state.step.kind.deadline_s());
        match result {
            // No answer is no failure: what happened is found out by looking (I15).
            Err(failure) if !matches!(failure.cause, Cause::Unreachable | Cause::Deadline) => {
                if self.again(now_ms, id, &failure, effects) {
                    return;
                }
                self.failed(now_ms, id, failure, effects);
            }
            _ => {
                self.set(now_ms, id, Phase::Verifying);
                effects.push(Effect::Verify { step: id.to_owned(), attempt, deadline_s });
            }
        }
    }

    fn verified(&mut self, now_ms: u64, id: &str, result: Result<(), Failure>, effects: &mut Vec<Effect>) {
        if self.steps.get(id).is_none_or(|s| s.phase != Phase::Verifying) {
            return;
        }
        match result {
            Ok(()) => self.complete(now_ms, id, effects),
            Err(failure) => {
                if !self.again(now_ms, id, &failure, effects) {
                    self.failed(now_ms, id, failure, effects);
                }
            }
        }
    }

    fn complete(&mut self, now_ms: u64, id: &str, effects: &mut Vec<Effect>) {
        let attempt = self.steps.get(id).map_or(1, |s| s.attempt);
        self.set(now_ms, id, Phase::Done);
        effects.push(Effect::Complete { step: id.to_owned(), attempt });
    }

    fn failed(&mut self, now_ms: u64, id: &str, failure: Failure, effects: &mut Vec<Effect>) {
        let attempt = self.steps.get(id).map_or(1, |s| s.attempt);
        effects.push(Effect::Fail { step: id.to_owned(), attempt, failure: failure.clone() });
        self.set(now_ms, id, Phase::Failed { failure });
    }

    /// Retry policy as data: which failures of which steps are worth another attempt, and from where.
    fn again(&mut self, now_ms: u64, id: &str, failure: &Failure, effects: &mut Vec<Effect>) -> bool {
        let Some(state) = self.steps.get(id) else { return false };
        let passing = matches!(failure.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy);
        let attempt = state.attempt;
        let (from, limit) = match state.step.kind {
            // A machine that never reached the installer is booted again with a new token.
            StepKind::AwaitClaim | StepKind::BootInstaller { .. } if passing => {
                (Some("boot-installer"), StepKind::BOOT_ATTEMPTS)
            }
            StepKind::WithdrawNetboot
            | StepKind::PowerOn
            | StepKind::CheckIdentity
            | StepKind::AddLearner { .. }
            | StepKind::StartMember { .. }
            | StepKind::Promote { .. }
            | StepKind::VerifyMember { .. }
                if passing =>
            {
                (None, 3)
            }
            _ => return false,
        };
        if attempt >= limit {
            return false;
        }
        let Some((_, ids)) = self.tracks.iter().find(|(_, ids)| ids.iter().any(|i| i == id)) else { return false };
        let end = ids.iter().position(|i| i == id).unwrap_or(0);
        let begin = match from {
            Some(word) => {
                ids.iter().position(|i| self.steps.get(i).is_some_and(|s| s.step.kind.word() == word)).unwrap_or(end)
            }
            None => end,
        };
        for step in &ids[begin..=end] {
            if let Some(state) = self.steps.get_mut(step) {
                state.attempt = attempt + 1;
                state.phase = Phase::Waiting;
                state.since_ms = now_ms;
            }
        }
        effects.push(Effect::Again { step: id.to_owned(), attempt: attempt + 1, failure: failure.clone() });
        true
    }

    fn busy(&self) -> usize {
        self.steps.values().filter(|s| matches!(s.phase, Phase::Observing | Phase::Acting | Phase::Verifying)).count()
    }

    /// Begins what may begin, skips what never can, and notices the end.
    fn advance(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        self.skip_the_blocked(now_ms);
        if !self.interrupted {
            let mut room = self.concurrency.saturating_sub(self.busy());
            for (_, ids) in self.tracks.clone() {
                let next = ids.iter().find(|id| !self.is_done(id));
                let Some(id) = next else { continue };
                let Some(state) = self.steps.get(id) else { continue };
                if state.phase != Phase::Waiting || room == 0 || !state.step.awaits.iter().all(|a| self.is_done(a)) {
                    continue;
                }
                room -= 1;
                effects.push(Effect::Observe { step: id.clone(), attempt: state.attempt, resumed: state.resumed });
                self.set(now_ms, id, Phase::Observing);
            }
        }
        for (subject, ids) in self.tracks.clone() {
            let failed =
                ids.iter().any(|id| matches!(self.steps.get(id).map(|s| &s.phase), Some(Phase::Failed { .. })));
            if failed
                && matches!(subject, Subject::Node(_))
                && !self.finalized.contains(&subject)
                && self.finalizing.insert(subject.clone())
            {
                effects.push(Effect::Finalize { subject });
            }
        }
        let parked = self.interrupted && !self.steps.values().any(|s| s.phase == Phase::Acting);
        let ended =
            self.steps.values().all(|s| matches!(s.phase, Phase::Done | Phase::Failed { .. } | Phase::Skipped { .. }));
        if !self.finished && self.finalizing.is_empty() && (ended || parked) {
            self.finished = true;
            effects.push(Effect::Finished);
        }
    }

    fn skip_the_blocked(&mut self, now_ms: u64) {
        loop {
            let mut changed = Vec::new();
            for (_, ids) in &self.tracks {
                let mut because: Option<StepId> = None;
                for id in ids {
                    let Some(state) = self.steps.get(id) else { continue };
                    if state.phase == Phase::Waiting && because.is_none() {
                        let dead = |a: &&StepId| {
                            matches!(
                                self.steps.get(*a).map(|s| &s.phase),
                                Some(Phase::Failed { .. } | Phase::Skipped { .. })
                            )
                        };
                        because = state.step.awaits.iter().find(dead).cloned();
                    }
                    match (&state.phase, &because) {
                        (Phase::Waiting, Some(why)) => changed.push((id.clone(), why.clone())),
                        (Phase::Failed { .. }, _) => because = Some(id.clone()),
                        (Phase::Skipped { because: why }, _) => because = Some(why.clone()),
                        _ => {}
                    }
                }
            }
            if changed.is_empty() {
                return;
            }
            for (id, because) in changed {
                self.set(now_ms, &id, Phase::Skipped { because });
            }
        }
    }

    pub fn outcome(&self) -> Outcome {
        let whole = |ids: &[StepId]| ids.iter().all(|id| self.is_done(id));
        let failures = || {
            self.steps
                .values()
                .filter_map(|s| if let Phase::Failed { failure } = &s.phase { Some(failure) } else { None })
        };
        let ended = self.tracks.iter().filter(|(_, ids)| whole(ids)).count();
        if ended == self.tracks.len() {
            Outcome::Succeeded
        } else if self.interrupted {
            Outcome::Interrupted
        } else if failures().any(|f| f.cause == Cause::NeedsPerson) {
            Outcome::NeedsPerson
        } else if ended > 0 {
            Outcome::Partly
        } else {
            Outcome::Failed
        }
    }

    /// Failures, with the steps that they happened in.
    pub fn failures(&self) -> Vec<(&StepId, &Failure)> {
        self.steps
            .iter()
            .filter_map(|(id, s)| if let Phase::Failed { failure } = &s.phase { Some((id, failure)) } else { None })
            .collect()
    }
}

#[cfg(test)]
mod tests;
