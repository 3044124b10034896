//! etcd's errors: text, gRPC code, and the HTTP status that its gateway makes of the code.

use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub text: String,
    pub code: u8,
}

const UNKNOWN: u8 = 2;
const INVALID: u8 = 3;
const NOT_FOUND: u8 = 5;
const EXHAUSTED: u8 = 8;
const PRECONDITION: u8 = 9;
const UNAVAILABLE: u8 = 14;

fn etcd(text: &str, code: u8) -> Refusal {
    Refusal { text: format!("etcdserver: {text}"), code }
}

impl Refusal {
    pub fn status(&self) -> u16 {
        match self.code {
            INVALID => 400,
            NOT_FOUND => 404,
            EXHAUSTED => 429,
            PRECONDITION => 412,
            UNAVAILABLE => 503,
            _ => 500,
        }
    }
    pub fn body(&self) -> Value {
        json!({ "error": self.text, "message": self.text, "code": self.code })
    }
    pub fn malformed(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), code: INVALID }
    }
    /// A proposal that no quorum took.
    pub fn deadline() -> Refusal {
        Refusal { text: "context deadline exceeded".into(), code: UNKNOWN }
    }
    /// A linearizable read that no quorum confirmed.
    pub fn timed_out() -> Refusal {
        etcd("request timed out", UNAVAILABLE)
    }
    pub fn no_leader() -> Refusal {
        etcd("no leader", UNAVAILABLE)
    }
    pub fn not_for_learners() -> Refusal {
        etcd("rpc not supported for learner", UNAVAILABLE)
    }
    pub fn unhealthy() -> Refusal {
        etcd("unhealthy cluster", UNAVAILABLE)
    }
    pub fn not_enough_started() -> Refusal {
        etcd("re-configuration failed due to not enough started members", UNKNOWN)
    }
    pub fn id_exists() -> Refusal {
        etcd("member ID already exist", PRECONDITION)
    }
    pub fn url_exists() -> Refusal {
        etcd("Peer URLs already exists", PRECONDITION)
    }
    pub fn too_many_learners() -> Refusal {
        etcd("too many learner members in cluster", PRECONDITION)
    }
    pub fn member_not_found() -> Refusal {
        etcd("member not found", NOT_FOUND)
    }
    pub fn not_a_learner() -> Refusal {
        etcd("can only promote a learner member", PRECONDITION)
    }
    pub fn learner_not_ready() -> Refusal {
        etcd("can only promote a learner member which is in sync with leader", PRECONDITION)
    }
    pub fn not_leader() -> Refusal {
        etcd("not leader", PRECONDITION)
    }
    pub fn bad_transferee() -> Refusal {
        etcd("bad leader transferee", PRECONDITION)
    }
    pub fn no_space() -> Refusal {
        etcd("mvcc: database space exceeded", EXHAUSTED)
    }
    pub fn no_key() -> Refusal {
        etcd("key is not provided", INVALID)
    }
    pub fn no_lease() -> Refusal {
        etcd("requested lease not found", NOT_FOUND)
    }
    pub fn lease_exists() -> Refusal {
        etcd("lease already exists", PRECONDITION)
    }
    pub fn twice_in_txn() -> Refusal {
        etcd("duplicate key given in txn request", INVALID)
    }
}
