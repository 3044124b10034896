//! The BMC's own restart: told, seen to go, seen to come back.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Client, Fail, Route};
use crate::{
    bmc::ipmi::{Fault, completion::Completion, device},
    model::{Failure, failure::Cause},
};

/// A BMC that was told to restart still answers for so long at most.
const GOES_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_secs(1);

impl Client {
    /// Restarts the BMC, not the machine, and waits until it has gone and answers again: cold, and warm where it does not
    /// know the cold one. What ends its sessions has restarted, however quick it was.
    pub async fn restart_bmc(&self, limit: Duration) -> Result<(), Failure> {
        const DOING: &str = "restart its BMC";
        let before = self.session_began().await;
        let mut command = device::cold_reset();
        let mut told = self.ask(&command).await;
        if matches!(told, Err(Fail::Bmc(Fault::Completed(Completion::INVALID_COMMAND)))) {
            command = device::warm_reset();
            told = self.ask(&command).await;
        }
        match told {
            // Many a BMC is gone before it answers.
            Ok(_) | Err(Fail::Bmc(Fault::AnswerLost | Fault::Dropped(_))) => {}
            Err(other) => return Err(self.told(DOING, other)),
        }
        let (started, mut gone) = (Instant::now(), false);
        loop {
            sleep(POLL).await;
            match self.device().await {
                Ok(device) if device.starting => gone = true,
                Ok(_) if gone || self.session_began().await != before => return Ok(()),
                Ok(_) => {}
                Err(failure) if matches!(failure.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy) => {
                    gone = true;
                }
                Err(failure) => return Err(failure),
            }
            let waited = started.elapsed();
            let fail = |cause, why| {
                let next = format!("rackctl bmc info {}", self.node);
                Err(Failure::new(cause, self.what(DOING), why).next(next))
            };
            if !gone && waited > GOES_WITHIN.min(limit) {
                let why =
                    format!("the BMC took `{}` and has answered all the time for {} s", command.name, waited.as_secs());
                return fail(Cause::AcceptedButIgnored, why);
            }
            if waited > limit {
                let why = format!("it has gone and does not answer again after {} s", waited.as_secs());
                return fail(Cause::Deadline, why);
            }
        }
    }

    /// When the session in use was opened; `ipmitool` has none.
    async fn session_began(&self) -> Option<Instant> {
        match &*self.line.lock().await {
            Route::Session(line) => Some(line.began()),
            Route::Tool(_) => None,
        }
    }
}
