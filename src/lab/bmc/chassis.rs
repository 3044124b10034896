//! What a BMC stands in front of.

use std::future::Future;

use uuid::Uuid;

use crate::model::{
    Mac,
    power::{BootTarget, PowerState},
};

/// What does not change while a machine exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub manufacturer: String,
    pub model: String,
    pub serial: String,
    pub sku: Option<String>,
    pub uuid: Uuid,
    pub macs: Vec<Mac>,
    pub drives: Vec<DriveDescription>,
    pub memory_bytes: u64,
    pub cores: u32,
    pub uefi: bool,
    pub bios_version: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriveDescription {
    pub serial: String,
    pub model: String,
    pub size_bytes: u64,
}

/// A machine with a power button. The BMC adds lag and transitions; the chassis acts at once.
/// Errors are kept as `Bmc::last_fault` and show as a power state that does not change.
pub trait Chassis: Send + Sync + 'static {
    fn description(&self) -> Description;
    /// `On` or `Off` as it is now.
    fn power(&self) -> impl Future<Output = PowerState> + Send;
    /// Starts the machine; `boot` is the override for this boot. Already on: nothing.
    fn power_on(&self, boot: Option<BootTarget>) -> impl Future<Output = Result<(), String>> + Send;
    /// Cuts the power. Already off: nothing.
    fn power_off(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// Presses the power button: the operating system may shut down, or not listen.
    fn shutdown(&self) -> impl Future<Output = Result<(), String>> + Send;
}
