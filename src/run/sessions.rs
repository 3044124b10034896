//! Log-ins to BMCs and the notes of them: what a process leaves open is closed by whoever logs in next.
//!
//! A note is of one log-in of one process. It is written before the log-in is sent and goes when the session's end was
//! answered, so that neither a crash nor a step that its deadline cut off loses a session. What a process that lives
//! has noted is nobody else's to close. What the store could not take is noted in memory: the process that logged in
//! closes it before it ends.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    bmc,
    model::{Failure, failure::Cause, fleet::Node, lease::Gate, power::PowerState},
    run::clock::unix_ms,
    store::{BmcSession, Holder, Store, StoreError},
};

/// Log-ins of this process that somebody still has in hand.
static IN_HAND: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Notes of this process that the store could not take.
static UNWRITTEN: Mutex<Vec<BmcSession>> = Mutex::new(Vec::new());

fn in_hand() -> MutexGuard<'static, BTreeSet<u64>> {
    IN_HAND.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unwritten() -> MutexGuard<'static, Vec<BmcSession>> {
    UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner)
}

// A store that cannot be written fails the next intent; a session alone is no reason to stop.
fn keep(store: &dyn Store, note: BmcSession) {
    let written = store.put_bmc_session(&note).is_ok();
    let mut unwritten = unwritten();
    unwritten.retain(|n| n.name() != note.name());
    if !written {
        unwritten.push(note);
    }
}

fn forget(store: &dyn Store, note: &BmcSession) {
    unwritten().retain(|n| n.name() != note.name());
    let _ = store.drop_bmc_session(note);
}

/// Of everybody, with what the store could not take of ours.
fn noted(store: &dyn Store) -> Result<Vec<BmcSession>, StoreError> {
    let (mut all, own) = (store.bmc_sessions()?, unwritten().clone());
    all.retain(|s| own.iter().all(|o| o.name() != s.name()));
    all.extend(own);
    Ok(all)
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

/// Turns true when the command is to end: by ^C, SIGTERM, or because its time is over.
pub type Stopped = watch::Receiver<bool>;

/// How long a log-in that was sent may take to say which session is to be closed, when the look is to end.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Between two questions whether it was sent.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// What ends a look before its time.
#[derive(Clone, Copy)]
pub struct Until<'a> {
    pub stopped: &'a Stopped,
    /// For all of it.
    pub limit: Option<Duration>,
}

impl Until<'_> {
    /// Ends when the look is to end, with the reason.
    async fn over(self, node: &str) -> Failure {
        let late = async {
            match self.limit {
                Some(limit) => {
                    tokio::time::sleep(limit).await;
                    limit.as_secs()
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop(self.stopped) => cut_off(node),
            seconds = late => {
                let why = format!("no answer within {seconds} s");
                Failure::new(Cause::Deadline, format!("{node}: ask its BMC"), why)
            }
        }
    }
}

/// Ends when the command is to end.
pub async fn stop(stopped: &Stopped) {
    // Nobody is left who could say so.
    if stopped.clone().wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn cut_off(node: &str) -> Failure {
    Failure::new(Cause::Interrupted, format!("{node}: ask its BMC"), "it was interrupted before the answer was whole")
}

/// One look at one machine: logs in, looks, and logs out on every way out. When it is to end, nothing more is begun, what is
/// under way is dropped, and the log-in is closed.
///
/// # Errors
/// As [`open`], what the look itself meets, and that it was ended.
pub async fn look<T>(
    store: &Arc<dyn Store>,
    node: &Node,
    passwords: &bmc::Passwords,
    how: LogIn,
    until: Until<'_>,
    operation: impl AsyncFnOnce(&bmc::Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if *until.stopped.borrow() {
        return Err(cut_off(&node.name));
    }
    let over = until.over(&node.name);
    tokio::pin!(over);
    let log_in = open(store, node, passwords, how);
    tokio::pin!(log_in);
    let client = tokio::select! {
        opened = log_in.as_mut() => opened?,
        failure = over.as_mut() => {
            if let Some(client) = last_answer(store.as_ref(), &node.name, log_in).await {
                let _ = client.close().await;
            }
            return Err(failure);
        }
    };
    let result = tokio::select! {
        result = operation(&client) => result,
        failure = over => Err(failure),
    };
    let _ = client.close().await;
    result
}

/// A log-in that was sent is waited for, since only its answer says which session it made; one that was not is dropped.
async fn last_answer<T>(
    store: &dyn Store,
    node: &str,
    mut log_in: Pin<&mut impl Future<Output = Result<T, Failure>>>,
) -> Option<T> {
    let until = tokio::time::Instant::now() + LAST_ANSWER;
    while was_sent(store, node) && tokio::time::Instant::now() < until {
        if let Ok(opened) = tokio::time::timeout(ASKED_EVERY, log_in.as_mut()).await {
            return opened.ok();
        }
    }
    None
}

/// This process has noted a log-in there that somebody has in hand.
fn was_sent(store: &dyn Store, node: &str) -> bool {
    let here = Holder::this();
    let ours =
        |s: &BmcSession| s.node == node && s.holder == here && s.login.is_some_and(|login| in_hand().contains(&login));
    // What cannot be read may have been sent.
    noted(store).map_or(true, |all| all.iter().any(ours))
}

/// The power state, by one request where that does. `swept`: nobody left a session at this BMC.
///
/// # Errors
/// As [`look`].
pub async fn power(
    store: &Arc<dyn Store>,
    node: &Node,
    passwords: &bmc::Passwords,
    how: LogIn,
    swept: bool,
    stopped: &Stopped,
) -> Result<PowerState, Failure> {
    let again = LogIn { observer: how.observer.clone(), gate: how.gate.clone(), ..how };
    if *stopped.borrow() {
        return Err(cut_off(&node.name));
    }
    if swept {
        let options = options(store, how);
        // Without a session there is nothing to be closed.
        let seen = tokio::select! {
            seen = bmc::client::glance(node, passwords, &options) => seen?,
            () = stop(stopped) => return Err(cut_off(&node.name)),
        };
        if let Some(state) = seen {
            return Ok(state);
        }
    }
    let until = Until { stopped, limit: None };
    // On the heap, since most machines need no more than the glance: five hundred of these are under way at once.
    Box::pin(look(store, node, passwords, again, until, async |client: &bmc::Client| client.power().await)).await
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
                forget(store.as_ref(), session);
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
    let all = noted(store)?;
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
    fn opening(&self, node: &str) {
        keep(self.store.as_ref(), self.note(node, None));
    }
    fn opened(&self, node: &str, session_uri: &str) {
        keep(self.store.as_ref(), self.note(node, Some(session_uri)));
    }
    fn closed(&self, node: &str) {
        forget(self.store.as_ref(), &self.note(node, None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bmc::SessionLedger, store::MemoryStore};

    #[test]
    fn a_log_in_that_the_store_could_not_note_is_left_to_this_process() {
        let memory = MemoryStore::default();
        let store: Arc<dyn Store> = Arc::new(memory.clone());
        memory.break_writes(Some(Failure::new(Cause::Local, "state: append", "no space left on device")));
        let ledger = StoreLedger::new(Arc::clone(&store));
        ledger.opening("n1");
        ledger.opened("n1", "/s/1");
        assert!(was_sent(store.as_ref(), "n1"));
        assert!(leftovers(store.as_ref()).unwrap().is_empty(), "somebody has it in hand");
        drop(ledger);
        let left = leftovers(store.as_ref()).unwrap();
        assert_eq!(left.iter().map(|s| s.uri.as_deref()).collect::<Vec<_>>(), [Some("/s/1")]);
        left.iter().for_each(|s| forget(store.as_ref(), s));
        assert!(leftovers(store.as_ref()).unwrap().is_empty());
    }
}
