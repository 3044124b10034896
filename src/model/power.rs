//! Power and boot override, as a BMC speaks of them.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PowerState {
    On,
    Off,
    PoweringOn,
    PoweringOff,
    /// Null, unknown word, or not asked.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PowerAction {
    On,
    /// Ask the operating system.
    GracefulShutdown,
    ForceOff,
    /// Off and on again, without asking.
    ForceRestart,
    /// Ask the operating system to restart.
    GracefulRestart,
    PowerCycle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootTarget {
    None,
    Pxe,
    /// UEFI HTTP boot.
    Http,
    Disk,
    Cd,
    Setup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OverrideFor {
    Disabled,
    Once,
    Persistent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootOverride {
    pub target: BootTarget,
    pub lasts: OverrideFor,
    /// `None`: the BMC does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<super::fleet::BootMode>,
}

impl BootOverride {
    pub const CLEARED: BootOverride =
        BootOverride { target: BootTarget::None, lasts: OverrideFor::Disabled, mode: None };
    /// Nothing will be overridden at the next boot.
    pub fn is_cleared(&self) -> bool {
        self.lasts == OverrideFor::Disabled || self.target == BootTarget::None
    }
}
