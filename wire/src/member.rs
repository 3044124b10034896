//! Whether a node may run an etcd member. Pure.

use crate::{EtcdMember, PROTOCOL};

/// Why it may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberError {
    /// `protocol`, `wrongGeneration`, `otherCluster` or `invalid`.
    pub kind: &'static str,
    pub message: String,
}

impl MemberError {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Refuses what must not run here. `generation` is that of the installation, `known` the member that this installation
/// was told to run before, whether it runs or not.
///
/// A cluster is begun once in the life of an installation: two operators who know nothing of each other and both see no
/// cluster do not both begin one. Which of them is first, the node decides.
pub fn check(member: &EtcdMember, generation: u64, known: Option<&EtcdMember>) -> Result<(), MemberError> {
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
    if let Some(known) = known
        && member.initial_cluster_state == "new"
        && known.initial_cluster_token != member.initial_cluster_token
    {
        let message = format!(
            "this installation has a member of cluster {} already (token {}): no other cluster is begun on it",
            known.cluster, known.initial_cluster_token
        );
        return Err(MemberError::new("otherCluster", message));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn member(state: &str, token: &str) -> EtcdMember {
        EtcdMember {
            protocol: PROTOCOL,
            generation: 1,
            cluster: "main".into(),
            name: "n1".into(),
            initial_cluster_state: state.into(),
            initial_cluster: "n1=http://10.0.0.1:2380".into(),
            initial_cluster_token: token.into(),
            listen_client_urls: "http://10.0.0.1:2379".into(),
            advertise_client_urls: "http://10.0.0.1:2379".into(),
            listen_peer_urls: "http://10.0.0.1:2380".into(),
            initial_advertise_peer_urls: "http://10.0.0.1:2380".into(),
        }
    }

    // fault: F43 F45 invariant: I6 I7 harness: D
    #[test]
    fn a_cluster_is_begun_once_in_the_life_of_an_installation() {
        let first = member("new", "a");
        assert_eq!(check(&first, 1, None), Ok(()));
        assert_eq!(check(&first, 1, Some(&first)), Ok(()), "the same one again is the same one");
        let refused = check(&member("new", "b"), 1, Some(&first)).unwrap_err();
        assert_eq!(refused.kind, "otherCluster");
        assert!(refused.message.contains("token a"), "{}", refused.message);
        // Who joins an existing cluster has been let in by its members.
        assert_eq!(check(&member("existing", "b"), 1, Some(&first)), Ok(()));
        assert_eq!(check(&first, 2, Some(&first)).unwrap_err().kind, "wrongGeneration");
    }
}
