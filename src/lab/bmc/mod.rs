//! The laboratory's BMC: a stateful Redfish service over TLS in front of a [`Chassis`] (an emulated machine).
//!
//! Same wire types as the client (`bmc::redfish::wire`), so that a fake BMC and the real client cannot drift apart.
//! It keeps a log of every request: what tests read to prove that no BMC saw a write.

mod answer;
mod certificate;
mod chassis;
mod fake;
pub mod ipmi;
mod power;
mod resources;
mod serve;
mod sessions;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use certificate::{Certificate, certificate};
pub use chassis::{Chassis, Description, DriveDescription};
pub use fake::FakeChassis;
pub use serve::serve;

use crate::{
    bmc::redfish::wire::{EnabledWord, ModeWord, PowerWord},
    model::{Secret, power::BootTarget},
};
use sessions::Sessions;

/// Requests that the log keeps; older ones are dropped and counted.
pub const LOG_ENTRIES: usize = 4096;

pub struct Account {
    pub user: String,
    pub password: Secret,
}

/// How this BMC behaves, fixed for its life.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// From a reset to its effect; PowerState shows a transition meanwhile.
    pub lag: Duration,
    /// The time without power in a power cycle.
    pub off_time: Duration,
    /// `false`: no session service, Basic auth alone.
    pub sessions: bool,
    pub session_timeout: Duration,
    /// A PATCH without If-Match is answered 428, as AMI's BMCs do.
    pub wants_if_match: bool,
    /// ResetType values on an ActionInfo resource instead of the action, as OpenBMC and Supermicro have it.
    pub action_info: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            lag: Duration::from_secs(1),
            off_time: Duration::from_millis(200),
            sessions: true,
            session_timeout: Duration::from_secs(1800),
            wants_if_match: false,
            action_info: false,
        }
    }
}

/// Lies that real BMCs tell; settable while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Faults {
    /// A PATCH of Boot is answered 200 and not applied.
    pub ignore_boot_override: bool,
    /// A reset is answered 204 and nothing happens.
    pub power_noop: bool,
    /// Resets are carried out and the connection breaks before the answer.
    pub lose_reset_answer: bool,
    /// Storage is shown without its drives, as many BMCs do while the machine is off.
    pub hide_drives: bool,
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
        !matches!(self.method.as_str(), "GET" | "HEAD") && !self.path.starts_with(resources::SESSIONS)
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

struct State {
    boot: BootState,
    /// Counts changes of the system: its ETag.
    version: u64,
    transition: Option<PowerWord>,
    last_reset: OffsetDateTime,
    faults: Faults,
    sessions: Sessions,
    log: VecDeque<LogEntry>,
    log_dropped: u64,
    last_fault: Option<String>,
}

/// One BMC. Cheap to share; all state is inside.
pub struct Bmc<C> {
    chassis: C,
    description: Description,
    account: Account,
    behaviour: Behaviour,
    state: Mutex<State>,
}

impl<C: Chassis> Bmc<C> {
    pub fn new(chassis: C, account: Account, behaviour: Behaviour) -> Arc<Self> {
        let description = chassis.description();
        let mode = if description.uefi { ModeWord::Uefi } else { ModeWord::Legacy };
        let boot = BootState { target: BootTarget::None, enabled: EnabledWord::Disabled, mode };
        let state = State {
            boot,
            version: 1,
            transition: None,
            last_reset: OffsetDateTime::now_utc(),
            faults: Faults::default(),
            sessions: Sessions::new(behaviour.session_timeout),
            log: VecDeque::new(),
            log_dropped: 0,
            last_fault: None,
        };
        Arc::new(Bmc { chassis, description, account, behaviour, state: Mutex::new(state) })
    }

    pub fn chassis(&self) -> &C {
        &self.chassis
    }

    /// A poisoned lock is taken over: the laboratory's state is replaced whole, never half.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn faults(&self) -> Faults {
        self.state().faults
    }
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
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
        self.state().sessions.list(OffsetDateTime::now_utc()).len()
    }
    /// Ends all sessions, as a restart of a BMC does: their tokens are refused from now on.
    pub fn drop_sessions(&self) {
        let timeout = self.behaviour.session_timeout;
        self.state().sessions = Sessions::new(timeout);
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
        state.version += 1;
    }

    /// The guest restarted by itself: what is this boot overridden to? `Once` is consumed.
    pub fn on_guest_reset(&self) -> Option<BootTarget> {
        let mut state = self.state();
        state.last_reset = OffsetDateTime::now_utc();
        state.version += 1;
        state.take_boot()
    }
}

impl State {
    /// The override of the boot that happens now.
    fn take_boot(&mut self) -> Option<BootTarget> {
        let target = self.boot.target;
        let holds = self.boot.enabled != EnabledWord::Disabled && target != BootTarget::None;
        if self.boot.enabled == EnabledWord::Once {
            self.boot = BootState { target: BootTarget::None, enabled: EnabledWord::Disabled, ..self.boot };
            self.version += 1;
        }
        holds.then_some(target)
    }
}

#[cfg(test)]
mod tests;
