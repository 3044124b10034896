//! The inventory that describes a laboratory, as a person would write it of real machines. Pure.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use super::{
    netns::{BRIDGE, GATEWAY, SUBNET},
    seat::IPMI_PORT,
    simulated::images,
    spec::{Lab, MachineSpec},
    yaml,
};
use crate::model::fleet::Lifecycle;

pub const API_VERSION: &str = "rackctl.dev/v1alpha1";
/// The user that every BMC of a laboratory knows.
pub const BMC_USER: &str = "admin";
/// The etcd that Debian 12 has, which is what `lab-system` installs.
const ETCD_VERSION: &str = "3.4.23";

pub struct Inputs<'a> {
    pub lab: &'a Lab,
    /// Absolute path of the operator's private key.
    pub ssh_identity: &'a Path,
    /// `ssh-ed25519 AAAA… comment`
    pub ssh_public: &'a str,
    /// Node → `sha256:HEX` of its BMC's key.
    pub pins: &'a BTreeMap<String, String>,
}

/// File names and their whole text. Paths in them are relative to the folder they stand in.
pub fn files(inputs: &Inputs<'_>) -> Vec<(&'static str, String)> {
    let lab = inputs.lab;
    let nodes = lab.machines.iter().map(|machine| node(lab, machine, inputs.pins.get(&machine.name))).collect();
    let size = lab.machines.iter().filter(|m| lab.is_member(m)).count();
    let one = |kind: &str, name: &str, spec: Value| vec![object(kind, json!({ "name": name }), spec)];
    // Without spares there is no pool: an empty one would be warned of at every command.
    let mut members = json!({ "selector": "role=control-plane", "size": size });
    if lab.machines.iter().any(|m| m.lifecycle == Lifecycle::Spare) {
        members["pool"] = json!("lifecycle=spare");
    }
    let manifests = [
        (
            "site.yaml",
            // Labelled: a laboratory made anew under an old name is another fleet, with a state of its own.
            vec![object(
                "Site",
                json!({ "name": "lab", "labels": { "fleet": fleet(lab), "lab": lab.name } }),
                json!({
                    "domain": format!("{}.lab.internal", lab.name),
                    "ssh": {
                        "user": "root",
                        "identity": inputs.ssh_identity,
                        "authorizedKeys": [inputs.ssh_public.trim()],
                    },
                }),
            )],
        ),
        (
            "network.yaml",
            one(
                "Network",
                "prov",
                json!({
                    "interface": BRIDGE,
                    "netns": lab.netns(),
                    "subnets": [{ "cidr": SUBNET, "gateway": GATEWAY, "pool": ["10.77.0.100", "10.77.0.199"] }],
                    "mtu": 1500,
                    "dhcp": dhcp(lab),
                }),
            ),
        ),
        (
            "credentials.yaml",
            one("Credential", "bmc", json!({ "username": BMC_USER, "passwordFrom": { "file": "../bmc-password" } })),
        ),
        (
            "hardware.yaml",
            one(
                "HardwareClass",
                "lab",
                json!({
                    "arch": "amd64",
                    "boot": { "method": "pxe" },
                    "console": "ttyS0,115200",
                    "disks": { "root": { "match": { "minSize": "2Gi" }, "use": "root" } },
                }),
            ),
        ),
        ("profile.yaml", profiles(lab)),
        ("image.yaml", one("Image", "lab-system", image(lab))),
        ("nodes.yaml", nodes),
        (
            "cluster.yaml",
            one(
                "Cluster",
                "lab",
                json!({
                    "driver": { "etcd": { "version": ETCD_VERSION } },
                    "members": members,
                }),
            ),
        ),
    ];
    manifests
        .into_iter()
        .map(|(file, objects)| (file, objects.iter().map(yaml::document).collect::<Vec<_>>().join("---\n")))
        .collect()
}

/// Keys the state of this very laboratory.
fn fleet(lab: &Lab) -> String {
    let id = lab.id.simple().to_string();
    format!("lab-{}-{}", lab.name, &id[..8])
}

/// What the installed system needs beyond a base that boots.
const SYSTEM_PACKAGES: [&str; 3] = ["openssh-server", "etcd-server", "etcd-client"];

fn object(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({ "apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec })
}

/// On the segment of simulated machines nobody else can be: nobody is listened for.
fn dhcp(lab: &Lab) -> Value {
    let mut dhcp = json!({ "mode": "authoritative", "leaseTime": "10m" });
    if lab.simulated.is_some() {
        dhcp["probeTime"] = json!("0s");
    }
    dhcp
}

const MEMBER: &str = "control-plane";
const WORKER: &str = "worker";

/// One for the cluster's nodes and the spares; one for nodes without a cluster where there are such.
fn profiles(lab: &Lab) -> Vec<Value> {
    let spec = json!({
        "image": { "name": "lab-system" },
        "install": { "driver": { "image": { "system": "lab-system" } } },
    });
    let names = [Some(MEMBER), lab.cluster_size.map(|_| WORKER)];
    names.into_iter().flatten().map(|name| object("Profile", json!({ "name": name }), spec.clone())).collect()
}

/// Built from packages, or the files that are enough for machines which run none of it.
fn image(lab: &Lab) -> Value {
    if lab.simulated.is_none() {
        return json!({ "build": { "distro": "debian-12", "packages": SYSTEM_PACKAGES } });
    }
    let mut spec = serde_json::Map::new();
    let mut loaders = Vec::new();
    for file in images::files() {
        let (path, sha256) = (format!("../images/{}", file.name), file.sha256());
        if file.loader {
            loaders.push(json!({ "name": file.name, "path": path, "sha256": sha256 }));
        } else {
            spec.insert(file.name.to_owned(), json!({ "path": path, "sha256": sha256 }));
        }
    }
    spec.insert("loaders".to_owned(), loaders.into());
    json!({ "files": spec })
}

fn node(lab: &Lab, machine: &MachineSpec, pin: Option<&String>) -> Value {
    let is_worker = machine.lifecycle == Lifecycle::Active && !lab.is_member(machine);
    let mut metadata = json!({ "name": machine.name });
    let mut endpoint = json!({ "redfish": format!("https://{}", machine.bmc_address), "credential": "bmc" });
    if let Some(pin) = pin {
        endpoint["tls"] = json!({ "pin": pin });
    }
    let ipmi = json!({ "ipmi": format!("{}:{IPMI_PORT}", machine.bmc_address), "credential": "bmc" });
    let mut spec = json!({
        "site": "lab",
        "hardwareClass": "lab",
        "profile": if is_worker { WORKER } else { MEMBER },
        "bootMode": machine.firmware,
        "identity": { "serial": machine.identity.serial, "uuid": machine.identity.uuid },
        "bmc": { "endpoints": [endpoint, ipmi] },
        "interfaces": [{
            "mac": machine.mac,
            "network": "prov",
            "role": "provision",
            "addresses": [format!("{}/24", machine.address)],
        }],
        "disks": { "root": { "match": { "serial": machine.identity.disk_serial } } },
    });
    // A spare has no role before it takes another's place.
    match machine.lifecycle {
        Lifecycle::Active => metadata["labels"] = json!({ "role": if is_worker { WORKER } else { MEMBER } }),
        other => spec["lifecycle"] = json!(other),
    }
    object("Node", metadata, spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::spec::Spec;

    #[test]
    fn three_nodes_and_a_spare() {
        let lab = Lab::plan(&Spec { spares: 1, ..Spec::new("demo") }, uuid::Uuid::nil(), 0).unwrap();
        let pins = lab.machines.iter().map(|m| (m.name.clone(), format!("sha256:{}", "0".repeat(64)))).collect();
        let files = files(&Inputs {
            lab: &lab,
            ssh_identity: Path::new("/labs/demo/id_ed25519"),
            ssh_public: "ssh-ed25519 AAAA rackctl-lab-demo\n",
            pins: &pins,
        });
        let whole: Vec<String> = files.iter().map(|(name, text)| format!("# {name}\n{text}")).collect();
        insta::assert_snapshot!(whole.join("\n"));
    }

    #[test]
    fn simulated_machines_boot_ready_files_and_not_all_are_members() {
        use crate::inventory::{Source, load};
        use crate::model::fleet::Image;
        let spec = Spec { cluster_size: Some(2), simulated: Some(Default::default()), ..Spec::new("demo") };
        let lab = Lab::plan(&spec, uuid::Uuid::nil(), 0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("inventory");
        std::fs::create_dir(&folder).unwrap();
        let pins = lab.machines.iter().map(|m| (m.name.clone(), format!("sha256:{}", "0a".repeat(32)))).collect();
        let ssh_public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIg5ZzHqaXNHkhNRaGC8tGTzNxqVrU4XeAeBkZGFfVxG lab";
        for (file, text) in files(&Inputs { lab: &lab, ssh_identity: Path::new("/k"), ssh_public, pins: &pins }) {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let fleet = load(&[Source::Path(folder)]).unwrap_or_else(|faults| panic!("{faults}")).fleet;
        assert_eq!((fleet.clusters["lab"].size, fleet.clusters["lab"].members.join(" ")), (2, "n1 n2".into()));
        assert_eq!((fleet.nodes["n3"].profile.as_deref(), fleet.networks["prov"].probe_ms), (Some("worker"), 0));
        let Image::Files { kernel, system, loaders, .. } = &fleet.images["lab-system"] else { panic!("not files") };
        let at = |path: &Path| path.strip_prefix(dir.path().canonicalize().unwrap()).unwrap().display().to_string();
        assert_eq!(at(kernel), "images/kernel");
        assert_eq!(at(&system.as_ref().unwrap().path), "images/system");
        assert_eq!(loaders.keys().map(String::as_str).collect::<Vec<_>>(), crate::image::LOADERS);
    }

    #[test]
    fn the_inventory_loads_without_a_fault_and_says_what_the_laboratory_is() {
        use crate::inventory::{Source, load};
        use crate::model::fleet::{ClusterDriver, DhcpMode, EndpointAt, Install, SecretSource, Trust};
        let lab = Lab::plan(&Spec { spares: 1, ..Spec::new("demo") }, uuid::Uuid::nil(), 0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("inventory");
        std::fs::create_dir(&folder).unwrap();
        let pin = format!("sha256:{}", "0a".repeat(32));
        let pins = lab.machines.iter().map(|m| (m.name.clone(), pin.clone())).collect();
        let ssh_identity = dir.path().join("id_ed25519");
        let ssh_public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIg5ZzHqaXNHkhNRaGC8tGTzNxqVrU4XeAeBkZGFfVxG lab";
        for (file, text) in files(&Inputs { lab: &lab, ssh_identity: &ssh_identity, ssh_public, pins: &pins }) {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let fleet = load(&[Source::Path(folder)]).unwrap_or_else(|faults| panic!("{faults}")).fleet;
        let cluster = &fleet.clusters["lab"];
        assert_eq!((cluster.size, cluster.members.join(" ")), (3, "n1 n2 n3".into()));
        assert_eq!(cluster.spares, ["n4"]);
        assert!(matches!(&cluster.driver, ClusterDriver::Etcd { version, .. } if version == ETCD_VERSION));
        let network = &fleet.networks["prov"];
        assert_eq!((network.netns.as_deref(), network.dhcp), (Some("rackctl-demo"), DhcpMode::Authoritative));
        let SecretSource::File(password) = &fleet.credentials["bmc"].password_from else { panic!("not a file") };
        let password = std::fs::canonicalize(password.parent().unwrap()).unwrap().join("bmc-password");
        assert_eq!(password, std::fs::canonicalize(dir.path()).unwrap().join("bmc-password"));
        for machine in &lab.machines {
            let node = &fleet.nodes[&machine.name];
            assert_eq!(node.lifecycle, machine.lifecycle);
            assert_eq!(node.boot_mode, machine.firmware);
            assert_eq!(node.identity.serial.as_ref(), Some(&machine.identity.serial));
            assert_eq!(node.identity.uuid, Some(machine.identity.uuid));
            assert_eq!((node.address(), node.interfaces[0].mac), (Some(machine.address), machine.mac));
            assert_eq!(node.root_disk().unwrap().1.serial.as_ref(), Some(&machine.identity.disk_serial));
            let endpoint = &node.bmc.as_ref().unwrap().endpoints[0];
            assert_eq!(endpoint.at, EndpointAt::Redfish(format!("https://{}", machine.bmc_address)));
            assert_eq!(endpoint.trust, Trust::Pin(pin.clone()));
            let second = &node.bmc.as_ref().unwrap().endpoints[1];
            assert_eq!(second.at, EndpointAt::Ipmi(format!("{}:623", machine.bmc_address)));
            assert_eq!(node.install, Some(Install::Image { system: "lab-system".into() }));
            assert_eq!(node.ssh.identity.as_ref(), Some(&ssh_identity));
            assert_eq!(node.console.as_deref(), Some("ttyS0,115200"));
        }
    }
}
