//! `bmc raid`: volumes and drives, made and deleted.

use serde::Serialize;

use super::{change, look};
use crate::{
    bmc::volumes::Controller,
    cli::{args::bmc::Raid as Args, globals::Globals},
    model::bmc::BmcChange,
    output::{Exit, Stop},
};

#[derive(Serialize)]
struct Said {
    controllers: Vec<Controller>,
}

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    let change = match (args.create, &args.delete) {
        (Some(level), _) => Some(BmcChange::CreateVolume {
            raid: level.word().to_owned(),
            drives: args.drives.clone(),
            name: args.volume_name.clone(),
        }),
        (None, Some(volume)) => Some(BmcChange::DeleteVolume { volume: volume.clone() }),
        (None, None) => None,
    };
    if let Some(change) = change {
        let asked = change::Asked {
            installed: args.installed,
            dry_run: args.dry.dry_run,
            ..change::Asked::taking(args.taking)
        };
        return change::run(globals, &args.targets, change, asked);
    }
    let rows = look::over(globals, &args.targets, |client| {
        Box::pin(async move { Ok(Said { controllers: client.redfish("read its volumes")?.volumes().await? }) })
    })?;
    look::show(
        globals,
        rows,
        |_| vec!["CONTROLLER", "KIND", "ID", "RAID", "SIZE", "HEALTH", "SERIAL", "PARTS"],
        |said, wide| said.controllers.iter().flat_map(|c| lines(c, wide)).collect(),
    )
}

fn lines(controller: &Controller, wide: bool) -> Vec<Vec<String>> {
    let dash = || "-".to_owned();
    let serial = |id: &str| {
        let part = controller.drives.iter().find(|d| d.id == id);
        part.and_then(|p| p.serial.clone()).unwrap_or_else(|| id.to_owned())
    };
    let mut lines: Vec<Vec<String>> = Vec::new();
    for volume in &controller.volumes {
        let parts: Vec<String> = match wide {
            true => volume.drives.iter().map(|id| serial(id)).collect(),
            false => volume.drives.clone(),
        };
        lines.push(vec![
            controller.id.clone(),
            "volume".into(),
            volume.id.clone(),
            look::or_dash(&volume.raid),
            look::size(volume.size_bytes),
            look::or_dash(&volume.health),
            dash(),
            parts.join(","),
        ]);
    }
    for drive in &controller.drives {
        lines.push(vec![
            controller.id.clone(),
            "drive".into(),
            drive.id.clone(),
            dash(),
            look::size(drive.size_bytes),
            dash(),
            look::or_dash(&drive.serial),
            dash(),
        ]);
    }
    lines
}
