//! `bmc media`: virtual media, shown, put in and taken out.

use serde::Serialize;

use super::{change, look};
use crate::{
    bmc::media::Slot,
    cli::{args::bmc::Media as Args, globals::Globals},
    model::bmc::BmcChange,
    output::{Exit, Stop},
};

#[derive(Serialize)]
struct Said {
    slots: Vec<Slot>,
}

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    let change = match (&args.insert, args.eject) {
        (Some(image), _) => Some(BmcChange::InsertMedia { image: image.clone(), slot: args.slot.clone() }),
        (None, true) => Some(BmcChange::EjectMedia { slot: args.slot.clone() }),
        (None, false) => None,
    };
    if let Some(change) = change {
        return change::run(
            globals,
            &args.targets,
            change,
            change::Asked { dry_run: args.dry.dry_run, ..change::Asked::default() },
        );
    }
    let mut rows = look::over(globals, &args.targets, |client| {
        Box::pin(async move { Ok(Said { slots: client.redfish("look at its virtual media")?.media().await? }) })
    })?;
    if let Some(wanted) = &args.slot {
        for said in rows.iter_mut().filter_map(|(_, r)| r.as_mut().ok()) {
            said.slots.retain(|s| s.id.eq_ignore_ascii_case(wanted));
        }
    }
    look::show(
        globals,
        rows,
        |_| vec!["SLOT", "TAKES", "INSERTED", "IMAGE"],
        |said, _| {
            let line = |slot: &Slot| {
                let takes = match (slot.takes, slot.kinds.is_empty()) {
                    (false, _) => "nothing".to_owned(),
                    (true, true) => "-".to_owned(),
                    (true, false) => slot.kinds.join(","),
                };
                vec![slot.id.clone(), takes, look::yes_no(Some(slot.inserted)), look::or_dash(&slot.image)]
            };
            said.slots.iter().map(line).collect()
        },
    )
}
