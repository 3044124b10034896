//! A store's whole content as one value: what moves between back ends, and what a backup is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BmcSession, ClusterRecord, Control, Holder, Record, RunRecord, SCHEMA_VERSION, StoreError, verify};
use crate::model::{Failure, approval::Envelope, facts::NodeRecord, failure::Cause};

/// End of the chain. `seq` 0 with an empty hash: nothing was recorded yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    pub seq: u64,
    pub hash: String,
}

/// Which history a store tells, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    pub id: Uuid,
    /// Rises with each write that matters. An older copy of the same store has a lower one.
    pub serial: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    pub plan_hash: String,
    pub envelope: Envelope,
    pub approver: Holder,
    pub at_ms: u64,
    pub expires_ms: u64,
}

impl Approval {
    /// Under which it is kept: an approver speaks once for a plan.
    pub fn name(&self) -> String {
        format!("{}/{}@{}", self.plan_hash, self.approver.user, self.approver.host)
    }
}

/// The last observation of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    pub at_ms: u64,
    pub facts: serde_json::Value,
}

/// Locks are not in it: they belong to processes, and stay with the store that gave them. Their fences are, so
/// that no number is given twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// Of the journal's format.
    pub schema: u32,
    pub lineage: Lineage,
    pub head: Head,
    /// By id.
    pub runs: Vec<RunRecord>,
    /// The whole chain, in order.
    pub records: Vec<Record>,
    /// Highest fence given, by lock name.
    pub fences: BTreeMap<String, u64>,
    pub nodes: BTreeMap<String, NodeRecord>,
    pub clusters: BTreeMap<String, ClusterRecord>,
    /// By node.
    pub bmc_sessions: Vec<BmcSession>,
    pub observed: BTreeMap<String, Sighting>,
    /// By run.
    pub controls: BTreeMap<String, Control>,
    /// By plan hash, then approver.
    pub approvals: Vec<Approval>,
}

impl Export {
    /// Refuses what this version cannot keep, and a chain that does not hold or does not end at the head.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.schema > SCHEMA_VERSION {
            let why = format!("it has schema {}, this rackctl knows {SCHEMA_VERSION}", self.schema);
            return Err(StoreError::Failed(
                Failure::new(Cause::Malformed, "import", why).next("use the version that wrote it"),
            ));
        }
        let hash = verify(&self.records)?;
        let seq = self.records.len() as u64;
        if (Head { seq, hash }) != self.head {
            let why = format!("it has {seq} records, its head says {}: some are missing at the end", self.head.seq);
            return Err(StoreError::Failed(
                Failure::new(Cause::Malformed, "import", why).next("rackctl audit verify --file FILE"),
            ));
        }
        Ok(())
    }
}
