//! Has a learner caught up with the leader, and does it keep up? Pure: time is an argument.

use std::time::Duration;

/// When a learner counts as caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Entries that it may be behind; a busy cluster is never at zero.
    pub max_lag: u64,
    /// For how long without a break.
    pub stable_for: Duration,
    /// The same where nothing at all is outstanding at any look, as in a cluster that nobody writes to.
    pub level_for: Duration,
}

impl Default for Rule {
    fn default() -> Self {
        Rule { max_lag: 50, stable_for: Duration::from_secs(1), level_for: Duration::from_millis(300) }
    }
}

/// One look: the leader's raft index, taken before the learner's applied index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub leader_index: u64,
    pub applied_index: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Behind { by: u64 },
    Settling { for_another: Duration },
    Synced,
}

#[derive(Clone, Debug)]
pub struct Watch {
    rule: Rule,
    since: Option<Duration>,
    level_since: Option<Duration>,
    last_applied: u64,
}

impl Watch {
    pub fn new(rule: Rule) -> Self {
        Watch { rule, since: None, level_since: None, last_applied: 0 }
    }

    /// A look failed: whatever was stable has been interrupted.
    pub fn lost(&mut self) {
        self.since = None;
        self.level_since = None;
    }

    /// `now` counts from any fixed moment.
    pub fn see(&mut self, now: Duration, seen: &Progress) -> Verdict {
        let by = seen.leader_index.saturating_sub(seen.applied_index);
        // An index that falls, or one that is still zero, is a member that began again.
        let began_again = seen.applied_index < self.last_applied || seen.applied_index == 0;
        self.last_applied = seen.applied_index;
        if began_again || by > self.rule.max_lag {
            self.lost();
            return Verdict::Behind { by };
        }
        self.level_since = self.level_since.filter(|_| by == 0);
        let left = |rule: Duration, since: Duration| rule.saturating_sub(now.saturating_sub(since));
        let near = left(self.rule.stable_for, *self.since.get_or_insert(now));
        let for_another = match by {
            0 => near.min(left(self.rule.level_for, *self.level_since.get_or_insert(now))),
            _ => near,
        };
        if for_another.is_zero() { Verdict::Synced } else { Verdict::Settling { for_another } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    fn seen(leader_index: u64, applied_index: u64) -> Progress {
        Progress { leader_index, applied_index }
    }

    // fault: F41 invariant: I4 harness: D
    #[test]
    fn near_is_not_enough_it_must_stay_near() {
        let mut watch = Watch::new(Rule { max_lag: 5, stable_for: at(1000), level_for: at(1000) });
        assert_eq!(watch.see(at(0), &seen(100, 20)), Verdict::Behind { by: 80 });
        assert_eq!(watch.see(at(200), &seen(100, 96)), Verdict::Settling { for_another: at(1000) });
        assert_eq!(watch.see(at(900), &seen(120, 110)), Verdict::Behind { by: 10 });
        assert_eq!(watch.see(at(1000), &seen(120, 120)), Verdict::Settling { for_another: at(1000) });
        assert_eq!(watch.see(at(1999), &seen(121, 121)), Verdict::Settling { for_another: at(1) });
        assert_eq!(watch.see(at(2000), &seen(122, 122)), Verdict::Synced);
    }

    #[test]
    fn level_is_enough_for_a_shorter_time_and_one_entry_behind_breaks_it() {
        let mut watch = Watch::new(Rule { max_lag: 5, stable_for: at(1000), level_for: at(300) });
        assert_eq!(watch.see(at(0), &seen(10, 10)), Verdict::Settling { for_another: at(300) });
        assert_eq!(watch.see(at(200), &seen(11, 10)), Verdict::Settling { for_another: at(800) });
        assert_eq!(watch.see(at(300), &seen(11, 11)), Verdict::Settling { for_another: at(300) });
        assert_eq!(watch.see(at(500), &seen(11, 11)), Verdict::Settling { for_another: at(100) });
        assert_eq!(watch.see(at(600), &seen(11, 11)), Verdict::Synced);
    }

    #[test]
    fn a_failed_look_and_a_restart_begin_again() {
        let mut watch = Watch::new(Rule { max_lag: 5, stable_for: at(100), level_for: at(100) });
        watch.see(at(0), &seen(10, 10));
        watch.lost();
        assert_eq!(watch.see(at(200), &seen(10, 10)), Verdict::Settling { for_another: at(100) });
        assert_eq!(watch.see(at(400), &seen(10, 9)), Verdict::Behind { by: 1 });
        assert_eq!(Watch::new(Rule::default()).see(at(0), &seen(3, 0)), Verdict::Behind { by: 3 });
    }
}
