//! How tracks and runs end: through, failed, skipped, left safe.

use crate::{
    model::{Failure, baseline::BaselinePart, failure::Cause},
    plan::{Danger, StepId, StepKind, Subject},
};

use super::{
    Effect, Engine, Now, Phase,
    state::{Stop, TrackState},
};

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

impl Engine {
    /// The track is through, or will never be.
    pub(super) fn over(&mut self, now: Now, track: usize, failed: Option<usize>, effects: &mut Vec<Effect>) {
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
        if failed.is_some_and(|at| self.leaves_something(at)) {
            self.finalize(subject, effects);
        }
    }

    /// Whether a track that ends at this step may leave something behind: a machine always; a cluster a learner that
    /// was added and does not catch up, which keeps everybody else out (F41). Whether it is one still is looked at then;
    /// a promotion that is carried out between that look and the removal costs nothing but the member's way back.
    fn leaves_something(&self, at: usize) -> bool {
        let kind = &self.steps[at].step.kind;
        match self.tracks[self.steps[at].track].subject {
            // A BMC's own affairs: neither boot nor power of the machine was prepared. A restart may leave it off.
            Subject::Node(_) => match kind {
                StepKind::ChangeBmc(_) => false,
                StepKind::Baseline(part) => matches!(part, BaselinePart::Restart { .. }),
                _ => true,
            },
            Subject::Cluster(_) => {
                matches!(kind, StepKind::StartMember { .. } | StepKind::AwaitSynced { .. } | StepKind::Promote { .. })
            }
        }
    }

    /// Everything behind a failed step of its track, and what awaits any of that, will never be done. Where a machine
    /// failed, its member's steps are skipped and the members behind it join without it, if there is a cluster to join.
    pub(super) fn skip_rest(&mut self, now: Now, failed: usize) {
        let because = self.steps[failed].step.id.clone();
        let mut dead = vec![failed];
        while let Some(at) = dead.pop() {
            let own = self.steps[at].track;
            let mut next: Vec<usize> = (at + 1..self.tracks[own].end).collect();
            if at != failed && matches!(self.tracks[own].subject, Subject::Cluster(_)) {
                let member = self.steps[at].step.kind.member().map(str::to_owned);
                if !matches!(self.steps[at].step.kind, StepKind::Bootstrap { .. }) {
                    next.retain(|i| self.steps[*i].step.kind.member() == member.as_deref());
                }
            }
            for waiter in self.waiters.get(&at).cloned().unwrap_or_default() {
                next.extend(self.lost_to(at, waiter));
            }
            for index in next {
                if self.steps[index].phase != Phase::Waiting {
                    continue;
                }
                self.set(now, index, Phase::Skipped { because: because.clone() });
                dead.push(index);
                self.hand_on(index);
                self.close_if_dead(self.steps[index].track);
            }
        }
    }

    /// Steps of the track that cannot be done without step `at`. A member that only waited until another one's machine
    /// was up goes on without it.
    fn lost_to(&mut self, at: usize, waiter: usize) -> Vec<usize> {
        let id = self.steps[at].step.id.clone();
        let machine = match &self.tracks[self.steps[at].track].subject {
            Subject::Node(node) => Some(node.clone()),
            Subject::Cluster(_) => None,
        };
        let mut lost = Vec::new();
        for index in self.tracks[waiter].first..self.tracks[waiter].end {
            let step = &mut self.steps[index].step;
            if !step.awaits.contains(&id) {
                continue;
            }
            if machine.is_some() && step.kind.member().is_some_and(|m| Some(m) != machine.as_deref()) {
                step.awaits.retain(|a| *a != id);
                self.ready.insert(waiter);
            } else {
                lost.push(index);
            }
        }
        lost
    }

    /// What a skipped step of a cluster waited for besides its own machine, the next one of its track waits for.
    fn hand_on(&mut self, skipped: usize) {
        let track = self.steps[skipped].track;
        let own = &self.tracks[track];
        if !matches!(own.subject, Subject::Cluster(_)) {
            return;
        }
        let lost = |a: &StepId| {
            let phase = self.step(a).map(|s| &s.phase);
            matches!(phase, Some(Phase::Failed { .. } | Phase::Skipped { .. }))
        };
        let awaits: Vec<StepId> = self.steps[skipped].step.awaits.iter().filter(|a| !lost(a)).cloned().collect();
        let member = self.steps[skipped].step.kind.member().map(str::to_owned);
        let next = (skipped + 1..own.end)
            .find(|i| self.steps[*i].phase == Phase::Waiting && self.steps[*i].step.kind.member() != member.as_deref());
        if let Some(next) = next {
            let known = &mut self.steps[next].step.awaits;
            let more: Vec<StepId> = awaits.into_iter().filter(|a| !known.contains(a)).collect();
            known.extend(more);
        }
        self.pass(track);
        if self.tracks[track].admitted && !self.tracks[track].over {
            self.ready.insert(track);
        }
    }

    /// Moves on to the first step that is neither done nor skipped.
    pub(super) fn pass(&mut self, track: usize) {
        let own = &mut self.tracks[track];
        while own.cursor < own.end && matches!(self.steps[own.cursor].phase, Phase::Done | Phase::Skipped { .. }) {
            own.cursor += 1;
        }
    }

    /// Every step of it is done.
    fn is_whole(&self, track: &TrackState) -> bool {
        track.cursor == track.end && self.steps[track.first..track.end].iter().all(|s| s.phase == Phase::Done)
    }

    /// A track of which nothing is in hand and nothing can begin any more.
    pub(super) fn close_if_dead(&mut self, track: usize) {
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

    pub(super) fn notice_end(&mut self, effects: &mut Vec<Effect>) {
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
            let begun: Vec<Subject> = self
                .tracks
                .iter()
                .filter(|t| t.begun && t.cursor < t.end && self.leaves_something(t.cursor))
                .map(|t| t.subject.clone())
                .collect();
            for subject in begun {
                self.finalize(subject, effects);
            }
        }
        if self.stop != Some(Stop::Interrupt) {
            for subject in self.finalizers.owed() {
                self.finalize(subject, effects);
            }
        }
        if self.finalizers.all_ended() {
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
        let all = self.tracks.iter().all(|t| self.is_whole(t));
        match self.stop {
            Some(Stop::Abort) => Outcome::Aborted,
            _ if all && !self.finalizers.is_left() => Outcome::Succeeded,
            _ if all => Outcome::Partly,
            Some(Stop::Interrupt) => Outcome::Interrupted,
            Some(Stop::Pause) => Outcome::Paused,
            None if failures().any(|f| f.cause == Cause::NeedsPerson) => Outcome::NeedsPerson,
            None if self.halted => Outcome::Halted,
            None if self.tracks.iter().any(|t| t.first < t.end && self.is_whole(t)) => Outcome::Partly,
            None => Outcome::Failed,
        }
    }

    /// Failures, with the steps that they happened in; last the nodes that could not be left safe.
    pub fn failures(&self) -> Vec<(&StepId, &Failure)> {
        self.steps
            .iter()
            .filter_map(|s| if let Phase::Failed { failure } = &s.phase { Some((&s.step.id, failure)) } else { None })
            .chain(self.finalizers.left())
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
