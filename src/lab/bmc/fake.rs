//! A chassis without a machine: for tests of the BMC and of its clients.

use std::sync::{Mutex, PoisonError};

use super::chassis::{Chassis, Description};
use crate::model::power::{BootTarget, PowerState};

#[derive(Debug)]
pub struct FakeChassis {
    description: Description,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    on: bool,
    /// The operating system does not listen to the power button.
    deaf: bool,
    boots: Vec<Option<BootTarget>>,
    cuts: u32,
}

impl FakeChassis {
    pub fn new(description: Description) -> Self {
        FakeChassis { description, inside: Mutex::default() }
    }
    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn set_deaf(&self, deaf: bool) {
        self.inside().deaf = deaf;
    }
    /// The override of each boot so far.
    pub fn boots(&self) -> Vec<Option<BootTarget>> {
        self.inside().boots.clone()
    }
    /// How often the power was cut while it was on.
    pub fn cuts(&self) -> u32 {
        self.inside().cuts
    }
}

impl Chassis for FakeChassis {
    fn description(&self) -> Description {
        self.description.clone()
    }
    async fn power(&self) -> PowerState {
        if self.inside().on { PowerState::On } else { PowerState::Off }
    }
    async fn power_on(&self, boot: Option<BootTarget>) -> Result<(), String> {
        let mut inside = self.inside();
        if !inside.on {
            inside.on = true;
            inside.boots.push(boot);
        }
        Ok(())
    }
    async fn power_off(&self) -> Result<(), String> {
        let mut inside = self.inside();
        if inside.on {
            inside.on = false;
            inside.cuts += 1;
        }
        Ok(())
    }
    async fn shutdown(&self) -> Result<(), String> {
        let mut inside = self.inside();
        if !inside.deaf {
            inside.on = false;
        }
        Ok(())
    }
}
