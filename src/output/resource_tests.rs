use serde_json::json;

use super::*;
use crate::model::Failure;
use crate::model::facts::{InstallPhase, NodeRecord, Observed};
use crate::output::{Format, describe};

const NOW: UnixMs = 1_767_366_245_000;

/// Two machines as the loader would give them.
pub(crate) fn fleet() -> Fleet {
    let node = |name: &str, number: u32, lifecycle: &str| {
        json!({
            "name": name, "labels": {"role": "db"}, "site": "fra1", "hardwareClass": "r750", "profile": "db",
            "lifecycle": lifecycle, "management": "full", "protect": false,
            "identity": {"serial": format!("S{number}"), "uuid": null, "serialFrom": "sku"},
            "bmc": {"endpoints": [{"at": {"redfish": format!("https://10.0.0.{number}")}, "credential": "bmc", "trust": {"pin": "sha256:ab"}}],
                "system": null, "mac": null, "sharedNic": false},
            "interfaces": [{"name": "eno1", "mac": format!("52:54:00:00:00:{number:02}"), "network": "prov", "role": "provision",
                "addresses": [format!("10.77.0.{number}/24")]}],
            "disks": {"root": {"serial": format!("D{number}"), "wwn": null, "model": null, "minSizeBytes": null, "maxSizeBytes": null, "useFor": "root"}},
            "location": {"rack": "r1", "unit": number, "power": null, "chassis": null},
            "arch": "amd64", "bootMode": "uefi", "bootMethod": "pxe", "console": "ttyS0,115200",
            "minimum": {"cores": null, "memoryBytes": null}, "image": "debian", "kernelParams": [], "install": {"image": {"system": "db"}},
            "services": [], "ssh": {"user": "root", "identity": null, "authorizedKeys": []}, "dns": []
        })
    };
    let value = json!({
        "id": "f", "sites": {}, "networks": {"prov": {"interface": "br0", "subnets": [{"cidr": "10.77.0.0/24", "gateway": null, "pool": null, "relays": []}],
            "mtu": 1500, "dhcp": "authoritative", "leaseS": 600, "httpPort": 8080, "apiPort": 8443}},
        "hardwareClasses": {"r750": {"bios": {"A": 1}, "firmware": {}}}, "profiles": {"db": {"image": "debian", "services": ["etcd"]}},
        "nodes": {"n1": node("n1", 11, "active"), "n2": node("n2", 12, "spare")},
        "clusters": {"core": {"name": "core", "driver": {"etcd": {"version": "3.4.23", "clientPort": 2379, "peerPort": 2380}},
            "members": ["n1"], "size": 1, "spares": ["n2"], "dependsOn": [],
            "rollout": {"maxUnavailable": 1, "minHealthyS": 10, "deadlineS": 900, "haltAfter": 1}}},
        "images": {"debian": {"distro": {"distro": "debian-12", "arch": "amd64", "packages": []}}},
        "credentials": {"bmc": {"username": "admin", "passwordFrom": {"keyring": "rackctl/bmc"}}},
        "playbooks": {}, "places": {"Node/n1": "inventory/nodes.yaml:3"},
        "origins": {"n1": {"bootMode": "HardwareClass/r750", "image.name": "Profile/db"}}
    });
    serde_json::from_value(value).unwrap()
}

fn status() -> Status {
    let view = NodeView {
        phase: Some("Installing".into()),
        power: Some(PowerState::On),
        generation: Some(2),
        run: Some("r-1".into()),
        observed: Some(NOW - 90_000),
        reason: None,
        waiting: Some("the installer to claim, since 40 s".into()),
    };
    Status { now: NOW, nodes: BTreeMap::from([("n1".to_owned(), view)]), clusters: BTreeMap::new() }
}

fn names() -> Vec<String> {
    vec!["n1".into(), "n2".into()]
}

#[test]
fn nodes_as_a_table() {
    insta::assert_snapshot!(table(&fleet(), &status(), Kind::Node, &names(), false).render(None));
    insta::assert_snapshot!(table(&fleet(), &status(), Kind::Node, &names(), true).render(None));
}

#[test]
fn every_kind_has_a_table_and_items() {
    let fleet = fleet();
    let mut all = String::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_desired() && *kind != Kind::Node) {
        let names = kind.names(&fleet);
        all.push_str(&table(&fleet, &status(), kind, &names, false).render(None));
        for name in &names {
            let item = item(&fleet, &status(), kind, name).unwrap();
            for key in ["apiVersion", "kind", "metadata", "spec", "status"] {
                assert!(item.get(key).is_some(), "{key} of {item}");
            }
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_node_as_yaml() {
    let item = item(&fleet(), &status(), Kind::Node, "n1").unwrap();
    insta::assert_snapshot!(Format::Yaml.render(&[item], None, |_| Table::new(["A"])));
    assert_eq!(super::item(&fleet(), &status(), Kind::Node, "n9"), None);
}

#[test]
fn fields_for_selectors() {
    for field in NODE_FIELDS {
        assert!(node_field(&fleet(), &status(), "n1", field).is_some(), "{field}");
    }
    assert_eq!(node_field(&fleet(), &status(), "n1", "power").as_deref(), Some("on"));
    assert_eq!(node_field(&fleet(), &status(), "n2", "power").as_deref(), Some("unknown"));
    assert_eq!(node_field(&fleet(), &status(), "n2", "lifecycle").as_deref(), Some("spare"));
    assert_eq!(node_field(&fleet(), &status(), "n1", "colour"), None);
}

#[test]
fn describe_tells_everything() {
    let failure = Failure::new(crate::model::failure::Cause::Unreachable, "n1: ssh", "no route to 10.77.0.11")
        .next("rackctl power status n1");
    let record = NodeRecord {
        generation: 2,
        run: "r-1".into(),
        phase: InstallPhase::Installing,
        system_host_key: "ssh-ed25519 AAAA".into(),
        disk_guid: uuid::Uuid::nil(),
        disk_serial: Some("D11".into()),
        system_sha256: "ab".into(),
        at: NOW - 400_000,
        over: None,
    };
    let seen = Observation {
        facts: NodeFacts {
            bmc: None,
            system: Some(Observed { at: NOW - 5_000, value: Err(failure) }),
            record: Some(record),
            ..NodeFacts::default()
        },
        events: vec![(NOW - 60_000, "power on".into()), (NOW - 50_000, "DHCP offered 10.77.0.11".into())],
        by_hand: vec!["rackctl console n1".into()],
        cluster: None,
    };
    insta::assert_snapshot!(describe::describe(&fleet(), &status(), &seen, Kind::Node, "n1").unwrap());
    assert_eq!(describe::describe(&fleet(), &status(), &seen, Kind::Node, "n9"), None);
}

#[test]
fn describe_shows_sizes_times_and_the_end_of_a_log() {
    let lines: Vec<String> = (0..9).map(|i| format!("{i} {}", "x".repeat(200))).collect();
    let seen = Observation {
        cluster: Some(serde_json::json!({ "memoryBytes": 4u64 << 30, "oddBytes": 5, "at": 0, "logTail": lines })),
        ..Observation::default()
    };
    let text = describe::describe(&fleet(), &status(), &seen, Kind::Cluster, "core").unwrap();
    let from = text.find("Bootstrapped:").unwrap();
    insta::assert_snapshot!(&text[from..]);
}
