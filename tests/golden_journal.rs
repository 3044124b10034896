//! The journal's first format, as it stands in files of users: it must be read for ever, and written
//! the same until the schema's number changes.

#![allow(clippy::unwrap_used)] // A file that is not there, or cannot be read, fails the test.

use rackctl::{
    run::past,
    store::{self, Draft, Fence, Holder, Record, RecordKind, SCHEMA_VERSION, SqliteStore, Store},
};
use serde_json::json;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/journal-v1.jsonl");

fn golden() -> Vec<Record> {
    let text = std::fs::read_to_string(GOLDEN).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A run that crashed while n1's disk was being written, in the kinds that a run writes.
fn drafts() -> Vec<Draft> {
    let draft = |subject: &str, step: &str, attempt, kind, body| Draft {
        subject: subject.into(),
        step: step.into(),
        attempt,
        kind,
        body,
    };
    let failure = json!({ "cause": "deadline", "what": "n1/await-claim: see it hold", "why": "420 s went by" });
    vec![
        draft("run", "run", 1, RecordKind::RunStarted, json!({ "plan": "ab12", "objects": [] })),
        draft("n1", "n1/check-identity", 1, RecordKind::Done, json!(null)),
        draft("n1", "n1/boot-installer", 1, RecordKind::Intent, json!({ "lastReset": "2026-01-02T03:04:05Z" })),
        draft("n1", "n1/boot-installer", 1, RecordKind::Done, json!(null)),
        draft("n1", "n1/await-claim", 2, RecordKind::Result, json!({ "failure": failure, "again": true })),
        draft("n1", "n1/boot-installer", 2, RecordKind::Intent, json!({ "lastReset": null })),
        draft("n1", "n1/boot-installer", 2, RecordKind::Done, json!(null)),
        draft("n1", "n1/await-claim", 2, RecordKind::Fact, json!({ "claim": { "node": "n1" } })),
        draft("n1", "n1/await-claim", 2, RecordKind::Done, json!(null)),
        draft("n1", "n1/check-disks", 1, RecordKind::Fact, json!({ "target": { "diskGuid": "x" } })),
        draft("n1", "n1/check-disks", 1, RecordKind::Done, json!(null)),
        draft("n1", "n1/write-disk", 1, RecordKind::Intent, json!(null)),
        draft("run", "run", 1, RecordKind::RunResumed, json!(null)),
        draft("n2", "n2/check-identity", 1, RecordKind::Failed, json!({ "failure": failure })),
        draft("n2", "n2", 1, RecordKind::Finalized, json!({ "failure": null })),
        draft("run", "run", 1, RecordKind::RunEnded, json!({ "outcome": "interrupted" })),
    ]
}

#[test]
fn the_first_format_is_read_and_its_chain_holds() {
    let records = golden();
    assert_eq!(records.len(), drafts().len());
    store::verify(&records).unwrap();
    let past = past(&records);
    assert!(past["n1/check-disks"].done);
    assert_eq!(past["n1/boot-installer"].attempt, 2);
    assert!(past["n1/write-disk"].intent_open && !past["n1/write-disk"].done);
}

#[test]
fn the_same_drafts_are_written_to_the_same_bytes() {
    assert_eq!(SCHEMA_VERSION, 1, "a new schema gets a golden journal of its own; this one stays");
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
    let held = store.lock(&["node/n1".into()], "r-1", &Holder::this(), 1).unwrap();
    let fence = Fence { actor: "op@host (pid 1)".into(), ..held };
    for (index, draft) in drafts().into_iter().enumerate() {
        store.append("r-1", 1_700_000_000_000 + index as u64, &fence, draft).unwrap();
    }
    let lines: Vec<String> = store.journal("r-1").unwrap().iter().map(|r| serde_json::to_string(r).unwrap()).collect();
    let written = lines.join("\n") + "\n";
    if std::env::var_os("RACKCTL_WRITE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &written).unwrap();
    }
    assert_eq!(written, std::fs::read_to_string(GOLDEN).unwrap());
}
