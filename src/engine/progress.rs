//! Where each track stands, for every view.

use serde::Serialize;

use super::{Engine, Phase};

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
}

pub fn view(engine: &Engine) -> Vec<TrackView> {
    engine
        .tracks()
        .iter()
        .map(|(subject, ids)| {
            let states: Vec<_> = ids.iter().filter_map(|id| engine.step(id)).collect();
            let done = states.iter().filter(|s| s.phase == Phase::Done).count();
            let current = states.iter().find(|s| s.phase != Phase::Done);
            let waiting = current.map(|s| match &s.phase {
                Phase::Waiting => match s.step.awaits.iter().find(|a| !engine.is_done(a)) {
                    Some(other) => format!("waits for {other}"),
                    None => "waits for its turn".to_owned(),
                },
                Phase::Observing => "looking whether it is done already".to_owned(),
                Phase::Acting => "doing it".to_owned(),
                Phase::Verifying => format!("waits until it holds (at most {} s)", s.step.kind.deadline_s()),
                Phase::Failed { failure } => failure.to_string(),
                Phase::Skipped { because } => format!("skipped because of {because}"),
                Phase::Done => String::new(),
            });
            TrackView {
                subject: subject.to_string(),
                done,
                total: states.len(),
                step: current.map(|s| s.step.kind.word().to_owned()),
                waiting,
                failed: states.iter().any(|s| matches!(s.phase, Phase::Failed { .. } | Phase::Skipped { .. })),
            }
        })
        .collect()
}
