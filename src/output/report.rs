//! How a run ended: members, times per node and stage, failures, and what to type next.

use serde_json::{Value, json};

use super::{Table, timeline::Timeline};
use crate::{engine::Outcome, model::Failure};

pub struct Report<'a> {
    pub run: &'a str,
    pub outcome: Outcome,
    pub timeline: &'a Timeline,
    pub failures: &'a [(String, Failure)],
    /// Cluster, member, id, role, healthy, version.
    pub members: &'a [[String; 6]],
    pub head: &'a str,
}

pub fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Partly => "partly",
        Outcome::Failed => "failed",
        Outcome::NeedsPerson => "needs a person",
        Outcome::Interrupted => "interrupted",
        Outcome::Paused => "paused",
        Outcome::Aborted => "aborted",
        Outcome::Halted => "halted",
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:01} s", ms / 1_000, ms % 1_000 / 100)
}

pub fn members(report: &Report<'_>) -> Option<Table> {
    if report.members.is_empty() {
        return None;
    }
    let mut table = Table::new(["CLUSTER", "MEMBER", "ID", "ROLE", "HEALTHY", "VERSION"]);
    for row in report.members {
        table.row(row.iter().map(String::as_str));
    }
    Some(table)
}

/// Transfers, writing and reading back stand below their step: they are the machine's and the network's time.
pub fn times(report: &Report<'_>) -> Table {
    let mut table = Table::new(["SUBJECT", "STAGE", "MACHINE", "RACKCTL"]);
    for stage in &report.timeline.stages {
        let ours = format!("{} ms", stage.ours_ms);
        table.row([stage.subject.clone(), stage.stage.clone(), seconds(stage.machine_ms), ours]);
        for (part, ms) in &stage.parts {
            table.row([String::new(), format!("  {part}"), format!("  {}", seconds(*ms)), String::new()]);
        }
    }
    table
}

pub fn summary(report: &Report<'_>) -> String {
    format!(
        "run {} {}: {} from the first power-on to the last step; machines waited for rackctl {} ms in all ({:.1} %)\njournal head {}",
        report.run,
        outcome_word(report.outcome),
        seconds(report.timeline.total_ms),
        report.timeline.ours_ms,
        report.timeline.ours_percent,
        report.head,
    )
}

pub fn value(report: &Report<'_>) -> Value {
    json!({
        "apiVersion": "rackctl.dev/v1alpha1",
        "kind": "Run",
        "metadata": { "name": report.run },
        "spec": {},
        "status": {
            "outcome": outcome_word(report.outcome),
            "timeline": report.timeline,
            "failures": report.failures.iter().map(|(step, failure)| json!({ "step": step, "failure": failure })).collect::<Vec<_>>(),
            "members": report.members.iter().map(|m| json!({ "cluster": m[0], "name": m[1], "id": m[2], "role": m[3], "healthy": m[4] == "yes", "version": m[5] })).collect::<Vec<_>>(),
            "journalHead": report.head,
        },
    })
}
