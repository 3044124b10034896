//! Where each track stands, for every view.

use serde::Serialize;

use super::{Engine, HALT, Now, Phase};
use crate::plan::StepKind;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackView {
    pub subject: String,
    pub done: usize,
    pub total: usize,
    /// The step in hand, or the one that failed; absent at the end.
    pub step: Option<String>,
    /// What is waited for, in words.
    pub waiting: Option<String>,
    pub failed: bool,
    /// It takes longer than its rollout allows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stuck: bool,
}

/// The tracks that have changed since the last call.
pub fn view(engine: &mut Engine, now: Now) -> Vec<TrackView> {
    let changed = std::mem::take(&mut engine.changed);
    changed.into_iter().map(|track| one(engine, now, track)).collect()
}

fn one(engine: &Engine, now: Now, number: usize) -> TrackView {
    let track = &engine.tracks[number];
    let states = &engine.steps[track.first..track.end];
    let done = states.iter().filter(|s| s.phase == Phase::Done).count();
    let current = states.iter().find(|s| !s.phase.ended()).or(states.iter().find(|s| s.phase != Phase::Done));
    let waiting = current.map(|s| match &s.phase {
        Phase::Waiting => match (&s.held, s.step.awaits.iter().find(|a| !engine.is_done(a))) {
            (Some((failure, _)), _) => format!("held: {}", failure.why),
            (None, Some(other)) => format!("waits for {other}"),
            (None, None) => engine
                .admission
                .why(now.mono_ms, now.unix_ms, number)
                .unwrap_or_else(|| "waits for its turn".to_owned()),
        },
        Phase::Observing => "looking whether it is done already".to_owned(),
        Phase::Acting => "doing it".to_owned(),
        Phase::Verifying => format!("waits until it holds (at most {} s)", s.step.kind.deadline_s()),
        Phase::Failed { failure } => failure.to_string(),
        Phase::Skipped { because } if because == HALT => "not begun: the run was halted".to_owned(),
        Phase::Skipped { because } => format!("skipped because of {because}"),
        Phase::Done => String::new(),
    });
    TrackView {
        subject: track.subject.to_string(),
        done,
        total: states.len(),
        step: current.map(|s| match &s.step.kind {
            // A machine has several of a kind.
            kind @ StepKind::Baseline(_) => kind.name(),
            kind => kind.word().to_owned(),
        }),
        waiting,
        failed: states.iter().any(|s| matches!(s.phase, Phase::Failed { .. } | Phase::Skipped { .. })),
        stuck: track.late && !track.over,
    }
}
