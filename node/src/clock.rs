//! The machine's own times.

use nix::time::{ClockId, clock_gettime, clock_settime};
use rackctl_wire::Stage;

/// Milliseconds since the kernel started, suspended time included.
pub fn uptime_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(|time| (time.tv_sec().max(0) as u64) * 1_000 + (time.tv_nsec().max(0) as u64) / 1_000_000)
        .unwrap_or(0)
}

/// Milliseconds since 1970; `None`: the clock stands before that.
pub fn wall_ms() -> Option<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// Sets the wall clock; a fresh machine's may say anything.
pub fn set_wall(unix_s: u64) -> nix::Result<()> {
    let seconds = i64::try_from(unix_s).map_err(|_| nix::errno::Errno::EINVAL)?;
    clock_settime(ClockId::CLOCK_REALTIME, nix::sys::time::TimeSpec::new(seconds, 0))
}

/// Names of stages on the console.
pub fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Claimed => "claimed",
        Stage::SecondStage => "fetching the second stage",
        Stage::Examining => "looking at the disks",
        Stage::Ready => "ready, waiting for the ticket",
        Stage::Fetching => "fetching the system",
        Stage::Writing => "writing",
        Stage::ReadBack => "reading back",
        Stage::BootSetup => "setting up the boot",
        Stage::Written => "written",
        Stage::Restarting => "restarting",
        Stage::Failed => "failed",
    }
}
