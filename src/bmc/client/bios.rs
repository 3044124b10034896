//! Reading and changing firmware settings.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};
use tokio::time::sleep;

use super::{
    Client,
    ground::Ground,
    walk::{self, Source},
};
use crate::{
    bmc::{
        bios::{self, Bios, SecureBoot},
        boot::Write,
        redfish::wire::{Link, bios as wire},
    },
    model::{Failure, failure::Cause},
};

const READ_BACK_TRIES: u32 = 4;
const READ_BACK_PAUSE: Duration = Duration::from_secs(1);

/// The settings in force, those that are pending, and secure boot.
pub async fn gather_bios<S: Source>(ground: &Ground<'_, S>) -> Result<Bios, Failure> {
    const DOING: &str = "read its BIOS attributes";
    let place = format!("{}/Bios", ground.view.path.trim_end_matches('/'));
    let Some(path) = Link::path(&ground.view.system.bios) else {
        return Err(ground.lacks(DOING, "BIOS resource", &[&place]));
    };
    let Some((current, _)) = walk::optional(walk::get::<S, wire::Bios>(ground.source, path)).await? else {
        return Err(ground.lacks(DOING, "BIOS resource that can be read", &[path]));
    };
    if current.attributes.as_ref().is_none_or(Map::is_empty) {
        return Err(ground.lacks(DOING, "BIOS attribute", &[path]));
    }
    let object = bios::announced(&current).map_or_else(|| bios::unannounced(path), str::to_owned);
    let settings = walk::optional(walk::get::<S, wire::Bios>(ground.source, &object)).await?;
    let mut read = bios::bios(path, &current, settings.as_ref().map(|(s, _)| (object.as_str(), s)));
    let secure: Option<wire::SecureBoot> = ground.maybe(&ground.view.system.secure_boot).await?;
    read.secure_boot = secure.as_ref().map(bios::secure_boot);
    Ok(read)
}

impl Client {
    pub async fn bios(&self) -> Result<Bios, Failure> {
        self.limited("read its BIOS attributes", self.bios_now()).await
    }

    async fn bios_now(&self) -> Result<Bios, Failure> {
        let view = self.fresh_view(false).await?;
        gather_bios(&self.ground(&view)).await
    }

    /// Asks for these values, all in one request, and reads them back: in force, or pending until the next start.
    pub async fn set_bios(&self, wanted: &BTreeMap<String, String>) -> Result<Bios, Failure> {
        let doing = "set BIOS attributes";
        self.limited(doing, async {
            let now = self.bios_now().await?;
            let typed = now.typed(wanted).map_err(|why| {
                Failure::new(Cause::Refused, self.what(doing), why).next(format!("rackctl bmc bios {}", self.wire.node))
            })?;
            if now.missing(&typed).is_empty() {
                return Ok(now);
            }
            self.patch_bios(&now, &typed, doing).await
        })
        .await
    }

    async fn patch_bios(&self, now: &Bios, typed: &Map<String, Value>, doing: &str) -> Result<Bios, Failure> {
        let (path, body) = now.ways.patch(typed);
        let write = Write { method: "PATCH", path, body, if_match: None };
        let answer = self.patch(&write).await?;
        let told = answer.told();
        if !answer.ok() && matches!(answer.status, 401 | 403 | 503 | 429) {
            return Err(self.wire.refusal(&super::act::request(&write), &answer));
        }
        let mut left = Vec::new();
        // Also after a refusal: some say 400 and have done it.
        for attempt in 0..if answer.ok() { READ_BACK_TRIES } else { 1 } {
            if attempt > 0 {
                sleep(READ_BACK_PAUSE).await;
            }
            let read = self.bios_now().await?;
            left = read.missing(typed);
            if left.is_empty() {
                return Ok(read);
            }
        }
        let left = left.join("; ");
        Err(match answer.ok() {
            true => {
                let why = format!("the BMC took the request and {} does not show it: {left}", now.ways.place());
                Failure::new(Cause::AcceptedButIgnored, self.what(doing), why)
                    .next(format!("rackctl bmc bios {}", self.wire.node))
            }
            false => Failure::new(Cause::Refused, self.what(doing), told),
        })
    }

    /// Secure Boot as it is and as it will be.
    pub async fn secure_boot(&self) -> Result<SecureBoot, Failure> {
        let doing = "read its Secure Boot";
        self.limited(doing, async { Ok(self.secure_boot_now(doing).await?.1) }).await
    }

    /// With the address of its resource.
    async fn secure_boot_now(&self, doing: &str) -> Result<(String, SecureBoot), Failure> {
        let view = self.fresh_view(false).await?;
        let Some(path) = Link::path(&view.system.secure_boot) else {
            let place = format!("{}/SecureBoot", view.path.trim_end_matches('/'));
            return Err(self.lacks(doing, "Secure Boot resource", &[&place]));
        };
        let Some((read, _)) = walk::optional(walk::get::<_, wire::SecureBoot>(&self.wire, path)).await? else {
            return Err(self.lacks(doing, "Secure Boot resource that can be read", &[path]));
        };
        Ok((path.to_owned(), bios::secure_boot(&read)))
    }

    /// Switches Secure Boot from the next start on, and reads it back.
    pub async fn set_secure_boot(&self, on: bool) -> Result<SecureBoot, Failure> {
        let doing = format!("switch Secure Boot {}", if on { "on" } else { "off" });
        self.limited(&doing, async {
            let (path, now) = self.secure_boot_now(&doing).await?;
            if now.enabled == Some(on) {
                return Ok(now);
            }
            if now.enabled.is_none() {
                return Err(self.lacks(&doing, "switch for Secure Boot", &[&path]));
            }
            let body = serde_json::json!({ "SecureBootEnable": on });
            let write = Write { method: "PATCH", path, body, if_match: None };
            let answer = self.patch(&write).await?;
            if !answer.ok() {
                return Err(self.wire.refusal(&super::act::request(&write), &answer));
            }
            for attempt in 0..READ_BACK_TRIES {
                if attempt > 0 {
                    sleep(READ_BACK_PAUSE).await;
                }
                let (_, read) = self.secure_boot_now(&doing).await?;
                if read.enabled == Some(on) {
                    return Ok(read);
                }
            }
            let why = "the BMC took the request and shows the switch as it was";
            Err(Failure::new(Cause::AcceptedButIgnored, self.what(&doing), why)
                .next(format!("rackctl bmc bios {}", self.wire.node)))
        })
        .await
    }

    /// Throws away what is pending, and sees that nothing is.
    pub async fn clear_pending_bios(&self) -> Result<Bios, Failure> {
        let doing = "clear pending BIOS attributes";
        self.limited(doing, async {
            let now = self.bios_now().await?;
            if now.pending.is_empty() {
                return Ok(now);
            }
            let place = now.ways.settings.as_deref().unwrap_or(&now.ways.path);
            let Some(target) = &now.ways.clear else {
                let what =
                    "way to throw away pending BIOS attributes; setting them to the values in force does the same";
                return Err(self.lacks(doing, what, &[place]));
            };
            self.post(target, serde_json::json!({})).await?;
            for attempt in 0..READ_BACK_TRIES {
                if attempt > 0 {
                    sleep(READ_BACK_PAUSE).await;
                }
                let read = self.bios_now().await?;
                if read.pending.is_empty() {
                    return Ok(read);
                }
            }
            let why = "the BMC took the request and attributes are still pending";
            Err(Failure::new(Cause::AcceptedButIgnored, self.what(doing), why)
                .next(format!("rackctl bmc bios {}", self.wire.node)))
        })
        .await
    }
}
