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
        boot::Write,
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

/// What an order is to become, decided once for the sending and for the preview.
enum Turn {
    /// In words.
    Already(String),
    Front {
        read: String,
        moved: String,
        old: Vec<String>,
    },
}

type OwnTurn = (Own, Option<String>, Turn);

fn turn(old: &[String], entries: &[Entry], wish: &Wish<'_>) -> Result<Turn, String> {
    let entry = order::find(entries, wish.macs, wish.want.target)?;
    let (read, moved) = (format!("{} first in the boot order", entry.words()), entry.reference.clone());
    Ok(match old.first() == Some(&moved) {
        true => Turn::Already(read),
        false => Turn::Front { read, moved, old: old.to_vec() },
    })
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
            let (own, etag, turn) = match self.own_turn(&view, wish).await? {
                Ok(found) => found,
                Err(why) => return Ok(Came::Skipped(why)),
            };
            let (read, moved, old) = match turn {
                Turn::Already(read) => return Ok(Came::Done { read, other: Some("it was already".to_owned()) }),
                Turn::Front { read, moved, old } => (read, moved, old),
            };
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

    /// The vendor's own order, and what it is to become; the inner `Err` says why it is passed over.
    async fn own_turn(&self, view: &SystemView, wish: &Wish<'_>) -> Result<Result<OwnTurn, String>, Failure> {
        let Some(own) = order::own(view) else { return Ok(Err("none of its vendor is known".to_owned())) };
        let Some((old, etag)) = self.own_order(&own).await? else {
            return Ok(Err(format!("{} is not there", own.path)));
        };
        let entries: Vec<Entry> = old.iter().map(|word| Entry::bare(word)).collect();
        Ok(turn(&old, &entries, wish).map(|turn| (own, etag, turn)))
    }

    /// What the standard order is to become; the inner `Err` says why it is passed over.
    async fn standard_turn(&self, view: &SystemView, wish: &Wish<'_>) -> Result<Result<Turn, String>, Failure> {
        let (main, pending) = order::shown(view);
        let Some(old) = pending.or(main).map(<[String]>::to_vec) else {
            return Ok(Err("this BMC shows none".to_owned()));
        };
        let options = gather_options(&self.ground(view)).await?;
        Ok(turn(&old, &order::entries(&old, &options), wish))
    }

    /// What [`Client::climb_order`] would send: the later ones only where the earlier do not hold.
    pub(in crate::bmc) async fn preview_order(&self, wish: &Wish<'_>) -> Result<Result<Vec<String>, String>, Failure> {
        self.limited("look at its boot order", async {
            let view = self.fresh_view(true).await?;
            let (mut lines, mut skipped) = (Vec::new(), Vec::new());
            match self.standard_turn(&view, wish).await? {
                Ok(Turn::Already(_)) => return Ok(Ok(Vec::new())),
                Ok(Turn::Front { moved, old, .. }) => {
                    lines.extend(order::writes(&view, &order::front(&old, &moved)).iter().map(Write::line));
                }
                Err(why) => skipped.push(why),
            }
            match self.own_turn(&view, wish).await? {
                Ok((own, etag, Turn::Front { moved, old, .. })) => {
                    lines.push(own.write(&order::front(&old, &moved), etag).line());
                }
                Ok((_, _, Turn::Already(_))) => {}
                Err(why) => skipped.push(why),
            }
            Ok(if lines.is_empty() && !skipped.is_empty() { Err(skipped.join("; ")) } else { Ok(lines) })
        })
        .await
    }

    /// What putting an order back would send now.
    pub(in crate::bmc) async fn preview_order_back(&self, undo: &Undo) -> Result<Vec<String>, Failure> {
        self.limited("look at its boot order", async {
            let (lines, new) = match undo {
                Undo::Order { old, moved } => {
                    let view = self.fresh_view(true).await?;
                    let (main, pending) = order::shown(&view);
                    let Some(now) = pending.or(main) else { return Ok(Vec::new()) };
                    let new = order::back(old, now, moved);
                    (order::writes(&view, &new), new != now)
                }
                Undo::Own { path, property, old, moved } => {
                    let own = Own { path: path.clone(), property: property.clone() };
                    let Some((now, etag)) = self.own_order(&own).await? else { return Ok(Vec::new()) };
                    let new = order::back(old, &now, moved);
                    (vec![own.write(&new, etag)], new != now)
                }
                Undo::Flags | Undo::Media { .. } => return Ok(Vec::new()),
            };
            Ok(if new { lines.iter().map(Write::line).collect() } else { Vec::new() })
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
            let (read, moved, old) = match self.standard_turn(&view, wish).await? {
                Err(why) => return Ok(Came::Skipped(why)),
                Ok(Turn::Already(read)) => return Ok(Came::Done { read, other: Some("it was already".to_owned()) }),
                Ok(Turn::Front { read, moved, old }) => (read, moved, old),
            };
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
