//! A store's whole content as one value: what moves between back ends, and what a backup is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BmcSession, ClusterRecord, Control, Holder, Record, RunRecord, StoreError, parts, verify};
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

/// Of an export's form. Since 3 fleets and plans stand in it once each, and runs name them.
pub const EXPORT_VERSION: u32 = 3;

/// Locks are not in it: they belong to processes, and stay with the store that gave them. Their fences are, so
/// that no number is given twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// [`EXPORT_VERSION`] of the version that wrote it.
    pub schema: u32,
    pub lineage: Lineage,
    pub head: Head,
    /// By id. Fleets and plans are named, and stand in `contents`; in exports of form 2 they are here.
    pub runs: Vec<RunRecord>,
    /// JSON by `sha256:` and the digest of its text: what runs name, each once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contents: BTreeMap<String, String>,
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
        if self.schema > EXPORT_VERSION {
            let why = format!("it has schema {}, this rackctl knows {EXPORT_VERSION}", self.schema);
            return Err(StoreError::Failed(
                Failure::new(Cause::Malformed, "import", why).next("use the version that wrote it"),
            ));
        }
        let hash = verify(&self.records).map_err(|broken| {
            let failure = Failure::new(Cause::Guard, "import", broken.to_string());
            StoreError::Failed(failure.next("rackctl store export --out FILE"))
        })?;
        let seq = self.records.len() as u64;
        if (Head { seq, hash }) != self.head {
            let why = format!("it has {seq} records, its head says {}: some are missing at the end", self.head.seq);
            return Err(StoreError::Failed(
                Failure::new(Cause::Malformed, "import", why).next("rackctl audit verify --file FILE"),
            ));
        }
        let strange =
            self.contents.iter().find(|(name, text)| parts::name(text) != **name).map(|(name, _)| name.as_str());
        let named = self.runs.iter().flat_map(|run| [&run.fleet, &run.plan]).filter_map(parts::named);
        let missing = || named.into_iter().find(|name| !self.contents.contains_key(*name));
        if let Some(name) = strange.or_else(missing) {
            let why = format!("the fleet or plan {name} of a run is missing, or is not what was written");
            return Err(StoreError::Failed(
                Failure::new(Cause::Malformed, "import", why).next("rackctl store export --out FILE"),
            ));
        }
        Ok(())
    }

    /// A run of it with its fleet and its plan.
    pub fn run(&self, id: &str) -> Option<RunRecord> {
        let kept = self.runs.iter().find(|run| run.id == id)?.clone();
        let absent = |name: &str| StoreError::Conflict(format!("{name} is missing"));
        parts::whole(kept, |name| {
            let text = self.contents.get(name).ok_or_else(|| absent(name))?;
            serde_json::from_str(text).map_err(|_| absent(name))
        })
        .ok()
    }
}
