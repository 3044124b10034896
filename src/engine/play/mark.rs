//! What a playbook's run leaves in the journal, and how its steps stand by it.

use serde::{Deserialize, Serialize};

use super::child_run;
use crate::model::{
    Failure,
    play::{Play as Bound, PlayStepId},
};

/// One durable word on one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    pub at_ms: u64,
    pub step: PlayStepId,
    pub attempt: u32,
    pub kind: MarkKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MarkKind {
    /// It is begun.
    Intent,
    Done {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The attempt before this one failed; this one is not begun earlier.
    Again {
        failure: Failure,
        not_before_ms: u64,
    },
    Failed {
        failure: Failure,
    },
    /// Passed over: what its `when` said.
    Skipped {
        why: String,
    },
    /// The process ended with the step in hand, for somebody has to say something.
    Parked {
        failure: Failure,
    },
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    Waiting,
    InHand,
    Parked,
    /// Between two attempts.
    Delayed,
    Done,
    PassedOver,
    Failed,
}

impl Standing {
    pub const fn word(self) -> &'static str {
        match self {
            Standing::Waiting => "waiting",
            Standing::InHand => "in hand",
            Standing::Parked => "parked",
            Standing::Delayed => "again soon",
            Standing::Done => "done",
            Standing::PassedOver => "passed over",
            Standing::Failed => "failed",
        }
    }
}

/// A step for a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub step: PlayStepId,
    pub title: String,
    pub standing: Standing,
    pub attempt: u32,
    /// The run that it made, if it makes one and was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Why it failed, waits or was passed over; what is kept of it when it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// From its first beginning to its end; `None`: not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

/// A fold over the journal: every step, in order; those of an `onFailure` only when they were come to.
pub fn rows(run: &str, bound: &Bound, marks: &[Mark]) -> Vec<Row> {
    let mut rows = Vec::new();
    for step in &bound.steps {
        rows.extend(row(run, bound, &step.id, marks));
        for rescue in &step.on_failure.steps {
            rows.extend(row(run, bound, &rescue.id, marks).filter(|r| r.standing != Standing::Waiting));
        }
    }
    rows
}

fn row(run: &str, bound: &Bound, id: &str, marks: &[Mark]) -> Option<Row> {
    let step = bound.step(id)?;
    let mut row = Row {
        step: id.to_owned(),
        title: step.title.clone(),
        standing: Standing::Waiting,
        attempt: 1,
        run: None,
        note: None,
        took_ms: None,
    };
    let mut began = None;
    for mark in marks.iter().filter(|m| m.step == id) {
        row.attempt = mark.attempt;
        let ended = |began: Option<u64>| Some(mark.at_ms.saturating_sub(began.unwrap_or(mark.at_ms)));
        match &mark.kind {
            MarkKind::Intent => {
                began = began.or(Some(mark.at_ms));
                row.standing = Standing::InHand;
                row.run = step.act.scope().map(|_| child_run(run, id, mark.attempt));
            }
            MarkKind::Done { note } => {
                (row.standing, row.note, row.took_ms) = (Standing::Done, note.clone(), ended(began));
            }
            MarkKind::Again { failure, .. } => {
                (row.standing, row.note) = (Standing::Delayed, Some(failure.to_string()));
            }
            MarkKind::Failed { failure } => {
                (row.standing, row.note, row.took_ms) = (Standing::Failed, Some(failure.to_string()), ended(began));
            }
            MarkKind::Skipped { why } => (row.standing, row.note) = (Standing::PassedOver, Some(why.clone())),
            MarkKind::Parked { failure } => (row.standing, row.note) = (Standing::Parked, Some(failure.to_string())),
        }
    }
    Some(row)
}
