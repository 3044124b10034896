//! Writes: boot override and power. Each is looked at first, sent at most once per way, and read back.

use std::time::Duration;

use reqwest::Method;
use tokio::time::sleep;

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
        settle::{self, Driven, Sent},
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
        settle::reset(self, action).await
    }

    /// Brings the machine on or off and waits until the BMC shows it. Off asks the operating system first; only with
    /// `force` is the power cut when it does not listen. A reset whose answer was lost is not sent again.
    pub async fn set_power(&self, on: bool, force: bool, deadline: Duration) -> Result<(), Failure> {
        settle::set_power(self, on, force, deadline).await
    }

    /// Asked before anything else that takes the machine away, or may.
    pub(super) async fn before_taking(&self) -> Result<(), Failure> {
        settle::ask_leave(self.leave.as_ref(), PowerAction::ForceOff).await
    }
}

impl Driven for Client {
    type Request = Request;

    fn node(&self) -> &str {
        &self.wire.node
    }
    fn deadline(&self) -> Duration {
        self.deadline
    }
    async fn power_now(&self) -> Result<PowerState, Failure> {
        Ok(read::power(self.fresh_view(false).await?.system.power))
    }
    async fn prepare(&self, action: PowerAction, doing: &str) -> Result<Request, Failure> {
        let view = self.fresh_view(false).await?;
        let fail = |why: String| Failure::new(Cause::Refused, self.what(doing), why);
        let write = reset::request(&view, action).map_err(fail)?;
        Ok(Request { patient: false, ..request(&write) })
    }
    async fn may_leave(&self, action: PowerAction) -> Result<(), Failure> {
        settle::ask_leave(self.leave.as_ref(), action).await
    }
    async fn send(&self, request: &Request, doing: &str) -> Result<Sent, Failure> {
        match self.wire.send(request).await {
            Ok(answer) if answer.ok() => Ok(Sent::Accepted),
            Ok(answer) if matches!(answer.status, 401 | 403) => Err(self.wire.refusal(request, &answer)),
            Ok(answer) => {
                let mut failure = self.wire.refusal(request, &answer);
                failure.what = self.what(doing);
                let state = answer.status == 409 || answer.error().says("InvalidOperationForSystemState");
                Ok(if state { Sent::NotNow(failure) } else { Sent::Refused(failure) })
            }
            Err(failure) if failure.cause == Cause::Unreachable => Ok(Sent::Unknown),
            Err(failure) => Err(failure),
        }
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
