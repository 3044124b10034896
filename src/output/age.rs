//! Times as people read them.

use crate::model::facts::UnixMs;

/// `5s`, `3m`, `2h`, `4d`: how long ago, as kubectl rounds it. A clock that went backwards gives `0s`.
pub fn since(now: UnixMs, then: UnixMs) -> String {
    let seconds = now.saturating_sub(then) / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `2026-01-02T15:04:05Z`; a time that no calendar has is the number itself.
pub fn stamp(at: UnixMs) -> String {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    i64::try_from(at / 1000)
        .ok()
        .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| at.to_string())
}

/// The wall clock, at the edge: everything else is handed `now`.
pub fn now() -> UnixMs {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_stamps() {
        let ages = [0, 119_000, 120_000, 7_199_000, 7_200_000, 172_800_000].map(|then| since(then, 0));
        assert_eq!(ages, ["0s", "119s", "2m", "119m", "2h", "2d"]);
        assert_eq!(since(0, 5_000), "0s");
        assert_eq!(stamp(1_767_366_245_999), "2026-01-02T15:04:05Z");
        assert_eq!(stamp(u64::MAX), u64::MAX.to_string());
    }
}
