//! Says where the installer stands, and brings back what is to be done.

use super::claim::{self, Session};
use crate::api::CallError;
use crate::clock;
use crate::console::say;
use crate::progress::Progress;
use rackctl_wire::{API_PATIENCE_S, Directive, REPORT_INTERVAL_MS};
use std::time::Duration;
use tokio::sync::watch;

/// A little less than what was promised, so that a slow request does not break it.
const INTERVAL: Duration = Duration::from_millis(REPORT_INTERVAL_MS * 8 / 10);

pub async fn run(mut session: Session, progress: Progress, orders: watch::Sender<Option<Directive>>) {
    let mut away_since: Option<u64> = None;
    loop {
        let report = progress.report();
        match session.api.report(&session.token, &report).await {
            Ok(directive) => {
                progress.answered(report.stage);
                if away_since.take().is_some() {
                    say("the API answers again");
                }
                orders.send_if_modified(|last| {
                    let new = last.as_ref() != Some(&directive);
                    *last = Some(directive);
                    new
                });
            }
            Err(error) if error.session_is_gone() => {
                say("the API does not know the session: claiming again");
                match claim::patiently(&session.api, &session.claim).await {
                    Ok(answer) => session.token = answer.session,
                    Err(error) => return say(format!("no more reports: {error}")),
                }
            }
            Err(refused @ CallError::Refused { .. }) => {
                if away_since.is_none() {
                    say(format!("the API refuses the report: {}", refused.text()));
                }
                if too_long(&mut away_since) {
                    return say(format!("the API has refused for {API_PATIENCE_S} s: no more reports"));
                }
            }
            Err(CallError::Away(text)) => {
                if away_since.is_none() {
                    say(format!("the API is away: {text}"));
                }
                if too_long(&mut away_since) {
                    return say(format!("the API has been away for {API_PATIENCE_S} s: no more reports"));
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = progress.changed() => {}
        }
    }
}

fn too_long(away_since: &mut Option<u64>) -> bool {
    let now = clock::uptime_ms();
    now.saturating_sub(*away_since.get_or_insert(now)) > API_PATIENCE_S * 1_000
}
