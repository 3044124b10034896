//! The BMC itself: started anew, seen to come back; the machine's non-maskable interrupt; its screen; how far it has come.

use std::time::Duration;

use base64::Engine;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    Client,
    ground::Ground,
    send::Request,
    walk::{self, Source},
};
use crate::{
    bmc::{
        read::text,
        redfish::wire::{ActionInfo, Manager},
    },
    model::{Failure, failure::Cause},
};

/// A BMC that was told to restart still answers for so long at most.
const GOES_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);
/// Answers in a row of a web server without a BMC behind it: one or two are a busy BMC's.
const HOLLOW: u32 = 3;
/// Ways to restart a BMC, mildest first.
const RESTARTS: [&str; 2] = ["GracefulRestart", "ForceRestart"];

/// How far the machine's start has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// `OSRunning`, `SystemHardwareInitializationComplete`, or a word of the vendor's.
    pub state: String,
    pub at: Option<String>,
}

/// A picture of the machine's screen.
pub struct Screenshot {
    pub bytes: Vec<u8>,
    /// `png`, `bmp` or `jpg`: told by its first bytes.
    pub format: &'static str,
}

/// The manager that is restarted.
struct Restart {
    path: String,
    target: String,
    /// Those that it offers, mildest first; the next one where it refuses the one before.
    words: Vec<&'static str>,
    /// Its own mark of the last one, where it keeps one.
    last: Option<String>,
}

async fn restart<S: Source>(ground: &Ground<'_, S>) -> Result<Restart, Failure> {
    const DOING: &str = "restart its BMC";
    let managers = ground.managers().await?;
    let Some((path, manager)) = managers.into_iter().next() else {
        return Err(ground.lacks(DOING, "manager", &["Managers"]));
    };
    let last = text(&manager.last_reset);
    let reset = manager.actions.and_then(|a| a.reset);
    let Some(target) = reset.as_ref().and_then(|r| r.target.clone()).filter(|t| !t.is_empty()) else {
        return Err(ground.lacks(DOING, "restart of itself (Manager.Reset)", &[&path]));
    };
    let reset = reset.unwrap_or_default();
    let mut allowed = reset.allowed.unwrap_or_default();
    if let (true, Some(info)) = (allowed.is_empty(), reset.info.filter(|i| !i.is_empty())) {
        let info = walk::optional(walk::get::<S, ActionInfo>(ground.source, &info)).await?;
        let parameters = info.and_then(|(info, _)| info.parameters).unwrap_or_default();
        let kind = parameters.into_iter().find(|p| p.name.as_deref() == Some("ResetType"));
        allowed = kind.and_then(|p| p.allowed).unwrap_or_default();
    }
    let offered = |w: &&str| allowed.is_empty() || allowed.iter().any(|a| a == w);
    let words: Vec<&str> = RESTARTS.into_iter().filter(offered).collect();
    if words.is_empty() {
        let what = format!("restart of itself but {}", crate::bmc::redfish::json::clean(&allowed.join(", ")));
        return Err(ground.lacks(DOING, &what, &[&path]));
    }
    Ok(Restart { path, target, words, last })
}

/// Dell's action that gives the screen (iDRAC-Redfish-Scripting, ExportServerScreenShot); no other maker's is known.
pub async fn screenshot_action<S: Source>(ground: &Ground<'_, S>) -> Result<String, Failure> {
    let mut looked = Vec::new();
    for (path, _) in ground.managers().await? {
        let Some((manager, _)) = walk::optional(ground.source.fetch(&path)).await? else { continue };
        let service = manager.pointer("/Links/Oem/Dell/DellLCService/@odata.id").and_then(Value::as_str);
        let Some(service) = service.filter(|s| !s.is_empty()) else {
            looked.push(path);
            continue;
        };
        let found = walk::optional(ground.source.fetch(service)).await?.map(|(body, _)| body).unwrap_or_default();
        let action = "/Actions/#DellLCService.ExportServerScreenShot/target";
        if let Some(target) = found.pointer(action).and_then(Value::as_str).filter(|t| !t.is_empty()) {
            return Ok(target.to_owned());
        }
        looked.push(service.to_owned());
    }
    let looked: Vec<&str> = looked.iter().map(String::as_str).collect();
    Err(ground.lacks("take a screenshot", "screenshot over Redfish", &looked))
}

/// What a picture is, by its first bytes.
fn format(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [b'B', b'M', ..] => Some("bmp"),
        [0xff, 0xd8, 0xff, ..] => Some("jpg"),
        _ => None,
    }
}

impl Client {
    /// How far the machine's start has come, where the BMC tells.
    pub async fn progress(&self) -> Result<Option<Progress>, Failure> {
        self.limited("read how far its start has come", async {
            let progress = self.fresh_view(false).await?.system.boot_progress.unwrap_or_default();
            let word = text(&progress.state);
            let oem = word.as_deref().is_none_or(|w| w == "OEM");
            let state = if oem { text(&progress.oem_state).or(word) } else { word };
            Ok(state.map(|state| Progress { state, at: text(&progress.at).filter(|at| !at.starts_with("1970")) }))
        })
        .await
    }

    /// Restarts the BMC, not the machine, and waits until it has gone and answers again. The session ends with it.
    pub async fn restart_bmc(&self, limit: Duration) -> Result<(), Failure> {
        const DOING: &str = "restart its BMC";
        let Restart { path, target, words, last } = self
            .limited(DOING, async {
                let view = self.fresh_view(false).await?;
                restart(&self.ground(&view)).await
            })
            .await?;
        let word = self.ask_restart(&target, &words).await?;
        let started = Instant::now();
        let session = self.session_uri();
        let (mut gone, mut hollow) = (false, 0u32);
        loop {
            // "Later" is an answer of a BMC that starts: asked again here, not below.
            let manager = Request { patient: false, ..Request::get(&path) };
            let answers = self.within(self.deadline, DOING, self.wire.send(&manager)).await;
            match answers {
                // Behind its web server it starts still; or it is there, and busy.
                Ok(answer) if answer.status >= 500 => hollow = hollow.saturating_add(1),
                Ok(answer) if answer.ok() => {
                    let now: Manager = super::parsed(answer.body);
                    // One that is quick is not seen to be away: its mark has changed, or it has forgotten its sessions.
                    let marked = last.is_some() && text(&now.last_reset).is_some_and(|now| Some(now) != last);
                    // Where it has neither, a row of hollow answers is all that there is to be seen.
                    let hollowed = hollow >= HOLLOW && last.is_none() && session.is_none();
                    if gone || marked || hollowed || self.session_uri() != session {
                        return Ok(());
                    }
                    hollow = 0;
                }
                // It answers and does not know its own manager yet.
                Ok(_) => {}
                Err(failure) if matches!(failure.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy) => {
                    gone = true;
                }
                Err(failure) => return Err(failure),
            }
            let waited = started.elapsed();
            if !gone && waited > GOES_WITHIN.min(limit) {
                let why = format!("the BMC took `{word}` and has answered all the time for {} s", waited.as_secs());
                return Err(Failure::new(Cause::AcceptedButIgnored, self.what(DOING), why)
                    .next(format!("rackctl bmc info {}", self.wire.node)));
            }
            if waited > limit {
                let why = format!("it has gone and does not answer again after {} s", waited.as_secs());
                return Err(Failure::new(Cause::Deadline, self.what(DOING), why)
                    .next(format!("rackctl bmc info {}", self.wire.node)));
            }
            sleep(POLL).await;
        }
    }

    /// Sends the mildest word that is taken. Says which.
    async fn ask_restart(&self, target: &str, words: &[&'static str]) -> Result<&'static str, Failure> {
        const DOING: &str = "restart its BMC";
        let mut refused: Option<Failure> = None;
        for word in words {
            let request = Request {
                method: reqwest::Method::POST,
                body: Some(json!({ "ResetType": word })),
                patient: false,
                ..Request::get(target)
            };
            let failure = match self.limited(DOING, self.wire.ask(&request)).await {
                Ok(_) => return Ok(word),
                // It may go before it has answered.
                Err(failure) if matches!(failure.cause, Cause::Unreachable | Cause::Deadline) => return Ok(word),
                Err(failure) => Failure { what: self.what(DOING), why: format!("{word}: {}", failure.why), ..failure },
            };
            if failure.cause != Cause::Refused {
                return Err(failure);
            }
            refused = Some(match refused {
                Some(before) => Failure { why: format!("{}; {}", before.why, failure.why), ..failure },
                None => failure,
            });
        }
        Err(refused.unwrap_or_else(|| self.lacks(DOING, "restart of itself (Manager.Reset)", &[target])))
    }

    /// A non-maskable interrupt: most operating systems write a dump and stop. It cannot be read back; that the BMC took
    /// it is all that is known. Sent once.
    pub async fn nmi(&self) -> Result<(), Failure> {
        const DOING: &str = "send a non-maskable interrupt";
        let view = self.limited(DOING, self.fresh_view(false)).await?;
        if !view.reset_types.iter().any(|t| t == "Nmi") {
            let what = match view.reset_types.is_empty() {
                true => "list of resets that has Nmi".to_owned(),
                false => {
                    let offered = crate::bmc::redfish::json::clean(&view.reset_types.join(", "));
                    format!("non-maskable interrupt; it has {offered}")
                }
            };
            return Err(self.lacks(DOING, &what, &[&view.path]));
        }
        let reset = view.system.actions.as_ref().and_then(|a| a.reset.as_ref()).and_then(|r| r.target.clone());
        let target = reset
            .filter(|t| !t.is_empty())
            .unwrap_or_else(|| format!("{}/Actions/ComputerSystem.Reset", view.path.trim_end_matches('/')));
        self.before_taking().await?;
        let request = Request {
            method: reqwest::Method::POST,
            body: Some(json!({ "ResetType": "Nmi" })),
            patient: false,
            ..Request::get(&target)
        };
        let answer = self.limited(DOING, self.wire.ask(&request)).await;
        answer.map(|_| ()).map_err(|f| Failure { what: self.what(DOING), ..f })
    }

    /// The machine's screen as it is now.
    pub async fn screenshot(&self) -> Result<Screenshot, Failure> {
        const DOING: &str = "take a screenshot";
        self.limited(DOING, async {
            let view = self.fresh_view(false).await?;
            let target = screenshot_action(&self.ground(&view)).await?;
            let answer = self.post(&target, json!({ "FileType": "ServerScreenShot" })).await?;
            let malformed = |why: &str| Failure::new(Cause::Malformed, self.what(DOING), why);
            let text = answer.body.get("ServerScreenShotFile").and_then(Value::as_str);
            let text = text.ok_or_else(|| malformed("the answer holds no picture"))?;
            let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(packed)
                .map_err(|_| malformed("the picture in the answer is not base64"))?;
            let format = format(&bytes).ok_or_else(|| malformed("what the BMC gave is no PNG, BMP or JPEG"))?;
            Ok(Screenshot { bytes, format })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_known_by_their_first_bytes() {
        assert_eq!(format(b"\x89PNG\r\n"), Some("png"));
        assert_eq!(format(&[0xff, 0xd8, 0xff, 0xe0]), Some("jpg"));
        assert_eq!(format(b"<html>"), None);
        assert_eq!(format(b""), None);
    }
}
