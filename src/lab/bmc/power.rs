//! Resets with real lag, as a BMC does them: the answer comes first, the effect later.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{Bmc, chassis::Chassis};
use crate::{
    bmc::redfish::wire::PowerWord,
    model::power::{BootTarget, PowerState},
};

/// ResetType values that this BMC takes.
pub const RESET_TYPES: [&str; 5] = ["On", "ForceOff", "GracefulShutdown", "ForceRestart", "PowerCycle"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    On,
    ForceOff,
    GracefulShutdown,
    /// `ForceRestart` and `PowerCycle`.
    Restart,
}

pub fn kind(word: &str) -> Option<ResetKind> {
    Some(match word {
        "On" => ResetKind::On,
        "ForceOff" => ResetKind::ForceOff,
        "GracefulShutdown" => ResetKind::GracefulShutdown,
        "ForceRestart" | "PowerCycle" => ResetKind::Restart,
        _ => return None,
    })
}

#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// Another reset is under way.
    Busy,
    /// Not in this power state (a restart of a machine that is off).
    Conflict,
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
    pub(super) async fn reset(self: &Arc<Self>, kind: ResetKind) -> Taken {
        let on = self.chassis.power().await == PowerState::On;
        {
            let mut state = self.state();
            if state.transition.is_some() {
                return Taken::Busy;
            }
            if state.faults.power_noop {
                return Taken::Yes;
            }
            match kind {
                ResetKind::On if on => return Taken::Yes,
                ResetKind::ForceOff | ResetKind::GracefulShutdown if !on => return Taken::Yes,
                ResetKind::Restart if !on => return Taken::Conflict,
                ResetKind::GracefulShutdown => {}
                ResetKind::On => state.transition = Some(PowerWord::PoweringOn),
                ResetKind::ForceOff | ResetKind::Restart => state.transition = Some(PowerWord::PoweringOff),
            }
            state.version += 1;
        }
        let bmc = self.clone();
        tokio::spawn(async move { bmc.carry_out(kind).await });
        Taken::Yes
    }

    async fn carry_out(&self, kind: ResetKind) {
        tokio::time::sleep(self.behaviour.lag).await;
        let done = match kind {
            ResetKind::On => self.start().await,
            ResetKind::ForceOff => self.chassis.power_off().await,
            ResetKind::GracefulShutdown => self.chassis.shutdown().await,
            ResetKind::Restart => match self.chassis.power_off().await {
                Ok(()) => {
                    tokio::time::sleep(self.behaviour.off_time).await;
                    self.state().transition = Some(PowerWord::PoweringOn);
                    self.start().await
                }
                fault => fault,
            },
        };
        let mut state = self.state();
        // A graceful shutdown has no transition of its own: one that began meanwhile is not ended by it.
        if kind != ResetKind::GracefulShutdown {
            state.transition = None;
        }
        state.version += 1;
        state.last_fault = done.err();
    }

    async fn start(&self) -> Result<(), String> {
        let boot: Option<BootTarget> = {
            let mut state = self.state();
            state.last_reset = OffsetDateTime::now_utc();
            state.take_boot()
        };
        self.chassis.power_on(boot).await
    }

    /// Why the chassis did not do what it was last told.
    pub fn last_fault(&self) -> Option<String> {
        self.state().last_fault.clone()
    }
}
