//! Which process a recorded id means. Pure: text of /proc in, answers out.

use serde::{Deserialize, Serialize};

/// A process id counts only with the moment of its start and the boot of the host: ids are used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks since the host's boot (proc_pid_stat(5), field 22).
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// Who holds a laboratory's namespace, in the lock file under [`super::layout::OWNERS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Owner {
    pub process: ProcessId,
    pub dir: std::path::PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub state: char,
    pub parent: i32,
    pub start_ticks: u64,
}

/// The line of /proc/PID/stat. The command stands in parentheses and may hold any byte, parentheses too.
pub fn parse_stat(line: &str) -> Option<Stat> {
    let rest = line.get(line.rfind(')')? + 1..)?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // Fields 5 to 21 stand between the parent and the start.
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, start_ticks })
}

/// Is the recorded process the one that has its id now? A zombie has ended.
pub fn is_same(recorded: &ProcessId, boot_id: &str, now: Option<Stat>) -> bool {
    recorded.boot_id == boot_id
        && now.is_some_and(|stat| stat.start_ticks == recorded.start_ticks && !matches!(stat.state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 1 0 987654 1000 200 18446";

    fn recorded(start_ticks: u64, boot_id: &str) -> ProcessId {
        ProcessId { pid: 4711, start_ticks, boot_id: boot_id.into() }
    }

    #[test]
    fn reads_past_any_command_name() {
        assert_eq!(parse_stat(LINE), Some(Stat { state: 'S', parent: 1, start_ticks: 987654 }));
        for text in ["", "1", "1 (x", "1 (x) S", "1 (x) S 1 2 3"] {
            assert_eq!(parse_stat(text), None, "{text}");
        }
    }

    #[test]
    fn a_reused_id_another_boot_or_a_zombie_is_not_ours() {
        let now = parse_stat(LINE);
        assert!(is_same(&recorded(987654, "b1"), "b1", now));
        assert!(!is_same(&recorded(987653, "b1"), "b1", now));
        assert!(!is_same(&recorded(987654, "b1"), "b2", now));
        assert!(!is_same(&recorded(987654, "b1"), "b1", None));
        assert!(!is_same(&recorded(987654, "b1"), "b1", parse_stat(&LINE.replace(" S 1 ", " Z 1 "))));
    }
}
