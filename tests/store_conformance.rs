//! What every store does, whatever it keeps its content in. To add a back end: a type with `Backend`, and one
//! `#[test]` at the end of this file that runs `conform` on it.
#![allow(clippy::type_complexity)] // lists of closures, read where they stand
#![allow(clippy::unwrap_used, clippy::panic)] // A store that does not do what is said here fails the test.

mod cluster_support;
mod store_support;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rackctl::{
    model::{
        Stamp,
        approval::Envelope,
        facts::{InstallPhase, NodeRecord},
        goal::{Goal, Scope},
    },
    store::{
        self, Approval, BmcSession, ClusterRecord, Control, ControlKind, Draft, Export, Fence, Head, Holder, LEASE,
        MemoryStore, RecordKind, RunHead, RunRecord, RunState, SqliteStore, Standings, Store, StoreError,
    },
};
use serde_json::json;
use uuid::Uuid;

trait Backend {
    /// An empty store that shares nothing with any other.
    fn fresh(&self) -> Arc<dyn Store>;
}

type Case = fn(&dyn Backend);

const SUITE: &[(&str, Case)] = &[
    ("runs are kept, newest first, and end once", runs),
    ("a fleet is kept once, however many runs it has had", fleets_once),
    ("what was moved elsewhere takes no more writes", moved),
    ("locks are taken all or none", all_or_none),
    ("a fence is never given twice", fences_rise),
    ("a fence is given once to racing threads", fences_race),
    ("a dead holder's lock is taken over", dead_holder),
    ("an expired lock of a live holder is not taken, and can be stolen", expired_holder),
    ("a live lock is stolen by force alone", steal_by_force),
    ("what is stolen is journaled in the run", steal_is_journaled),
    ("a steal takes all or none", steal_all_or_none),
    ("renewing makes a lease good again", renew_prolongs),
    ("renewing after a steal names the new holder", renew_after_steal),
    ("appending after a steal names the new holder", append_after_steal),
    ("appending after a release is refused", append_after_release),
    ("a stale fence releases nothing", stale_release),
    ("the chain holds, and its head is its last record", chain_and_head),
    ("a journal is its run's part of the chain", journal_of_run),
    ("bodies come back as they were written", bodies),
    ("appends from many threads make one chain", append_race),
    ("a cluster is made once per generation", compare_and_set),
    ("a race to make a cluster has one winner", compare_and_set_race),
    ("control is set, replaced and taken back", control),
    ("approvals are kept per plan and approver", approvals),
    ("node records are replaced", node_records),
    ("sessions in BMCs are noted and dropped", bmc_sessions),
    ("observations are replaced", observations),
    ("the outline is that of the runs and of the chain", outline),
    ("an export fills an empty store with the same", transfer),
    ("an import into a store in use is refused", import_in_use),
    ("an export whose chain is broken is refused", import_broken),
    ("after an import no fence is given twice, and the chain goes on", import_goes_on),
    ("the serial rises with every write that matters", serial_rises),
];

fn conform(backend: &dyn Backend) {
    let failed: Vec<&str> = SUITE
        .iter()
        .filter(|(name, case)| {
            let ended = catch_unwind(AssertUnwindSafe(|| case(backend)));
            println!("{} {name}", if ended.is_ok() { "ok    " } else { "FAILED" });
            ended.is_err()
        })
        .map(|(name, _)| *name)
        .collect();
    assert!(failed.is_empty(), "{} of {} do not hold: {failed:#?}", failed.len(), SUITE.len());
}

// Who acts, and when.

/// This process: it lives.
fn me() -> Holder {
    Holder::this()
}

/// A process of this host that was there before the last boot.
fn dead() -> Holder {
    Holder { boot_id: "an earlier boot".into(), user: "dora".into(), ..me() }
}

/// On another host: whether it lives cannot be told from here.
fn elsewhere() -> Holder {
    Holder { host: "elsewhere".into(), user: "eve".into(), pid: 7, ..me() }
}

fn now() -> Stamp {
    store::clock::stamp()
}

/// A moment so many seconds ago, by both clocks.
fn ago(seconds: u64) -> Stamp {
    let now = now();
    Stamp {
        unix_ms: now.unix_ms - seconds * 1_000,
        boot_ms: now.boot_ms.saturating_sub(seconds * 1_000),
        // The machine may have been up for less than that: the wall clock decides then.
        boot_id: if now.boot_ms > seconds * 1_000 { now.boot_id } else { "before".into() },
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

fn lock(store: &dyn Store, list: &[&str], run: &str, holder: &Holder) -> Result<Fence, StoreError> {
    store.lock(&names(list), run, holder, &now(), LEASE)
}

fn draft(step: &str, body: serde_json::Value) -> Draft {
    Draft { subject: "n1".into(), step: step.into(), attempt: 1, kind: RecordKind::Intent, body }
}

fn append(store: &dyn Store, run: &str, fence: &Fence, step: &str) -> Result<store::Record, StoreError> {
    store.append(run, 5, fence, draft(step, json!({ "of": step })))
}

fn locked(result: Result<Fence, StoreError>) -> store::Lock {
    match result {
        Err(StoreError::Locked(lock)) => *lock,
        other => panic!("not refused as locked: {other:?}"),
    }
}

fn assert_fenced<T: std::fmt::Debug>(result: Result<T, StoreError>, by: &str) {
    match result {
        Err(StoreError::Fenced { holder, .. }) if holder.contains(by) => {}
        other => panic!("not fenced by {by}: {other:?}"),
    }
}

fn run_record(id: &str, started_ms: u64) -> RunRecord {
    RunRecord {
        id: id.into(),
        started_ms,
        ended_ms: None,
        state: RunState::Running,
        goal: Goal::Join { nodes: Scope(names(&["n1", "n2"])) },
        plan_hash: "ab12".into(),
        fleet: json!({ "id": "f" }),
        plan: json!({ "tracks": [] }),
        actor: me(),
    }
}

fn node_record(generation: u64) -> NodeRecord {
    NodeRecord {
        generation,
        run: "r".into(),
        phase: InstallPhase::Installed,
        system_host_key: "ssh-ed25519 AAAA".into(),
        disk_guid: Uuid::from_u128(u128::from(generation)),
        disk_serial: Some("S1".into()),
        system_sha256: "00".repeat(32),
        at: 9,
        over: None,
    }
}

fn cluster_record(generation: u64, token: &str) -> ClusterRecord {
    ClusterRecord {
        generation,
        run: "r".into(),
        bootstrap_member: "n1".into(),
        token: token.into(),
        cluster_id: None,
        found: false,
    }
}

fn approval(plan: &str, approver: Holder, at_ms: u64) -> Approval {
    let envelope = Envelope {
        nodes: BTreeSet::from(["n1".to_owned()]),
        disks: BTreeMap::from([("n1".to_owned(), "S1".to_owned())]),
        artifacts: BTreeMap::new(),
        kinds: BTreeSet::from(["write-disk".to_owned()]),
        wipes: 1,
    };
    Approval { plan_hash: plan.into(), envelope, approver, at_ms, expires_ms: at_ms + 60_000 }
}

// The cases.

fn runs(backend: &dyn Backend) {
    let store = backend.fresh();
    assert!(store.runs().unwrap().is_empty() && store.run("r-1").unwrap().is_none());
    for (id, at) in [("r-1", 10), ("r-3", 20), ("r-2", 20)] {
        store.create_run(&run_record(id, at)).unwrap();
    }
    assert!(matches!(store.create_run(&run_record("r-1", 99)), Err(StoreError::Conflict(_))));
    store.set_run_state("r-1", RunState::Halted, Some(30)).unwrap();
    let ids: Vec<String> = store.runs().unwrap().into_iter().map(|r| r.id).collect();
    assert_eq!(ids, ["r-3", "r-2", "r-1"]);
    let ended = store.run("r-1").unwrap().unwrap();
    assert_eq!((ended.state, ended.ended_ms, ended.started_ms), (RunState::Halted, Some(30), 10));
    assert!(matches!(store.set_run_state("r-9", RunState::Failed, None), Err(StoreError::Conflict(_))));
}

/// A hundred runs of one large fleet, in the store and in what moves between stores.
fn fleets_once(backend: &dyn Backend) {
    let store = backend.fresh();
    let large = |id: &str| json!({ "id": id, "nodes": "n".repeat(100_000), "third": 0.1 });
    let run = |n: u64, fleet: &str| RunRecord { fleet: large(fleet), ..run_record(&format!("r-{n:03}"), n) };
    for n in 0..100 {
        store.create_run(&run(n, "f")).unwrap();
    }
    store.create_run(&run(100, "g")).unwrap();
    store.set_run_state("r-007", RunState::Succeeded, Some(9)).unwrap();
    let seven = RunRecord { state: RunState::Succeeded, ended_ms: Some(9), ..run(7, "f") };
    let whole = |store: &dyn Store| {
        assert_eq!(store.run("r-007").unwrap().unwrap(), seven);
        assert_eq!(store.run("r-100").unwrap().unwrap(), run(100, "g"));
        assert!(store.runs().unwrap().iter().all(|r| r.fleet == large(if r.id == "r-100" { "g" } else { "f" })));
        assert_eq!(store.run_heads().unwrap().len(), 101);
    };
    whole(&*store);
    let export = store.export().unwrap();
    let text = serde_json::to_string(&export).unwrap();
    assert!(text.len() < 400_000, "{} bytes: a fleet is in it more than once", text.len());
    assert_eq!((export.run("r-007").unwrap(), export.run("r-9")), (seven.clone(), None));
    let over = backend.fresh();
    over.import(&serde_json::from_str(&text).unwrap()).unwrap();
    whole(&*over);
    assert_eq!(over.export().unwrap().contents, export.contents);
    // As versions before wrote it: each run with its fleet.
    let runs = export.runs.iter().map(|r| export.run(&r.id).unwrap()).collect();
    let older = Export { schema: 2, runs, contents: BTreeMap::new(), ..export.clone() };
    let over = backend.fresh();
    over.import(&older).unwrap();
    whole(&*over);
    assert!(serde_json::to_string(&over.export().unwrap()).unwrap().len() < 400_000);
    // A fleet that is missing, or another one.
    let broken: [fn(&mut Export); 2] =
        [|e| drop(e.contents.pop_first()), |e| e.contents.values_mut().next().unwrap().push(' ')];
    for change in broken {
        let mut export = export.clone();
        change(&mut export);
        let refused = backend.fresh().import(&export).unwrap_err().to_string();
        assert!(refused.contains("the fleet or plan sha256:"), "{refused}");
    }
}

/// Reads go on, and so does the export: a move that broke off is done again from it.
fn moved(backend: &dyn Backend) {
    let store = backend.fresh();
    fill(&*store);
    let before = store.export().unwrap();
    assert_eq!(store.moved().unwrap(), None);
    let fence = lock(&*store, &["node/n1"], "r-1", &me()).unwrap();
    assert!(matches!(store.set_moved(Some("elsewhere")), Err(StoreError::Locked(_))), "somebody works with it");
    append(&*store, "r-1", &fence, "c").unwrap();
    store.unlock(&fence).unwrap();
    lock(&*store, &["node/n2"], "r-1", &dead()).unwrap();
    for _ in 0..2 {
        store.set_moved(Some("elsewhere")).unwrap();
    }
    assert_eq!(store.moved().unwrap().as_deref(), Some("elsewhere"));
    let refusals = [
        lock(&*store, &["node/n1"], "r-1", &me()).unwrap_err(),
        append(&*store, "r-1", &Fence::of_nothing(&me()), "d").unwrap_err(),
        store.create_run(&run_record("r-9", 9)).unwrap_err(),
        store.put_node_record("n1", &node_record(2)).unwrap_err(),
        store.import(&before).unwrap_err(),
    ];
    for refused in refusals {
        assert!(refused.to_string().contains("moved to elsewhere"), "{refused}");
    }
    let closed = store.export().unwrap();
    assert_eq!(closed.records.len(), before.records.len() + 1);
    let over = backend.fresh();
    over.import(&closed).unwrap();
    assert_eq!(over.moved().unwrap(), None);
    append(&*over, "r-1", &Fence::of_nothing(&me()), "d").unwrap();
    store.set_moved(None).unwrap();
    store.set_moved(None).unwrap();
    append(&*store, "r-1", &Fence::of_nothing(&me()), "d").unwrap();
    assert_eq!(store.moved().unwrap(), None);
}

fn all_or_none(backend: &dyn Backend) {
    let store = backend.fresh();
    lock(&*store, &["node/n2"], "r-1", &elsewhere()).unwrap();
    let held = locked(lock(&*store, &["node/n1", "node/n2", "node/n3"], "r-2", &me()));
    assert_eq!((held.name.as_str(), held.run.as_str(), held.expired), ("node/n2", "r-1", false));
    let all = store.locks().unwrap();
    assert_eq!(all.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["node/n2"]);
    let fence = lock(&*store, &["node/n3", "node/n1", "node/n3"], "r-2", &me()).unwrap();
    assert_eq!(fence.locks.len(), 2, "a name twice is one lock");
    let all = store.locks().unwrap();
    assert_eq!(all.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["node/n1", "node/n2", "node/n3"]);
    store.unlock(&fence).unwrap();
    assert_eq!(store.locks().unwrap().len(), 1);
    assert!(lock(&*store, &[], "r-3", &me()).unwrap().locks.is_empty());
}

fn fences_rise(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut last = 0;
    for round in 0..5 {
        let holder = if round % 2 == 0 { dead() } else { me() };
        let fence = lock(&*store, &["node/n1"], "r", &holder).unwrap();
        assert!(fence.locks[0].1 > last, "round {round}: {fence:?} after {last}");
        last = fence.locks[0].1;
        if round % 2 == 1 {
            store.unlock(&fence).unwrap();
        }
    }
    let stolen = store.steal(&names(&["node/n1"]), "r", &me(), &now(), LEASE, true, "test").unwrap();
    assert!(stolen.locks[0].1 > last);
}

fn fences_race(backend: &dyn Backend) {
    let store = backend.fresh();
    let given = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, given) = (&store, &given);
            scope.spawn(move || {
                let holder = Holder { pid: 1_000 + thread, ..elsewhere() };
                for _ in 0..12 {
                    match lock(&**store, &["node/n1", "node/n2"], "r", &holder) {
                        Ok(fence) => {
                            given.lock().unwrap().extend(fence.locks.clone());
                            store.unlock(&fence).unwrap();
                        }
                        Err(StoreError::Locked(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
    let given = given.into_inner().unwrap();
    let unique: BTreeSet<_> = given.iter().collect();
    assert!(!given.is_empty() && unique.len() == given.len(), "{given:?}");
}

fn dead_holder(backend: &dyn Backend) {
    let store = backend.fresh();
    let old = lock(&*store, &["node/n1"], "r-1", &dead()).unwrap();
    assert!(store.locks().unwrap()[0].expired, "a dead process's lock has run out");
    let new = lock(&*store, &["node/n1", "node/n2"], "r-2", &me()).unwrap();
    assert!(new.locks[0].1 > old.locks[0].1);
    assert_fenced(append(&*store, "r-1", &old, "a"), &me().to_string());
    append(&*store, "r-2", &new, "a").unwrap();
    assert!(!store.locks().unwrap()[0].expired);
}

fn expired_holder(backend: &dyn Backend) {
    let store = backend.fresh();
    let node = names(&["node/n1"]);
    let old = store.lock(&node, "r-1", &elsewhere(), &ago(3_600), LEASE).unwrap();
    assert!(store.locks().unwrap()[0].expired);
    let refused = store.lock(&node, "r-2", &me(), &now(), LEASE);
    assert!(refused.as_ref().unwrap_err().to_string().contains("rackctl lock steal"), "{refused:?}");
    let held = locked(refused);
    assert!(held.expired && held.holder == elsewhere());
    append(&*store, "r-1", &old, "still ours until it is stolen").unwrap();
    let new = store.steal(&node, "r-2", &me(), &now(), LEASE, false, "she is on leave").unwrap();
    assert!(new.locks[0].1 > old.locks[0].1);
    let kept = &store.locks().unwrap()[0];
    assert!(kept.holder == me() && !kept.expired && kept.run == "r-2");
}

fn steal_by_force(backend: &dyn Backend) {
    let store = backend.fresh();
    let node = names(&["node/n1"]);
    let old = lock(&*store, &["node/n1"], "r-1", &elsewhere()).unwrap();
    let held = locked(store.steal(&node, "r-2", &me(), &now(), LEASE, false, "impatience"));
    assert!(!held.expired && held.holder == elsewhere());
    append(&*store, "r-1", &old, "a").unwrap();
    assert_eq!(store.chain().unwrap().len(), 1, "what was refused leaves no record");
    let new = store.steal(&node, "r-2", &me(), &now(), LEASE, true, "she is on leave").unwrap();
    assert_fenced(append(&*store, "r-1", &old, "b"), &me().to_string());
    append(&*store, "r-2", &new, "c").unwrap();
}

fn steal_is_journaled(backend: &dyn Backend) {
    let store = backend.fresh();
    let old = lock(&*store, &["node/n1"], "r-1", &elsewhere()).unwrap();
    let wanted = names(&["node/n1", "node/free"]);
    let new = store.steal(&wanted, "r-2", &me(), &now(), LEASE, true, "she is on leave").unwrap();
    let journal = store.journal("r-2").unwrap();
    assert_eq!(journal.len(), 1, "a free lock is no theft: {journal:?}");
    let record = &journal[0];
    assert_eq!((record.kind, record.subject.as_str()), (RecordKind::LockStolen, "node/n1"));
    assert_eq!(record.actor, me().to_string());
    let body = &record.body;
    assert_eq!((body["from"].as_str(), body["fromRun"].as_str()), (Some(&*elsewhere().to_string()), Some("r-1")));
    assert_eq!((body["to"].as_str(), body["reason"].as_str()), (Some(&*me().to_string()), Some("she is on leave")));
    let fence_of = |fence: &Fence| fence.locks.iter().find(|(n, _)| n == "node/n1").map(|(_, f)| *f);
    assert_eq!((body["fromFence"].as_u64(), body["toFence"].as_u64()), (fence_of(&old), fence_of(&new)));
    assert_eq!(body["force"], true);
    store::verify(&store.chain().unwrap()).unwrap();
}

fn steal_all_or_none(backend: &dyn Backend) {
    let store = backend.fresh();
    store.lock(&names(&["node/n1"]), "r-1", &elsewhere(), &ago(3_600), LEASE).unwrap();
    lock(&*store, &["node/n2"], "r-1", &elsewhere()).unwrap();
    let before = store.locks().unwrap();
    let wanted = names(&["node/n1", "node/n2"]);
    assert_eq!(locked(store.steal(&wanted, "r-2", &me(), &now(), LEASE, false, "x")).name, "node/n2");
    assert_eq!(store.locks().unwrap(), before);
    assert!(store.chain().unwrap().is_empty());
}

fn renew_prolongs(backend: &dyn Backend) {
    let store = backend.fresh();
    let fence = store.lock(&names(&["node/n1", "node/n2"]), "r", &me(), &ago(3_600), LEASE).unwrap();
    assert!(store.locks().unwrap().iter().all(|l| l.expired));
    let at = now();
    store.renew(&fence, &at).unwrap();
    let locks = store.locks().unwrap();
    assert!(locks.iter().all(|l| !l.expired && l.renewed == at && l.ttl_ms == 30_000), "{locks:?}");
    assert!(locks.iter().all(|l| l.since_ms < at.unix_ms), "it is held since it was taken");
}

fn renew_after_steal(backend: &dyn Backend) {
    let store = backend.fresh();
    let fence = lock(&*store, &["node/n1", "node/n2"], "r-1", &elsewhere()).unwrap();
    store.steal(&names(&["node/n2"]), "r-2", &me(), &now(), LEASE, true, "x").unwrap();
    let before = store.locks().unwrap();
    assert_fenced(store.renew(&fence, &Stamp { unix_ms: 1, ..now() }), &me().to_string());
    assert_eq!(store.locks().unwrap(), before, "none is renewed when one is lost");
}

fn append_after_steal(backend: &dyn Backend) {
    let store = backend.fresh();
    let fence = lock(&*store, &["node/n1", "node/n2"], "r-1", &elsewhere()).unwrap();
    append(&*store, "r-1", &fence, "a").unwrap();
    store.steal(&names(&["node/n2"]), "r-2", &me(), &now(), LEASE, true, "x").unwrap();
    let before = store.head().unwrap();
    assert_fenced(append(&*store, "r-1", &fence, "b"), &me().to_string());
    assert_eq!(store.head().unwrap(), before);
}

fn append_after_release(backend: &dyn Backend) {
    let store = backend.fresh();
    let fence = lock(&*store, &["node/n1"], "r-1", &me()).unwrap();
    append(&*store, "r-1", &fence, "a").unwrap();
    store.unlock(&fence).unwrap();
    assert_fenced(append(&*store, "r-1", &fence, "b"), "nobody");
    // Of nothing, nothing can be lost.
    append(&*store, "store", &Fence::of_nothing(&me()), "c").unwrap();
}

fn stale_release(backend: &dyn Backend) {
    let store = backend.fresh();
    let old = lock(&*store, &["node/n1"], "r-1", &dead()).unwrap();
    let new = lock(&*store, &["node/n1"], "r-2", &me()).unwrap();
    store.unlock(&old).unwrap();
    append(&*store, "r-2", &new, "a").unwrap();
    assert_eq!(store.locks().unwrap().len(), 1);
}

fn chain_and_head(backend: &dyn Backend) {
    let store = backend.fresh();
    assert_eq!(store.head().unwrap(), Head::default());
    let fence = lock(&*store, &["node/n1"], "r", &me()).unwrap();
    for step in ["a", "b", "c"] {
        let record = append(&*store, "r", &fence, step).unwrap();
        assert_eq!(store.head().unwrap(), Head { seq: record.seq, hash: record.hash });
    }
    let chain = store.chain().unwrap();
    assert_eq!(chain.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(store::verify(&chain).unwrap(), store.head().unwrap().hash);
    assert!(chain.iter().all(|r| r.fence == fence.highest() && r.actor == me().to_string() && r.at_ms == 5));
    let broken = |change: &dyn Fn(&mut Vec<store::Record>)| {
        let mut chain = chain.clone();
        change(&mut chain);
        store::verify(&chain).unwrap_err().seq
    };
    assert_eq!(broken(&|c| c[1].body = json!({ "of": "x" })), 2);
    assert_eq!(broken(&|c| drop(c.remove(1))), 2);
    assert_eq!(broken(&|c| c.swap(0, 1)), 1);
}

fn journal_of_run(backend: &dyn Backend) {
    let store = backend.fresh();
    let one = lock(&*store, &["node/n1"], "r-1", &me()).unwrap();
    let two = lock(&*store, &["node/n2"], "r-2", &elsewhere()).unwrap();
    for step in ["a", "b"] {
        append(&*store, "r-1", &one, step).unwrap();
        append(&*store, "r-2", &two, step).unwrap();
    }
    let steps = |run: &str| store.journal(run).unwrap().into_iter().map(|r| (r.seq, r.step)).collect::<Vec<_>>();
    assert_eq!(steps("r-1"), [(1, "a".to_owned()), (3, "b".to_owned())]);
    assert_eq!(steps("r-2"), [(2, "a".to_owned()), (4, "b".to_owned())]);
    assert!(steps("r-9").is_empty());
}

fn bodies(backend: &dyn Backend) {
    let store = backend.fresh();
    let fence = lock(&*store, &["node/n1"], "r", &me()).unwrap();
    let floats: Vec<f64> = (1..200).map(|n| 1.0 / f64::from(n) * 10_f64.powi(n % 40 - 20)).collect();
    let bodies = [
        json!(null),
        json!({ "z": 1, "a": [true, false, null], "text": "\u{1}\u{7f}ü\u{2028}\"\\", "big": u64::MAX, "low": i64::MIN }),
        json!(floats),
        json!({ "long": "x".repeat(300_000) }),
    ];
    for body in &bodies {
        let record = store.append("r", 1, &fence, draft("b", body.clone())).unwrap();
        assert_eq!(store.chain().unwrap().last(), Some(&record), "what is returned is what is read");
    }
    let chain = store.chain().unwrap();
    store::verify(&chain).unwrap();
    for (record, body) in chain.iter().zip(&bodies).filter(|(_, body)| !body.is_array()) {
        assert_eq!(record.body, *body);
    }
}

fn append_race(backend: &dyn Backend) {
    let store = backend.fresh();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let (run, node) = (format!("r-{thread}"), format!("node/n{thread}"));
                let fence = lock(&**store, &[&node], &run, &elsewhere()).unwrap();
                for step in 0..10 {
                    append(&**store, &run, &fence, &step.to_string()).unwrap();
                }
            });
        }
    });
    let chain = store.chain().unwrap();
    assert_eq!(chain.len(), 40);
    assert_eq!(store::verify(&chain).unwrap(), store.head().unwrap().hash);
}

fn compare_and_set(backend: &dyn Backend) {
    let store = backend.fresh();
    assert_eq!(store.cluster_record("c").unwrap(), None);
    let conflict = |expected, generation| {
        let result = store.put_cluster_record("c", expected, &cluster_record(generation, "late"));
        assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    };
    conflict(1, 2);
    store.put_cluster_record("c", 0, &cluster_record(1, "a")).unwrap();
    conflict(0, 1);
    store
        .put_cluster_record("c", 1, &ClusterRecord { cluster_id: Some("beef".into()), ..cluster_record(1, "a") })
        .unwrap();
    assert_eq!(store.cluster_record("c").unwrap().unwrap().cluster_id.as_deref(), Some("beef"));
    store.put_cluster_record("c", 1, &cluster_record(2, "b")).unwrap();
    conflict(1, 2);
    assert_eq!(store.cluster_record("c").unwrap(), Some(cluster_record(2, "b")));
    assert_eq!(store.cluster_record("d").unwrap(), None);
}

fn compare_and_set_race(backend: &dyn Backend) {
    let store = backend.fresh();
    for generation in 0..5 {
        let winners: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let store = &store;
                    scope.spawn(move || {
                        let record = cluster_record(generation + 1, &format!("{thread}"));
                        store.put_cluster_record("c", generation, &record).is_ok().then_some(record.token)
                    })
                })
                .collect();
            threads.into_iter().filter_map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(winners, [store.cluster_record("c").unwrap().unwrap().token]);
    }
}

fn control(backend: &dyn Backend) {
    let store = backend.fresh();
    assert_eq!(store.control("r-1").unwrap(), None);
    let pause = Control { kind: ControlKind::Pause, actor: me(), at_ms: 4, reason: Some("lunch".into()) };
    let abort = Control { kind: ControlKind::Abort, actor: elsewhere(), at_ms: 5, reason: None };
    store.set_control("r-1", Some(&pause)).unwrap();
    assert_eq!(store.control("r-1").unwrap(), Some(pause));
    store.set_control("r-1", Some(&abort)).unwrap();
    assert_eq!((store.control("r-1").unwrap(), store.control("r-2").unwrap()), (Some(abort), None));
    store.set_control("r-1", None).unwrap();
    store.set_control("r-1", None).unwrap();
    assert_eq!(store.control("r-1").unwrap(), None);
}

fn approvals(backend: &dyn Backend) {
    let store = backend.fresh();
    assert!(store.approvals("p1").unwrap().is_empty());
    let mine = approval("p1", me(), 1);
    let hers = approval("p1", elsewhere(), 2);
    for one in [&hers, &mine, &approval("p2", me(), 3)] {
        store.put_approval(one).unwrap();
    }
    let renewed = Approval { at_ms: 9, ..mine };
    store.put_approval(&renewed).unwrap();
    let mut kept = store.approvals("p1").unwrap();
    kept.sort_by_key(|a| a.at_ms);
    assert_eq!(kept, [hers, renewed]);
    assert_eq!(store.approvals("p2").unwrap().len(), 1);
}

fn node_records(backend: &dyn Backend) {
    let store = backend.fresh();
    assert!(store.node_records().unwrap().is_empty());
    for (node, generation) in [("n2", 1), ("n1", 1), ("n2", 2)] {
        store.put_node_record(node, &node_record(generation)).unwrap();
    }
    let kept = store.node_records().unwrap();
    assert_eq!(kept, [("n1".to_owned(), node_record(1)), ("n2".to_owned(), node_record(2))]);
}

fn bmc_sessions(backend: &dyn Backend) {
    let store = backend.fresh();
    let session = |node: &str, uri: Option<&str>, holder: Holder, login: Option<u64>| BmcSession {
        node: node.into(),
        uri: uri.map(str::to_owned),
        holder,
        login,
        at_ms: None,
        abandoned: false,
    };
    let first = session("n1", Some("/1"), me(), Some(1));
    store.put_bmc_session(&BmcSession { uri: None, ..first.clone() }).unwrap();
    store.put_bmc_session(&first).unwrap();
    assert_eq!(store.bmc_sessions().unwrap(), std::slice::from_ref(&first), "one note a log-in");
    let abandoned = BmcSession { abandoned: true, ..first.clone() };
    store.put_bmc_session(&abandoned).unwrap();
    assert_eq!(store.bmc_sessions().unwrap(), [abandoned], "the same log-in's");
    store.put_bmc_session(&first).unwrap();
    // Another log-in of the same process, of another one at the same place, of another host; and one of a version
    // that did not count them.
    let others = [
        session("n1", None, me(), Some(2)),
        session("n1", Some("/3"), Holder { pid: me().pid + 1, ..me() }, Some(1)),
        session("n1", Some("/4"), elsewhere(), Some(1)),
        session("n1", Some("/5"), me(), None),
        session("n10", Some("/1"), me(), Some(1)),
    ];
    for other in &others {
        store.put_bmc_session(other).unwrap();
    }
    let mut left: Vec<BmcSession> = others.to_vec();
    left.push(first.clone());
    let all = store.bmc_sessions().unwrap();
    assert!(all.len() == 6 && left.iter().all(|s| all.contains(s)), "{all:?}");
    // By node, and what it was opened as plays no part.
    assert!(all.iter().map(|s| s.node.as_str()).is_sorted(), "{all:?}");
    store.drop_bmc_session(&session("n2", None, me(), Some(1))).unwrap();
    for session in left {
        store.drop_bmc_session(&BmcSession { uri: None, ..session.clone() }).unwrap();
        assert!(!store.bmc_sessions().unwrap().contains(&session));
    }
    assert!(store.bmc_sessions().unwrap().is_empty());
}

fn observations(backend: &dyn Backend) {
    let store = backend.fresh();
    store.put_observed("n2", 1, &json!({ "power": "on" })).unwrap();
    store.put_observed("n1", 2, &json!(null)).unwrap();
    // Of many nodes at once, over what is there.
    let many: Vec<(String, serde_json::Value)> =
        ["n1", "n2"].map(|name| (name.to_owned(), json!({ "power": "unknown" }))).into();
    store.put_all_observed(2, &many).unwrap();
    assert_eq!(store.observed().unwrap().iter().map(|(_, at, _)| *at).collect::<Vec<_>>(), [2, 2]);
    store.put_all_observed(3, &[]).unwrap();
    store.put_observed("n1", 2, &json!(null)).unwrap();
    store.put_observed("n2", 3, &json!({ "power": "off" })).unwrap();
    let seen = store.observed().unwrap();
    assert_eq!(seen, [("n1".into(), 2, json!(null)), ("n2".into(), 3, json!({ "power": "off" }))]);
}

/// What views read, however it is kept: always what the runs and the chain say.
fn outline(backend: &dyn Backend) {
    let store = backend.fresh();
    let agrees = || {
        let (runs, chain) = (store.runs().unwrap(), store.chain().unwrap());
        assert_eq!(store.run_heads().unwrap(), runs.iter().map(RunHead::from).collect::<Vec<_>>());
        let mut standings = Standings::new();
        store::outline::fold(&mut standings, &chain);
        assert_eq!(store.standings().unwrap(), standings);
        assert_eq!(store.last_records(None, 2).unwrap(), chain[chain.len().saturating_sub(2)..]);
        let mine: Vec<_> = chain.iter().filter(|r| r.subject == "n1").cloned().collect();
        assert_eq!(store.last_records(Some("n1"), 1).unwrap(), mine[mine.len().saturating_sub(1)..]);
        let mut seen = Vec::new();
        let mut each = |node: &str, text: &str| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            seen.push((node.to_owned(), value["atMs"].as_u64().unwrap(), value["facts"].clone()));
        };
        store.each_observed(&mut each).unwrap();
        assert_eq!(seen, store.observed().unwrap());
    };
    agrees();
    store.create_run(&run_record("r", 1)).unwrap();
    store.create_run(&run_record("s", 2)).unwrap();
    store.put_observed("n1", 7, &json!({ "a": "b" })).unwrap();
    agrees();
    let fence = lock(&*store, &["node/n1"], "r", &me()).unwrap();
    for (step, kind) in [
        ("n1/power-on", RecordKind::Intent),
        ("n1/power-on", RecordKind::Done),
        ("cluster/c/verify-member-n1", RecordKind::Failed),
        ("n1/power-on", RecordKind::Fact),
    ] {
        let subject = if step.starts_with("n1") { "n1" } else { "c" };
        let draft = Draft { subject: subject.into(), kind, ..draft(step, json!({ "failure": step })) };
        store.append("r", 5, &fence, draft).unwrap();
        agrees();
    }
    store.set_run_state("r", RunState::Succeeded, Some(9)).unwrap();
    append(&*store, "r", &fence, "n1/set-boot").unwrap();
    agrees();
    // Into another store, whose outline is of nothing yet.
    let other = backend.fresh();
    assert_eq!(other.standings().unwrap(), Standings::new());
    other.import(&store.export().unwrap()).unwrap();
    assert_eq!(other.standings().unwrap(), store.standings().unwrap());
    assert_eq!(other.run_heads().unwrap(), store.run_heads().unwrap());
}

/// One of everything.
fn fill(store: &dyn Store) {
    store.create_run(&run_record("r-1", 1)).unwrap();
    let fence = lock(store, &["node/n1", "cluster/c"], "r-1", &me()).unwrap();
    append(store, "r-1", &fence, "a").unwrap();
    append(store, "r-1", &fence, "b").unwrap();
    store.put_node_record("n1", &node_record(1)).unwrap();
    store.put_cluster_record("c", 0, &cluster_record(1, "t")).unwrap();
    store
        .put_bmc_session(&BmcSession {
            node: "n1".into(),
            uri: None,
            holder: me(),
            login: Some(1),
            at_ms: Some(1),
            abandoned: false,
        })
        .unwrap();
    store.put_observed("n1", 2, &json!({ "power": "on" })).unwrap();
    let pause = Control { kind: ControlKind::Pause, actor: me(), at_ms: 4, reason: None };
    store.set_control("r-1", Some(&pause)).unwrap();
    store.put_approval(&approval("p1", me(), 1)).unwrap();
    store.unlock(&fence).unwrap();
}

/// All but the serial, which an import raises.
fn content(export: Export) -> Export {
    Export { lineage: store::Lineage { serial: 0, ..export.lineage }, ..export }
}

fn transfer(backend: &dyn Backend) {
    let from = backend.fresh();
    fill(&*from);
    let export = from.export().unwrap();
    assert_eq!((export.records.len(), export.nodes.len(), export.fences.len()), (2, 1, 2));
    let text = serde_json::to_string(&export).unwrap();
    let read: Export = serde_json::from_str(&text).unwrap();
    assert_eq!(read, export);
    // Each back end, and back again through memory.
    for over in [backend.fresh(), Arc::new(MemoryStore::new()) as Arc<dyn Store>] {
        over.import(&read).unwrap();
        let again = backend.fresh();
        again.import(&over.export().unwrap()).unwrap();
        assert_eq!(content(again.export().unwrap()), content(export.clone()));
        assert!(again.lineage().unwrap().serial > export.lineage.serial);
        assert_eq!(again.head().unwrap(), export.head);
        assert_eq!(again.journal("r-1").unwrap(), from.journal("r-1").unwrap());
        assert_eq!(again.run("r-1").unwrap(), from.run("r-1").unwrap());
    }
}

fn import_in_use(backend: &dyn Backend) {
    let from = backend.fresh();
    fill(&*from);
    let export = from.export().unwrap();
    let fills: [&dyn Fn(&dyn Store); 3] = [
        &|s| s.put_node_record("n9", &node_record(1)).unwrap(),
        &|s| drop(append(s, "r", &Fence::of_nothing(&me()), "a").unwrap()),
        &|s| drop(lock(s, &["node/n1"], "r", &me()).unwrap()),
    ];
    for some in fills {
        let store = backend.fresh();
        some(&*store);
        let before = content(store.export().unwrap());
        assert!(matches!(store.import(&export), Err(StoreError::Conflict(_))));
        assert_eq!(content(store.export().unwrap()), before);
    }
}

fn import_broken(backend: &dyn Backend) {
    let from = backend.fresh();
    fill(&*from);
    let whole = from.export().unwrap();
    let changes: [(&dyn Fn(&mut Export), &str); 4] = [
        (&|e| e.records[1].body = json!("edited"), "record 2"),
        (&|e| drop(e.records.remove(0)), "record 1"),
        (&|e| drop(e.records.pop()), "missing at the end"),
        (&|e| e.schema = 99, "schema 99"),
    ];
    for (change, said) in changes {
        let mut export = whole.clone();
        change(&mut export);
        let store = backend.fresh();
        let refused = store.import(&export).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
        assert!(store.chain().unwrap().is_empty() && store.runs().unwrap().is_empty());
    }
}

fn import_goes_on(backend: &dyn Backend) {
    let from = backend.fresh();
    fill(&*from);
    let given = from.export().unwrap().fences["node/n1"];
    let store = backend.fresh();
    store.import(&from.export().unwrap()).unwrap();
    let fence = lock(&*store, &["node/n1"], "r-1", &me()).unwrap();
    assert!(fence.locks[0].1 > given);
    append(&*store, "r-1", &fence, "c").unwrap();
    let chain = store.chain().unwrap();
    assert_eq!((chain.len(), store::verify(&chain).unwrap()), (3, store.head().unwrap().hash));
    assert_eq!(store.journal("r-1").unwrap().len(), 3);
}

fn serial_rises(backend: &dyn Backend) {
    let store = backend.fresh();
    let id = store.lineage().unwrap().id;
    let mut last = store.lineage().unwrap().serial;
    let mut rose = |what: &str| {
        let lineage = store.lineage().unwrap();
        assert!(lineage.id == id && lineage.serial > last, "{what}: {lineage:?} after {last}");
        last = lineage.serial;
    };
    store.create_run(&run_record("r", 1)).unwrap();
    rose("a run");
    let fence = lock(&*store, &["node/n1"], "r", &me()).unwrap();
    rose("a lock");
    append(&*store, "r", &fence, "a").unwrap();
    rose("a record");
    store.put_node_record("n1", &node_record(1)).unwrap();
    rose("a node");
    store.put_cluster_record("c", 0, &cluster_record(1, "t")).unwrap();
    rose("a cluster");
    store.put_approval(&approval("p", me(), 1)).unwrap();
    rose("an approval");
    let fence = store.steal(&names(&["node/n1"]), "r", &elsewhere(), &now(), LEASE, true, "x").unwrap();
    rose("a steal");
    store.unlock(&fence).unwrap();
    store.set_run_state("r", RunState::Succeeded, Some(2)).unwrap();
    rose("an end");
    assert_ne!(backend.fresh().lineage().unwrap().id, id, "every store has a lineage of its own");
}

// The back ends.

struct Sqlite(Mutex<Vec<tempfile::TempDir>>);

impl Backend for Sqlite {
    fn fresh(&self) -> Arc<dyn Store> {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
        self.0.lock().unwrap().push(folder);
        Arc::new(store)
    }
}

struct Memory;

impl Backend for Memory {
    fn fresh(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new())
    }
}

/// One server; every store has a prefix of its own.
struct InEtcd(store_support::Server, AtomicU32);

impl Backend for InEtcd {
    fn fresh(&self) -> Arc<dyn Store> {
        Arc::new(self.0.store(&format!("conformance/{}", self.1.fetch_add(1, Ordering::SeqCst))))
    }
}

fn in_etcd(binary: Option<PathBuf>) -> Option<InEtcd> {
    binary.map(|binary| InEtcd(store_support::Server::start(&binary), AtomicU32::new(0)))
}

// fault: F45 F54 invariant: I1 I2 I6 I13 harness: E
#[test]
fn etcd_3_4_conforms() {
    in_etcd(cluster_support::etcd_binary()).inspect(|backend| conform(backend));
}

// fault: F45 F54 invariant: I1 I2 I6 I13 harness: E
#[test]
fn etcd_3_5_conforms() {
    in_etcd(cluster_support::etcd_351_binary()).inspect(|backend| conform(backend));
}

// fault: F45 F54 invariant: I1 I2 I6 I13 harness: P
#[test]
fn sqlite_conforms() {
    conform(&Sqlite(Mutex::default()));
}

#[test]
fn memory_conforms() {
    conform(&Memory);
}

/// A lease that is asked for is the lease that is kept.
#[test]
fn leases_have_the_length_that_was_asked_for() {
    let (sqlite, etcd) = (Sqlite(Mutex::default()), in_etcd(cluster_support::etcd_binary()));
    for backend in [&sqlite as &dyn Backend, &Memory].into_iter().chain(etcd.as_ref().map(|e| e as &dyn Backend)) {
        let store = backend.fresh();
        store.lock(&names(&["a"]), "r", &me(), &ago(100), Duration::from_secs(90)).unwrap();
        store.lock(&names(&["b"]), "r", &me(), &ago(100), Duration::from_secs(1_000)).unwrap();
        let expired: Vec<bool> = store.locks().unwrap().iter().map(|l| l.expired).collect();
        assert_eq!(expired, [true, false]);
    }
}
