//! Level 3: what must survive the process: runs, their journal, locks, what is known of each node.
//!
//! One trait, so that every back end is held to one conformance suite. Everything here is durable
//! when the call returns: an effect may follow it (invariant 4).

mod chain;
mod holder;
mod sqlite;

use serde::{Deserialize, Serialize};

use crate::model::{Failure, facts::NodeRecord, goal::Goal};

pub use chain::{Broken, verify};
pub use holder::Holder;
pub use sqlite::SqliteStore;

/// Journal format; a golden journal of each version stands in `tests/golden`.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunState {
    /// Under way, or its process died: the locks tell which.
    Running,
    Succeeded,
    Failed,
    /// Stopped by the operator; can be resumed.
    Interrupted,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    pub id: String,
    pub started_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    pub state: RunState,
    pub goal: Goal,
    pub plan_hash: String,
    /// Fleet and plan as they were when the run was started (JSON): resume never reads the inventory again.
    pub fleet: serde_json::Value,
    pub plan: serde_json::Value,
    pub actor: Holder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordKind {
    RunStarted,
    RunResumed,
    /// What a step found before doing anything.
    Observed,
    /// An effect is about to begin.
    Intent,
    /// What the effect's driver answered.
    Result,
    /// The step holds, verified by observation.
    Done,
    Failed,
    /// A fact that an effect depends on: a claim, a disk report, a ticket.
    Fact,
    Finalized,
    RunEnded,
}

/// What the caller says; the store adds run, sequence, time, fence, actor and hashes.
#[derive(Clone, Debug)]
pub struct Draft {
    pub subject: String,
    pub step: String,
    pub attempt: u32,
    pub kind: RecordKind,
    pub body: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub schema: u32,
    pub run: String,
    pub seq: u64,
    pub at_ms: u64,
    pub subject: String,
    pub step: String,
    pub attempt: u32,
    pub kind: RecordKind,
    pub fence: u64,
    pub actor: String,
    pub body: serde_json::Value,
    /// Hash of the record before in this store; empty for the first.
    pub previous: String,
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// `node/n1`, `cluster/core`, `network/prov`.
    pub name: String,
    pub run: String,
    pub holder: Holder,
    pub fence: u64,
    pub since_ms: u64,
}

/// A log-in to a BMC that may still be open there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BmcSession {
    pub node: String,
    /// Absent: the log-in was begun, its answer is not known.
    pub uri: Option<String>,
    pub holder: Holder,
}

/// The right to make a cluster, given once per generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRecord {
    pub generation: u64,
    pub run: String,
    pub bootstrap_member: String,
    /// etcd's initial cluster token: fresh for every generation.
    pub token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0}")]
    Failed(#[from] Failure),
    #[error("{} is held by {} (run {}) since {}", .0.name, .0.holder, .0.run, crate::model::clock::utc(.0.since_ms))]
    Locked(Box<Lock>),
    #[error("the lock {name} (fence {fence}) is no longer ours: {holder}")]
    Fenced { name: String, fence: u64, holder: String },
    #[error("{0}")]
    Conflict(String),
}

pub trait Store: Send + Sync {
    fn create_run(&self, run: &RunRecord) -> Result<(), StoreError>;
    fn set_run_state(&self, run: &str, state: RunState, ended_ms: Option<u64>) -> Result<(), StoreError>;
    /// Newest first.
    fn runs(&self) -> Result<Vec<RunRecord>, StoreError>;
    fn run(&self, id: &str) -> Result<Option<RunRecord>, StoreError>;

    /// Appends one record; refused (`Fenced`) unless every lock of the run still bears `fence`'s holder.
    fn append(&self, run: &str, now_ms: u64, fence: &Fence, draft: Draft) -> Result<Record, StoreError>;
    fn journal(&self, run: &str) -> Result<Vec<Record>, StoreError>;
    /// The whole chain, all runs.
    fn chain(&self) -> Result<Vec<Record>, StoreError>;

    /// All or none. A dead holder's locks are taken over with a higher fence.
    fn lock(&self, names: &[String], run: &str, holder: &Holder, now_ms: u64) -> Result<Fence, StoreError>;
    fn unlock(&self, fence: &Fence) -> Result<(), StoreError>;
    fn locks(&self) -> Result<Vec<Lock>, StoreError>;

    fn node_records(&self) -> Result<Vec<(String, NodeRecord)>, StoreError>;
    fn put_node_record(&self, node: &str, record: &NodeRecord) -> Result<(), StoreError>;

    fn cluster_record(&self, cluster: &str) -> Result<Option<ClusterRecord>, StoreError>;
    /// Compare and set on the generation: `expected` is the one that the caller read (0: none).
    fn put_cluster_record(&self, cluster: &str, expected: u64, record: &ClusterRecord) -> Result<(), StoreError>;

    fn bmc_sessions(&self) -> Result<Vec<BmcSession>, StoreError>;
    fn put_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError>;
    fn drop_bmc_session(&self, node: &str) -> Result<(), StoreError>;

    /// Last observation of a node, for `get` and `describe`.
    fn put_observed(&self, node: &str, at_ms: u64, facts: &serde_json::Value) -> Result<(), StoreError>;
    fn observed(&self) -> Result<Vec<(String, u64, serde_json::Value)>, StoreError>;
}

/// Proof of holding locks: their names and fences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub locks: Vec<(String, u64)>,
    pub actor: String,
}

impl Fence {
    pub fn highest(&self) -> u64 {
        self.locks.iter().map(|(_, fence)| *fence).max().unwrap_or(0)
    }
}
