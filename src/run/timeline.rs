//! Where the time of a run went: a fold over its journal. Pure.
//!
//! *Ours* is what a machine or a cluster waits for rackctl: from the moment at which all that a step
//! needed was durable to the moment at which its effect was begun. The rest of a step is the machine's own.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    plan::{Plan, StepKind},
    store::{Record, RecordKind},
};

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageTime {
    pub subject: String,
    pub stage: String,
    /// From begun to verified: firmware, kernel, disk, etcd.
    pub machine_ms: u64,
    /// From enabled to begun.
    pub ours_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    pub stages: Vec<StageTime>,
    /// From the first power-on to the last promotion (or the last step that was done).
    pub total_ms: u64,
    pub ours_ms: u64,
    /// `ours` as a share of `total`, in percent.
    pub ours_percent: f64,
}

pub fn timeline(plan: &Plan, records: &[Record]) -> Timeline {
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    let mut begun: BTreeMap<&str, u64> = BTreeMap::new();
    for record in records {
        match record.kind {
            RecordKind::Done => {
                done.insert(&record.step, record.at_ms);
            }
            RecordKind::Intent => {
                begun.entry(&record.step).or_insert(record.at_ms);
            }
            _ => {}
        }
    }
    let started = records.iter().find(|r| r.kind == RecordKind::RunStarted).map_or(0, |r| r.at_ms);
    let mut timeline = Timeline::default();
    let (mut first, mut last) = (u64::MAX, 0);
    for track in &plan.tracks {
        let mut before = started;
        for step in &track.steps {
            let Some(end) = done.get(step.id.as_str()).copied() else { break };
            let enabled = step.awaits.iter().filter_map(|a| done.get(a.as_str()).copied()).fold(before, u64::max);
            let begin = begun.get(step.id.as_str()).copied().unwrap_or(enabled).max(enabled);
            // A look that changes nothing has no effect to begin: all of it is the machine's time.
            let ours = if begun.contains_key(step.id.as_str()) { begin - enabled } else { 0 };
            if matches!(step.kind, StepKind::BootInstaller { .. } | StepKind::PowerOn) {
                first = first.min(begin);
            }
            last = last.max(end);
            timeline.stages.push(StageTime {
                subject: track.subject.to_string(),
                stage: match step.kind.member() {
                    Some(member) => format!("{} {member}", step.kind.word()),
                    None => step.kind.word().to_owned(),
                },
                machine_ms: end.saturating_sub(begin),
                ours_ms: ours,
            });
            before = end;
        }
    }
    timeline.total_ms = last.saturating_sub(if first == u64::MAX { started } else { first });
    timeline.ours_ms = timeline.stages.iter().map(|s| s.ours_ms).sum();
    if timeline.total_ms > 0 {
        timeline.ours_percent = timeline.ours_ms as f64 * 100.0 / timeline.total_ms as f64;
    }
    timeline
}
