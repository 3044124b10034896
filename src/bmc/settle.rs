//! Bringing a machine on or off until its BMC shows it: one loop for every way to a BMC.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    client::Leave,
    reset::{self, Can, Move, Wish},
};
use crate::model::{
    Failure,
    failure::Cause,
    power::{PowerAction, PowerState},
};

const POLL_FIRST: Duration = Duration::from_millis(200);
const POLL_MOST: Duration = Duration::from_secs(3);
/// How long an operating system is given to shut down before force, at most; else half of the deadline.
const GRACE: Duration = Duration::from_secs(60);
const STEP_LEAST: Duration = Duration::from_secs(1);
/// How often "not in this state" is believed to pass: iDRAC10 refuses to go on for a while after it went off, iLO a reset
/// soon after another (Ironic asks 6 times, every 10 s: redfish/power.py:67; sushy connector.py:106).
const NOT_NOW_TRIES: u32 = 20;
/// A transition (`PoweringOn`) that lasts longer than this does not keep a request back any more.
const TRANSITION: Duration = Duration::from_secs(30);
/// Between two looks at a machine that restarts: its way through "off" may be short.
const RESTART_POLL: Duration = Duration::from_millis(500);
/// A restart of which the BMC shows nothing is looked for so long, and then told as what it is.
const TELL: Duration = Duration::from_secs(60);

/// How a reset went, as far as its answer tells.
pub(super) enum Sent {
    Accepted,
    /// The answer was lost: it may have happened.
    Unknown,
    /// Refused or "later"; with what the BMC said.
    Refused(Failure),
    /// Refused because of the state that the machine is in: it may be so already, or it may do it later.
    NotNow(Failure),
}

/// A machine at one moment, with all by which a restart is known afterwards.
#[derive(Clone, Debug)]
pub(super) struct Glimpse {
    pub power: PowerState,
    /// The BMC's own time of the last reset.
    pub mark: Option<String>,
    /// How far it has come with its start; see [`reset::progress`].
    pub progress: Option<usize>,
}

/// A BMC may be away for a while, all the more one that shares the machine's network card; the wrong key or a refused
/// password will not mend by waiting.
pub(super) fn away(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy)
}

/// A BMC, whatever it speaks.
pub(super) trait Driven: Sync {
    /// A reset, ready to be sent.
    type Request: Send + Sync;

    /// For messages.
    fn node(&self) -> &str;
    /// Of one call.
    fn deadline(&self) -> Duration;
    fn power_now(&self) -> impl Future<Output = Result<PowerState, Failure>> + Send;
    fn glimpse(&self) -> impl Future<Output = Result<Glimpse, Failure>> + Send;
    fn can(&self) -> impl Future<Output = Result<Can, Failure>> + Send;
    /// `Refused`: the BMC does not offer this way.
    fn prepare(&self, action: PowerAction, doing: &str) -> impl Future<Output = Result<Self::Request, Failure>> + Send;
    /// Whoever has to be asked before the machine is taken away; the answer is fresh when the request leaves.
    fn may_leave(&self, action: PowerAction) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Never sends twice what happens twice.
    fn send(&self, request: &Self::Request, doing: &str) -> impl Future<Output = Result<Sent, Failure>> + Send;
}

/// Asks before everything but power on.
pub(super) async fn ask_leave(leave: Option<&Leave>, action: PowerAction) -> Result<(), Failure> {
    match leave.filter(|_| action != PowerAction::On) {
        Some(leave) => leave().await,
        None => Ok(()),
    }
}

fn what(machine: &impl Driven, doing: &str) -> String {
    format!("{}: {doing}", machine.node())
}

async fn within<T>(
    machine: &impl Driven,
    limit: Duration,
    doing: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| {
        let why = format!("not done within {} s", limit.as_secs_f32());
        Err(Failure::new(Cause::Deadline, what(machine, doing), why))
    };
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}

/// Sends one reset and does not wait for its effect. Never sent twice.
pub(super) async fn reset(machine: &impl Driven, action: PowerAction) -> Result<(), Failure> {
    let doing = format!("reset ({action:?})");
    let limit = machine.deadline();
    let request = within(machine, limit, &doing, machine.prepare(action, &doing)).await?;
    machine.may_leave(action).await?;
    match within(machine, limit, &doing, machine.send(&request, &doing)).await? {
        Sent::Accepted => Ok(()),
        Sent::Refused(failure) => Err(with_next(failure, format!("rackctl bmc info {}", machine.node()))),
        Sent::NotNow(failure) => Err(with_next(failure, format!("rackctl power status {}", machine.node()))),
        Sent::Unknown => {
            let why = "the answer was lost: whether it happened can only be seen, so it is not sent again";
            Err(Failure::new(Cause::Unreachable, what(machine, &doing), why)
                .next(format!("rackctl power status {}", machine.node())))
        }
    }
}

/// What to do next, unless whoever failed has said it.
fn with_next(failure: Failure, next: String) -> Failure {
    Failure { next: failure.next.or(Some(next)), ..failure }
}

/// What a power verb asks, by the moves that this BMC offers. `limit`: of each. Says what could not be seen.
pub(super) async fn drive(machine: &impl Driven, wish: Wish, limit: Duration) -> Result<Option<String>, Failure> {
    let doing = "see what its BMC offers";
    let can = within(machine, machine.deadline(), doing, machine.can()).await?;
    let mut untold = None;
    for one in reset::moves(machine.node(), wish, &can)? {
        match one {
            Move::On => bring(machine, true, vec![PowerAction::On], limit).await?,
            Move::ShutDown => bring(machine, false, vec![PowerAction::GracefulShutdown], limit).await?,
            Move::Cut => bring(machine, false, vec![PowerAction::ForceOff], limit).await?,
            Move::Restart(action) => untold = restart(machine, action, limit).await?,
            Move::Send(action) => reset(machine, action).await?,
        }
    }
    Ok(untold)
}

/// What was seen since a restart was asked for.
#[derive(Clone, Debug)]
struct Seen {
    before: Glimpse,
    furthest: Option<usize>,
    proven: bool,
}

impl Seen {
    fn new(before: Glimpse) -> Seen {
        // Of a machine that was not on, being on is proof enough.
        let proven = !matches!(before.power, PowerState::On | PowerState::Unknown);
        Seen { furthest: before.progress, before, proven }
    }

    fn look(&mut self, now: &Glimpse) {
        let gone = matches!(now.power, PowerState::Off | PowerState::PoweringOff | PowerState::PoweringOn);
        let marked = now.mark.is_some() && now.mark != self.before.mark;
        let back = matches!((now.progress, self.furthest), (Some(now), Some(before)) if now < before);
        self.proven |= gone || marked || back;
        self.furthest = now.progress.or(self.furthest);
    }

    /// Whether this BMC shows anything by which one that did not happen would be known.
    fn tells(&self) -> bool {
        self.before.mark.is_some()
    }
}

/// Sends a restart once and looks for it: the BMC's own mark, the machine's way through "off", or its start that began
/// anew; it must be on in the end. `Some`: it may have happened, and this BMC shows nothing that would tell.
async fn restart(machine: &impl Driven, action: PowerAction, limit: Duration) -> Result<Option<String>, Failure> {
    let doing = "restart";
    let started = Instant::now();
    let step = || machine.deadline().min(limit.saturating_sub(started.elapsed()).max(STEP_LEAST));
    let mut seen = Seen::new(within(machine, step(), doing, machine.glimpse()).await?);
    let request = within(machine, step(), doing, machine.prepare(action, doing)).await?;
    machine.may_leave(action).await?;
    // A lost answer is not sent again: what is seen next counts.
    let accepted = match within(machine, step(), doing, machine.send(&request, doing)).await {
        Ok(Sent::Accepted) => true,
        Ok(Sent::Unknown) => false,
        Ok(Sent::Refused(failure)) => {
            return Err(with_next(failure, format!("rackctl power cycle {} --force", machine.node())));
        }
        Ok(Sent::NotNow(failure)) => {
            return Err(with_next(failure, format!("rackctl power status {}", machine.node())));
        }
        Err(failure) if failure.cause == Cause::Deadline => false,
        Err(failure) => return Err(failure),
    };
    let mut state = PowerState::Unknown;
    let lost = loop {
        let lost = match within(machine, step(), doing, machine.glimpse()).await {
            Ok(now) => {
                state = now.power;
                seen.look(&now);
                if reset::reached(true, state) && seen.proven {
                    return Ok(None);
                }
                if reset::reached(true, state) && accepted && !seen.tells() && started.elapsed() >= TELL.min(limit) {
                    let why = "whether it restarted cannot be told: its BMC keeps no time of the last reset";
                    return Ok(Some(why.to_owned()));
                }
                None
            }
            Err(failure) if away(&failure) => Some(failure),
            Err(failure) => return Err(failure),
        };
        if started.elapsed() >= limit {
            break lost;
        }
        sleep(RESTART_POLL.min(limit.saturating_sub(started.elapsed()))).await;
    };
    let (node, seconds) = (machine.node(), limit.as_secs_f32());
    let state = format!("{state:?}").to_lowercase();
    Err(match lost {
        Some(failure) => {
            let why = format!("not verified within {seconds} s; last: {}", failure.why);
            Failure::new(failure.cause, what(machine, doing), why).next(format!("rackctl power status {node}"))
        }
        None if accepted => {
            let why = format!(
                "the BMC took the request ({action:?}) and shows no restart within {seconds} s: the machine is {state}"
            );
            let force = if action == PowerAction::ForceRestart { "cycle" } else { "reset" };
            Failure::new(Cause::AcceptedButIgnored, what(machine, doing), why)
                .next(format!("rackctl power {force} {node} --force"))
        }
        None => {
            let why =
                format!("the answer was lost, and no restart was seen within {seconds} s: the machine is {state}");
            Failure::new(Cause::Deadline, what(machine, doing), why).next(format!("rackctl power status {node}"))
        }
    })
}

/// Brings the machine on or off and waits until the BMC shows it. Off asks the operating system first; only with
/// `force` is the power cut when it does not listen. A reset whose answer was lost is not sent again.
pub(super) async fn set_power(machine: &impl Driven, on: bool, force: bool, deadline: Duration) -> Result<(), Failure> {
    let ways = match (on, force) {
        (true, _) => vec![PowerAction::On],
        (false, false) => vec![PowerAction::GracefulShutdown],
        (false, true) => vec![PowerAction::ForceOff, PowerAction::GracefulShutdown],
    };
    bring(machine, on, ways, deadline).await
}

/// By one way after the other, the last of the list first.
async fn bring(machine: &impl Driven, on: bool, mut ways: Vec<PowerAction>, deadline: Duration) -> Result<(), Failure> {
    let force = ways.contains(&PowerAction::ForceOff);
    let doing = if on { "power on" } else { "power off" };
    let started = Instant::now();
    // What one request may take: never longer than what is left, and always long enough to be tried.
    let step = || machine.deadline().min(deadline.saturating_sub(started.elapsed()).max(STEP_LEAST));
    let (mut told, mut pause, mut next_at, mut state) = (Vec::new(), POLL_FIRST, started, PowerState::Unknown);
    let (mut accepted, mut not_now) = (false, 0);
    let mut lost: Option<Failure>;
    loop {
        match within(machine, step(), doing, machine.power_now()).await {
            Ok(now) => {
                state = now;
                lost = None;
                if reset::reached(on, state) {
                    return Ok(());
                }
            }
            Err(failure) if away(&failure) => lost = Some(failure),
            Err(failure) => return Err(failure),
        }
        let now = Instant::now();
        let moving = matches!(state, PowerState::PoweringOn | PowerState::PoweringOff);
        let ready = now >= next_at && (!moving || now.duration_since(started) > TRANSITION || accepted);
        if lost.is_none()
            && ready
            && let Some(action) = ways.pop()
        {
            let sent = match within(machine, step(), doing, machine.prepare(action, doing)).await {
                Ok(request) => {
                    machine.may_leave(action).await?;
                    within(machine, step(), doing, machine.send(&request, doing)).await
                }
                // It went away before anything was sent: the same way once more, when it is back.
                Err(failure) if away(&failure) && started.elapsed() < deadline => {
                    ways.push(action);
                    next_at = now + POLL_FIRST;
                    continue;
                }
                Err(failure) => Err(failure),
            };
            match sent {
                Ok(Sent::Accepted) => {
                    accepted = true;
                    told.push(format!("{action:?}: accepted"));
                    next_at = now + GRACE.min(deadline / 2);
                }
                Ok(Sent::Unknown) => {
                    told.push(format!("{action:?}: the answer was lost"));
                    next_at = now + GRACE.min(deadline / 2);
                }
                // "Already so" and "not now" look alike (409): only what is seen next counts.
                Ok(Sent::NotNow(failure)) => {
                    told.push(format!("{action:?}: {}", failure.why));
                    not_now += 1;
                    if not_now > NOT_NOW_TRIES {
                        return Err(failure);
                    }
                    ways.push(action);
                    next_at = now + POLL_MOST;
                }
                Ok(Sent::Refused(failure)) => {
                    told.push(format!("{action:?}: {}", failure.why));
                    if failure.cause == Cause::Busy {
                        ways.push(action);
                        next_at = now + POLL_MOST;
                    } else if ways.is_empty() {
                        let last = within(machine, step(), doing, machine.power_now()).await?;
                        return if reset::reached(on, last) { Ok(()) } else { Err(failure) };
                    }
                }
                // Cut off by the clock: it may have been sent.
                Err(failure) if failure.cause == Cause::Deadline => {
                    told.push(format!("{action:?}: no answer"));
                    next_at = now + GRACE.min(deadline / 2);
                }
                // The BMC does not offer this way: the next one, if there is one.
                Err(failure) if failure.cause == Cause::Refused && !ways.is_empty() => told.push(failure.why),
                Err(failure) => return Err(failure),
            }
            told.truncate(8);
            continue;
        }
        if started.elapsed() >= deadline {
            break;
        }
        sleep(pause.min(deadline.saturating_sub(started.elapsed()))).await;
        pause = (pause * 3 / 2).min(POLL_MOST);
    }
    let (wish, state) = (if on { "on" } else { "off" }, format!("{state:?}").to_lowercase());
    let told = told.join("; ");
    let seconds = deadline.as_secs_f32();
    Err(match lost {
        Some(failure) => {
            let why = format!("not verified within {seconds} s ({told}); last: {}", failure.why);
            Failure::new(failure.cause, what(machine, doing), why)
        }
        None if accepted => {
            let why = format!(
                "the BMC took it and nothing happened within {seconds} s ({told}): wanted {wish}, read {state}"
            );
            let failure = Failure::new(Cause::AcceptedButIgnored, what(machine, doing), why);
            // An operating system that does not listen, or none that could.
            if on || force {
                failure.next(format!("rackctl bmc info {}", machine.node()))
            } else {
                failure.next(format!("rackctl power off {} --force", machine.node()))
            }
        }
        None => {
            let why = format!("not done within {seconds} s ({told}): wanted {wish}, read {state}");
            Failure::new(Cause::Deadline, what(machine, doing), why)
                .next(format!("rackctl power status {}", machine.node()))
        }
    })
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
