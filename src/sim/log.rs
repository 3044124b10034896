//! What happened in the world, told by the world itself. The invariants are checked against this, never against what
//! the product says of itself.

use std::fmt;

use uuid::Uuid;

/// Who did it: a process of the tool, carrying a step out. `step` is empty for what belongs to no step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub process: u32,
    pub step: String,
    pub attempt: u32,
}

impl Cause {
    /// Steps that stand for the way out and for sweeping up after a crash.
    pub const FINALIZE: &'static str = "finalize";

    /// The node or `cluster/NAME` of the step.
    pub fn subject(&self) -> &str {
        self.step.rsplit_once('/').map_or("", |(subject, _)| subject)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    PowerOn {
        node: String,
    },
    /// `served`: it was a healthy member at that moment.
    PowerOff {
        node: String,
        served: bool,
    },
    /// The BMC took a reset request; what it asked for.
    Reset {
        node: String,
        action: &'static str,
        done: bool,
    },
    OverrideSet {
        node: String,
    },
    OverrideCleared {
        node: String,
    },
    /// A process's servers offer the installer to the machine from now on, or do not any more.
    Offered {
        node: String,
    },
    Withdrawn {
        node: String,
    },
    DhcpInstaller {
        node: String,
    },
    BootsInstaller {
        node: String,
    },
    BootsDisk {
        node: String,
        whole: bool,
    },
    NothingToBoot {
        node: String,
    },
    Up {
        node: String,
        generation: u64,
    },
    Claimed {
        node: String,
    },
    /// An installer was given the right to write.
    Ticket {
        node: String,
    },
    /// A disk of this machine loses what it held.
    Wipe {
        node: String,
        serial: String,
        guid: Uuid,
        run: String,
        ticket: String,
        foreign: bool,
        /// Generation of the whole system that was on it.
        over: Option<u64>,
    },
    Written {
        node: String,
        guid: Uuid,
        generation: u64,
    },
    Bootstrap {
        cluster: String,
        id: u64,
        node: String,
    },
    MemberAdded {
        cluster: String,
        peer_url: String,
    },
    /// `wiped`: nothing of a member is on its machine's disk.
    MemberRemoved {
        cluster: String,
        node: String,
        wiped: bool,
        learner: bool,
    },
    Promoted {
        cluster: String,
        node: String,
        synced: bool,
    },
    MemberUp {
        cluster: String,
        node: String,
        generation: u64,
    },
    /// A running member stops; `quorum`: whether the cluster still had one before and after.
    MemberDown {
        cluster: String,
        node: String,
        before: bool,
        after: bool,
    },
    SessionOpened {
        node: String,
    },
    SessionClosed {
        node: String,
    },
    RackDark {
        rack: String,
    },
    RackLit {
        rack: String,
    },
    /// Somebody set a host's wall clock.
    ClockSet {
        host: String,
        by_ms: i64,
    },
    /// A member ran out of space, or has room again.
    Alarm {
        cluster: String,
        raised: bool,
    },
    DiskSwapped {
        node: String,
        generation: u64,
    },
    /// The state was lost, or replaced by an older copy.
    StateLost {
        older: bool,
    },
    BmcAway {
        node: String,
        ms: u64,
    },
    ToolStarted {
        host: String,
        doing: String,
    },
    ToolDied {
        why: &'static str,
    },
    ToolSuspended {
        ms: u64,
    },
    ToolEnded {
        run: String,
        told: String,
    },
    Note {
        text: String,
    },
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub at: u64,
    pub cause: Option<Cause>,
    pub what: What,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9}.{:03} s  ", self.at / 1_000, self.at % 1_000)?;
        match &self.cause {
            Some(c) if c.step.is_empty() => write!(f, "[{}] ", c.process)?,
            Some(c) => write!(f, "[{} {}#{}] ", c.process, c.step, c.attempt)?,
            None => {}
        }
        write!(f, "{:?}", self.what)
    }
}

#[derive(Default)]
pub struct Log {
    pub entries: Vec<Entry>,
}

impl Log {
    pub fn push(&mut self, at: u64, cause: Option<&Cause>, what: What) {
        self.entries.push(Entry { at, cause: cause.cloned(), what });
    }

    /// The last entries up to `until` about any of these nodes; of no nodes: all.
    pub fn around(&self, nodes: &[String], until: u64, count: usize) -> Vec<String> {
        let told: Vec<String> = self
            .entries
            .iter()
            .filter(|e| e.at <= until)
            .filter(|e| !matches!(e.what, What::SessionOpened { .. } | What::SessionClosed { .. }))
            .map(ToString::to_string)
            .filter(|line| {
                let about = |n: &String| line.contains(&format!("{n}\"")) || line.contains(&format!("{n}/"));
                nodes.is_empty() || line.contains("Tool") || nodes.iter().any(about)
            })
            .collect();
        told[told.len().saturating_sub(count)..].to_vec()
    }
}
