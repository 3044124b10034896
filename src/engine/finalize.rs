//! Nodes that are left safe: network boot withdrawn, the override cleared, the installer told to stop. Clusters that are
//! left open to others: a learner that was added and does not catch up is taken out again (F41). What fails is
//! tried again as [`retry::finalizer`] says, and then told as a failure of its node: an override may be left, and a
//! restart may lead into the installer. The next process, or the next run on the node, makes up for it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effect, Engine, Now, retry, state::Stop};
use crate::{
    model::Failure,
    plan::{StepId, Subject},
};

/// Stands where a step's word would, for what failed in leaving a node safe.
pub const LEAVE_SAFE: &str = "leave-safe";

#[derive(Debug)]
struct Open {
    attempt: u32,
    /// Failed, and tried again then; `None`: in hand.
    due_ms: Option<u64>,
    last: Option<Failure>,
}

#[derive(Debug, Default)]
pub(super) struct Finalizers {
    open: BTreeMap<Subject, Open>,
    ended: BTreeSet<Subject>,
    left: BTreeMap<Subject, (StepId, Failure)>,
    /// What an earlier process or run could not do.
    owed: BTreeSet<Subject>,
}

impl Finalizers {
    pub(super) fn owing(owed: BTreeSet<Subject>) -> Finalizers {
        Finalizers { owed, ..Finalizers::default() }
    }
    /// What was made up for before its node was touched says nothing of how it is left.
    pub(super) fn begins(&mut self, subject: &Subject) {
        self.ended.remove(subject);
    }
    pub(super) fn in_hand(&self, subject: &Subject) -> bool {
        self.open.contains_key(subject)
    }
    pub(super) fn all_ended(&self) -> bool {
        self.open.is_empty()
    }
    /// Nodes that could not be left safe.
    pub(super) fn left(&self) -> impl Iterator<Item = (&StepId, &Failure)> {
        self.left.values().map(|(id, failure)| (id, failure))
    }
    pub(super) fn is_left(&self) -> bool {
        !self.left.is_empty()
    }
    pub(super) fn next_due(&self) -> Option<u64> {
        self.open.values().filter_map(|o| o.due_ms).min()
    }
    pub(super) fn owed(&self) -> Vec<Subject> {
        self.owed.iter().cloned().collect()
    }
    #[cfg(test)]
    pub(super) fn ended(&self) -> usize {
        self.ended.len()
    }

    fn give_up(&mut self, subject: &Subject, attempts: u32, failure: Failure) {
        self.open.remove(subject);
        self.ended.insert(subject.clone());
        let (left, next) = match subject {
            Subject::Node(node) => (
                "a boot override may be left, and its next restart may not lead to its disk",
                format!("rackctl boot show {node}; rackctl boot set none {node}; the next run on it tries again"),
            ),
            Subject::Cluster(_) => (
                "a learner may be left in its member list, and keeps others from joining",
                "rackctl get members; rackctl apply goes on with it".to_owned(),
            ),
        };
        let why = format!("{} (attempts: {attempts}); {left}", failure.why);
        let told = Failure::new(failure.cause, format!("{subject}: leave it safe"), why).next(next);
        self.left.insert(subject.clone(), (format!("{subject}/{LEAVE_SAFE}"), told));
    }
}

impl Engine {
    pub(super) fn finalize(&mut self, subject: Subject, effects: &mut Vec<Effect>) {
        let known = self.finalizers.ended.contains(&subject) || self.finalizers.open.contains_key(&subject);
        if !known {
            self.finalizers.open.insert(subject.clone(), Open { attempt: 1, due_ms: None, last: None });
            effects.push(Effect::Finalize { subject, attempt: 1 });
        }
    }

    pub(super) fn finalized(&mut self, now: Now, subject: &Subject, result: Result<(), Failure>) {
        let Some(open) = self.finalizers.open.get_mut(subject).filter(|o| o.due_ms.is_none()) else { return };
        match result {
            Ok(()) => {
                self.finalizers.open.remove(subject);
                self.finalizers.ended.insert(subject.clone());
                self.finalizers.owed.remove(subject);
            }
            Err(failure) => match retry::finalizer(failure.cause, open.attempt) {
                Some(pause) if self.stop != Some(Stop::Interrupt) => {
                    open.due_ms = Some(now.mono_ms + pause);
                    open.last = Some(failure);
                }
                _ => {
                    let attempts = open.attempt;
                    self.finalizers.give_up(subject, attempts, failure);
                }
            },
        }
        // What waited for it may begin.
        let waits = |t: &super::state::TrackState| t.subject == *subject && t.admitted && !t.over;
        self.ready.extend(self.tracks.iter().enumerate().filter(|(_, t)| waits(t)).map(|(i, _)| i));
    }

    /// Further attempts whose time has come; after ^C there are none.
    pub(super) fn finalize_again(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stop == Some(Stop::Interrupt) {
            let paused = |o: &Open| o.due_ms.and(o.last.clone()).map(|last| (o.attempt, last));
            let all: Vec<(Subject, (u32, Failure))> =
                self.finalizers.open.iter().filter_map(|(s, o)| Some((s.clone(), paused(o)?))).collect();
            for (subject, (attempts, failure)) in all {
                self.finalizers.give_up(&subject, attempts, failure);
            }
        }
        for (subject, open) in &mut self.finalizers.open {
            if open.due_ms.is_some_and(|at| at <= now.mono_ms) {
                (open.due_ms, open.attempt) = (None, open.attempt + 1);
                effects.push(Effect::Finalize { subject: subject.clone(), attempt: open.attempt });
            }
        }
    }

    /// What an earlier run left is made up for before its node is touched.
    pub(super) fn finalize_owed_first(&mut self, effects: &mut Vec<Effect>) {
        let fresh = |t: &&super::state::TrackState| !t.begun && self.finalizers.owed.contains(&t.subject);
        let subjects: Vec<Subject> = self.tracks.iter().filter(fresh).map(|t| t.subject.clone()).collect();
        for subject in subjects {
            self.finalize(subject, effects);
        }
    }
}
