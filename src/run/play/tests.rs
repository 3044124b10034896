//! Gates on facts, programs and webhooks on this host.

use std::{collections::BTreeMap, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    gate::{Gate, Soak, verdict},
    *,
};
use crate::{
    engine::play::{Mark, MarkKind},
    model::{
        Failure,
        facts::{ClusterFacts, MemberFacts},
        failure::Cause,
        fleet::{Cluster, ClusterDriver},
        rollout::Rollout,
    },
    store::{Record, RecordKind},
};

fn cluster() -> Cluster {
    Cluster {
        name: "core".into(),
        driver: ClusterDriver::Etcd { version: "3.4.23".into(), client_port: 2379, peer_port: 2380 },
        members: vec!["n1".into(), "n2".into()],
        size: 2,
        spares: vec![],
        depends_on: vec![],
        rollout: Rollout::default(),
    }
}

fn member(name: &str) -> MemberFacts {
    MemberFacts {
        id: format!("id-{name}"),
        name: name.into(),
        peer_urls: vec![],
        client_urls: vec![],
        learner: false,
        healthy: true,
        version: None,
        raft_index: None,
    }
}

fn facts() -> ClusterFacts {
    let members = vec![member("n1"), member("n2")];
    ClusterFacts { cluster_id: "c".into(), members, leader: Some("id-n1".into()), alarms: vec![] }
}

#[test]
fn a_gate_wants_every_member_and_no_alarm() {
    let judged = |change: &dyn Fn(&mut ClusterFacts)| {
        let mut facts = facts();
        change(&mut facts);
        verdict(&cluster(), &Ok(facts))
    };
    assert_eq!(judged(&|_| {}), Ok(()));
    for (change, wanted) in [
        (&(|f: &mut ClusterFacts| f.alarms.push("NOSPACE".into())) as &dyn Fn(&mut ClusterFacts), "alarm NOSPACE"),
        (&|f| f.leader = None, "no leader"),
        (&|f| f.members[1].healthy = false, "n2 is not healthy"),
        (&|f| f.members[1].learner = true, "learner"),
        (&|f| drop(f.members.pop()), "n2 is no member"),
        (&|f| f.members.push(member("")), "never started"),
        (&|f| f.members.push(MemberFacts { healthy: false, ..member("old") }), "old, a member that the inventory"),
    ] {
        let said = judged(change).unwrap_err();
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let lost = Failure::new(Cause::Unreachable, "x", "nobody answers");
    assert_eq!(verdict(&cluster(), &Err(lost)), Err("nobody answers".into()));
}

#[test]
fn health_must_last_without_a_break() {
    let mut soak = Soak::new(1_000, 5_000, 60_000);
    let closed = |gate: Gate| matches!(gate, Gate::Closed { .. });
    assert!(closed(soak.look(2_000, Ok(()))) && closed(soak.look(6_999, Ok(()))));
    assert!(closed(soak.look(7_000 - 1, Err("n2 is not healthy".into()))), "the break");
    assert!(closed(soak.look(8_000, Ok(()))) && closed(soak.look(12_999, Ok(()))), "it begins anew");
    assert_eq!(soak.look(13_000, Ok(())), Gate::Open);
    let mut soak = Soak::new(0, 5_000, 10_000);
    assert_eq!(soak.look(10_000, Err("alarm".into())), Gate::Late { why: "alarm".into() });
    assert_eq!(Soak::new(0, 0, 1).look(0, Ok(())), Gate::Open);
}

fn told(parameters: &BTreeMap<String, String>) -> Told<'_> {
    let (run, step) = ("r-1", "play/01-exec");
    Told { version: Told::VERSION, run, playbook: "p", step, title: "t", attempt: 1, parameters, message: None }
}

async fn program(words: &[&str], seconds: u64) -> Result<Option<String>, Failure> {
    let command: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    let parameters = BTreeMap::from([("machine".to_owned(), "n1".to_owned())]);
    exec::program(&command, &told(&parameters), Duration::from_secs(seconds), |_| {}).await
}

#[tokio::test]
async fn a_program_gets_words_and_json_and_little_else() {
    let said = program(&["cat"], 20).await.unwrap().unwrap();
    let value: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((value["step"].as_str(), value["parameters"]["machine"].as_str()), (Some("play/01-exec"), Some("n1")));
    let said = program(&["/bin/echo", "$HOME; rm -rf /", "`id`"], 20).await.unwrap().unwrap();
    assert_eq!(said, "$HOME; rm -rf / `id`", "no shell");
    let failure = program(&["/bin/sh", "-c", "echo on the way; exit 3"], 20).await.unwrap_err();
    assert!(failure.why.contains("exit code 3") && failure.why.contains("on the way"), "{failure}");
    assert_eq!(program(&["/nonexistent/x"], 20).await.unwrap_err().cause, Cause::Local);
    assert_eq!(program(&["/bin/sleep", "60"], 1).await.unwrap_err().cause, Cause::Deadline);
    let inherited = exec::environment(
        [("PATH", "/bin"), ("AWS_SECRET", "x"), ("LD_PRELOAD", "y")].map(|(k, v)| (k.into(), v.into())),
    );
    assert_eq!(inherited.into_keys().collect::<Vec<_>>(), ["PATH"]);
}

#[tokio::test]
async fn what_a_program_prints_is_kept_without_secrets_and_without_end() {
    let secret = crate::model::Secret::new("hunter2-of-the-playbook".to_owned());
    crate::secrets::remember(&secret);
    let said = program(&["/bin/echo", "the password is hunter2-of-the-playbook"], 20).await.unwrap().unwrap();
    assert!(!said.contains("hunter2"), "{said}");
    let said =
        program(&["/bin/sh", "-c", "printf '\\033[2Jx\\n'; yes abcdefghijklmnopqrstuvwxyz | head -n 5000"], 20).await;
    let said = said.unwrap().unwrap();
    assert!(said.len() <= NOTE_MAX && !said.contains('\u{1b}'), "{}", said.len());
    assert_eq!(tail("aé", 1), "", "cut at a character");
}

/// Answers one request with `status`; gives back what it was sent.
async fn hook(status: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&got).contains("}}") {
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0);
            got.extend_from_slice(&buffer[..n]);
            if String::from_utf8_lossy(&got).ends_with('}') {
                break;
            }
        }
        let answer = format!("HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&got).into_owned()
    });
    (url, task)
}

#[tokio::test]
async fn a_webhook_gets_one_post() {
    let parameters = BTreeMap::new();
    let said = Told { message: Some("it \"failed\""), ..told(&parameters) };
    let (url, task) = hook("204 No Content").await;
    notify_client::post(&url, None, &said).await.unwrap();
    let got = task.await.unwrap();
    assert!(got.starts_with("POST /x HTTP/1.1") && got.contains(r#""message":"it \"failed\"""#), "{got}");
    for status in ["500 Oh", "302 Found"] {
        let (url, _task) = hook(status).await;
        assert_eq!(notify_client::post(&url, None, &said).await.unwrap_err().cause, Cause::Refused, "{status}");
    }
    let nobody = notify_client::post("http://127.0.0.1:1/x", None, &said).await.unwrap_err();
    assert_eq!(nobody.cause, Cause::Unreachable, "{nobody}");
}

#[test]
fn marks_come_back_from_the_journal() {
    let failure = Failure::new(Cause::Refused, "a", "b").next("c");
    let kinds = [
        MarkKind::Intent,
        MarkKind::Done { note: Some("one\nlast".into()) },
        MarkKind::Again { failure: failure.clone(), not_before_ms: 7 },
        MarkKind::Failed { failure: failure.clone() },
        MarkKind::Skipped { why: "w".into() },
        MarkKind::Parked { failure },
    ];
    let marks: Vec<Mark> =
        kinds.into_iter().map(|kind| Mark { at_ms: 5, step: "play/01-x".into(), attempt: 2, kind }).collect();
    let records: Vec<Record> = marks
        .iter()
        .map(draft)
        .map(|d| Record {
            schema: 2,
            run: "r".into(),
            seq: 1,
            at_ms: 5,
            subject: d.subject,
            step: d.step,
            attempt: d.attempt,
            kind: d.kind,
            fence: 1,
            actor: "a".into(),
            body: d.body,
            previous: String::new(),
            hash: String::new(),
        })
        .collect();
    assert_eq!(super::marks(&records), marks);
    assert_eq!(records[1].body["outcome"], "last");
    assert!(records[3].kind == RecordKind::Failed && records[3].body["failure"]["next"] == "c");
}
