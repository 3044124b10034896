//! Baselines: what differs, what is done about it in which order, and what is refused.

use super::*;
use crate::{
    model::{
        baseline::{
            Baseline, BaselineFacts, BiosFacts, FirmwareImage, FirmwareItem, ImageAt, StorageFacts, VolumeRule,
        },
        rollout::{Count, RolloutWish},
    },
    plan::baseline::compare,
};

fn wanted() -> Baseline {
    let url = |version: &str, url: &str| FirmwareImage { version: version.into(), at: ImageAt::Url(url.into()) };
    Baseline {
        bios: [("Sriov".to_owned(), "Enabled".to_owned())].into(),
        firmware: [("BIOS".to_owned(), "2.0".to_owned()), ("BMC".to_owned(), "7.1".to_owned())].into(),
        images: [
            ("BIOS".to_owned(), url("2.0", "https://h/bios-2.0")),
            ("BMC".to_owned(), url("7.1", "https://h/bmc-7.1")),
        ]
        .into(),
        volumes: vec![],
    }
}

fn shows(sriov: &str, bios: &str, bmc: &str) -> BaselineFacts {
    let item = |id: &str, version: &str| FirmwareItem {
        id: id.into(),
        name: id.into(),
        version: Some(version.into()),
        updateable: Some(true),
    };
    BaselineFacts {
        bios: Some(Ok(BiosFacts {
            in_force: [("Sriov".to_owned(), sriov.to_owned())].into(),
            pending: BTreeMap::new(),
            unfit: None,
        })),
        firmware: Some(Ok(vec![item("BIOS", bios), item("BMC", bmc)])),
        storage: None,
    }
}

/// A fleet of which each machine has this baseline.
fn fleet_of(names: &[&str], baseline: &Baseline) -> Fleet {
    let mut fleet = fleet(names);
    fleet.nodes.values_mut().for_each(|n| n.baseline = baseline.clone());
    fleet
}

fn seen(facts: NodeFacts, baseline: BaselineFacts) -> NodeFacts {
    NodeFacts { baseline: Some(baseline), ..facts }
}

fn serving(name: &str, baseline: BaselineFacts) -> NodeFacts {
    let mut facts = seen(installed(name), baseline);
    if let Some(Observed { value: Ok(bmc), .. }) = &mut facts.bmc {
        bmc.power = PowerState::On;
    }
    facts
}

/// All of them healthy voters of `core`.
fn with_cluster(mut facts: Facts, names: &[&str]) -> Facts {
    let member = |name: &&str| MemberFacts {
        id: format!("id-{name}"),
        name: (*name).into(),
        peer_urls: vec![],
        client_urls: vec![],
        learner: false,
        healthy: true,
        version: None,
        raft_index: None,
    };
    let members = names.iter().map(member).collect();
    let cluster = ClusterFacts { cluster_id: "c".into(), members, leader: None, alarms: vec![] };
    facts.clusters.insert("core".into(), Observed { at: 1, value: Ok(cluster) });
    facts
}

fn upgrade(fleet: &Fleet, facts: &Facts, rollout: RolloutWish, lose_quorum: bool) -> Plan {
    let goal = Goal::Baseline { nodes: Scope(fleet.nodes.keys().cloned().collect()), rollout, lose_quorum };
    let generations = BTreeMap::from([("core".to_owned(), 1)]);
    plan(fleet, facts, &goal, &Known { artifacts: &BTreeMap::new(), cluster_generations: &generations })
}

#[test]
fn before_an_installation_firmware_comes_first_then_attributes_each_with_its_restart() {
    let fleet = fleet_of(&["n1"], &wanted());
    let facts = facts(vec![("n1", seen(bmc("n1"), shows("Disabled", "1.0", "7.0")))]);
    let plan = make(&fleet, &facts, Ceiling::DataLoss, false);
    assert_eq!(plan.refusals, []);
    let own: Vec<String> = words(&plan).into_iter().filter(|id| id.starts_with("n1/")).take(8).collect();
    assert_eq!(
        own,
        [
            "n1/check-identity",
            "n1/bring-firmware-BIOS",
            "n1/bring-firmware-BMC",
            "n1/restart-into-firmware",
            "n1/bring-bios",
            "n1/restart-into-bios",
            "n1/boot-installer",
            "n1/await-claim",
        ]
    );
    let track = &plan.tracks[0];
    assert!(!track.disrupts && track.pool.as_deref() == Some("core"), "nobody misses a machine that is new");
    let dangers: Vec<Danger> = track.steps[1..6].iter().map(|s| s.danger).collect();
    assert_eq!(dangers, [Danger::Reboot, Danger::Reboot, Danger::Reboot, Danger::Reversible, Danger::Reboot]);
}

#[test]
fn a_machine_that_is_as_it_is_to_be_and_one_without_a_baseline_make_the_same_plan() {
    let bare = |baseline: &Baseline, seen_baseline: Option<BaselineFacts>| {
        let fleet = fleet_of(&["n1"], baseline);
        let one = NodeFacts { baseline: seen_baseline, ..bmc("n1") };
        make(&fleet, &facts(vec![("n1", one)]), Ceiling::DataLoss, false)
    };
    let none = bare(&Baseline::default(), None);
    let there = bare(&wanted(), Some(shows("Enabled", "2.0", "7.1")));
    assert_eq!(none.hash(), there.hash());
    let images_alone = Baseline { images: wanted().images, ..Baseline::default() };
    assert_eq!(none.hash(), bare(&images_alone, None).hash());
    assert_ne!(none.hash(), bare(&wanted(), Some(shows("Enabled", "2.0", "7.0"))).hash());
    // The fleet that a run stores is as before, too.
    let text = serde_json::to_string(&fleet(&["n1"])).unwrap();
    assert!(!text.contains("baseline"), "{text}");
}

// invariant: I4 harness: D
#[test]
fn members_go_under_their_clusters_rollout_and_must_serve_again() {
    let names = ["n1", "n2", "n3"];
    let fleet = fleet_of(&names, &wanted());
    let all = names.map(|n| (n, serving(n, shows("Disabled", "2.0", "7.1")))).to_vec();
    let facts = with_cluster(facts(all), &names);
    let plan = make(&fleet, &facts, Ceiling::Reboot, true);
    assert_eq!(plan.refusals, []);
    let own = ["check-identity", "bring-bios", "restart-into-bios", "await-service"];
    let steps = names.iter().flat_map(|n| own.map(|w| format!("{n}/{w}"))).collect::<Vec<_>>();
    assert_eq!(words(&plan), steps);
    assert!(
        plan.tracks.iter().filter(|t| !t.steps.is_empty()).all(|t| t.disrupts && t.pool.as_deref() == Some("core"))
    );
    assert_eq!(plan.pools["core"].rollout.max_unavailable, 1);

    // Less is allowed than that: nothing of it, and the rest of the plan goes on.
    let reversible = make(&fleet, &facts, Ceiling::Reversible, true);
    assert!(reversible.is_empty());
    let refused = refusal(&reversible, "n2");
    assert_eq!(refused.kind, "ceiling");
    assert!(refused.why.contains("bios.Sriov is Disabled and must be Enabled"), "{}", refused.why);
    assert_eq!(refused.next.as_deref(), Some("rackctl apply --allow reboot"));
    // `join` says nothing of it.
    let goal = Goal::Join { nodes: Scope(names.map(str::to_owned).to_vec()) };
    let generations = BTreeMap::from([("core".to_owned(), 1)]);
    let known = Known { artifacts: &BTreeMap::new(), cluster_generations: &generations };
    let joined = super::super::plan(&fleet, &facts, &goal, &known);
    assert!(joined.is_empty() && joined.refusals.is_empty());

    // The operator may ask for more care than the cluster does, never for less.
    let wish =
        RolloutWish { max_unavailable: Some(Count::Number(3)), waves: vec![Count::Number(1)], ..Default::default() };
    let careless = upgrade(&fleet, &facts, wish, false);
    assert_eq!(words(&careless), steps);
    let rollout = &careless.pools["core"].rollout;
    assert_eq!((rollout.max_unavailable, rollout.waves.len()), (1, 1));
}

// invariant: I4 harness: D
#[test]
fn a_cluster_that_cannot_do_without_one_is_left_alone_unless_told_otherwise() {
    let names = ["n1", "n2"];
    let fleet = fleet_of(&names, &wanted());
    let all = names.map(|n| (n, serving(n, shows("Disabled", "2.0", "7.1")))).to_vec();
    let facts = with_cluster(facts(all), &names);
    let plan = upgrade(&fleet, &facts, RolloutWish::default(), false);
    assert!(plan.is_empty());
    assert_eq!(refusal(&plan, "n1").kind, "quorum");
    assert_eq!(make(&fleet, &facts, Ceiling::Reboot, true).refusals.len(), 2);
    assert!(!upgrade(&fleet, &facts, RolloutWish::default(), true).is_empty());
}

#[test]
fn machines_of_no_cluster_go_in_waves_after_a_canary() {
    let names = ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"];
    let mut fleet = fleet_of(&names, &wanted());
    fleet.clusters.clear();
    let all = names.map(|n| (n, serving(n, shows("Enabled", "1.0", "7.1")))).to_vec();
    let facts = facts(all);
    let plan = upgrade(&fleet, &facts, RolloutWish::default(), false);
    assert!(plan.tracks.iter().all(|t| t.disrupts && t.pool.as_deref() == Some(super::super::pools::ALONE)));
    let pool = &plan.pools[super::super::pools::ALONE];
    assert_eq!((pool.nodes.len(), pool.rollout.max_unavailable, pool.rollout.halt_after), (8, 2, Count::Number(1)));
    assert_eq!([0, 1, 2].map(|i| pool.rollout.wave(i, 8)), [1, 2, 4]);
    assert!(pool.rollout.deadline_s >= 3_600, "firmware that is written is not stuck");
    let wish = RolloutWish { waves: vec![Count::Number(4)], halt_after: Some(Count::Number(2)), ..Default::default() };
    let own = upgrade(&fleet, &facts, wish, false);
    let rollout = &own.pools[super::super::pools::ALONE].rollout;
    assert_eq!((rollout.wave(0, 8), rollout.halt_after), (4, Count::Number(2)));
    // By `apply` the same, and a machine that is off is left as it is found by `upgrade firmware`.
    assert!(make(&fleet, &facts, Ceiling::Reboot, false).pools.contains_key(super::super::pools::ALONE));
    let off = super::facts(vec![("n1", seen(installed("n1"), shows("Enabled", "1.0", "7.1")))]);
    let plan = upgrade(&fleet, &off, RolloutWish::default(), false);
    let last = plan.tracks.iter().find(|t| t.subject.name() == "n1").and_then(|t| t.steps.last()).unwrap();
    assert!(serde_json::to_string(&last.kind).unwrap().contains("\"staysOff\":true"), "{last:?}");
}

#[test]
fn what_cannot_be_brought_about_is_refused_with_what_to_write() {
    let kind = |baseline: &Baseline, shown: Option<BaselineFacts>, edit: &dyn Fn(&mut Node)| {
        let mut fleet = fleet_of(&["n1"], baseline);
        fleet.places.insert("HardwareClass/r750".into(), "hw.yaml:3".into());
        fleet.nodes.values_mut().for_each(|n| {
            n.hardware_class = Some("r750".into());
            edit(n);
        });
        fleet.clusters.clear();
        let one = NodeFacts { baseline: shown, ..serving("n1", BaselineFacts::default()) };
        let plan = upgrade(&fleet, &facts(vec![("n1", one)]), RolloutWish::default(), false);
        assert!(plan.is_empty(), "{plan:?}");
        refusal(&plan, "n1")
    };
    let nothing = |_: &mut Node| {};
    let old = || Some(shows("Disabled", "1.0", "7.0"));
    let no_image = Baseline { images: BTreeMap::new(), ..wanted() };
    let refused = kind(&no_image, old(), &nothing);
    assert_eq!(refused.kind, "firmwareImage");
    assert!(refused.why.contains("its BIOS firmware is 1.0 and must be 2.0"), "{}", refused.why);
    assert_eq!(
        refused.next.as_deref(),
        Some("edit hw.yaml:3 and write firmwareImages: { BIOS: { version: \"2.0\", url: … } }")
    );
    let mut stale = wanted();
    stale.firmware.insert("BIOS".into(), "2.1".into());
    assert!(kind(&stale, old(), &nothing).why.contains("names one of version 2.0 as its image"));
    assert_eq!(kind(&wanted(), None, &nothing).kind, "baselineUnreadable");
    let broken = Failure::new(Cause::Refused, "read", "this BMC offers no firmware inventory");
    let unread = BaselineFacts { firmware: Some(Err(broken)), ..shows("Disabled", "1.0", "7.0") };
    assert!(kind(&wanted(), Some(unread), &nothing).why.contains("offers no firmware inventory"));
    let mut unknown = wanted();
    unknown.firmware.insert("PSU".into(), "1".into());
    assert_eq!(kind(&unknown, old(), &nothing).kind, "firmwareUnknown");
    assert_eq!(kind(&wanted(), old(), &|n| n.protect = true).kind, "protected");
    assert_eq!(kind(&wanted(), old(), &|n| n.management = Management::Power).kind, "management");
    let unfit = BiosFacts { unfit: Some("this machine has no BIOS attribute `Sriov`".into()), ..BiosFacts::default() };
    let attributes = Baseline { firmware: BTreeMap::new(), ..wanted() };
    let odd = BaselineFacts { bios: Some(Ok(unfit)), ..shows("Disabled", "1.0", "7.0") };
    assert_eq!(kind(&attributes, Some(odd), &nothing).kind, "biosUnknown");
}

fn storage(volumes: serde_json::Value) -> BaselineFacts {
    let bay =
        |id: &str| json!({"id": id, "serial": format!("S-{id}"), "wwn": null, "model": "BOSS M.2", "sizeBytes": 9});
    let controller: StorageFacts = serde_json::from_value(json!({
        "id": "1", "name": "Storage", "makesVolumes": true, "volumes": volumes, "drives": [bay("a"), bay("b"), bay("c")],
    }))
    .unwrap();
    BaselineFacts { storage: Some(Ok(vec![controller])), ..BaselineFacts::default() }
}

fn mirror(rule: serde_json::Value) -> Baseline {
    let mut drives = json!({"serial": null, "wwn": null, "model": "BOSS*", "minSizeBytes": null, "maxSizeBytes": null, "useFor": "root"});
    drives.as_object_mut().unwrap().extend(rule.as_object().cloned().unwrap_or_default());
    let drives = serde_json::from_value(drives).unwrap();
    Baseline { volumes: vec![VolumeRule { name: "boot".into(), raid: "RAID1".into(), drives }], ..Baseline::default() }
}

// invariant: I5 harness: D
#[test]
fn volumes_are_made_of_free_drives_on_bare_machines_alone_and_need_the_highest_approval() {
    let bound = |v: serde_json::Value| storage(v);
    let one_in_use = json!([{"id": "v", "name": "data", "raid": "RAID0", "drives": ["c"]}]);
    let plan_of = |shown: BaselineFacts, allow: Ceiling, facts_of: &dyn Fn(&str) -> NodeFacts| {
        let mut fleet = fleet_of(&["n1"], &mirror(json!({})));
        fleet.clusters.clear();
        make(&fleet, &facts(vec![("n1", seen(facts_of("n1"), shown))]), allow, false)
    };
    let plan = plan_of(bound(one_in_use.clone()), Ceiling::DataLoss, &bmc);
    assert_eq!(plan.refusals, []);
    let step = plan.steps().find(|s| s.id == "n1/bring-volume-boot").unwrap();
    assert_eq!(step.danger, Danger::DataLoss);
    assert!(step.why.contains("a, b"), "the one in use is not taken: {}", step.why);
    assert!(plan.bound["n1"].contains("volume=boot RAID1 of a+b"), "{}", plan.bound["n1"]);
    let envelope = approval::envelope(&plan);
    assert!(envelope.kinds.contains("bring-volume") && envelope.disks["n1"].contains("a+b"));
    // Three are free, and a mirror takes two: a guess is none.
    let many = plan_of(bound(json!([])), Ceiling::DataLoss, &bmc);
    assert!(refusal(&many, "n1").why.contains("takes exactly 2 drives, and its rule finds a, b, c"));
    // On a machine with a system nothing is made; one of another kind is never replaced.
    assert_eq!(refusal(&plan_of(bound(one_in_use), Ceiling::DataLoss, &installed), "n1").kind, "volumeMissing");
    let other = json!([{"id": "v", "name": "boot", "raid": "RAID0", "drives": ["a"]}]);
    assert!(refusal(&plan_of(bound(other), Ceiling::DataLoss, &bmc), "n1").why.contains("never deleted by itself"));
    // One that the controller named itself is the one.
    let named = json!([{"id": "v", "name": "VD_0", "raid": "RAID1", "drives": ["a", "b"]}]);
    let there = plan_of(bound(named), Ceiling::DataLoss, &bmc);
    assert!(there.refusals.is_empty() && !words(&there).iter().any(|w| w.contains("volume")));
}

#[test]
fn what_differs_is_told_with_both_values_and_what_cannot_be_read_apart() {
    let mut node = node("n1");
    node.baseline = Baseline { volumes: mirror(json!({})).volumes, ..wanted() };
    let mut shown = shows("Disabled", "2.0", "7.0");
    if let Some(Ok(bios)) = &mut shown.bios {
        bios.pending.insert("Sriov".into(), "Enabled".into());
    }
    shown.storage = Some(Err(Failure::new(Cause::Refused, "read", "this BMC offers no storage")));
    let compared = compare(&node, Some(&shown));
    let told: Vec<String> =
        compared.differences.iter().map(|d| format!("{}: {} -> {}", d.field, d.found, d.wanted)).collect();
    assert_eq!(told, ["firmware.BMC: 7.0 -> 7.1", "bios.Sriov: Disabled (pending: Enabled) -> Enabled"]);
    assert_eq!(compared.unreadable.iter().map(|(f, _)| *f).collect::<Vec<_>>(), ["raid"]);
    assert_eq!(compare(&super::node("n2"), None), Default::default());
}
