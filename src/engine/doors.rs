//! The change windows of sites, asked at each event of a run: what was found is kept while it holds. Pure.

use std::collections::BTreeMap;

use crate::model::rollout::{self, ChangeWindow, Gate};

const MINUTE_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub struct Doors {
    windows: BTreeMap<String, Vec<ChangeWindow>>,
    /// Site → when it was looked at, and what was found.
    known: BTreeMap<String, (u64, Gate)>,
}

impl Doors {
    pub fn new(windows: &BTreeMap<String, Vec<ChangeWindow>>) -> Doors {
        Doors { windows: windows.clone(), known: BTreeMap::new() }
    }

    /// Looks afresh where what is known may be past.
    pub fn look(&mut self, unix_ms: u64) {
        for (site, windows) in &self.windows {
            if !self.known.get(site).is_some_and(|(at, gate)| holds(*at, *gate, unix_ms)) {
                self.known.insert(site.clone(), (unix_ms, rollout::gate(windows, unix_ms)));
            }
        }
    }

    /// A site without windows is always open.
    pub fn gate(&self, site: &str, unix_ms: u64) -> Gate {
        match self.known.get(site) {
            Some((at, gate)) if holds(*at, *gate, unix_ms) => *gate,
            _ => self.windows.get(site).map_or(Gate::Open, |windows| rollout::gate(windows, unix_ms)),
        }
    }
}

/// Windows open and shut with a minute, and what is shut stays so until the moment that was found. A clock that was
/// set back makes everything unknown.
fn holds(at: u64, gate: Gate, unix_ms: u64) -> bool {
    match gate {
        _ if unix_ms < at => false,
        Gate::Shut { until_ms: Some(until) } => unix_ms < until,
        Gate::Open | Gate::Shut { until_ms: None } => unix_ms / MINUTE_MS == at / MINUTE_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_asking_anew_says() {
        let window = |from, to, zone: &str| ChangeWindow {
            days: vec![0, 5],
            from_min: from,
            to_min: to,
            timezone: zone.to_owned(),
        };
        let windows = vec![window(8 * 60, 9 * 60 + 30, "Europe/Berlin"), window(23 * 60, 15, "UTC")];
        let mut doors = Doors::new(&BTreeMap::from([("a".to_owned(), windows.clone())]));
        // Saturday 05:00 UTC, in odd steps over a day, and back again.
        let start = 1_795_248_000_000 - 3 * 3_600_000;
        let there = (0..90).map(|i| start + i * 1_021_337);
        let mut open = 0;
        for at in there.clone().chain(there.rev().step_by(9)) {
            doors.look(at);
            let fresh = rollout::gate(&windows, at);
            assert_eq!(doors.gate("a", at), fresh, "at {at}");
            open += usize::from(fresh == Gate::Open);
        }
        assert!((5..30).contains(&open), "it opens and shuts: {open}");
        assert_eq!(doors.gate("without windows", start), Gate::Open);
    }

    #[test]
    fn what_never_opens_is_asked_again_each_minute_alone() {
        let never = Gate::Shut { until_ms: None };
        assert!(holds(60_000, never, 119_999) && !holds(60_000, never, 120_000) && !holds(60_000, never, 59_999));
        assert!(!holds(60_000, Gate::Open, 120_000), "a window shuts with a minute");
        assert!(!holds(60_000, Gate::Shut { until_ms: Some(90_000) }, 90_000), "the moment is part of the window");
    }
}
