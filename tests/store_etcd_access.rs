//! The store in a real etcd: over TLS, with a password, with values beyond what one request carries; and never inside
//! a cluster of the fleet.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster_support;
mod store_support;

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream},
    path::Path,
    process::Command,
};

use cluster_support::etcd_binary;
use rackctl::{
    inventory::{default_sources, load},
    model::{
        Fleet,
        failure::Cause,
        goal::{Goal, Scope},
    },
    store::{
        self, Draft, EtcdStore, EtcdUrl, Holder, LEASE, RecordKind, RunRecord, RunState, SqliteStore, Store,
        StoreError, clock, etcd::guard,
    },
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use store_support::{Server, append, elsewhere, lock, names, times, url};

fn run_record(id: &str, fleet: serde_json::Value) -> RunRecord {
    RunRecord {
        id: id.into(),
        started_ms: 1,
        ended_ms: None,
        state: RunState::Running,
        goal: Goal::Join { nodes: Scope(names(&["n1"])) },
        plan_hash: "ab12".into(),
        fleet,
        plan: json!({ "tracks": [] }),
        actor: Holder::this(),
    }
}

/// Text that no two pieces share.
fn text(bytes: usize) -> String {
    let mut text: String = (0..bytes / 8).map(|i| format!("{i:08x}")).collect();
    text.truncate(bytes);
    text
}

#[test]
fn fleets_records_and_locks_may_be_larger_than_a_request() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let store = server.store("large");
    // 12 MB: eight times what etcd takes at once.
    let fleet = json!({ "id": "f", "nodes": text(12 << 20) });
    for id in ["r-1", "r-2"] {
        store.create_run(&run_record(id, fleet.clone())).unwrap();
    }
    store.set_run_state("r-1", RunState::Succeeded, Some(2)).unwrap();
    let run = store.run("r-1").unwrap().unwrap();
    assert!(run.fleet == fleet && run.state == RunState::Succeeded);
    assert_eq!(store.runs().unwrap().len(), 2);

    let nodes: Vec<String> = (0..5_000).map(|n| format!("node/rack-{:03}-node-{n:05}", n / 40)).collect();
    let she = elsewhere("eve");
    let fence = store.lock(&nodes, "r-1", &she, &clock::stamp(), LEASE).unwrap();
    assert_eq!((fence.locks.len(), store.locks().unwrap().len()), (5_000, 5_000));
    store.renew(&fence, &clock::stamp()).unwrap();
    let body = json!(text(3 << 20));
    let draft = |body| Draft { subject: "n1".into(), step: "s".into(), attempt: 1, kind: RecordKind::Fact, body };
    let record = store.append("r-1", 5, &fence, draft(body.clone())).unwrap();
    assert_eq!(store.journal("r-1").unwrap(), [record]);
    append(&store, "r-1", &fence, "small").unwrap();

    // A change of hands of five thousand locks is one transaction, too, and each is journaled.
    let stolen = store.steal(&nodes, "r-2", &Holder::this(), &clock::stamp(), LEASE, true, "she is on leave").unwrap();
    assert!(matches!(append(&store, "r-1", &fence, "late"), Err(StoreError::Fenced { .. })));
    assert_eq!(store.journal("r-2").unwrap().len(), 5_000);
    assert_eq!(times(&store, "lock"), 5_000);
    store.unlock(&stolen).unwrap();

    let many: Vec<String> = (0..60_000).map(|n| format!("node/{n:020}")).collect();
    let refused = store.lock(&many, "r-1", &she, &clock::stamp(), LEASE).unwrap_err();
    assert!(refused.to_string().contains("table of locks"), "{refused}");
}

#[test]
fn a_state_moves_to_a_file_and_back() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let store = server.store("there");
    store.create_run(&run_record("r-1", json!({ "nodes": text(2 << 20) }))).unwrap();
    let nodes: Vec<String> = (0..200).map(|n| format!("node/n{n}")).collect();
    let fence = store.lock(&nodes, "r-1", &Holder::this(), &clock::stamp(), LEASE).unwrap();
    for step in ["a", "b", "c"] {
        append(&store, "r-1", &fence, step).unwrap();
    }
    let export = store.export().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteStore::open(&folder.path().join("state.db")).unwrap();
    file.import(&export).unwrap();
    let back = server.store("back");
    back.import(&file.export().unwrap()).unwrap();
    let again = back.export().unwrap();
    assert!(again.records == export.records && again.runs == export.runs && again.fences == export.fences);
    assert!(back.lineage().unwrap().serial > export.lineage.serial);
    assert!(back.locks().unwrap().is_empty(), "locks belong to processes and stay where they are");
}

/// A CA, and what it signed: `NAME.crt` and `NAME.key`.
fn certificates(folder: &Path, ca: &str, signed: &[&str]) {
    let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(folder.join(format!("{ca}.crt")), parameters.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(parameters, key);
    for name in signed {
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let pem = own.signed_by(&key, &issuer).unwrap().pem();
        std::fs::write(folder.join(format!("{name}.crt")), pem).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn over_tls_both_sides_show_who_they_are() {
    let Some(binary) = etcd_binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    certificates(folder.path(), "ca", &["server", "client"]);
    certificates(folder.path(), "other", &["stranger"]);
    let options = [
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={}", at("ca.crt")),
        format!("--cert-file={}", at("server.crt")),
        format!("--key-file={}", at("server.key")),
    ];
    let server = Server::start_with(&binary, "https", &options);
    let open = |ca: &str, who: &str| {
        let (crt, key) = (at(&format!("{who}.crt")), at(&format!("{who}.key")));
        EtcdStore::open(&server.url(&format!("tls?ca={}&cert={crt}&key={key}", at(ca))))
    };
    let store = open("ca.crt", "client").unwrap();
    let fence = lock(&store, &["node/n1"], "r", &Holder::this()).unwrap();
    store.renew(&fence, &clock::stamp()).unwrap();
    append(&store, "r", &fence, "a").unwrap();
    assert_eq!(times(&store, "a"), 1);

    let wrong_server = open("other.crt", "client").err().unwrap().to_string();
    assert!(wrong_server.contains("certificate") || wrong_server.contains("UnknownIssuer"), "{wrong_server}");
    assert!(open("ca.crt", "stranger").is_err(), "a certificate of another CA");
    assert!(EtcdStore::open(&server.url(&format!("tls?ca={}", at("ca.crt")))).is_err(), "no certificate");
    assert!(EtcdStore::open(&server.url("tls")).is_err(), "plain HTTP");
}

/// One call of the gateway, past the code under test.
fn post(port: u16, path: &str, token: Option<&str>, body: &serde_json::Value) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let body = body.to_string();
    let token = token.map(|t| format!("authorization: {t}\r\n")).unwrap_or_default();
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.0\r\nhost: x\r\n{token}content-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{path}: {answer}");
    answer
}

#[test]
fn with_a_password_that_only_a_file_holds() {
    let Some(binary) = etcd_binary() else { return };
    // Tokens live as short as etcd lets them, so that one runs out here.
    let server = Server::start_with(&binary, "http", &["--auth-token-ttl=1".into()]);
    drop(server.store("before-the-lock-down"));
    let call = |path: &str, body: serde_json::Value| post(server.port, path, None, &body);
    call("/v3/auth/user/add", json!({ "name": "root", "password": "hunter2" }));
    call("/v3/auth/role/add", json!({ "name": "root" }));
    call("/v3/auth/user/grant", json!({ "user": "root", "role": "root" }));
    call("/v3/auth/enable", json!({}));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let with = |file: &Path| server.url(&format!("auth?user=root&password-file={}", file.display()));
    let store = EtcdStore::open(&with(&file)).unwrap();
    let fence = lock(&store, &["node/n1"], "r", &Holder::this()).unwrap();
    append(&store, "r", &fence, "a").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(4));
    append(&store, "r", &fence, "after the token ran out").unwrap();
    store.renew(&fence, &clock::stamp()).unwrap();
    assert_eq!(times(&store, "after the token ran out"), 1);

    let nobody = EtcdStore::open(&server.url("auth")).err().unwrap();
    assert!(nobody.to_string().contains("etcd says"), "{nobody}");
    std::fs::write(&file, "wrong\n").unwrap();
    let wrong = EtcdStore::open(&with(&file)).err().unwrap();
    assert!(!format!("{wrong} {wrong:?}").contains("hunter2"));
    assert!(wrong.to_string().contains("authentication failed"), "{wrong}");
    let gone = EtcdStore::open(&with(&folder.path().join("gone"))).err().unwrap();
    assert_eq!(gone.to_failure().cause, Cause::Local, "{gone}");
}

// Not inside a cluster of the fleet.

fn sample() -> Fleet {
    load(&default_sources(Path::new(env!("CARGO_MANIFEST_DIR")))).unwrap_or_else(|e| panic!("{e}")).fleet
}

fn refused(fleet: &Fleet, url: &str, resolved: &[&[&str]]) -> Option<String> {
    let resolved: Vec<Vec<IpAddr>> =
        resolved.iter().map(|all| all.iter().map(|a| a.parse().unwrap()).collect()).collect();
    guard::outside(fleet, &EtcdUrl::parse(url).unwrap(), &resolved).err().map(|failure| failure.why)
}

#[test]
fn a_machine_of_a_cluster_is_no_place_for_the_clusters_state() {
    let fleet = sample();
    // n1 to n3 are the members of `core`, n4 is its spare, w1 is neither.
    for url in ["etcd://10.77.0.11", "etcd://n1", "etcd://n1.site.example", "etcd://192.0.2.1,10.77.0.13:9"] {
        let why = refused(&fleet, url, &[]).unwrap_or_else(|| panic!("{url} was not refused"));
        assert!(why.contains("of cluster core"), "{url}: {why}");
    }
    assert!(refused(&fleet, "etcd://10.77.0.11", &[]).unwrap().contains("a member of it"));
    assert!(refused(&fleet, "etcd://10.77.0.11:9", &[]).unwrap().contains("a machine of it"));
    let behind = refused(&fleet, "etcd://state.example", &[&["192.0.2.1", "10.77.0.12"]]);
    assert!(behind.is_some_and(|why| why.contains("n2")), "by the address behind its name");
    assert!(refused(&fleet, "etcd://n4", &[]).is_some(), "a spare is to become a member");
    for url in ["etcd://w1", "etcd://192.0.2.1", "etcd://n11", "etcd://10.77.0.1"] {
        assert_eq!(refused(&fleet, url, &[&["192.0.2.1"]]), None, "{url}");
    }
}

#[test]
fn the_program_keeps_its_state_where_it_is_told() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let home = tempfile::tempdir().unwrap();
    let sources =
        ["inventory", "profiles", "playbooks"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let rackctl = |url: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rackctl"))
            .args(["get", "nodes", "-o", "json"])
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("RACKCTL_INVENTORY", std::env::join_paths(&sources).unwrap())
            .env("RACKCTL_STORE", url)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let place = url(&[server.port], "program");
    EtcdStore::open(&place).unwrap().put_observed("n1", 7, &json!({ "marker": "seen here" })).unwrap();
    let (code, _, err) = rackctl(&place.to_string());
    assert_eq!((code, err.as_str()), (0, ""));

    let (code, _, err) = rackctl("etcd://10.77.0.11:2379");
    assert!(code != 0 && err.contains("n1 of cluster core"), "{code}: {err}");
    let (code, _, err) = rackctl("etcd://a?insecure=yes");
    assert!(code == 2 && err.contains("`insecure` is none of"), "{code}: {err}");
    let (code, _, err) = rackctl("mysql:here");
    assert!(code == 2 && err.contains("etcd://"), "{code}: {err}");

    // The same etcd, but its id is the one that a record says is the cluster's.
    let store = EtcdStore::open(&place).unwrap();
    let record = store::ClusterRecord {
        generation: 1,
        run: "r".into(),
        bootstrap_member: "n1".into(),
        token: "t".into(),
        cluster_id: Some(store.cluster_id()),
        found: false,
    };
    store.put_cluster_record("core", 0, &record).unwrap();
    let (code, _, err) = rackctl(&place.to_string());
    assert!(code != 0 && err.contains("it is cluster core itself"), "{code}: {err}");
}
