//! `Range` and `If-None-Match` (RFC 9110 sections 14 and 13.1.2).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// No range, several, or a unit or form that is not known: the whole is sent, as the RFC allows.
    Whole,
    /// First and last byte, both within the object.
    Part(u64, u64),
    Unsatisfiable,
}

pub fn read(header: &str, total: u64) -> Range {
    let Some(spec) = header.trim().strip_prefix("bytes=") else { return Range::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Range::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    match (first, last) {
        ("", suffix) => match number(suffix) {
            None => Range::Whole,
            Some(0) => Range::Unsatisfiable,
            Some(_) if total == 0 => Range::Unsatisfiable,
            Some(len) => Range::Part(total.saturating_sub(len), total - 1),
        },
        (first, last) => {
            let (Some(first), Some(last)) =
                (number(first), if last.is_empty() { Some(u64::MAX) } else { number(last) })
            else {
                return Range::Whole;
            };
            if last < first {
                Range::Whole
            } else if first >= total {
                Range::Unsatisfiable
            } else {
                Range::Part(first, last.min(total - 1))
            }
        }
    }
}

/// Weak comparison: a `W/` in front does not matter.
pub fn matches(tags: &str, ours: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_forms_of_the_rfc() {
        for (header, expected) in [
            ("bytes=0-499", Range::Part(0, 499)),
            ("bytes=500-", Range::Part(500, 999)),
            ("bytes=-1", Range::Part(999, 999)),
            ("bytes=-5000", Range::Part(0, 999)),
            ("bytes=900-5000", Range::Part(900, 999)),
            ("bytes=1000-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=5-2", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("bytes=a-b", Range::Whole),
        ] {
            assert_eq!(read(header, 1000), expected, "{header}");
        }
    }

    #[test]
    fn tags_match_in_lists_and_weakly() {
        assert!(matches("\"a\", W/\"b\"", "\"b\""));
        assert!(matches("*", "\"b\""));
        assert!(!matches("\"bb\"", "\"b\""));
    }

    proptest! {
        #[test]
        fn a_part_is_always_inside(header in "(bytes=)?[0-9]{0,20}-?[0-9]{0,20}", total in 0u64..10_000) {
            if let Range::Part(first, last) = read(&header, total) {
                prop_assert!(first <= last && last < total);
            }
        }
    }
}
