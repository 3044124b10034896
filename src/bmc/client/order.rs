//! The persistent order: the network boot of the machine's own interface first, and the way back. All is read back.

use tokio::time::sleep;

use super::{
    Client,
    boot::{READ_BACK_PAUSE, READ_BACK_TRIES},
    ground::Ground,
    walk,
    walk::Source,
};
use crate::{
    bmc::{
        Keep,
        ladder::{Came, Undo, Wish},
        link,
        order::{self, Entry, Own},
        read::SystemView,
        redfish::wire::{Boot, Link, boot::BootOption},
    },
    model::{Failure, failure::Cause, power::OverrideFor},
};

/// Requests that a failure tells one by one.
const TOLD: usize = 4;

/// The entries that the order is made of, where the BMC tells.
async fn gather_options<S: Source>(ground: &Ground<'_, S>) -> Result<Vec<(String, BootOption)>, Failure> {
    let of = |boot: Option<&Boot>| boot.and_then(|b| Link::path(&b.options).map(str::to_owned));
    let settings = ground.view.settings.as_ref().and_then(|s| s.system.boot.as_ref());
    let Some(path) = of(ground.view.system.boot.as_ref()).or_else(|| of(settings)) else { return Ok(Vec::new()) };
    Ok(ground.members(&path, order::MAX_ENTRIES).await?.unwrap_or_default())
}

/// What requests came to that did not help.
#[derive(Default)]
pub(super) struct Vain {
    pub refused: Vec<String>,
    pub ignored: Vec<String>,
}

impl Vain {
    pub fn refuse(&mut self, why: String) {
        if !self.refused.contains(&why) {
            self.refused.push(why);
        }
    }

    pub fn came(self) -> Came {
        let told = |mut list: Vec<String>| {
            let more = list.len().saturating_sub(TOLD);
            list.truncate(TOLD);
            if more > 0 {
                list.push(format!("and {more} more"));
            }
            list
        };
        if self.ignored.is_empty() {
            return Came::Refused(told(self.refused));
        }
        let mut why = told(self.ignored);
        if !self.refused.is_empty() {
            why.push(format!("refused besides: {}", told(self.refused).join("; ")));
        }
        Came::Ignored(why)
    }
}

impl Client {
    /// The second rung: the network boot of the machine's own interface first in its order, or in the vendor's own. What
    /// the order was is told to `keep` before it is changed.
    pub(in crate::bmc) async fn climb_order(&self, wish: &Wish<'_>, keep: &Keep<'_>) -> Result<Came, Failure> {
        let standard = self.climb_standard_order(wish, keep).await?;
        if matches!(standard, Came::Done { .. }) {
            return Ok(standard);
        }
        Ok(standard.or(self.climb_own_order(wish, keep).await?))
    }

    async fn climb_own_order(&self, wish: &Wish<'_>, keep: &Keep<'_>) -> Result<Came, Failure> {
        self.limited("put network boot first in the vendor's boot order", async {
            let view = self.fresh_view(false).await?;
            let Some(own) = order::own(&view) else {
                return Ok(Came::Skipped("none of its vendor is known".to_owned()));
            };
            let Some((old, etag)) = self.own_order(&own).await? else {
                return Ok(Came::Skipped(format!("{} is not there", own.path)));
            };
            let entries: Vec<Entry> = old.iter().map(|word| Entry::bare(word)).collect();
            let entry = match order::find(&entries, wish.macs, wish.want.target) {
                Ok(entry) => entry,
                Err(why) => return Ok(Came::Skipped(why)),
            };
            let (read, moved) = (format!("{} first in the boot order", entry.words()), entry.reference.clone());
            if old.first() == Some(&moved) {
                return Ok(Came::Done { read, other: Some("it was already".to_owned()) });
            }
            let (path, property) = (own.path.clone(), own.property.clone());
            keep(&Undo::Own { path, property, old: old.clone(), moved: moved.clone() })?;
            let is = |now: &[String]| now.first() == Some(&moved);
            Ok(match self.write_own(&own, &order::front(&old, &moved), etag, &is).await? {
                Ok(()) => Came::Done { read, other: lasts(wish) },
                Err(vain) => vain.came(),
            })
        })
        .await
    }

    /// `None`: there is no such resource, or no order in it.
    pub(super) async fn own_order(&self, own: &Own) -> Result<Option<(Vec<String>, Option<String>)>, Failure> {
        let found = walk::optional(walk::get::<_, serde_json::Value>(&self.wire, &own.path)).await?;
        Ok(found.map(|(body, etag)| (own.read(&body), etag)).filter(|(order, _)| !order.is_empty()))
    }

    async fn write_own(
        &self,
        own: &Own,
        new: &[String],
        etag: Option<String>,
        is: &(dyn Fn(&[String]) -> bool + Sync),
    ) -> Result<Result<(), Vain>, Failure> {
        let (mut vain, write) = (Vain::default(), own.write(new, etag));
        let answer = self.patch(&write).await?;
        if !answer.ok() {
            if matches!(answer.status, 401 | 403 | 503 | 429) {
                return Err(self.wire.refusal(&super::act::request(&write), &answer));
            }
            vain.refuse(format!("{}: {}", write.path, answer.told()));
        }
        let mut seen = Vec::new();
        for attempt in 0..if answer.ok() { READ_BACK_TRIES } else { 1 } {
            if attempt > 0 {
                sleep(READ_BACK_PAUSE).await;
            }
            seen = self.own_order(own).await?.map(|(order, _)| order).unwrap_or_default();
            if is(&seen) {
                return Ok(Ok(()));
            }
        }
        if answer.ok() {
            let words = |list: &[String]| crate::bmc::redfish::json::clean(&list.join(", "));
            vain.ignored.push(format!("sent {} to {}, read back {}", words(new), write.path, words(&seen)));
        }
        Ok(Err(vain))
    }

    /// As [`Client::order_back`], of a vendor's own order.
    pub async fn own_order_back(&self, own: &Own, old: &[String], moved: &str) -> Result<(), Failure> {
        const DOING: &str = "put the vendor's boot order back";
        self.limited(DOING, async {
            let fail = |cause, why: String| {
                Failure::new(cause, self.what(DOING), why).next(format!("rackctl boot show {}", self.wire.node))
            };
            let Some((now, etag)) = self.own_order(own).await? else {
                return Err(fail(Cause::Refused, format!("{} shows no order any more", own.path)));
            };
            let is = |now: &[String]| order::back(old, now, moved) == now;
            if is(&now) {
                return Ok(());
            }
            match self.write_own(own, &order::back(old, &now, moved), etag, &is).await? {
                Ok(()) => Ok(()),
                Err(vain) => Err(failed(vain, &fail)),
            }
        })
        .await
    }

    async fn climb_standard_order(&self, wish: &Wish<'_>, keep: &Keep<'_>) -> Result<Came, Failure> {
        self.limited("put network boot first in the boot order", async {
            let view = self.fresh_view(true).await?;
            let (main, pending) = order::shown(&view);
            let Some(old) = pending.or(main).map(<[String]>::to_vec) else {
                return Ok(Came::Skipped("this BMC shows none".to_owned()));
            };
            let options = gather_options(&self.ground(&view)).await?;
            let entries = order::entries(&old, &options);
            let entry = match order::find(&entries, wish.macs, wish.want.target) {
                Ok(entry) => entry,
                Err(why) => return Ok(Came::Skipped(why)),
            };
            let read = format!("{} first in the boot order", entry.words());
            let moved = entry.reference.clone();
            if old.first() == Some(&moved) {
                return Ok(Came::Done { read, other: Some("it was already".to_owned()) });
            }
            keep(&Undo::Order { old: old.clone(), moved: moved.clone() })?;
            let new = order::front(&old, &moved);
            let is = |now: &[String]| now.first() == Some(&moved);
            Ok(match self.write_order(&view, &new, &is).await? {
                Ok(()) => Came::Done { read, other: lasts(wish) },
                Err(vain) => vain.came(),
            })
        })
        .await
    }

    async fn write_order(
        &self,
        view: &SystemView,
        new: &[String],
        is: &(dyn Fn(&[String]) -> bool + Sync),
    ) -> Result<Result<(), Vain>, Failure> {
        let mut vain = Vain::default();
        for write in order::writes(view, new) {
            let answer = self.patch(&write).await?;
            if !answer.ok() {
                if matches!(answer.status, 401 | 403 | 503 | 429) {
                    return Err(self.wire.refusal(&super::act::request(&write), &answer));
                }
                vain.refuse(format!("{}: {}", write.path, answer.told()));
            }
            let tries = if answer.ok() { READ_BACK_TRIES } else { 1 };
            let mut seen = String::new();
            for attempt in 0..tries {
                if attempt > 0 {
                    sleep(READ_BACK_PAUSE).await;
                }
                let view = self.fresh_view(true).await?;
                let (main, pending) = order::shown(&view);
                // What is pending there comes into force with the next start.
                let there =
                    pending.filter(|_| view.settings.as_ref().is_some_and(|s| link::same(&s.path, &write.path)));
                if there.is_some_and(is) || main.is_some_and(is) {
                    return Ok(Ok(()));
                }
                seen = crate::bmc::redfish::json::clean(&main.or(pending).unwrap_or_default().join(", "));
            }
            if answer.ok() {
                let sent = crate::bmc::redfish::json::clean(&new.join(", "));
                vain.ignored.push(format!("sent {sent} to {}, read back {seen}", write.path));
            }
        }
        Ok(Err(vain))
    }

    /// Puts the entry back to where it stood in the old order; what has changed besides stays. Read back.
    pub async fn order_back(&self, old: &[String], moved: &str) -> Result<(), Failure> {
        const DOING: &str = "put the boot order back";
        self.limited(DOING, async {
            let view = self.fresh_view(true).await?;
            let (main, pending) = order::shown(&view);
            let fail = |cause, why: String| {
                Failure::new(cause, self.what(DOING), why).next(format!("rackctl boot show {}", self.wire.node))
            };
            let Some(now) = pending.or(main) else {
                return Err(fail(Cause::Refused, "the BMC shows no boot order any more".to_owned()));
            };
            let is = |now: &[String]| order::back(old, now, moved) == now;
            if is(now) {
                return Ok(());
            }
            match self.write_order(&view, &order::back(old, now, moved), &is).await? {
                Ok(()) => Ok(()),
                Err(vain) => Err(failed(vain, &fail)),
            }
        })
        .await
    }
}

fn failed(vain: Vain, fail: &dyn Fn(Cause, String) -> Failure) -> Failure {
    match vain.came() {
        Came::Ignored(why) => fail(Cause::AcceptedButIgnored, why.join("; ")),
        Came::Refused(why) => fail(Cause::Refused, why.join("; ")),
        _ => fail(Cause::Refused, "nothing was sent".to_owned()),
    }
}

fn lasts(wish: &Wish<'_>) -> Option<String> {
    let once = wish.want.lasts == OverrideFor::Once;
    once.then(|| "it lasts: `rackctl boot set none` puts the order back, as the end of a run does".to_owned())
}
