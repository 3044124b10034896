//! What the etcd drivers must do, against members of any kind: real processes or simulated ones.
#![allow(dead_code)] // no test uses all of it
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use rackctl::{
    cluster::etcd::{
        change_client::{add_learner, move_leader, promote, remove, wait_synced},
        client::Client,
        error::Kind,
        member::{Seat, bootstrap, joining},
        observe_client::{observe, probe_existing, wait_started},
        observed::may_bootstrap,
        synced::Rule,
        verify_client::{PREFIX, verify_member},
    },
    lab::simulated::etcd::Cloud,
    model::failure::Cause,
};
use rackctl_wire::EtcdMember;
use uuid::Uuid;

use super::cluster_support::{Etcd, free_port};

pub const WAIT: Duration = Duration::from_secs(40);

/// Where members run.
pub enum Members {
    Real { binary: PathBuf, folder: tempfile::TempDir, running: Vec<Etcd> },
    Simulated { cloud: Cloud, started: Vec<EtcdMember> },
}

impl Members {
    pub fn real(binary: PathBuf) -> Members {
        Members::Real { binary, folder: tempfile::tempdir().unwrap(), running: vec![] }
    }

    pub fn simulated() -> Members {
        Members::Simulated { cloud: Cloud::default(), started: vec![] }
    }

    pub fn start(&mut self, member: &EtcdMember) {
        match self {
            Members::Real { binary, folder, running } => running.push(Etcd::start(binary, folder.path(), member)),
            Members::Simulated { cloud, started } => {
                cloud.start(member, listen(member)).unwrap();
                started.push(member.clone());
            }
        }
    }

    pub fn kill(&mut self, name: &str) {
        match self {
            Members::Real { running, .. } => running.iter_mut().find(|e| e.member.name == name).unwrap().kill(),
            Members::Simulated { cloud, .. } => cloud.stop(name),
        }
    }

    pub fn restart(&mut self, name: &str) {
        match self {
            Members::Real { running, .. } => running.iter_mut().find(|e| e.member.name == name).unwrap().restart(),
            Members::Simulated { cloud, started } => {
                cloud.stop(name);
                let member = started.iter().find(|m| m.name == name).unwrap();
                cloud.start(member, listen(member)).unwrap();
            }
        }
    }
}

/// `http://IP:PORT` of loopback.
pub fn listen(member: &EtcdMember) -> std::net::SocketAddr {
    member.listen_client_urls.strip_prefix("http://").unwrap().parse().unwrap()
}

pub fn seat(name: &str) -> Seat {
    Seat {
        cluster: "main".into(),
        name: name.into(),
        generation: 1,
        address: Ipv4Addr::LOCALHOST,
        client_port: free_port(),
        peer_port: free_port(),
    }
}

pub fn client(seat: &Seat) -> Client {
    Client::new(&seat.client_url(), Duration::from_secs(8)).unwrap()
}

pub async fn one_member_grows_to_three_and_every_step_may_be_repeated(mut running: Members) {
    let seats: Vec<Seat> = ["n1", "n2", "n3"].map(seat).into();
    let endpoints: Vec<String> = seats.iter().map(Seat::client_url).collect();

    let before = probe_existing(&endpoints).await.unwrap();
    may_bootstrap("bootstrap", &before).unwrap();
    assert_eq!(observe(&endpoints).await.unwrap_err().cause, Cause::Unreachable);

    running.start(&bootstrap(&seats[0], Uuid::new_v4()));
    let first = wait_started(&[], &endpoints[0], "n1", WAIT, |_| {}).await.unwrap();
    let wrong = wait_started(&[], &endpoints[0], "n9", WAIT, |_| {}).await.unwrap_err();
    assert_eq!(wrong.cause, Cause::Mismatch, "{wrong}");
    let refused = may_bootstrap("bootstrap", &probe_existing(&endpoints).await.unwrap()).unwrap_err();
    assert_eq!(refused.cause, Cause::Guard);
    assert!(refused.why.contains(&first.cluster_id), "{refused}");

    for i in 1..3 {
        let seat = &seats[i];
        let existing = &endpoints[..i];
        let added = add_learner(existing, &seat.name, &seat.peer_url(), WAIT).await.unwrap();
        assert!(!added.found && !added.voter);
        let again = add_learner(existing, &seat.name, &seat.peer_url(), WAIT).await.unwrap();
        assert_eq!((again.id.as_str(), again.found), (added.id.as_str(), true));
        // What etcd itself says to the retried call, if nobody had looked.
        let raw = client(&seats[0]).member_add_learner(&seat.peer_url()).await.unwrap_err();
        assert!(matches!(raw.kind(), Some(Kind::PeerUrlExists | Kind::UnhealthyCluster)), "{raw:?}");
        let early = promote(existing, &added.id, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(early.cause, Cause::Busy, "{early}");

        let facts = observe(existing).await.unwrap();
        let unnamed = facts.members.iter().find(|m| m.id == added.id).unwrap();
        assert!(unnamed.learner && unnamed.name.is_empty() && !unnamed.healthy);
        let config = joining(seat, &facts).unwrap();
        running.start(&config);
        let started = wait_started(existing, &endpoints[i], &seat.name, WAIT, |_| {}).await.unwrap();
        assert_eq!(started.cluster_id, first.cluster_id);
        assert!(started.member.learner);

        let mut looks = 0;
        let rule =
            Rule { stable_for: Duration::from_millis(600), level_for: Duration::from_millis(600), ..Rule::default() };
        let synced = wait_synced(existing, &endpoints[i], &added.id, rule, WAIT, |_| looks += 1).await.unwrap();
        assert!(looks >= 3 && synced.applied_index > 0, "{looks} {synced:?}");
        promote(&endpoints[..=i], &added.id, WAIT).await.unwrap();
        promote(&endpoints[..=i], &added.id, WAIT).await.unwrap();
        let raw = client(&seats[0]).member_promote(u64::from_str_radix(&added.id, 16).unwrap()).await.unwrap_err();
        assert_eq!(raw.kind(), Some(Kind::NotALearner), "{raw:?}");
        let verified = verify_member(&endpoints[0], &endpoints[i]).await.unwrap();
        assert_eq!((verified.cluster_id.as_str(), verified.members.len()), (first.cluster_id.as_str(), i + 1));
        assert_eq!(verified.member_id, added.id);
        assert!(joining(seat, &observe(&endpoints[..=i]).await.unwrap()).is_ok());
    }

    let facts = observe(&endpoints).await.unwrap();
    assert!(facts.members.len() == 3 && facts.members.iter().all(|m| m.healthy && !m.learner), "{facts:?}");
    assert!(facts.members.iter().all(|m| m.version.is_some()) && facts.alarms.is_empty());
    let health = client(&seats[0]).version().await.unwrap();
    assert!(health.etcdserver.starts_with("3."), "{health:?}");
    assert_eq!(proofs_left(&seats[0]).await, 0);

    let other = facts.members.iter().find(|m| Some(&m.id) != facts.leader.as_ref()).unwrap();
    move_leader(&endpoints, &other.id, WAIT).await.unwrap();
    move_leader(&endpoints, &other.id, WAIT).await.unwrap();
    assert_eq!(observe(&endpoints).await.unwrap().leader.as_ref(), Some(&other.id));

    let victim = facts.members.iter().find(|m| m.id != other.id).unwrap();
    let position = seats.iter().position(|s| s.name == victim.name).unwrap();
    let rest: Vec<String> =
        endpoints.iter().enumerate().filter(|(i, _)| *i != position).map(|(_, e)| e.clone()).collect();
    remove(&rest, &victim.id, WAIT).await.unwrap();
    remove(&rest, &victim.id, WAIT).await.unwrap();
    assert_eq!(observe(&rest).await.unwrap().members.len(), 2);
    drop(running);
}

/// Keys under the prefix of the proofs: up to the prefix with its last byte raised.
async fn proofs_left(seat: &Seat) -> u64 {
    let mut end = PREFIX.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    client(seat).count(PREFIX.as_bytes(), &end).await.unwrap()
}

pub async fn two_bootstraps_are_seen_and_named(mut running: Members) {
    let seats = [seat("n1"), seat("n2")];
    seats.iter().for_each(|s| running.start(&bootstrap(s, Uuid::new_v4())));
    let mut ids = Vec::new();
    for s in &seats {
        ids.push(wait_started(&[], &s.client_url(), &s.name, WAIT, |_| {}).await.unwrap().cluster_id);
    }
    let failure = observe(&seats.each_ref().map(|s| s.client_url())).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Mismatch);
    assert!(ids.iter().all(|id| failure.why.contains(id.as_str())), "{failure}");
    let failure = verify_member(&seats[0].client_url(), &seats[1].client_url()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Mismatch);
    assert!(ids.iter().all(|id| failure.why.contains(id.as_str())), "{failure}");
}

pub async fn without_quorum_the_outcome_is_unknown_and_the_members_are_still_listed(mut running: Members) {
    let seats = [seat("n1"), seat("n2")];
    let token = Uuid::new_v4();
    let initial = seats.each_ref().map(|s| format!("{}={}", s.name, s.peer_url())).join(",");
    for s in &seats {
        running.start(&EtcdMember { initial_cluster: initial.clone(), ..bootstrap(s, token) });
    }
    for s in &seats {
        wait_started(&[], &s.client_url(), &s.name, WAIT, |_| {}).await.unwrap();
    }
    client(&seats[0]).put(b"k", b"v").await.unwrap();
    running.kill("n2");

    let one = [seats[0].client_url()];
    // The leader may have been either; without the other one there soon is none.
    let mut facts = observe(&one).await.unwrap();
    for _ in 0..50 {
        if facts.leader.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        facts = observe(&one).await.unwrap();
    }
    assert_eq!((facts.leader.as_deref(), facts.members.len()), (None, 2));
    assert!(facts.members.iter().all(|m| !m.healthy), "{facts:?}");
    let fault = client(&seats[0]).put(b"k", b"w").await.unwrap_err();
    assert!(fault.is_unknown(), "{fault:?}");
    assert!(matches!(fault.failure("put").cause, Cause::Deadline | Cause::Unreachable));
    assert_eq!(client(&seats[0]).range(b"k", true).await.unwrap().kvs[0].value, b"v");
    let add = add_learner(&one, "n3", "http://127.0.0.1:1", Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(add.cause, Cause::Deadline | Cause::Unreachable), "{add:?}");

    running.restart("n2");
    wait_started(&[], &seats[1].client_url(), "n2", WAIT, |_| {}).await.unwrap();
    let added = add_learner(&one, "n3", "http://127.0.0.1:1", WAIT).await.unwrap();
    // A learner that never starts is waited for until the deadline, cannot be promoted, and can be removed.
    let both = [one[0].clone(), seats[1].client_url()];
    let never = format!("http://127.0.0.1:{}", free_port());
    let waited = wait_synced(&both, &never, &added.id, Rule::default(), Duration::from_secs(1), |_| {}).await;
    let failure = waited.unwrap_err();
    assert_eq!(failure.cause, Cause::Deadline);
    assert!(failure.why.contains("connection refused"), "{failure}");
    assert_eq!(promote(&both, &added.id, Duration::from_secs(1)).await.unwrap_err().cause, Cause::Busy);
    remove(&one, &added.id, WAIT).await.unwrap();
}

pub async fn compare_and_create_has_one_winner(mut running: Members) {
    let seat = seat("n1");
    running.start(&bootstrap(&seat, Uuid::new_v4()));
    wait_started(&[], &seat.client_url(), "n1", WAIT, |_| {}).await.unwrap();
    let c = client(&seat);
    assert!(c.create(b"ticket", b"first", 0).await.unwrap().succeeded);
    let second = c.create(b"ticket", b"second", 0).await.unwrap();
    assert!(!second.succeeded);
    assert_eq!(second.responses[0].response_range.as_ref().unwrap().kvs[0].value, b"first");
    c.delete(b"ticket").await.unwrap();
    assert!(c.range(b"ticket", false).await.unwrap().kvs.is_empty());
}
