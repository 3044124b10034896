//! After a halt: what never began never will.

use std::collections::BTreeSet;

use super::{Engine, Now, Phase, state::StepState};
use crate::plan::Subject;

/// Stands where a step's id would, for what a halt kept from beginning.
pub const HALT: &str = "halt";

impl Engine {
    /// After a halt, what never began never will.
    pub(super) fn give_up(&mut self, now: Now) {
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
    pub(super) fn give_up_members(&mut self, now: Now, track: usize) {
        let (first, end) = (self.tracks[track].first, self.tracks[track].end);
        let begun: BTreeSet<String> = self.steps[first..end]
            .iter()
            .filter(|s| s.phase != Phase::Waiting || s.held.is_some() || s.attempt > s.base + 1)
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

    pub(super) fn skip_awaiting(&mut self, now: Now, index: usize) {
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
}
