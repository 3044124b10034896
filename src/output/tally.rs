//! How far a look over many machines is, as one line. Pure: times are arguments.

use std::{collections::BTreeMap, time::Duration};

use super::clean;

/// Names of machines that are waited for longest.
const SLOWEST: usize = 3;
/// A look that is over by then needs no line.
const FIRST_AFTER: Duration = Duration::from_millis(500);

/// Machines that were begun and ended.
#[derive(Debug)]
pub struct Tally {
    total: usize,
    answered: usize,
    failed: usize,
    /// Under way: since when.
    open: BTreeMap<String, Duration>,
}

impl Tally {
    pub fn new(total: usize) -> Tally {
        Tally { total, answered: 0, failed: 0, open: BTreeMap::new() }
    }

    pub fn begins(&mut self, name: &str, now: Duration) {
        self.open.insert(name.to_owned(), now);
    }

    pub fn ends(&mut self, name: &str, answered: bool) {
        self.open.remove(name);
        if answered {
            self.answered += 1;
        } else {
            self.failed += 1;
        }
    }

    /// `1200 of 10000 answered, 3 failed; waiting for n7 (12 s), n9 (8 s)`; empty at the very beginning.
    pub fn line(&self, now: Duration) -> String {
        if now < FIRST_AFTER {
            return String::new();
        }
        let mut line = format!("{} of {} answered", self.answered, self.total);
        if self.failed > 0 {
            line.push_str(&format!(", {} failed", self.failed));
        }
        let mut open: Vec<(&Duration, &String)> = self.open.iter().map(|(name, since)| (since, name)).collect();
        open.sort();
        let slowest: Vec<String> = open
            .iter()
            .take(SLOWEST)
            .map(|(since, name)| format!("{name} ({} s)", now.saturating_sub(**since).as_secs()))
            .collect();
        if !slowest.is_empty() {
            line.push_str(&format!("; waiting for {}", slowest.join(", ")));
        }
        clean::line(&line).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_how_far_it_is_and_who_is_slow() {
        let at = Duration::from_millis;
        let mut tally = Tally::new(6);
        tally.begins("n1", at(0));
        assert_eq!(tally.line(at(100)), "", "what is over at once needs no line");
        for (name, since) in [("n2", 0), ("n3", 500), ("n4", 2_000), ("n5", 3_000)] {
            tally.begins(name, at(since));
        }
        tally.ends("n1", true);
        assert_eq!(tally.line(at(5_000)), "1 of 6 answered; waiting for n2 (5 s), n3 (4 s), n4 (3 s)");
        tally.ends("n2", false);
        tally.ends("n3", true);
        tally.ends("n4", true);
        assert_eq!(tally.line(at(9_900)), "3 of 6 answered, 1 failed; waiting for n5 (6 s)");
        tally.ends("n5", true);
        assert_eq!(tally.line(at(9_900)), "4 of 6 answered, 1 failed");
    }
}
