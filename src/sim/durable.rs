//! What outlives a process: the real store's rules in memory, and beside it what the checks need to know of it. Hosts'
//! clocks are here too: each has its own wall clock, which may be wrong, and its own time since boot.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    model::{Failure, Stamp, failure::Cause},
    store::{Draft, Fence, Holder, LEASE, MemoryStore, Record, RecordKind, Store, StoreError},
};

/// Wall clock of virtual time zero: 2026-11-21 08:00 UTC.
pub const EPOCH_MS: u64 = 1_795_248_000_000;
/// Before virtual time zero an operator's computer was on for so long.
const UP_MS: u64 = 3_600_000;

/// The last intent of a step.
#[derive(Clone, Debug)]
pub struct Intent {
    pub attempt: u32,
    pub open: bool,
}

/// An operator's computer.
#[derive(Clone, Copy, Debug, Default)]
struct Host {
    /// How wrong its wall clock is, in milliseconds.
    wrong_ms: i64,
    boots: u32,
    /// Virtual time of its last boot.
    booted: u64,
}

/// Who has a lock, as it truly is.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub process: u32,
    fence: u64,
}

/// What can be told of other processes: of those on one's own host alone whether they live.
#[derive(Default)]
struct Living {
    processes: BTreeSet<u32>,
    /// The host that asks.
    asking: String,
}

impl Living {
    fn may_act(&self, holder: &Holder) -> bool {
        holder.host != self.asking || self.processes.contains(&holder.pid)
    }
}

/// A lock that was taken from a process before its lease had run out, by force or by a wrong clock.
#[derive(Clone, Copy, Debug)]
pub struct Robbed {
    pub process: u32,
    /// Until then it may send: its lease, less what the longest sending takes.
    pub until: u64,
    /// It was alive.
    pub alive: bool,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    at: u64,
    /// What it could not say to have written was written all the same.
    kept: bool,
}

pub struct Durable {
    store: RefCell<MemoryStore>,
    clock: Arc<AtomicU64>,
    living: Arc<Mutex<Living>>,
    hosts: RefCell<BTreeMap<String, Host>>,
    intents: RefCell<HashMap<(String, String), Intent>>,
    locks: RefCell<HashMap<String, Held>>,
    robbed: RefCell<HashMap<String, Robbed>>,
    handed_over: Cell<bool>,
    /// When each process last made its lease good.
    renewed: RefCell<BTreeMap<u32, u64>>,
    /// Since the state was lost, nobody can promise that everything converges.
    pub lost: Cell<bool>,
    /// A state of which something is lost says so at each opening, and nothing is begun before it was rebuilt.
    pub unbelieved: Cell<bool>,
    /// Processes up to this one had their locks and records in a state that was lost.
    pub lost_with: Cell<u32>,
    writes: Cell<u64>,
    failing: Cell<Option<Failing>>,
}

impl Durable {
    pub fn new() -> Durable {
        let clock = Arc::new(AtomicU64::new(0));
        let living: Arc<Mutex<Living>> = Arc::default();
        Durable {
            store: RefCell::new(memory(&clock, &living)),
            clock,
            living,
            hosts: RefCell::default(),
            intents: RefCell::default(),
            locks: RefCell::default(),
            robbed: RefCell::default(),
            handed_over: Cell::new(false),
            renewed: RefCell::default(),
            lost: Cell::new(false),
            unbelieved: Cell::new(false),
            lost_with: Cell::new(0),
            writes: Cell::new(0),
            failing: Cell::new(None),
        }
    }

    /// A handle to the store as it is now.
    pub fn store(&self) -> MemoryStore {
        self.store.borrow().clone()
    }

    /// What a backup of it would be.
    pub fn copy(&self) -> MemoryStore {
        self.store.borrow().fork()
    }

    /// The state is lost, or an older copy of it is put in its place: nobody's locks are in it.
    pub fn replace(&self, with: Option<MemoryStore>) {
        *self.store.borrow_mut() = with.unwrap_or_else(|| memory(&self.clock, &self.living));
        self.locks.borrow_mut().clear();
        self.lost.set(true);
    }

    pub fn set_time(&self, now: u64) {
        self.clock.store(now, Ordering::Relaxed);
    }

    fn host(&self, host: &str) -> RefMut<'_, Host> {
        RefMut::map(self.hosts.borrow_mut(), |hosts| {
            if !hosts.contains_key(host) {
                hosts.insert(host.to_owned(), Host::default());
            }
            hosts.entry(host.to_owned()).or_default()
        })
    }

    /// Somebody or something sets a host's wall clock.
    pub fn step_wall(&self, host: &str, by_ms: i64) {
        self.host(host).wrong_ms += by_ms;
    }

    /// The computer was restarted: another boot, whose time begins anew.
    pub fn reboot(&self, host: &str, now: u64) {
        let mut host = self.host(host);
        host.boots += 1;
        host.booted = now;
    }

    pub fn unix_ms(&self, host: &str, now: u64) -> u64 {
        let wrong = self.hosts.borrow().get(host).map_or(0, |h| h.wrong_ms);
        (EPOCH_MS + now).saturating_add_signed(wrong)
    }

    /// Since its boot, suspension counted.
    pub fn boot_ms(&self, host: &str, now: u64) -> u64 {
        match self.hosts.borrow().get(host) {
            Some(h) if h.boots > 0 => now.saturating_sub(h.booted) + 1_000,
            _ => UP_MS + 1_000 * host.len() as u64 + now,
        }
    }

    fn boot_id(&self, host: &str) -> String {
        match self.hosts.borrow().get(host).map_or(0, |h| h.boots) {
            0 => format!("boot of {host}"),
            boots => format!("boot {boots} of {host}"),
        }
    }

    /// The clocks of a host: each has booted at another moment.
    pub fn stamp(&self, host: &str, now: u64) -> Stamp {
        Stamp { unix_ms: self.unix_ms(host, now), boot_id: self.boot_id(host), boot_ms: self.boot_ms(host, now) }
    }

    pub fn holder_of(&self, host: &str, process: u32) -> Holder {
        Holder {
            user: format!("operator-{host}"),
            host: host.to_owned(),
            pid: process,
            started_ticks: u64::from(process),
            boot_id: self.boot_id(host),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub fn lives(&self, process: u32, alive: bool) {
        let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        if alive {
            living.processes.insert(process);
        } else {
            living.processes.remove(&process);
        }
    }

    pub fn is_alive(&self, process: u32) -> bool {
        self.living.lock().unwrap_or_else(PoisonError::into_inner).processes.contains(&process)
    }

    pub fn others_live(&self, than: u32) -> bool {
        self.living.lock().unwrap_or_else(PoisonError::into_inner).processes.iter().any(|p| *p != than)
    }

    pub fn anybody_lives(&self) -> bool {
        !self.living.lock().unwrap_or_else(PoisonError::into_inner).processes.is_empty()
    }

    /// The so-manieth append from now on fails, and those after it until the process is gone. `kept`: it was written
    /// for all that.
    pub fn fail_at(&self, write: Option<u64>, kept: bool) {
        self.failing.set(write.map(|w| Failing { at: self.writes.get() + w, kept }));
        if write.is_none() {
            self.store.borrow().break_writes(None);
        }
    }

    pub fn append(&self, run: &str, host: &str, now: u64, fence: &Fence, draft: Draft) -> Result<Record, StoreError> {
        self.writes.set(self.writes.get() + 1);
        let failing = self.failing.get().filter(|f| self.writes.get() >= f.at);
        if let Some(Failing { at, kept }) = failing {
            let full = Failure::new(Cause::Local, "state: append", "no space left on device");
            if kept && self.writes.get() == at {
                let _ = self.really_append(run, host, now, fence, draft);
            }
            // Whatever else it wants to keep fails as well.
            self.store.borrow().break_writes(Some(full.clone()));
            return Err(StoreError::Failed(full));
        }
        self.really_append(run, host, now, fence, draft)
    }

    fn really_append(
        &self,
        run: &str,
        host: &str,
        now: u64,
        fence: &Fence,
        draft: Draft,
    ) -> Result<Record, StoreError> {
        let (kind, attempt) = (draft.kind, draft.attempt);
        let step = matches!(kind, RecordKind::Intent | RecordKind::Done | RecordKind::Failed)
            .then(|| (run.to_owned(), draft.step.clone()));
        let record = self.store.borrow().append(run, self.unix_ms(host, now), fence, draft)?;
        let Some(step) = step else { return Ok(record) };
        let mut intents = self.intents.borrow_mut();
        if kind == RecordKind::Intent {
            intents.insert(step, Intent { attempt, open: true });
        } else if let Some(intent) = intents.get_mut(&step) {
            intent.open = false;
        }
        Ok(record)
    }

    pub fn intent(&self, run: &str, step: &str) -> Option<Intent> {
        self.intents.borrow().get(&(run.to_owned(), step.to_owned())).cloned()
    }

    /// Takes locks; `order` is that of a steal: by force?
    pub fn lock(
        &self,
        names: &[String],
        run: &str,
        (host, process): (&str, u32),
        now: u64,
        order: Option<bool>,
    ) -> Result<Fence, StoreError> {
        let (stamp, holder) = (self.stamp(host, now), self.holder_of(host, process));
        let store = self.store();
        self.living.lock().unwrap_or_else(PoisonError::into_inner).asking = host.to_owned();
        let fence = match order {
            None => store.lock(names, run, &holder, &stamp, LEASE)?,
            Some(force) => store.steal(names, run, &holder, &stamp, LEASE, force, "its holder sleeps")?,
        };
        for (name, number) in &fence.locks {
            let before = self.locks.borrow_mut().insert(name.clone(), Held { process, fence: *number });
            let Some(before) = before.filter(|b| b.process != process) else { continue };
            let lease = LEASE.as_millis() as u64;
            let renewed = self.renewed.borrow().get(&before.process).copied().unwrap_or(0);
            let until = renewed + lease - (lease / 2).min(30_000);
            let alive = self.is_alive(before.process);
            self.robbed.borrow_mut().insert(name.clone(), Robbed { process: before.process, until, alive });
            // A process that died on the same host loses its locks to whoever comes next; all others by order alone.
            self.handed_over.set(self.handed_over.get() || order.is_some());
        }
        self.renewed.borrow_mut().insert(process, now);
        Ok(fence)
    }

    pub fn unlock(&self, process: u32, fence: &Fence) {
        if self.store().unlock(fence).is_err() {
            return;
        }
        let mut locks = self.locks.borrow_mut();
        for (name, number) in &fence.locks {
            if locks.get(name).is_some_and(|h| h.process == process && h.fence == *number) {
                locks.remove(name);
            }
        }
    }

    pub fn renew(&self, (host, process): (&str, u32), now: u64, fence: &Fence) -> Result<(), StoreError> {
        self.store.borrow().renew(fence, &self.stamp(host, now))?;
        self.renewed.borrow_mut().insert(process, now);
        Ok(())
    }

    /// Process that holds the lock now, by its number.
    pub fn holder(&self, lock: &str) -> Option<u32> {
        self.locks.borrow().get(lock).map(|h| h.process)
    }

    /// A lock was taken by order.
    pub fn changed_hands(&self) -> bool {
        self.handed_over.get()
    }

    pub fn robbed(&self, lock: &str) -> Option<Robbed> {
        self.robbed.borrow().get(lock).copied()
    }

    /// When this process last made its lease good.
    pub fn renewed(&self, process: u32) -> u64 {
        self.renewed.borrow().get(&process).copied().unwrap_or(0)
    }
}

fn memory(clock: &Arc<AtomicU64>, living: &Arc<Mutex<Living>>) -> MemoryStore {
    let (time, alive) = (Arc::clone(clock), Arc::clone(living));
    let reader = move || {
        let now = time.load(Ordering::Relaxed);
        Stamp { unix_ms: EPOCH_MS + now, boot_id: "boot of reader".to_owned(), boot_ms: UP_MS + now }
    };
    MemoryStore::with(
        Arc::new(reader),
        Arc::new(move |holder: &Holder| alive.lock().unwrap_or_else(PoisonError::into_inner).may_act(holder)),
    )
}

impl Default for Durable {
    fn default() -> Durable {
        Durable::new()
    }
}
