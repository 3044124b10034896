//! The default store: one SQLite file, WAL, `synchronous=FULL`; one writer, readers see a run while it goes on.

mod contents;
mod journal;
mod locks;
mod migrate;
mod open;
mod outline;
mod replace;
mod shelf;
mod transfer;
mod witness;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Approval, BmcSession, Claim, ClusterRecord, Control, Draft, Export, Fence, Head, Holder, Lineage, Lock, Record,
    RunHead, RunRecord, RunState, Sighting, Standings, Store, StoreError, all_free, clock, made_meanwhile, moved_to,
    parts, ttl_ms,
};
use crate::model::{Failure, Stamp, facts::NodeRecord, failure::Cause};
use locks::By;
use shelf::Kind;
use witness::{Seen, Witness};

pub use migrate::Migrated;
pub use replace::Replacement;

pub struct SqliteStore {
    inner: Mutex<Inner>,
}

struct Inner {
    connection: Connection,
    path: PathBuf,
    /// Device and inode of the file that is open.
    file: (u64, u64),
    witness: Witness,
    /// A fence that was found in force, and at which count of hands.
    sure: Option<(Fence, u64)>,
}

/// Whether a write makes a store another one: observations, sessions and renewals do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Matters,
    Passing,
}

fn failed(what: &str) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    move |error| {
        let what = format!("state file: {what}");
        StoreError::Failed(if damage(&error) {
            Failure::new(Cause::Guard, what, format!("it is damaged: {error}")).next("rackctl state rebuild")
        } else {
            Failure::new(Cause::Local, what, error.to_string())
        })
    }
}

/// The file says what no store ever wrote.
fn damage(error: &rusqlite::Error) -> bool {
    use rusqlite::{Error, ErrorCode, ffi};
    match error {
        Error::SqliteFailure(ffi::Error { code, .. }, message) => match code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
            // Tables or columns of ours that are not there; a schema that cannot be parsed.
            ErrorCode::Unknown => message.as_ref().is_some_and(|m| m.starts_with("no such") || m.contains("malformed")),
            _ => false,
        },
        Error::SqlInputError { .. }
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..)
        | Error::InvalidColumnType(..)
        | Error::QueryReturnedNoRows => true,
        _ => false,
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|e| StoreError::Failed(Failure::new(Cause::Local, "state file: write", e.to_string())))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| {
        StoreError::Failed(
            Failure::new(
                Cause::Malformed,
                "state file: read",
                format!("a record cannot be read ({e}): it was written by another version, or damaged"),
            )
            .next("rackctl version"),
        )
    })
}

impl SqliteStore {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves no half transaction: dropping one rolls it back.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn read<T>(&self, body: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.inner();
        // One moment for all that is read: sums are compared with rows.
        let transaction = inner.connection.transaction().map_err(failed("read"))?;
        body(&transaction)
    }

    fn write<T>(
        &self,
        what: &str,
        weight: Weight,
        body: impl FnOnce(&Transaction<'_>, &mut Option<(Fence, u64)>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut inner = self.inner();
        let Inner { connection, sure, path, file, witness } = &mut *inner;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        if weight == Weight::Matters {
            let moved = journal::state(&transaction)?.moved;
            if !moved.is_empty() {
                return Err(moved_to(&moved));
            }
        }
        let value = body(&transaction, sure)?;
        if weight == Weight::Passing {
            transaction.commit().map_err(failed(what))?;
            return Ok(value);
        }
        // A file that was moved away or replaced while it is open would take all this with it.
        if open::identity(path).ok() != Some(*file) {
            let why = format!("{} was moved, removed or replaced while it is in use", path.display());
            let failure = Failure::new(Cause::Guard, format!("state file: {what}"), why);
            return Err(failure.next("rackctl state rebuild").into());
        }
        transaction
            .prepare_cached("UPDATE state SET serial = serial + 1")
            .and_then(|mut s| s.execute([]))
            .map_err(failed(what))?;
        let state = journal::state(&transaction)?;
        transaction.commit().map_err(failed(what))?;
        witness.write(&Seen { lineage: state.lineage, head: state.head });
        Ok(value)
    }

    fn put<T: Serialize>(
        &self,
        what: &str,
        weight: Weight,
        kind: Kind,
        name: &str,
        value: &T,
    ) -> Result<(), StoreError> {
        self.write(what, weight, |t, _| shelf::put(t, kind, name, value))
    }

    fn values<T: DeserializeOwned>(&self, kind: Kind) -> Result<Vec<T>, StoreError> {
        Ok(self.read(|c| shelf::all(c, kind))?.into_iter().map(|(_, value)| value).collect())
    }
}

impl Store for SqliteStore {
    fn create_run(&self, run: &RunRecord) -> Result<(), StoreError> {
        self.write("create run", Weight::Matters, |t, _| match shelf::get::<RunRecord>(t, Kind::Run, &run.id)? {
            Some(_) => Err(StoreError::Conflict(format!("there is a run {} already", run.id))),
            None => {
                let none = BTreeMap::new();
                let (kept, parts) = parts::apart(run, &none)?;
                parts.iter().try_for_each(|(name, text)| contents::put(t, name, text))?;
                shelf::put(t, Kind::Run, &run.id, &kept)?;
                outline::note_run(t, &kept)
            }
        })?;
        // Before the run's first effect: from here on its state is missed, if it goes.
        self.inner().witness.sync();
        Ok(())
    }

    fn set_run_state(&self, run: &str, state: RunState, ended_ms: Option<u64>) -> Result<(), StoreError> {
        self.write("set run state", Weight::Matters, |t, _| {
            let record = shelf::get::<RunRecord>(t, Kind::Run, run)?
                .ok_or_else(|| StoreError::Conflict(format!("there is no run {run}")))?;
            let record = RunRecord { state, ended_ms, ..record };
            shelf::put(t, Kind::Run, run, &record)?;
            outline::note_run(t, &record)
        })
    }

    fn runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        let mut runs = self.read(|c| {
            let kept = shelf::all::<RunRecord>(c, Kind::Run)?.into_iter();
            kept.map(|(_, run)| contents::whole(c, run)).collect::<Result<Vec<_>, _>>()
        })?;
        runs.sort_by(|a, b| (b.started_ms, &b.id).cmp(&(a.started_ms, &a.id)));
        Ok(runs)
    }

    fn run(&self, id: &str) -> Result<Option<RunRecord>, StoreError> {
        self.read(|c| shelf::get(c, Kind::Run, id)?.map(|run| contents::whole(c, run)).transpose())
    }

    fn run_heads(&self) -> Result<Vec<RunHead>, StoreError> {
        if let Some(heads) = self.read(outline::heads)? {
            return Ok(heads);
        }
        let mut runs: Vec<RunRecord> = self.values(Kind::Run)?;
        runs.sort_by(|a, b| (b.started_ms, &b.id).cmp(&(a.started_ms, &a.id)));
        // Kept for the next time; what cannot be kept is made again.
        let _ = self.write("keep the outline", Weight::Passing, |t, _| outline::keep_heads(t, &runs));
        Ok(runs.iter().map(RunHead::from).collect())
    }

    fn standings(&self) -> Result<Standings, StoreError> {
        let found = self.read(outline::standings)?;
        if found.is_news() {
            let _ = self.write("keep the outline", Weight::Passing, |t, _| outline::keep(t, &found));
        }
        Ok(found.standings)
    }

    fn last_records(&self, subject: Option<&str>, most: usize) -> Result<Vec<Record>, StoreError> {
        self.read(|c| journal::last(c, subject, most))
    }

    fn append(&self, run: &str, now_ms: u64, fence: &Fence, draft: Draft) -> Result<Record, StoreError> {
        let kept = draft.clone();
        self.write("append to the journal", Weight::Matters, |t, sure| {
            journal::append(t, sure, run, now_ms, fence, draft)
        })
        .map_err(|error| match error {
            StoreError::Failed(failure) => {
                StoreError::Unwritten { failure, run: run.to_owned(), draft: Box::new(kept) }
            }
            other => other,
        })
    }

    fn journal(&self, run: &str) -> Result<Vec<Record>, StoreError> {
        self.read(|c| journal::of_run(c, run))
    }

    fn chain(&self) -> Result<Vec<Record>, StoreError> {
        self.read(journal::chain)
    }

    fn head(&self) -> Result<Head, StoreError> {
        Ok(self.read(journal::state)?.head)
    }

    fn lock(
        &self,
        names: &[String],
        run: &str,
        holder: &Holder,
        now: &Stamp,
        ttl: Duration,
    ) -> Result<Fence, StoreError> {
        let claim = Claim { run, holder, now, ttl_ms: ttl_ms(ttl) };
        self.write("lock", Weight::Matters, |t, _| locks::take(t, names, &claim, &By::Right))
    }

    fn renew(&self, fence: &Fence, now: &Stamp) -> Result<(), StoreError> {
        self.write("renew locks", Weight::Passing, |t, _| locks::renew(t, fence, now))
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
        let claim = Claim { run, holder, now, ttl_ms: ttl_ms(ttl) };
        self.write("steal locks", Weight::Matters, |t, _| locks::take(t, names, &claim, &By::Order { force, reason }))
    }

    fn unlock(&self, fence: &Fence) -> Result<(), StoreError> {
        self.write("unlock", Weight::Matters, |t, _| locks::release(t, fence))
    }

    fn locks(&self) -> Result<Vec<Lock>, StoreError> {
        self.read(|c| locks::all(c, &clock::stamp()))
    }

    fn set_control(&self, run: &str, control: Option<&Control>) -> Result<(), StoreError> {
        self.write("set what is asked of a run", Weight::Matters, |t, _| match control {
            Some(control) => shelf::put(t, Kind::Control, run, control),
            None => shelf::remove(t, Kind::Control, run),
        })
    }

    fn control(&self, run: &str) -> Result<Option<Control>, StoreError> {
        self.read(|c| shelf::get(c, Kind::Control, run))
    }

    fn put_approval(&self, approval: &Approval) -> Result<(), StoreError> {
        self.put("keep an approval", Weight::Matters, Kind::Approval, &approval.name(), approval)
    }

    fn approvals(&self, plan_hash: &str) -> Result<Vec<Approval>, StoreError> {
        let all: Vec<Approval> = self.values(Kind::Approval)?;
        Ok(all.into_iter().filter(|a| a.plan_hash.starts_with(plan_hash)).collect())
    }

    fn node_records(&self) -> Result<Vec<(String, NodeRecord)>, StoreError> {
        self.read(|c| shelf::all(c, Kind::Node))
    }

    fn put_node_record(&self, node: &str, record: &NodeRecord) -> Result<(), StoreError> {
        self.put("record a node", Weight::Matters, Kind::Node, node, record)
    }

    fn cluster_record(&self, cluster: &str) -> Result<Option<ClusterRecord>, StoreError> {
        self.read(|c| shelf::get(c, Kind::Cluster, cluster))
    }

    fn put_cluster_record(&self, cluster: &str, expected: u64, record: &ClusterRecord) -> Result<(), StoreError> {
        self.write("record a cluster", Weight::Matters, |t, _| {
            let now = shelf::get::<ClusterRecord>(t, Kind::Cluster, cluster)?.map_or(0, |r| r.generation);
            if now != expected {
                return Err(made_meanwhile(cluster, now, expected));
            }
            shelf::put(t, Kind::Cluster, cluster, record)
        })
    }

    fn bmc_sessions(&self) -> Result<Vec<BmcSession>, StoreError> {
        self.values(Kind::BmcSession)
    }

    fn put_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError> {
        self.put("note a BMC session", Weight::Passing, Kind::BmcSession, &session.name(), session)
    }

    fn drop_bmc_session(&self, session: &BmcSession) -> Result<(), StoreError> {
        let name = session.name();
        self.write("drop a BMC session", Weight::Passing, |t, _| shelf::remove(t, Kind::BmcSession, &name))
    }

    fn put_observed(&self, node: &str, at_ms: u64, facts: &serde_json::Value) -> Result<(), StoreError> {
        let sighting = Sighting { at_ms, facts: facts.clone() };
        self.put("keep an observation", Weight::Passing, Kind::Observed, node, &sighting)
    }

    fn put_all_observed(&self, at_ms: u64, all: &[(String, serde_json::Value)]) -> Result<(), StoreError> {
        self.write("keep observations", Weight::Passing, |t, _| {
            all.iter().try_for_each(|(node, facts)| {
                shelf::put(t, Kind::Observed, node, &Sighting { at_ms, facts: facts.clone() })
            })
        })
    }

    fn observed(&self) -> Result<Vec<(String, u64, serde_json::Value)>, StoreError> {
        let seen: Vec<(String, Sighting)> = self.read(|c| shelf::all(c, Kind::Observed))?;
        Ok(seen.into_iter().map(|(node, s)| (node, s.at_ms, s.facts)).collect())
    }

    fn each_observed(&self, each: &mut dyn FnMut(&str, &str)) -> Result<(), StoreError> {
        self.read(|c| {
            shelf::each(c, Kind::Observed, |node, body| {
                each(node, body);
                Ok(())
            })
        })
    }

    fn lineage(&self) -> Result<Lineage, StoreError> {
        Ok(self.read(journal::state)?.lineage)
    }

    fn moved(&self) -> Result<Option<String>, StoreError> {
        Ok(Some(self.read(journal::state)?.moved).filter(|place| !place.is_empty()))
    }

    fn set_moved(&self, to: Option<&str>) -> Result<(), StoreError> {
        self.write("say where it was moved to", Weight::Passing, |t, _| {
            if to.is_some() {
                all_free(locks::all(t, &clock::stamp())?)?;
            }
            t.execute("UPDATE state SET moved = ?1", [to.unwrap_or_default()])
                .map(drop)
                .map_err(failed("say where it was moved to"))
        })
    }

    fn export(&self) -> Result<Export, StoreError> {
        self.read(transfer::export)
    }

    fn import(&self, export: &Export) -> Result<(), StoreError> {
        self.write("import", Weight::Matters, |t, _| transfer::import(t, export))?;
        self.inner().witness.sync();
        Ok(())
    }
}
