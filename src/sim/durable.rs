//! What outlives a process: the real store's rules in memory, and beside it what the checks need to know of it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    model::{Failure, Stamp, failure::Cause},
    store::{Draft, Fence, Holder, MemoryStore, Record, RecordKind, Store, StoreError},
};

/// Wall clock of virtual time zero: 2026-11-21 08:00 UTC.
pub const EPOCH_MS: u64 = 1_795_248_000_000;

/// The last intent of a step.
#[derive(Clone, Debug)]
pub struct Intent {
    pub attempt: u32,
    pub open: bool,
}

pub struct Durable {
    pub store: MemoryStore,
    clock: Arc<AtomicU64>,
    living: Arc<Mutex<BTreeSet<u32>>>,
    intents: RefCell<BTreeMap<(String, String), Intent>>,
    writes: Cell<u64>,
    fails_at: Cell<Option<u64>>,
}

impl Durable {
    pub fn new() -> Durable {
        let clock = Arc::new(AtomicU64::new(0));
        let living: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
        let (time, alive) = (Arc::clone(&clock), Arc::clone(&living));
        let store = MemoryStore::with(
            Arc::new(move || stamp("reader", time.load(Ordering::Relaxed))),
            Arc::new(move |holder: &Holder| alive.lock().unwrap_or_else(PoisonError::into_inner).contains(&holder.pid)),
        );
        Durable { store, clock, living, intents: RefCell::default(), writes: Cell::new(0), fails_at: Cell::new(None) }
    }

    pub fn set_time(&self, now: u64) {
        self.clock.store(now, Ordering::Relaxed);
    }

    pub fn lives(&self, process: u32, alive: bool) {
        let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        if alive {
            living.insert(process);
        } else {
            living.remove(&process);
        }
    }

    /// The so-manieth append from now on fails, and those after it until the process is gone.
    pub fn fail_at(&self, write: Option<u64>) {
        self.fails_at.set(write.map(|w| self.writes.get() + w));
    }

    pub fn append(&self, run: &str, now: u64, fence: &Fence, draft: Draft) -> Result<Record, StoreError> {
        self.writes.set(self.writes.get() + 1);
        if self.fails_at.get().is_some_and(|at| self.writes.get() >= at) {
            let full = Failure::new(Cause::Local, "state: append", "no space left on device");
            return Err(StoreError::Failed(full));
        }
        let (kind, step, attempt) = (draft.kind, draft.step.clone(), draft.attempt);
        let record = self.store.append(run, EPOCH_MS + now, fence, draft)?;
        let mut intents = self.intents.borrow_mut();
        match kind {
            RecordKind::Intent => {
                intents.insert((run.to_owned(), step), Intent { attempt, open: true });
            }
            RecordKind::Done | RecordKind::Failed => {
                if let Some(intent) = intents.get_mut(&(run.to_owned(), step)) {
                    intent.open = false;
                }
            }
            _ => {}
        }
        Ok(record)
    }

    pub fn intent(&self, run: &str, step: &str) -> Option<Intent> {
        self.intents.borrow().get(&(run.to_owned(), step.to_owned())).cloned()
    }

    /// Process that holds the lock now, by its number.
    pub fn holder(&self, lock: &str) -> Option<u32> {
        self.store.locks().ok()?.into_iter().find(|l| l.name == lock).map(|l| l.holder.pid)
    }
}

impl Default for Durable {
    fn default() -> Durable {
        Durable::new()
    }
}

/// The clocks of a host at virtual time `now`: each has booted at another moment.
pub fn stamp(host: &str, now: u64) -> Stamp {
    let booted = 3_600_000 + 1_000 * host.len() as u64;
    Stamp { unix_ms: EPOCH_MS + now, boot_id: format!("boot of {host}"), boot_ms: booted + now }
}

pub fn holder(host: &str, process: u32) -> Holder {
    Holder {
        user: format!("operator-{host}"),
        host: host.to_owned(),
        pid: process,
        started_ticks: u64::from(process),
        boot_id: format!("boot of {host}"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
