//! A state file as years of runs leave it: installed machines, each run with its records.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rackctl::{
    model::{
        Fleet,
        goal::{Ceiling, Goal, Scope},
    },
    plan::{Plan, StepKind, Subject, Track},
    store::{Draft, Holder, RecordKind, RunRecord, RunState, SqliteStore, Store, clock},
};
use serde_json::json;

use crate::facts;

/// Nodes of one run.
const PER_RUN: usize = 100;
const STEPS: [&str; 8] = [
    "check-identity",
    "boot-installer",
    "await-claim",
    "check-disks",
    "write-disk",
    "withdraw-netboot",
    "reboot-to-disk",
    "await-installed",
];
const KINDS: [RecordKind; 4] = [RecordKind::Observed, RecordKind::Intent, RecordKind::Result, RecordKind::Done];

/// Fills a new state file; gives the number of records. Written in memory first: what an fsync costs is no part of this.
pub fn fill(path: &Path, fleet: &Fleet) -> u64 {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let made = folder.path().join("state.db");
    let began = Instant::now();
    let store = SqliteStore::open(&made).unwrap();
    let names: Vec<String> = fleet.nodes.keys().cloned().collect();
    let runs: Vec<&[String]> = names.chunks(PER_RUN).collect();
    for (number, nodes) in runs.iter().enumerate() {
        run(&store, fleet, number, nodes, number + 1 == runs.len());
    }
    for (index, node) in names.iter().enumerate() {
        let seen = serde_json::to_value(facts::of(fleet, node, index)).unwrap();
        store.put_observed(node, 1_790_000_000_000, &seen).unwrap();
        store.put_node_record(node, &facts::record(index)).unwrap();
    }
    let records = store.head().unwrap().seq;
    drop(store);
    // State file and witness; all that was logged is in the file by now.
    let target = path.parent().unwrap();
    fs::create_dir_all(target).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap().flatten() {
        fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
    println!("state file of {records} records made in {:.0} s (not a figure)", began.elapsed().as_secs_f64());
    records
}

/// The last one is open, with the second half of its nodes before them.
fn run(store: &SqliteStore, fleet: &Fleet, number: usize, nodes: &[String], open: bool) {
    let id = format!("r-{number:05}");
    let goal = Goal::Apply { nodes: Scope(nodes.to_vec()), allow: Ceiling::DataLoss };
    let mut plan = Plan::empty("scale", &goal);
    for node in nodes {
        let mut track = Track::new(Subject::Node(node.clone()));
        track.push(StepKind::CheckIdentity, "the machine behind the BMC must be the inventory's".into());
        track.push(StepKind::WriteDisk { system_sha256: "ab".repeat(32), generation: 1 }, "it has no system".into());
        track.push(StepKind::AwaitInstalled { generation: 1 }, "it must come up from its disk".into());
        plan.tracks.push(track);
    }
    let own = Fleet {
        nodes: nodes.iter().map(|n| (n.clone(), fleet.nodes[n].clone())).collect(),
        places: Default::default(),
        ..fleet.clone()
    };
    let me = Holder::this();
    let record = RunRecord {
        id: id.clone(),
        started_ms: 1_780_000_000_000 + number as u64 * 3_600_000,
        ended_ms: None,
        state: RunState::Running,
        goal,
        plan_hash: plan.hash(),
        fleet: serde_json::to_value(&own).unwrap(),
        plan: serde_json::to_value(&plan).unwrap(),
        actor: me.clone(),
    };
    let locks: Vec<String> = nodes.iter().map(|n| format!("node/{n}")).collect();
    let fence = store.lock(&locks, &id, &me, &clock::stamp(), Duration::from_secs(3_600)).unwrap();
    store.create_run(&record).unwrap();
    let taken = if open { &nodes[..nodes.len() / 2] } else { nodes };
    for step in STEPS {
        for node in taken {
            for kind in KINDS {
                let draft = Draft {
                    subject: node.clone(),
                    step: format!("{node}/{step}"),
                    attempt: 1,
                    kind,
                    body: json!({ "token": "sha256:0123456789abcdef", "took": { "ms": 1234 } }),
                };
                store.append(&id, record.started_ms + 1, &fence, draft).unwrap();
            }
        }
    }
    let state = if open { RunState::Interrupted } else { RunState::Succeeded };
    store.set_run_state(&id, state, Some(record.started_ms + 1_800_000)).unwrap();
    store.unlock(&fence).unwrap();
}
