//! A client for one machine's BMC over Redfish. One session, two requests at most under way, everything read back.
//!
//! Sources: DSP0266 1.20 (sessions in 13.3.4, ETags in 6.5, error responses in 8.6).

mod accounts;
mod act;
mod bios;
mod boot;
mod certificates;
mod events;
mod firmware;
mod glance;
mod ground;
mod logs;
mod manager;
mod media;
mod order;
mod ports;
mod scan;
mod send;
mod sensors;
mod session;
mod tail;
#[cfg(test)]
mod tests_corners;
#[cfg(test)]
mod tests_trees;
mod upload;
mod users;
mod volumes;
mod walk;

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

pub use accounts::gather_accounts;
pub use act::{Operation, requests_preview};
pub use bios::gather_bios;
pub use certificates::gather_certificates;
pub use events::Events;
pub use firmware::{Image, Updated, gather_firmware};
pub use glance::glance;
pub use ground::Ground;
pub use logs::gather_logs;
pub use manager::{Progress, Screenshot, screenshot_action};
pub use media::gather_slots;
pub use ports::gather_neighbours;
pub use scan::{Found, scan};
pub use sensors::gather_sensors;
pub use volumes::gather_volumes;
pub use walk::{ManagerFacts, Source, gather_facts, gather_view};

use super::{
    proof::Proof,
    read::SystemView,
    redfish::wire::{self, ServiceRoot},
    settle::Driven,
};
use crate::model::{
    Failure, Secret,
    facts::BmcFacts,
    failure::Cause,
    fleet::{Node, Trust},
    lease::Gate,
    power::PowerState,
};
use send::Wire;

/// `Context` of our sessions (Session.v1_5), alone or before a ledger's mark: how leftovers are told from other people's.
pub const CLIENT_CONTEXT: &str = "rackctl";

/// The `Context` of the log-in with this mark.
pub fn context(mark: Option<&str>) -> String {
    mark.map_or_else(|| CLIENT_CONTEXT.to_owned(), |mark| format!("{CLIENT_CONTEXT} {mark}"))
}

/// A log-in that its process left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Path of the session; `None`: no answer to the log-in was seen.
    pub uri: Option<String>,
    /// What [`SessionLedger::mark`] said then.
    pub mark: Option<String>,
}
/// The service root, with the slash without which some BMCs redirect.
pub const ROOT: &str = "/redfish/v1/";

pub struct Login {
    pub username: String,
    pub password: Arc<Secret>,
    /// Whether it was accepted anywhere yet: shared by all machines of its group.
    pub proof: Arc<Proof>,
}

impl Login {
    pub fn new(username: impl Into<String>, password: Arc<Secret>) -> Login {
        Login { username: username.into(), password, proof: Arc::default() }
    }
}

/// Credentials by name, loaded by the caller; those whose source speaks of the node, by node too.
#[derive(Default)]
pub struct Passwords {
    shared: BTreeMap<String, Result<Login, Failure>>,
    own: BTreeMap<(String, String), Result<Login, Failure>>,
}

impl Passwords {
    pub fn new() -> Self {
        Passwords::default()
    }
    pub fn insert(&mut self, credential: impl Into<String>, username: impl Into<String>, password: Arc<Secret>) {
        self.put(credential, Ok(Login::new(username, password)));
    }
    /// One that all nodes share. A failure stops the nodes that need it, and no others.
    pub fn put(&mut self, credential: impl Into<String>, login: Result<Login, Failure>) {
        self.shared.insert(credential.into(), login);
    }
    /// One that is this node's alone.
    pub fn put_for(&mut self, node: impl Into<String>, credential: impl Into<String>, login: Result<Login, Failure>) {
        self.own.insert((node.into(), credential.into()), login);
    }
    /// The node's own, else the shared one; `Err` says why it could not be had.
    pub fn get(&self, node: &str, credential: &str) -> Result<&Login, Failure> {
        let own = self.own.get(&(node.to_owned(), credential.to_owned()));
        match own.or_else(|| self.shared.get(credential)) {
            Some(Ok(login)) => Ok(login),
            Some(Err(failure)) => Err(Failure { what: format!("{node}: {}", failure.what), ..failure.clone() }),
            None => Err(Failure::new(
                Cause::Local,
                format!("{node}: log in at its BMC"),
                format!("the password of credential `{credential}` was not loaded"),
            )),
        }
    }
}

/// Told of sessions before and after they exist. The caller stores it durably, so that a session that outlived the
/// process is deleted at the next start.
pub trait SessionLedger: Send + Sync {
    /// Tells the log-ins of this ledger from all others, in the BMC too, where it keeps such a word.
    fn mark(&self) -> Option<String> {
        None
    }
    /// A log-in is about to be sent: from now on a session of ours may exist whose address nobody knows.
    fn opening(&self, node: &str);
    fn opened(&self, node: &str, session_uri: &str);
    fn closed(&self, node: &str);
}

/// Remembers nothing: for look-ups that nobody resumes.
pub struct NoLedger;

impl SessionLedger for NoLedger {
    fn opening(&self, _: &str) {}
    fn opened(&self, _: &str, _: &str) {}
    fn closed(&self, _: &str) {}
}

/// One request as it went over the wire: no headers, no bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    pub node: String,
    pub method: String,
    pub path: String,
    /// `None`: no answer came.
    pub status: Option<u16>,
    pub took: Duration,
}

pub type Observer = Arc<dyn Fn(&RequestLine) + Send + Sync>;

#[derive(Clone)]
pub struct Options {
    /// Refuse every write before it leaves, session log-in and log-out apart.
    pub read_only: bool,
    /// For each call of a method (set_power has its own).
    pub deadline: Duration,
    pub ledger: Arc<dyn SessionLedger>,
    pub observer: Option<Observer>,
    /// Of a run: nothing that changes anything is sent after its lease.
    pub gate: Option<Arc<Gate>>,
}

/// Asked right before a request leaves that takes the machine away; `Err`: it is not sent.
pub type Leave = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> + Send + Sync>;

pub struct Client {
    leave: Option<Leave>,
    wire: Wire,
    root: ServiceRoot,
    endpoint: String,
    wanted_system: Option<String>,
    deadline: Duration,
    /// If-Match is refused, whatever stands in it.
    minds_match: std::sync::atomic::AtomicBool,
    /// The last view: its path, reset types and quirks do not change while a client lives.
    view: tokio::sync::Mutex<Option<SystemView>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({} at {})", self.wire.node, self.endpoint)
    }
}

impl Client {
    /// Logs in at `url` (`https://HOST[:PORT]`).
    pub async fn open(
        node: &Node,
        url: &str,
        trust: &Trust,
        login: &Login,
        options: &Options,
    ) -> Result<Client, Failure> {
        let wire = Wire::new(&node.name, url, trust, login, options)?;
        let root = session::enter(&wire, options.deadline).await?;
        Ok(Client {
            leave: None,
            wire,
            root,
            endpoint: url.to_owned(),
            wanted_system: node.bmc.as_ref().and_then(|bmc| bmc.system.clone()),
            deadline: options.deadline,
            minds_match: Default::default(),
            view: tokio::sync::Mutex::new(None),
        })
    }

    /// From now on `leave` is asked before the machine is taken away.
    pub fn asking_first(self, leave: Leave) -> Client {
        Client { leave: Some(leave), ..self }
    }

    pub fn node(&self) -> &str {
        &self.wire.node
    }
    /// The endpoint that answered: `https://HOST[:PORT]`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
    /// The session in use; `None` under Basic auth. One that has ended is opened again, so it may change.
    pub fn session_uri(&self) -> Option<String> {
        self.wire.session_uri()
    }

    /// Deletes the session and says so to the ledger. Call it on every way out.
    pub async fn close(self) -> Result<(), Failure> {
        session::leave(&self.wire).await
    }

    /// Deletes what these log-ins left, and nothing else: a session that lives is another process's. Returns how many.
    pub async fn delete_leftover_sessions(&self, left: &[Leftover]) -> Result<u32, Failure> {
        self.limited("delete leftover sessions", session::delete_leftovers(&self.wire, &self.root, left)).await
    }

    /// The machine as its BMC describes it.
    pub async fn facts(&self) -> Result<BmcFacts, Failure> {
        self.limited("read facts", async {
            let view = self.fresh_view(true).await?;
            let facts = gather_facts(&self.wire, &self.endpoint, &self.root, &view).await?;
            Ok(BmcFacts { unread: self.wire.unread(), ..facts })
        })
        .await
    }

    /// Branches of the BMC that are there and could not be read, with what it said to it: told beside what was read.
    pub fn unread(&self) -> Vec<String> {
        self.wire.unread()
    }

    pub async fn power(&self) -> Result<PowerState, Failure> {
        self.limited("read the power state", self.power_now()).await
    }

    /// `LastResetTime` as the BMC writes it: compared with itself only, BMC clocks are wrong.
    pub async fn last_reset_time(&self) -> Result<Option<String>, Failure> {
        self.limited("read the last reset time", async {
            Ok(super::reset::mark(&self.fresh_view(false).await?.system.last_reset))
        })
        .await
    }

    /// The BMC itself: model, firmware, clock.
    pub async fn bmc_info(&self) -> Result<ManagerFacts, Failure> {
        self.limited("read about the BMC", async {
            let view = self.fresh_view(false).await?;
            walk::manager(&self.wire, &self.root, &view).await
        })
        .await
    }

    /// The driven system and all that decides how it is written to: for [`requests_preview`].
    pub async fn system_view(&self) -> Result<SystemView, Failure> {
        self.limited("look at the system", self.fresh_view(true)).await
    }

    /// The system, read now. What does not change is kept from the first time; settings only `whole`.
    async fn fresh_view(&self, whole: bool) -> Result<SystemView, Failure> {
        let mut kept = self.view.lock().await;
        let view = match kept.take() {
            None => gather_view(&self.wire, &self.root, self.wanted_system.as_deref()).await?,
            Some(mut view) => {
                let (system, etag) = walk::get(&self.wire, &view.path).await?;
                view.system = system;
                view.etag = etag;
                if whole && let Some(settings) = &mut view.settings {
                    let (system, etag) = walk::get(&self.wire, &settings.path).await?;
                    settings.system = system;
                    settings.etag = etag;
                }
                view
            }
        };
        *kept = Some(view.clone());
        Ok(view)
    }

    fn what(&self, doing: &str) -> String {
        format!("{}: {doing}", self.wire.node)
    }

    /// Under the deadline of one call.
    fn limited<'a, T>(
        &'a self,
        doing: &'a str,
        work: impl Future<Output = Result<T, Failure>> + 'a,
    ) -> impl Future<Output = Result<T, Failure>> + 'a {
        self.within(self.deadline, doing, work)
    }

    /// On the heap at once, hence no `async fn`: a dialogue is tens of kilobytes, and every caller's future would hold
    /// it twice (a run's then outgrows a thread's stack).
    fn within<'a, T>(
        &'a self,
        limit: Duration,
        doing: &'a str,
        work: impl Future<Output = Result<T, Failure>> + 'a,
    ) -> impl Future<Output = Result<T, Failure>> + 'a {
        let work = Box::pin(work);
        let late = move |_| {
            let why = format!("not done within {} s", limit.as_secs_f32());
            Err(Failure::new(Cause::Deadline, self.what(doing), why))
        };
        async move { tokio::time::timeout(limit, work).await.unwrap_or_else(late) }
    }
}

/// A resource of a known shape; its ETag as the header gave it, else as the body says.
fn parsed<T: serde::de::DeserializeOwned + Default>(body: serde_json::Value) -> T {
    wire::parse(body)
}
