//! The journal's formats, as they stand in files of users: each must be read for ever, and the newest written the
//! same until the schema's number changes.

#![allow(clippy::unwrap_used)] // A file that is not there, or cannot be read, fails the test.

use rackctl::{
    run::past,
    store::{self, Draft, Fence, Holder, LEASE, Record, RecordKind, SCHEMA_VERSION, SqliteStore, Store},
};
use serde_json::json;

const FIRST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/journal-v1.jsonl");
const NEWEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/journal-v2.jsonl");

fn golden(path: &str) -> Vec<Record> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn draft(subject: &str, step: &str, attempt: u32, kind: RecordKind, body: serde_json::Value) -> Draft {
    Draft { subject: subject.into(), step: step.into(), attempt, kind, body }
}

/// A run that crashed while n1's disk was being written, in the kinds that the first format knew.
fn first_drafts() -> Vec<Draft> {
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

/// What the second format adds: approvals, waits, locks that changed hands, and runs that stop in other ways.
fn newest_drafts() -> Vec<Draft> {
    let stolen = json!({
        "lock": "node/n1", "from": "ann@east (pid 7)", "fromRun": "r-1", "fromFence": 3,
        "to": "bob@west (pid 9)", "toFence": 4, "reason": "her laptop is at home", "force": true
    });
    let mut drafts = first_drafts();
    drafts.extend([
        draft("run", "run", 1, RecordKind::Approved, json!({ "plan": "ab12", "approver": "bob@west (pid 9)" })),
        draft("n2", "n2/await-system", 1, RecordKind::Waited, json!({ "for": "the change window", "until": 1 })),
        draft("n2", "n2/await-system", 1, RecordKind::Observed, json!({ "found": "underWay", "load": 0.1 })),
        draft("run", "run", 1, RecordKind::RunPaused, json!({ "by": "bob@west (pid 9)" })),
        draft("node/n1", "lock", 1, RecordKind::LockStolen, stolen),
        draft("run", "run", 1, RecordKind::RunHalted, json!({ "failed": 2 })),
        draft("run", "run", 1, RecordKind::RunAborted, json!({ "by": "bob@west (pid 9)" })),
        draft("store", "import", 1, RecordKind::Imported, json!({ "records": 16 })),
        draft("store", "rebuild", 1, RecordKind::Rebuilt, json!({ "nodes": { "n1": "installed" } })),
    ]);
    drafts
}

// fault: F60 invariant: I13 harness: D
#[test]
fn the_first_format_is_read_and_its_chain_holds() {
    let records = golden(FIRST);
    assert_eq!(records.len(), first_drafts().len());
    assert!(records.iter().all(|r| r.schema == 1));
    store::verify(&records).unwrap();
    let past = past(&records);
    assert!(past["n1/check-disks"].done);
    assert_eq!(past["n1/boot-installer"].attempt, 2);
    assert!(past["n1/write-disk"].intent_open && !past["n1/write-disk"].done);
}

#[test]
fn records_read_back_to_the_bytes_that_were_written() {
    for path in [FIRST, NEWEST] {
        let text: String = golden(path).iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect();
        assert_eq!(text, std::fs::read_to_string(path).unwrap(), "{path}");
    }
}

#[test]
fn the_same_drafts_are_written_to_the_same_bytes() {
    assert_eq!(SCHEMA_VERSION, 2, "a new schema gets a golden journal of its own; these stay");
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
    let held = store.lock(&["node/n1".into()], "r-1", &Holder::this(), &store::clock::stamp(), LEASE).unwrap();
    let fence = Fence { actor: "op@host (pid 1)".into(), ..held };
    for (index, draft) in newest_drafts().into_iter().enumerate() {
        store.append("r-1", 1_700_000_000_000 + index as u64, &fence, draft).unwrap();
    }
    let lines: Vec<String> = store.journal("r-1").unwrap().iter().map(|r| serde_json::to_string(r).unwrap()).collect();
    let written = lines.join("\n") + "\n";
    if std::env::var_os("RACKCTL_WRITE_GOLDEN").is_some() {
        std::fs::write(NEWEST, &written).unwrap();
    }
    assert_eq!(written, std::fs::read_to_string(NEWEST).unwrap());
}
