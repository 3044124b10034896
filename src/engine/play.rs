//! A playbook's run as a state machine, like the [engine](super) itself: `handle(now, event) -> effects`. Pure: time is
//! an argument, and what must survive leaves as a [`Mark`], which the caller makes durable before it does what follows.
//!
//! A step's life: *waiting* → *in hand* → *done*, or *failed* (after its further attempts; then the steps of its
//! `onFailure`), or *passed over*. A step that makes a run of its own is gone on with by that run's own journal: its id
//! follows from the playbook's run, the step and the attempt, and so is the same after a crash.

mod mark;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::model::{
    Failure,
    failure::Cause,
    play::{Act, BoundStep, Play as Bound, PlayStepId, Redo, Target},
    playbook::{OnOff, Then},
};

pub use mark::{Mark, MarkKind, Row, Standing, rows};

#[derive(Clone, Debug, PartialEq)]
pub enum PlayEvent {
    /// First of all; also after a resume.
    Begin,
    /// The time of a [`PlayEffect::Wait`] has come.
    Tick,
    Ended {
        step: PlayStepId,
        attempt: u32,
        end: End,
    },
    /// A person says how the step ended that was in hand when rackctl died. Before [`PlayEvent::Begin`].
    Settled(Settled),
    /// ^C: what cannot be cut off is waited for, nothing new is begun.
    Interrupt,
}

/// How a step's effect ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// With what is worth keeping of it: last lines of a program, a child run's outcome.
    Done(Option<String>),
    Failed(Failure),
    /// Neither: somebody has to say something first. The failure tells whom to ask and what to type.
    Parked(Failure),
    Interrupted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was done.
    Done,
    /// It was not: once more.
    Again,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PlayEffect {
    /// To be made durable before the next effect of the list.
    Mark(Mark),
    /// A run with this id: begun, or gone on with when it exists.
    RunGoal {
        step: PlayStepId,
        attempt: u32,
        act: Act,
        run: String,
    },
    /// All members healthy and no alarm, without a break for so long.
    Gate {
        step: PlayStepId,
        attempt: u32,
        cluster: String,
        healthy_ms: u64,
        deadline_ms: u64,
    },
    AwaitPower {
        step: PlayStepId,
        attempt: u32,
        node: String,
        power: OnOff,
        deadline_ms: u64,
    },
    Exec {
        step: PlayStepId,
        attempt: u32,
        command: Vec<String>,
        deadline_ms: u64,
    },
    Notify {
        step: PlayStepId,
        attempt: u32,
        message: String,
        to: Target,
    },
    /// An approval of `hash` by another operator is waited for.
    AskApproval {
        step: PlayStepId,
        attempt: u32,
        message: String,
        hash: String,
        until_ms: u64,
    },
    AskPerson {
        step: PlayStepId,
        attempt: u32,
        message: String,
    },
    /// [`PlayEvent::Tick`] is due then.
    Wait {
        until_ms: u64,
    },
    Finished(PlayOutcome),
}

#[derive(Clone, Debug, PartialEq)]
pub enum PlayOutcome {
    Succeeded,
    /// Every step was come to, and some failed on the way.
    Partly,
    Failed,
    /// The outcome of a step cannot be seen by anybody but a person.
    NeedsPerson,
    /// Somebody has to say something; it can be resumed.
    Parked(Failure),
    Interrupted,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Waiting,
    /// The next attempt is begun then.
    Delayed {
        until_ms: u64,
    },
    InHand {
        since_ms: u64,
    },
    Done,
    Skipped,
    Failed(Failure),
}

#[derive(Clone, Debug)]
struct State {
    phase: Phase,
    attempt: u32,
    /// Parked since this attempt was begun: who resumes has read why.
    parked: bool,
    /// In hand when the process before this one ended.
    resumed: bool,
}

pub struct Play {
    run: String,
    bound: Bound,
    states: BTreeMap<PlayStepId, State>,
    interrupted: bool,
    finished: bool,
}

/// Id of the run that a step makes: `r-20261121-083015-3f2a.03`, its second attempt `….03-2`, of a step of its
/// `onFailure` `….03.01`.
pub fn child_run(run: &str, step: &str, attempt: u32) -> String {
    let numbers: Vec<&str> =
        step.split('/').skip(1).map(|part| part.split_once('-').map_or(part, |(number, _)| number)).collect();
    let again = if attempt > 1 { format!("-{attempt}") } else { String::new() };
    format!("{run}.{}{again}", numbers.join("."))
}

/// What another operator approves in an `approve` step: this step of this run, with these words.
pub fn approval_hash(run: &str, step: &str, message: &str) -> String {
    let mut hash = Sha256::new();
    for part in ["playbook step", run, step, message] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

/// The name of a bound playbook: SHA-256 in hex over everything that it would do.
pub fn hash(bound: &Bound) -> String {
    hex::encode(Sha256::digest(serde_json::to_vec(bound).unwrap_or_default()))
}

impl Play {
    /// `marks`: those of earlier processes, in order; none at the beginning.
    pub fn new(run: &str, bound: Bound, marks: &[Mark]) -> Play {
        let fresh = || State { phase: Phase::Waiting, attempt: 1, parked: false, resumed: false };
        let mut states: BTreeMap<PlayStepId, State> = bound.all().map(|s| (s.id.clone(), fresh())).collect();
        for mark in marks {
            let Some(state) = states.get_mut(&mark.step) else { continue };
            state.attempt = mark.attempt;
            state.resumed = false;
            match &mark.kind {
                MarkKind::Intent => {
                    (state.phase, state.parked) = (Phase::InHand { since_ms: mark.at_ms }, false);
                    state.resumed = true;
                }
                MarkKind::Parked { .. } => (state.parked, state.resumed) = (true, true),
                MarkKind::Again { not_before_ms, .. } => state.phase = Phase::Delayed { until_ms: *not_before_ms },
                MarkKind::Done { .. } => state.phase = Phase::Done,
                MarkKind::Skipped { .. } => state.phase = Phase::Skipped,
                MarkKind::Failed { failure } => state.phase = Phase::Failed(failure.clone()),
            }
        }
        Play { run: run.to_owned(), bound, states, interrupted: false, finished: false }
    }

    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// The step whose end only a person can tell: what `resume --settle` is about.
    pub fn unsettled(&self) -> Option<&BoundStep> {
        self.in_hand()
            .filter(|s| s.act.redo() == Redo::APersonSays && self.states.get(&s.id).is_some_and(|s| s.resumed))
    }

    /// Those that failed, in the playbook's order.
    pub fn failures(&self) -> Vec<(PlayStepId, Failure)> {
        let failed = |s: &BoundStep| match self.states.get(&s.id).map(|s| &s.phase) {
            Some(Phase::Failed(failure)) => Some((s.id.clone(), failure.clone())),
            _ => None,
        };
        self.bound.all().filter_map(failed).collect()
    }

    /// One event in, what is to be done next out. What is said of a step that is not in hand is late and ignored.
    pub fn handle(&mut self, now_ms: u64, event: PlayEvent) -> Vec<PlayEffect> {
        let mut effects = Vec::new();
        if self.finished {
            return effects;
        }
        match event {
            PlayEvent::Begin => self.go_on_with_what_was_in_hand(now_ms, &mut effects),
            PlayEvent::Tick => self.tick(now_ms, &mut effects),
            PlayEvent::Ended { step, attempt, end } => self.ended(now_ms, &step, attempt, end, &mut effects),
            PlayEvent::Settled(how) => {
                self.settled(now_ms, how, &mut effects);
                return effects;
            }
            PlayEvent::Interrupt => {
                self.interrupted = true;
                // A program or a run in hand is waited for; a look or a pause is not.
                if self.in_hand().is_none_or(|s| may_be_cut_off(&s.act)) {
                    self.finish(PlayOutcome::Interrupted, &mut effects);
                }
            }
        }
        self.advance(now_ms, &mut effects);
        effects
    }

    fn in_hand(&self) -> Option<&BoundStep> {
        self.bound.all().find(|s| matches!(self.phase(&s.id), Phase::InHand { .. }))
    }

    fn phase(&self, id: &str) -> &Phase {
        self.states.get(id).map_or(&Phase::Skipped, |s| &s.phase)
    }

    fn set(&mut self, id: &str, phase: Phase) {
        if let Some(state) = self.states.get_mut(id) {
            state.phase = phase;
        }
    }

    fn mark(&self, now_ms: u64, id: &str, kind: MarkKind, effects: &mut Vec<PlayEffect>) {
        let attempt = self.states.get(id).map_or(1, |s| s.attempt);
        effects.push(PlayEffect::Mark(Mark { at_ms: now_ms, step: id.to_owned(), attempt, kind }));
    }

    fn finish(&mut self, outcome: PlayOutcome, effects: &mut Vec<PlayEffect>) {
        if !std::mem::replace(&mut self.finished, true) {
            effects.push(PlayEffect::Finished(outcome));
        }
    }

    fn done(&mut self, now_ms: u64, id: &str, note: Option<String>, effects: &mut Vec<PlayEffect>) {
        self.mark(now_ms, id, MarkKind::Done { note }, effects);
        self.set(id, Phase::Done);
    }

    fn settled(&mut self, now_ms: u64, how: Settled, effects: &mut Vec<PlayEffect>) {
        let Some(step) = self.unsettled().cloned() else { return };
        match how {
            Settled::Done => self.done(now_ms, &step.id, Some("a person said that it was done".into()), effects),
            Settled::Again => {
                let why = "a person said that it was not done";
                self.again(now_ms, &step.id, now_ms, Failure::new(Cause::Interrupted, &step.title, why), effects);
            }
        }
    }

    fn again(&mut self, now_ms: u64, id: &str, until_ms: u64, failure: Failure, effects: &mut Vec<PlayEffect>) {
        if let Some(state) = self.states.get_mut(id) {
            (state.attempt, state.resumed, state.parked) = (state.attempt + 1, false, false);
            state.phase = Phase::Delayed { until_ms };
        }
        self.mark(now_ms, id, MarkKind::Again { failure, not_before_ms: until_ms }, effects);
    }

    fn go_on_with_what_was_in_hand(&mut self, now_ms: u64, effects: &mut Vec<PlayEffect>) {
        let Some(step) = self.in_hand().cloned() else { return };
        let Some(state) = self.states.get_mut(&step.id) else { return };
        let (resumed, parked) = (std::mem::take(&mut state.resumed), std::mem::take(&mut state.parked));
        let Phase::InHand { since_ms } = state.phase else { return };
        if !resumed {
            return;
        }
        match (step.act.redo(), &step.act) {
            // Who was told to resume when ready has resumed.
            (_, Act::Pause { .. }) if parked => self.done(now_ms, &step.id, None, effects),
            (Redo::APersonSays, _) => {
                let why = "the process ended while it ran; whether it did its work cannot be seen from here";
                let next = format!("rackctl resume {0} --settle done, or: rackctl resume {0} --settle again", self.run);
                let failure = Failure::new(Cause::NeedsPerson, format!("{}: {}", step.id, step.title), why).next(next);
                self.mark(now_ms, &step.id, MarkKind::Parked { failure: failure.clone() }, effects);
                self.finish(PlayOutcome::Parked(failure), effects);
            }
            _ => self.effect(&step, since_ms, effects),
        }
    }

    fn tick(&mut self, now_ms: u64, effects: &mut Vec<PlayEffect>) {
        let Some(step) = self.in_hand().cloned() else { return };
        let (Act::Wait { for_ms }, Phase::InHand { since_ms }) = (&step.act, self.phase(&step.id).clone()) else {
            return;
        };
        let until_ms = since_ms.saturating_add(*for_ms);
        if now_ms >= until_ms {
            self.done(now_ms, &step.id, None, effects);
        } else {
            effects.push(PlayEffect::Wait { until_ms });
        }
    }

    fn ended(&mut self, now_ms: u64, id: &str, attempt: u32, end: End, effects: &mut Vec<PlayEffect>) {
        let Some(step) = self.bound.step(id).cloned() else { return };
        let current = self.states.get(id).is_some_and(|s| s.attempt == attempt);
        if !current || !matches!(self.phase(id), Phase::InHand { .. }) {
            return;
        }
        match end {
            End::Done(note) => self.done(now_ms, id, note, effects),
            End::Interrupted => self.finish(PlayOutcome::Interrupted, effects),
            End::Parked(failure) => {
                self.mark(now_ms, id, MarkKind::Parked { failure: failure.clone() }, effects);
                self.finish(PlayOutcome::Parked(failure), effects);
            }
            End::Failed(failure) if attempt <= step.on_failure.retry && worth_another_try(failure.cause) => {
                let until_ms = now_ms.saturating_add(step.on_failure.delay_ms);
                self.again(now_ms, id, until_ms, failure, effects);
            }
            End::Failed(failure) => {
                self.mark(now_ms, id, MarkKind::Failed { failure: failure.clone() }, effects);
                self.set(id, Phase::Failed(failure));
            }
        }
    }

    /// Begins the next step, or notices the end.
    fn advance(&mut self, now_ms: u64, effects: &mut Vec<PlayEffect>) {
        let mut partly = false;
        let steps = self.bound.steps.clone();
        for step in &steps {
            if self.finished || self.come_to(now_ms, step, effects) {
                return;
            }
            let Phase::Failed(failure) = self.phase(&step.id).clone() else { continue };
            for rescue in &step.on_failure.steps {
                if self.come_to(now_ms, rescue, effects) {
                    return;
                }
                if matches!(self.phase(&rescue.id), Phase::Failed(_)) {
                    return self.finish(ended_by(&failure), effects);
                }
            }
            // What nobody can see is not gone past, whatever the playbook says.
            if step.on_failure.then == Then::Stop || failure.cause == Cause::NeedsPerson {
                return self.finish(ended_by(&failure), effects);
            }
            partly = true;
        }
        self.finish(if partly { PlayOutcome::Partly } else { PlayOutcome::Succeeded }, effects);
    }

    /// `true`: it is in hand, or will be; nothing after it is looked at.
    fn come_to(&mut self, now_ms: u64, step: &BoundStep, effects: &mut Vec<PlayEffect>) -> bool {
        match self.phase(&step.id).clone() {
            Phase::Done | Phase::Skipped | Phase::Failed(_) => return false,
            Phase::InHand { .. } => return true,
            _ if self.interrupted => {
                self.finish(PlayOutcome::Interrupted, effects);
                return true;
            }
            Phase::Delayed { until_ms } if now_ms < until_ms => {
                effects.push(PlayEffect::Wait { until_ms });
                return true;
            }
            Phase::Delayed { .. } | Phase::Waiting => {}
        }
        if let Some(why) = &step.skipped {
            self.mark(now_ms, &step.id, MarkKind::Skipped { why: why.clone() }, effects);
            self.set(&step.id, Phase::Skipped);
            return false;
        }
        self.mark(now_ms, &step.id, MarkKind::Intent, effects);
        self.set(&step.id, Phase::InHand { since_ms: now_ms });
        self.effect(step, now_ms, effects);
        true
    }

    fn effect(&self, step: &BoundStep, since_ms: u64, effects: &mut Vec<PlayEffect>) {
        let attempt = self.states.get(&step.id).map_or(1, |s| s.attempt);
        let id = step.id.clone();
        effects.push(match step.act.clone() {
            Act::Apply { .. } | Act::Install { .. } | Act::Join { .. } | Act::Power { .. } | Act::Boot { .. } => {
                let run = child_run(&self.run, &id, attempt);
                PlayEffect::RunGoal { step: id, attempt, act: step.act.clone(), run }
            }
            Act::Gate { cluster, healthy_ms, deadline_ms } => {
                PlayEffect::Gate { step: id, attempt, cluster, healthy_ms, deadline_ms }
            }
            Act::AwaitPower { node, power, deadline_ms } => {
                PlayEffect::AwaitPower { step: id, attempt, node, power, deadline_ms }
            }
            Act::Wait { for_ms } => PlayEffect::Wait { until_ms: since_ms.saturating_add(for_ms) },
            Act::Approve { message, deadline_ms } => {
                let hash = approval_hash(&self.run, &id, &message);
                let until_ms = since_ms.saturating_add(deadline_ms);
                PlayEffect::AskApproval { step: id, attempt, message, hash, until_ms }
            }
            Act::Exec { command, deadline_ms, .. } => PlayEffect::Exec { step: id, attempt, command, deadline_ms },
            Act::Notify { message, to } => PlayEffect::Notify { step: id, attempt, message, to },
            Act::Pause { message } => PlayEffect::AskPerson { step: id, attempt, message },
        });
    }
}

fn ended_by(failure: &Failure) -> PlayOutcome {
    match failure.cause {
        Cause::NeedsPerson => PlayOutcome::NeedsPerson,
        _ => PlayOutcome::Failed,
    }
}

/// A refused password tried again locks an account; a wrong key does not become right; what a person must look at is
/// not begun anew.
fn worth_another_try(cause: Cause) -> bool {
    !matches!(cause, Cause::Unauthorized | Cause::Untrusted | Cause::NeedsPerson | Cause::Interrupted)
}

/// Dropped in the middle it has done nothing.
fn may_be_cut_off(act: &Act) -> bool {
    matches!(
        act,
        Act::Gate { .. } | Act::AwaitPower { .. } | Act::Wait { .. } | Act::Approve { .. } | Act::Pause { .. }
    )
}

#[cfg(test)]
mod tests;
