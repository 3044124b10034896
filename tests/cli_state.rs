//! What rackctl keeps, by the program itself: audit, locks that are stolen, a store that moves, a state that was lost.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rackctl::{
    model::{
        Stamp,
        facts::{InstallPhase, NodeRecord},
    },
    store::{self, Draft, Fence, Holder, LEASE, RecordKind, SqliteStore, Store},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// Machines that nothing answers for: the addresses are for documentation (RFC 5737).
const INVENTORY: &str = "
apiVersion: rackctl.dev/v1alpha1
kind: Network
metadata: { name: prov }
spec:
  interface: lo
  subnets: [{ cidr: 192.0.2.0/24 }]
---
apiVersion: rackctl.dev/v1alpha1
kind: Cluster
metadata: { name: core }
spec:
  driver: { etcd: { version: 3.4.23 } }
  members: { selector: role=db, size: 1 }
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: { name: n1, labels: { role: db } }
spec:
  identity: { serial: S1 }
  interfaces: [{ mac: '52:54:00:00:00:01', role: provision, network: prov }]
";

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        fs::write(home.path("fleet.yaml"), INVENTORY).unwrap();
        home
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn state(&self) -> PathBuf {
        self.path("state/state.db")
    }
    fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.state()).unwrap()
    }
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        self.on("state/state.db", words)
    }
    fn on(&self, store: &str, words: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_rackctl"))
            .args(["-f", "fleet.yaml", "--store", &format!("sqlite:{store}")])
            .args(words)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.0.path())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }
    fn done(&self, words: &[&str]) -> (String, String) {
        let (code, out, err) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        (out, err)
    }
}

fn append(store: &dyn Store, run: &str, step: &str) -> store::Record {
    let draft = Draft {
        subject: "n1".into(),
        step: step.into(),
        attempt: 1,
        kind: RecordKind::Done,
        body: json!({ "of": step }),
    };
    store.append(run, 5, &Fence::of_nothing(&Holder::this()), draft).unwrap()
}

fn node_record(phase: InstallPhase) -> NodeRecord {
    NodeRecord {
        generation: 1,
        run: "r-1".into(),
        phase,
        system_host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqRpWnkVtfsVvPxR7vPKvxqpjdR0oW6S6Tj1y5wJd8Q".into(),
        disk_guid: Uuid::from_u128(1),
        disk_serial: None,
        system_sha256: "00".repeat(32),
        at: 9,
        over: None,
    }
}

fn ann() -> Holder {
    Holder { user: "ann".into(), host: "east".into(), pid: 7, ..Holder::this() }
}

fn ago(seconds: u64) -> Stamp {
    let now = store::clock::stamp();
    Stamp { unix_ms: now.unix_ms - seconds * 1_000, boot_id: "another".into(), ..now }
}

#[test]
fn audit_proves_store_and_export_and_names_what_was_touched() {
    let home = Home::new();
    let (out, _) = home.done(&["audit", "verify"]);
    assert!(out.contains("0 records"), "{out}");
    let store = home.store();
    let hashes: Vec<String> =
        [("r-1", "a"), ("r-2", "b"), ("r-1", "c")].map(|(run, step)| append(&store, run, step).hash).into();
    drop(store);
    let (out, _) = home.done(&["audit", "verify"]);
    assert_eq!(out, format!("the chain holds: 3 records, head {} (record 3)\n", hashes[2]));
    let (out, _) = home.done(&["audit", "verify", "--head", &hashes[0][..12], "-o", "json"]);
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((value["status"]["records"].as_u64(), value["status"]["head"]["seq"].as_u64()), (Some(3), Some(3)));
    let (code, _, err) = home.run(&["audit", "verify", "--head", "0123456789ab"]);
    assert!(code == 1 && err.contains("0123456789ab"), "{code} {err}");

    home.done(&["audit", "export", "--out", "all.jsonl"]);
    home.done(&["audit", "export", "--run", "r-1", "--out", "one.jsonl"]);
    assert_eq!(home.run(&["audit", "export", "--run", "r-9"]).0, 2);
    let verify = |file: &str| home.run(&["audit", "verify", "--file", file]);
    assert_eq!((verify("all.jsonl").0, verify("one.jsonl").0), (0, 0));
    assert!(verify("one.jsonl").1.contains("2 records"));
    let text = fs::read_to_string(home.path("all.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (name, lines, named) in [
        ("edited", vec![lines[0], lines[1], &lines[2].replace("\"of\":\"b\"", "\"of\":\"x\""), lines[3]], 2),
        ("removed", vec![lines[0], lines[2], lines[3]], 1),
        ("reordered", vec![lines[0], lines[1], lines[3], lines[2]], 2),
        ("cut", lines[..3].to_vec(), 3),
    ] {
        fs::write(home.path("bad.jsonl"), lines.join("\n") + "\n").unwrap();
        let (code, out, err) = verify("bad.jsonl");
        assert!(code == 1 && err.contains(&format!("record {named}")), "{name}: {code} {out}{err}");
    }
    fs::write(home.path("bad.jsonl"), "").unwrap();
    assert_eq!(verify("bad.jsonl").0, 1);
    assert_eq!(verify("nowhere.jsonl").0, 2, "a file that is not there is a fault of the command");

    let touch = |sql: &str| rusqlite::Connection::open(home.state()).unwrap().execute_batch(sql).unwrap();
    touch("UPDATE journal SET body = replace(body, '\"of\":\"b\"', '\"of\":\"x\"') WHERE seq = 2");
    let (code, _, err) = home.run(&["audit", "verify"]);
    assert!(code == 1 && err.contains("record 2"), "{code} {err}");
    touch("UPDATE journal SET body = replace(body, '\"of\":\"x\"', '\"of\":\"b\"') WHERE seq = 2");
    home.done(&["audit", "verify"]);
    touch("DELETE FROM journal WHERE seq = 3");
    let (code, _, err) = home.run(&["audit", "verify"]);
    assert!(code == 1 && err.contains("record 3"), "{code} {err}");
    // Whoever cuts the head too is found out by the witness.
    touch(&format!("UPDATE state SET seq = 2, hash = '{}'", hashes[1]));
    let (code, _, err) = home.run(&["audit", "verify"]);
    assert!(code == 1 && err.contains("lost record is 3"), "{code} {err}");
}

#[test]
fn locks_are_stolen_with_a_reason_and_the_journal_says_so() {
    let home = Home::new();
    let store = home.store();
    let names = ["node/n1".to_owned(), "cluster/core".to_owned()];
    let fence = store.lock(&names, "r-1", &ann(), &store::clock::stamp(), LEASE).unwrap();
    let steal = |more: &[&str]| home.run(&[&["lock", "steal", "--reason", "she is on leave"], more].concat());
    let (code, _, err) = steal(&["node/n1", "--yes"]);
    assert!(code == 5 && err.contains("ann@east (pid 7)") && err.contains("--force"), "{code} {err}");
    let (code, _, err) = steal(&["node/n9", "--yes"]);
    assert!(code == 3 && err.contains("nobody holds"), "{code} {err}");
    let (code, _, err) = steal(&["--run", "r-1", "--force"]);
    assert!(code == 6 && err.contains("--yes"), "{code} {err}");
    assert_eq!(home.run(&["lock", "steal", "node/n1", "--yes"]).0, 2, "a reason is asked for");
    assert_eq!(home.run(&["--read-only", "lock", "steal", "node/n1", "--reason", "x", "--force", "--yes"]).0, 3);
    assert!(store.chain().unwrap().is_empty() && store.locks().unwrap().len() == 2);

    let (code, _, err) = steal(&["node/n1", "--force", "--yes"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(store.locks().unwrap().iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["cluster/core"]);
    let journal = store.journal("r-1").unwrap();
    assert_eq!(journal[0].kind, RecordKind::LockStolen);
    assert_eq!(journal[0].body["reason"], "she is on leave");
    assert_eq!(journal[0].body["from"], "ann@east (pid 7)");
    assert!(store.renew(&fence, &store::clock::stamp()).is_err(), "she is fenced off");
    store.unlock(&fence).unwrap();

    // One whose lease ran out needs no force.
    store.lock(&names, "r-2", &ann(), &ago(600), LEASE).unwrap();
    let (code, out, err) = steal(&["--run", "r-2", "--yes", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("ran out"), "{err}");
    let stolen: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(stolen["items"].as_array().unwrap().len(), 2);
    assert!(store.locks().unwrap().is_empty());
    assert_eq!(store.journal("r-2").unwrap().len(), 2);
    store::verify(&store.chain().unwrap()).unwrap();
}

#[test]
fn a_store_moves_as_a_file() {
    let home = Home::new();
    let store = home.store();
    append(&store, "r-1", "a");
    store.put_node_record("n1", &node_record(InstallPhase::Installed)).unwrap();
    home.done(&["store", "export", "--out", "moved.json"]);
    let (code, _, err) = home.on("other/state.db", &["store", "import", "moved.json"]);
    assert_eq!(code, 0, "{err}");
    let other = SqliteStore::open(&home.path("other/state.db")).unwrap();
    let chain = other.chain().unwrap();
    assert_eq!((chain.len(), chain[1].kind), (2, RecordKind::Imported));
    assert_eq!(chain[0], store.chain().unwrap()[0]);
    assert_eq!(other.node_records().unwrap(), store.node_records().unwrap());
    assert_eq!(other.lineage().unwrap().id, store.lineage().unwrap().id);
    let (code, _, err) = home.on("other/state.db", &["store", "import", "moved.json"]);
    assert!(code == 3 && err.contains("not empty"), "{code} {err}");
    let text = fs::read_to_string(home.path("moved.json")).unwrap();
    fs::write(home.path("cut.json"), &text[..text.len() / 2]).unwrap();
    assert_eq!(home.on("third/state.db", &["store", "import", "cut.json"]).0, 1);
    fs::write(home.path("edited.json"), text.replace("\"of\":\"a\"", "\"of\":\"b\"")).unwrap();
    let (code, _, err) = home.on("third/state.db", &["store", "import", "edited.json"]);
    assert!(code == 3 && err.contains("record 1"), "{code} {err}");
}

#[test]
fn a_state_of_the_first_schema_is_migrated_when_it_is_asked_for() {
    let home = Home::new();
    fs::create_dir(home.path("state")).unwrap();
    let tables =
        ["runs (id, started_ms, body)", "journal (seq, run, body)", "locks (name, body)", "fences (name, fence)"];
    let more = ["nodes (name, body)", "clusters (name, generation, body)", "bmc_sessions (node, body)"];
    let file = rusqlite::Connection::open(home.state()).unwrap();
    for table in tables.iter().chain(&more).chain(&["meta (key, value)", "observed (node, at_ms, body)"]) {
        file.execute_batch(&format!("CREATE TABLE {table}")).unwrap();
    }
    file.execute_batch("INSERT INTO meta VALUES ('schema', '1'); INSERT INTO fences VALUES ('node/n1', 4)").unwrap();
    drop(file);
    let (code, _, err) = home.run(&["runs"]);
    assert!(code == 3 && err.contains("rackctl store migrate"), "{code} {err}");
    let (code, _, err) = home.run(&["audit", "verify"]);
    assert!(code == 3 && err.contains("rackctl store migrate"), "nothing was found out about its chain: {code} {err}");
    let (code, _, err) = home.run(&["state", "rebuild", "--yes"]);
    assert!(code == 3 && err.contains("rackctl store migrate"), "an old state is no lost one: {code} {err}");
    assert!(home.done(&["store", "migrate"]).1.contains("schema 1 became 3"));
    assert!(home.done(&["store", "migrate"]).1.contains("already"));
    home.done(&["runs"]);
    assert!(home.path("state/state.db.v1").exists());
}

/// F57: never "nothing is known, so nothing is installed".
#[test]
fn a_lost_state_stops_every_verb_until_it_is_rebuilt_and_nothing_is_installed_after() {
    let home = Home::new();
    let store = home.store();
    append(&store, "r-1", "a");
    store.put_node_record("n1", &node_record(InstallPhase::Installed)).unwrap();
    drop(store);
    fs::remove_file(home.state()).unwrap();
    for verb in [&["apply", "--allow", "data-loss", "--yes"][..], &["plan"], &["runs"], &["join", "--all"]] {
        let (code, _, err) = home.run(verb);
        assert!(code == 3 && err.contains("rackctl state rebuild"), "{verb:?}: {code} {err}");
    }
    assert!(!home.state().exists());

    // Nothing answers: all is unknown, and says so.
    let (code, out, err) = home.run(&["state", "rebuild", "--dry-run", "-o", "json"]);
    assert_eq!(code, 7, "{out}{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["items"][0]["status"]["record"]["phase"], "unknown");
    assert!(!home.state().exists(), "a dry run records nothing");
    assert_eq!(home.run(&["state", "rebuild"]).0, 6, "it asks");
    assert_eq!(home.run(&["state", "rebuild", "--yes", "--no-cluster", "corr"]).0, 2);
    let (code, out, err) = home.run(&["state", "rebuild", "--yes"]);
    assert!(code == 7 && out.contains("node/n1") && out.contains("Unknown"), "{code} {out}{err}");
    assert!(out.contains("cluster/core") && out.contains("May exist"), "{out}");

    let store = home.store();
    assert_eq!(store.node_records().unwrap()[0].1.phase, InstallPhase::Unknown);
    assert_eq!(store.cluster_record("core").unwrap().unwrap().token, "");
    let chain = store.chain().unwrap();
    assert_eq!((chain.len(), chain[0].kind), (1, RecordKind::Rebuilt));
    drop(store);
    let (code, out, err) = home.run(&["plan", "--allow", "data-loss"]);
    assert!(code == 3 && (out.clone() + &err).contains("state rebuild"), "{code} {out}{err}");
    assert!(!out.contains("write-disk") && !out.contains("bootstrap-"), "{out}");

    // The state is whole now: what is unknown is looked at again, and filled in.
    let (code, _, err) = home.run(&["state", "rebuild", "--yes"]);
    assert!(code == 7 && err.contains("filled in"), "{code} {err}");
    assert_eq!(home.store().chain().unwrap().len(), 2);
    home.store().put_node_record("n1", &node_record(InstallPhase::Installed)).unwrap();
    assert!(home.done(&["state", "rebuild", "--yes"]).1.contains("nothing to rebuild"));
    let (code, _, err) = home.run(&["state", "rebuild", "--yes", "--force", "--no-cluster", "core"]);
    assert_eq!(code, 7, "{err}");
    assert!(home.store().cluster_record("core").unwrap().is_none());
    let kept = fs::read_dir(home.path("state"))
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains(".lost-"));
    assert_eq!(kept.count(), 1, "what was replaced by force is kept");
    assert!(Path::new(&home.path("state/state.db.witness")).exists());
}
