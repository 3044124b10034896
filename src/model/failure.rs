//! What every failure says: what, where, why, and the next command to type.

use serde::{Deserialize, Serialize};

/// Why something failed, as far as anybody's next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// No answer: unknown, not failed.
    Unreachable,
    /// An answer did not come within the step's deadline.
    Deadline,
    /// The peer is not the pinned one.
    Untrusted,
    /// The credential was refused. Never tried again by itself.
    Unauthorized,
    /// The peer took the request and did nothing.
    AcceptedButIgnored,
    /// The peer refused the request, or cannot do it.
    Refused,
    /// The peer is busy or says "later".
    Busy,
    /// A guard of ours forbids it.
    Guard,
    /// Identity, disk or digest is not what it must be.
    Mismatch,
    /// The peer's answer makes no sense.
    Malformed,
    /// Files, sockets, processes of this host.
    Local,
    /// The operator asked to stop.
    Interrupted,
    /// Only a person can say what happened.
    NeedsPerson,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}: {why}")]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub cause: Cause,
    /// What was being done, with its object: `n1: set boot override to pxe`.
    pub what: String,
    /// Why it did not work, in full: both values where two differ.
    pub why: String,
    /// The next command to type, if one helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Failure {
    pub fn new(cause: Cause, what: impl Into<String>, why: impl Into<String>) -> Self {
        Failure { cause, what: what.into(), why: why.into(), next: None }
    }
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next = Some(command.into());
        self
    }
}
