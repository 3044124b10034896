//! Times for people, and moments that outlive a process. Decisions inside a process use the boot-time clock.

use serde::{Deserialize, Serialize};

/// A moment that survives the process: wall clock, boot, and time since boot with suspension counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// `/proc/sys/kernel/random/boot_id`; empty where it could not be read: such a boot is like no other.
    pub boot_id: String,
    /// CLOCK_BOOTTIME in milliseconds.
    pub boot_ms: u64,
}

impl Stamp {
    /// Whether `ttl_ms` have gone by from this moment to `now`. Inside one boot either clock may say so; across
    /// boots and hosts only the wall clock can. A clock that went backwards says nothing: it is not believed.
    pub fn expired(&self, ttl_ms: u64, now: &Stamp) -> bool {
        let gone = |from: u64, to: u64| to.checked_sub(from).is_some_and(|went| went >= ttl_ms);
        let one_boot = !self.boot_id.is_empty() && self.boot_id == now.boot_id;
        gone(self.unix_ms, now.unix_ms) || one_boot && gone(self.boot_ms, now.boot_ms)
    }
}

/// `2026-11-21T08:30:00Z` of milliseconds since 1970 (RFC 3339, seconds).
pub fn utc(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX);
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        ),
        Err(_) => format!("{unix_ms} ms"),
    }
}

/// `45s`, `3m`, `2h`, `5d`: kubectl's ages.
pub fn age(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..=119 => format!("{s}s"),
        120..=7_199 => format!("{}m", s / 60),
        7_200..=172_799 => format!("{}h", s / 3_600),
        _ => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(boot: &str, unix_ms: u64, boot_ms: u64) -> Stamp {
        Stamp { unix_ms, boot_id: boot.into(), boot_ms }
    }

    #[test]
    fn a_lease_ends_when_either_clock_says_so() {
        let at = stamp("b1", 1_000_000, 50_000);
        let after = |boot: &str, wall: i64, up: i64| {
            stamp(boot, at.unix_ms.saturating_add_signed(wall), at.boot_ms.saturating_add_signed(up))
        };
        assert!(!at.expired(30_000, &after("b1", 29_999, 29_999)));
        assert!(at.expired(30_000, &after("b1", 30_000, 30_000)));
        // The wall clock was set back by an hour: time since boot went on.
        assert!(at.expired(30_000, &after("b1", -3_600_000, 30_000)));
        // Set forward: it may be wrong, but nobody may count on the lease any more.
        assert!(at.expired(30_000, &after("b1", 3_600_000, 5)));
        // Another boot, or another host: its time since boot means nothing here.
        assert!(!at.expired(30_000, &after("b2", 5, 86_400_000)));
        assert!(at.expired(30_000, &after("b2", 30_000, -50_000)));
        assert!(!at.expired(30_000, &after("b2", -5, 86_400_000)));
        // No boot id is like no other, itself included.
        let blind = stamp("", 1_000_000, 0);
        assert!(!blind.expired(30_000, &stamp("", 1_000_000, 40_000)));
    }

    proptest! {
        #[test]
        fn expiry_follows_the_clocks(
            wall in 0_u64..1 << 42, up in 0_u64..1 << 40, ttl in 1_u64..1 << 32,
            wall_went in 0_u64..1 << 33, up_went in 0_u64..1 << 33, more in 0_u64..1 << 20, same: bool,
        ) {
            let at = stamp("b1", wall, up);
            let now = stamp(if same { "b1" } else { "b2" }, wall + wall_went, up + up_went);
            let expired = at.expired(ttl, &now);
            prop_assert_eq!(expired, wall_went >= ttl || same && up_went >= ttl);
            // Later is never less expired, and a longer lease never more.
            let later = Stamp { unix_ms: now.unix_ms + more, boot_ms: now.boot_ms + more, ..now.clone() };
            prop_assert!(!expired || at.expired(ttl, &later));
            prop_assert!(expired || !at.expired(ttl + more, &now));
        }

        #[test]
        fn a_clock_that_went_back_ends_no_lease(
            wall in 1_u64..1 << 42, up in 1_u64..1 << 40, back in 1_u64..1 << 40, ttl in 1_u64..1 << 32,
        ) {
            let at = stamp("b1", wall, up);
            let now = stamp("b1", wall.saturating_sub(back), up.saturating_sub(back));
            prop_assert!(!at.expired(ttl, &now));
        }
    }

    #[test]
    fn labels() {
        assert_eq!(utc(1_795_248_000_000), "2026-11-21T08:00:00Z");
        assert_eq!(
            ["119s", "2m", "2h", "2d"],
            [age(119_000), age(120_000), age(7_200_000), age(172_800_000)].each_ref().map(String::as_str)
        );
    }
}
