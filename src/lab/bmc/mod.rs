//! The laboratory's BMC: a stateful Redfish service over TLS in front of a [`Chassis`] (an emulated machine).
//!
//! What crosses the wire both ways (log-in, resets, overrides, words of power and boot) is read and written with the
//! client's own types (`bmc::redfish::wire`), so that the two cannot drift apart. It keeps a log of every request: what
//! tests read to prove that no BMC saw a write.
//!
//! It is the specification of lying BMCs: every fault that was seen on a real one is a row of [`Fault`], with its
//! source, and can be set while it runs.
//!
//! | question | file |
//! |---|---|
//! | what faults there are, and which vendor has which | `fault` |
//! | what stands where, and what it looks like when new | `paths`, `build`, `documents`, `tree_load` |
//! | what is remembered, and what time does to it | `state` |
//! | how a request becomes an answer | `answer`, `auth`, `gate`, `query`, `patch`, `actions`, `names` |
//! | what is laid over a document, and what lies in it | `render`; on the wire: `spoil` |
//! | what an action does | `power`, `boot`, `bios`, `media`, `update`, `tasks`, `volumes`, `accounts`, `logs`, … |

mod accounts;
mod actions;
mod alone_serve;
mod answer;
mod auth;
mod bios;
mod boot;
mod build;
mod certificate;
mod certificates;
mod chassis;
mod documents;
mod events;
mod fake;
mod fault;
mod gate;
pub mod ipmi;
mod logs;
mod media;
mod names;
mod patch;
mod paths;
mod power;
mod query;
mod render;
mod reply;
mod serve;
mod sessions;
mod spoil;
mod state;
mod tasks;
mod tree_load;
mod update;
mod volumes;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use alone_serve::{Alone, alone};
pub use certificate::{Certificate, certificate};
pub use chassis::{Chassis, Description, DriveDescription};
pub use fake::FakeChassis;
pub use fault::{Fault, Faults, PROFILES, Profile, Takes};
pub use serve::serve;
pub use tree_load::Tree;

use crate::{
    bmc::redfish::wire::{EnabledWord, ModeWord},
    model::{Failure, Secret, power::BootTarget},
};
use state::State;

/// Requests that the log keeps; older ones are dropped and counted.
pub const LOG_ENTRIES: usize = 4096;

pub struct Account {
    pub user: String,
    pub password: Secret,
}

/// One request, without headers and bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    pub at: SystemTime,
    pub method: String,
    pub path: String,
    pub status: u16,
    pub user: Option<String>,
    /// Id of the log-in that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What that log-in called itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

impl LogEntry {
    /// Changes something other than the session it came with.
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
            && !self.path.to_ascii_lowercase().starts_with("/redfish/v1/sessionservice/")
    }
}

/// What outlives a restart of the laboratory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    pub boot: BootState,
}

/// The override as the BMC holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootState {
    pub target: BootTarget,
    pub enabled: EnabledWord,
    pub mode: ModeWord,
}

/// One BMC. Cheap to share; all state is inside.
pub struct Bmc<C> {
    chassis: C,
    description: Description,
    account: Account,
    state: Mutex<State>,
    events: tokio::sync::broadcast::Sender<serde_json::Value>,
}

impl<C: Chassis> Bmc<C> {
    /// A BMC with resources of its own. `nature`: how it behaves all its life; faults that are set later lie over it.
    pub fn new(chassis: C, account: Account, nature: Faults) -> Arc<Self> {
        let description = chassis.description();
        let docs = build::documents(&description, &nature);
        Bmc::made(chassis, account, nature, docs, paths::Places::own())
    }

    /// A BMC that shows a recorded tree; power, boot overrides and sessions live, everything else is read only.
    pub fn with_tree(chassis: C, account: Account, nature: Faults, tree: &Path) -> Result<Arc<Self>, Failure> {
        let tree = Tree::load(tree)?;
        Ok(Bmc::made(chassis, account, nature, tree.documents, tree.places))
    }

    fn made(
        chassis: C,
        account: Account,
        nature: Faults,
        docs: documents::Documents,
        places: paths::Places,
    ) -> Arc<Self> {
        let description = chassis.description();
        let own = Account { user: account.user.clone(), password: Secret::new(account.password.expose().to_owned()) };
        let state = State::new(&description, own, nature, docs, places, OffsetDateTime::now_utc());
        let (events, _) = tokio::sync::broadcast::channel(events::QUEUE);
        Arc::new(Bmc { chassis, description, account, state: Mutex::new(state), events })
    }

    pub fn chassis(&self) -> &C {
        &self.chassis
    }

    pub fn description(&self) -> &Description {
        &self.description
    }
    /// The account that it was made with; others may have been added, and its password changed.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// A poisoned lock is taken over: the laboratory's state is replaced whole, never half.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those set while it runs, without its nature.
    pub fn faults(&self) -> Faults {
        self.state().faults.clone()
    }
    /// In place of those set before; its nature stays.
    pub fn set_faults(&self, faults: Faults) {
        self.state().set_faults(faults);
    }
    /// Whether a fault is in force, set or by nature.
    pub fn has(&self, fault: Fault) -> bool {
        self.state().has(fault)
    }
    /// All that is in force.
    fn now_faults(&self) -> Arc<Faults> {
        self.state().effective.clone()
    }

    /// The requests so far, oldest first, and how many older ones were dropped.
    pub fn log(&self) -> (Vec<LogEntry>, u64) {
        let state = self.state();
        (state.log.iter().cloned().collect(), state.log_dropped)
    }
    /// Requests that changed something: empty is the proof that nothing was touched.
    pub fn writes(&self) -> Vec<LogEntry> {
        self.log().0.into_iter().filter(LogEntry::is_write).collect()
    }
    pub fn open_sessions(&self) -> usize {
        let mut state = self.state();
        state.advance(OffsetDateTime::now_utc());
        state.sessions.list().len()
    }
    /// The boot order as it is shown; empty where it shows none.
    pub fn boot_order(&self) -> Vec<String> {
        let state = self.state();
        let order = state.docs.body(&state.places.system).map(|body| body["Boot"]["BootOrder"].clone());
        order.and_then(|o| serde_json::from_value(o).ok()).unwrap_or_default()
    }
    /// Ends all sessions, as a restart of a BMC does: their tokens are refused from now on.
    pub fn drop_sessions(&self) {
        self.state().drop_sessions();
    }
    /// Accounts that are locked now.
    pub fn locked_accounts(&self) -> Vec<String> {
        self.state().accounts.locked(OffsetDateTime::now_utc())
    }
    /// Those that it was made with.
    pub fn nature(&self) -> Faults {
        self.state().nature.clone()
    }
    /// Puts the certificate that it serves with into its resource; one that was given by ReplaceCertificate is over.
    pub fn show_certificate(&self, pem: &str) {
        self.state().certificate = None;
        let path = format!("{}/1", paths::CERTIFICATES);
        self.state().docs.merge(&path, &serde_json::json!({ "CertificateString": pem }));
    }
    /// The key that it was given by ReplaceCertificate, if it was: `sha256:HEX`.
    pub fn replaced_pin(&self) -> Option<String> {
        self.state().certificate.as_ref().map(|c| c.pin.clone())
    }

    /// Its TLS, where its certificate was replaced.
    fn replaced_tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.state().certificate.as_ref()?.server_config().ok()
    }

    fn record(&self, entry: LogEntry) {
        let mut state = self.state();
        if state.log.len() >= LOG_ENTRIES {
            state.log.pop_front();
            state.log_dropped += 1;
        }
        state.log.push_back(entry);
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot { boot: self.state().boot }
    }
    pub fn restore(&self, snapshot: Snapshot) {
        let mut state = self.state();
        state.boot = snapshot.boot;
        state.boot_words = state::BootWords::default();
        state.pending_boot = None;
        state.version += 1;
    }

    /// The guest restarted by itself: what is this boot overridden to? `Once` is consumed.
    pub fn on_guest_reset(&self) -> Option<BootTarget> {
        self.state().starts(OffsetDateTime::now_utc())
    }
}

#[cfg(test)]
mod tests;
