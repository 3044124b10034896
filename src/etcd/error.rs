//! What etcd's error texts mean for the next step. The gateway sends `{"error": TEXT, "code": N}`; the code
//! is gRPC's and too coarse (`FailedPrecondition` covers both "done already" and "not yet"), so the text decides.
//! Texts: etcd `api/v3rpc/rpctypes/error.go`, the same in 3.4 and 3.5.

use std::time::Duration;

use super::client::BODY_MAX_BYTES;
use crate::model::{Failure, failure::Cause};

/// Why one call to one endpoint gave no answer of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing listens there: the connection was refused. Proof that no etcd runs at this address now.
    NotListening(String),
    /// No connection, or it broke: whether the request was carried out is unknown.
    Unreachable(String),
    /// No answer in this time: unknown.
    Deadline(Duration),
    /// etcd answered with an error.
    Etcd(Kind, String),
    /// An answer that is none of etcd's.
    Malformed(String),
    /// More than [`BODY_MAX_BYTES`]: to be asked for in smaller pieces.
    TooLarge,
}

/// Classes of etcd's own errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `member add`: a member with this peer URL exists. Done already. An id is made of URL and time in seconds,
    /// so that the same call twice within a second is refused for the id and not for the URL.
    PeerUrlExists,
    /// `member promote`: it is a voter. Done already.
    NotALearner,
    /// `member promote` and `remove`: no such id. For a removal, done already.
    MemberNotFound,
    /// `member promote`: the learner has not caught up.
    LearnerNotReady,
    /// `member add`: some voter was not connected for about 5 s. Passes by itself after restarts.
    UnhealthyCluster,
    /// Too few started members for a change of membership.
    NotEnoughStarted,
    /// One learner is there already.
    TooManyLearners,
    /// A learner does not serve this call.
    LearnerUnsupported,
    /// A lease of this id is there. Done already.
    LeaseExists,
    /// It ran out, or was revoked.
    LeaseNotFound,
    /// The token of a log-in is no longer good.
    TokenExpired,
    /// The revision that was asked for is no longer kept.
    Compacted,
    /// No leader, no quorum, time ran out inside etcd: the outcome is unknown.
    NoQuorum,
    /// Any other refusal.
    Other,
}

/// Exact texts first: "can only promote a learner member" is a prefix of a text that says the opposite.
pub fn classify(text: &str) -> Kind {
    let text = text.trim().trim_start_matches("etcdserver: ");
    match text {
        "Peer URLs already exists" | "member ID already exist" => Kind::PeerUrlExists,
        "can only promote a learner member" => Kind::NotALearner,
        "member not found" => Kind::MemberNotFound,
        "can only promote a learner member which is in sync with leader" => Kind::LearnerNotReady,
        "unhealthy cluster" => Kind::UnhealthyCluster,
        "re-configuration failed due to not enough started members" => Kind::NotEnoughStarted,
        "too many learner members in cluster" => Kind::TooManyLearners,
        "rpc not supported for learner" => Kind::LearnerUnsupported,
        "lease already exists" => Kind::LeaseExists,
        "requested lease not found" => Kind::LeaseNotFound,
        "invalid auth token" | "revision of auth store is old" => Kind::TokenExpired,
        "mvcc: required revision has been compacted" => Kind::Compacted,
        "no leader" | "leader changed" | "not leader" | "server stopped" | "context deadline exceeded" => {
            Kind::NoQuorum
        }
        _ if text.starts_with("request timed out") => Kind::NoQuorum,
        _ => Kind::Other,
    }
}

impl Fault {
    /// Whether the request may have been carried out all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Fault::Unreachable(_) | Fault::Deadline(_) | Fault::Etcd(Kind::NoQuorum, _))
    }

    /// Whether waiting can help.
    pub fn is_transient(&self) -> bool {
        self.is_unknown()
            || matches!(
                self,
                Fault::NotListening(_)
                    | Fault::Etcd(Kind::UnhealthyCluster | Kind::NotEnoughStarted | Kind::LearnerNotReady, _)
            )
    }

    pub fn kind(&self) -> Option<Kind> {
        match self {
            Fault::Etcd(kind, _) => Some(*kind),
            _ => None,
        }
    }

    pub fn why(&self) -> String {
        match self {
            Fault::NotListening(why) | Fault::Unreachable(why) => why.clone(),
            Fault::Deadline(after) => format!("no answer within {} ms", after.as_millis()),
            Fault::Etcd(Kind::NoQuorum, text) => format!("the cluster has no quorum or no leader just now ({text})"),
            Fault::Etcd(_, text) => format!("etcd says: {text}"),
            Fault::Malformed(why) => format!("not an answer of etcd: {why}"),
            Fault::TooLarge => format!("an answer of more than {BODY_MAX_BYTES} bytes"),
        }
    }

    pub fn failure(&self, what: impl Into<String>) -> Failure {
        let cause = match self {
            Fault::NotListening(_) | Fault::Unreachable(_) => Cause::Unreachable,
            Fault::Deadline(_) | Fault::Etcd(Kind::NoQuorum, _) => Cause::Deadline,
            Fault::Etcd(Kind::UnhealthyCluster | Kind::NotEnoughStarted | Kind::LearnerNotReady, _) => Cause::Busy,
            Fault::Etcd(..) => Cause::Refused,
            Fault::Malformed(_) | Fault::TooLarge => Cause::Malformed,
        };
        Failure::new(cause, what, self.why())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_does_not_decide() {
        assert_eq!(classify("etcdserver: can only promote a learner member"), Kind::NotALearner);
        assert_eq!(
            classify("etcdserver: can only promote a learner member which is in sync with leader"),
            Kind::LearnerNotReady
        );
    }

    // fault: F40 invariant: I15 harness: D
    #[test]
    fn no_quorum_is_unknown_and_a_refusal_is_not() {
        let lost = "etcdserver: request timed out, possibly due to previous leader failure";
        let fault = Fault::Etcd(classify(lost), lost.into());
        assert!(fault.is_unknown());
        assert_eq!(fault.failure("put").cause, Cause::Deadline);
        let refused = Fault::Etcd(classify("etcdserver: mvcc: database space exceeded"), String::new());
        assert!(!refused.is_unknown() && !refused.is_transient());
        assert_eq!(refused.failure("put").cause, Cause::Refused);
        assert_eq!(Fault::Etcd(Kind::UnhealthyCluster, String::new()).failure("add").cause, Cause::Busy);
    }
}
