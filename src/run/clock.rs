//! The two clocks: wall time labels records, time since boot (suspend included) decides.

pub use crate::store::clock::{since_boot, stamp, unix_ms};
