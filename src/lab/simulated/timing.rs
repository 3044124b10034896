//! How long the parts of a simulated machine take. Short, so that hundreds of installations can be tried.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds each; stands in `lab.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Timing {
    /// From the power to the first boot device.
    pub self_test_ms: u64,
    /// From a loaded kernel to its first program.
    pub kernel_ms: u64,
    /// A disk write, from the first byte to the last.
    pub write_ms: u64,
    /// First wait for a DHCP answer; doubled with each of [`DHCP_TRIES`].
    pub dhcp_ms: u64,
    /// Between two rounds of a firmware that found nothing to boot.
    pub round_ms: u64,
    /// What a second of a boot script's `sleep` takes.
    pub script_second_ms: u64,
    /// First wait of an installer whose API does not answer; doubled up to [`API_WAIT_MAX`].
    pub api_ms: u64,
    /// From a BMC's answer to a reset to its effect, and the time without power in a cycle.
    pub bmc_lag_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            self_test_ms: 20,
            kernel_ms: 20,
            write_ms: 100,
            dhcp_ms: 250,
            round_ms: 500,
            script_second_ms: 100,
            api_ms: 100,
            bmc_lag_ms: 20,
        }
    }
}

/// Questions that firmware sends before it takes the network for dead.
pub const DHCP_TRIES: u32 = 4;
pub const API_WAIT_MAX: Duration = Duration::from_secs(1);

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
