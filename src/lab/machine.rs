//! What stands behind a BMC: a machine that is emulated, or one that is simulated.

use std::sync::Arc;

use super::{
    layout::MachineLayout,
    machine_exec::{self, OnGuestReset, Starts},
    simulated::{self, Account},
    spec::{Identity, MachineSpec},
};
use crate::model::{
    Failure,
    power::{BootTarget, PowerState},
};

/// Cheap to clone.
#[derive(Clone)]
pub enum Machine {
    Emulated(Arc<machine_exec::Machine>),
    Simulated(Arc<simulated::Machine>),
}

use Machine::{Emulated, Simulated};

impl Machine {
    pub fn spec(&self) -> &MachineSpec {
        match self {
            Emulated(m) => &m.spec,
            Simulated(m) => &m.spec,
        }
    }
    pub fn files(&self) -> &MachineLayout {
        match self {
            Emulated(m) => &m.files,
            Simulated(m) => &m.files,
        }
    }
    /// See [`machine_exec::Machine::set_on_guest_reset`].
    pub fn set_on_guest_reset(&self, hook: OnGuestReset) {
        match self {
            Emulated(m) => m.set_on_guest_reset(hook),
            Simulated(m) => m.set_on_guest_reset(hook),
        }
    }
    pub fn identity(&self) -> Identity {
        match self {
            Emulated(m) => m.identity(),
            Simulated(m) => m.identity(),
        }
    }
    /// Takes effect at the next start, as a swapped disk or board would.
    pub fn set_identity(&self, identity: Identity) {
        match self {
            Emulated(m) => m.set_identity(identity),
            Simulated(m) => m.set_identity(identity),
        }
    }
    pub fn starts(&self) -> Starts {
        match self {
            Emulated(m) => m.starts(),
            Simulated(m) => m.starts(),
        }
    }
    /// Of the process, while there is one.
    pub async fn pid(&self) -> Option<i32> {
        match self {
            Emulated(m) => m.pid().await,
            Simulated(_) => None,
        }
    }
    /// What a simulated machine counts itself.
    pub fn account(&self) -> Option<Account> {
        match self {
            Emulated(_) => None,
            Simulated(m) => Some(m.account()),
        }
    }
    pub async fn power(&self) -> Result<PowerState, Failure> {
        match self {
            Emulated(m) => m.power().await,
            Simulated(m) => Ok(m.power().await),
        }
    }
    /// Starts it unless it is on. `boot`: what the BMC's override says, `None` without one.
    pub async fn power_on(&self, boot: Option<BootTarget>) -> Result<(), Failure> {
        match self {
            Emulated(m) => m.power_on(boot).await,
            Simulated(m) => {
                m.power_on(boot).await;
                Ok(())
            }
        }
    }
    /// Cuts its power: nothing is asked of what runs on it.
    pub async fn power_off(&self) -> Result<(), Failure> {
        match self {
            Emulated(m) => m.power_off().await,
            Simulated(m) => {
                m.power_off().await;
                Ok(())
            }
        }
    }
    /// Presses the power button.
    pub async fn shutdown(&self) -> Result<(), Failure> {
        match self {
            Emulated(m) => m.shutdown().await,
            Simulated(m) => {
                m.shutdown().await;
                Ok(())
            }
        }
    }
}
