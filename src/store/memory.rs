//! A store in memory: for simulations, where a crash drops the process and keeps the store. The chain is as real as
//! in a file; nothing here outlives the program.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use uuid::Uuid;

use super::{
    Approval, BmcSession, Claim, ClusterRecord, Control, Draft, EXPORT_VERSION, Export, Fence, Head, Holder, Lineage,
    Lock, Record, RecordKind, RunHead, RunRecord, RunState, Sighting, Store, StoreError, chain, clock, fenced, outline,
    parts, stolen,
};
use crate::model::{Failure, Stamp, facts::NodeRecord, failure::Cause};

/// What tells the time to `locks()`: a simulation has its own.
pub type Clock = Arc<dyn Fn() -> Stamp + Send + Sync>;
/// What tells whether a holder's process may still act.
pub type Liveness = Arc<dyn Fn(&Holder) -> bool + Send + Sync>;

/// Clones are handles to the same content, as two processes have one file open. `fork` copies the content.
#[derive(Clone)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
    clock: Clock,
    alive: Liveness,
}

#[derive(Clone)]
struct Content {
    lineage: Lineage,
    /// With the names of their fleets and plans.
    runs: BTreeMap<String, RunRecord>,
    /// Fleets and plans, each once.
    contents: BTreeMap<String, Arc<serde_json::Value>>,
    records: Vec<Record>,
    /// Where in `records` those of a run are.
    of_run: BTreeMap<String, Vec<usize>>,
    locks: BTreeMap<String, Lock>,
    fences: BTreeMap<String, u64>,
    /// A fence that was found in force since a lock last changed hands: a record asks no lock while it stands.
    sure: Option<Fence>,
    nodes: BTreeMap<String, NodeRecord>,
    clusters: BTreeMap<String, ClusterRecord>,
    bmc_sessions: BTreeMap<String, BmcSession>,
    observed: BTreeMap<String, Sighting>,
    controls: BTreeMap<String, Control>,
    approvals: BTreeMap<String, Approval>,
    moved: Option<String>,
    /// Every write fails with it.
    broken: Option<Failure>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::with(Arc::new(clock::stamp), Arc::new(Holder::alive))
    }
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    pub fn with(clock: Clock, alive: Liveness) -> MemoryStore {
        let content = Content {
            lineage: Lineage { id: Uuid::new_v4(), serial: 0 },
            runs: BTreeMap::new(),
            contents: BTreeMap::new(),
            records: Vec::new(),
            of_run: BTreeMap::new(),
            locks: BTreeMap::new(),
            fences: BTreeMap::new(),
            sure: None,
            nodes: BTreeMap::new(),
            clusters: BTreeMap::new(),
            bmc_sessions: BTreeMap::new(),
            observed: BTreeMap::new(),
            controls: BTreeMap::new(),
            approvals: BTreeMap::new(),
            moved: None,
            broken: None,
        };
        MemoryStore { content: Arc::new(Mutex::new(content)), clock, alive }
    }

    /// A copy that goes its own way from here.
    pub fn fork(&self) -> MemoryStore {
        let content = self.content().clone();
        MemoryStore { content: Arc::new(Mutex::new(content)), ..self.clone() }
    }

    /// From now on every write fails so (a full disk), until `None`.
    pub fn break_writes(&self, failure: Option<Failure>) {
        self.content().broken = failure;
    }

    /// One node's record, without copying all of them.
    pub fn node_record(&self, node: &str) -> Option<NodeRecord> {
        self.content().nodes.get(node).cloned()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Every change is made after its checks, in one go: a panic leaves no half of one.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a write that makes the store another one.
    fn write<T>(&self, body: impl FnOnce(&mut Content) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut content = self.passing()?;
        if let Some(place) = &content.moved {
            return Err(super::moved_to(place));
        }
        let value = body(&mut content)?;
        content.lineage.serial += 1;
        Ok(value)
    }

    /// For a write that does not count.
    fn passing(&self) -> Result<MutexGuard<'_, Content>, StoreError> {
        let content = self.content();
        match &content.broken {
            Some(failure) => Err(StoreError::Failed(failure.clone())),
            None => Ok(content),
        }
    }

    fn take(&self, names: &[String], claim: &Claim<'_>, order: Option<(bool, &str)>) -> Result<Fence, StoreError> {
        self.write(|content| {
            let mut names = names.to_vec();
            names.sort();
            names.dedup();
            for name in &names {
                let held = content.locks.get(name);
                let alive = held.is_some_and(|l| (self.alive)(&l.holder));
                match order {
                    None => claim.may_take(held, alive)?,
                    Some((force, _)) => claim.may_steal(held, alive, force)?,
                }
            }
            content.sure = None;
            let mut given = Vec::new();
            let mut changed = Vec::new();
            for name in names {
                let fence = content.fences.entry(name.clone()).or_default();
                *fence += 1;
                let lock = claim.lock(&name, *fence);
                given.push((name.clone(), *fence));
                let before = content.locks.insert(name, lock.clone());
                changed.extend(before.filter(|b| b.holder != *claim.holder).map(|before| (before, lock)));
            }
            let fence = Fence { locks: given, actor: claim.holder.to_string() };
            if let Some((force, reason)) = order {
                for (from, to) in changed {
                    let draft = Draft {
                        subject: from.name.clone(),
                        step: "lock".to_owned(),
                        attempt: 1,
                        kind: RecordKind::LockStolen,
                        body: stolen(&from, &to, reason, force),
                    };
                    content.record(claim.run, claim.now.unix_ms, &fence, draft);
                }
            }
            Ok(fence)
        })
    }
}

impl Content {
    fn in_force(&self, fence: &Fence) -> Result<(), StoreError> {
        for (name, number) in &fence.locks {
            match self.locks.get(name) {
                Some(lock) if lock.fence == *number => {}
                other => return Err(fenced(name, *number, other)),
            }
        }
        Ok(())
    }

    fn keep_run(&mut self, run: &RunRecord, known: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let (kept, parts) = parts::apart(run, known)?;
        for ((name, text), given) in parts.into_iter().zip([&run.fleet, &run.plan]) {
            if self.contents.contains_key(&name) {
                continue;
            }
            let value = match parts::named(given) {
                None => given.clone(),
                Some(_) => serde_json::from_str(&text).map_err(|e| unreadable(&name, &e.to_string()))?,
            };
            self.contents.insert(name, Arc::new(value));
        }
        self.runs.insert(kept.id.clone(), kept);
        Ok(())
    }

    fn whole(&self, kept: &RunRecord) -> Result<RunRecord, StoreError> {
        let part = |name: &str| self.contents.get(name).ok_or_else(|| unreadable(name, "it is missing"));
        parts::whole(kept.clone(), |name| part(name).map(|value| (**value).clone()))
    }

    fn head(&self) -> Head {
        self.records.last().map_or_else(Head::default, |r| Head { seq: r.seq, hash: r.hash.clone() })
    }

    fn record(&mut self, run: &str, now_ms: u64, fence: &Fence, draft: Draft) -> Record {
        let Head { seq, hash } = self.head();
        let record = chain::seal(chain::follow(seq, hash, run, now_ms, fence, draft));
        self.push(record.clone());
        record
    }

    fn push(&mut self, record: Record) {
        self.of_run.entry(record.run.clone()).or_default().push(self.records.len());
        self.records.push(record);
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.runs.is_empty()
            && self.locks.is_empty()
            && self.fences.is_empty()
            && self.nodes.is_empty()
            && self.clusters.is_empty()
            && self.bmc_sessions.is_empty()
            && self.observed.is_empty()
            && self.controls.is_empty()
            && self.approvals.is_empty()
    }
}

fn unreadable(name: &str, why: &str) -> StoreError {
    Failure::new(Cause::Malformed, format!("fleet or plan {name}"), why).into()
}

fn pairs<T: Clone>(map: &BTreeMap<String, T>) -> Vec<(String, T)> {
    map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Store for MemoryStore {
    fn create_run(&self, run: &RunRecord) -> Result<(), StoreError> {
        self.write(|c| match c.runs.get(&run.id) {
            Some(_) => Err(StoreError::Conflict(format!("there is a run {} already", run.id))),
            None => c.keep_run(run, &BTreeMap::new()),
        })
    }

    fn set_run_state(&self, run: &str, state: RunState, ended_ms: Option<u64>) -> Result<(), StoreError> {
        self.write(|c| {
            let record = c.runs.get_mut(run).ok_or_else(|| StoreError::Conflict(format!("there is no run {run}")))?;
            record.state = state;
            record.ended_ms = ended_ms;
            Ok(())
        })
    }

    fn runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        let content = self.content();
        let mut runs = content.runs.values().map(|run| content.whole(run)).collect::<Result<Vec<_>, _>>()?;
        runs.sort_by(|a, b| (b.started_ms, &b.id).cmp(&(a.started_ms, &a.id)));
        Ok(runs)
    }

    fn run(&self, id: &str) -> Result<Option<RunRecord>, StoreError> {
        let content = self.content();
        content.runs.get(id).map(|run| content.whole(run)).transpose()
    }

    fn run_heads(&self) -> Result<Vec<RunHead>, StoreError> {
        let mut heads: Vec<RunHead> = self.content().runs.values().map(RunHead::from).collect();
        outline::newest_first(&mut heads);
        Ok(heads)
    }

    fn append(&self, run: &str, now_ms: u64, fence: &Fence, draft: Draft) -> Result<Record, StoreError> {
        let broken = self.content().broken.clone();
        if let Some(failure) = broken {
            return Err(StoreError::Unwritten { failure, run: run.to_owned(), draft: Box::new(draft) });
        }
        self.write(|c| {
            if c.sure.as_ref() != Some(fence) {
                c.in_force(fence)?;
                c.sure = Some(fence.clone());
            }
            Ok(c.record(run, now_ms, fence, draft))
        })
    }

    fn journal(&self, run: &str) -> Result<Vec<Record>, StoreError> {
        let content = self.content();
        let places = content.of_run.get(run).map_or(&[][..], Vec::as_slice);
        Ok(places.iter().filter_map(|at| content.records.get(*at)).cloned().collect())
    }

    fn chain(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.content().records.clone())
    }

    fn head(&self) -> Result<Head, StoreError> {
        Ok(self.content().head())
    }

    fn lock(
        &self,
        names: &[String],
        run: &str,
        holder: &Holder,
        now: &Stamp,
        ttl: Duration,
    ) -> Result<Fence, StoreError> {
        self.take(names, &Claim { run, holder, now, ttl_ms: super::ttl_ms(ttl) }, None)
    }

    fn renew(&self, fence: &Fence, now: &Stamp) -> Result<(), StoreError> {
        let mut content = self.passing()?;
        content.in_force(fence)?;
        for (name, _) in &fence.locks {
            if let Some(lock) = content.locks.get_mut(name) {
                lock.renewed.clone_from(now);
            }
        }
        Ok(())
    }

    fn steal(
        &self,
        names: &[String],
        run: &str,
        holder: &Holder,
        now: &Stamp,
        ttl: Duration,
        force: bool,
        reason: &str,
    ) -> Result<Fence, StoreError> {
        self.take(names, &Claim { run, holder, now, ttl_ms: super::ttl_ms(ttl) }, Some((force, reason)))
    }

    fn unlock(&self, fence: &Fence) -> Result<(), StoreError> {
        self.write(|c| {
            c.sure = None;
            for (name, number) in &fence.locks {
                if c.locks.get(name).is_some_and(|lock| lock.fence == *number) {
                    c.locks.remove(name);
                }
            }
            Ok(())
        })
    }

    fn locks(&self) -> Result<Vec<Lock>, StoreError> {
        let now = (self.clock)();
        Ok(self.content().locks.values().map(|l| l.clone().seen((self.alive)(&l.holder), &now)).collect())
    }

    fn set_control(&self, run: &str, control: Option<&Control>) -> Result<(), StoreError> {
        self.write(|c| {
            match control {
                Some(control) => c.controls.insert(run.to_owned(), control.clone()),
                None => c.controls.remove(run),
            };
            Ok(())
        })
    }

    fn control(&self, run: &str) -> Result<Option<Control>, StoreError> {
        Ok(self.content().controls.get(run).cloned())
    }

    fn put_approval(&self, approval: &Approval) -> Result<(), StoreError> {
        self.write(|c| {
            c.approvals.insert(approval.name(), approval.clone());
            Ok(())
        })
    }

    fn approvals(&self, plan_hash: &str) -> Result<Vec<Approval>, StoreError> {
        Ok(self.content().approvals.values().filter(|a| a.plan_hash.starts_with(plan_hash)).cloned().collect())
    }

    fn node_records(&self) -> Result<Vec<(String, NodeRecord)>, StoreError> {
        Ok(pairs(&self.content().nodes))
    }

    fn put_node_record(&self, node: &str, record: &NodeRecord) -> Result<(), StoreError> {
        self.write(|c| {
            c.nodes.insert(node.to_owned(), record.clone());
            Ok(())
        })
    }

    fn cluster_record(&self, cluster: &str) -> Result<Option<ClusterRecord>, StoreError> {
        Ok(self.content().clusters.get(cluster).cloned())
    }

    fn put_cluster_record(&self, cluster: &str, expected: u64, record: &ClusterRecord) -> Result<(), StoreError> {
        self.write(|c| {
            let now = c.clusters.get(cluster).map_or(0, |r| r.generation);
            if now != expected {
                return Err(super::made_meanwhile(cluster, now, expected));
            }
            c.clusters.insert(cluster.to_owned(), record.clone());
            Ok(())
        })
    }

    fn bmc_sessions(&self) -> Result<Vec<BmcSession>, StoreError> {
        Ok(self.content().bmc_sessions.values().cloned().collect())
    }

    fn put_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError> {
        self.passing()?.bmc_sessions.insert(session.name(), session.clone());
        Ok(())
    }

    fn drop_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError> {
        self.passing()?.bmc_sessions.remove(&session.name());
        Ok(())
    }

    fn put_observed(&self, node: &str, at_ms: u64, facts: &serde_json::Value) -> Result<(), StoreError> {
        self.passing()?.observed.insert(node.to_owned(), Sighting { at_ms, facts: facts.clone() });
        Ok(())
    }

    fn observed(&self) -> Result<Vec<(String, u64, serde_json::Value)>, StoreError> {
        Ok(pairs(&self.content().observed).into_iter().map(|(node, s)| (node, s.at_ms, s.facts)).collect())
    }

    fn lineage(&self) -> Result<Lineage, StoreError> {
        Ok(self.content().lineage)
    }

    fn moved(&self) -> Result<Option<String>, StoreError> {
        Ok(self.content().moved.clone())
    }

    fn set_moved(&self, to: Option<&str>) -> Result<(), StoreError> {
        let mut content = self.passing()?;
        if to.is_some() {
            let held = content.locks.values().filter(|l| (self.alive)(&l.holder));
            super::all_free(held.cloned().collect::<Vec<_>>())?;
        }
        content.moved = to.map(str::to_owned);
        Ok(())
    }

    fn export(&self) -> Result<Export, StoreError> {
        let c = self.content();
        Ok(Export {
            schema: EXPORT_VERSION,
            lineage: c.lineage,
            head: c.head(),
            runs: c.runs.values().cloned().collect(),
            contents: c.contents.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
            records: c.records.clone(),
            fences: c.fences.clone(),
            nodes: c.nodes.clone(),
            clusters: c.clusters.clone(),
            bmc_sessions: c.bmc_sessions.values().cloned().collect(),
            observed: c.observed.clone(),
            controls: c.controls.clone(),
            approvals: c.approvals.values().cloned().collect(),
        })
    }

    fn import(&self, export: &Export) -> Result<(), StoreError> {
        export.check()?;
        self.write(|c| {
            if !c.is_empty() {
                return Err(super::not_empty());
            }
            c.lineage = export.lineage;
            export.records.iter().for_each(|r| c.push(r.clone()));
            for run in &export.runs {
                c.keep_run(run, &export.contents)?;
            }
            c.fences = export.fences.clone();
            c.nodes = export.nodes.clone();
            c.clusters = export.clusters.clone();
            c.bmc_sessions = export.bmc_sessions.iter().map(|s| (s.name(), s.clone())).collect();
            c.observed = export.observed.clone();
            c.controls = export.controls.clone();
            c.approvals = export.approvals.iter().map(|a| (a.name(), a.clone())).collect();
            Ok(())
        })
    }
}
