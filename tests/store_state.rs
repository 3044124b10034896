//! A state file that is gone, older, another one or of an older schema is told apart from one that never was.

#![allow(clippy::unwrap_used, clippy::panic)] // A state that is believed, or refused, wrongly fails the test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rackctl::{
    model::{
        Failure,
        facts::{InstallPhase, NodeRecord},
        failure::Cause,
        goal::{Goal, Scope},
    },
    store::{
        self, Draft, Fence, Holder, LEASE, MemoryStore, Record, RecordKind, Replacement, RunRecord, RunState,
        SqliteStore, Store, StoreError,
    },
};
use serde_json::json;
use uuid::Uuid;

fn node_record() -> NodeRecord {
    NodeRecord {
        generation: 1,
        run: "r-1".into(),
        phase: InstallPhase::Installed,
        system_host_key: "ssh-ed25519 AAAA".into(),
        disk_guid: Uuid::from_u128(1),
        disk_serial: None,
        system_sha256: "00".repeat(32),
        at: 9,
        over: None,
    }
}

fn append(store: &dyn Store, step: &str) -> Result<Record, StoreError> {
    let draft =
        Draft { subject: "n1".into(), step: step.into(), attempt: 1, kind: RecordKind::Intent, body: json!({}) };
    store.append("r-1", 5, &Fence::of_nothing(&Holder::this()), draft)
}

/// A state with three records and a node, closed.
fn kept(folder: &Path) -> PathBuf {
    let path = folder.join("state.db");
    let store = SqliteStore::open(&path).unwrap();
    for step in ["a", "b", "c"] {
        append(&store, step).unwrap();
    }
    store.put_node_record("n1", &node_record()).unwrap();
    path
}

fn refused(path: &Path) -> Failure {
    let failure = match SqliteStore::open(path) {
        Ok(_) => panic!("{} was believed", path.display()),
        Err(error) => error.to_failure(),
    };
    assert_eq!(failure.cause, Cause::Guard, "{failure}");
    failure
}

fn rebuild_is_next(path: &Path) -> String {
    let failure = refused(path);
    assert_eq!(failure.next.as_deref(), Some("rackctl state rebuild"), "{failure}");
    failure.why
}

// fault: F57 harness: P
#[test]
fn a_state_that_is_gone_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    drop(SqliteStore::open(&path).unwrap());
    fs::remove_file(&path).unwrap();
    let why = rebuild_is_next(&path);
    assert!(why.contains("it is gone") && why.contains("3 records"), "{why}");
    assert!(!path.exists(), "looking makes no empty state");
    fs::write(&path, "").unwrap();
    assert!(rebuild_is_next(&path).contains("it is empty"));
    fs::write(&path, "this is no database, and long enough to be asked for its header".repeat(9)).unwrap();
    assert!(rebuild_is_next(&path).contains("first bad record is 1"));
}

#[test]
fn a_fresh_state_in_which_nothing_was_kept_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(SqliteStore::open(&path).unwrap());
    fs::remove_file(&path).unwrap();
    append(&SqliteStore::open(&path).unwrap(), "a").unwrap();
    assert_eq!(SqliteStore::open(&path).unwrap().head().unwrap().seq, 1);
}

// fault: F57 harness: P
#[test]
fn an_older_copy_is_noticed_by_records_and_by_other_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    let older = fs::read(&path).unwrap();
    append(&SqliteStore::open(&path).unwrap(), "d").unwrap();
    let newer = fs::read(&path).unwrap();
    fs::write(&path, &older).unwrap();
    let why = rebuild_is_next(&path);
    assert!(why.contains("older copy") && why.contains("the first lost record is 4"), "{why}");
    fs::write(&path, &newer).unwrap();
    SqliteStore::open(&path).unwrap().put_node_record("n2", &node_record()).unwrap();
    fs::write(&path, &newer).unwrap();
    assert!(rebuild_is_next(&path).contains("older copy"), "a node record was lost, no journal record");
}

#[test]
fn another_state_and_one_that_went_another_way_are_noticed() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = kept(folder.path());
    fs::copy(kept(other.path()), &path).unwrap();
    assert!(rebuild_is_next(&path).contains("another state"));

    // A copy was gone on with elsewhere, further than ours, and brought back.
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("state.db");
    fs::copy(&path, &copy).unwrap();
    append(&SqliteStore::open(&path).unwrap(), "ours").unwrap();
    for step in ["theirs", "theirs too", "and this"] {
        append(&SqliteStore::open(&copy).unwrap(), step).unwrap();
    }
    fs::copy(&copy, &path).unwrap();
    assert!(rebuild_is_next(&path).contains("record 4 is not the one"));
}

#[test]
fn a_state_without_its_witness_gets_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    let witness = folder.path().join("state.db.witness");
    fs::remove_file(&witness).unwrap();
    assert_eq!(SqliteStore::open(&path).unwrap().head().unwrap().seq, 3);
    fs::remove_file(&path).unwrap();
    assert!(rebuild_is_next(&path).contains("it is gone"));
    fs::write(&witness, "x").unwrap();
    assert!(refused(&path).why.contains("damaged"));
}

#[test]
fn a_state_that_is_moved_away_while_it_is_open_takes_no_more_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    let store = SqliteStore::open(&path).unwrap();
    append(&store, "d").unwrap();
    fs::rename(&path, folder.path().join("aside")).unwrap();
    match append(&store, "e") {
        Err(error @ StoreError::Unwritten { .. }) => {
            assert!(error.to_failure().why.contains("moved, removed or replaced"), "{error}");
            assert!(error.dump().unwrap().contains("\"step\":\"e\""), "what was to be recorded comes back");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.head().unwrap().seq, 4);
}

#[test]
fn records_removed_at_the_end_are_noticed_even_with_a_witness_that_was_removed_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    rusqlite::Connection::open(&path).unwrap().execute("DELETE FROM journal WHERE seq = 3", []).unwrap();
    fs::remove_file(folder.path().join("state.db.witness")).unwrap();
    let why = rebuild_is_next(&path);
    assert!(why.contains("record 3"), "{why}");
}

// fault: F57 invariant: I5 harness: P
#[test]
fn a_node_record_that_went_away_is_not_nothing_installed() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    rusqlite::Connection::open(&path).unwrap().execute("DELETE FROM shelf WHERE kind = 'node'", []).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let failure = store.node_records().unwrap_err().to_failure();
    assert_eq!((failure.cause, failure.next.as_deref()), (Cause::Guard, Some("rackctl state rebuild")));
    assert!(failure.why.contains("not complete"), "{failure}");

    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    let edit = "UPDATE shelf SET body = replace(body, 'AAAA', 'BBBB') WHERE kind = 'node'";
    rusqlite::Connection::open(&path).unwrap().execute(edit, []).unwrap();
    let failure = SqliteStore::open(&path).unwrap().node_records().unwrap_err().to_failure();
    assert!(failure.why.contains("not what was written"), "{failure}");
}

#[test]
fn a_damaged_index_hides_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    // The index forgets a record that the table has.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, ')', ') WHERE seq <> 2') WHERE name = 'journal_run';")
        .unwrap();
    drop(connection);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("REINDEX journal_run; PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, ' WHERE seq <> 2', '') WHERE name = 'journal_run';").unwrap();
    drop(connection);
    let index_sees: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM journal INDEXED BY journal_run WHERE run = 'r-1'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(index_sees, 2, "the damage is done");
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.journal("r-1").unwrap().len(), 3);
}

#[test]
fn a_replacement_takes_the_place_at_once_and_the_old_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    let old = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "damaged").unwrap();
    refused(&path);

    let begun = Replacement::begin(&path).unwrap();
    append(begun.store(), "half").unwrap();
    drop(begun);
    refused(&path);

    let again = Replacement::begin(&path).unwrap();
    assert_eq!(again.store().head().unwrap().seq, 0, "what a rebuild that did not end left is not taken over");
    append(again.store(), "rebuilt").unwrap();
    let kept_at = again.settle(77).unwrap().unwrap();
    assert_eq!(fs::read(&kept_at).unwrap(), b"damaged");
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.chain().unwrap()[0].step, "rebuilt");
    append(&store, "goes on").unwrap();
    drop(store);
    let mut left: Vec<String> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["state.db", "state.db.lost-77", "state.db.witness"]);
    // The one from before does not come back unnoticed.
    fs::write(&path, old).unwrap();
    assert!(rebuild_is_next(&path).contains("another state"));
}

#[test]
fn what_can_still_be_read_of_a_lost_state_is_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = kept(folder.path());
    assert_eq!(SqliteStore::salvage(&path), [("n1".to_owned(), node_record())]);
    fs::write(&path, "damaged").unwrap();
    assert!(SqliteStore::salvage(&path).is_empty());
    assert!(SqliteStore::salvage(&folder.path().join("nowhere")).is_empty());
}

// From the first schema.

const FIRST_TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE runs (id TEXT PRIMARY KEY, started_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE TABLE journal (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE INDEX journal_run ON journal (run, seq);
    CREATE TABLE locks (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE fences (name TEXT PRIMARY KEY, fence INTEGER NOT NULL) STRICT;
    CREATE TABLE nodes (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE clusters (name TEXT PRIMARY KEY, generation INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE TABLE bmc_sessions (node TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE observed (node TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    INSERT INTO meta VALUES ('schema', '1');
    INSERT INTO fences VALUES ('node/n1', 41);
";

const FIRST_JOURNAL: &str = include_str!("golden/journal-v1.jsonl");

/// A file as the first schema left it: the golden journal, a run, a node, a cluster, a dead process's lock.
fn first_schema(folder: &Path, holder: &Holder) -> PathBuf {
    let path = folder.join("state.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.pragma_update(None, "journal_mode", "WAL").unwrap();
    file.execute_batch(FIRST_TABLES).unwrap();
    let holder = serde_json::to_value(holder).unwrap();
    let put = |table: &str, values: &[&dyn rusqlite::ToSql]| {
        let marks = vec!["?"; values.len()].join(", ");
        file.execute(&format!("INSERT INTO {table} VALUES ({marks})"), values).unwrap();
    };
    for line in FIRST_JOURNAL.lines() {
        let seq = serde_json::from_str::<Record>(line).unwrap().seq as i64;
        put("journal", &[&seq, &"r-1", &line]);
    }
    let run = json!({
        "id": "r-1", "startedMs": 7, "state": "interrupted", "goal": { "goal": "join", "nodes": ["n1"] },
        "planHash": "ab12", "fleet": { "id": "f" }, "plan": {}, "actor": holder,
    });
    put("runs", &[&"r-1", &7, &run.to_string()]);
    let lock = json!({ "name": "node/n1", "run": "r-1", "holder": holder, "fence": 41, "sinceMs": 5 });
    put("locks", &[&"node/n1", &lock.to_string()]);
    put("nodes", &[&"n1", &serde_json::to_string(&node_record()).unwrap()]);
    put(
        "clusters",
        &[&"c", &1, &json!({ "generation": 1, "run": "r-1", "bootstrapMember": "n1", "token": "t" }).to_string()],
    );
    put("observed", &[&"n1", &8, &json!({ "power": "on" }).to_string()]);
    path
}

// fault: F60 invariant: I13 harness: P
#[test]
fn a_file_of_the_first_schema_is_refused_then_migrated_with_its_chain() {
    let folder = tempfile::tempdir().unwrap();
    let dead = Holder { boot_id: "an earlier boot".into(), ..Holder::this() };
    let path = first_schema(folder.path(), &dead);
    let refusal = refused(&path);
    assert_eq!(refusal.next.as_deref(), Some("rackctl store migrate"), "{refusal}");

    let done = SqliteStore::migrate(&path).unwrap().unwrap();
    assert_eq!((done.from, done.to, done.records), (1, 3, 16));
    assert!(done.kept.ends_with("state.db.v1") && done.kept.exists());
    assert_eq!(SqliteStore::migrate(&path).unwrap(), None, "a second time there is nothing to do");

    let store = SqliteStore::open(&path).unwrap();
    let text: String = store.chain().unwrap().iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect();
    assert_eq!(text, FIRST_JOURNAL, "records of the first schema keep their bytes");
    assert_eq!(store.journal("r-1").unwrap().len(), 16);
    assert_eq!(store.run("r-1").unwrap().unwrap().state, RunState::Interrupted);
    assert_eq!(store.node_records().unwrap(), [("n1".to_owned(), node_record())]);
    assert_eq!(store.cluster_record("c").unwrap().unwrap().token, "t");
    assert_eq!(store.observed().unwrap()[0].1, 8);
    assert!(store.locks().unwrap().is_empty());
    let fence = store.lock(&["node/n1".into()], "r-1", &Holder::this(), &store::clock::stamp(), LEASE).unwrap();
    assert_eq!(fence.locks[0].1, 42, "fences go on");
    let draft = Draft { subject: "n1".into(), step: "x".into(), attempt: 1, kind: RecordKind::Waited, body: json!({}) };
    let record = store.append("r-1", 5, &fence, draft).unwrap();
    assert_eq!((record.schema, record.seq), (2, 17));
    store::verify(&store.chain().unwrap()).unwrap();
    // And on into another back end.
    let memory = MemoryStore::new();
    memory.import(&store.export().unwrap()).unwrap();
    assert_eq!(memory.chain().unwrap(), store.chain().unwrap());
}

/// A file as the second schema left it: every run with its fleet, and no table for what is kept once.
fn second_schema(folder: &Path, fleet: &serde_json::Value) -> PathBuf {
    use sha2::{Digest, Sha256};
    let path = kept(folder);
    let store = SqliteStore::open(&path).unwrap();
    let run = |n: u64| RunRecord {
        id: format!("r-{n}"),
        started_ms: n,
        ended_ms: None,
        state: RunState::Succeeded,
        goal: Goal::Join { nodes: Scope(vec!["n1".into()]) },
        plan_hash: "ab12".into(),
        fleet: fleet.clone(),
        plan: json!({ "tracks": [] }),
        actor: Holder::this(),
    };
    (0..20).for_each(|n| store.create_run(&run(n)).unwrap());
    drop(store);
    let file = rusqlite::Connection::open(&path).unwrap();
    let mut total = [0_u8; 16];
    for n in 0..20 {
        let (run, mut hasher) = (run(n), Sha256::new());
        let body = serde_json::to_string(&run).unwrap();
        for part in ["run", &run.id, &body] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let sum: [u8; 16] = hasher.finalize()[..16].try_into().unwrap();
        total.iter_mut().zip(sum).for_each(|(a, b)| *a ^= b);
        let change = "UPDATE shelf SET body = ?2, sum = ?3 WHERE kind = 'run' AND name = ?1";
        assert_eq!(file.execute(change, rusqlite::params![run.id, body, sum]).unwrap(), 1);
    }
    file.execute("UPDATE sums SET sum = ?1 WHERE kind = 'run'", [total]).unwrap();
    file.execute_batch(
        "DROP TABLE content; ALTER TABLE state DROP COLUMN moved; UPDATE meta SET value = '2' WHERE key = 'schema'",
    )
    .unwrap();
    path
}

// fault: F60 invariant: I13 harness: P
#[test]
fn a_file_of_the_second_schema_is_migrated_and_its_fleets_are_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = json!({ "id": "f", "nodes": "n".repeat(200_000) });
    let path = second_schema(folder.path(), &fleet);
    assert_eq!(refused(&path).next.as_deref(), Some("rackctl store migrate"));
    let before = fs::metadata(&path).unwrap().len();
    let done = SqliteStore::migrate(&path).unwrap().unwrap();
    assert_eq!((done.from, done.to, done.records), (2, 3, 3));
    assert!(done.kept.ends_with("state.db.v2") && done.kept.exists());
    assert_eq!(SqliteStore::migrate(&path).unwrap(), None);
    let store = SqliteStore::open(&path).unwrap();
    let runs = store.runs().unwrap();
    assert!(runs.len() == 20 && runs.iter().all(|r| r.fleet == fleet));
    assert_eq!((store.chain().unwrap().len(), store.run_heads().unwrap().len()), (3, 20));
    append(&store, "d").unwrap();
    drop(store);
    let after = fs::metadata(&path).unwrap().len();
    assert!(before > 20 * 200_000 && after < 3 * 200_000, "{before} bytes became {after}");

    // An older copy of it is noticed as before, and a run that was changed or lost stops the migration.
    fs::copy(&done.kept, &path).unwrap();
    fs::remove_file(&done.kept).unwrap();
    SqliteStore::migrate(&path).unwrap().unwrap();
    assert!(rebuild_is_next(&path).contains("older copy"));
    for damage in [
        "UPDATE shelf SET body = replace(body, 'ab12', 'ab13') WHERE name = 'r-3'",
        "DELETE FROM shelf WHERE name = 'r-3'",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = second_schema(folder.path(), &fleet);
        rusqlite::Connection::open(&path).unwrap().execute(damage, []).unwrap();
        let refused = SqliteStore::migrate(&path).unwrap_err().to_failure();
        assert_eq!(refused.cause, Cause::Guard, "{refused}");
        assert!(!folder.path().join("state.db.v2").exists(), "nothing was changed, and nothing is in the way");
    }
}

#[test]
fn a_fleet_that_was_changed_or_is_gone_is_not_believed() {
    for damage in ["UPDATE content SET body = replace(body, '\"f\"', '\"g\"')", "DELETE FROM content"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let store = SqliteStore::open(&path).unwrap();
        let run = RunRecord {
            id: "r-1".into(),
            started_ms: 1,
            ended_ms: None,
            state: RunState::Running,
            goal: Goal::Join { nodes: Scope(vec!["n1".into()]) },
            plan_hash: "ab12".into(),
            fleet: json!({ "id": "f" }),
            plan: json!({ "tracks": [] }),
            actor: Holder::this(),
        };
        store.create_run(&run).unwrap();
        rusqlite::Connection::open(&path).unwrap().execute(damage, []).unwrap();
        let refused = store.run("r-1").unwrap_err().to_failure();
        assert_eq!(
            (refused.cause, refused.next.as_deref()),
            (Cause::Guard, Some("rackctl state rebuild")),
            "{refused}"
        );
        assert!(store.runs().is_err() && store.export().is_err());
        assert_eq!(store.run_heads().unwrap().len(), 1, "lists need no fleet");
        // The next run of the same fleet writes it again: what was damaged is mended by that.
        store.create_run(&RunRecord { id: "r-2".into(), ..run.clone() }).unwrap();
        assert_eq!(store.run("r-1").unwrap().unwrap(), run);
    }
}

#[test]
fn nothing_is_migrated_under_a_run_and_a_broken_chain_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = first_schema(folder.path(), &Holder::this());
    let refused = SqliteStore::migrate(&path).unwrap_err().to_failure();
    assert!(refused.why.contains("node/n1 is held by"), "{refused}");

    let folder = tempfile::tempdir().unwrap();
    let dead = Holder { boot_id: "an earlier boot".into(), ..Holder::this() };
    let path = first_schema(folder.path(), &dead);
    let edit = "UPDATE journal SET body = replace(body, '420 s', '421 s') WHERE seq = 5";
    assert_eq!(rusqlite::Connection::open(&path).unwrap().execute(edit, []).unwrap(), 1);
    let refused = SqliteStore::migrate(&path).unwrap_err().to_failure();
    assert!(refused.why.contains("record 5"), "{refused}");
    let schema: String =
        rusqlite::Connection::open(&path).unwrap().query_row("SELECT value FROM meta", [], |row| row.get(0)).unwrap();
    assert_eq!(schema, "1");
    assert!(SqliteStore::migrate(&folder.path().join("nowhere.db")).is_err());
}
