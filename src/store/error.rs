//! What can go wrong in a store.

use super::{Draft, Lock};
use crate::model::{Failure, clock::utc, failure::Cause};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0}")]
    Failed(#[from] Failure),
    #[error("{} is held by {} (run {}) since {}{}", .0.name, .0.holder, .0.run, utc(.0.since_ms), hint(.0))]
    Locked(Box<Lock>),
    #[error("the lock {name} (fence {fence}) is no longer ours: {holder}")]
    Fenced { name: String, fence: u64, holder: String },
    #[error("{0}")]
    Conflict(String),
    /// A record did not become durable: nothing may be done that depends on it. What was to be recorded comes back,
    /// so that it can be told where no disk is needed (standard error).
    #[error("{failure}")]
    Unwritten { failure: Failure, run: String, draft: Box<Draft> },
}

/// How a lock whose holder may live can still be had.
fn hint(lock: &Lock) -> String {
    if lock.expired {
        format!("; its lease has run out: rackctl lock steal {} --reason TEXT", lock.name)
    } else {
        String::new()
    }
}

impl StoreError {
    /// As what it was, where it is a failure already.
    pub fn to_failure(&self) -> Failure {
        match self {
            StoreError::Failed(failure) | StoreError::Unwritten { failure, .. } => failure.clone(),
            StoreError::Locked(lock) => Failure::new(Cause::Guard, format!("lock {}", lock.name), self.to_string())
                .next(if lock.expired { "rackctl lock steal NAME --reason TEXT" } else { "rackctl lock list" }),
            StoreError::Fenced { .. } => {
                Failure::new(Cause::Guard, "state", self.to_string()).next("rackctl lock list")
            }
            StoreError::Conflict(_) => Failure::new(Cause::Guard, "state", self.to_string()).next("rackctl runs"),
        }
    }

    /// The record that was not written, as one line of JSON: for standard error, when nothing else can keep it.
    pub fn dump(&self) -> Option<String> {
        let StoreError::Unwritten { run, draft, .. } = self else { return None };
        serde_json::to_string(&serde_json::json!({ "run": run, "unwritten": draft })).ok()
    }
}
