//! Whose turn it is: waves, and lines in which nobody may begin.

use super::{Admission, Answer, Bar, Held, LOOK_AGAIN_MS, OVERTAKE, halt};
use crate::model::Failure;

impl Admission {
    /// Nobody of the line may begin because of what is down: it waits so long as one of its nodes may take.
    fn starve(&mut self, now_ms: u64, unix_ms: u64, index: usize, track: usize, answer: &mut Answer) {
        let own = &mut self.lines[index];
        let since = *own.starved_ms.get_or_insert(now_ms);
        if now_ms < since + u64::from(own.rollout.deadline_s) * 1_000 {
            return;
        }
        let Some(held) = self.held(now_ms, unix_ms, index, track) else { return };
        let own = &mut self.lines[index];
        let why = format!("{} nodes waited for {} s: {held}", own.queue.len(), own.rollout.deadline_s);
        own.halted = Some(why.clone());
        let next = match held {
            Held::Down { node: Some(node), .. } => {
                format!("rackctl describe node {node}; when it serves again: rackctl resume")
            }
            _ => "rackctl resume".to_owned(),
        };
        answer.halt.push(Failure { next: Some(next), ..halt(&own.name, why) });
    }

    /// Lets in what may begin now, `room` tracks at most.
    pub fn admit(&mut self, now_ms: u64, unix_ms: u64, mut room: usize) -> Answer {
        let mut answer = Answer::default();
        self.doors.look(unix_ms);
        for index in 0..self.lines.len() {
            self.next_wave(now_ms, index, &mut answer);
            while room > 0 {
                let Some(at) = self.next(now_ms, unix_ms, index, &mut answer) else { break };
                room -= 1;
                let own = &mut self.lines[index];
                let Some(track) = own.queue.remove(at) else { break };
                own.in_hand.insert(track);
                if let Some(Some(seat)) = self.seats.get(track)
                    && seat.disrupts
                {
                    self.budget.take(&seat.node);
                }
                answer.begin.push(track);
            }
        }
        answer
    }

    /// Place in its line of a track that may begin now: the first one, or one behind it that is held by nothing.
    fn next(&mut self, now_ms: u64, unix_ms: u64, index: usize, answer: &mut Answer) -> Option<usize> {
        let own = &self.lines[index];
        let begun = own.total - own.queue.len();
        let reach = own.wave_end.saturating_sub(begun).min(own.queue.len()).min(OVERTAKE);
        let (mut down, mut passes) = (None, false);
        for at in 0..reach {
            let track = own.queue[at];
            match self.bar(now_ms, unix_ms, index, track) {
                None => {
                    self.lines[index].starved_ms = None;
                    return Some(at);
                }
                Some(Bar::Look) => {
                    answer.look |= self.look(now_ms);
                    return None;
                }
                Some(Bar::Halted) => return None,
                // Another machine of its rack or chassis is away: one of another rack may go first.
                Some(bar) => {
                    wake(answer, now_ms + LOOK_AGAIN_MS);
                    match bar.stays() {
                        true => down = down.or(Some(track)),
                        false => passes = true,
                    }
                }
            }
        }
        match down.filter(|_| !passes) {
            Some(track) => self.starve(now_ms, unix_ms, index, track, answer),
            None => self.lines[index].starved_ms = None,
        }
        None
    }

    /// The next wave opens when the one before has ended, soaked, and left the pool as healthy as its budget asks.
    fn next_wave(&mut self, now_ms: u64, index: usize, answer: &mut Answer) {
        let own = &self.lines[index];
        let Some(ended) = own.wave_ended_ms else { return };
        if own.queue.is_empty() || self.is_halted(own) {
            return;
        }
        let soaked = ended + u64::from(own.rollout.soak_s) * 1_000;
        if now_ms < soaked {
            return wake(answer, soaked);
        }
        let disrupts = own.queue.front().and_then(|t| self.seats[*t].as_ref()).is_some_and(|s| s.disrupts);
        if disrupts && self.looked_ms.is_none_or(|at| at < soaked) {
            answer.look |= self.look(now_ms);
            return;
        }
        let own = &mut self.lines[index];
        own.wave += 1;
        own.wave_end += own.rollout.wave(own.wave, own.total);
        own.wave_ended_ms = None;
    }

    /// What waits in pools that are halted.
    pub fn give_up_halted(&mut self) -> Vec<usize> {
        let whole = self.halted.is_some();
        self.lines
            .iter_mut()
            .filter(|l| whole || l.halted.is_some())
            .flat_map(|l| l.queue.drain(..).collect::<Vec<_>>())
            .collect()
    }
}

fn wake(answer: &mut Answer, at_ms: u64) {
    answer.wake_ms = Some(answer.wake_ms.map_or(at_ms, |old| old.min(at_ms)));
}
