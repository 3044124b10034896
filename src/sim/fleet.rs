//! Fleets for simulations: an inventory as it would be loaded, and the machines that stand behind it, with whatever
//! was drawn to be wrong with them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use uuid::Uuid;

use super::{
    bmc::Bmc,
    faults::{Faults, Swapped},
    machine::{Disk, Machine, Running},
    rng::Rng,
};
use crate::{
    model::{
        Fleet,
        fleet::{Cluster, ClusterDriver, DhcpMode, Network, Node, Site, Subnet},
        goal::{Goal, Scope},
        power::BootOverride,
        rollout::{ChangeWindow, Count, DomainLimits, Rollout},
    },
    plan::{Artifacts, Plan},
};

/// Of etcd.
pub const VERSION: &str = "3.5.1";
pub const SYSTEM: &str = "debian-12";
const RACK_SIZE: usize = 5;
const GIB: u64 = 1 << 30;

pub fn names(count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("n{i:03}")).collect()
}

pub fn racks(count: usize) -> Vec<String> {
    (0..count.div_ceil(RACK_SIZE)).map(|r| format!("r{r}")).collect()
}

/// A fleet with rollouts, failure domains and change windows of its own, or, plain, with those of the defaults.
pub fn varied(seed: u64, count: usize, plain: bool) -> Fleet {
    let mut fleet = fleet(seed, count);
    if plain {
        return fleet;
    }
    let mut rng = Rng::new(seed).fork("rollout");
    let counts = [Count::Number(1), Count::Number(2), Count::Percent(50), Count::Number(u32::MAX)];
    for cluster in fleet.clusters.values_mut() {
        let rollout = &mut cluster.rollout;
        if rng.chance(500) {
            // A canary, its soak, then more at once.
            rollout.waves =
                [&[Count::Number(1)][..], &[Count::Number(1), Count::Percent(50)]][rng.below(2) as usize].to_vec();
            rollout.soak_s = rng.range(0, 60) as u32;
        }
        rollout.min_healthy_s = rng.range(0, 20) as u32;
        rollout.halt_after = *rng.pick(&counts).unwrap_or(&Count::Number(1));
        if cluster.members.len() == 5 && rng.chance(300) {
            rollout.max_unavailable = 2;
        }
    }
    let some = |rng: &mut Rng, permille, count| rng.chance(permille).then_some(Count::Number(count));
    let limits =
        DomainLimits { rack: some(&mut rng, 300, 2), power: some(&mut rng, 200, 3), chassis: some(&mut rng, 700, 1) };
    let mut windows = Vec::new();
    if rng.chance(150) {
        // The world begins on a Saturday at eight: a window that is open now, or opens later today.
        let from = *rng.pick(&[7_u16, 9, 10]).unwrap_or(&9) * 60;
        windows.push(ChangeWindow { days: vec![], from_min: from, to_min: 6 * 60, timezone: "UTC".into() });
    }
    let site = Site { change_windows: windows, disruption: limits, ..Site::default() };
    fleet.sites.insert("s1".to_owned(), site);
    let per_chassis = rng.range(2, 4) as usize;
    let shared = rng.chance(500);
    for (index, node) in fleet.nodes.values_mut().enumerate() {
        node.site = Some("s1".to_owned());
        node.location.power = Some(if index % 2 == 0 { "a" } else { "b" }.to_owned());
        node.location.chassis = shared.then(|| format!("ch{}", index / per_chassis));
    }
    fleet
}

/// `count` nodes in racks of five; clusters of three and five, and some nodes that are in none.
pub fn fleet(seed: u64, count: usize) -> Fleet {
    let mut rng = Rng::new(seed).fork("fleet");
    let names = names(count);
    let nodes = names.iter().enumerate().map(|(i, n)| (n.clone(), node(&mut rng, i, n))).collect();
    let mut clusters = BTreeMap::new();
    let mut free = names.as_slice();
    while free.len() >= 3 {
        let size = if free.len() >= 5 && rng.chance(500) { 5 } else { 3 };
        let (members, rest) = free.split_at(size);
        let name = format!("c{}", clusters.len());
        let cluster = Cluster {
            name: name.clone(),
            driver: ClusterDriver::Etcd { version: VERSION.into(), client_port: 2379, peer_port: 2380 },
            members: members.to_vec(),
            size: size as u32,
            spares: Vec::new(),
            depends_on: Vec::new(),
            rollout: Rollout::default(),
        };
        clusters.insert(name, cluster);
        free = rest.get(rng.below(2) as usize..).unwrap_or_default();
    }
    let subnet = Subnet {
        cidr: ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 9, 0, 0), 16),
        gateway: None,
        pool: None,
        relays: Vec::new(),
    };
    let network = Network {
        interface: "eth0".into(),
        netns: None,
        subnets: vec![subnet],
        mtu: 1_500,
        dhcp: DhcpMode::Authoritative,
        lease_s: 600,
        http_port: 80,
        api_port: 8_443,
        probe_ms: 0,
    };
    let networks = BTreeMap::from([("prov".to_owned(), network)]);
    Fleet { id: "sim".into(), nodes, clusters, networks, ..Fleet::default() }
}

fn node(rng: &mut Rng, index: usize, name: &str) -> Node {
    let (high, low) = (index / 250, index % 250 + 1);
    let address = format!("10.9.{high}.{low}/16");
    let text = serde_json::json!({
        "name": name, "labels": {}, "site": null, "hardwareClass": null, "profile": null, "lifecycle": "active",
        "management": "full", "protect": false,
        "identity": {"serial": format!("SN-{name}"), "uuid": rng.uuid(), "serialFrom": "serialNumber"},
        "bmc": {"endpoints": [{"at": {"redfish": format!("https://bmc.{name}")}, "credential": "bmc", "trust": "none"}],
            "system": null, "mac": null, "sharedNic": false},
        "interfaces": [{"name": null, "mac": format!("52:54:00:00:{high:02x}:{low:02x}"), "network": "prov",
            "role": "provision", "addresses": [address]}],
        "disks": {"root": {"serial": format!("DISK-{name}"), "wwn": null, "model": null, "minSizeBytes": null,
            "maxSizeBytes": null, "useFor": "root"}},
        "location": {"rack": format!("r{}", index / RACK_SIZE), "unit": null, "power": null, "chassis": null},
        "arch": "amd64", "bootMode": "uefi", "bootMethod": "pxe", "console": null, "minimum": {}, "image": null,
        "kernelParams": [], "install": {"image": {"system": SYSTEM}}, "services": [],
        "ssh": {"user": null, "identity": null, "authorizedKeys": []}, "dns": []
    });
    // The text above is of this very shape: a test builds a fleet.
    serde_json::from_value(text).unwrap_or_else(|error| unreachable!("the template of a node: {error}"))
}

/// The machines as they stand in the racks: blank, off, and with what was drawn to be wrong.
pub fn machines(seed: u64, fleet: &Fleet, faults: &Faults) -> Vec<Machine> {
    let root = Rng::new(seed).fork("machines");
    fleet
        .nodes
        .values()
        .map(|node| {
            let mut rng = root.fork(&node.name);
            let faults = faults.machines.get(&node.name).cloned().unwrap_or_default();
            let (serial, uuid) = (node.identity.serial.clone(), node.identity.uuid);
            let mut other = (Some(format!("SN-other-{}", node.name)), Some(rng.uuid()));
            // The machine that truly stands there, where another one of the inventory does.
            let mut there = node;
            if let Swapped::With(number) = faults.swapped
                && let Some(twin) = fleet.nodes.values().nth(number)
            {
                other = (twin.identity.serial.clone(), twin.identity.uuid);
                there = twin;
            }
            let real = if faults.swapped == Swapped::No { (serial.clone(), uuid) } else { other.clone() };
            let whole = !matches!(faults.swapped, Swapped::No | Swapped::Board);
            let shown = if whole { other } else { (serial, uuid) };
            let root_serial = if faults.wrong_disk { "DISK-other".to_owned() } else { format!("DISK-{}", there.name) };
            let disk = |name: &str, serial: String, foreign: bool| Disk {
                name: name.into(),
                serial,
                size_bytes: 100 * GIB,
                foreign,
                hidden: false,
                guid: None,
                system: None,
            };
            Machine {
                name: node.name.clone(),
                serial: real.0.unwrap_or_default(),
                uuid: real.1.unwrap_or_else(Uuid::nil),
                mac: there.provision().map(|i| i.mac.to_string()).unwrap_or_default(),
                rack: node.location.rack.clone().unwrap_or_default(),
                bmc: Bmc {
                    boot: BootOverride::CLEARED,
                    resets: rng.below(3),
                    away_until: 0,
                    sessions: 0,
                    forgotten: 0,
                    serial: shown.0,
                    uuid: shown.1,
                    latency_ms: rng.range(10, 150),
                },
                feed: true,
                power: false,
                running: Running::Nothing,
                boots: 0,
                boot_id: String::new(),
                disks: vec![
                    disk("sda", root_serial, faults.foreign_data),
                    // Somebody's data: never to be touched.
                    disk("sdb", format!("KEEP-{}", node.name), true),
                ],
                net_first: rng.chance(300),
                etcd: None,
                away: (0, false),
                serving_since: 0,
                cut_by_us: false,
                shelf: None,
                faults,
            }
        })
        .collect()
}

pub fn artifacts() -> BTreeMap<String, Artifacts> {
    let of = |c: char| c.to_string().repeat(64);
    let all =
        Artifacts { kernel_sha256: of('1'), initrd_sha256: of('2'), stage2_sha256: of('3'), system_sha256: of('4') };
    BTreeMap::from([(SYSTEM.to_owned(), all)])
}

/// Of no nodes: what a process holds before it has planned.
pub fn no_plan(fleet: &Fleet) -> Plan {
    Plan::empty(&fleet.id, &Goal::Join { nodes: Scope(Vec::new()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_of_a_thousand_has_unique_identities_and_whole_clusters() {
        let fleet = fleet(1, 1_000);
        assert_eq!(fleet.nodes.len(), 1_000);
        let unique =
            |f: &dyn Fn(&Node) -> String| fleet.nodes.values().map(f).collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(unique(&|n| n.identity.uuid.unwrap().to_string()), 1_000);
        assert_eq!(unique(&|n| n.address().unwrap().to_string()), 1_000);
        assert_eq!(unique(&|n| n.provision().unwrap().mac.to_string()), 1_000);
        assert!(fleet.clusters.values().all(|c| c.members.len() == c.size as usize));
        assert!(fleet.clusters.len() > 150);
    }
}
