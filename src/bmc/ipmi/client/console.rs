//! The machine's serial console over the session (SOL): bytes both ways.

use std::time::Duration;

use tokio::sync::{MappedMutexGuard, MutexGuard};

use super::{Client, Fail, Line, Route};
use crate::{
    bmc::ipmi::{
        Fault, device,
        session::{Event, Outcome},
        sol::{self, Channel, Progress},
    },
    model::{Failure, failure::Cause},
};

/// A session that carries no packet for a minute is dropped: a console that is silent asks something small.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const DOING: &str = "use the serial console";

/// What came from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Bytes(Vec<u8>),
    /// The BMC ends it: somebody took the console, or the BMC restarts.
    Closed,
}

/// An active console. While it lives, its client sends nothing else.
pub struct Console<'a> {
    client: &'a Client,
    line: MappedMutexGuard<'a, Line>,
    channel: Channel,
    ended: bool,
}

impl Client {
    /// Activates serial over LAN. `take`: where somebody else has it, it is taken from them.
    ///
    /// # Errors
    /// `Busy` where another session has it; `Refused` where the BMC does not offer it.
    pub async fn console(&self, take: bool) -> Result<Console<'_>, Failure> {
        if matches!(&*self.line.lock().await, Route::Tool(_)) {
            return Err(self.not_by_tool());
        }
        let activate = |code: Result<Vec<u8>, Fail>| {
            code.map_err(|fail| match fail {
                Fail::Bmc(fault) => Fail::Bmc(sol::refusal(fault)),
                ours => ours,
            })
        };
        let mut answer = activate(self.ask(&sol::activate()).await);
        if take && matches!(&answer, Err(Fail::Bmc(fault)) if fault.code() == Some(0x80)) {
            match self.ask(&sol::deactivate()).await {
                Ok(_) => {}
                Err(Fail::Bmc(fault)) if sol::is_inactive(&fault) => {}
                Err(fail) => return Err(self.told(DOING, fail)),
            }
            answer = activate(self.ask(&sol::activate()).await);
        }
        let data = answer.map_err(|fail| {
            let busy = matches!(&fail, Fail::Bmc(fault) if fault.code() == Some(0x80));
            let failure = self.told(DOING, fail);
            if busy { Failure { cause: Cause::Busy, ..failure } } else { failure }
        })?;
        let activated = sol::read_activated(&data).map_err(|e| self.failure(DOING, e.into()))?;
        let route = self.line.lock().await;
        let line = MutexGuard::try_map(route, |route| match route {
            Route::Session(line) => Some(line.as_mut()),
            Route::Tool(_) => None,
        });
        let line = line.map_err(|_| self.not_by_tool())?;
        Ok(Console { client: self, line, channel: Channel::new(activated.chunk), ended: false })
    }
}

impl Client {
    fn not_by_tool(&self) -> Failure {
        let why = "this BMC is driven by ipmitool, which has a console of its own";
        let host = self.endpoint().trim_start_matches("ipmi://").to_owned();
        let (address, port) = host.rsplit_once(':').unwrap_or((&host, "623"));
        Failure::new(Cause::Refused, self.what(DOING), why)
            .next(format!("ipmitool -I lanplus -H {address} -p {port} -U {} sol activate", self.user))
    }
}

impl Console<'_> {
    fn failure(&self, fault: Fault) -> Failure {
        self.client.failure(DOING, fault)
    }

    /// Bytes to the machine; returns how many were taken: [`sol::MAX_QUEUED_BYTES`] wait at most.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut progress = Progress::default();
        let taken = self.channel.send(self.line.now(), bytes, &mut progress);
        self.out(&progress)?;
        Ok(taken)
    }

    /// A break on the serial line.
    pub fn send_break(&mut self) -> Result<(), Failure> {
        let mut progress = Progress::default();
        self.channel.send_break(self.line.now(), &mut progress);
        self.out(&progress)
    }

    fn out(&mut self, progress: &Progress) -> Result<(), Failure> {
        for payload in &progress.payloads {
            self.line.give(Event::Sol(payload)).map_err(|fault| self.failure(fault))?;
        }
        if progress.silent {
            let why = "the BMC acknowledges nothing any more: what was typed last may not have arrived";
            return Err(Failure::new(Cause::Unreachable, self.client.what(DOING), why));
        }
        Ok(())
    }

    /// Waits for something from the machine. Safe to be cancelled: nothing that arrived is lost.
    pub async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            if self.ended {
                return Ok(Heard::Closed);
            }
            let keep_alive = self.line.now() + KEEP_ALIVE.saturating_sub(self.line.idle());
            let wake = self.channel.wake().map_or(keep_alive, |due| due.min(keep_alive));
            let outcomes = self.line.serve(Some(wake)).await.map_err(|fault| self.failure(fault))?;
            let mut heard = Vec::new();
            for outcome in outcomes {
                match outcome {
                    Outcome::Sol(payload) => {
                        let mut progress = Progress::default();
                        self.channel.received(self.line.now(), &payload, &mut progress);
                        self.out(&progress)?;
                        heard.extend(progress.data);
                        self.ended |= progress.control & sol::DEACTIVATING != 0;
                    }
                    Outcome::Ended(fault) => {
                        return Err(self.failure(fault.unwrap_or(Fault::Closed)));
                    }
                    // The answer to what keeps the session alive.
                    Outcome::Answered(_) | Outcome::Opened { .. } => {}
                }
            }
            let mut progress = Progress::default();
            self.channel.tick(self.line.now(), &mut progress);
            self.out(&progress)?;
            if self.line.idle() >= KEEP_ALIVE {
                let given = self.line.give(Event::Ask(&device::get_id()));
                given.map_err(|fault| self.failure(fault))?;
            }
            if !heard.is_empty() {
                return Ok(Heard::Bytes(heard));
            }
        }
    }

    /// Gives the console back. The client goes on.
    pub async fn close(mut self) -> Result<(), Failure> {
        if !self.line.is_open() {
            return Ok(());
        }
        match self.line.until(Event::Ask(&sol::deactivate())).await {
            Ok(Outcome::Answered(Err(fault))) if !sol::is_inactive(&fault) => Err(self.failure(fault)),
            Err(fault) => Err(self.failure(fault)),
            _ => Ok(()),
        }
    }
}
