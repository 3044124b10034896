//! Level 3: what must survive the process: runs, their journal, locks, what is known of each node.
//!
//! One trait, so that every back end is held to one conformance suite (`tests/store_conformance.rs`). Everything
//! here is durable when the call returns: an effect may follow it (invariant 4).

pub mod audit;
mod chain;
pub mod clock;
mod error;
pub mod etcd;
mod export;
mod holder;
mod lock;
mod memory;
pub mod outline;
mod parts;
mod record;
mod rescue;
mod sqlite;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{Stamp, facts::NodeRecord};

pub use chain::{Broken, verify};
pub use error::StoreError;
pub use etcd::{EtcdStore, EtcdUrl};
pub use export::{Approval, EXPORT_VERSION, Export, Head, Lineage, Sighting};
pub use holder::Holder;
pub use lock::{Claim, Control, ControlKind, Fence, Lock, fenced, stolen};
pub use memory::MemoryStore;
pub use outline::{RunHead, Standing, Standings};
pub use record::{Draft, Record, RecordKind, RunRecord, RunState};
pub use sqlite::{Migrated, Replacement, SqliteStore};

/// Journal format; a golden journal of each version stands in `tests/golden`.
pub const SCHEMA_VERSION: u32 = 2;

/// How long a lock is good for without a renewal, unless the caller says otherwise.
pub const LEASE: Duration = Duration::from_secs(30);

/// A log-in to a BMC that may still be open there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BmcSession {
    pub node: String,
    /// Absent: the log-in was begun, its answer is not known.
    pub uri: Option<String>,
    pub holder: Holder,
    /// Which of the holder's log-ins, counted from 1. Absent in notes of versions that kept one a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<u64>,
    /// When the log-in was sent, by its host's clock. Absent in notes of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// Its holder lost its locks by order: the session is anybody's to close, wherever the holder is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abandoned: bool,
}

/// A BMC may take this long with a log-in whose connection is gone already.
pub const LOG_IN: Duration = Duration::from_secs(30);

impl BmcSession {
    /// What tells this log-in from every other one of any process: 16 hexadecimal digits of the process, a dash, and
    /// which of its log-ins.
    pub fn mark(&self) -> Option<String> {
        let login = self.login?;
        let Holder { host, boot_id, pid, started_ticks, .. } = &self.holder;
        let process = Sha256::digest(format!("{host}\n{boot_id}\n{pid}\n{started_ticks}"));
        Some(format!("{}-{login}", hex::encode(&process[..8])))
    }

    /// What was found at its BMC is all that will ever be there: its answer came, or could not come any more.
    pub fn settled(&self, now_ms: u64) -> bool {
        let late = |at: u64| now_ms.abs_diff(at) > LOG_IN.as_millis() as u64;
        self.uri.is_some() || self.at_ms.is_none_or(late)
    }

    /// Under which it is kept: the node, and the log-in. Nobody's note is in the way of somebody else's.
    pub fn name(&self) -> String {
        self.mark().map_or_else(|| self.node.clone(), |mark| format!("{}/{mark}", self.node))
    }
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
    /// A state that was lost was made anew, and members were found that are set up for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
}

impl ClusterRecord {
    /// More than a permission that nobody is known to have used: it was made, or it is one of which a state that was lost
    /// left nothing but its name.
    pub fn may_exist(&self) -> bool {
        self.cluster_id.is_some() || self.token.is_empty() || self.found
    }
}

/// Clusters that may exist, and the generation of each.
///
/// # Errors
/// The store cannot be read.
pub fn cluster_generations<'a>(
    store: &dyn Store,
    names: impl Iterator<Item = &'a String>,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(record) = store.cluster_record(name)?.filter(ClusterRecord::may_exist) {
            found.insert(name.clone(), record.generation);
        }
    }
    Ok(found)
}

pub trait Store: Send + Sync {
    fn create_run(&self, run: &RunRecord) -> Result<(), StoreError>;
    fn set_run_state(&self, run: &str, state: RunState, ended_ms: Option<u64>) -> Result<(), StoreError>;
    /// Newest first.
    fn runs(&self) -> Result<Vec<RunRecord>, StoreError>;
    fn run(&self, id: &str) -> Result<Option<RunRecord>, StoreError>;
    /// All runs without their fleets and plans, newest first: what lists show.
    fn run_heads(&self) -> Result<Vec<RunHead>, StoreError> {
        Ok(self.runs()?.iter().map(RunHead::from).collect())
    }

    /// Appends one record; refused (`Fenced`, naming the new holder) unless every lock of `fence` is still the one
    /// that it was given with. `Unwritten` gives the draft back when it could not be made durable.
    fn append(&self, run: &str, now_ms: u64, fence: &Fence, draft: Draft) -> Result<Record, StoreError>;
    fn journal(&self, run: &str) -> Result<Vec<Record>, StoreError>;
    /// The whole chain, all runs.
    fn chain(&self) -> Result<Vec<Record>, StoreError>;
    /// How the journal leaves each subject, without reading all of it wherever a back end can. For views alone.
    fn standings(&self) -> Result<Standings, StoreError> {
        let mut standings = Standings::new();
        outline::fold(&mut standings, &self.chain()?);
        Ok(standings)
    }
    /// The last records, oldest first, so many at most; of one subject, where one is named. For views alone.
    fn last_records(&self, subject: Option<&str>, most: usize) -> Result<Vec<Record>, StoreError> {
        let mut records = self.chain()?;
        records.retain(|r| subject.is_none_or(|s| r.subject == s));
        Ok(records.split_off(records.len().saturating_sub(most)))
    }
    /// End of the chain, without reading it.
    fn head(&self) -> Result<Head, StoreError>;

    /// All or none. The locks of a dead process of this host are taken over with a higher fence. A lock whose lease
    /// ran out while its holder may live is not: `Locked`, with `expired` set.
    fn lock(
        &self,
        names: &[String],
        run: &str,
        holder: &Holder,
        now: &Stamp,
        ttl: Duration,
    ) -> Result<Fence, StoreError>;
    /// Makes the leases of all these locks good from `now` on. `Fenced` when one is no longer ours; then none is.
    fn renew(&self, fence: &Fence, now: &Stamp) -> Result<(), StoreError>;
    /// Takes locks over by order: expired ones, others only with `force`. All or none, with higher fences; each
    /// change of hands is journaled as `LockStolen` in `run`.
    #[allow(clippy::too_many_arguments)] // Who, what, when, and the order: none of them has a default.
    fn steal(
        &self,
        names: &[String],
        run: &str,
        holder: &Holder,
        now: &Stamp,
        ttl: Duration,
        force: bool,
        reason: &str,
    ) -> Result<Fence, StoreError>;
    /// A lock that is no longer ours stays with its holder.
    fn unlock(&self, fence: &Fence) -> Result<(), StoreError>;
    /// By name, each with `expired` as of now.
    fn locks(&self) -> Result<Vec<Lock>, StoreError>;

    /// What the operator asks of a run: `None` takes it back.
    fn set_control(&self, run: &str, control: Option<&Control>) -> Result<(), StoreError>;
    fn control(&self, run: &str) -> Result<Option<Control>, StoreError>;

    /// A second one of the same approver for the same plan replaces the first.
    fn put_approval(&self, approval: &Approval) -> Result<(), StoreError>;
    /// All for the plans whose hash begins so, expired ones too, by approver: people type a dozen digits of it.
    fn approvals(&self, plan_hash: &str) -> Result<Vec<Approval>, StoreError>;

    fn node_records(&self) -> Result<Vec<(String, NodeRecord)>, StoreError>;
    fn put_node_record(&self, node: &str, record: &NodeRecord) -> Result<(), StoreError>;

    fn cluster_record(&self, cluster: &str) -> Result<Option<ClusterRecord>, StoreError>;
    /// Compare and set on the generation: `expected` is the one that the caller read (0: none).
    fn put_cluster_record(&self, cluster: &str, expected: u64, record: &ClusterRecord) -> Result<(), StoreError>;

    /// Log-ins that may still be open in BMCs, by node.
    fn bmc_sessions(&self) -> Result<Vec<BmcSession>, StoreError>;
    /// A second note of the same log-in replaces the first; each log-in of each process has its own.
    fn put_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError>;
    /// Of this log-in alone; one that is not noted is no error.
    fn drop_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError>;

    /// Last observation of a node, for `get` and `describe`.
    fn put_observed(&self, node: &str, at_ms: u64, facts: &serde_json::Value) -> Result<(), StoreError>;
    /// Those of many nodes, of one moment: at once where the store can.
    fn put_all_observed(&self, at_ms: u64, all: &[(String, serde_json::Value)]) -> Result<(), StoreError> {
        all.iter().try_for_each(|(node, facts)| self.put_observed(node, at_ms, facts))
    }
    fn observed(&self) -> Result<Vec<(String, u64, serde_json::Value)>, StoreError>;

    /// Every observation as JSON text, `{"atMs": …, "facts": {…}}`: who wants a few fields of ten thousand nodes reads
    /// those alone.
    fn each_observed(&self, each: &mut dyn FnMut(&str, &str)) -> Result<(), StoreError> {
        for (node, at_ms, facts) in self.observed()? {
            each(&node, &serde_json::json!({ "atMs": at_ms, "facts": facts }).to_string());
        }
        Ok(())
    }

    fn lineage(&self) -> Result<Lineage, StoreError>;
    /// Where its content was moved to, if it was.
    fn moved(&self) -> Result<Option<String>, StoreError>;
    /// From then on every write that matters is refused, naming the place. Refused itself (`Locked`) while anybody who
    /// may live holds a lock. `None` opens it again.
    fn set_moved(&self, to: Option<&str>) -> Result<(), StoreError>;
    /// Everything but locks, as it is at one moment.
    fn export(&self) -> Result<Export, StoreError>;
    /// Into an empty store only (`Conflict` otherwise), and only with a chain that verifies. The store goes on with
    /// the export's lineage.
    fn import(&self, export: &Export) -> Result<(), StoreError>;
}

fn ttl_ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

/// The refusal of a compare-and-set.
pub fn made_meanwhile(cluster: &str, now: u64, expected: u64) -> StoreError {
    StoreError::Conflict(format!(
        "cluster {cluster} is at generation {now}, not {expected}: somebody else made it meanwhile"
    ))
}

/// The refusal of a write into a store whose content is elsewhere now.
pub fn moved_to(place: &str) -> StoreError {
    let why = format!("its content was moved to {place}: what is written here would be missed there");
    let failure = crate::model::Failure::new(crate::model::failure::Cause::Guard, "state", why);
    StoreError::Failed(failure.next(format!("rackctl --store {place} …")))
}

/// Nobody who may live holds one of these.
fn all_free(locks: impl IntoIterator<Item = Lock>) -> Result<(), StoreError> {
    match locks.into_iter().find(|lock| lock.holder.alive()) {
        Some(held) => Err(StoreError::Locked(Box::new(held))),
        None => Ok(()),
    }
}

/// The refusal of an import that would mix two histories.
pub fn not_empty() -> StoreError {
    StoreError::Conflict("the store is not empty: an import would mix two histories".to_owned())
}
