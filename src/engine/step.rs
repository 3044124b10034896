//! One step from waiting to its end: what was found, done, seen to hold; held back, tried again.

use super::{
    Effect, Engine, Found, Now, Phase, retry,
    state::{StepState, Stop},
};
use crate::{
    model::{Failure, baseline::BaselinePart, failure::Cause},
    plan::{Class, StepKind},
};

/// Between two looks at a step that a guard holds back.
const HOLD_PAUSE_MS: u64 = 1_000;

impl Engine {
    pub(super) fn set(&mut self, now: Now, index: usize, phase: Phase) {
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
    pub(super) fn at(&self, id: &str, phase: &Phase) -> Option<usize> {
        self.index.get(id).copied().filter(|i| self.steps[*i].phase == *phase)
    }

    pub(super) fn observed(&mut self, now: Now, id: &str, found: Found, effects: &mut Vec<Effect>) {
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
                self.steps[at].went = false;
                self.set(now, at, Phase::Acting);
                effects.push(Effect::Act { step: id.to_owned(), attempt });
            }
        }
    }

    /// Looked at again after a pause, until the step's own limit.
    pub(super) fn hold(&mut self, now: Now, at: usize, failure: Failure, effects: &mut Vec<Effect>) {
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

    pub(super) fn acted(&mut self, now: Now, id: &str, result: Result<(), Failure>, effects: &mut Vec<Effect>) {
        let Some(at) = self.at(id, &Phase::Acting) else { return };
        let (attempt, deadline_s) = (self.steps[at].attempt, self.steps[at].step.kind.deadline_s());
        let cut_off = self.leaving.forget(at);
        let withheld = self.steps[at].withheld.take();
        let result = match (result, withheld) {
            (Err(_), Some(failure)) => return self.went_home(now, at, failure, effects),
            (Err(failure), None) if cut_off => return self.went_home(now, at, failure, effects),
            (result, _) => result,
        };
        match result {
            // What it shows afterwards says nothing of what was sent: it is looked at as after a crash, if something was.
            Err(failure)
                if matches!(self.steps[at].step.kind, StepKind::SetPower { .. })
                    && matches!(failure.cause, Cause::Unreachable | Cause::Deadline) =>
            {
                self.steps[at].resumed = self.steps[at].went;
                if !self.again(now, at, &failure, effects) {
                    self.failed(now, at, failure, effects);
                }
            }
            // No answer is no failure: what happened is found out by looking (I15). A change of a BMC has been looked at by
            // whoever made it, and a later look could take what was there before for its effect.
            Err(failure)
                if matches!(
                    self.steps[at].step.kind,
                    StepKind::ChangeBmc(_) | StepKind::Baseline(BaselinePart::Volume { .. })
                ) || !matches!(failure.cause, Cause::Unreachable | Cause::Deadline) =>
            {
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

    pub(super) fn verified(&mut self, now: Now, id: &str, result: Result<(), Failure>, effects: &mut Vec<Effect>) {
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

    pub(super) fn complete(&mut self, now: Now, at: usize, effects: &mut Vec<Effect>) {
        let (id, attempt, track) = (self.steps[at].step.id.clone(), self.steps[at].attempt, self.steps[at].track);
        self.set(now, at, Phase::Done);
        effects.push(Effect::Complete { step: id, attempt });
        self.pass(track);
        let own = &self.tracks[track];
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

    pub(super) fn failed(&mut self, now: Now, at: usize, failure: Failure, effects: &mut Vec<Effect>) {
        let (id, attempt, track) = (self.steps[at].step.id.clone(), self.steps[at].attempt, self.steps[at].track);
        effects.push(Effect::Fail { step: id, attempt, failure: failure.clone() });
        self.set(now, at, Phase::Failed { failure });
        self.skip_rest(now, at);
        self.over(now, track, Some(at), effects);
    }

    pub(super) fn again(&mut self, now: Now, at: usize, failure: &Failure, effects: &mut Vec<Effect>) -> bool {
        let state = &self.steps[at];
        let track = state.track;
        let first = self.tracks[track].first;
        let tried = |s: &StepState| s.attempt - s.base;
        let Some(rule) = retry::rule(&state.step.kind, failure.cause, tried(state)) else { return false };
        let begin = match rule.from {
            Some(word) => (first..=at).find(|i| self.steps[*i].step.kind.word() == word).unwrap_or(at),
            None => at,
        };
        // The way back goes through steps that were tried more often than this one: none of their attempts is counted,
        // or its token used, a second time.
        let way = &self.steps[begin..=at];
        if way.iter().map(tried).max() >= Some(rule.attempts) {
            return false;
        }
        let attempt = way.iter().map(|s| s.attempt).max().unwrap_or(state.attempt);
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
}
