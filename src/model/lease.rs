//! Until when effects may leave this process. A BMC cannot check a fence: so nothing is sent unless the lease will
//! outlive the sending (engine.md, "Fencing").

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Failure, failure::Cause};

/// The slowest answers of real BMCs took 23 s.
const LONGEST_MS: u64 = 30_000;

/// A lease is renewed six times in its length; a renewal later than this part of it was slept over.
const LATE: u64 = 3;

/// Of a lease of `ttl_ms`: half of it at most.
fn longest_ms(ttl_ms: u64) -> u64 {
    LONGEST_MS.min(ttl_ms / 2)
}

/// Asked by every driver right before a change leaves. The clock is one that goes on while the host sleeps.
pub struct Gate {
    /// Milliseconds of `clock` until which effects may be sent.
    until_ms: AtomicU64,
    longest_ms: AtomicU64,
    /// When the last renewal began.
    begun_ms: AtomicU64,
    lapses: AtomicU64,
    clock: fn() -> u64,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate(until {} ms)", self.until_ms.load(Ordering::SeqCst))
    }
}

impl Gate {
    /// Shut, until it is told how long the lease lasts.
    pub fn new(clock: fn() -> u64) -> Gate {
        Gate {
            until_ms: AtomicU64::new(0),
            longest_ms: AtomicU64::new(0),
            begun_ms: AtomicU64::new(0),
            lapses: AtomicU64::new(0),
            clock,
        }
    }

    /// The lease was renewed for `ttl_ms` by a call that began at `begun_ms`: effects may be sent for that time less
    /// what the longest single sending may take, so that the last one has ended when the lease does.
    pub fn renewed(&self, begun_ms: u64, ttl_ms: u64) {
        let longest = longest_ms(ttl_ms);
        let before = self.begun_ms.swap(begun_ms, Ordering::SeqCst);
        if before > 0 && begun_ms.saturating_sub(before) > ttl_ms / LATE {
            self.lapses.fetch_add(1, Ordering::SeqCst);
        }
        self.longest_ms.store(longest, Ordering::SeqCst);
        self.until_ms.fetch_max(begun_ms + ttl_ms.saturating_sub(longest), Ordering::SeqCst);
    }

    /// The longest that one effect may take from its sending to its end.
    pub fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.load(Ordering::SeqCst))
    }

    /// How often a renewal came so late that this process must have slept. What it knew from before is old then, however
    /// good its lease is.
    pub fn lapses(&self) -> u64 {
        self.lapses.load(Ordering::SeqCst)
    }

    /// As [`Gate::check`], for a change that was decided when there had been so many lapses.
    ///
    /// # Errors
    /// `Busy`: it is to be decided anew.
    pub fn check_since(&self, lapses: u64, what: &str) -> Result<(), Failure> {
        self.check(what)?;
        if self.lapses() == lapses {
            return Ok(());
        }
        let why = "this process slept since it looked: it looks again before it sends anything";
        Err(Failure::new(Cause::Busy, what, why))
    }

    /// For good: somebody else has it.
    pub fn shut(&self) {
        self.until_ms.store(0, Ordering::SeqCst);
    }

    pub fn is_open(&self) -> bool {
        (self.clock)() < self.until_ms.load(Ordering::SeqCst)
    }

    pub fn check(&self, what: &str) -> Result<(), Failure> {
        if self.is_open() {
            return Ok(());
        }
        Err(Failure::new(
            Cause::Interrupted,
            what,
            "the lease of this run has run out or was taken: nothing more is sent",
        )
        .next("rackctl runs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_before_the_first_and_after_the_last_renewal() {
        static NOW: AtomicU64 = AtomicU64::new(1_000);
        let gate = Gate::new(|| NOW.load(Ordering::SeqCst));
        assert!(gate.check("x").is_err());
        gate.renewed(1_000, 60_000);
        NOW.store(30_999, Ordering::SeqCst);
        assert!(gate.is_open());
        NOW.store(31_000, Ordering::SeqCst);
        assert!(gate.check("x").is_err(), "the longest effect must end before the lease does");
        gate.renewed(30_000, 60_000);
        assert_eq!(gate.longest(), Duration::from_secs(30));
        assert!(gate.is_open());
        gate.shut();
        assert!(!gate.is_open());
    }

    // fault: F53 invariant: I3 I4 harness: D
    #[test]
    fn what_was_decided_before_a_sleep_does_not_leave_after_it() {
        let gate = Gate::new(|| 100_000);
        gate.renewed(80_000, 60_000);
        let decided = gate.lapses();
        gate.renewed(90_000, 60_000);
        assert!(gate.check_since(decided, "x").is_ok(), "renewed in time");
        gate.renewed(115_000, 60_000);
        assert_eq!(gate.check_since(decided, "x").unwrap_err().cause, Cause::Busy);
        assert!(gate.check_since(gate.lapses(), "x").is_ok());
    }
}
