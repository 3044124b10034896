//! `store migrate --to` and `state rebuild` by the program itself, with a real etcd on one side or on both.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster_support;
mod store_support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cluster_support::etcd_binary;
use rackctl::{
    model::{
        facts::{InstallPhase, NodeRecord},
        goal::{Goal, Scope},
    },
    store::{Draft, Fence, Holder, RecordKind, RunRecord, RunState, SqliteStore, Store},
};
use serde_json::json;
use store_support::{Server, append, elsewhere, lock};
use uuid::Uuid;

/// A machine that nothing answers for: the addresses are for documentation (RFC 5737).
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
    fn on(&self, store: &str, words: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_rackctl"))
            .args(["-f", "fleet.yaml", "--store", store])
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
    fn done(&self, store: &str, words: &[&str]) -> String {
        let (code, out, err) = self.on(store, words);
        assert_eq!(code, 0, "{store} {words:?}: {out}{err}");
        out + &err
    }
    fn refused(&self, store: &str, words: &[&str], code: i32, said: &[&str]) {
        let (was, out, err) = self.on(store, words);
        let all = out + &err;
        assert!(was == code && said.iter().all(|part| all.contains(part)), "{store} {words:?}: {was}, {code} {all}");
    }
}

fn node_record() -> NodeRecord {
    NodeRecord {
        generation: 3,
        run: "r-1".into(),
        phase: InstallPhase::Installed,
        system_host_key: String::new(),
        disk_guid: Uuid::from_u128(1),
        disk_serial: None,
        system_sha256: "00".repeat(32),
        at: 9,
        over: None,
    }
}

fn fill(store: &dyn Store) {
    let run = |id: &str| RunRecord {
        id: id.into(),
        started_ms: 1,
        ended_ms: Some(2),
        state: RunState::Succeeded,
        goal: Goal::Join { nodes: Scope(vec!["n1".into()]) },
        plan_hash: "ab12".into(),
        fleet: json!({ "id": "f", "nodes": "n".repeat(700_000) }),
        plan: json!({ "tracks": [] }),
        actor: Holder::this(),
    };
    let fence = lock(store, &["node/n1"], "r-1", &Holder::this()).unwrap();
    for id in ["r-1", "r-2"] {
        store.create_run(&run(id)).unwrap();
        append(store, id, &fence, "a").unwrap();
    }
    store.put_node_record("n1", &node_record()).unwrap();
    store.unlock(&fence).unwrap();
}

/// By etcd's own gateway.
fn delete(port: u16, key: &str) {
    let body = json!({ "key": BASE64_STANDARD.encode(key) }).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "POST /v3/kv/deleterange HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"deleted\":\"1\""), "{answer}");
}

fn draft(step: &str) -> Draft {
    Draft { subject: "n1".into(), step: step.into(), attempt: 1, kind: RecordKind::Waited, body: json!({}) }
}

// fault: F57 harness: E
#[test]
fn a_state_moves_from_a_file_into_etcd_on_and_back_and_only_one_place_goes_on() {
    let Some(binary) = etcd_binary() else { return };
    let (one, two) = (Server::start(&binary), Server::start(&binary));
    let home = Home::new();
    let file = home.path("state/state.db");
    let first = SqliteStore::open(&file).unwrap();
    fill(&first);
    let truth = first.export().unwrap();
    let places = [
        format!("sqlite:{}", file.display()),
        format!("etcd://127.0.0.1:{}/a", one.port),
        format!("etcd://127.0.0.1:{}/b", two.port),
        format!("sqlite:{}", home.path("other/state.db").display()),
    ];
    let migrate = |to: &str| ["store", "migrate", "--to", to].map(str::to_owned);
    home.refused(&places[0], &["store", "migrate", "--to", &places[0]], 2, &["that is where it is"]);
    home.refused(&places[0], &["store", "migrate", "--to", "nfs:/x"], 2, &["sqlite:PATH"]);
    home.refused("sqlite:nowhere.db", &["store", "migrate", "--to", &places[1]], 2, &["no such file"]);
    home.refused(&places[0], &["--read-only", "store", "migrate", "--to", &places[1]], 3, &["--read-only"]);
    // Somebody works with it.
    let fence = lock(&first, &["node/n1"], "r-2", &elsewhere("eve")).unwrap();
    home.refused(&places[0], &["store", "migrate", "--to", &places[1]], 5, &["eve@elsewhere", "node/n1"]);
    first.unlock(&fence).unwrap();
    // Something is there already.
    append(&one.store("used"), "r", &Fence::of_nothing(&Holder::this()), "x").unwrap();
    let used = format!("etcd://127.0.0.1:{}/used", one.port);
    home.refused(&places[0], &["store", "migrate", "--to", &used], 3, &["not empty"]);
    assert_eq!(first.moved().unwrap(), None, "it goes on where it is");
    append(&first, "r-2", &Fence::of_nothing(&Holder::this()), "b").unwrap();
    // Nobody listens there.
    home.refused(&places[0], &["store", "migrate", "--to", "etcd://127.0.0.1:1/x"], 1, &["127.0.0.1:1"]);
    assert_eq!(first.moved().unwrap(), None);

    for (at, pair) in places.windows(2).enumerate() {
        let words = migrate(&pair[1]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = home.done(&pair[0], &words);
        assert!(said.contains(&format!("moved to {}", pair[1])) && said.contains("2 runs"), "{said}");
        for verb in
            [&["runs"][..], &["plan"], &["apply"], &["lock", "list"], &["audit", "verify"], &["state", "rebuild"]]
        {
            home.refused(&pair[0], verb, 3, &[&format!("moved to {}", pair[1]), "--store"]);
        }
        // The same again has nothing to do; another place is refused.
        assert!(home.done(&pair[0], &words).contains("everything is in"));
        home.refused(&pair[0], &["store", "migrate", "--to", "sqlite:third.db"], 3, &["it was moved to"]);
        home.refused(&pair[0], &["store", "migrate", "--undo"], 3, &["has the content"]);
        let chain = home.done(&pair[1], &["audit", "verify"]);
        assert!(chain.contains(&format!("{} records", 4 + at)), "{chain}");
    }
    // One who had it open all the time is refused too.
    let refused = first.append("r-2", 5, &Fence::of_nothing(&Holder::this()), draft("late")).unwrap_err();
    assert!(refused.to_string().contains("moved to etcd://"), "{refused}");
    let last = SqliteStore::open(&home.path("other/state.db")).unwrap();
    let now = last.export().unwrap();
    assert_eq!((&now.runs, &now.contents, &now.nodes), (&truth.runs, &truth.contents, &truth.nodes));
    assert_eq!(now.lineage.id, truth.lineage.id);
    assert_eq!(now.records.iter().filter(|r| r.kind == RecordKind::Imported).count(), 3);
    assert!(now.fences.iter().all(|(name, fence)| truth.fences.get(name).is_none_or(|before| fence >= before)));
}

// fault: F57 F59 harness: E
#[test]
fn a_move_that_is_broken_off_is_done_again_or_taken_back() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let home = Home::new();
    let file = format!("sqlite:{}", home.path("state/state.db").display());
    let first = SqliteStore::open(&home.path("state/state.db")).unwrap();
    fill(&first);
    let target = format!("etcd://127.0.0.1:{}/t", server.port);
    // As a crash right after the closing leaves it.
    first.set_moved(Some(&target)).unwrap();
    home.refused(&file, &["runs"], 3, &["moved to"]);
    assert!(home.done(&file, &["store", "migrate", "--undo"]).contains("open again"));
    home.done(&file, &["runs"]);
    assert!(home.done(&file, &["store", "migrate", "--undo"]).contains("is open"));
    first.set_moved(Some(&target)).unwrap();
    assert!(home.done(&file, &["store", "migrate", "--to", &target]).contains("moved to"));
    home.refused(&file, &["store", "migrate", "--undo"], 3, &["two states of one fleet"]);
    home.done(&file, &["store", "migrate", "--undo", "--force"]);
    home.done(&file, &["runs"]);
    // A place that cannot be asked is not known to be empty.
    first.set_moved(Some("etcd://127.0.0.1:1/x")).unwrap();
    home.refused(&file, &["store", "migrate", "--undo"], 3, &["cannot be asked"]);
}

// fault: F57 invariant: I5 harness: E
#[test]
fn a_state_in_etcd_that_is_damaged_is_rebuilt_and_what_was_there_is_kept() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let home = Home::new();
    let place = format!("etcd://127.0.0.1:{}/r", server.port);
    let store = server.store("r");
    fill(&store);
    let lineage = store.lineage().unwrap();
    assert!(home.done(&place, &["state", "rebuild", "--yes"]).contains("nothing to rebuild"));
    // A record of the journal goes away.
    delete(server.port, "/r/journal/00000000000000000001");
    home.refused(&place, &["audit", "verify"], 1, &["record 1"]);
    let fence = lock(&store, &["node/n1"], "r-9", &elsewhere("eve")).unwrap();
    home.refused(&place, &["state", "rebuild", "--yes"], 5, &["eve@elsewhere"]);
    store.unlock(&fence).unwrap();
    home.refused(&place, &["state", "rebuild"], 6, &["--yes"]);
    let (code, out, err) = home.on(&place, &["state", "rebuild", "--yes"]);
    assert!(code == 7 && out.contains("Unknown") && err.contains("is new"), "{code} {out}{err}");
    let again = server.store("r");
    let (_, record) = again.node_records().unwrap().remove(0);
    assert_eq!((record.phase, record.generation), (InstallPhase::Unknown, 3), "what could be read is a hint");
    assert_eq!(again.cluster_record("core").unwrap().unwrap().token, "", "it may exist, and is not made anew");
    let chain = again.chain().unwrap();
    assert_eq!((chain.len(), chain[0].kind), (1, RecordKind::Rebuilt));
    assert_ne!(again.lineage().unwrap().id, lineage.id, "it is another state");
    let folder = fs::read_dir(home.path(".local/state/rackctl/fleets")).unwrap().next().unwrap().unwrap().path();
    let lost =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().contains("etcd-lost-"));
    let text = fs::read_to_string(lost.unwrap()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.len() > 8 && lines.iter().all(|l| l["key"].is_string() && l["value"].is_string()), "{text}");
    // A fence of the old one opens nothing.
    assert!(append(&store, "r-1", &fence, "late").is_err());
    drop(store);
    assert!(home.done(&place, &["audit", "verify"]).contains("1 records"));
    home.refused(&place, &["plan", "--allow", "data-loss"], 3, &["state rebuild"]);
    // Whole again: what is unknown is looked at once more.
    let (code, _, err) = home.on(&place, &["state", "rebuild", "--yes"]);
    assert!(code == 7 && err.contains("filled in"), "{code} {err}");
    // An empty prefix is no state either.
    let empty = format!("etcd://127.0.0.1:{}/empty", server.port);
    let (code, _, err) = home.on(&empty, &["state", "rebuild", "--yes"]);
    assert!(code == 7 && err.contains("is new"), "{code} {err}");
    // Nobody there is not a loss.
    home.refused("etcd://127.0.0.1:1/x", &["state", "rebuild", "--yes"], 1, &["127.0.0.1:1"]);
}
