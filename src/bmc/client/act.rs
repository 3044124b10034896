//! Writes: power, and the one PATCH that all others are. Each is looked at first and sent at most once per way.

use std::{sync::atomic::Ordering, time::Duration};

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
        read::{self, SystemView},
        redfish::wire::ComputerSystem,
        reset::{self, Can},
        settle::{self, Driven, Glimpse, Sent},
    },
    model::{
        Failure,
        failure::Cause,
        power::{BootOverride, PowerAction, PowerState},
    },
};

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
        Operation::SetBoot(want) => boot::writes(view, want, None),
        Operation::Reset(action) => reset::request(view, action).map(|w| vec![w]),
    }
}

impl Client {
    /// One PATCH, with the ETag that the BMC wants and the patience that POST needs.
    pub(super) async fn patch(&self, write: &Write) -> Result<Answer, Failure> {
        let mut request = request(write);
        if self.minds_match.load(Ordering::Relaxed) {
            request.if_match = None;
        }
        let (mut tried, mut fresh, mut posts) = (vec![request.if_match.clone()], None, 0);
        loop {
            let answer = self.wire.send(&request).await?;
            if matches!(answer.status, 412 | 428) {
                if fresh.is_none() {
                    let (_, etag): (ComputerSystem, _) = walk::get(&self.wire, &write.path).await?;
                    fresh = Some(etag);
                }
                let Some(next) = next_match(&tried, fresh.as_ref().and_then(Option::as_deref), answer.status == 428)
                else {
                    return Ok(answer);
                };
                tried.push(next.clone());
                request.if_match = next;
            } else if answer.error().says("UnableToModifyDuringSystemPOST") && posts < POST_TRIES {
                posts += 1;
                sleep(POST_PAUSE).await;
            } else {
                // It was refused with each tag that there is, and taken without one (OpenBMC; bmclib openbmc.go:107).
                if answer.ok() && tried.len() > 1 && request.if_match.is_none() {
                    self.minds_match.store(true, Ordering::Relaxed);
                }
                return Ok(answer);
            }
        }
    }

    /// Sends one reset and does not wait for its effect. Never sent twice.
    pub async fn reset(&self, action: PowerAction) -> Result<(), Failure> {
        Box::pin(settle::reset(self, action)).await
    }

    /// Brings the machine on or off and waits until the BMC shows it. Off asks the operating system first; only with
    /// `force` is the power cut when it does not listen. A reset whose answer was lost is not sent again.
    pub async fn set_power(&self, on: bool, force: bool, deadline: Duration) -> Result<(), Failure> {
        Box::pin(settle::set_power(self, on, force, deadline)).await
    }

    /// What a power verb asks, by the moves that this BMC offers; see [`settle::drive`].
    pub async fn drive(&self, wish: reset::Wish, limit: Duration) -> Result<Option<String>, Failure> {
        Box::pin(settle::drive(self, wish, limit)).await
    }

    /// What [`Client::drive`] would send now, as lines to read, in order.
    pub async fn preview_drive(&self, wish: reset::Wish) -> Result<Vec<String>, Failure> {
        let view = self.system_view().await?;
        let can = reset::can(&view);
        let moves = reset::moves(&self.wire.node, wish, &can)?;
        let line = |(action, now): (PowerAction, PowerState)| {
            let write = reset::request_in(&view, action, now)
                .map_err(|why| Failure::new(Cause::Refused, self.what("preview"), why))?;
            Ok(write.line())
        };
        reset::sends(&moves, can.now).into_iter().map(line).collect()
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
    async fn glimpse(&self) -> Result<Glimpse, Failure> {
        let system = self.fresh_view(false).await?.system;
        let word = system.boot_progress.as_ref().and_then(|p| p.state.as_deref());
        Ok(Glimpse {
            power: read::power(system.power),
            mark: reset::mark(&system.last_reset),
            progress: reset::progress(word),
        })
    }
    async fn can(&self) -> Result<Can, Failure> {
        Ok(reset::can(&self.fresh_view(false).await?))
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

/// The If-Match to try next: the resource's own tag as it is now, any, none where one was not demanded (428), and the tag
/// without its quotes (ansible strip_etag_quotes). A weak tag is never equal to itself (RFC 9110 13.1.1). Each once.
fn next_match(tried: &[Option<String>], fresh: Option<&str>, demanded: bool) -> Option<Option<String>> {
    let strong = fresh.filter(|e| !e.starts_with("W/"));
    let bare = strong.map(|e| e.trim_matches('"')).filter(|e| !e.is_empty());
    let mut list: Vec<Option<String>> = strong.map(|e| Some(e.to_owned())).into_iter().collect();
    list.push(Some("*".to_owned()));
    if !demanded {
        list.push(None);
    }
    list.extend(bare.map(|e| Some(e.to_owned())));
    list.into_iter().find(|tag| !tried.contains(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_tried_once_each_and_come_to_an_end() {
        let tag = |text: &str| Some(text.to_owned());
        let mut tried = vec![tag("\"old\"")];
        let mut walk = Vec::new();
        while let Some(next) = next_match(&tried, Some("\"a\""), false) {
            tried.push(next.clone());
            walk.push(next);
        }
        assert_eq!(walk, [tag("\"a\""), tag("*"), None, tag("a")]);
        assert_eq!(next_match(&[None], Some("W/\"a\""), true), Some(tag("*")), "a weak tag is not sent");
        assert_eq!(next_match(&[None, tag("*")], None, true), None, "one that is demanded is not left out");
    }
}
