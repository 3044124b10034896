//! What views show of runs and of the journal, kept small: runs without their fleets and plans, and of each subject
//! the last thing that happened and when each of its steps was last done. Pure; back ends keep it as they can.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Holder, Record, RecordKind, RunRecord, RunState};
use crate::model::goal::Goal;

/// A run without its fleet and its plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunHead {
    pub id: String,
    pub started_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    pub state: RunState,
    pub goal: Goal,
    pub plan_hash: String,
    pub actor: Holder,
}

impl From<&RunRecord> for RunHead {
    fn from(run: &RunRecord) -> Self {
        RunHead {
            id: run.id.clone(),
            started_ms: run.started_ms,
            ended_ms: run.ended_ms,
            state: run.state,
            goal: run.goal.clone(),
            plan_hash: run.plan_hash.clone(),
            actor: run.actor.clone(),
        }
    }
}

/// Newest first.
pub fn newest_first(heads: &mut [RunHead]) {
    heads.sort_by(|a, b| (b.started_ms, &b.id).cmp(&(a.started_ms, &a.id)));
}

/// How the journal leaves one subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Its last intent, completion or failure.
    pub last: Option<Last>,
    /// When each step was last done, by the word behind the subject: `power-on`, `verify-member-n1`.
    pub done: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Last {
    pub run: String,
    pub kind: RecordKind,
    pub at_ms: u64,
    /// What a failure's record says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<serde_json::Value>,
}

/// By subject as steps name it: `n1`, `cluster/core`. A node and a cluster of one name are two subjects.
pub type Standings = BTreeMap<String, Standing>;

/// Takes records in, oldest first; the subjects that they change are named in `changed`.
pub fn fold<'a>(standings: &mut Standings, records: impl IntoIterator<Item = &'a Record>) -> Vec<String> {
    let mut changed = std::collections::BTreeSet::new();
    for record in records {
        if !matches!(record.kind, RecordKind::Intent | RecordKind::Done | RecordKind::Failed) {
            continue;
        }
        let (subject, word) = record.step.rsplit_once('/').unwrap_or((&record.subject, &record.step));
        let standing = standings.entry(subject.to_owned()).or_default();
        let failed = record.kind == RecordKind::Failed;
        standing.last = Some(Last {
            run: record.run.clone(),
            kind: record.kind,
            at_ms: record.at_ms,
            failure: record.body.get("failure").filter(|_| failed).cloned(),
        });
        if record.kind == RecordKind::Done {
            standing.done.insert(word.to_owned(), record.at_ms);
        }
        changed.insert(subject.to_owned());
    }
    changed.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, subject: &str, step: &str, kind: RecordKind) -> Record {
        Record {
            schema: super::super::SCHEMA_VERSION,
            run: "r".into(),
            seq,
            at_ms: seq * 10,
            subject: subject.into(),
            step: step.into(),
            attempt: 1,
            kind,
            fence: 1,
            actor: String::new(),
            body: serde_json::json!({ "failure": "x" }),
            previous: String::new(),
            hash: String::new(),
        }
    }

    #[test]
    fn the_last_thing_counts_and_a_cluster_is_no_node_of_its_name() {
        use RecordKind::{Done, Failed, Intent, Observed};
        let mut standings = Standings::new();
        let records = [
            record(1, "core", "core/power-on", Done),
            record(2, "core", "cluster/core/verify-member-n1", Done),
            record(3, "core", "core/power-on", Intent),
            record(4, "core", "core/power-on", Failed),
            record(5, "core", "core/power-on", Observed),
        ];
        assert_eq!(fold(&mut standings, &records), ["cluster/core", "core"]);
        let last = standings["core"].last.clone().unwrap();
        assert_eq!((last.kind, last.at_ms, last.failure), (Failed, 40, Some("x".into())));
        assert_eq!(standings["core"].done, BTreeMap::from([("power-on".into(), 10)]));
        assert_eq!(standings["cluster/core"].done, BTreeMap::from([("verify-member-n1".into(), 20)]));
        assert_eq!(fold(&mut standings, &[record(6, "core", "core/power-on", Done)]), ["core"]);
        let standing = &standings["core"];
        assert_eq!((standing.done["power-on"], standing.last.clone().and_then(|l| l.failure)), (60, None));
    }
}
