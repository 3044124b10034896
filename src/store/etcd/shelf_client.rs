//! What is kept by name: runs, records of nodes and clusters, sessions, observations, controls, approvals.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    core_client::{Change, Core, Weight, from_json, to_json},
    keys::Kind,
};
use crate::{
    etcd::request::Span,
    store::{ClusterRecord, RunHead, RunRecord, RunState, StoreError, outline::newest_first, parts},
};

/// Pieces of large values that several values share, read once.
pub(super) type Pieces = BTreeMap<String, Vec<u8>>;

impl Core {
    pub(super) async fn put<T: Serialize>(
        &self,
        what: &str,
        weight: Weight,
        kind: Kind,
        name: &str,
        value: &T,
    ) -> Result<(), StoreError> {
        let value = to_json(value)?;
        self.update(what, weight, self.keys.named(kind, name), |_, _| Ok(Change::Put(value.clone()))).await
    }

    pub(super) async fn remove(&self, what: &str, weight: Weight, kind: Kind, name: &str) -> Result<(), StoreError> {
        let change = |now: Option<&[u8]>, _| Ok(if now.is_some() { Change::Delete } else { Change::Nothing });
        self.update(what, weight, self.keys.named(kind, name), change).await
    }

    pub(super) async fn named<T: DeserializeOwned>(
        &self,
        what: &str,
        kind: Kind,
        name: &str,
    ) -> Result<Option<T>, StoreError> {
        let found = self.get(what, self.keys.named(kind, name)).await?;
        found.map(|(value, _)| from_json(&value)).transpose()
    }

    /// By name; `below` narrows it to names that begin so.
    pub(super) async fn all<T: DeserializeOwned>(
        &self,
        what: &str,
        kind: Kind,
        below: &str,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let start = self.keys.kind(kind);
        let (found, _) = self.scan(what, Span::prefix(&self.keys.named(kind, below))).await?;
        let mut all = Vec::new();
        for kv in found {
            let Some(name) = self.keys.rest(&start, &kv.key).map(str::to_owned) else { continue };
            all.push((name, from_json(&self.unpacked(what, kv.value).await?)?));
        }
        Ok(all)
    }

    /// Fleet and plan of a run are kept by their content: runs of one fleet share it, and a change of the run's state
    /// does not write them again. `known`: those of an export, by name; `lists`: what was packed already.
    pub(super) async fn stored_run(
        &self,
        what: &str,
        run: &RunRecord,
        known: &BTreeMap<String, String>,
        lists: &mut BTreeMap<String, String>,
    ) -> Result<Vec<u8>, StoreError> {
        let (_, [fleet, plan]) = parts::apart(run, known)?;
        for (name, text) in [&fleet, &plan] {
            if !lists.contains_key(name) {
                let list = self.packed(what, text.as_bytes().to_vec(), true).await?;
                lists.insert(name.clone(), String::from_utf8_lossy(&list).into_owned());
            }
        }
        let list = |name: &str| lists.get(name).cloned().unwrap_or_default();
        to_json(&parts::without(run, list(&fleet.0), list(&plan.0)))
    }

    pub(super) async fn whole_run(
        &self,
        what: &str,
        kept: RunRecord,
        cache: &mut Pieces,
    ) -> Result<RunRecord, StoreError> {
        let mut run = kept;
        for part in [&mut run.fleet, &mut run.plan] {
            let list = part.as_str().unwrap_or_default().as_bytes().to_vec();
            *part = from_json(&self.unpacked_with(what, list, cache).await?)?;
        }
        Ok(run)
    }

    pub(super) async fn create_run(&self, run: &RunRecord) -> Result<(), StoreError> {
        const WHAT: &str = "create run";
        let value = self.stored_run(WHAT, run, &BTreeMap::new(), &mut BTreeMap::new()).await?;
        self.update(WHAT, Weight::Matters, self.keys.named(Kind::Run, &run.id), |now, repeated| match now {
            None => Ok(Change::Put(value.clone())),
            Some(now) if repeated && now == value => Ok(Change::Nothing),
            Some(_) => Err(StoreError::Conflict(format!("there is a run {} already", run.id))),
        })
        .await
    }

    pub(super) async fn set_run_state(
        &self,
        run: &str,
        state: RunState,
        ended_ms: Option<u64>,
    ) -> Result<(), StoreError> {
        self.update("set run state", Weight::Matters, self.keys.named(Kind::Run, run), |now, _| {
            let now = now.ok_or_else(|| StoreError::Conflict(format!("there is no run {run}")))?;
            let record: RunRecord = from_json(now)?;
            Ok(Change::Put(to_json(&RunRecord { state, ended_ms, ..record })?))
        })
        .await
    }

    pub(super) async fn runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        const WHAT: &str = "read runs";
        let mut runs = Vec::new();
        let mut cache = Pieces::new();
        for (_, kept) in self.all::<RunRecord>(WHAT, Kind::Run, "").await? {
            runs.push(self.whole_run(WHAT, kept, &mut cache).await?);
        }
        runs.sort_by(|a, b| (b.started_ms, &b.id).cmp(&(a.started_ms, &a.id)));
        Ok(runs)
    }

    /// Without reading a fleet or a plan.
    pub(super) async fn run_heads(&self) -> Result<Vec<RunHead>, StoreError> {
        let kept = self.all::<RunHead>("read runs", Kind::Run, "").await?;
        let mut heads: Vec<RunHead> = kept.into_iter().map(|(_, head)| head).collect();
        newest_first(&mut heads);
        Ok(heads)
    }

    pub(super) async fn run(&self, id: &str) -> Result<Option<RunRecord>, StoreError> {
        const WHAT: &str = "read a run";
        match self.named::<RunRecord>(WHAT, Kind::Run, id).await? {
            None => Ok(None),
            Some(kept) => Ok(Some(self.whole_run(WHAT, kept, &mut Pieces::new()).await?)),
        }
    }

    pub(super) async fn put_cluster_record(
        &self,
        cluster: &str,
        expected: u64,
        record: &ClusterRecord,
    ) -> Result<(), StoreError> {
        self.update("record a cluster", Weight::Matters, self.keys.named(Kind::Cluster, cluster), |now, repeated| {
            let now: Option<ClusterRecord> = now.map(from_json).transpose()?;
            if repeated && now.as_ref() == Some(record) {
                return Ok(Change::Nothing);
            }
            let generation = now.map_or(0, |r| r.generation);
            if generation != expected {
                return Err(StoreError::Conflict(format!(
                    "cluster {cluster} is at generation {generation}, not {expected}: somebody else made it meanwhile"
                )));
            }
            Ok(Change::Put(to_json(record)?))
        })
        .await
    }
}
