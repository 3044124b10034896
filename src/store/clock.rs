//! The clocks of this host, read for stamps: the one file of the store that asks for the time.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::model::Stamp;

/// Now, by both clocks.
pub fn stamp() -> Stamp {
    static BOOT: OnceLock<String> = OnceLock::new();
    let boot_id = BOOT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|t| t.trim().to_owned()).unwrap_or_default()
    });
    Stamp { unix_ms: unix_ms(), boot_id: boot_id.clone(), boot_ms: since_boot().as_millis() as u64 }
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// CLOCK_BOOTTIME: goes on while the host sleeps, so that a lease is not believed after a night.
pub fn since_boot() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, |t| {
        Duration::new(u64::try_from(t.tv_sec()).unwrap_or(0), u32::try_from(t.tv_nsec()).unwrap_or(0))
    })
}
