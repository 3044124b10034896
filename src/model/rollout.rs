//! How changes go through a pool of machines, and when. Values and their plain arithmetic.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of things, or a share of them in percent: `2`, `"25%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CountText", into = "CountText")]
pub enum Count {
    Number(u32),
    Percent(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum CountText {
    Number(u32),
    Text(String),
}

impl From<Count> for CountText {
    fn from(count: Count) -> CountText {
        match count {
            Count::Number(number) => CountText::Number(number),
            Count::Percent(share) => CountText::Text(format!("{share}%")),
        }
    }
}

impl TryFrom<CountText> for Count {
    type Error = String;
    fn try_from(text: CountText) -> Result<Count, String> {
        match text {
            CountText::Number(number) => Ok(Count::Number(number)),
            CountText::Text(text) => text.parse(),
        }
    }
}

impl Count {
    /// Of so many: rounded down, as a share of a quorum must be, and never less than one.
    pub fn of(self, total: usize) -> u32 {
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        match self {
            Count::Number(number) => number.max(1),
            Count::Percent(share) => {
                u32::try_from(u64::from(total) * u64::from(share) / 100).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

/// The rules by which a pool (the members of a cluster, or nodes without one) is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Members that may be unavailable at once, for any reason.
    pub max_unavailable: u32,
    /// Sizes of the first waves; the last one repeats. Empty: what serves now goes by the budget alone, and new
    /// machines do not wait for each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Count>,
    /// Pause between two waves.
    #[serde(default)]
    pub soak_s: u32,
    /// How long a member must be healthy before the next one is touched.
    pub min_healthy_s: u32,
    /// A node that takes longer is stuck: it counts as a failure.
    pub deadline_s: u32,
    /// Failures after which no new node begins; a share is one of the pool's nodes in the plan.
    pub halt_after: Count,
}

impl Default for Rollout {
    fn default() -> Self {
        Rollout {
            max_unavailable: 1,
            waves: Vec::new(),
            soak_s: 0,
            min_healthy_s: 10,
            deadline_s: 900,
            halt_after: Count::Number(1),
        }
    }
}

impl Rollout {
    /// For nodes that belong to no cluster: nobody said how many of them may be down.
    pub fn unbounded() -> Rollout {
        Rollout {
            max_unavailable: u32::MAX,
            min_healthy_s: 0,
            halt_after: Count::Number(u32::MAX),
            ..Rollout::default()
        }
    }

    /// Size of wave `index` (from 0) in a pool of `total` nodes.
    pub fn wave(&self, index: usize, total: usize) -> usize {
        match self.waves.get(index).or(self.waves.last()) {
            Some(count) => count.of(total) as usize,
            None => total.max(1),
        }
    }
}

/// What an operator says of one run's rollout; what is not said is as the clusters' manifests have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutWish {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halt_after: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak_s: Option<u32>,
}

impl RolloutWish {
    /// For `total` machines that belong to no cluster and serve: a canary, then a quarter, then halves, no more than a
    /// quarter of them away at once, and the first failure halts.
    pub fn without_cluster(&self, total: usize) -> Rollout {
        let waves = vec![Count::Number(1), Count::Percent(25), Count::Percent(50)];
        Rollout {
            max_unavailable: self.max_unavailable.unwrap_or(Count::Percent(25)).of(total),
            waves: if self.waves.is_empty() { waves } else { self.waves.clone() },
            soak_s: self.soak_s.unwrap_or_default(),
            min_healthy_s: 0,
            halt_after: self.halt_after.unwrap_or(Count::Number(1)),
            ..Rollout::default()
        }
    }

    /// On top of a cluster's own rules: its budget may only become smaller.
    pub fn over(&self, own: Rollout, total: usize) -> Rollout {
        Rollout {
            max_unavailable: self.max_unavailable.map_or(own.max_unavailable, |c| c.of(total).min(own.max_unavailable)),
            waves: if self.waves.is_empty() { own.waves } else { self.waves.clone() },
            soak_s: self.soak_s.unwrap_or(own.soak_s),
            halt_after: self.halt_after.unwrap_or(own.halt_after),
            ..own
        }
    }
}

/// How many nodes of one failure domain of a site may be unavailable at once; `None`: not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainLimits {
    pub rack: Option<Count>,
    pub power: Option<Count>,
    pub chassis: Option<Count>,
}

impl Default for DomainLimits {
    /// Machines of one chassis share power supplies and a sled: one at a time. Racks and feeds are as large as
    /// sites make them, so that no number would be right for all.
    fn default() -> Self {
        DomainLimits { rack: None, power: None, chassis: Some(Count::Number(1)) }
    }
}

/// A span of the week in which what reboots or wipes may begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeWindow {
    /// 0 is Monday. Empty: every day.
    pub days: Vec<u8>,
    /// Minutes after midnight.
    pub from_min: u16,
    /// Not after `from_min`: on the next day.
    pub to_min: u16,
    /// IANA name.
    pub timezone: String,
}

/// Whether a change may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Opens then, in milliseconds since 1970; `None`: not within the next eight days.
    Shut {
        until_ms: Option<u64>,
    },
}

/// How far ahead the next window is looked for, in minutes.
const AHEAD_MIN: u64 = 8 * 24 * 60;

/// No window at all: always open. A time zone that is not known never opens; the inventory refuses such a name.
pub fn gate(windows: &[ChangeWindow], unix_ms: u64) -> Gate {
    if windows.is_empty() || windows.iter().any(|w| w.holds(unix_ms)) {
        return Gate::Open;
    }
    let minute = unix_ms / 60_000;
    // Nothing opens long before the first nominal opening: only from there on each minute is looked at.
    let first = windows.iter().filter_map(|w| w.nominal(unix_ms)).min();
    let from = first.map_or(AHEAD_MIN, |at| (at / 60_000).saturating_sub(minute + SHIFT_MIN)).max(1);
    let next = (from..=AHEAD_MIN).map(|m| (minute + m) * 60_000).find(|at| windows.iter().any(|w| w.holds(*at)));
    Gate::Shut { until_ms: next }
}

/// No clock change moves an opening further, in minutes.
const SHIFT_MIN: u64 = 180;

impl ChangeWindow {
    /// The first moment, not long before `unix_ms`, at which a named day's clock shows `from_min`, be it skipped or
    /// repeated by a clock change.
    fn nominal(&self, unix_ms: u64) -> Option<u64> {
        let earliest = i64::try_from(unix_ms.saturating_sub(SHIFT_MIN * 60_000)).ok()?;
        let at = jiff::Timestamp::from_millisecond(earliest).ok()?.in_tz(&self.timezone).ok()?;
        let (hour, minute) = (i8::try_from(self.from_min / 60).ok()?, i8::try_from(self.from_min % 60).ok()?);
        let named = |day: u8| self.days.is_empty() || self.days.contains(&day);
        let opening = |date: jiff::civil::Date| {
            let at = date.at(hour, minute, 0, 0).to_zoned(at.time_zone().clone()).ok()?;
            Some(at.timestamp().as_millisecond()).filter(|ms| *ms >= earliest)
        };
        let mut date = at.date().yesterday().ok()?;
        for _ in 0..=AHEAD_MIN / (24 * 60) + 1 {
            date = date.tomorrow().ok()?;
            if let Some(ms) = Some(date).filter(|d| named(d.weekday().to_monday_zero_offset() as u8)).and_then(opening)
            {
                return u64::try_from(ms).ok();
            }
        }
        None
    }

    /// By the local time of its zone: an hour that a clock change skips is not there, one that it repeats is twice.
    pub fn holds(&self, unix_ms: u64) -> bool {
        let Ok(at) =
            i64::try_from(unix_ms).map_err(drop).and_then(|ms| jiff::Timestamp::from_millisecond(ms).map_err(drop))
        else {
            return false;
        };
        let Ok(local) = at.in_tz(&self.timezone) else { return false };
        let today = local.weekday().to_monday_zero_offset() as u8;
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        let named = |day: u8| self.days.is_empty() || self.days.contains(&day);
        if self.from_min < self.to_min {
            return named(today) && (self.from_min..self.to_min).contains(&minute);
        }
        // Over midnight: the day named is the one on which it begins.
        (named(today) && minute >= self.from_min) || (named((today + 6) % 7) && minute < self.to_min)
    }
}

/// Whether the time-zone database knows the name.
pub fn known_timezone(name: &str) -> bool {
    jiff::tz::TimeZone::get(name).is_ok()
}

impl FromStr for Count {
    type Err = String;

    /// `3` or `25%`
    fn from_str(text: &str) -> Result<Count, String> {
        let bad = || format!("`{text}` is neither a number nor a share like `25%`");
        match text.strip_suffix('%') {
            Some(share) => share.parse().ok().filter(|s| *s <= 100).map(Count::Percent).ok_or_else(bad),
            None => text.parse().map(Count::Number).map_err(|_| bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 is a Saturday; 08:00 UTC.
    const SATURDAY_8: u64 = 1_795_248_000_000;
    const HOUR: u64 = 3_600_000;

    fn window(days: &[u8], from: u16, to: u16, zone: &str) -> ChangeWindow {
        ChangeWindow { days: days.to_vec(), from_min: from * 60, to_min: to * 60, timezone: zone.into() }
    }

    #[test]
    fn shares_are_rounded_down_and_never_nothing() {
        assert_eq!([Count::Percent(25).of(10), Count::Percent(1).of(10), Count::Number(0).of(5)], [2, 1, 1]);
        let rollout =
            Rollout { waves: vec![Count::Number(1), Count::Percent(10), Count::Percent(50)], ..Rollout::default() };
        assert_eq!([0, 1, 2, 3, 9].map(|i| rollout.wave(i, 40)), [1, 4, 20, 20, 20]);
        assert_eq!("25%".parse(), Ok(Count::Percent(25)));
        let text = serde_json::to_string(&[Count::Number(2), Count::Percent(25)]).unwrap();
        assert_eq!(text, r#"[2,"25%"]"#);
        assert_eq!(serde_json::from_str::<[Count; 2]>(&text).unwrap(), [Count::Number(2), Count::Percent(25)]);
        assert!("101%".parse::<Count>().is_err() && "x".parse::<Count>().is_err());
    }

    #[test]
    fn a_window_is_open_in_its_zone_and_names_its_next_opening() {
        let saturday = [window(&[5], 8, 16, "UTC")];
        assert_eq!(gate(&saturday, SATURDAY_8), Gate::Open);
        assert_eq!(gate(&saturday, SATURDAY_8 - 1), Gate::Shut { until_ms: Some(SATURDAY_8) });
        let closed = SATURDAY_8 + 8 * HOUR;
        assert_eq!(gate(&saturday, closed), Gate::Shut { until_ms: Some(SATURDAY_8 + 7 * 24 * HOUR) });
        // 08:00 UTC is 09:00 in Berlin in November.
        assert_eq!(gate(&[window(&[5], 9, 10, "Europe/Berlin")], SATURDAY_8), Gate::Open);
        assert_ne!(gate(&[window(&[5], 8, 9, "Europe/Berlin")], SATURDAY_8), Gate::Open);
        assert_eq!(gate(&[], 0), Gate::Open);
        assert_eq!(gate(&[window(&[], 8, 9, "Mars/Olympus")], SATURDAY_8), Gate::Shut { until_ms: None });
    }

    /// Each minute of a week looked at agrees with the short way, also where clocks change (25 October 2026 in Berlin).
    #[test]
    fn the_next_opening_is_the_first_minute_that_is_open() {
        let october = 1_792_800_000_000;
        let zones = ["UTC", "Europe/Berlin", "America/St_Johns"];
        for zone in zones {
            for (from_min, to_min) in [(150, 170), (180, 200), (1_430, 20), (0, 1)] {
                let days = if from_min == 0 { vec![] } else { vec![6, 2] };
                let windows = [ChangeWindow { days, from_min, to_min, timezone: zone.into() }];
                for hours in (0..300).step_by(17) {
                    let now = october + hours * HOUR + 7 * 60_000;
                    let Gate::Shut { until_ms } = gate(&windows, now) else { continue };
                    let slow = (1..=AHEAD_MIN).map(|m| (now / 60_000 + m) * 60_000).find(|at| windows[0].holds(*at));
                    assert_eq!(until_ms, slow, "{zone} {from_min} at {now}");
                }
            }
        }
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let friday_night = [window(&[4], 22, 9, "UTC")];
        assert_eq!(gate(&friday_night, SATURDAY_8), Gate::Open);
        assert_ne!(gate(&friday_night, SATURDAY_8 + HOUR), Gate::Open);
        assert_ne!(gate(&friday_night, SATURDAY_8 + 15 * HOUR), Gate::Open, "Saturday night is not Friday night");
    }
}
