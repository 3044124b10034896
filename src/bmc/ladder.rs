//! The ladder of ways to make a machine boot as wished: each rung once, downwards, until one holds. Pure.
//!
//! The boot override comes first (its own variants are [`super::boot::variants`]), then the persistent boot order, the
//! boot flags of IPMI, and virtual media. "Taken and not applied" is found by reading back and leads to the next rung as
//! a refusal does; a BMC that is away or refuses the user ends the walk.

use serde::{Deserialize, Serialize};

use super::{boot, redfish::json::clean};
use crate::model::{
    Failure, Mac,
    failure::Cause,
    fleet::BootMode,
    power::{BootOverride, BootTarget},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    Override,
    Order,
    Ipmi,
    Media,
}

impl Rung {
    /// From the top: what changes least comes first.
    pub const ALL: [Rung; 4] = [Rung::Override, Rung::Order, Rung::Ipmi, Rung::Media];

    pub fn word(self) -> &'static str {
        match self {
            Rung::Override => "boot override",
            Rung::Order => "boot order",
            Rung::Ipmi => "IPMI boot flags",
            Rung::Media => "virtual media",
        }
    }
}

/// What came of a rung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// In force or pending, as it was read back; `other` says how it differs from what was asked.
    Done { read: String, other: Option<String> },
    /// Each request was refused; what the BMC said.
    Refused(Vec<String>),
    /// Some were taken and not applied: what was sent and read back, and what was refused besides.
    Ignored(Vec<String>),
    /// Nothing was sent, and why.
    Skipped(String),
}

impl Came {
    /// What came of a second way on the same rung, after a first one that does not hold.
    pub fn or(self, second: Came) -> Came {
        match (self, second) {
            (done @ Came::Done { .. }, _) | (_, done @ Came::Done { .. }) => done,
            (Came::Skipped(a), Came::Skipped(b)) => Came::Skipped(format!("{a}; {b}")),
            (Came::Skipped(why), Came::Refused(mut list)) | (Came::Refused(mut list), Came::Skipped(why)) => {
                list.push(why);
                Came::Refused(list)
            }
            (Came::Skipped(why), Came::Ignored(mut list)) | (Came::Ignored(mut list), Came::Skipped(why)) => {
                list.push(why);
                Came::Ignored(list)
            }
            (Came::Refused(mut a), Came::Refused(b)) => {
                a.extend(b);
                Came::Refused(a)
            }
            (Came::Refused(mut a) | Came::Ignored(mut a), Came::Refused(b) | Came::Ignored(b)) => {
                a.extend(b);
                Came::Ignored(a)
            }
        }
    }
}

/// What is asked of the ladder.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub want: BootOverride,
    /// Of the interface that the machine boots from.
    pub macs: &'a [Mac],
    /// Where UEFI HTTP boot goes, or the image that is put in for a boot from `cd`.
    pub url: Option<&'a str>,
    /// Somebody remembers what has to be undone: only then is anything changed that clearing an override leaves behind.
    pub keeps: bool,
    /// An override was read back before and the machine did not start from it (iDRAC9: metal-operator#80): the order is
    /// changed too.
    pub surer: bool,
}

/// What has to be undone when the machine shall boot as ever, beside clearing its override. Written down before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "camelCase")]
pub enum Undo {
    /// The boot order was `old`, and `moved` was put first.
    Order { old: Vec<String>, moved: String },
    /// A vendor's own order, the list `property` of the resource `path`, was `old`, and `moved` was put first.
    Own { path: String, property: String, old: Vec<String>, moved: String },
    /// Boot flags were set over IPMI.
    Flags,
    /// An image was put into a slot.
    Media { image: String },
}

impl Undo {
    /// For tables: what is still to be undone.
    pub fn words(&self) -> String {
        match self {
            Undo::Order { old, moved } | Undo::Own { old, moved, .. } => {
                format!("boot order ({} first; it was {})", clean(moved), clean(&old.join(", ")))
            }
            Undo::Flags => "IPMI boot flags".to_owned(),
            Undo::Media { image } => format!("virtual media ({})", clean(image)),
        }
    }
}

/// What holds now, and by which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booted {
    pub by: Rung,
    /// For tables: what was read back, by which way, and how it differs from what was asked.
    pub words: String,
    /// What did not help before; empty: the first way did.
    pub before: Vec<String>,
}

/// What a rung would send, to read: step after step, and of a step the later lines only where the earlier do not hold.
/// `Err`: it sends nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub way: &'static str,
    pub sends: Result<Vec<Vec<String>>, String>,
}

/// Where the walk stands.
#[derive(Clone, Debug)]
pub struct Ladder {
    want: BootOverride,
    can: [Result<(), String>; 4],
    at: usize,
    tried: Vec<(Rung, Came)>,
}

/// The ways there are for a wish. `redfish`: `Err` says by what the machine is driven instead; `ipmi`: `Err` says why
/// there is none.
pub fn ways(wish: &Wish<'_>, redfish: Result<(), String>, ipmi: Result<(), String>) -> [Result<(), String>; 4] {
    let no = |why: &str| Err(why.to_owned());
    let network = matches!(wish.want.target, BootTarget::Pxe | BootTarget::Http);
    let image = wish.url.is_some() && wish.want.target == BootTarget::Cd;
    if image {
        let first = || no("an image is put in and booted from");
        return [first(), first(), first(), redfish];
    }
    let order = match () {
        () if redfish.is_err() => redfish.clone(),
        () if !network => no("it is changed for network boot alone"),
        () if wish.url.is_some() => no("it holds no address to boot from"),
        () if !wish.keeps => no("nobody would put it back"),
        () if wish.want.mode == Some(BootMode::Bios) => no("its entries are those of UEFI"),
        () if wish.macs.is_empty() => no("the inventory names no interface that the machine boots from"),
        () => Ok(()),
    };
    // Where IPMI is what drives the machine, its flags are the override: clearing them is what clearing does.
    let alone = redfish.is_err();
    let flags = match () {
        () if wish.want.target == BootTarget::Http => no("IPMI has no word for UEFI HTTP boot"),
        () if !alone && !wish.keeps => no("nobody would clear them"),
        () => ipmi,
    };
    let media = if alone { redfish.clone() } else { no("no image is given") };
    [redfish, order, flags, media]
}

impl Ladder {
    pub fn new(want: BootOverride, can: [Result<(), String>; 4]) -> Ladder {
        Ladder { want, can, at: 0, tried: Vec::new() }
    }

    /// The rung to try now; `None`: one holds, or there is none left.
    pub fn down(&mut self) -> Option<Rung> {
        while !self.holds()
            && let (Some(rung), Some(can)) = (Rung::ALL.get(self.at), self.can.get(self.at))
        {
            self.at += 1;
            match can {
                Ok(()) => return Some(*rung),
                Err(why) => self.tried.push((*rung, Came::Skipped(why.clone()))),
            }
        }
        None
    }

    pub fn came(&mut self, rung: Rung, came: Came) {
        self.tried.push((rung, came));
    }

    fn holds(&self) -> bool {
        self.tried.iter().any(|(_, came)| matches!(came, Came::Done { .. }))
    }

    /// What was tried or passed over, a sentence a rung.
    fn told(&self) -> Vec<String> {
        let sentence = |(rung, came): &(Rung, Came)| {
            let word = rung.word();
            match came {
                Came::Done { .. } => None,
                Came::Refused(why) => Some(format!("{word}: {}", why.join("; "))),
                Came::Ignored(why) => {
                    Some(format!("{word}: the BMC took the request and did not apply it: {}", why.join("; ")))
                }
                Came::Skipped(why) => Some(format!("{word}: not tried ({why})")),
            }
        };
        self.tried.iter().filter_map(sentence).collect()
    }

    /// `Err`: no rung holds; every one is named with what was read back or why it was passed over.
    pub fn end(self, node: &str) -> Result<Booted, Failure> {
        let done = self.tried.iter().find_map(|(rung, came)| match came {
            Came::Done { read, other } => Some((*rung, read.clone(), other.clone())),
            _ => None,
        });
        let before: Vec<String> = self.told();
        match done {
            Some((by, read, other)) => {
                let way = if by == Rung::Ipmi { " by IPMI" } else { "" };
                let other = other.map(|o| format!(" ({o})")).unwrap_or_default();
                Ok(Booted { by, words: format!("{read}{way}{other}"), before })
            }
            None => {
                let ignored = self.tried.iter().any(|(_, came)| matches!(came, Came::Ignored(_)));
                let cause = if ignored { Cause::AcceptedButIgnored } else { Cause::Refused };
                let what = format!("{node}: boot from {}", boot::words(self.want));
                let why = format!("asked for {}; {}", boot::words(self.want), before.join("; "));
                Err(Failure::new(cause, what, why).next(format!("rackctl boot show {node}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::power::OverrideFor;

    const PXE: BootOverride =
        BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: Some(BootMode::Uefi) };

    fn mac() -> Mac {
        "52:54:00:00:00:01".parse().unwrap()
    }

    fn is(can: &[Result<(), String>; 4]) -> [bool; 4] {
        can.clone().map(|c| c.is_ok())
    }

    #[test]
    fn only_ways_that_lead_there_and_back_are_open() {
        let macs = [mac()];
        let wish = Wish { want: PXE, macs: &macs, url: None, keeps: true, surer: false };
        let ok = || Ok(());
        assert_eq!(is(&ways(&wish, ok(), ok())), [true, true, true, false]);
        assert_eq!(is(&ways(&Wish { keeps: false, ..wish }, ok(), ok())), [true, false, false, false]);
        assert_eq!(is(&ways(&Wish { macs: &[], ..wish }, ok(), ok())), [true, false, true, false]);
        let bios = BootOverride { mode: Some(BootMode::Bios), ..PXE };
        assert_eq!(is(&ways(&Wish { want: bios, ..wish }, ok(), ok())), [true, false, true, false]);
        let http = BootOverride { target: BootTarget::Http, ..PXE };
        assert_eq!(is(&ways(&Wish { want: http, ..wish }, ok(), ok())), [true, true, false, false]);
        let url = Wish { want: http, url: Some("http://h/x.efi"), ..wish };
        assert_eq!(is(&ways(&url, ok(), ok())), [true, false, false, false]);
        let cd = BootOverride { target: BootTarget::Cd, ..PXE };
        assert_eq!(is(&ways(&Wish { want: cd, ..wish }, ok(), ok())), [true, false, true, false]);
        let image = Wish { want: cd, url: Some("http://h/x.iso"), ..wish };
        assert_eq!(is(&ways(&image, ok(), ok())), [false, false, false, true]);
        // Driven by IPMI: its flags are all there is, and nobody has to remember them.
        let alone = Wish { keeps: false, ..wish };
        assert_eq!(is(&ways(&alone, Err("driven by IPMI".into()), ok())), [false, false, true, false]);
    }

    // fault: F7 harness: D
    #[test]
    fn giving_up_names_every_rung() {
        let mut ladder = Ladder::new(PXE, [Ok(()), Ok(()), Err("no endpoint".into()), Err("no image is given".into())]);
        assert_eq!(ladder.down(), Some(Rung::Override));
        ladder.came(Rung::Override, Came::Ignored(vec!["sent X, read back no override".into()]));
        assert_eq!(ladder.down(), Some(Rung::Order));
        ladder.came(Rung::Order, Came::Refused(vec!["HTTP 400: PropertyUnknown".into()]));
        assert_eq!(ladder.down(), None);
        let failure = ladder.end("n1").unwrap_err();
        assert_eq!(failure.cause, Cause::AcceptedButIgnored);
        for part in [
            "asked for pxe once (uefi)",
            "boot override: the BMC took",
            "read back no override",
            "boot order: HTTP 400",
            "IPMI boot flags: not tried (no endpoint)",
            "virtual media: not tried (no image is given)",
        ] {
            assert!(failure.why.contains(part), "{part}: {failure}");
        }
        assert!(failure.next.is_some_and(|n| n.contains("rackctl boot show n1")));
    }

    #[test]
    fn what_holds_ends_the_walk_and_says_how() {
        let mut ladder = Ladder::new(PXE, [Ok(()), Ok(()), Ok(()), Ok(())]);
        assert_eq!(ladder.down(), Some(Rung::Override));
        ladder.came(Rung::Override, Came::Refused(vec!["no".into()]));
        assert_eq!(ladder.down(), Some(Rung::Order));
        ladder.came(Rung::Order, Came::Done { read: "Boot0003 first in the boot order".into(), other: None });
        assert_eq!(ladder.down(), None);
        let booted = ladder.end("n1").unwrap();
        assert_eq!((booted.by, booted.words.as_str()), (Rung::Order, "Boot0003 first in the boot order"));
        assert_eq!(booted.before, ["boot override: no"]);
    }

    fn a_came() -> impl Strategy<Value = Came> {
        prop_oneof![
            Just(Came::Done { read: "done".into(), other: None }),
            Just(Came::Refused(vec!["refused".into()])),
            Just(Came::Ignored(vec!["ignored".into()])),
            Just(Came::Skipped("cannot".into())),
        ]
    }

    proptest! {
        // Whatever the BMC does: each rung at most once, downwards, never one that is closed, and an end that tells all.
        #[test]
        fn the_walk_is_bounded_and_tells_all(open in any::<[bool; 4]>(), comes in prop::collection::vec(a_came(), 4)) {
            let can = open.map(|o| if o { Ok(()) } else { Err("closed".to_owned()) });
            let mut ladder = Ladder::new(PXE, can);
            let (mut walked, mut done) = (Vec::new(), false);
            for came in comes {
                let Some(rung) = ladder.down() else { break };
                prop_assert!(!done, "nothing is tried after what holds");
                prop_assert!(open[Rung::ALL.iter().position(|r| *r == rung).unwrap()]);
                prop_assert!(walked.last().is_none_or(|last| *last < rung));
                walked.push(rung);
                done = matches!(came, Came::Done { .. });
                ladder.came(rung, came);
            }
            prop_assert_eq!(ladder.down(), None);
            match ladder.end("n1") {
                Ok(booted) => prop_assert!(done && Some(&booted.by) == walked.last()),
                Err(failure) => {
                    prop_assert!(!done);
                    for rung in Rung::ALL {
                        prop_assert!(failure.why.contains(rung.word()), "{}: {failure}", rung.word());
                    }
                    prop_assert_eq!(failure.cause == Cause::AcceptedButIgnored, failure.why.contains("ignored"));
                }
            }
        }
    }
}
