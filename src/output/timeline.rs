//! Where the time of a run went: a fold over its journal. Pure.
//!
//! *Ours* is what a machine or a cluster waits for rackctl: from the moment at which all that a step
//! needed was durable to the moment at which its effect was begun. The rest of a step is the machine's own.

use std::collections::BTreeMap;

use serde::Serialize;

use rackctl_wire::Stage;

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
    /// Parts of the machine's time, as the installer accounts for them: transfers, writing, reading back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<(String, u64)>,
}

/// What the installer said of its stages: each ends where the next begins.
fn parts(records: &[Record], step: &str) -> Vec<(String, u64)> {
    let fact =
        records.iter().rev().find(|r| r.kind == RecordKind::Fact && r.step == step && r.body.get("stages").is_some());
    let stages: Vec<(Stage, u64)> = fact
        .and_then(|r| r.body.get("stages"))
        .and_then(|s| serde_json::from_value(s.clone()).ok())
        .unwrap_or_default();
    let wanted = |stage: Stage| match stage {
        Stage::Fetching => Some("transfer"),
        Stage::Writing => Some("write"),
        Stage::ReadBack => Some("read back"),
        Stage::BootSetup => Some("boot set-up"),
        _ => None,
    };
    stages
        .windows(2)
        .filter_map(|pair| Some((wanted(pair[0].0)?.to_owned(), pair[1].1.saturating_sub(pair[0].1))))
        .collect()
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
                stage: match step.kind.about() {
                    Some(member) => format!("{} {member}", step.kind.word()),
                    None => step.kind.word().to_owned(),
                },
                machine_ms: end.saturating_sub(begin),
                ours_ms: ours,
                parts: parts(records, &step.id),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::goal::{Goal, Scope},
        plan::{Step, Subject, Track},
    };

    fn record(step: &str, at_ms: u64, kind: RecordKind, body: serde_json::Value) -> Record {
        Record {
            schema: 1,
            run: "r".into(),
            seq: at_ms,
            at_ms,
            subject: "n1".into(),
            step: step.into(),
            attempt: 1,
            kind,
            fence: 1,
            actor: "a".into(),
            body,
            previous: String::new(),
            hash: String::new(),
        }
    }

    #[test]
    fn ours_is_what_lies_between_enabled_and_begun() {
        let step = |kind: StepKind, awaits: &[&str]| Step {
            id: format!("n1/{}", kind.word()),
            danger: kind.danger(),
            kind,
            why: String::new(),
            awaits: awaits.iter().map(|a| (*a).to_owned()).collect(),
        };
        let boot = StepKind::BootInstaller { target: crate::model::power::BootTarget::Pxe, mode: Default::default() };
        let write = StepKind::WriteDisk { system_sha256: "s".into(), generation: 1 };
        let plan = Plan {
            tracks: vec![Track {
                steps: vec![step(boot, &[]), step(StepKind::AwaitClaim, &[]), step(write, &[])],
                ..Track::new(Subject::Node("n1".into()))
            }],
            ..Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) })
        };
        use RecordKind::{Done, Fact, Intent, RunStarted};
        let none = serde_json::Value::Null;
        let stages =
            serde_json::json!({ "stages": [["ready", 5], ["fetching", 10], ["writing", 40], ["written", 90]] });
        let records = [
            record("run", 100, RunStarted, none.clone()),
            record("n1/boot-installer", 110, Intent, none.clone()),
            record("n1/boot-installer", 200, Done, none.clone()),
            record("n1/await-claim", 500, Done, none.clone()),
            record("n1/write-disk", 507, Intent, none.clone()),
            record("n1/write-disk", 900, Fact, stages),
            record("n1/write-disk", 1_110, Done, none),
        ];
        let seen = timeline(&plan, &records);
        assert_eq!(seen.total_ms, 1_000, "from the power-on to the last step");
        assert_eq!(
            seen.stages.iter().map(|s| (s.ours_ms, s.machine_ms)).collect::<Vec<_>>(),
            [(10, 90), (0, 300), (7, 603)]
        );
        assert_eq!(seen.ours_ms, 17);
        assert_eq!(seen.stages[2].parts, [("transfer".to_owned(), 30), ("write".to_owned(), 50)]);
    }
}
