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
    /// `PushPowerButton`: on when off, a graceful shutdown when on.
    Button,
    /// A dump of the system, if it listens.
    Nmi,
}

pub fn kind(word: &str) -> Option<ResetKind> {
    Some(match word {
        "On" | "ForceOn" => ResetKind::On,
        "ForceOff" | "Off" => ResetKind::ForceOff,
        "GracefulShutdown" => ResetKind::GracefulShutdown,
        "ForceRestart" | "PowerCycle" | "GracefulRestart" | "FullPowerCycle" => ResetKind::Restart,
        "PushPowerButton" => ResetKind::Button,
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

#[derive(Debug, PartialEq)]
enum Taken {
    /// Nothing is to be done.
    Done,
    Work(ResetKind),
    Refused(Reply),
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

    /// What becomes of an order, given whether the machine is on.
    fn take(&mut self, now: OffsetDateTime, word: &str, on: bool) -> Taken {
        let listed = self.reset_words().is_none_or(|words| words.iter().any(|w| w == word));
        let Some(mut kind) = kind(word).filter(|_| listed) else {
            return Taken::Refused(reply::parameter_value(ACTION, "ResetType", word));
        };
        if self.transition.is_some() {
            if !self.has(Fault::PowerStuck) {
                return Taken::Refused(reply::busy(true));
            }
            self.transition = None;
        }
        if self.within(Fault::ResetBusy, self.last_order, now) {
            let text = "The operation cannot be done in the current state of the system.";
            return Taken::Refused(refuse(400, "iLO.2.24.InvalidOperationForSystemState", text, &[]));
        }
        if kind == ResetKind::Button {
            kind = if on { ResetKind::GracefulShutdown } else { ResetKind::On };
        }
        let conflict = || {
            let text = "The parameter ResetType does not meet the requirements of the current power state.";
            Taken::Refused(refuse(409, "ActionParameterValueConflict", text, &["ResetType", word]))
        };
        match kind {
            ResetKind::On if on && self.has(Fault::PowerOnTwice) => return conflict(),
            ResetKind::On if !on && self.within(Fault::PowerOnConflict, self.went_off, now) => return conflict(),
            ResetKind::Restart | ResetKind::Nmi if !on => return conflict(),
            _ => {}
        }
        if self.has(Fault::PowerNoop) || (kind == ResetKind::GracefulShutdown && self.has(Fault::ShutdownIgnored)) {
            return Taken::Done;
        }
        match kind {
            ResetKind::On if on => return Taken::Done,
            ResetKind::ForceOff | ResetKind::GracefulShutdown if !on => return Taken::Done,
            ResetKind::Nmi => {
                self.log_event(now, "Warning", "a non-maskable interrupt was sent to the system");
                return Taken::Done;
            }
            ResetKind::On => self.transition = Some(PowerWord::PoweringOn),
            ResetKind::ForceOff | ResetKind::Restart => self.transition = Some(PowerWord::PoweringOff),
            ResetKind::GracefulShutdown | ResetKind::Button => {}
        }
        self.last_order = Some(now);
        self.version += 1;
        self.log_event(now, "OK", &format!("the system was told {word}"));
        Taken::Work(kind)
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

    /// Takes a reset; its effect comes after the lag, in a task of its own.
    pub(super) async fn post_reset(self: &Arc<Self>, sent: Value) -> Reply {
        let unknown = sent.as_object().and_then(|map| map.keys().find(|k| *k != "ResetType").cloned());
        if let Some(name) = unknown {
            return reply::parameter_unknown(ACTION, &name);
        }
        let request: ResetRequest = wire::parse(sent);
        let Some(word) = request.kind else { return reply::parameter_missing(ACTION, "ResetType") };
        let on = self.chassis.power().await == PowerState::On;
        let taken = self.state().take(OffsetDateTime::now_utc(), &word, on);
        match taken {
            Taken::Refused(reply) => return reply,
            Taken::Done => {}
            Taken::Work(kind) => {
                let bmc = self.clone();
                tokio::spawn(async move { bmc.carry_out(kind).await });
            }
        }
        Reply::empty(204)
    }

    async fn carry_out(&self, kind: ResetKind) {
        let faults = self.now_faults();
        tokio::time::sleep(faults.time(Fault::PowerLag).unwrap_or(LAG)).await;
        let done = match kind {
            ResetKind::On => self.start().await,
            ResetKind::ForceOff => self.chassis.power_off().await,
            ResetKind::GracefulShutdown | ResetKind::Button => self.chassis.shutdown().await,
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
