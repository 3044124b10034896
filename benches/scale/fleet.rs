//! An inventory of as many machines as one likes, as operators write them: by hand a file for each rack or room, by a
//! program a file for each machine.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

pub const PER_RACK: usize = 40;
const RACKS_PER_ROOM: usize = 25;
/// One cluster for so many machines.
const PER_CLUSTER: usize = 100;
const MEMBERS: usize = 5;
const CLASSES: [&str; 3] = ["r750", "dl380", "sr650"];
const PROFILES: [&str; 5] = ["control-plane", "worker", "storage", "gpu", "edge"];

fn name(node: usize) -> String {
    format!("n{node:05}")
}
/// Clusters of a fleet of so many machines.
pub fn clusters_of(nodes: usize) -> usize {
    nodes / PER_CLUSTER
}
fn cluster(number: usize) -> String {
    format!("c{number:03}")
}
/// The first machines of every rack are members; one in each fifth rack is a spare.
fn cluster_of(node: usize, nodes: usize) -> Option<usize> {
    let (rack, place) = (node / PER_RACK, node % PER_RACK);
    // Members of one cluster stand in different racks.
    let seat = rack * 2 + place;
    let clusters = clusters_of(nodes);
    (place < 2 && seat < clusters * MEMBERS).then_some(seat % clusters)
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Room,
    Rack,
    Node,
}

/// Writes it below `folder`.
pub fn write(folder: &Path, nodes: usize, shape: Shape) -> io::Result<()> {
    let racks = folder.join("racks");
    fs::create_dir_all(&racks)?;
    fs::write(folder.join("site.yaml"), site(nodes))?;
    fs::write(folder.join("classes.yaml"), classes())?;
    fs::write(folder.join("clusters.yaml"), clusters(nodes))?;
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    for node in 0..nodes {
        let rack = node / PER_RACK;
        let name = match shape {
            Shape::Room => format!("m{}.yaml", rack / RACKS_PER_ROOM),
            Shape::Rack => format!("r{rack:04}.yaml"),
            Shape::Node => format!("r{rack:04}/{}.yaml", name(node)),
        };
        self::node(files.entry(racks.join(name)).or_default(), node, nodes);
    }
    for (path, text) in files {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    Ok(())
}

fn node(text: &mut String, node: usize, nodes: usize) {
    let (rack, place) = (node / PER_RACK, node % PER_RACK);
    let (room, row) = (rack / RACKS_PER_ROOM, rack % RACKS_PER_ROOM);
    let member = cluster_of(node, nodes);
    let label = member.map(|c| format!(", cluster: {}", cluster(c))).unwrap_or_default();
    let profile = if member.is_some() { PROFILES[0] } else { PROFILES[1 + node % 4] };
    let class = CLASSES[rack % CLASSES.len()];
    // Strings of a fixed shape into memory: cannot fail.
    let _ = writeln!(
        text,
        "---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: {{ name: {name}, labels: {{ role: {profile}, room: m{room}{label} }} }}
spec:
  site: fra1
  hardwareClass: {class}
  profile: {profile}
  identity: {{ serial: SN{node:07}, uuid: 7c3f0000-0000-4000-8000-{node:012} }}
  bmc:
    endpoints:
      - {{ redfish: \"https://10.{bmc}.{row}.{host}\", credential: bmc-default, tls: {{ pin: \"sha256:{pin:064x}\" }} }}
  interfaces:
    - {{ name: eno1, mac: \"{mac}\", network: prov-m{room}, role: provision, addresses: [10.{prov}.{row}.{host}/24] }}
  location: {{ rack: r{rack:04}, unit: {unit}, power: {power} }}",
        name = name(node),
        bmc = 128 + room,
        prov = room,
        host = 10 + place,
        pin = node + 1,
        mac = mac(node),
        unit = place + 1,
        power = if place % 2 == 0 { "a" } else { "b" },
    );
}

fn mac(node: usize) -> String {
    let [_, _, _, _, _, a, b, c] = (node as u64).to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

fn site(nodes: usize) -> String {
    let mut text = "apiVersion: rackctl.dev/v1alpha1
kind: Site
metadata: { name: fra1, labels: { fleet: scale } }
spec:
  domain: fra1.example.net
  ntp: [10.0.0.1]
  dns: [10.0.0.1]
  disruption: { rack: 4, power: \"10%\" }
  ssh: { user: root, authorizedKeys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1hbmFnZWRCeVRoZU9wZXJhdG9yTm90QVJlYWxLZXk ops\"] }
---
apiVersion: rackctl.dev/v1alpha1
kind: Credential
metadata: { name: bmc-default }
spec: { username: admin, passwordFrom: { env: RACKCTL_BENCH_PASSWORD } }
---
apiVersion: rackctl.dev/v1alpha1
kind: Image
metadata: { name: debian-12 }
spec: { build: { distro: debian-12, arch: amd64, packages: [openssh-server, etcd-server, etcd-client] } }
"
    .to_owned();
    let racks = nodes.div_ceil(PER_RACK);
    for room in 0..racks.div_ceil(RACKS_PER_ROOM) {
        let subnets: String = (0..RACKS_PER_ROOM)
            .map(|row| {
                format!(
                    "    - {{ cidr: 10.{room}.{row}.0/24, gateway: 10.{room}.{row}.1, relays: [10.{room}.{row}.1] }}\n"
                )
            })
            .collect();
        let _ = write!(
            text,
            "---\napiVersion: rackctl.dev/v1alpha1\nkind: Network\nmetadata: {{ name: prov-m{room} }}\nspec:\n  interface: br{room}\n  subnets:\n{subnets}"
        );
    }
    text
}

fn classes() -> String {
    let class = |name: &&str| {
        format!(
            "---
apiVersion: rackctl.dev/v1alpha1
kind: HardwareClass
metadata: {{ name: {name} }}
spec:
  arch: amd64
  bootMode: uefi
  boot: {{ method: pxe }}
  console: ttyS0,115200
  bios: {{ SriovGlobalEnable: Enabled }}
  firmware: {{ BIOS: \"2.19.1\" }}
  disks:
    root: {{ match: {{ model: \"SAMSUNG MZ*\", minSize: 400Gi, maxSize: 1Ti }}, use: root }}
    data: {{ match: {{ minSize: 2Ti }}, use: keep }}
  minimum: {{ cores: 8, memory: 32Gi }}
"
        )
    };
    let profile = |name: &&str| {
        format!(
            "---
apiVersion: rackctl.dev/v1alpha1
kind: Profile
metadata: {{ name: {name} }}
spec:
  image: {{ name: debian-12 }}
  kernelParams: [\"loglevel=4\", \"rackctl.host={{{{ node.name }}}}\"]
  install:
    driver: {{ image: {{ system: debian-12 }} }}
  services: [etcd]
"
        )
    };
    CLASSES.iter().map(class).chain(PROFILES.iter().map(profile)).collect()
}

fn clusters(nodes: usize) -> String {
    let one = |number: usize| {
        let name = cluster(number);
        format!(
            "---
apiVersion: rackctl.dev/v1alpha1
kind: Cluster
metadata: {{ name: {name} }}
spec:
  driver: {{ etcd: {{ version: \"3.4.23\" }} }}
  members: {{ selector: \"cluster={name}\", size: {MEMBERS} }}
  rollout: {{ maxUnavailable: 1, minHealthy: 10s, deadline: 15m, haltAfter: 1 }}
"
        )
    };
    (0..clusters_of(nodes)).map(one).collect()
}
