//! Log-ins to BMCs and the notes of them: what a process leaves open is closed by whoever logs in next.
//!
//! A note is of one log-in of one process. It is written before the log-in is sent and goes when the session's end was
//! answered, so that neither a crash nor a step that its deadline cut off loses a session. What a process that lives
//! has noted is nobody else's to close.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    bmc,
    model::{Failure, fleet::Node, lease::Gate, power::PowerState},
    run::clock::unix_ms,
    store::{BmcSession, Holder, Store, StoreError},
};

/// Log-ins of this process that somebody still has in hand.
static IN_HAND: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());
static COUNT: AtomicU64 = AtomicU64::new(0);

fn in_hand() -> MutexGuard<'static, BTreeSet<u64>> {
    IN_HAND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a BMC is logged in to.
pub struct LogIn {
    pub read_only: bool,
    /// For the log-in, and for each call afterwards.
    pub deadline: Duration,
    pub observer: Option<bmc::client::Observer>,
    /// Of a run: nothing that changes anything is sent after its lease.
    pub gate: Option<Arc<Gate>>,
}

fn options(store: &Arc<dyn Store>, how: LogIn) -> bmc::Options {
    bmc::Options {
        read_only: how.read_only,
        deadline: how.deadline,
        ledger: Arc::new(StoreLedger::new(Arc::clone(store))),
        observer: how.observer,
        gate: how.gate,
    }
}

/// The power state, by one request where that does. `swept`: nobody left a session at this BMC.
///
/// # Errors
/// As [`open`], and what the look itself meets.
pub async fn power(
    store: &Arc<dyn Store>,
    node: &Node,
    passwords: &bmc::Passwords,
    how: LogIn,
    swept: bool,
) -> Result<PowerState, Failure> {
    let again = LogIn { observer: how.observer.clone(), gate: how.gate.clone(), ..how };
    if swept && let Some(state) = bmc::client::glance(node, passwords, &options(store, how)).await? {
        return Ok(state);
    }
    let client = open(store, node, passwords, again).await?;
    let state = client.power().await;
    let _ = client.close().await;
    state
}

/// Logs in, and closes first what dead processes and cut-off steps left open at this BMC. Close it on every way out.
pub async fn open(
    store: &Arc<dyn Store>,
    node: &Node,
    passwords: &bmc::Passwords,
    how: LogIn,
) -> Result<bmc::Client, Failure> {
    let options = options(store, how);
    let client = bmc::Client::open(node, passwords, options).await?;
    // What cannot be closed now stays noted: the end of the run and the next log-in try again.
    let left: Vec<BmcSession> =
        leftovers(store.as_ref()).unwrap_or_default().into_iter().filter(|s| s.node == node.name).collect();
    if !left.is_empty() {
        let known: Vec<bmc::Leftover> =
            left.iter().map(|s| bmc::Leftover { uri: s.uri.clone(), mark: s.mark() }).collect();
        if let Ok(deleted) = client.delete_leftover_sessions(&known).await {
            // One that was cut off, and was not found, may become a session yet.
            let (all, now) = (deleted as usize >= left.len(), unix_ms());
            for session in left.iter().filter(|s| all || s.settled(now)) {
                let _ = store.drop_bmc_session(session);
            }
        }
    }
    Ok(client)
}

/// Notes of log-ins that nobody has in hand any more.
///
/// # Errors
/// The store cannot be read.
pub fn leftovers(store: &dyn Store) -> Result<Vec<BmcSession>, StoreError> {
    let here = Holder::this();
    let all = store.bmc_sessions()?;
    Ok(all
        .into_iter()
        .filter(|s| {
            s.abandoned
                || match s.holder == here {
                    true => s.login.is_none_or(|login| !in_hand().contains(&login)),
                    false => !s.holder.alive(),
                }
        })
        .collect())
}

/// Those that could have been closed by now.
///
/// # Errors
/// The store cannot be read.
pub fn overdue(store: &dyn Store) -> Result<Vec<BmcSession>, StoreError> {
    let now = unix_ms();
    Ok(leftovers(store)?.into_iter().filter(|s| s.settled(now)).collect())
}

/// The locks of these holders were taken by order: what they have open at BMCs is anybody's to close, since nobody can
/// tell from here whether a process on another host lives.
///
/// # Errors
/// The store cannot be read or written.
pub fn abandon(store: &dyn Store, holders: &[&Holder]) -> Result<(), StoreError> {
    for session in store.bmc_sessions()?.into_iter().filter(|s| holders.contains(&&s.holder)) {
        store.put_bmc_session(&BmcSession { abandoned: true, ..session })?;
    }
    Ok(())
}

/// Keeps one log-in in the store, so that the next start can delete what a crash left behind.
struct StoreLedger {
    store: Arc<dyn Store>,
    holder: Holder,
    login: u64,
    at_ms: u64,
}

impl StoreLedger {
    fn new(store: Arc<dyn Store>) -> StoreLedger {
        let login = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        in_hand().insert(login);
        StoreLedger { store, holder: Holder::this(), login, at_ms: unix_ms() }
    }

    fn note(&self, node: &str, uri: Option<&str>) -> BmcSession {
        BmcSession {
            node: node.to_owned(),
            uri: uri.map(str::to_owned),
            holder: self.holder.clone(),
            login: Some(self.login),
            at_ms: Some(self.at_ms),
            abandoned: false,
        }
    }
}

/// Its client is gone, closed or cut off: what it left is anybody's to close.
impl Drop for StoreLedger {
    fn drop(&mut self) {
        in_hand().remove(&self.login);
    }
}

impl bmc::SessionLedger for StoreLedger {
    fn mark(&self) -> Option<String> {
        self.note("", None).mark()
    }
    // A store that cannot be written fails the next intent; a session alone is no reason to stop.
    fn opening(&self, node: &str) {
        let _ = self.store.put_bmc_session(&self.note(node, None));
    }
    fn opened(&self, node: &str, session_uri: &str) {
        let _ = self.store.put_bmc_session(&self.note(node, Some(session_uri)));
    }
    fn closed(&self, node: &str) {
        let _ = self.store.drop_bmc_session(&self.note(node, None));
    }
}
