//! What the machine boots from: the override in its variants, and an image that is put in for it. All is read back.

use std::time::Duration;

use tokio::time::sleep;

use super::{Client, order::Vain, walk};
use crate::{
    bmc::{
        Keep, boot,
        ladder::{Came, Undo, Wish},
        media::{self, Held},
        order::{self, Entry},
        read::SystemView,
        redfish::wire::{Link, boot::BootOption},
    },
    model::{Failure, failure::Cause, power::BootOverride},
};

/// A PATCH is read back so often before it counts as ignored; some BMCs take a moment.
pub(super) const READ_BACK_TRIES: u32 = 4;
/// Once one was ignored, the next are not waited for as long.
const READ_BACK_AGAIN: u32 = 2;
pub(super) const READ_BACK_PAUSE: Duration = Duration::from_millis(500);
/// An image is fetched before its slot shows it.
const MEDIA_LIMIT: Duration = Duration::from_secs(90);

impl Client {
    /// Sets the override, or clears it ([`BootOverride::CLEARED`]), and reads it back. No other way is tried.
    pub async fn set_boot(&self, want: BootOverride) -> Result<(), Failure> {
        let wish = Wish { want, macs: &[], url: None, keeps: false, surer: false };
        let what = self.what(&format!("set the boot override to {}", boot::words(want)));
        let show = format!("rackctl boot show {}", self.wire.node);
        match self.climb_override(&wish).await? {
            Came::Done { .. } => Ok(()),
            Came::Ignored(why) => {
                let why = format!(
                    "the BMC took the request and did not apply it: asked for {}, {}",
                    boot::words(want),
                    why.join("; ")
                );
                Err(Failure::new(Cause::AcceptedButIgnored, what, why).next(show))
            }
            Came::Refused(why) => Err(Failure::new(Cause::Refused, what, why.join("; ")).next(show)),
            Came::Skipped(why) => Err(Failure::new(Cause::Refused, what, why).next(show)),
        }
    }

    /// The override in force, or pending on a settings resource. A target that has no word here (`Usb`, `UefiTarget`) is
    /// `Refused` with its name; a BMC that has no override has none set.
    pub async fn boot(&self) -> Result<BootOverride, Failure> {
        const DOING: &str = "read the boot override";
        self.limited(DOING, async {
            let view = self.fresh_view(true).await?;
            let fail = |why: String| Failure::new(Cause::Refused, self.what(DOING), why);
            let foreign = |word: String| fail(format!("it is set to `{word}`, which rackctl does not set"));
            let [main, settings] = boot::reads(&view);
            let pending = settings.unwrap_or(None).filter(|p| !p.is_cleared());
            match main.map_err(foreign)? {
                Some(now) if now.is_cleared() => Ok(pending.unwrap_or(now)),
                Some(now) => Ok(now),
                None if pending.is_some() => Ok(pending.unwrap_or(BootOverride::CLEARED)),
                None if boot::is_cleared(&view) => Ok(BootOverride::CLEARED),
                None => Err(fail("the BMC shows none".into())),
            }
        })
        .await
    }

    /// What the machine boots from, in words: the override, else the entry that stands first in its order where that is
    /// network boot, or where there is no override at all.
    pub async fn boot_shown(&self) -> Result<String, Failure> {
        let now = self.boot().await?;
        if !now.is_cleared() {
            return Ok(boot::words(now));
        }
        self.limited("read the boot order", async {
            let view = self.fresh_view(true).await?;
            let (main, pending) = order::shown(&view);
            let entry = match (pending.or(main).and_then(<[String]>::first), order::own(&view)) {
                (Some(first), _) => self.entry(&view, first).await?,
                (None, Some(own)) => {
                    match self.own_order(&own).await?.and_then(|(order, _)| order.into_iter().next()) {
                        Some(first) => Entry::bare(&first),
                        None => return Ok(boot::words(now)),
                    }
                }
                (None, None) => return Ok(boot::words(now)),
            };
            let has = view.system.boot.as_ref().is_some_and(boot::has_override);
            Ok(match (order::is_network(&entry), has) {
                (true, _) => format!("{} first in the boot order", entry.words()),
                (false, true) => boot::words(now),
                (false, false) => format!("{}; {} first in the boot order", boot::words(now), entry.words()),
            })
        })
        .await
    }

    /// One word of the order, with a request of its own where that leads somewhere.
    async fn entry(&self, view: &SystemView, word: &str) -> Result<Entry, Failure> {
        let options = view.system.boot.as_ref().and_then(|b| Link::path(&b.options));
        let reference = word.split(':').next().unwrap_or(word).trim();
        let plain = reference.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        let mut known = Vec::new();
        if let Some(path) = options.filter(|_| plain && !reference.is_empty()) {
            let path = format!("{}/{reference}", path.trim_end_matches('/'));
            if let Some((option, _)) = walk::optional(walk::get::<_, BootOption>(&self.wire, &path)).await? {
                known.push((path, option));
            }
        }
        let found = order::entries(&[word.to_owned()], &known).into_iter().next();
        Ok(found.unwrap_or_else(|| Entry::bare(word)))
    }

    /// The first rung: every variant of the override, until one is read back.
    pub(in crate::bmc) async fn climb_override(&self, wish: &Wish<'_>) -> Result<Came, Failure> {
        let doing = format!("set the boot override to {}", boot::words(wish.want));
        self.limited(&doing, self.climb_override_now(wish)).await
    }

    async fn climb_override_now(&self, wish: &Wish<'_>) -> Result<Came, Failure> {
        let view = self.fresh_view(true).await?;
        if wish.want.is_cleared() && boot::is_cleared(&view) {
            return Ok(Came::Done { read: boot::words(BootOverride::CLEARED), other: None });
        }
        let variants = match boot::variants(&view, wish.want, wish.keeps, wish.url) {
            Ok(variants) => variants,
            Err(why) => return Ok(Came::Refused(vec![why])),
        };
        let mut vain = Vain::default();
        let modes = boot::modes(&view);
        // Also after a refusal: a BMC may say 400 and have done it (iDRAC 13G, community.general#5091).
        let mut unseen: Option<BootOverride> = None;
        for variant in &variants {
            if let Some(asks) = unseen.filter(|asks| *asks != variant.asks)
                && let Ok(read) = self.sees(asks, wish.url, modes, 1).await?
            {
                return Ok(done(wish, asks, read));
            }
            let answer = self.patch(&variant.write).await?;
            if answer.ok() {
                unseen = None;
                let tries = if vain.ignored.is_empty() { READ_BACK_TRIES } else { READ_BACK_AGAIN };
                match self.sees(variant.asks, wish.url, modes, tries).await? {
                    Ok(read) => return Ok(done(wish, variant.asks, read)),
                    Err(read) => vain.ignored.push(format!("sent {}, read back {read}", boot::sent(&variant.write))),
                }
                continue;
            }
            if matches!(answer.status, 401 | 403 | 503 | 429) {
                return Err(self.wire.refusal(&super::act::request(&variant.write), &answer));
            }
            vain.refuse(format!("{}: {}", variant.write.path, answer.told()));
            unseen = Some(variant.asks);
        }
        if let Some(asks) = unseen
            && let Ok(read) = self.sees(asks, wish.url, modes, 1).await?
        {
            return Ok(done(wish, asks, read));
        }
        if !vain.ignored.is_empty() && !wish.want.is_cleared() {
            self.tidy().await?;
        }
        Ok(vain.came())
    }

    /// What [`Client::climb_override`] would send: the later ones only where the earlier do not hold.
    pub(in crate::bmc) async fn preview_override(
        &self,
        wish: &Wish<'_>,
    ) -> Result<Result<Vec<String>, String>, Failure> {
        let view = self.system_view().await?;
        if wish.want.is_cleared() && boot::is_cleared(&view) {
            return Ok(Ok(Vec::new()));
        }
        let variants = boot::variants(&view, wish.want, wish.keeps, wish.url);
        Ok(variants.map(|list| list.iter().map(|v| v.write.line()).collect()))
    }

    /// Whether the override is read back; both ways in words. `modes`: as they were before.
    async fn sees(
        &self,
        asks: BootOverride,
        url: Option<&str>,
        modes: boot::Modes,
        tries: u32,
    ) -> Result<Result<String, String>, Failure> {
        let mut seen = "nothing".to_owned();
        for attempt in 0..tries {
            if attempt > 0 {
                sleep(READ_BACK_PAUSE).await;
            }
            let view = self.fresh_view(true).await?;
            match boot::seen(&view, asks, url) {
                // Nobody asked for the other mode: what is installed would not start in it.
                Ok(read) if asks.mode.is_none() && boot::fell_to_bios(modes, boot::modes(&view)) => {
                    seen = format!("{read}, and the mode fell from uefi to bios");
                }
                Ok(read) => return Ok(Ok(read)),
                Err(read) => seen = read,
            }
        }
        Ok(Err(seen))
    }

    /// What half took is not left: the machine would boot from it, once or for ever. Whether that helps is seen by
    /// whoever looks next.
    async fn tidy(&self) -> Result<(), Failure> {
        let view = self.fresh_view(true).await?;
        if boot::is_cleared(&view) {
            return Ok(());
        }
        for write in boot::writes(&view, BootOverride::CLEARED, None).unwrap_or_default() {
            if self.patch(&write).await?.ok() {
                break;
            }
        }
        Ok(())
    }

    /// The last rung: an image is put in, and the machine boots from that.
    pub(in crate::bmc) async fn climb_media(&self, wish: &Wish<'_>, keep: &Keep<'_>) -> Result<Came, Failure> {
        let Some(image) = wish.url else { return Ok(Came::Skipped("no image is given".to_owned())) };
        // What is there already and may be another's is not put in, so it is not taken out afterwards either.
        let slots = match self.media().await {
            Ok(slots) => slots,
            Err(failure) if matches!(failure.cause, Cause::Refused | Cause::Guard) => {
                return Ok(Came::Refused(vec![failure.why]));
            }
            Err(failure) => return Err(failure),
        };
        if let Some(other) = slots.iter().find(|s| s.image.is_some() && media::held(s, image) == Held::Perhaps) {
            let name = other.image.as_deref().unwrap_or_default();
            let why = format!("its slot {} holds {name}, and the BMC does not say whence", other.id);
            return Ok(Came::Refused(vec![why]));
        }
        keep(&Undo::Media { image: image.to_owned() })?;
        let slot = match self.insert_media(None, image, MEDIA_LIMIT).await {
            Ok(slot) => slot,
            Err(failure) if failure.cause == Cause::AcceptedButIgnored => return Ok(Came::Ignored(vec![failure.why])),
            Err(failure) if matches!(failure.cause, Cause::Refused | Cause::Guard) => {
                return Ok(Came::Refused(vec![failure.why]));
            }
            Err(failure) => return Err(failure),
        };
        Ok(match self.climb_override(&Wish { url: None, ..*wish }).await? {
            Came::Done { read, other } => {
                Came::Done { read: format!("{read} with {image} in slot {}", slot.id), other }
            }
            came => came,
        })
    }

    /// Takes the image out of the slot that holds it; none does: it is out.
    pub async fn take_media_out(&self, image: &str) -> Result<(), Failure> {
        let slots = self.media().await?;
        let holds = |s: &&media::Slot| s.image.is_some() && media::held(s, image) != Held::Not;
        match slots.iter().find(holds) {
            Some(slot) => self.eject_media(Some(&slot.id), MEDIA_LIMIT).await.map(drop),
            None => Ok(()),
        }
    }
}

/// What holds, and how it differs from what was asked.
fn done(wish: &Wish<'_>, asks: BootOverride, read: String) -> Came {
    let mut other = Vec::new();
    if asks.target != wish.want.target {
        other.push("the BMC offers no UEFI HTTP boot".to_owned());
    }
    if asks.lasts != wish.want.lasts {
        other.push(
            "the BMC takes none for one boot: `rackctl boot set none` clears it, as the end of a run does".to_owned(),
        );
    }
    Came::Done { read, other: (!other.is_empty()).then(|| other.join("; ")) }
}
