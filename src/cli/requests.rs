//! `plan --requests`: every request that the plan would send to a BMC, with its body, as the BMC needs it.

use std::{fmt::Write, time::Duration};

use super::{interrupt, session::Session};
use crate::{
    bmc,
    model::{
        Failure,
        baseline::{BaselinePart, FirmwareItem, ImageAt, component},
        power::{BootOverride, OverrideFor, PowerAction, PowerState},
    },
    plan::{Plan, StepKind, Subject, Track},
};

const LOOK: Duration = Duration::from_secs(30);

pub async fn text(session: &Session, plan: &Plan, passwords: &bmc::Passwords) -> Result<String, Failure> {
    let ear = interrupt::looks()?;
    let stopped = ear.told();
    let mut out = String::from("\nRequests (log-in and log-out around each group; GETs are not shown):\n");
    for track in &plan.tracks {
        let Subject::Node(name) = &track.subject else { continue };
        if track.steps.is_empty() {
            continue;
        }
        let node = session.node(name)?;
        let (endpoint, lines) = session
            .look(node, passwords, LOOK, &stopped, async |client: &bmc::Client| {
                Ok((client.endpoint().to_owned(), of_track(client, track).await?))
            })
            .await?;
        for (step, requests) in lines {
            let _ = writeln!(out, "  {step} at {endpoint}");
            for request in requests {
                match request {
                    Ok(lines) => {
                        for (number, line) in lines.iter().enumerate() {
                            let otherwise = if number > 0 { "   (only if the BMC refuses the one above)" } else { "" };
                            let _ = writeln!(out, "    {line}{otherwise}");
                        }
                    }
                    Err(why) => {
                        let _ = writeln!(out, "    cannot be sent: {why}");
                    }
                }
            }
        }
    }
    Ok(out)
}

type Requests = Vec<Result<Vec<String>, String>>;

/// Each step that sends something, with what it sends.
async fn of_track(client: &bmc::Client, track: &Track) -> Result<Vec<(String, Requests)>, Failure> {
    let power = client.power().await?;
    let mut all = Vec::new();
    for step in &track.steps {
        let operations = match &step.kind {
            StepKind::BootInstaller { target, mode } => {
                let wanted = BootOverride { target: *target, lasts: OverrideFor::Once, mode: Some(*mode) };
                let mut all = Vec::new();
                if power != PowerState::Off {
                    all.push(bmc::client::Operation::Reset(PowerAction::ForceOff));
                }
                all.push(bmc::client::Operation::SetBoot(wanted));
                all.push(bmc::client::Operation::Reset(PowerAction::On));
                all
            }
            StepKind::WithdrawNetboot => vec![bmc::client::Operation::SetBoot(BootOverride::CLEARED)],
            StepKind::Baseline(part) => {
                let sent = of_part(client, part, power).await?;
                if !sent.is_empty() {
                    all.push((step.id.to_string(), sent));
                }
                continue;
            }
            StepKind::PowerOn => vec![bmc::client::Operation::Reset(PowerAction::On)],
            _ => continue,
        };
        all.push((step.id.to_string(), client.preview(&operations).await?));
    }
    Ok(all)
}

/// What a part of a baseline sends. A restart is left out where everything is in force by then.
async fn of_part(client: &bmc::Client, part: &BaselinePart, power: PowerState) -> Result<Requests, Failure> {
    let line = |method: &str, (path, body): (String, serde_json::Value)| vec![format!("{method} {path} {body}")];
    let redfish = client.redfish(part.word())?;
    Ok(match part {
        BaselinePart::Firmware { component: name, image, .. } => {
            let items = redfish.firmware().await?;
            let seen: Vec<FirmwareItem> = items.iter().map(crate::run::firmware_item).collect();
            let image = match image {
                ImageAt::Url(url) => bmc::client::Image::Address(url.clone()),
                ImageAt::File { path, .. } => bmc::client::Image::File(path.clone()),
            };
            match component(&seen, name) {
                Ok(item) => {
                    vec![redfish.preview_update(&image, Some(&item.id)).await.map(|l| vec![l]).map_err(|f| f.why)]
                }
                Err(why) => vec![Err(why)],
            }
        }
        BaselinePart::Volume { name, raid, drives } => {
            let wish = bmc::volumes::Wish { raid: raid.clone(), drives: drives.clone(), name: Some(name.clone()) };
            vec![bmc::volumes::create(&redfish.volumes().await?, &wish).map(|request| line("POST", request))]
        }
        BaselinePart::Bios { attributes } => {
            let bios = redfish.bios().await?;
            vec![bios.typed(attributes).map(|typed| line("PATCH", bios.ways.patch(&typed)))]
        }
        BaselinePart::Restart { .. } => {
            let mut operations = Vec::new();
            if power != PowerState::Off {
                operations.push(bmc::client::Operation::Reset(PowerAction::GracefulShutdown));
            }
            operations.push(bmc::client::Operation::Reset(PowerAction::On));
            client.preview(&operations).await?
        }
        BaselinePart::AwaitService { .. } => Vec::new(),
    })
}
