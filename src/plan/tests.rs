mod baseline;

use std::collections::BTreeMap;

use rackctl_wire::{NodeConfig, NodeStatus, PROTOCOL};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::model::{
    Failure,
    facts::{BmcFacts, ClusterFacts, DriveFacts, InstallPhase, MemberFacts, NodeFacts, NodeRecord, Observed},
    failure::Cause,
    fleet::{Cluster, Management, Node},
    goal::Scope,
    power::PowerState,
    rollout::Rollout,
};

const GUID: Uuid = uuid::uuid!("aaaaaaaa-0000-0000-0000-000000000001");

fn node(name: &str) -> Node {
    serde_json::from_value(json!({
        "name": name, "labels": {}, "site": null, "hardwareClass": null, "profile": null, "lifecycle": "active",
        "management": "full", "protect": false,
        "identity": {"serial": format!("S-{name}"), "uuid": "11111111-2222-3333-4444-555555555555", "serialFrom": "serialNumber"},
        "bmc": null,
        "interfaces": [{"name": null, "mac": "52:54:00:00:00:01", "network": "prov", "role": "provision", "addresses": ["10.0.0.11/24"]}],
        "disks": {"root": {"serial": format!("D-{name}"), "wwn": null, "model": null, "minSizeBytes": null, "maxSizeBytes": null, "useFor": "root"}},
        "location": {}, "arch": "amd64", "bootMode": "uefi", "bootMethod": "pxe", "console": null, "minimum": {},
        "image": "img", "kernelParams": [], "install": {"image": {"system": "img"}}, "services": [],
        "ssh": {"user": null, "identity": null, "authorizedKeys": []}, "dns": []
    }))
    .unwrap()
}

pub(super) fn fleet(names: &[&str]) -> Fleet {
    let mut fleet = Fleet { id: "f".into(), ..Fleet::default() };
    fleet.networks.insert(
        "prov".into(),
        serde_json::from_value(json!({
            "interface": "br0", "subnets": [{"cidr": "10.0.0.0/24", "gateway": null, "pool": null, "relays": []}],
            "mtu": 1500, "dhcp": "authoritative", "leaseS": 600, "httpPort": 8080, "apiPort": 8443
        }))
        .unwrap(),
    );
    for name in names {
        fleet.nodes.insert((*name).into(), node(name));
    }
    fleet.clusters.insert(
        "core".into(),
        Cluster {
            name: "core".into(),
            driver: ClusterDriver::Etcd { version: "3.4.23".into(), client_port: 2379, peer_port: 2380 },
            members: names.iter().map(|n| (*n).into()).collect(),
            size: 3,
            spares: vec![],
            depends_on: vec![],
            rollout: Rollout::default(),
        },
    );
    fleet
}

pub(super) fn bmc(name: &str) -> NodeFacts {
    NodeFacts {
        bmc: Some(Observed {
            at: 1,
            value: Ok(BmcFacts {
                endpoint: "https://b".into(),
                manufacturer: None,
                model: None,
                serial: Some(format!("S-{name}")),
                sku: None,
                uuid: None,
                power: PowerState::Off,
                boot: None,
                boot_targets: vec![],
                drives: vec![DriveFacts {
                    name: "d".into(),
                    serial: Some(format!("D-{name}")),
                    wwn: None,
                    model: None,
                    size_bytes: None,
                }],
                macs: vec![],
                cores: None,
                memory_bytes: None,
                bios_version: None,
                bmc_version: None,
                unread: vec![],
            }),
        }),
        ..NodeFacts::default()
    }
}

pub(super) fn installed(name: &str) -> NodeFacts {
    let config = NodeConfig {
        protocol: PROTOCOL,
        node: name.into(),
        fleet: "f".into(),
        run: "r".into(),
        generation: 1,
        hostname: name.into(),
        interfaces: vec![],
        authorized_keys: vec![],
        dns: vec![],
    };
    NodeFacts {
        record: Some(record(InstallPhase::Installed)),
        system: Some(Observed {
            at: 1,
            value: Ok(NodeStatus {
                protocol: PROTOCOL,
                config,
                boot_id: "b".into(),
                uptime_ms: 1,
                slot: "a".into(),
                root_disk_guid: GUID,
                root_disk_serial: None,
                system_sha256: "s".into(),
                machine: rackctl_wire::MachineIds::default(),
                unix_ms: None,
                etcd: None,
            }),
        }),
        ..bmc(name)
    }
}

fn record(phase: InstallPhase) -> NodeRecord {
    NodeRecord {
        generation: 1,
        run: "r".into(),
        phase,
        system_host_key: "ssh-ed25519 A".into(),
        disk_guid: GUID,
        disk_serial: Some("D".into()),
        system_sha256: "s".into(),
        at: 1,
        over: None,
    }
}

fn facts(all: Vec<(&str, NodeFacts)>) -> Facts {
    Facts { nodes: all.into_iter().map(|(n, f)| (n.into(), f)).collect(), ..Facts::default() }
}

fn make(fleet: &Fleet, facts: &Facts, allow: Ceiling, made: bool) -> Plan {
    let artifacts = Artifacts {
        kernel_sha256: "k".into(),
        initrd_sha256: "i".into(),
        stage2_sha256: "2".into(),
        system_sha256: "s".into(),
    };
    let artifacts = BTreeMap::from([("img".to_owned(), artifacts)]);
    let generations = if made { BTreeMap::from([("core".to_owned(), 1)]) } else { BTreeMap::new() };
    let goal = Goal::Apply { nodes: Scope(fleet.nodes.keys().cloned().collect()), allow };
    plan(fleet, facts, &goal, &Known { artifacts: &artifacts, cluster_generations: &generations })
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps().map(|s| s.id.clone()).collect()
}

fn refusal(plan: &Plan, name: &str) -> Refusal {
    plan.refusals.iter().find(|r| r.subject.name() == name).cloned().unwrap()
}

#[test]
fn bare_machines_become_a_cluster_one_member_at_a_time() {
    let fleet = fleet(&["n1", "n2"]);
    let plan = make(&fleet, &facts(vec![("n1", bmc("n1")), ("n2", bmc("n2"))]), Ceiling::DataLoss, false);
    assert_eq!(plan.refusals, []);
    insta::assert_snapshot!(words(&plan).join("\n"));
    let learner = plan.steps().find(|s| s.id == "cluster/core/add-learner-n2").unwrap();
    assert_eq!(learner.awaits, ["n2/await-installed"]);
    assert_eq!(plan.count(Danger::DataLoss), 2);
    assert_eq!(plan.locks(), ["cluster/core", "network/prov", "node/n1", "node/n2"]);
}

// fault: F48 invariant: I4 harness: D
#[test]
fn what_is_done_needs_no_step() {
    let fleet = fleet(&["n1"]);
    let mut facts = facts(vec![("n1", installed("n1"))]);
    let member = MemberFacts {
        id: "1".into(),
        name: "n1".into(),
        peer_urls: vec![],
        client_urls: vec![],
        learner: false,
        healthy: true,
        version: None,
        raft_index: None,
    };
    let cluster = ClusterFacts { cluster_id: "c".into(), members: vec![member], leader: None, alarms: vec![] };
    facts.clusters.insert("core".into(), Observed { at: 1, value: Ok(cluster.clone()) });
    let plan = make(&fleet, &facts, Ceiling::Reversible, true);
    assert!(plan.is_empty() && plan.refusals.is_empty(), "{plan:?}");
    let alarmed = ClusterFacts { alarms: vec!["NOSPACE".into()], ..cluster };
    facts.clusters.insert("core".into(), Observed { at: 1, value: Ok(alarmed) });
    assert_eq!(refusal(&make(&fleet, &facts, Ceiling::Reversible, true), "core").kind, "alarm");
}

// fault: F42 invariant: I7 harness: D
#[test]
fn the_entry_of_a_machine_that_was_installed_anew_is_removed_before_it_joins_again() {
    let fleet = fleet(&["n1", "n2", "n3"]);
    let mut all = vec![("n1", installed("n1")), ("n2", installed("n2")), ("n3", installed("n3"))];
    let member = |name: &str, healthy: bool| MemberFacts {
        id: format!("id-{name}"),
        name: name.into(),
        peer_urls: vec![],
        client_urls: vec![],
        learner: false,
        healthy,
        version: None,
        raft_index: None,
    };
    let members = vec![member("n1", true), member("n2", true), member("n3", false)];
    let seen = ClusterFacts { cluster_id: "c".into(), members, leader: Some("id-n1".into()), alarms: vec![] };
    let plan_of = |all: &[(&str, NodeFacts)]| {
        let mut facts = facts(all.to_vec());
        facts.clusters.insert("core".into(), Observed { at: 1, value: Ok(seen.clone()) });
        make(&fleet, &facts, Ceiling::Reversible, true)
    };
    let steps = words(&plan_of(&all));
    assert_eq!(
        steps,
        ["remove-member", "add-learner", "start-member", "await-synced", "promote", "verify-member"]
            .map(|w| format!("cluster/core/{w}-n3"))
    );
    // It was told to run a member: what it has may come back, so nothing is taken out by itself.
    let Some(Ok(status)) = all[2].1.system.as_mut().map(|o| o.value.as_mut()) else { unreachable!() };
    status.etcd = Some(rackctl_wire::EtcdStatus {
        configured: rackctl_wire::EtcdMember {
            protocol: PROTOCOL,
            generation: 1,
            cluster: "core".into(),
            name: "n3".into(),
            initial_cluster_state: "existing".into(),
            initial_cluster: String::new(),
            initial_cluster_token: "t".into(),
            listen_client_urls: String::new(),
            advertise_client_urls: String::new(),
            listen_peer_urls: String::new(),
            initial_advertise_peer_urls: String::new(),
        },
        running: false,
        starts: 1,
        has_data: true,
        last_exit: None,
        log_tail: vec![],
    });
    assert_eq!(refusal(&plan_of(&all), "core").kind, "unhealthyMember");
    // Nobody answers there: nothing is proven.
    all[2].1.system = None;
    let plan = plan_of(&all);
    assert!(!words(&plan).iter().any(|w| w.contains("remove-member")), "{:?}", words(&plan));
}

// invariant: I5 I12 harness: D
#[test]
fn nothing_is_wiped_without_the_ceiling() {
    let fleet = fleet(&["n1"]);
    for allow in [Ceiling::Reversible, Ceiling::Reboot] {
        let plan = make(&fleet, &facts(vec![("n1", bmc("n1"))]), allow, false);
        assert_eq!(refusal(&plan, "n1").kind, "ceiling");
        assert!(plan.is_empty());
    }
}

// fault: F31 F55 invariant: I5 harness: D
#[test]
fn refusals_name_both_values_and_leave_the_others_alone() {
    let mut fleet = fleet(&["n1", "n2", "n3", "n4", "n5", "n6"]);
    fleet.nodes.get_mut("n1").unwrap().protect = true;
    fleet.nodes.get_mut("n2").unwrap().management = Management::Observe;
    let wrong = NodeFacts { identity_mismatches: vec!["serial: X, not S-n3".into()], ..bmc("n3") };
    let mut other_disk = bmc("n4");
    if let Some(Observed { value: Ok(facts), .. }) = &mut other_disk.bmc {
        facts.drives[0].serial = Some("D-other".into());
    }
    let silent = NodeFacts {
        bmc: Some(Observed { at: 1, value: Err(Failure::new(Cause::Unreachable, "w", "no answer")) }),
        ..NodeFacts::default()
    };
    let facts = facts(vec![
        ("n1", bmc("n1")),
        ("n2", bmc("n2")),
        ("n3", wrong),
        ("n4", other_disk),
        ("n5", silent),
        ("n6", bmc("n6")),
    ]);
    let plan = make(&fleet, &facts, Ceiling::DataLoss, false);
    let kinds: Vec<String> = ["n1", "n2", "n3", "n4", "n5"].map(|n| refusal(&plan, n).kind).to_vec();
    assert_eq!(kinds, ["protected", "management", "identityMismatch", "diskMismatch", "unreachable"]);
    assert!(refusal(&plan, "n3").why.contains("X, not S-n3"));
    assert!(refusal(&plan, "n4").why.contains("D-n4") && refusal(&plan, "n4").why.contains("D-other"));
    assert!(words(&plan).contains(&"n6/write-disk".to_owned()));
}

// fault: F38 invariant: I5 harness: D
#[test]
fn an_installed_machine_that_is_silent_is_waited_for_and_never_installed() {
    let fleet = fleet(&["n1"]);
    let silent = NodeFacts { record: Some(record(InstallPhase::Installed)), ..bmc("n1") };
    let plan = make(&fleet, &facts(vec![("n1", silent)]), Ceiling::DataLoss, true);
    let expected = ["n1/power-on", "n1/await-installed", "cluster/core/verify-member-n1"];
    assert_eq!(words(&plan), expected, "and its cluster is not made a second time");
    assert_eq!(plan.steps().last().unwrap().awaits, ["n1/await-installed"]);
}

// fault: F38 invariant: I4 harness: D
#[test]
fn who_is_new_joins_in_the_run_that_brings_a_silent_cluster_back() {
    let fleet = fleet(&["n1", "n2", "n3"]);
    let off = NodeFacts { record: Some(record(InstallPhase::Installed)), ..bmc("n1") };
    let mut empty = installed("n3");
    if let Some(Observed { value: Ok(status), .. }) = &mut empty.system {
        status.etcd = None;
    }
    let seen = facts(vec![("n1", off), ("n2", bmc("n2")), ("n3", empty)]);
    let plan = make(&fleet, &seen, Ceiling::DataLoss, true);
    let all = words(&plan);
    let at = |word: &str| all.iter().position(|w| w == word).unwrap_or_else(|| panic!("no {word} in {all:?}"));
    assert!(at("cluster/core/verify-member-n1") < at("cluster/core/add-learner-n2"), "first it serves again");
    assert!(at("cluster/core/remove-member-n3") < at("cluster/core/add-learner-n3"), "it may be in the list");
    assert!(!all.contains(&"cluster/core/remove-member-n2".to_owned()), "it never was installed");
    assert_eq!(plan.pools["core"].rollout.max_unavailable, 1, "how many voters there are is not known");
}

// fault: F37 invariant: I3 harness: D
#[test]
fn a_machine_that_may_have_come_up_with_what_it_had_counts_as_serving() {
    let fleet = fleet(&["n1"]);
    let over = crate::model::facts::Overwritten { disk_guid: uuid::Uuid::nil(), installed: true };
    let of = |over, power| {
        let mut seen = NodeFacts { record: Some(NodeRecord { over, ..record(InstallPhase::Installing) }), ..bmc("n1") };
        if let Some(Observed { value: Ok(facts), .. }) = &mut seen.bmc {
            facts.power = power;
        }
        let plan = make(&fleet, &facts(vec![("n1", seen)]), Ceiling::DataLoss, true);
        plan.tracks.iter().find(|t| t.subject.name() == "n1").map(|t| t.disrupts)
    };
    assert_eq!(of(Some(over), PowerState::On), Some(true));
    assert_eq!(of(Some(over), PowerState::Off), Some(true), "it may be on again before it has its turn");
    assert_eq!(of(None, PowerState::On), Some(false), "its disk was blank");
}

// invariant: I3 harness: D
#[test]
fn a_silent_member_counts_as_long_as_its_cluster_lists_it() {
    let fleet = fleet(&["n1"]);
    let of = |listed: Option<&[(&str, bool)]>, made: bool| {
        let silent = NodeFacts { record: Some(record(InstallPhase::Installed)), ..bmc("n1") };
        let mut seen = facts(vec![("n1", silent)]);
        if let Some(listed) = listed {
            let member = |(name, learner): &(&str, bool)| MemberFacts {
                id: format!("id-{name}"),
                name: (*name).into(),
                peer_urls: vec![],
                client_urls: vec![],
                learner: *learner,
                healthy: false,
                version: None,
                raft_index: None,
            };
            let members = listed.iter().map(member).collect();
            let cluster = ClusterFacts { cluster_id: "c".into(), members, leader: None, alarms: vec![] };
            seen.clusters.insert("core".into(), Observed { at: 1, value: Ok(cluster) });
        }
        let goal = Goal::Power {
            nodes: Scope(vec!["n1".into()]),
            action: crate::model::power::PowerAction::PowerCycle,
            force: false,
            wait: true,
            lose_quorum: true,
        };
        let generations = if made { BTreeMap::from([("core".to_owned(), 1)]) } else { BTreeMap::new() };
        let plan =
            plan(&fleet, &seen, &goal, &Known { artifacts: &BTreeMap::new(), cluster_generations: &generations });
        plan.tracks[0].disrupts
    };
    assert!(of(Some(&[("n1", false)]), true));
    assert!(!of(Some(&[("n2", false)]), true), "nobody misses it");
    assert!(!of(Some(&[("n1", true)]), true), "nor a learner");
    assert!(of(None, true), "its cluster is silent, and may count on it");
    assert!(!of(None, false), "there is none yet");
}

// fault: F21 harness: D
#[test]
fn somebody_elses_dhcp_server_is_a_refusal() {
    let fleet = fleet(&["n1"]);
    let mut facts = facts(vec![("n1", bmc("n1"))]);
    facts.rogue_dhcp.insert("prov".into(), vec!["10.0.0.9".parse().unwrap()]);
    let refusal = refusal(&make(&fleet, &facts, Ceiling::DataLoss, false), "n1");
    assert_eq!(refusal.kind, "rogueDhcp");
    assert!(refusal.why.contains("10.0.0.9"));
}

// fault: F56 invariant: I12 harness: D
#[test]
fn the_hash_covers_what_matters_and_nothing_else() {
    let fleet_a = fleet(&["n1"]);
    let seen = facts(vec![("n1", bmc("n1"))]);
    let first = make(&fleet_a, &seen, Ceiling::DataLoss, false);
    let mut on = seen.clone();
    if let Some(Observed { value: Ok(facts), at }) = &mut on.nodes.get_mut("n1").unwrap().bmc {
        facts.power = PowerState::On;
        *at = 99;
    }
    assert_eq!(make(&fleet_a, &on, Ceiling::DataLoss, false).hash(), first.hash(), "neither power nor time");
    let mut other_disk = fleet_a.clone();
    other_disk.nodes.get_mut("n1").unwrap().disks.get_mut("root").unwrap().serial = None;
    assert_ne!(make(&other_disk, &seen, Ceiling::DataLoss, false).hash(), first.hash(), "the disk does");
    let text = serde_json::to_string(&first).unwrap();
    let back: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(back.hash(), first.hash(), "and it survives a file");
}

#[test]
fn a_cluster_is_begun_by_a_member_that_runs_already() {
    let fleet = fleet(&["n1", "n2", "n3"]);
    let facts = facts(vec![("n1", bmc("n1")), ("n2", installed("n2")), ("n3", bmc("n3"))]);
    let plan = make(&fleet, &facts, Ceiling::DataLoss, false);
    let members: Vec<StepId> =
        words(&plan).into_iter().filter(|id| id.contains("bootstrap") || id.contains("add-")).collect();
    let wanted = ["bootstrap-n2", "add-learner-n1", "add-learner-n3"].map(|s| format!("cluster/core/{s}"));
    assert_eq!(members, wanted, "n1 may never come up");
}

#[test]
fn what_a_bmc_is_asked_for_stands_under_the_same_guards() {
    use crate::model::bmc::BmcChange;
    let mut fleet = fleet(&["n1"]);
    fleet.nodes.insert("n2".into(), Node { protect: true, ..node("n2") });
    let mut facts = facts(vec![("n1", installed("n1")), ("n2", bmc("n2"))]);
    facts.nodes.get_mut("n1").unwrap().record = Some(record(InstallPhase::Installed));
    let member = MemberFacts {
        id: "1".into(),
        name: "n1".into(),
        peer_urls: vec![],
        client_urls: vec![],
        learner: false,
        healthy: true,
        version: None,
        raft_index: None,
    };
    let cluster = ClusterFacts { cluster_id: "c".into(), members: vec![member], leader: None, alarms: vec![] };
    facts.clusters.insert("core".into(), Observed { at: 1, value: Ok(cluster) });
    let (nothing, generations) = (BTreeMap::new(), BTreeMap::from([("core".to_owned(), 1)]));
    let known = Known { artifacts: &nothing, cluster_generations: &generations };
    let asked = |change: BmcChange, lose_quorum, installed| {
        let nodes = Scope(vec!["n1".into(), "n2".into()]);
        plan(&fleet, &facts, &Goal::Bmc { nodes, change, lose_quorum, installed }, &known)
    };
    let delete = BmcChange::DeleteVolume { volume: "v".into() };
    let kind = |plan: &Plan| refusal(plan, "n1").kind;

    let media = asked(BmcChange::EjectMedia { slot: None }, false, false);
    assert_eq!(words(&media), ["n1/eject-media"]);
    assert_eq!(refusal(&media, "n2").kind, "protected");
    assert_eq!(kind(&asked(BmcChange::Nmi, false, false)), "quorum");
    assert_eq!(words(&asked(BmcChange::Nmi, true, false)), ["n1/nmi"]);
    assert_eq!(kind(&asked(delete.clone(), true, false)), "installed");
    assert_eq!(kind(&asked(delete.clone(), false, true)), "quorum");
    let lost = asked(delete, true, true);
    assert_eq!((words(&lost), lost.count(Danger::DataLoss)), (vec!["n1/delete-volume".to_owned()], 1));
    // It is written down and read again by whoever resumes it.
    let text = serde_json::to_string(&lost).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), lost);
}
