use rackctl_wire::{MachineIds, NodeConfig, PROTOCOL, StageError};
use uuid::Uuid;

use super::*;
use crate::model::facts::InstallPhase;

fn report(stage: Stage, ticket: Option<&str>) -> Report {
    Report {
        protocol: PROTOCOL,
        node: "n1".into(),
        boot_id: "b".into(),
        stage,
        done_bytes: None,
        total_bytes: None,
        disks: (stage >= Stage::Ready).then(Vec::new),
        hardware: None,
        ticket: ticket.map(str::to_owned),
        error: (stage == Stage::Failed).then(|| StageError { stage, kind: "io".into(), message: "m".into() }),
        uptime_ms: 1,
        stage_started_ms: vec![(Stage::Writing, 7)],
    }
}

fn failure() -> Failure {
    Failure::new(Cause::Refused, "n1: installer", "io: m")
}

fn facts(members: &[(&str, bool)]) -> ClusterFacts {
    let members = members
        .iter()
        .map(|(url, learner)| MemberFacts {
            id: "1".into(),
            name: "n".into(),
            peer_urls: vec![(*url).to_owned()],
            client_urls: vec![],
            learner: *learner,
            healthy: true,
            version: None,
            raft_index: None,
        })
        .collect();
    ClusterFacts { cluster_id: "c".into(), members, leader: None, alarms: vec![] }
}

#[test]
fn a_boot_counts_only_with_power_and_another_reset_than_the_intents() {
    use PowerState::{Off, On};
    for (power, now, before, want) in [
        (On, Some("2"), Some("1"), Found::Done),
        (On, Some("2"), None, Found::Done),
        (On, Some("1"), Some("1"), Found::NotDone),
        (On, None, None, Found::NotDone),
        (Off, Some("2"), Some("1"), Found::NotDone),
        (PowerState::PoweringOn, Some("2"), Some("1"), Found::NotDone),
    ] {
        assert_eq!(installer_booted(power, now, before), want, "{power:?} {now:?} {before:?}");
    }
}

#[test]
fn a_write_that_was_begun_is_judged_by_the_installers_own_word() {
    let of = |stage, ticket: Option<&str>| write_begun("n1", "t", Some(&report(stage, ticket)), None);
    assert_eq!(of(Stage::Written, Some("t")), Writing::Written);
    assert_eq!(of(Stage::Written, Some("another")), Writing::UnderWay);
    assert_eq!(of(Stage::Ready, None), Writing::NotBegun);
    assert_eq!(of(Stage::Writing, Some("t")), Writing::UnderWay);
    assert!(matches!(write_begun("n1", "t", None, None), Writing::Ended(Found::Unknown(f)) if f.next.is_some()));
    let failed = write_begun("n1", "t", Some(&report(Stage::Failed, Some("t"))), Some(failure()));
    assert_eq!(failed, Writing::Ended(Found::Contradiction(failure())));
}

#[test]
fn written_means_this_ticket_and_a_failure_comes_first() {
    assert_eq!(written(Some(&report(Stage::Written, Some("t"))), None, "t"), Some(Ok(vec![(Stage::Writing, 7)])));
    assert_eq!(written(Some(&report(Stage::Written, Some("u"))), None, "t"), None);
    assert_eq!(written(Some(&report(Stage::ReadBack, Some("t"))), None, "t"), None);
    assert_eq!(written(None, None, "t"), None);
    assert_eq!(written(Some(&report(Stage::Failed, None)), Some(failure()), "t"), Some(Err(failure())));
    assert_eq!(disks_seen(Some(&report(Stage::Examining, None)), None), None);
    assert_eq!(disks_seen(Some(&report(Stage::Ready, None)), None), Some(Ok(vec![])));
    assert_eq!(disks_seen(Some(&report(Stage::Ready, None)), Some(failure())), Some(Err(failure())));
}

#[test]
fn silence_longer_than_the_limit_is_leaving() {
    let limit = Duration::from_secs(4);
    assert!(!has_left(None, Duration::ZERO, limit), "a process that has just come up has heard nobody yet");
    assert!(has_left(None, Duration::from_secs(5), limit));
    assert!(!has_left(Some(&report(Stage::Written, None)), limit, limit));
    assert!(has_left(Some(&report(Stage::Restarting, None)), Duration::ZERO, limit), "it says so itself");
    assert_eq!((rebooted(Some(&report(Stage::Written, None))), rebooted(None)), (Found::NotDone, Found::Done));
    assert_eq!(rebooted(Some(&report(Stage::Restarting, None))), Found::Done);
    assert_eq!((powered(PowerState::On), powered(PowerState::PoweringOn)), (Found::Done, Found::NotDone));
    assert!(withdrawn("n1", true).is_err() && withdrawn("n1", false).is_ok());
    assert!(cleared("n1", BootOverride::CLEARED, "").is_ok());
}

#[test]
fn an_installed_system_is_held_to_all_four_marks() {
    let record = NodeRecord {
        generation: 2,
        run: "r".into(),
        phase: InstallPhase::Installing,
        system_host_key: String::new(),
        disk_guid: Uuid::from_u128(7),
        disk_serial: None,
        system_sha256: "s".into(),
        at: 0,
        over: None,
    };
    let config = NodeConfig {
        protocol: PROTOCOL,
        node: "n1".into(),
        fleet: "f".into(),
        run: "r".into(),
        generation: 2,
        hostname: "n1".into(),
        interfaces: vec![],
        authorized_keys: vec![],
        dns: vec![],
    };
    let good = NodeStatus {
        protocol: PROTOCOL,
        config,
        boot_id: "b".into(),
        uptime_ms: 1,
        slot: "a".into(),
        root_disk_guid: record.disk_guid,
        root_disk_serial: None,
        system_sha256: "s".into(),
        machine: MachineIds::default(),
        unix_ms: None,
        etcd: None,
    };
    assert_eq!(is_the_installed_one("n1", &record, 2, &good), Ok(()));
    let mut wrong = [good.clone(), good.clone(), good.clone(), good];
    wrong[0].config.node = "n2".into();
    wrong[1].config.generation = 1;
    wrong[2].root_disk_guid = Uuid::nil();
    wrong[3].system_sha256 = "x".into();
    for (status, word) in wrong.iter().zip(["name", "generation", "GUID", "system"]) {
        let why = is_the_installed_one("n1", &record, 2, status).unwrap_err().why;
        assert!(why.contains(word), "{why}");
    }
    assert_eq!(started("c", 2, &wrong[0]), Found::NotDone);
    // Its old entry is there, and nothing that it stood for.
    let seen = facts(&[("u1", false)]);
    assert_eq!(removed("c", "n1", &seen, "u1", &wrong[0]), Found::NotDone);
    assert_eq!(removed("c", "n1", &seen, "u9", &wrong[0]), Found::Done);
    assert!(is_removed("c", "n1", &seen, "u9").is_ok() && is_removed("c", "n1", &seen, "u1").is_err());
}

#[test]
fn membership_is_told_by_peer_url() {
    let seen = facts(&[("u1", false), ("u2", true)]);
    assert_eq!((added(&seen, "u2"), added(&seen, "u3")), (Found::Done, Found::NotDone));
    assert!(is_added("c", "n", &seen, "u2").is_ok() && is_added("c", "n", &seen, "u3").is_err());
    assert_eq!(promoted("c", "n", &seen, "u1"), Found::UnderWay, "verified, not believed");
    assert_eq!(promoted("c", "n", &seen, "u2"), Found::NotDone);
    assert!(matches!(promoted("c", "n", &seen, "u3"), Found::Contradiction(_)));
    assert!(is_promoted("c", "n", &seen, "u1").is_ok() && is_promoted("c", "n", &seen, "u2").is_err());
    assert!(same_cluster("c", "n", "a", Some("a")).is_ok() && same_cluster("c", "n", "a", None).is_ok());
    assert!(same_cluster("c", "n", "a", Some("b")).unwrap_err().why.contains('b'));
}

#[test]
fn a_cluster_that_another_run_made_is_never_made_again() {
    assert!(matches!(bootstrap("c", "n", "r2", Some(("r1", 1)), false), Some(Found::Contradiction(_))));
    assert!(matches!(bootstrap("c", "n", "r2", Some(("r1", 1)), true), Some(Found::Contradiction(_))));
    assert_eq!(bootstrap("c", "n", "r1", None, false), Some(Found::NotDone));
    assert_eq!(bootstrap("c", "n", "r1", Some(("r1", 1)), true), None, "the machine is asked");
    assert_eq!(bootstrap("c", "n", "r1", None, true), None);
}

#[test]
fn a_claim_or_its_refusal_ends_the_wait() {
    assert_eq!(claimed(None, None), None);
    assert_eq!(claimed(None, Some(&failure())), Some(Err(failure())));
}

#[test]
fn a_restart_is_known_by_its_mark_and_never_guessed() {
    use PowerState::{Off, On};
    let look = |action, power, last, resumed, before| power_changed("n1", action, power, last, resumed, before);
    let cycle = PowerAction::PowerCycle;
    assert_eq!(look(cycle, On, Some("t1"), false, None), Found::NotDone);
    assert_eq!(look(cycle, On, Some("t2"), true, Some("t1")), Found::Done);
    assert_eq!(look(cycle, On, Some("t1"), true, Some("t1")), Found::NotDone);
    assert_eq!(look(cycle, Off, None, true, None), Found::NotDone, "half a cycle is finished");
    assert!(matches!(look(cycle, On, None, true, None), Found::Contradiction(f) if f.cause == Cause::NeedsPerson));
    assert_eq!(look(PowerAction::On, On, None, true, None), Found::Done);
    assert_eq!(look(PowerAction::ForceOff, On, None, false, None), Found::NotDone);
}

#[test]
fn the_quorum_guard_waits_for_what_may_pass_and_for_nothing_else() {
    let mut facts = facts(&[("u1", false)]);
    let (none, add) = (std::collections::BTreeSet::new(), Change::AddLearner { peer_url: "u2".into() });
    let world = |facts: &ClusterFacts, since| {
        let seen = quorum::World {
            facts,
            declared: 3,
            synced: &none,
            dead: &none,
            since_restart: since,
            settle: Duration::from_secs(5),
        };
        quorum_allows("c", "n", &seen, &add)
    };
    facts.leader = Some("1".into());
    assert_eq!(world(&facts, None), Found::NotDone);
    assert!(matches!(world(&facts, Some(Duration::from_secs(1))), Found::Held(_)), "it settles");
    facts.alarms = vec!["NOSPACE on member 1".into()];
    assert!(matches!(world(&facts, None), Found::Contradiction(f) if f.why.contains("NOSPACE")));
}

// fault: F50 invariant: I3 harness: S
#[test]
fn what_never_joined_is_not_missed_and_a_voter_that_is_ill_is() {
    let member = |name: &str, learner: bool, healthy: bool| MemberFacts {
        id: name.into(),
        name: name.into(),
        peer_urls: vec![],
        client_urls: vec![],
        learner,
        healthy,
        version: None,
        raft_index: None,
    };
    let members = vec![member("n1", false, true), member("n2", false, false), member("n3", true, false)];
    let facts = ClusterFacts { cluster_id: "c".into(), members, leader: Some("1".into()), alarms: vec![] };
    let nodes = ["n1", "n2", "n3", "n4"].map(str::to_owned);
    let installed: Vec<&String> = vec![&nodes[0], &nodes[2], &nodes[3]];
    assert_eq!(away(&nodes, &installed, Some(&facts)), ["n2"], "also while it is written anew");
    assert_eq!(away(&nodes, &installed, None), ["n1", "n3", "n4"], "a silent cluster can be counted on for nothing");
    // The others took the quorum with them: whoever still answers is what it comes back with.
    let mut headless = ClusterFacts { leader: None, ..facts };
    headless.members[0] = MemberFacts { raft_index: Some(7), ..member("n1", false, false) };
    assert_eq!(away(&nodes, &installed, Some(&headless)), ["n2"]);
}
