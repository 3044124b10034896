//! `plan --requests`: every request that the plan would send to a BMC, with its body, as the BMC needs it.

use std::fmt::Write;

use super::session::Session;
use crate::{
    bmc,
    model::{
        Failure,
        power::{BootOverride, OverrideFor, PowerAction, PowerState},
    },
    plan::{Plan, StepKind, Subject},
};

pub async fn text(session: &Session, plan: &Plan, passwords: &bmc::Passwords) -> Result<String, Failure> {
    let mut out = String::from("\nRequests (log-in and log-out around each group; GETs are not shown):\n");
    for track in &plan.tracks {
        let Subject::Node(name) = &track.subject else { continue };
        if track.steps.is_empty() {
            continue;
        }
        let client = session.bmc(session.node(name)?, passwords, std::time::Duration::from_secs(30)).await?;
        let view = client.system_view().await;
        let power = client.power().await;
        let endpoint = client.endpoint().to_owned();
        let _ = client.close().await;
        let (view, power) = (view?, power?);
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
            let _ = writeln!(out, "  {} at {endpoint}", step.id);
            for operation in operations {
                match bmc::client::requests_preview(&view, operation) {
                    Ok(requests) => {
                        for (number, request) in requests.iter().enumerate() {
                            let otherwise = if number > 0 { "   (only if the BMC refuses the one above)" } else { "" };
                            let _ =
                                writeln!(out, "    {} {} {}{otherwise}", request.method, request.path, request.body);
                        }
                    }
                    Err(failure) => {
                        let _ = writeln!(out, "    cannot be sent: {failure}");
                    }
                }
            }
        }
    }
    Ok(out)
}
