//! PID 1 of the installed system: first in the initramfs ([`boot`]), then from its own root ([`run`]).

mod control;
mod duties;
mod member;
mod root;

pub use control::{Answer, Request, SOCKET};

use crate::cmdline::SystemLine;
use crate::console::say;
use crate::init::{reboot, stay};
use crate::node_error::{Doing, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the initramfs found, for the program in the new root.
pub const BOOTED: &str = "/run/rackctl/boot.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booted {
    pub slot: String,
    pub trial: bool,
    /// Kernel name of the disk.
    pub disk: String,
    pub disk_guid: Uuid,
    pub disk_serial: Option<String>,
    /// Number of the ESP's partition.
    pub esp: usize,
}

/// In the initramfs. A system that cannot find its root stays: the kernel's own restart after a
/// panic would take the last messages from the console.
pub fn boot(line: &str) -> ! {
    let failed = match SystemLine::parse(line) {
        Ok(line) => match root::mount_and_switch(&line) {
            Ok(never) => match never {},
            Err(error) => {
                say(format!("FAILED: the system cannot start: {error}"));
                line.trial
            }
        },
        Err(error) => {
            say(format!("FAILED: the system cannot start: {error}"));
            false
        }
    };
    if failed {
        say("this slot is on trial: restarting in 10 s");
        std::thread::sleep(std::time::Duration::from_secs(10));
        reboot();
    }
    stay()
}

/// In the new root.
pub fn run() -> ! {
    if let Err(error) = duties::run() {
        say(format!("FAILED: {error}"));
    }
    stay()
}

pub fn booted() -> Result<Booted> {
    let bytes = std::fs::read(BOOTED).doing(format_args!("reading {BOOTED}"))?;
    serde_json::from_slice(&bytes).doing(format_args!("reading {BOOTED}"))
}
