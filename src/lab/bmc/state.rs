//! All that one BMC remembers, and what time does to it. Pure: `now` is an argument.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use time::OffsetDateTime;

use super::{
    Account, BootState, Certificate, Description, Fault, Faults, LogEntry, accounts::Accounts, build,
    documents::Documents, paths::Places, sessions::Sessions, tasks::Jobs,
};
use crate::{
    bmc::redfish::wire::{EnabledWord, ModeWord, PowerWord},
    model::{Secret, power::BootTarget},
};

pub const LAG: Duration = Duration::from_secs(1);
pub const OFF_TIME: Duration = Duration::from_millis(200);
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(1800);
/// As XCC and OpenBMC have it.
pub const SESSION_CAP: u64 = 16;

pub struct State {
    pub docs: Documents,
    pub places: Places,
    pub nature: Faults,
    pub faults: Faults,
    pub effective: Arc<Faults>,
    /// What faults with a number have left.
    pub left: BTreeMap<Fault, u64>,
    pub boot: BootState,
    /// What the BMC's own words add to it.
    pub boot_words: BootWords,
    /// On a settings resource: in force from the next start on.
    pub pending_boot: Option<(BootState, BootWords)>,
    /// Counts changes of the system: its ETag.
    pub version: u64,
    pub transition: Option<PowerWord>,
    pub last_reset: OffsetDateTime,
    pub went_on: Option<OffsetDateTime>,
    pub went_off: Option<OffsetDateTime>,
    pub last_order: Option<OffsetDateTime>,
    /// A version of the BIOS that comes into force with the next start.
    pub staged_bios: Option<String>,
    /// Slots whose medium is shown as inserted until then.
    pub ejecting: BTreeMap<String, OffsetDateTime>,
    pub sessions: Sessions,
    pub accounts: Accounts,
    pub jobs: Jobs,
    pub bmc_resets: u64,
    /// Given by ReplaceCertificate.
    pub certificate: Option<Certificate>,
    /// Of the last GenerateCSR.
    pub requested_key: Option<Secret>,
    pub log: VecDeque<LogEntry>,
    pub log_dropped: u64,
    pub last_fault: Option<String>,
    /// Events since they were last taken to be sent.
    pub fresh: Vec<serde_json::Value>,
    pub event_count: u64,
}

/// What [`BootState`] has no word for: `UsbCd`, `UefiTarget`, and where UEFI HTTP boot goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootWords {
    pub target: Option<String>,
    pub uri: Option<String>,
}

fn cleared(mode: ModeWord) -> BootState {
    BootState { target: BootTarget::None, enabled: EnabledWord::Disabled, mode }
}

impl State {
    pub fn new(
        description: &Description,
        account: Account,
        nature: Faults,
        docs: Documents,
        places: Places,
        now: OffsetDateTime,
    ) -> State {
        let mode = if description.uefi { ModeWord::Uefi } else { ModeWord::Legacy };
        let mut state = State {
            docs,
            places,
            faults: Faults::default(),
            effective: Arc::new(nature.clone()),
            nature,
            left: BTreeMap::new(),
            boot: cleared(mode),
            boot_words: BootWords::default(),
            pending_boot: None,
            version: 1,
            transition: None,
            last_reset: now,
            went_on: None,
            went_off: None,
            last_order: None,
            staged_bios: None,
            ejecting: BTreeMap::new(),
            sessions: Sessions::default(),
            accounts: Accounts::default(),
            jobs: Jobs::default(),
            bmc_resets: 0,
            certificate: None,
            requested_key: None,
            log: VecDeque::new(),
            log_dropped: 0,
            last_fault: None,
            fresh: Vec::new(),
            event_count: 0,
        };
        state.add_account(account.user, account.password, "Administrator");
        let effective = state.effective.clone();
        state.recount(&effective);
        state
    }

    pub fn set_faults(&mut self, faults: Faults) {
        let before = self.effective.clone();
        self.effective = Arc::new(faults.over(&self.nature));
        // A transition that never ended ends with the fault.
        if before.has(Fault::PowerStuck) && !self.has(Fault::PowerStuck) {
            self.transition = None;
        }
        self.faults = faults;
        let effective = self.effective.clone();
        self.recount(&effective);
        if !self.places.recorded {
            build::reshape(&mut self.docs, &before, &effective);
        }
        self.version += 1;
    }

    fn recount(&mut self, faults: &Faults) {
        self.left = faults.iter().filter_map(|fault| Some((fault, faults.count(fault)?))).collect();
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.effective.has(fault)
    }

    /// One less of a fault that holds so many times; `false`: none is left.
    pub fn spend(&mut self, fault: Fault) -> bool {
        match self.left.get_mut(&fault) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    pub fn session_timeout(&self) -> Duration {
        self.effective.time(Fault::SessionTimeout).unwrap_or(SESSION_TIMEOUT)
    }

    /// What time brings about by itself: sessions end, tasks go on, media are gone.
    pub fn advance(&mut self, now: OffsetDateTime) {
        let timeout = self.session_timeout();
        for id in self.sessions.expire(now, timeout) {
            self.forget_session(&id);
        }
        self.advance_jobs(now);
        let done: Vec<String> = self.ejecting.iter().filter(|(_, at)| **at <= now).map(|(p, _)| p.clone()).collect();
        for path in done {
            self.ejecting.remove(&path);
            self.medium_gone(&path);
        }
    }

    /// The machine starts: what this boot is overridden to. `Once` is consumed, what was pending comes into force.
    pub fn starts(&mut self, now: OffsetDateTime) -> Option<BootTarget> {
        self.last_reset = now;
        self.went_on = Some(now);
        self.version += 1;
        if let Some(pending) = self.pending_boot.take() {
            (self.boot, self.boot_words) = pending;
        }
        // A recorded tree stays as it was recorded.
        if !self.places.recorded {
            self.apply_bios();
            self.apply_secure_boot();
        }
        if let Some(version) = self.staged_bios.take() {
            self.set_firmware("BIOS", &version);
        }
        let target = self.boot.target;
        let set = self.boot.enabled != EnabledWord::Disabled && target != BootTarget::None;
        if self.boot.enabled == EnabledWord::Once && !self.has(Fault::BootSticky) {
            self.boot = cleared(self.boot.mode);
        }
        (set && !self.has(Fault::BootNotHonoured)).then_some(target).or_else(|| self.first_of_order())
    }

    /// The BMC starts anew: sessions end, and what it only kept in memory is lost.
    pub fn bmc_restarts(&mut self) {
        self.drop_sessions();
        self.bmc_resets += 1;
        if self.has(Fault::BootLostAtReset) {
            self.boot = cleared(self.boot.mode);
            self.boot_words = BootWords::default();
            self.pending_boot = None;
            self.version += 1;
        }
    }

    /// Seconds that a time fault still holds after an event.
    pub fn within(&self, fault: Fault, since: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
        let (Some(time), Some(since)) = (self.effective.time(fault), since) else { return false };
        now - since < time
    }

    pub fn etag(&self, path: &str) -> String {
        let document = self.docs.get(path).map_or(0, |d| d.version);
        let live = if path == self.places.system { self.version } else { 0 };
        format!("\"{:x}\"", document + live)
    }
}
