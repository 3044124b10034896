//! Where steps and tracks stand.

use serde::{Deserialize, Serialize};

use crate::{
    model::Failure,
    plan::{Step, StepId, Subject},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase")]
pub enum Phase {
    Waiting,
    Observing,
    Acting,
    Verifying,
    Done,
    Failed {
        failure: Failure,
    },
    /// Will not be done: an earlier step failed, or one that it awaits.
    Skipped {
        because: StepId,
    },
}

impl Phase {
    pub(super) fn in_hand(&self) -> bool {
        matches!(self, Phase::Observing | Phase::Acting | Phase::Verifying)
    }
    pub(super) fn ended(&self) -> bool {
        matches!(self, Phase::Done | Phase::Failed { .. } | Phase::Skipped { .. })
    }
}

#[derive(Clone, Debug)]
pub struct StepState {
    pub step: Step,
    pub phase: Phase,
    pub attempt: u32,
    /// Attempts that failed before this process resumed the run: the policy does not count them.
    pub base: u32,
    /// An intent without a result stands in the journal.
    pub(super) resumed: bool,
    pub since_ms: u64,
    /// A retry or a guard waits until then.
    pub(super) not_before_ms: u64,
    /// What a guard said last, and since when it holds the step back.
    pub held: Option<(Failure, u64)>,
    pub(super) track: usize,
    /// A request of this attempt was let go.
    pub(super) went: bool,
    /// Why its request was not let go: the driver is on its way home.
    pub(super) withheld: Option<Failure>,
    /// Since when it is kept from going, round after round.
    pub(super) withheld_ms: Option<u64>,
}

#[derive(Debug)]
pub(super) struct TrackState {
    pub(super) subject: Subject,
    /// First and last + 1 of its steps.
    pub(super) first: usize,
    pub(super) end: usize,
    /// The first step that is not done.
    pub(super) cursor: usize,
    /// Let in by admission; cluster tracks always are.
    pub(super) admitted: bool,
    /// Something was done or tried for it.
    pub(super) begun: bool,
    pub(super) over: bool,
    pub(super) since_ms: Option<u64>,
    pub(super) late: bool,
}

/// Why nothing new begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Interrupt,
    Pause,
    Abort,
}
