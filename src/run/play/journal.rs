//! Marks of a playbook's steps ↔ records of its journal.

use serde_json::json;

use crate::{
    engine::play::{Mark, MarkKind},
    store::{Draft, Record, RecordKind},
};

/// Subject of every record of a playbook's steps.
pub const SUBJECT: &str = "playbook";

/// What is appended for a mark. The kinds are those that views know; the mark itself stands in the body.
pub fn draft(mark: &Mark) -> Draft {
    let (kind, failure) = match &mark.kind {
        MarkKind::Intent => (RecordKind::Intent, None),
        MarkKind::Done { .. } | MarkKind::Skipped { .. } => (RecordKind::Done, None),
        MarkKind::Again { failure, .. } => (RecordKind::Result, Some(failure)),
        MarkKind::Failed { failure } => (RecordKind::Failed, Some(failure)),
        MarkKind::Parked { failure } => (RecordKind::Waited, Some(failure)),
    };
    let outcome = match &mark.kind {
        MarkKind::Skipped { why } => Some(format!("passed over: {why}")),
        MarkKind::Done { note } => note.as_ref().and_then(|n| n.lines().last()).map(str::to_owned),
        _ => None,
    };
    let mut body = json!({ "mark": mark });
    if let Some(failure) = failure {
        body["failure"] = json!(failure);
    }
    if let Some(outcome) = outcome {
        body["outcome"] = json!(outcome);
    }
    Draft { subject: SUBJECT.to_owned(), step: mark.step.clone(), attempt: mark.attempt, kind, body }
}

/// Those of a run's journal, in order.
pub fn marks(records: &[Record]) -> Vec<Mark> {
    let ours = records.iter().filter(|r| r.subject == SUBJECT);
    ours.filter_map(|r| serde_json::from_value(r.body.get("mark")?.clone()).ok()).collect()
}
