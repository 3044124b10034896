//! Right before a machine that serves is taken away: the budget is judged once more, by a look that began after
//! everything else was prepared. A log-in at a slow BMC takes longer than a look is good for.

use std::collections::BTreeMap;

use super::{Effect, Engine, Now, Phase, admission::LOOK_AGAIN_MS, state::Stop};
use crate::model::{Failure, failure::Cause};

/// So long a driver waits with its log-in open; then it goes home, and the step waits without one.
const PATIENCE_MS: u64 = 30_000;

#[derive(Debug)]
struct Waits {
    since_ms: u64,
    /// Refused by the look before; the next one begins then.
    again_ms: u64,
    refusal: Option<Failure>,
}

/// Steps that wait to be let go, by index.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    waits: BTreeMap<usize, Waits>,
}

impl Leaving {
    /// Its driver ended; `true`: while it still waited.
    pub(super) fn forget(&mut self, at: usize) -> bool {
        self.waits.remove(&at).is_some()
    }
    pub(super) fn next_due(&self) -> Option<u64> {
        self.waits.values().map(|w| w.again_ms).min()
    }
}

impl Engine {
    /// Everything but the request itself is done.
    pub(super) fn wants_to_go(&mut self, now: Now, id: &str, effects: &mut Vec<Effect>) {
        let Some(at) = self.at(id, &Phase::Acting) else { return };
        if self.admission.may_serve(self.steps[at].track) {
            let waits = Waits { since_ms: now.mono_ms, again_ms: now.mono_ms, refusal: None };
            self.leaving.waits.insert(at, waits);
        } else {
            self.steps[at].went = true;
            effects.push(Effect::Go { step: id.to_owned() });
        }
    }

    /// Asks for a look while somebody waits for one; after ^C nobody goes.
    pub(super) fn look_for_leaving(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stop.is_some_and(|s| s != Stop::Pause) {
            for at in std::mem::take(&mut self.leaving.waits).into_keys() {
                let why = "the run was stopped before its request was sent";
                let what = format!("{}: take its machine away", self.steps[at].step.id);
                self.withhold(at, Failure::new(Cause::Interrupted, what, why), effects);
            }
        }
        if self.leaving.waits.values().any(|w| w.again_ms <= now.mono_ms) && self.admission.look(now.mono_ms) {
            effects.push(Effect::LookAround);
        }
    }

    /// The look began before a node ended, and is older than what it left behind: the next one begins at once.
    pub(super) fn look_once_more(&mut self, now: Now) {
        for waits in self.leaving.waits.values_mut() {
            waits.again_ms = now.mono_ms;
        }
    }

    /// After a look: who began to wait before it began is let go, or waits for the next one.
    pub(super) fn judge(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let began = self.admission.look_began_ms();
        let heard: Vec<usize> =
            self.leaving.waits.iter().filter(|(_, w)| w.since_ms <= began).map(|(at, _)| *at).collect();
        for at in heard {
            let (id, track) = (self.steps[at].step.id.clone(), self.steps[at].track);
            match self.admission.leave(track) {
                None => {
                    self.leaving.waits.remove(&at);
                    (self.steps[at].went, self.steps[at].withheld_ms) = (true, None);
                    effects.push(Effect::Go { step: id });
                }
                Some(refusal) => {
                    let next = refusal.down.map(|node| format!("rackctl describe node {node}"));
                    let what = format!("{id}: take its machine away");
                    let failure = Failure { next, ..Failure::new(Cause::Guard, what, refusal.why) };
                    let Some(waits) = self.leaving.waits.get_mut(&at) else { continue };
                    waits.again_ms = now.mono_ms + LOOK_AGAIN_MS;
                    waits.refusal = Some(failure.clone());
                    if now.mono_ms >= waits.since_ms + PATIENCE_MS {
                        self.leaving.waits.remove(&at);
                        self.withhold(at, failure, effects);
                    }
                }
            }
        }
        // Whoever came while it went on: the next look begins at once.
        for waits in self.leaving.waits.values_mut().filter(|w| w.since_ms > began) {
            waits.again_ms = now.mono_ms;
        }
    }

    fn withhold(&mut self, at: usize, failure: Failure, effects: &mut Vec<Effect>) {
        self.steps[at].withheld = Some(failure.clone());
        effects.push(Effect::Withhold { step: self.steps[at].step.id.clone(), failure });
    }

    /// The driver of a step that was withheld is home: it waits as for any other guard.
    pub(super) fn went_home(&mut self, now: Now, at: usize, failure: Failure, effects: &mut Vec<Effect>) {
        let (step, attempt) = (self.steps[at].step.id.clone(), self.steps[at].attempt);
        if std::mem::take(&mut self.steps[at].went) {
            // Something of this attempt has left before: what follows is another one.
            self.steps[at].attempt = attempt + 1;
            effects.push(Effect::Again { step, attempt: attempt + 1, failure: failure.clone() });
            self.steps[at].resumed = self.stop.is_some();
        } else {
            effects.push(Effect::NotSent { step, attempt, failure: failure.clone() });
        }
        let since = *self.steps[at].withheld_ms.get_or_insert(now.mono_ms);
        if now.mono_ms.saturating_sub(since) > self.steps[at].step.kind.deadline_s() * 1_000 {
            return self.failed(now, at, failure, effects);
        }
        self.hold(now, at, failure, effects);
    }
}
