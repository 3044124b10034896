//! Resets with real lag, as a BMC does them: the answer comes first, the effect later.

use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;

use super::{
    Bmc, Fault, Faults,
    chassis::Chassis,
    reply::{self, Reply, refuse},
    state::{LAG, OFF_TIME, State},
};
use crate::{
    bmc::redfish::wire::{self, PowerWord, ResetRequest},
    model::power::PowerState,
};

/// ResetType values that this BMC takes by itself.
pub const RESET_TYPES: [&str; 5] = ["On", "ForceOff", "GracefulShutdown", "ForceRestart", "PowerCycle"];
const ACTION: &str = "ComputerSystem.Reset";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    On,
    ForceOff,
    GracefulShutdown,
    /// `ForceRestart`, `PowerCycle` and `GracefulRestart`.
    Restart,
    /// A dump of the system, if it listens.
    Nmi,
}

impl ResetKind {
    fn said(self) -> &'static str {
        match self {
            ResetKind::On => "the system was told to go on",
            ResetKind::ForceOff => "the power of the system was cut",
            ResetKind::GracefulShutdown => "the system was asked to shut down",
            ResetKind::Restart => "the system was told to start anew",
            ResetKind::Nmi => "a non-maskable interrupt was sent to the system",
        }
    }
}

/// What a ResetType means, given whether the machine is on.
pub fn kind(word: &str, on: bool) -> Option<ResetKind> {
    Some(match word {
        "On" | "ForceOn" => ResetKind::On,
        "ForceOff" | "Off" => ResetKind::ForceOff,
        "GracefulShutdown" => ResetKind::GracefulShutdown,
        "ForceRestart" | "PowerCycle" | "GracefulRestart" | "FullPowerCycle" => ResetKind::Restart,
        "PushPowerButton" if on => ResetKind::GracefulShutdown,
        "PushPowerButton" => ResetKind::On,
        "Nmi" => ResetKind::Nmi,
        _ => return None,
    })
}

/// What a BMC of its own offers under these faults; a recorded tree says it by itself.
pub fn offered(faults: &Faults) -> Vec<String> {
    match faults.words(Fault::ResetTypes) {
        Some(words) => words.to_vec(),
        None => RESET_TYPES.iter().map(|w| (*w).to_owned()).collect(),
    }
}

/// What becomes of an order, whatever protocol it came by.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// Another reset is under way.
    Busy,
    /// Not in this power state (a restart of a machine that is off).
    Conflict,
}

impl State {
    /// The words that the action takes: of the documents where a tree is shown.
    fn reset_words(&self) -> Option<Vec<String>> {
        if !self.places.recorded {
            return Some(offered(&self.effective));
        }
        let system = self.docs.body(&self.places.system)?;
        let words = |list: &Value| -> Option<Vec<String>> {
            let list: Vec<String> = list.as_array()?.iter().filter_map(|w| w.as_str().map(str::to_owned)).collect();
            Some(list).filter(|l| !l.is_empty())
        };
        let info = || {
            let info = self.docs.body(self.places.reset_info.as_ref()?)?;
            words(&info["Parameters"].as_array()?.iter().find(|p| p["Name"] == "ResetType")?["AllowableValues"])
        };
        words(&system["Actions"]["#ComputerSystem.Reset"]["ResetType@Redfish.AllowableValues"]).or_else(info)
    }

    /// Takes an order, given whether the machine is on. `true`: there is something to carry out.
    fn take(&mut self, now: OffsetDateTime, kind: ResetKind, on: bool) -> (Taken, bool) {
        if self.transition.is_some() {
            if !self.has(Fault::PowerStuck) {
                return (Taken::Busy, false);
            }
            self.transition = None;
        }
        let conflict = match kind {
            ResetKind::On if on => self.has(Fault::PowerOnTwice),
            ResetKind::On => self.within(Fault::PowerOnConflict, self.went_off, now),
            ResetKind::Restart | ResetKind::Nmi => !on,
            _ => false,
        };
        if conflict {
            return (Taken::Conflict, false);
        }
        let deaf = kind == ResetKind::GracefulShutdown && self.has(Fault::ShutdownIgnored);
        if deaf || self.has(Fault::PowerNoop) {
            return (Taken::Yes, false);
        }
        match kind {
            ResetKind::On if on => return (Taken::Yes, false),
            ResetKind::ForceOff | ResetKind::GracefulShutdown if !on => return (Taken::Yes, false),
            ResetKind::Nmi => {
                self.log_event(now, "Warning", kind.said());
                return (Taken::Yes, false);
            }
            ResetKind::On => self.transition = Some(PowerWord::PoweringOn),
            ResetKind::ForceOff | ResetKind::Restart => self.transition = Some(PowerWord::PoweringOff),
            ResetKind::GracefulShutdown => {}
        }
        self.last_order = Some(now);
        self.version += 1;
        self.log_event(now, "OK", kind.said());
        (Taken::Yes, true)
    }
}

impl<C: Chassis> Bmc<C> {
    /// The power state as the BMC shows it: a transition covers the machine's own state.
    pub(super) async fn power_word(&self) -> PowerWord {
        let transition = self.state().transition;
        match (transition, self.chassis.power().await) {
            (Some(word), _) => word,
            (None, PowerState::On) => PowerWord::On,
            (None, _) => PowerWord::Off,
        }
    }

    /// The Redfish action.
    pub(super) async fn post_reset(self: &Arc<Self>, sent: Value) -> Reply {
        let unknown = sent.as_object().and_then(|map| map.keys().find(|k| *k != "ResetType").cloned());
        if let Some(name) = unknown {
            return reply::parameter_unknown(ACTION, &name);
        }
        let request: ResetRequest = wire::parse(sent);
        let Some(word) = request.kind else { return reply::parameter_missing(ACTION, "ResetType") };
        let now = OffsetDateTime::now_utc();
        let on = self.chassis.power().await == PowerState::On;
        let (listed, again) = {
            let state = self.state();
            let listed = state.reset_words().is_none_or(|words| words.contains(&word));
            (listed, state.within(Fault::ResetBusy, state.last_order, now) && state.transition.is_none())
        };
        let Some(kind) = kind(&word, on).filter(|_| listed) else {
            return reply::parameter_value(ACTION, "ResetType", &word);
        };
        if again {
            let text = "The operation cannot be done in the current state of the system.";
            return refuse(400, "iLO.2.24.InvalidOperationForSystemState", text, &[]);
        }
        match self.reset(kind).await {
            Taken::Yes => Reply::empty(204),
            Taken::Busy => reply::busy(true),
            Taken::Conflict => {
                let text = "The parameter ResetType does not meet the requirements of the current power state.";
                refuse(409, "ActionParameterValueConflict", text, &["ResetType", &word])
            }
        }
    }

    /// Takes an order; its effect comes after the lag, in a task of its own.
    pub(super) async fn reset(self: &Arc<Self>, kind: ResetKind) -> Taken {
        let on = self.chassis.power().await == PowerState::On;
        let (taken, work) = self.state().take(OffsetDateTime::now_utc(), kind, on);
        if work {
            let bmc = self.clone();
            tokio::spawn(async move { bmc.carry_out(kind).await });
        }
        taken
    }

    async fn carry_out(&self, kind: ResetKind) {
        let faults = self.now_faults();
        tokio::time::sleep(faults.time(Fault::PowerLag).unwrap_or(LAG)).await;
        let done = match kind {
            ResetKind::On => self.start().await,
            ResetKind::ForceOff => self.chassis.power_off().await,
            ResetKind::GracefulShutdown => self.chassis.shutdown().await,
            ResetKind::Restart => match self.chassis.power_off().await {
                Ok(()) => {
                    tokio::time::sleep(faults.time(Fault::PowerOffTime).unwrap_or(OFF_TIME)).await;
                    self.state().transition = Some(PowerWord::PoweringOn);
                    self.start().await
                }
                fault => fault,
            },
            ResetKind::Nmi => Ok(()),
        };
        let mut state = self.state();
        if matches!(kind, ResetKind::ForceOff | ResetKind::GracefulShutdown) {
            state.went_off = Some(OffsetDateTime::now_utc());
        }
        // A graceful shutdown has no transition of its own: one that began meanwhile is not ended by it.
        if kind != ResetKind::GracefulShutdown && !faults.has(Fault::PowerStuck) {
            state.transition = None;
        }
        state.version += 1;
        state.last_fault = done.err();
    }

    async fn start(&self) -> Result<(), String> {
        let boot = self.state().starts(OffsetDateTime::now_utc());
        self.chassis.power_on(boot).await
    }

    /// Why the chassis did not do what it was last told.
    pub fn last_fault(&self) -> Option<String> {
        self.state().last_fault.clone()
    }
}
