//! Whether a node may run an etcd member. Pure.

use crate::{EtcdMember, PROTOCOL};

/// Why it may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberError {
    /// `protocol`, `wrongGeneration` or `invalid`.
    pub kind: &'static str,
    pub message: String,
}

impl MemberError {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Refuses what must not run here. `generation` is that of the installation.
pub fn check(member: &EtcdMember, generation: u64) -> Result<(), MemberError> {
    if member.protocol != PROTOCOL {
        let message = format!("the member speaks protocol {}, this is {PROTOCOL}", member.protocol);
        return Err(MemberError::new("protocol", message));
    }
    if member.generation != generation {
        let message = format!(
            "this installation has generation {generation}, the member is for generation {}: it is not started",
            member.generation
        );
        return Err(MemberError::new("wrongGeneration", message));
    }
    if !matches!(member.initial_cluster_state.as_str(), "new" | "existing") {
        return Err(MemberError::new("invalid", "initialClusterState must be new or existing"));
    }
    folder(member).map(|_| ())
}

/// Name of the member's data directory: one for every bootstrap, so that data of a former cluster is never found by
/// a new one.
pub fn folder(member: &EtcdMember) -> Result<&str, MemberError> {
    let token = &member.initial_cluster_token;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if token.is_empty() || token.len() > 128 || !token.chars().all(plain) {
        return Err(MemberError::new("invalid", "initialClusterToken must be 1 to 128 letters, digits, - and _"));
    }
    Ok(token)
}
