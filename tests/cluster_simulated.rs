//! The simulated etcd: the drivers cannot tell it from a real one, and the same calls get the same answers.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod cluster_scenarios;
mod cluster_support;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use cluster_scenarios::{Members, listen, seat};
use cluster_support::etcd_binary;
use rackctl::{
    cluster::etcd::member::{Seat, bootstrap},
    lab::simulated::etcd::{Cloud, Timing},
};
use rackctl_wire::EtcdMember;
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn one_member_grows_to_three_and_every_step_may_be_repeated() {
    cluster_scenarios::one_member_grows_to_three_and_every_step_may_be_repeated(Members::simulated()).await;
}

#[tokio::test]
async fn two_bootstraps_are_seen_and_named() {
    cluster_scenarios::two_bootstraps_are_seen_and_named(Members::simulated()).await;
}

#[tokio::test]
async fn without_quorum_the_outcome_is_unknown_and_the_members_are_still_listed() {
    cluster_scenarios::without_quorum_the_outcome_is_unknown_and_the_members_are_still_listed(Members::simulated())
        .await;
}

#[tokio::test]
async fn compare_and_create_has_one_winner() {
    cluster_scenarios::compare_and_create_has_one_winner(Members::simulated()).await;
}

/// Status (0: no connection, 1: no answer) and body.
fn call(at: SocketAddr, path: &str, body: Option<&Value>) -> (u16, Value) {
    let Ok(mut stream) = TcpStream::connect(at) else { return (0, Value::Null) };
    stream.set_read_timeout(Some(Duration::from_secs(12))).unwrap();
    let (method, body) = body.map_or(("GET", String::new()), |b| ("POST", b.to_string()));
    // Version 1.0: the answer comes in one piece and ends with the connection.
    let request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    if stream.write_all(request.as_bytes()).is_err() {
        return (1, Value::Null);
    }
    let mut answer = String::new();
    if stream.read_to_string(&mut answer).is_err() {
        return (1, Value::Null);
    }
    let Some(status) = answer.split(' ').nth(1).and_then(|s| s.parse().ok()) else { return (1, Value::Null) };
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body.trim())))
}

/// Leaves what must be the same in both: not sizes, indexes, terms, and not ids that depend on the clock.
fn comparable(value: &Value, ids: &[u64]) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "dbSize" | "dbSizeInUse" | "raftIndex" | "raftAppliedIndex"))
            .filter(|(name, _)| !matches!(name.as_str(), "raft_term" | "raftTerm"))
            .map(|(name, value)| (name.clone(), comparable(value, ids)))
            .collect(),
        Value::Array(list) => {
            // Members are listed by id, which the clock has a part in.
            let mut list: Vec<Value> = list.iter().map(|v| comparable(v, ids)).collect();
            list.sort_by_key(Value::to_string);
            Value::Array(list)
        }
        Value::String(text) => match text.parse::<u64>() {
            // A known id under its position; a large number is the id of a lease.
            Ok(n) if ids.contains(&n) => json!(format!("id {}", ids.iter().position(|id| *id == n).unwrap())),
            Ok(n) if n > 1 << 40 => json!("large"),
            _ => json!(text),
        },
        other => other.clone(),
    }
}

/// One world of the comparison, and what it has answered so far.
struct Side {
    members: Members,
    at: Vec<SocketAddr>,
    ids: Vec<u64>,
    answers: Vec<(String, u16, Value)>,
}

impl Side {
    fn start(&mut self, member: &EtcdMember) {
        self.members.start(member);
        self.at.push(listen(member));
        self.until(self.at.len() - 1, "/v3/maintenance/status", |status| status["leader"].is_string());
    }

    fn until(&self, member: usize, path: &str, good: impl Fn(&Value) -> bool) {
        let began = Instant::now();
        while !good(&call(self.at[member], path, Some(&json!({}))).1) {
            assert!(began.elapsed() < Duration::from_secs(30), "{path} of member {member}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn post(&mut self, member: usize, path: &str, body: Value) -> Value {
        let (status, answer) = call(self.at[member], path, Some(&body));
        if let Some(id) = answer["member"]["ID"].as_str() {
            self.ids.push(id.parse().unwrap());
        }
        self.answers.push((format!("{member} {path} {body}"), status, comparable(&answer, &self.ids)));
        answer
    }

    fn get(&mut self, member: usize, path: &str) {
        let (status, answer) = call(self.at[member], path, None);
        self.answers.push((format!("{member} {path}"), status, comparable(&answer, &self.ids)));
    }
}

fn story(side: &mut Side, seats: &[Seat]) {
    // "k", "o", "v1"
    let (k, o, v) = ("aw==", "bw==", "djE=");
    let create = |key: &str| {
        json!({
            "compare": [{ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
            "success": [{ "request_put": { "key": key, "value": v } }],
            "failure": [{ "request_range": { "key": key } }],
        })
    };
    let token = Uuid::from_u128(7);
    side.start(&bootstrap(&seats[0], token));
    let first = side.post(0, "/v3/maintenance/status", json!({}));
    side.ids = vec![
        first["header"]["cluster_id"].as_str().unwrap().parse().unwrap(),
        first["header"]["member_id"].as_str().unwrap().parse().unwrap(),
    ];
    side.post(0, "/v3/cluster/member/list", json!({ "linearizable": false }));
    let learner = json!({ "peerURLs": [seats[1].peer_url()], "isLearner": true });
    side.post(0, "/v3/cluster/member/add", learner.clone());
    std::thread::sleep(Duration::from_millis(1_200));
    side.post(0, "/v3/cluster/member/add", learner);
    side.post(0, "/v3/cluster/member/add", json!({ "peerURLs": [seats[2].peer_url()], "isLearner": true }));
    let id = side.ids[2].to_string();
    side.post(0, "/v3/cluster/member/promote", json!({ "ID": id }));
    side.post(0, "/v3/cluster/member/promote", json!({ "ID": "1" }));
    side.post(0, "/v3/cluster/member/remove", json!({ "ID": "1" }));
    let initial = format!("n1={},n2={}", seats[0].peer_url(), seats[1].peer_url());
    side.start(&EtcdMember {
        initial_cluster: initial,
        initial_cluster_state: "existing".into(),
        ..bootstrap(&seats[1], token)
    });
    let named = |list: &Value| list["members"].as_array().is_some_and(|m| m.iter().all(|m| m["name"].is_string()));
    side.until(0, "/v3/cluster/member/list", named);
    for path in ["/v3/maintenance/status", "/v3/cluster/member/list", "/v3/maintenance/alarm"] {
        side.post(1, path, json!({}));
    }
    side.post(1, "/v3/kv/range", json!({ "key": k }));
    side.post(1, "/v3/kv/range", json!({ "key": k, "serializable": true }));
    side.post(1, "/v3/kv/put", json!({ "key": k, "value": v }));
    side.post(1, "/v3/lease/grant", json!({ "TTL": "60" }));
    side.post(1, "/v3/cluster/member/promote", json!({ "ID": id }));
    side.get(1, "/health");
    side.get(1, "/version");
    side.post(0, "/v3/cluster/member/promote", json!({ "ID": id }));
    side.post(0, "/v3/cluster/member/promote", json!({ "ID": id }));
    side.post(0, "/v3/kv/put", json!({ "key": k, "value": v }));
    side.post(0, "/v3/kv/range", json!({ "key": k }));
    side.post(1, "/v3/kv/range", json!({ "key": k }));
    side.post(0, "/v3/kv/range", json!({ "key": "YQ==", "range_end": "eg==", "count_only": true }));
    side.post(0, "/v3/kv/txn", create(k));
    side.post(1, "/v3/kv/txn", create(o));
    side.post(0, "/v3/kv/range", json!({ "key": "YQ==", "range_end": "eg==", "limit": "1" }));
    side.post(0, "/v3/kv/range", json!({ "key": "YQ==", "range_end": "AA==", "keys_only": true }));
    let lease = side.post(0, "/v3/lease/grant", json!({ "TTL": "60" }))["ID"].clone();
    let bound = json!({ "request_put": { "key": "YQ==", "value": v, "lease": lease } });
    side.post(0, "/v3/kv/txn", json!({ "success": [bound] }));
    side.post(1, "/v3/lease/revoke", json!({ "ID": lease }));
    side.post(0, "/v3/lease/revoke", json!({ "ID": lease }));
    side.post(0, "/v3/kv/put", json!({ "key": k, "value": v, "lease": "77" }));
    side.post(0, "/v3/kv/put", json!({ "key": "", "value": v }));
    side.post(0, "/v3/kv/range", json!({ "key": "" }));
    let twice = json!({ "request_put": { "key": k, "value": v } });
    side.post(0, "/v3/kv/txn", json!({ "success": [twice, twice] }));
    side.post(0, "/v3/kv/deleterange", json!({ "key": k }));
    side.post(0, "/v3/kv/deleterange", json!({ "key": k }));
    side.post(0, "/v3/maintenance/alarm", json!({ "action": "GET" }));
    side.post(0, "/v3/maintenance/alarm", json!({ "action": "ACTIVATE", "memberID": "0", "alarm": "NOSPACE" }));
    side.post(0, "/v3/maintenance/alarm", json!({ "action": "GET" }));
    side.get(0, "/health");
    side.get(1, "/health");
    side.post(0, "/v3/kv/put", json!({ "key": k, "value": v }));
    side.post(0, "/v3/maintenance/alarm", json!({ "action": "DEACTIVATE", "memberID": "0", "alarm": "NOSPACE" }));
    side.get(0, "/health");
    side.post(0, "/v3/maintenance/transfer-leadership", json!({ "targetID": "5" }));
    side.post(1, "/v3/maintenance/transfer-leadership", json!({ "targetID": id }));
    side.get(0, "/v3/nothing");
    side.post(0, "/v3/cluster/member/remove", json!({ "ID": side.ids[1].to_string() }));
    side.members.kill("n2");
    side.until(0, "/v3/maintenance/status", |status| status["leader"].is_null());
    side.post(0, "/v3/maintenance/status", json!({}));
    side.post(0, "/v3/cluster/member/list", json!({}));
    side.post(0, "/v3/kv/range", json!({ "key": o, "serializable": true }));
    side.get(0, "/health");
    side.post(0, "/v3/kv/put", json!({ "key": k, "value": v }));
    side.post(0, "/v3/kv/range", json!({ "key": o }));
    side.post(0, "/v3/maintenance/alarm", json!({}));
    side.post(0, "/v3/cluster/member/add", json!({ "peerURLs": [seats[2].peer_url()], "isLearner": true }));
    side.post(0, "/v3/cluster/member/promote", json!({ "ID": id }));
    side.members.restart("n2");
    side.until(0, "/v3/maintenance/status", |status| status["leader"].is_string());
    side.post(0, "/v3/kv/range", json!({ "key": o }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_calls_get_the_same_answers() {
    let Some(binary) = etcd_binary() else { return };
    let seats = ["n1", "n2", "n3"].map(seat);
    // The settle time is etcd's own: what it refuses for that is compared too.
    let cloud = Cloud::new(Timing { settle_ms: 5_000, ..Timing::default() });
    let simulated = Members::Simulated { cloud, started: vec![] };
    let mut sides =
        [Members::real(binary), simulated].map(|members| Side { members, at: vec![], ids: vec![], answers: vec![] });
    // One after the other, on the same ports: the URLs are part of the ids, which must be the same.
    let [real, pretended] = &mut sides;
    tokio::task::block_in_place(|| story(real, &seats));
    for name in ["n1", "n2"] {
        real.members.kill(name);
    }
    tokio::task::block_in_place(|| story(pretended, &seats));
    assert_eq!(real.ids[..2], pretended.ids[..2], "the ids of the cluster and of its first member");
    assert_eq!(real.answers.len(), pretended.answers.len());
    let different: Vec<String> = real
        .answers
        .iter()
        .zip(&pretended.answers)
        .filter(|(a, b)| (a.1, &a.2) != (b.1, &b.2))
        .map(|(a, b)| format!("{}\n  real      {} {}\n  simulated {} {}", a.0, a.1, a.2, b.1, b.2))
        .collect();
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), real.answers.len(), different.join("\n"));
}

#[tokio::test]
async fn a_member_that_may_not_be_there_ends_and_says_why() {
    let cloud = Cloud::default();
    let seats = ["n1", "n2"].map(seat);
    let first = bootstrap(&seats[0], Uuid::from_u128(1));
    cloud.start(&first, listen(&first)).unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let initial = format!("n1={},n2={}", seats[0].peer_url(), seats[1].peer_url());
    let second = EtcdMember {
        initial_cluster: initial,
        initial_cluster_state: "existing".into(),
        ..bootstrap(&seats[1], Uuid::from_u128(1))
    };
    let why = cloud.start(&second, listen(&second)).unwrap_err();
    assert!(why.contains("member count is unequal"), "{why}");
    assert_eq!(cloud.last_exit("n2"), Some(why));
    assert!(std::net::TcpStream::connect(listen(&second)).is_err());

    let add = json!({ "peerURLs": [seats[1].peer_url()], "isLearner": true });
    let at = listen(&first);
    let added = tokio::task::spawn_blocking(move || call(at, "/v3/cluster/member/add", Some(&add))).await.unwrap();
    assert_eq!(added.0, 200, "{added:?}");
    cloud.start(&second, listen(&second)).unwrap();
    assert!(cloud.running("n2") && cloud.has_data("n2", &second.initial_cluster_token));
    tokio::time::sleep(Duration::from_millis(600)).await;
    // Its disk is wiped and it comes back under its old id.
    cloud.wipe("n2");
    assert!(!cloud.running("n2") && !cloud.has_data("n2", &second.initial_cluster_token));
    let why = cloud.start(&second, listen(&second)).unwrap_err();
    assert!(why.contains("is out of range"), "{why}");
    let why = cloud.start(&EtcdMember { initial_cluster_state: "new".into(), ..first }, at).unwrap_err();
    assert!(why.contains("runs already"), "{why}");
}
