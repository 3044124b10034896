//! `bmc firmware`: versions, and updates.

use serde::Serialize;

use super::{change, look};
use crate::{
    bmc::firmware::Item,
    cli::{args::bmc::Firmware as Args, globals::Globals},
    model::bmc::BmcChange,
    output::{Exit, Stop},
};

#[derive(Serialize)]
struct Said {
    firmware: Vec<Item>,
}

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    if let Some(image) = &args.update {
        let change = BmcChange::UpdateFirmware { image: image.clone(), target: args.item.clone() };
        return change::run(
            globals,
            &args.targets,
            change,
            change::Asked { dry_run: args.dry.dry_run, ..change::Asked::taking(args.taking) },
        );
    }
    let rows = look::over(globals, &args.targets, |client| {
        Box::pin(async move { Ok(Said { firmware: client.redfish("read its firmware inventory")?.firmware().await? }) })
    })?;
    look::show(
        globals,
        rows,
        |wide| {
            if wide {
                vec!["ID", "FIRMWARE", "VERSION", "UPDATEABLE", "MAKER"]
            } else {
                vec!["ID", "FIRMWARE", "VERSION", "UPDATEABLE"]
            }
        },
        |said, wide| {
            let line = |item: &Item| {
                let mut line = vec![
                    item.id.clone(),
                    item.name.clone(),
                    look::or_dash(&item.version),
                    look::yes_no(item.updateable),
                ];
                line.extend(wide.then(|| look::or_dash(&item.manufacturer)));
                line
            };
            said.firmware.iter().map(line).collect()
        },
    )
}
