//! `plan --requests`: every request that the plan would send to a BMC, with its body, as the BMC needs it.

use std::fmt::Write;

use super::session::Session;
use crate::{
    bmc,
    model::{
        Failure,
        power::{BootOverride, OverrideFor, PowerAction, PowerState},
    },
    plan::{Plan, StepKind, Subject, Track},
};

pub async fn text(session: &Session, plan: &Plan, passwords: &bmc::Passwords) -> Result<String, Failure> {
    let mut out = String::from("\nRequests (log-in and log-out around each group; GETs are not shown):\n");
    for track in &plan.tracks {
        let Subject::Node(name) = &track.subject else { continue };
        if track.steps.is_empty() {
            continue;
        }
        let client = session.bmc(session.node(name)?, passwords, std::time::Duration::from_secs(30)).await?;
        let lines = of_track(&client, track).await;
        let endpoint = client.endpoint().to_owned();
        let _ = client.close().await;
        for (step, requests) in lines? {
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
            StepKind::PowerOn => vec![bmc::client::Operation::Reset(PowerAction::On)],
            _ => continue,
        };
        all.push((step.id.to_string(), client.preview(&operations).await?));
    }
    Ok(all)
}
