//! Writes: boot override and power. Each is looked at first, sent at most once per way, and read back.

use std::time::Duration;

use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::{
    Client,
    send::{Answer, Request},
    walk,
};
use crate::{
    bmc::{
        boot::{self, Write},
        link,
        read::{self, SystemView},
        redfish::wire::ComputerSystem,
        reset,
    },
    model::{
        Failure,
        failure::Cause,
        power::{BootOverride, PowerAction, PowerState},
    },
};

/// A PATCH is read back so often before it counts as ignored; some BMCs take a moment.
const READ_BACK_TRIES: u32 = 4;
const READ_BACK_PAUSE: Duration = Duration::from_millis(500);
/// HPE refuses changes while the machine is in POST: 6 × 5 s is what Ironic waits (management.py:128).
const POST_TRIES: u32 = 6;
const POST_PAUSE: Duration = Duration::from_secs(5);
const POLL_FIRST: Duration = Duration::from_millis(200);
const POLL_MOST: Duration = Duration::from_secs(3);
/// How long an operating system is given to shut down before force, at most; else half of the deadline.
const GRACE: Duration = Duration::from_secs(60);
const STEP_LEAST: Duration = Duration::from_secs(1);
/// A transition (`PoweringOn`) that lasts longer than this does not keep a request back any more.
const TRANSITION: Duration = Duration::from_secs(30);

/// What could be done to a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    SetBoot(BootOverride),
    Reset(PowerAction),
}

/// The requests that [`Client::set_boot`] and [`Client::reset`] would send, best first; the later ones only where the
/// BMC refuses the earlier. `Err` says why the BMC cannot do it.
pub fn requests_preview(view: &SystemView, operation: Operation) -> Result<Vec<Write>, String> {
    match operation {
        Operation::SetBoot(want) => boot::writes(view, want),
        Operation::Reset(action) => reset::request(view, action).map(|w| vec![w]),
    }
}

/// How a reset went, as far as its answer tells.
enum Sent {
    Accepted,
    /// The answer was lost: it may have happened.
    Unknown,
    /// Refused or "later"; with what the BMC said.
    Refused(Failure),
}

impl Client {
    /// Sets the override, or clears it ([`BootOverride::CLEARED`]), and reads it back.
    pub async fn set_boot(&self, want: BootOverride) -> Result<(), Failure> {
        let doing = format!("set the boot override to {}", boot::words(want));
        self.limited(&doing, self.set_boot_now(want, &doing)).await
    }

    async fn set_boot_now(&self, want: BootOverride, doing: &str) -> Result<(), Failure> {
        let view = self.fresh_view(true).await?;
        let fail = |cause, why: String| Failure::new(cause, self.what(doing), why);
        if want.is_cleared() && matches!(current(&view), Ok(Some(now)) if now.is_cleared()) {
            return Ok(());
        }
        let writes = requests_preview(&view, Operation::SetBoot(want)).map_err(|why| fail(Cause::Refused, why))?;
        let (mut accepted, mut refusals) = (None, Vec::new());
        for write in &writes {
            let answer = self.patch(write).await?;
            if answer.ok() {
                accepted = Some(write);
                break;
            }
            match answer.status {
                401 | 403 | 503 | 429 => return Err(self.wire.refusal(&request(write), &answer)),
                _ => refusals.push(format!("{}: {}", write.path, answer.told())),
            }
        }
        // Also after a refusal: a BMC may say 400 and have done it (iDRAC 13G, community.general#5091).
        let tries = if accepted.is_some() { READ_BACK_TRIES } else { 1 };
        let mut seen = String::new();
        for attempt in 0..tries {
            if attempt > 0 {
                sleep(READ_BACK_PAUSE).await;
            }
            let view = self.fresh_view(true).await?;
            let mut values = vec![current(&view)];
            if let (Some(settings), Some(write)) = (&view.settings, accepted)
                && link::same(&settings.path, &write.path)
            {
                values.push(read::boot(settings.system.boot.as_ref().unwrap_or(&Default::default()), &view.quirks));
            }
            if values.iter().any(|v| matches!(v, Ok(Some(now)) if boot::as_asked(want, *now))) {
                return Ok(());
            }
            seen = shown(values.last().unwrap_or(&Ok(None)));
        }
        match accepted {
            Some(write) => {
                let mut why = format!(
                    "the BMC took the request and did not apply it: asked for {}, sent {}, read back {seen}",
                    boot::words(want),
                    write.body
                );
                if !refusals.is_empty() {
                    why = format!("{why}; refused before: {}", refusals.join("; "));
                }
                Err(fail(Cause::AcceptedButIgnored, why).next(format!("rackctl boot show {}", self.wire.node)))
            }
            None => Err(fail(Cause::Refused, refusals.join("; "))),
        }
    }

    /// One PATCH, with the ETag that the BMC wants and the patience that POST needs.
    pub(super) async fn patch(&self, write: &Write) -> Result<Answer, Failure> {
        let mut request = request(write);
        let (mut refreshed, mut posts) = (false, 0);
        loop {
            let answer = self.wire.send(&request).await?;
            let wants_match = matches!(answer.status, 412 | 428);
            if wants_match && !refreshed {
                refreshed = true;
                let (_, etag): (ComputerSystem, _) = walk::get(&self.wire, &write.path).await?;
                // Without a tag of its own, or with a weak one (never equal to itself in If-Match, RFC 9110 13.1.1): any.
                request.if_match = Some(etag.filter(|e| !e.starts_with("W/")).unwrap_or_else(|| "*".to_owned()));
            } else if wants_match && request.if_match.as_deref() != Some("*") {
                request.if_match = Some("*".to_owned());
            } else if answer.error().says("UnableToModifyDuringSystemPOST") && posts < POST_TRIES {
                posts += 1;
                sleep(POST_PAUSE).await;
            } else {
                return Ok(answer);
            }
        }
    }

    /// Sends one reset and does not wait for its effect. Never sent twice.
    pub async fn reset(&self, action: PowerAction) -> Result<(), Failure> {
        let doing = format!("reset ({action:?})");
        let request = self.limited(&doing, self.reset_request(action, &doing)).await?;
        self.may_leave(action).await?;
        self.limited(&doing, async {
            match self.send_reset(&request, &doing).await? {
                Sent::Accepted => Ok(()),
                Sent::Refused(failure) => Err(failure),
                Sent::Unknown => {
                    let why = "the answer was lost: whether it happened can only be seen, so it is not sent again";
                    Err(Failure::new(Cause::Unreachable, self.what(&doing), why))
                }
            }
        })
        .await
    }

    /// Whoever has to be asked before the machine is taken away; the answer is fresh when the request leaves.
    async fn may_leave(&self, action: PowerAction) -> Result<(), Failure> {
        match self.leave.as_ref().filter(|_| action != PowerAction::On) {
            Some(leave) => leave().await,
            None => Ok(()),
        }
    }

    /// Asked before anything else that takes the machine away, or may.
    pub(super) async fn before_taking(&self) -> Result<(), Failure> {
        self.may_leave(PowerAction::ForceOff).await
    }

    async fn reset_request(&self, action: PowerAction, doing: &str) -> Result<Request, Failure> {
        let view = self.fresh_view(false).await?;
        let fail = |why: String| Failure::new(Cause::Refused, self.what(doing), why);
        let write = reset::request(&view, action).map_err(fail)?;
        Ok(Request { patient: false, ..request(&write) })
    }

    async fn send_reset(&self, request: &Request, doing: &str) -> Result<Sent, Failure> {
        match self.wire.send(request).await {
            Ok(answer) if answer.ok() => Ok(Sent::Accepted),
            Ok(answer) if matches!(answer.status, 401 | 403) => Err(self.wire.refusal(request, &answer)),
            Ok(answer) => {
                let mut failure = self.wire.refusal(request, &answer);
                failure.what = self.what(doing);
                Ok(Sent::Refused(failure))
            }
            Err(failure) if failure.cause == Cause::Unreachable => Ok(Sent::Unknown),
            Err(failure) => Err(failure),
        }
    }

    /// Brings the machine on or off and waits until the BMC shows it. Off asks the operating system first; only with
    /// `force` is the power cut when it does not listen. A reset whose answer was lost is not sent again.
    pub async fn set_power(&self, on: bool, force: bool, deadline: Duration) -> Result<(), Failure> {
        let doing = if on { "power on" } else { "power off" };
        let started = Instant::now();
        // What one request may take: never longer than what is left, and always long enough to be tried.
        let step = || self.deadline.min(deadline.saturating_sub(started.elapsed()).max(STEP_LEAST));
        let mut ways = match (on, force) {
            (true, _) => vec![PowerAction::On],
            (false, false) => vec![PowerAction::GracefulShutdown],
            (false, true) => vec![PowerAction::ForceOff, PowerAction::GracefulShutdown],
        };
        let (mut told, mut pause, mut next_at, mut state) = (Vec::new(), POLL_FIRST, started, PowerState::Unknown);
        let mut accepted = false;
        let mut lost: Option<Failure>;
        loop {
            match self.within(step(), doing, self.power_now()).await {
                Ok(now) => {
                    state = now;
                    lost = None;
                    if reset::reached(on, state) {
                        return Ok(());
                    }
                }
                // A BMC may be away for a while; the wrong key or a refused password will not mend by waiting.
                Err(failure) if matches!(failure.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy) => {
                    lost = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
            let now = Instant::now();
            let moving = matches!(state, PowerState::PoweringOn | PowerState::PoweringOff);
            let ready = now >= next_at && (!moving || now.duration_since(started) > TRANSITION || accepted);
            if lost.is_none()
                && ready
                && let Some(action) = ways.pop()
            {
                let sent = match self.within(step(), doing, self.reset_request(action, doing)).await {
                    Ok(request) => {
                        self.may_leave(action).await?;
                        self.within(step(), doing, self.send_reset(&request, doing)).await
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
                    // "Already so" and "not now" look alike (409, 400): only what is seen next counts.
                    Ok(Sent::Refused(failure)) => {
                        told.push(format!("{action:?}: {}", failure.why));
                        if failure.cause == Cause::Busy {
                            ways.push(action);
                            next_at = now + POLL_MOST;
                        } else if ways.is_empty() {
                            let last = self.within(step(), doing, self.power_now()).await?;
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
                Failure::new(failure.cause, self.what(doing), why)
            }
            None if accepted => {
                let why = format!(
                    "the BMC took it and nothing happened within {seconds} s ({told}): wanted {wish}, read {state}"
                );
                let failure = Failure::new(Cause::AcceptedButIgnored, self.what(doing), why);
                // An operating system that does not listen, or none that could.
                if on || force {
                    failure.next(format!("rackctl bmc info {}", self.wire.node))
                } else {
                    failure.next(format!("rackctl power off {} --force", self.wire.node))
                }
            }
            None => {
                let why = format!("not done within {seconds} s ({told}): wanted {wish}, read {state}");
                Failure::new(Cause::Deadline, self.what(doing), why)
                    .next(format!("rackctl power status {}", self.wire.node))
            }
        })
    }
}

pub(super) fn request(write: &Write) -> Request {
    Request {
        method: if write.method == "POST" { Method::POST } else { Method::PATCH },
        body: Some(write.body.clone()),
        if_match: write.if_match.clone(),
        ..Request::get(&write.path)
    }
}

fn current(view: &SystemView) -> Result<Option<BootOverride>, String> {
    read::boot(view.system.boot.as_ref().unwrap_or(&Default::default()), &view.quirks)
}

fn shown(value: &Result<Option<BootOverride>, String>) -> String {
    match value {
        Ok(Some(value)) => boot::words(*value),
        Ok(None) => "nothing".to_owned(),
        Err(word) => format!("`{word}`"),
    }
}
