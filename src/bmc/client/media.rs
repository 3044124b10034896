//! Virtual media: slots listed, an image put in and taken out.

use std::time::Duration;

use tokio::time::sleep;

use super::{Client, ground::Ground, walk::Source};
use crate::{
    bmc::{
        boot::Write,
        link,
        media::{self, Held, Slot},
        redfish::wire::{Link, media as wire},
    },
    model::{Failure, failure::Cause},
};

const MAX_SLOTS: usize = 32;
/// Slots that are tried where none is named.
const SLOTS_TRIED: usize = 3;
/// A BMC fetches the image before it says that it is in.
const READ_BACK_TRIES: u32 = 15;
const READ_BACK_PAUSE: Duration = Duration::from_secs(2);
/// A slot that is being emptied answers 5xx for a moment (Dell; Ironic boot.py:177).
const BUSY_TRIES: u32 = 4;
const BUSY_PAUSE: Duration = Duration::from_secs(3);

/// Under the managers and under the system; one that both name is there once.
pub async fn gather_slots<S: Source>(ground: &Ground<'_, S>) -> Result<Vec<Slot>, Failure> {
    let mut homes: Vec<String> = Vec::new();
    let mut home = |link: &Option<Link>| {
        homes.extend(Link::path(link).map(str::to_owned));
    };
    for (_, manager) in ground.managers().await? {
        home(&manager.media);
    }
    home(&ground.view.system.media);
    let mut slots: Vec<Slot> = Vec::new();
    for path in &homes {
        for (path, one) in ground.members::<wire::VirtualMedia>(path, MAX_SLOTS).await?.unwrap_or_default() {
            let Some(slot) = media::slot(&path, &one) else { continue };
            // The same slot under two roofs has the same id; the one that has an action is kept.
            match slots.iter_mut().find(|s| link::same(&s.path, &slot.path) || s.id == slot.id) {
                Some(known) if known.insert.is_none() && slot.insert.is_some() => *known = slot,
                Some(_) => {}
                None => slots.push(slot),
            }
        }
    }
    if slots.is_empty() {
        if homes.is_empty() {
            homes.push("VirtualMedia of its managers and system".to_owned());
        }
        let looked: Vec<&str> = homes.iter().map(String::as_str).collect();
        return Err(ground.lacks("look at its virtual media", "slot for virtual media", &looked));
    }
    Ok(slots)
}

impl Client {
    pub async fn media(&self) -> Result<Vec<Slot>, Failure> {
        self.limited("look at its virtual media", self.media_now()).await
    }

    async fn media_now(&self) -> Result<Vec<Slot>, Failure> {
        let view = self.fresh_view(false).await?;
        gather_slots(&self.ground(&view)).await
    }

    /// Puts an image into the named slot, or into a free one for discs, and sees it there. Says which.
    pub async fn insert_media(&self, wanted: Option<&str>, image: &str, limit: Duration) -> Result<Slot, Failure> {
        const DOING: &str = "insert virtual media";
        self.within(limit, DOING, async {
            let slots = self.media_now().await?;
            if let Some(holding) = slots
                .iter()
                .find(|s| wanted.is_none_or(|w| s.id.eq_ignore_ascii_case(w)) && media::held(s, image) == Held::This)
            {
                return Ok(holding.clone());
            }
            let fail = |why: String| Failure::new(Cause::Refused, self.what(DOING), why);
            let show = format!("rackctl bmc media {}", self.wire.node);
            let chosen = media::choose(&slots, wanted).map_err(|why| fail(why).next(show.clone()))?;
            if let Some(full) = chosen.iter().find(|s| s.inserted) {
                let other = full.image.as_deref().unwrap_or("an image");
                let whence = match media::held(full, image) {
                    Held::Perhaps => ", and the BMC does not say whence",
                    Held::This | Held::Not => "",
                };
                return Err(fail(format!("its slot {} holds {other}{whence}", full.id))
                    .next(format!("rackctl bmc media {} --eject --slot {}", self.wire.node, full.id)));
            }
            let mut refusals = Vec::new();
            for slot in chosen.iter().take(SLOTS_TRIED) {
                match self.climb(media::inserts(slot, image)).await? {
                    Ok(()) => return self.seen(slot, image, &show).await,
                    Err(refused) => refusals.push(format!("slot {}: {}", slot.id, refused.join("; "))),
                }
            }
            Err(fail(format!("the BMC refuses every way that is known: {}", refusals.join(" | "))).next(show))
        })
        .await
    }

    /// What [`Client::insert_media`] would send, into any slot: one request is enough.
    pub(in crate::bmc) async fn preview_insert(&self, image: &str) -> Result<Result<Vec<String>, String>, Failure> {
        let slots = self.media().await?;
        if slots.iter().any(|s| s.image.is_some() && media::holds(s, image)) {
            return Ok(Ok(Vec::new()));
        }
        let chosen = match media::choose(&slots, None) {
            Ok(chosen) => chosen,
            Err(why) => return Ok(Err(why)),
        };
        if let Some(full) = chosen.iter().find(|s| s.inserted) {
            return Ok(Err(format!("its slot {} holds {}", full.id, full.image.as_deref().unwrap_or("an image"))));
        }
        Ok(Ok(chosen.iter().take(SLOTS_TRIED).flat_map(|slot| media::inserts(slot, image)).map(|w| w.line()).collect()))
    }

    /// What [`Client::take_media_out`] would send.
    pub(in crate::bmc) async fn preview_take_out(&self, image: &str) -> Result<Vec<String>, Failure> {
        let slots = self.media().await?;
        let holds = |s: &&Slot| s.image.is_some() && media::holds(s, image);
        Ok(slots.iter().find(holds).into_iter().flat_map(media::ejects).map(|w| w.line()).collect())
    }

    /// One request after the other, until one is taken. The inner error is what the BMC said to each.
    async fn climb(&self, ladder: Vec<Write>) -> Result<Result<(), Vec<String>>, Failure> {
        let mut refused: Vec<String> = Vec::new();
        for write in ladder {
            let mut tries = 0;
            let answer = loop {
                let answer = self.patch(&write).await?;
                tries += 1;
                if answer.status < 500 || tries >= BUSY_TRIES {
                    break answer;
                }
                sleep(BUSY_PAUSE).await;
            };
            if answer.ok() {
                return Ok(Ok(()));
            }
            if matches!(answer.status, 401 | 403 | 429) {
                return Err(self.wire.refusal(&super::act::request(&write), &answer));
            }
            let told = answer.told();
            if !refused.contains(&told) {
                refused.push(told);
            }
            // No such action here: a fuller body will not make one.
            if matches!(answer.status, 404 | 405 | 501) {
                break;
            }
        }
        Ok(Err(refused))
    }

    async fn slot_now(&self, path: &str) -> Result<Option<Slot>, Failure> {
        let (read, _): (wire::VirtualMedia, _) = super::walk::get(&self.wire, path).await?;
        Ok(media::slot(path, &read))
    }

    async fn seen(&self, slot: &Slot, image: &str, show: &str) -> Result<Slot, Failure> {
        let mut last = String::new();
        for attempt in 0..READ_BACK_TRIES {
            if attempt > 0 {
                sleep(READ_BACK_PAUSE).await;
            }
            if let Some(now) = self.slot_now(&slot.path).await? {
                if media::holds(&now, image) {
                    return Ok(now);
                }
                last = now.image.unwrap_or_else(|| "nothing".to_owned());
            }
        }
        let why = format!("the BMC took the request, and its slot {} shows {last} instead of {image}", slot.id);
        Err(Failure::new(Cause::AcceptedButIgnored, self.what("insert virtual media"), why).next(show))
    }

    /// Empties the named slot, or all that hold something, and sees that. Says which.
    pub async fn eject_media(&self, wanted: Option<&str>, limit: Duration) -> Result<Vec<String>, Failure> {
        const DOING: &str = "eject virtual media";
        self.within(limit, DOING, async {
            let slots = self.media_now().await?;
            let show = format!("rackctl bmc media {}", self.wire.node);
            let fail = |cause, why: String| Failure::new(cause, self.what(DOING), why).next(show.clone());
            if let Some(wanted) = wanted {
                media::choose(&slots, Some(wanted)).map_err(|why| fail(Cause::Refused, why))?;
            }
            let named = |s: &&Slot| wanted.is_none_or(|w| s.id.eq_ignore_ascii_case(w));
            let mut ejected = Vec::new();
            for slot in slots.iter().filter(named).filter(|s| s.inserted) {
                if let Err(refused) = self.climb(media::ejects(slot)).await? {
                    return Err(fail(Cause::Refused, format!("slot {}: {}", slot.id, refused.join("; "))));
                }
                let mut empty = false;
                for attempt in 0..READ_BACK_TRIES {
                    if attempt > 0 {
                        sleep(READ_BACK_PAUSE).await;
                    }
                    empty = self.slot_now(&slot.path).await?.is_some_and(|now| !now.inserted);
                    if empty {
                        break;
                    }
                }
                if !empty {
                    let why = format!("the BMC took the request, and its slot {} still holds an image", slot.id);
                    return Err(fail(Cause::AcceptedButIgnored, why));
                }
                ejected.push(slot.id.clone());
            }
            Ok(ejected)
        })
        .await
    }
}
