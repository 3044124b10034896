//! The keys of a store, all below its prefix.
//!
//! | key | value |
//! |---|---|
//! | `meta` | format, lineage |
//! | `importing` | an import is under way, or was broken off; `moved:PLACE`: the content is there now |
//! | `locks` | the table of locks: one key, so that any number of locks changes hands in one transaction |
//! | `life/HOLD` | exists while the holder's lease lives |
//! | `renewed/HOLD` | when the holder renewed last |
//! | `head` | end of the chain |
//! | `serial` | empty; how often it was written is what counts |
//! | `journal/SEQ` | one record or several, JSON lines; SEQ is the first one's |
//! | `by-run/RUN/SEQ` | that this key of the journal has records of the run; the mark of who wrote it |
//! | `run/…` `node/…` `cluster/…` `session/…` `observed/…` `control/…` `approval/…` | one thing each |
//! | `chunk/SHA256` | a piece of a large value, by its content |

use std::fmt::Display;

#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// Kinds of things that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Node,
    Cluster,
    Session,
    Observed,
    Control,
    Approval,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::Run, Kind::Node, Kind::Cluster, Kind::Session, Kind::Observed, Kind::Control, Kind::Approval];

    fn word(self) -> &'static str {
        match self {
            Kind::Run => "run",
            Kind::Node => "node",
            Kind::Cluster => "cluster",
            Kind::Session => "session",
            Kind::Observed => "observed",
            Kind::Control => "control",
            Kind::Approval => "approval",
        }
    }
}

impl Keys {
    /// `prefix` ends without a slash.
    pub fn new(prefix: &str) -> Keys {
        Keys { prefix: prefix.to_owned() }
    }

    fn key(&self, rest: impl Display) -> Vec<u8> {
        format!("{}/{rest}", self.prefix).into_bytes()
    }

    pub fn all(&self) -> Vec<u8> {
        self.key("")
    }
    pub fn meta(&self) -> Vec<u8> {
        self.key("meta")
    }
    pub fn importing(&self) -> Vec<u8> {
        self.key("importing")
    }
    pub fn locks(&self) -> Vec<u8> {
        self.key("locks")
    }
    pub fn lives(&self) -> Vec<u8> {
        self.key("life/")
    }
    pub fn life(&self, hold: u64) -> Vec<u8> {
        self.key(format_args!("life/{hold}"))
    }
    pub fn renewals(&self) -> Vec<u8> {
        self.key("renewed/")
    }
    pub fn renewed(&self, hold: u64) -> Vec<u8> {
        self.key(format_args!("renewed/{hold}"))
    }
    pub fn head(&self) -> Vec<u8> {
        self.key("head")
    }
    pub fn serial(&self) -> Vec<u8> {
        self.key("serial")
    }
    pub fn journal(&self) -> Vec<u8> {
        self.key("journal/")
    }
    pub fn record(&self, seq: u64) -> Vec<u8> {
        self.key(format_args!("journal/{seq:020}"))
    }
    pub fn by_runs(&self) -> Vec<u8> {
        self.key("by-run/")
    }
    pub fn of_run(&self, run: &str) -> Vec<u8> {
        self.key(format_args!("by-run/{run}/"))
    }
    pub fn by_run(&self, run: &str, seq: u64) -> Vec<u8> {
        self.key(format_args!("by-run/{run}/{seq:020}"))
    }
    pub fn kind(&self, kind: Kind) -> Vec<u8> {
        self.key(format_args!("{}/", kind.word()))
    }
    pub fn named(&self, kind: Kind, name: &str) -> Vec<u8> {
        self.key(format_args!("{}/{name}", kind.word()))
    }
    pub fn chunk(&self, digest: &str) -> Vec<u8> {
        self.key(format_args!("chunk/{digest}"))
    }

    /// What stands behind `start` in a key: a name, a number.
    pub fn rest<'a>(&self, start: &[u8], key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key.strip_prefix(start)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_texts() {
        let keys = Keys::new("/rackctl");
        assert!(keys.record(9) < keys.record(10));
        assert_eq!(keys.record(7), b"/rackctl/journal/00000000000000000007");
        let key = keys.named(Kind::Node, "n1");
        assert_eq!(keys.rest(&keys.kind(Kind::Node), &key), Some("n1"));
        assert!(key.starts_with(&keys.all()));
    }
}
