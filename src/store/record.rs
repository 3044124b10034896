//! Runs and their journal: what is kept of each.

use serde::{Deserialize, Serialize};

use super::Holder;
use crate::model::goal::Goal;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunState {
    /// Under way, or its process died: the locks tell which.
    Running,
    Succeeded,
    Failed,
    /// Stopped by the operator; can be resumed.
    Interrupted,
    /// Every step in hand was finished, and the next ones wait for `resume`.
    Paused,
    /// Stopped by itself: too much failed.
    Halted,
    /// Given up by the operator, its finalizers run: not resumed.
    Aborted,
}

impl RunState {
    /// Not at its end: it can be resumed.
    pub fn is_open(self) -> bool {
        matches!(self, RunState::Running | RunState::Interrupted | RunState::Paused | RunState::Halted)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    pub id: String,
    pub started_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    pub state: RunState,
    pub goal: Goal,
    pub plan_hash: String,
    /// Fleet and plan as they were when the run was started (JSON): resume never reads the inventory again.
    pub fleet: serde_json::Value,
    pub plan: serde_json::Value,
    pub actor: Holder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordKind {
    RunStarted,
    RunResumed,
    /// What a step found before doing anything.
    Observed,
    /// An effect is about to begin.
    Intent,
    /// What the effect's driver answered.
    Result,
    /// The step holds, verified by observation.
    Done,
    Failed,
    /// A fact that an effect depends on: a claim, a disk report, a ticket.
    Fact,
    Finalized,
    RunEnded,
    // Since schema 2:
    RunPaused,
    RunHalted,
    RunAborted,
    /// Somebody approved the run's plan.
    Approved,
    /// A lock changed hands by order: `{lock, from, fromRun, fromFence, to, toFence, reason, force}`.
    LockStolen,
    /// The store was filled from an export.
    Imported,
    /// The store was made anew from what machines say.
    Rebuilt,
    /// A wait and its reason.
    Waited,
}

/// What the caller says; the store adds run, sequence, time, fence, actor and hashes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draft {
    pub subject: String,
    pub step: String,
    pub attempt: u32,
    pub kind: RecordKind,
    pub body: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub schema: u32,
    pub run: String,
    pub seq: u64,
    pub at_ms: u64,
    pub subject: String,
    pub step: String,
    pub attempt: u32,
    pub kind: RecordKind,
    pub fence: u64,
    pub actor: String,
    pub body: serde_json::Value,
    /// Hash of the record before in this store; empty for the first.
    pub previous: String,
    pub hash: String,
}
