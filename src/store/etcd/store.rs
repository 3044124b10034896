//! The trait over etcd. Its calls wait, also inside an asynchronous runtime: each runs on a thread of the store's own,
//! so that nothing which the caller's runtime does, or does not do, can keep it from ending at its deadline.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use super::{
    approval_name,
    core_client::{Core, Weight, importing},
    keys::{Keys, Kind},
    lock_client::Wanted,
    url::EtcdUrl,
};
use crate::{
    etcd::pool_client::{Login, Pool},
    model::{Failure, Secret, Stamp, facts::NodeRecord, failure::Cause},
    store::{
        Approval, BmcSession, ClusterRecord, Control, Draft, Export, Fence, Head, Holder, Lineage, Lock, Record,
        RunHead, RunRecord, RunState, Sighting, Store, StoreError,
    },
};

/// For one call, tries and repetitions included. A renewal gets at most half of its locks' time.
pub const OPERATION_DEADLINE: Duration = Duration::from_secs(10);
/// For a call that reads or writes much: journals, runs, exports, imports.
pub const LONG_DEADLINE: Duration = Duration::from_secs(300);
/// How much later than its deadline a call is given up that its own thread does not end.
const GRACE: Duration = Duration::from_secs(2);
/// Of a file with a password.
const PASSWORD_MAX_BYTES: usize = 4096;

pub struct EtcdStore {
    core: Arc<Core>,
    place: String,
    /// Always there, until it is dropped.
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    handle: tokio::runtime::Handle,
    /// Its content is not whole.
    importing: AtomicBool,
    /// Shortest time in milliseconds that a lock of this process lives without a renewal; 0: none was taken.
    ttl_ms: AtomicU64,
    cluster_id: u64,
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        // To wait for it is not allowed where asynchronous code drops the store.
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

impl EtcdStore {
    /// Opens it, or makes it if there is nothing below its prefix.
    pub fn open(url: &EtcdUrl) -> Result<EtcdStore, StoreError> {
        let mut store = EtcdStore::connect(url)?;
        let opened = store.wait("open", OPERATION_DEADLINE, |core| async move { core.open().await });
        let importing = opened.map_err(|error| store.named(error))?;
        store.importing = AtomicBool::new(importing);
        Ok(store)
    }

    /// Without a look at what is in it: for [`EtcdStore::replace`], and nothing else is answered.
    pub fn connect(url: &EtcdUrl) -> Result<EtcdStore, StoreError> {
        let local = |why: String| Failure::new(Cause::Local, format!("open {url}"), why);
        let login = match &url.user {
            None => None,
            Some((user, file)) => {
                let text = std::fs::read_to_string(file).map_err(|e| local(format!("{}: {e}", file.display())))?;
                let line = text.lines().next().unwrap_or_default();
                if line.is_empty() || line.len() > PASSWORD_MAX_BYTES {
                    let why = format!("{}: its first line is no password", file.display());
                    return Err(StoreError::Failed(local(why)));
                }
                Some(Login { user: user.clone(), password: Secret::new(line.to_owned()) })
            }
        };
        let pool = Pool::new(&url.endpoints(), &url.files, login)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("etcd-store")
            .enable_all()
            .build()
            .map_err(|e| local(e.to_string()))?;
        let core = Core { pool, keys: Keys::new(&url.prefix), seen: tokio::sync::Mutex::new(None) };
        let mut store = EtcdStore {
            core: Arc::new(core),
            place: url.to_string(),
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            importing: AtomicBool::new(true),
            ttl_ms: AtomicU64::new(0),
            cluster_id: 0,
        };
        let asked = store.wait("open", OPERATION_DEADLINE, |core| async move { core.cluster_id("open").await });
        store.cluster_id = asked.map_err(|error| store.named(error))?;
        Ok(store)
    }

    /// An import into it is under way, or was broken off: it answers nothing but another one.
    pub fn is_being_filled(&self) -> bool {
        self.importing.load(Ordering::Relaxed)
    }

    /// Of the etcd that it lies in, in lower-case hex, as etcd prints it and records of clusters bear it.
    pub fn cluster_id(&self) -> String {
        format!("{:x}", self.cluster_id)
    }

    /// Empties the store and fills it with `export`: for one that must not be believed. What was in it is handed to
    /// `keep` first, as lines of JSON with key and value in base64, and an empty line at the end: what it was given
    /// must be durable then. Refused (`Locked`) while anybody who
    /// may live holds a lock that can be read. One that is broken off is begun again by another one.
    pub fn replace(
        &self,
        export: &Export,
        keep: impl FnMut(&[u8]) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let export = export.clone();
        self.wait("replace", LONG_DEADLINE, move |core| async move { core.replace(&export, keep).await })?;
        self.importing.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn named(&self, error: StoreError) -> StoreError {
        let StoreError::Failed(mut failure) = error else { return error };
        if !failure.what.contains(&self.place) {
            failure.what = format!("{} {}", failure.what, self.place);
        }
        StoreError::Failed(failure)
    }

    /// Runs on the store's own thread and waits here.
    fn wait<T, F>(&self, what: &str, deadline: Duration, ask: impl FnOnce(Arc<Core>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let late = || {
            let why = format!("no answer within {} s; whether it was carried out is not known", deadline.as_secs_f32());
            let failure = Failure::new(Cause::Deadline, format!("etcd store: {what}"), why);
            StoreError::Failed(failure.next("etcdctl endpoint health --cluster"))
        };
        let (answer, answered) = mpsc::sync_channel(1);
        let asked = ask(Arc::clone(&self.core));
        self.handle.spawn(async move {
            let _ = answer.send(tokio::time::timeout(deadline, asked).await);
        });
        match answered.recv_timeout(deadline + GRACE) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }

    fn run<T, F>(&self, what: &str, deadline: Duration, ask: impl FnOnce(Arc<Core>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        if self.importing.load(Ordering::Relaxed) {
            return Err(importing());
        }
        self.wait(what, deadline, ask)
    }

    fn put<T: serde::Serialize + Clone + Send + Sync + 'static>(
        &self,
        what: &'static str,
        weight: Weight,
        kind: Kind,
        name: &str,
        value: &T,
    ) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.clone());
        self.run(what, OPERATION_DEADLINE, move |core| async move { core.put(what, weight, kind, &name, &value).await })
    }

    fn all<T: serde::de::DeserializeOwned + Send + 'static>(
        &self,
        what: &'static str,
        kind: Kind,
        below: String,
    ) -> Result<Vec<(String, T)>, StoreError> {
        self.run(what, LONG_DEADLINE, move |core| async move { core.all(what, kind, &below).await })
    }

    fn take(&self, wanted: Wanted) -> Result<Fence, StoreError> {
        let ttl_ms = u64::try_from(wanted.ttl.as_millis()).unwrap_or(u64::MAX);
        let fence = self.run("lock", OPERATION_DEADLINE, move |core| async move { core.take(&wanted).await })?;
        let shortest = |known: u64| Some(if known == 0 { ttl_ms } else { known.min(ttl_ms) });
        let _ = self.ttl_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shortest);
        Ok(fence)
    }

    /// A renewal that comes too late is none.
    fn renewal_deadline(&self) -> Duration {
        match self.ttl_ms.load(Ordering::Relaxed) {
            0 => OPERATION_DEADLINE,
            ttl => OPERATION_DEADLINE.min(Duration::from_millis(ttl / 2)),
        }
    }
}

impl Store for EtcdStore {
    fn create_run(&self, run: &RunRecord) -> Result<(), StoreError> {
        let run = run.clone();
        self.run("create run", OPERATION_DEADLINE, move |core| async move { core.create_run(&run).await })
    }

    fn set_run_state(&self, run: &str, state: RunState, ended_ms: Option<u64>) -> Result<(), StoreError> {
        let run = run.to_owned();
        self.run("set run state", OPERATION_DEADLINE, move |core| async move {
            core.set_run_state(&run, state, ended_ms).await
        })
    }

    fn runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        self.run("read runs", LONG_DEADLINE, |core| async move { core.runs().await })
    }

    fn run_heads(&self) -> Result<Vec<RunHead>, StoreError> {
        self.run("read runs", LONG_DEADLINE, |core| async move { core.run_heads().await })
    }

    fn run(&self, id: &str) -> Result<Option<RunRecord>, StoreError> {
        let id = id.to_owned();
        self.run("read a run", LONG_DEADLINE, move |core| async move { core.run(&id).await })
    }

    fn append(&self, run: &str, now_ms: u64, fence: &Fence, draft: Draft) -> Result<Record, StoreError> {
        let (id, fence, kept) = (run.to_owned(), fence.clone(), draft.clone());
        self.run("append to the journal", OPERATION_DEADLINE, move |core| async move {
            core.append(&id, now_ms, &fence, draft).await
        })
        .map_err(|error| match error {
            StoreError::Failed(failure) => {
                StoreError::Unwritten { failure, run: run.to_owned(), draft: Box::new(kept) }
            }
            other => other,
        })
    }

    fn journal(&self, run: &str) -> Result<Vec<Record>, StoreError> {
        let run = run.to_owned();
        self.run("read a run's journal", LONG_DEADLINE, move |core| async move { core.journal(&run).await })
    }

    fn chain(&self) -> Result<Vec<Record>, StoreError> {
        self.run("read the journal", LONG_DEADLINE, |core| async move { core.chain().await })
    }

    fn head(&self) -> Result<Head, StoreError> {
        self.run(
            "read the head",
            OPERATION_DEADLINE,
            |core| async move { Ok(core.look_seen("read the head").await?.head) },
        )
    }

    fn lock(
        &self,
        names: &[String],
        run: &str,
        holder: &Holder,
        now: &Stamp,
        ttl: Duration,
    ) -> Result<Fence, StoreError> {
        let names = names.iter().cloned().collect();
        self.take(Wanted { names, run: run.to_owned(), holder: holder.clone(), now: now.clone(), ttl, order: None })
    }

    fn renew(&self, fence: &Fence, now: &Stamp) -> Result<(), StoreError> {
        let (fence, now) = (fence.clone(), now.clone());
        self.run("renew locks", self.renewal_deadline(), move |core| async move { core.renew(&fence, &now).await })
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
        let names = names.iter().cloned().collect();
        let order = Some((force, reason.to_owned()));
        self.take(Wanted { names, run: run.to_owned(), holder: holder.clone(), now: now.clone(), ttl, order })
    }

    fn unlock(&self, fence: &Fence) -> Result<(), StoreError> {
        let fence = fence.clone();
        self.run("unlock", OPERATION_DEADLINE, move |core| async move { core.unlock(&fence).await })
    }

    fn locks(&self) -> Result<Vec<Lock>, StoreError> {
        self.run("read locks", OPERATION_DEADLINE, |core| async move { core.locks().await })
    }

    fn set_control(&self, run: &str, control: Option<&Control>) -> Result<(), StoreError> {
        const WHAT: &str = "set what is asked of a run";
        let Some(control) = control else {
            let run = run.to_owned();
            return self.run(WHAT, OPERATION_DEADLINE, move |core| async move {
                core.remove(WHAT, Weight::Matters, Kind::Control, &run).await
            });
        };
        self.put(WHAT, Weight::Matters, Kind::Control, run, control)
    }

    fn control(&self, run: &str) -> Result<Option<Control>, StoreError> {
        let run = run.to_owned();
        self.run("read what is asked of a run", OPERATION_DEADLINE, move |core| async move {
            core.named("read what is asked of a run", Kind::Control, &run).await
        })
    }

    fn put_approval(&self, approval: &Approval) -> Result<(), StoreError> {
        self.put("keep an approval", Weight::Matters, Kind::Approval, &approval_name(approval), approval)
    }

    fn approvals(&self, plan_hash: &str) -> Result<Vec<Approval>, StoreError> {
        let all = self.all("read approvals", Kind::Approval, plan_hash.to_owned())?;
        Ok(all.into_iter().map(|(_, approval)| approval).collect())
    }

    fn node_records(&self) -> Result<Vec<(String, NodeRecord)>, StoreError> {
        self.all("read the records of nodes", Kind::Node, String::new())
    }

    fn put_node_record(&self, node: &str, record: &NodeRecord) -> Result<(), StoreError> {
        self.put("record a node", Weight::Matters, Kind::Node, node, record)
    }

    fn cluster_record(&self, cluster: &str) -> Result<Option<ClusterRecord>, StoreError> {
        let cluster = cluster.to_owned();
        self.run("read the record of a cluster", OPERATION_DEADLINE, move |core| async move {
            core.named("read the record of a cluster", Kind::Cluster, &cluster).await
        })
    }

    fn put_cluster_record(&self, cluster: &str, expected: u64, record: &ClusterRecord) -> Result<(), StoreError> {
        let (cluster, record) = (cluster.to_owned(), record.clone());
        self.run("record a cluster", OPERATION_DEADLINE, move |core| async move {
            core.put_cluster_record(&cluster, expected, &record).await
        })
    }

    fn bmc_sessions(&self) -> Result<Vec<BmcSession>, StoreError> {
        let all = self.all("read BMC sessions", Kind::Session, String::new())?;
        Ok(all.into_iter().map(|(_, session)| session).collect())
    }

    fn put_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError> {
        self.put("note a BMC session", Weight::Passing, Kind::Session, &session.name(), session)
    }

    fn drop_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError> {
        let name = session.name();
        self.run("drop a BMC session", OPERATION_DEADLINE, move |core| async move {
            core.remove("drop a BMC session", Weight::Passing, Kind::Session, &name).await
        })
    }

    fn put_observed(&self, node: &str, at_ms: u64, facts: &serde_json::Value) -> Result<(), StoreError> {
        let sighting = Sighting { at_ms, facts: facts.clone() };
        self.put("keep an observation", Weight::Passing, Kind::Observed, node, &sighting)
    }

    fn observed(&self) -> Result<Vec<(String, u64, serde_json::Value)>, StoreError> {
        let all: Vec<(String, Sighting)> = self.all("read observations", Kind::Observed, String::new())?;
        Ok(all.into_iter().map(|(node, s)| (node, s.at_ms, s.facts)).collect())
    }

    fn lineage(&self) -> Result<Lineage, StoreError> {
        self.run("read its lineage", OPERATION_DEADLINE, |core| async move { core.lineage().await })
    }

    fn moved(&self) -> Result<Option<String>, StoreError> {
        self.run("read where it was moved to", OPERATION_DEADLINE, |core| async move { core.moved().await })
    }

    fn set_moved(&self, to: Option<&str>) -> Result<(), StoreError> {
        let to = to.map(str::to_owned);
        self.run("say where it was moved to", OPERATION_DEADLINE, move |core| async move {
            core.set_moved(to.as_deref()).await
        })
    }

    fn export(&self) -> Result<Export, StoreError> {
        self.run("export", LONG_DEADLINE, |core| async move { core.export().await })
    }

    fn import(&self, export: &Export) -> Result<(), StoreError> {
        let export = export.clone();
        // Not `run`: an import that was broken off is begun again by another one.
        self.wait("import", LONG_DEADLINE, move |core| async move { core.import(&export).await })?;
        self.importing.store(false, Ordering::Relaxed);
        Ok(())
    }
}
