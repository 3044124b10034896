//! What reaches the engine, and what it asks for.

use std::collections::BTreeSet;

use crate::{
    model::Failure,
    plan::{StepId, Subject},
};

/// The two clocks: time since boot decides, wall time is for change windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono_ms: u64,
    pub unix_ms: u64,
}

impl From<u64> for Now {
    /// One virtual clock for both.
    fn from(ms: u64) -> Now {
        Now { mono_ms: ms, unix_ms: ms }
    }
}

/// What a look at the world says of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It holds already.
    Done,
    NotDone,
    /// Begun and still going on: wait for it, do not begin again.
    UnderWay,
    /// Cannot be told.
    Unknown(Failure),
    /// The world contradicts the plan.
    Contradiction(Failure),
    /// A guard says: not now (a cluster settles, an approval is missing). It is looked at again until the step's
    /// deadline.
    Held(Failure),
}

#[derive(Clone, Debug)]
pub enum Event {
    Begin,
    /// Asked for by [`Effect::Wake`].
    Tick,
    Observed {
        step: StepId,
        found: Found,
    },
    /// The driver's answer: not yet believed.
    Acted {
        step: StepId,
        result: Result<(), Failure>,
    },
    Verified {
        step: StepId,
        result: Result<(), Failure>,
    },
    /// The next request of this step takes its machine away: everything before it was done, and its answer is awaited
    /// by nobody but the driver, who waits for [`Effect::Go`] or [`Effect::Withhold`].
    Ready {
        step: StepId,
    },
    Finalized {
        subject: Subject,
        attempt: u32,
        result: Result<(), Failure>,
    },
    /// Nodes that are unavailable now, for any reason.
    Around {
        down: BTreeSet<String>,
    },
    /// ^C: effects in hand are finished, what only waits is parked, nothing new is begun.
    Interrupt,
    /// Steps in hand are finished, nothing new is begun.
    Pause,
    /// As an interrupt, and every node that was begun is left safe.
    Abort,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Observe {
        step: StepId,
        attempt: u32,
        resumed: bool,
    },
    /// The caller makes the intent durable first (invariant 4).
    Act {
        step: StepId,
        attempt: u32,
    },
    Verify {
        step: StepId,
        attempt: u32,
        deadline_s: u64,
    },
    /// What was asked for by [`Event::Ready`] may leave now.
    Go {
        step: StepId,
    },
    /// It may not: the driver ends its step without sending it.
    Withhold {
        step: StepId,
        failure: Failure,
    },
    /// Nothing of this attempt has left: its intent is void, which is to be made durable.
    NotSent {
        step: StepId,
        attempt: u32,
        failure: Failure,
    },
    /// The step holds: to be made durable.
    Complete {
        step: StepId,
        attempt: u32,
    },
    /// The step failed for good: to be made durable.
    Fail {
        step: StepId,
        attempt: u32,
        failure: Failure,
    },
    /// Another attempt of these steps is due.
    Again {
        step: StepId,
        attempt: u32,
        failure: Failure,
    },
    /// Network boot withdrawn, override cleared.
    Finalize {
        subject: Subject,
        attempt: u32,
    },
    /// Ask who is unavailable, and answer with [`Event::Around`].
    LookAround,
    /// Send [`Event::Tick`] then (the clock of `mono_ms`).
    Wake {
        at_ms: u64,
    },
    /// No new node begins: to be made durable and shown.
    Halt {
        why: Failure,
    },
    Finished,
}
