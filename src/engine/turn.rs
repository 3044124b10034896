//! Begins what may begin.

use super::{Effect, Engine, Now, Phase};

impl Engine {
    /// Begins what may begin, and notices the end.
    pub(super) fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some((at, track)) = self.timers.first().copied().filter(|(at, _)| *at <= now.mono_ms) {
            self.timers.remove(&(at, track));
            self.ready.insert(track);
            self.notice_late(now, track, effects);
        }
        self.finalize_again(now, effects);
        self.look_for_leaving(now, effects);
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
            for why in answer.halt {
                self.halted = true;
                effects.push(Effect::Halt { why });
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
        // A look under way is answered in any case.
        let leaving = self.leaving.next_due().filter(|_| !self.admission.is_looking());
        let wake = [wake, next, self.finalizers.next_due(), leaving].into_iter().flatten().min();
        // Whoever keeps the wakes keeps the earliest: what is due after that is asked for when it has come.
        if let Some(at_ms) = wake.filter(|at| !self.finished && self.woken_for.is_none_or(|earlier| *at < earlier)) {
            self.woken_for = Some(at_ms);
            effects.push(Effect::Wake { at_ms });
        }
    }

    pub(super) fn begin_ready(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // Each has its turn once: what cannot begin now is made ready again by what it waits for.
        while self.busy < self.concurrency
            && let Some(track) = self.ready.pop_first()
        {
            let own = &self.tracks[track];
            if own.over || !own.admitted || own.cursor >= own.end || self.finalizers.in_hand(&own.subject) {
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
            if !std::mem::replace(&mut self.tracks[track].begun, true) {
                self.finalizers.begins(&self.tracks[track].subject);
            }
            self.set(now, at, Phase::Observing);
        }
    }

    pub(super) fn notice_late(&mut self, now: Now, track: usize, effects: &mut Vec<Effect>) {
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
}
