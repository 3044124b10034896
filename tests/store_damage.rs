//! Files that were torn or garbled, disks that are full or broken: what is believed is what was written, or nothing.

#![allow(clippy::unwrap_used, clippy::panic)] // Whatever is believed wrongly fails the test.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rackctl::{
    model::{
        facts::{InstallPhase, NodeRecord},
        failure::Cause,
        goal::{Goal, Scope},
    },
    store::{
        self, ClusterRecord, Draft, Export, Fence, Holder, LEASE, Record, RecordKind, RunRecord, RunState, SqliteStore,
        Store, StoreError,
    },
};
use serde_json::json;
use uuid::Uuid;

const TAIL_BYTES: usize = 8 << 10;

fn append(store: &dyn Store, run: &str, fence: &Fence, step: &str) -> Result<Record, StoreError> {
    let body = json!({ "of": step, "text": "words ".repeat(20) });
    let draft = Draft { subject: "n1".into(), step: step.into(), attempt: 1, kind: RecordKind::Intent, body };
    store.append(run, 5, fence, draft)
}

fn fill(store: &dyn Store) {
    for run in ["r-1", "r-2"] {
        let record = RunRecord {
            id: run.into(),
            started_ms: 1,
            ended_ms: None,
            state: RunState::Running,
            goal: Goal::Join { nodes: Scope(vec!["n1".into()]) },
            plan_hash: "ab12".into(),
            fleet: json!({ "id": "f" }),
            plan: json!({ "tracks": [] }),
            actor: Holder::this(),
        };
        store.create_run(&record).unwrap();
    }
    for node in ["n1", "n2", "n3"] {
        let record = NodeRecord {
            generation: 1,
            run: "r-1".into(),
            phase: InstallPhase::Installed,
            system_host_key: format!("ssh-ed25519 {node}"),
            disk_guid: Uuid::from_u128(1),
            disk_serial: None,
            system_sha256: "00".repeat(32),
            at: 9,
            over: None,
        };
        store.put_node_record(node, &record).unwrap();
    }
    let cluster = ClusterRecord {
        generation: 1,
        run: "r-1".into(),
        bootstrap_member: "n1".into(),
        token: "t".into(),
        cluster_id: None,
        found: false,
    };
    store.put_cluster_record("c", 0, &cluster).unwrap();
    let fence = store.lock(&["node/n1".into()], "r-1", &Holder::this(), &store::clock::stamp(), LEASE).unwrap();
    for step in 0..18 {
        append(store, if step % 3 == 0 { "r-2" } else { "r-1" }, &fence, &format!("n1/step-{step}")).unwrap();
    }
}

/// State file, log and witness of one moment, and what they hold.
struct Files {
    state: Vec<u8>,
    log: Vec<u8>,
    witness: Vec<u8>,
    truth: Export,
}

/// `closed`: everything is in the file itself. Otherwise the log holds it, as a crash leaves it.
fn files(closed: bool) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path).unwrap();
    fill(&store);
    let truth = store.export().unwrap();
    let mut store = Some(store);
    if closed {
        store = None;
    }
    let read = |end: &str| fs::read(folder.path().join(format!("state.db{end}"))).unwrap_or_default();
    let files = Files { state: read(""), log: read("-wal"), witness: read(".witness"), truth };
    drop(store);
    assert!(files.log.is_empty() == closed && files.state.len() + files.log.len() > 2 * TAIL_BYTES);
    files
}

/// In memory where there is such a folder: thousands of files are opened.
fn fast_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What came of one damaged pair of files.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    Whole,
    RefusedAtOpening,
    RefusedAtReading,
}

/// Opens what is there. Whatever is given out must be what was written; all else must be refused, in so many words.
fn judge(folder: &Path, state: &[u8], log: Option<&[u8]>, files: &Files, case: &str) -> Came {
    let path = folder.join("state.db");
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(folder.join(format!("state.db{end}")));
    }
    fs::write(&path, state).unwrap();
    fs::write(folder.join("state.db.witness"), &files.witness).unwrap();
    if let Some(log) = log {
        fs::write(folder.join("state.db-wal"), log).unwrap();
    }
    let refusal = |error: &StoreError, numbered: bool| {
        let failure = error.to_failure();
        assert_eq!(failure.cause, Cause::Guard, "{case}: {failure}");
        let numbers = failure.why.split("record").skip(1).any(|rest| rest.contains(|c: char| c.is_ascii_digit()));
        assert!(!numbered || numbers || failure.why.contains("schema"), "{case}: no record is named: {failure}");
        assert!(failure.next.is_some(), "{case}: {failure}");
    };
    let store = match SqliteStore::open(&path) {
        Ok(store) => store,
        Err(error) => {
            let why = error.to_failure().why;
            // Where no record is lost, none is named.
            refusal(&error, !why.contains("last write is number") && !why.contains("another state"));
            return Came::RefusedAtOpening;
        }
    };
    let mut came = Came::Whole;
    let mut check = |what: &str, numbered: bool, right: Result<bool, StoreError>| match right {
        Ok(right) => assert!(right, "{case}: {what} is not what was written"),
        Err(error) => {
            refusal(&error, numbered);
            came = Came::RefusedAtReading;
        }
    };
    let truth = &files.truth;
    check("the chain", true, store.chain().map(|c| c == truth.records));
    for run in ["r-1", "r-2"] {
        let of_run: Vec<_> = truth.records.iter().filter(|r| r.run == run).cloned().collect();
        check("a journal", true, store.journal(run).map(|j| j == of_run));
        check("a run", false, store.run(run).map(|r| r == truth.run(run)));
    }
    check(
        "the runs",
        false,
        store.runs().map(|r| r.len() == 2 && r.iter().all(|r| truth.run(&r.id).as_ref() == Some(r))),
    );
    check("the nodes", false, store.node_records().map(|n| n == truth.nodes.clone().into_iter().collect::<Vec<_>>()));
    check("the cluster", false, store.cluster_record("c").map(|c| c.as_ref() == truth.clusters.get("c")));
    check("the locks", false, store.locks().map(|l| l.len() == 1 && l[0].fence == 1));
    check("the head", true, store.head().map(|h| h == truth.head));
    came
}

/// Runs a sweep on two threads; says how often what came of it.
fn sweep(name: &str, cases: usize, one: impl Fn(&Path, usize) -> Came + Sync) {
    let threads = 2;
    let all: Vec<Came> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let one = &one;
                scope.spawn(move || {
                    let folder = fast_folder();
                    (thread..cases).step_by(threads).map(|case| one(folder.path(), case)).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let count = |came: &Came| all.iter().filter(|c| *c == came).count();
    for came in all.iter().collect::<BTreeSet<_>>() {
        println!("{name}: {came:?} {}", count(came));
    }
    assert_eq!(all.len(), cases);
    assert!(count(&Came::Whole) < cases, "{name}: no damage was noticed at all");
}

// fault: F57 invariant: I13 harness: P
#[test]
fn every_byte_of_the_files_tail_garbled() {
    let files = files(true);
    sweep("garbled file", TAIL_BYTES, |folder, at| {
        let mut state = files.state.clone();
        let at = state.len() - 1 - at;
        state[at] ^= 0xff;
        judge(folder, &state, None, &files, &format!("byte {at} of the file"))
    });
}

// fault: F57 invariant: I13 harness: P
#[test]
fn the_file_cut_at_every_byte_of_its_tail() {
    let files = files(true);
    sweep("cut file", TAIL_BYTES, |folder, by| {
        let length = files.state.len() - 1 - by;
        judge(folder, &files.state[..length], None, &files, &format!("file of {length} bytes"))
    });
}

// fault: F57 invariant: I13 harness: P
#[test]
fn every_byte_of_the_logs_tail_garbled() {
    let files = files(false);
    sweep("garbled log", TAIL_BYTES, |folder, at| {
        let mut log = files.log.clone();
        let at = log.len() - 1 - at;
        log[at] ^= 0xff;
        judge(folder, &files.state, Some(&log), &files, &format!("byte {at} of the log"))
    });
}

// fault: F57 invariant: I13 harness: P
#[test]
fn the_log_cut_at_every_byte_of_its_tail() {
    let files = files(false);
    sweep("cut log", TAIL_BYTES, |folder, by| {
        let length = files.log.len() - 1 - by;
        judge(folder, &files.state, Some(&files.log[..length]), &files, &format!("log of {length} bytes"))
    });
}

// fault: F57 invariant: I13 harness: P
/// The tail alone may hold pages that matter little: bits all over the file, from a fixed seed.
#[test]
fn bits_all_over_the_file_flipped() {
    let files = files(true);
    sweep("flipped bits", 6_000, |folder, case| {
        let random = (case as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = (random >> 16) as usize % files.state.len();
        let mut state = files.state.clone();
        state[at] ^= 1 << (random & 7);
        judge(folder, &state, None, &files, &format!("bit {} of byte {at}", random & 7))
    });
}

// Disks that are full or broken.

/// What a failing append leaves: an error with the draft in it, and a head that stands where it stood.
fn assert_unwritten(store: &dyn Store, error: StoreError, step: &str, head: u64) {
    let StoreError::Unwritten { ref draft, ref run, .. } = error else { panic!("{error:?}") };
    assert_eq!((draft.step.as_str(), run.as_str()), (step, "r-1"));
    assert!(error.dump().unwrap().contains(step));
    assert_eq!(store.head().unwrap().seq, head, "nothing believes in the record");
    assert!(store.journal("r-1").unwrap().iter().all(|r| r.step != step));
}

// fault: F58 invariant: I1 harness: K
#[test]
fn a_full_file_system_loses_nothing_that_was_said_to_be_kept() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root to mount a small file system");
        return;
    }
    // A mount namespace of this thread alone: it goes away with it.
    std::thread::spawn(|| {
        use nix::{
            mount::{MsFlags, mount},
            sched::{CloneFlags, unshare},
        };
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            eprintln!("SKIPPED: no mount namespace: {error}");
            return;
        }
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let folder = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=2m")).unwrap();
        let path = folder.path().join("state.db");
        let store = SqliteStore::open(&path).unwrap();
        let fence = store.lock(&["node/n1".into()], "r-1", &Holder::this(), &store::clock::stamp(), LEASE).unwrap();
        append(&store, "r-1", &fence, "first").unwrap();
        let filler = folder.path().join("filler");
        let mut bytes = 4 << 20;
        while bytes >= 4096 {
            let more = vec![1; bytes];
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
            if std::io::Write::write_all(&mut file, &more).is_err() {
                bytes /= 2;
            }
        }
        let mut kept = 1;
        let refused = loop {
            match append(&store, "r-1", &fence, &format!("step-{kept}")) {
                Ok(_) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 10_000, "the disk never filled up");
        };
        assert!(refused.to_failure().why.contains("full"), "{refused}");
        assert_unwritten(&store, refused, &format!("step-{kept}"), kept);
        // A second process finds the same, and when there is room again both go on.
        drop(append(&store, "r-1", &fence, "again").unwrap_err());
        let seen = SqliteStore::open(&path).map(|other| other.head().unwrap().seq);
        assert!(seen.as_ref().map_or(true, |seq| *seq == kept), "{:?}", seen.ok());
        fs::remove_file(&filler).unwrap();
        append(&store, "r-1", &fence, "after").unwrap();
        drop(store);
        let store = SqliteStore::open(&path).unwrap();
        let chain = store.chain().unwrap();
        assert_eq!((chain.len() as u64, chain.last().unwrap().step.as_str()), (kept + 1, "after"));
    })
    .join()
    .unwrap();
}

const CHILD: &str = "RACKCTL_TEST_APPENDS_TO";

/// Not a test of its own: the child of the next one, which runs it under injected errors.
#[test]
fn child_that_appends() {
    let Some(path) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let Ok(store) = SqliteStore::open(&path) else { return };
    let Ok(fence) = store.lock(&["node/n1".into()], "r-1", &Holder::this(), &store::clock::stamp(), LEASE) else {
        return;
    };
    for step in 0..6 {
        let before = store.head().unwrap().seq;
        let step = format!("step-{step}");
        match append(&store, "r-1", &fence, &step) {
            Ok(record) => println!("KEPT {} {}", record.seq, record.hash),
            Err(error) => {
                println!("REFUSED {step}");
                assert_unwritten(&store, error, &step, before);
            }
        }
    }
}

/// Durable costs one fsync an append, and no more: the log's. The witness is written without one, see there.
// fault: F58 invariant: I1 harness: K
#[test]
fn an_append_costs_one_fsync() {
    let works =
        Command::new("strace").args(["-f", "-qq", "-e", "trace=none", "true"]).status().is_ok_and(|s| s.success());
    if !works {
        eprintln!("SKIPPED: no strace, or it may not trace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, trace) = (folder.path().join("state.db"), folder.path().join("trace"));
    let begun = SqliteStore::open(&path).unwrap();
    append(&begun, "r-0", &Fence::of_nothing(&Holder::this()), "before").unwrap();
    drop(begun);
    let child = Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", "trace=fsync,fdatasync,sync_file_range,write", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_appends", "--nocapture"])
        .env(CHILD, &path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(child.status.success());
    let trace = fs::read_to_string(&trace).unwrap();
    // Between one record that was said to be kept and the next.
    let told = |line: &&str| line.contains("KEPT ");
    let lines: Vec<&str> = trace.lines().skip_while(|l| !told(l)).collect();
    let kept = lines.iter().filter(|l| told(l)).count();
    let last = lines.iter().rposition(told).unwrap();
    let synced: Vec<&&str> = lines[..last].iter().filter(|l| l.contains("sync(") || l.contains("fdatasync(")).collect();
    assert_eq!(kept, 6, "{trace}");
    assert!(synced.iter().all(|l| l.contains("state.db-wal")), "{synced:?}");
    assert_eq!(synced.len(), kept - 1, "{synced:?}");
}

// fault: F58 invariant: I1 I13 harness: K
#[test]
fn injected_errors_lose_nothing_that_was_said_to_be_kept() {
    let works =
        Command::new("strace").args(["-f", "-qq", "-e", "trace=none", "true"]).status().is_ok_and(|s| s.success());
    if !works {
        eprintln!("SKIPPED: no strace, or it may not trace");
        return;
    }
    let mut refusals = 0;
    for (call, error) in [("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), ("fdatasync", "EIO"), ("ftruncate", "EIO")] {
        // One failure at different moments; and from a moment on, all.
        for when in ["5", "9", "14", "20", "27", "35", "12+", "24+"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.db");
            // The tables are made in peace.
            let begun = SqliteStore::open(&path).unwrap();
            append(&begun, "r-0", &Fence::of_nothing(&Holder::this()), "before").unwrap();
            drop(begun);
            let child = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"])
                .arg(format!("inject={call}:error={error}:when={when}"))
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "child_that_appends", "--nocapture"])
                .env(CHILD, &path)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout).into_owned();
            let case = format!("{call} {error} at {when}");
            assert!(child.status.success(), "{case}: {said}{}", String::from_utf8_lossy(&child.stderr));
            refusals += said.matches("REFUSED").count();
            let chain = SqliteStore::open(&path).unwrap_or_else(|e| panic!("{case}: {e}")).chain().unwrap();
            store::verify(&chain).unwrap();
            for line in said.lines().filter_map(|l| l.strip_prefix("KEPT ")) {
                let (seq, hash) = line.split_once(' ').unwrap();
                let there = chain.iter().any(|r| r.seq.to_string() == seq && r.hash == hash);
                assert!(there, "{case}: record {seq} was said to be kept");
            }
        }
    }
    println!("{refusals} appends were refused");
    assert!(refusals > 10, "the errors hit nothing: {refusals}");
}
