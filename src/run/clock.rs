//! The two clocks: wall time labels records, time since boot (suspend included) decides.

pub use crate::store::clock::{since_boot, stamp, unix_ms};

/// Milliseconds of [`since_boot`].
pub fn boot_ms() -> u64 {
    since_boot().as_millis() as u64
}

/// Both clocks, as the engine takes them.
pub fn now() -> crate::engine::Now {
    crate::engine::Now { mono_ms: boot_ms(), unix_ms: unix_ms() }
}
