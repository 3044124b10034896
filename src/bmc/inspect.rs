//! What a BMC, or the installer, adds to a node of the inventory, and where the two differ. Pure; nothing that stands is replaced.

use rackctl_wire::Nic;
use serde_json::{Map, Value, json};

use super::{
    identity,
    quirks::{self, Vendor},
    redfish::{
        json::clean,
        wire::{ComputerSystem, ServiceRoot},
    },
};
use crate::model::{
    facts::{BmcFacts, DriveFacts, HardwareFacts},
    fleet::{BootMode, Node, SerialFrom},
    power::PowerState,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// A manifest with what the inventory lacks; `None`: it lacks nothing that the BMC knows.
    pub patch: Option<Value>,
    /// The inventory says one thing and the BMC another.
    pub differs: Vec<String>,
    /// What a person has to choose.
    pub hints: Vec<String>,
}

/// Of what a BMC says.
pub fn findings(node: &Node, facts: &BmcFacts) -> Findings {
    let mismatches = identity::compare(&node.identity, facts).err().unwrap_or_default();
    compared(node, facts, "the BMC", mismatches.iter().map(ToString::to_string).collect())
}

/// Of what the installer saw on the machine itself.
pub fn hardware(node: &Node, seen: &HardwareFacts) -> Findings {
    let drives = seen.disks.iter().map(|disk| DriveFacts {
        name: disk.name.clone(),
        serial: disk.serial.clone(),
        wwn: disk.wwn.clone(),
        model: disk.model.clone(),
        size_bytes: Some(disk.size_bytes),
    });
    let facts = BmcFacts {
        endpoint: String::new(),
        manufacturer: None,
        model: None,
        serial: seen.machine.serial.clone(),
        sku: None,
        uuid: seen.machine.uuid,
        power: PowerState::On,
        boot: None,
        boot_targets: Vec::new(),
        drives: drives.collect(),
        macs: seen.machine.macs.iter().filter_map(|mac| mac.parse().ok()).collect(),
        cores: Some(seen.cores),
        memory_bytes: Some(seen.memory_bytes),
        bios_version: None,
        bmc_version: None,
        unread: Vec::new(),
    };
    // Its identity was held against the inventory when it claimed.
    let mut all = compared(node, &facts, "the installer", Vec::new());
    let Some(hardware) = &seen.hardware else { return all };
    let firmware = if hardware.uefi { BootMode::Uefi } else { BootMode::Bios };
    if firmware != node.boot_mode {
        let word = |mode| if mode == BootMode::Uefi { "uefi" } else { "bios" };
        let (said, is) = (word(node.boot_mode), word(firmware));
        all.differs.push(format!("bootMode: the inventory says {said}, the machine booted as {is}"));
    }
    let known = |mac: &str| node.interfaces.iter().any(|i| i.mac.to_string().eq_ignore_ascii_case(mac));
    for nic in hardware.interfaces.iter().filter(|nic| !known(&nic.mac)) {
        all.hints.push(format!("an interface that the inventory does not have: {}", nic_words(nic)));
    }
    all
}

fn nic_words(nic: &Nic) -> String {
    let link = match (nic.link, nic.speed_mbps) {
        (Some(true), Some(speed)) => format!("link at {speed} Mb/s"),
        (Some(true), None) => "link".to_owned(),
        (Some(false), _) => "no link".to_owned(),
        (None, _) => "link unknown".to_owned(),
    };
    let driver = nic.driver.as_deref().map(|d| format!(", {}", clean(d))).unwrap_or_default();
    format!("{} {} ({link}{driver})", clean(&nic.name), clean(&nic.mac))
}

/// `by`: who knows, as messages name it.
fn compared(node: &Node, facts: &BmcFacts, by: &str, mut differs: Vec<String>) -> Findings {
    let (mut spec, mut hints) = (Map::new(), Vec::new());
    let identity = missing_identity(node, facts);
    if !identity.is_empty() {
        spec.insert("identity".into(), Value::Object(identity));
    }
    if node.interfaces.is_empty() {
        if !facts.macs.is_empty() {
            let list: Vec<Value> = facts.macs.iter().map(|mac| json!({ "mac": mac.to_string() })).collect();
            spec.insert("interfaces".into(), Value::Array(list));
            hints.push(
                "say which interface boots from the network: give it `network`, `role: provision` and `addresses`"
                    .into(),
            );
        }
    } else if !facts.macs.is_empty()
        && let Some(boots) = node.provision()
        && !facts.macs.contains(&boots.mac)
    {
        let seen: Vec<String> = facts.macs.iter().map(ToString::to_string).collect();
        differs.push(format!("interface: the inventory says {}, {by} knows {}", boots.mac, seen.join(", ")));
    }
    if node.root_disk().is_none() {
        match facts.drives.as_slice() {
            _ if facts.drives_unread() => {
                let seen: Vec<String> = facts.drives.iter().map(shown).collect();
                let seen = if seen.is_empty() { "none".to_owned() } else { seen.join("; ") };
                hints.push(format!("{by} did not show all disks, so none is proposed; seen: {seen}"));
            }
            [] => hints.push(format!("{by} shows no disk (many BMCs do so while the machine is off)")),
            [one] => {
                if let Some(rule) = rule(one) {
                    spec.insert("disks".into(), json!({ "root": { "match": rule, "use": "root" } }));
                }
            }
            many => {
                let list: Vec<String> = many.iter().map(shown).collect();
                hints.push(format!(
                    "choose the disk of the system, disks: {{ root: {{ match: …, use: root }} }}: {}",
                    list.join("; ")
                ));
            }
        }
    }
    if let (Some(least), Some(seen)) = (node.minimum.cores, facts.cores)
        && seen < least
    {
        differs.push(format!("cores: at least {least} are wanted, {by} knows {seen}"));
    }
    if let (Some(least), Some(seen)) = (node.minimum.memory_bytes, facts.memory_bytes)
        && seen < least
    {
        differs.push(format!("memory: at least {} GiB are wanted, {by} knows {} GiB", least >> 30, seen >> 30));
    }
    hints.extend(facts.unread.iter().map(|line| format!("not read: {line}")));
    let patch = (!spec.is_empty()).then(|| {
        json!({
            "apiVersion": "rackctl.dev/v1alpha1",
            "kind": "Node",
            "metadata": { "name": node.name },
            "spec": spec,
        })
    });
    Findings { patch, differs, hints }
}

fn missing_identity(node: &Node, facts: &BmcFacts) -> Map<String, Value> {
    let mut identity = Map::new();
    if node.identity.serial.is_none() {
        let (serial, from) = serial(facts);
        if let Some(serial) = serial {
            identity.insert("serial".into(), json!(serial));
            if from == SerialFrom::Sku && node.identity.serial_from != SerialFrom::Sku {
                identity.insert("serialFrom".into(), json!("sku"));
            }
        }
    }
    if node.identity.uuid.is_none()
        && let Some(uuid) = facts.uuid
    {
        identity.insert("uuid".into(), json!(uuid));
    }
    identity
}

/// Dell's service tag stands in SKU, while SerialNumber is a board's.
fn serial(facts: &BmcFacts) -> (Option<&String>, SerialFrom) {
    let system = ComputerSystem { manufacturer: facts.manufacturer.clone(), ..ComputerSystem::default() };
    let dell = quirks::classify(&ServiceRoot::default(), &system).vendor == Vendor::Dell;
    match &facts.sku {
        Some(tag) if dell => (Some(tag), SerialFrom::Sku),
        _ => (facts.serial.as_ref(), SerialFrom::SerialNumber),
    }
}

fn rule(drive: &DriveFacts) -> Option<Value> {
    match (&drive.serial, &drive.wwn) {
        (Some(serial), _) => Some(json!({ "serial": serial })),
        (None, Some(wwn)) => Some(json!({ "wwn": wwn })),
        (None, None) => None,
    }
}

fn shown(drive: &DriveFacts) -> String {
    let serial = drive.serial.as_deref().or(drive.wwn.as_deref()).unwrap_or("no serial");
    let size = drive.size_bytes.map_or_else(|| "size unknown".to_owned(), |b| format!("{} GB", b / 1_000_000_000));
    format!("{serial} ({}, {size})", drive.model.as_deref().unwrap_or(&drive.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{fleet, power::PowerState};

    fn facts() -> BmcFacts {
        let drive = |serial: &str| DriveFacts {
            name: "0".into(),
            serial: Some(serial.into()),
            wwn: None,
            model: Some("PM9A3".into()),
            size_bytes: Some(960_000_000_000),
        };
        BmcFacts {
            endpoint: String::new(),
            manufacturer: Some("Dell Inc.".into()),
            model: None,
            serial: Some("CNFCP0012345".into()),
            sku: Some("7ABC123".into()),
            uuid: "4c4c4544-0034-5010-8031-c6c04f474831".parse().ok(),
            power: PowerState::Off,
            boot: None,
            boot_targets: vec![],
            drives: vec![drive("S1"), drive("S2")],
            macs: vec!["52:54:00:00:00:01".parse().unwrap()],
            cores: Some(8),
            memory_bytes: Some(32 << 30),
            bios_version: None,
            bmc_version: None,
            unread: vec![],
        }
    }

    fn node() -> Node {
        Node {
            name: "n1".into(),
            labels: Default::default(),
            site: None,
            hardware_class: None,
            profile: None,
            lifecycle: fleet::Lifecycle::Spare,
            management: fleet::Management::Full,
            protect: false,
            identity: Default::default(),
            bmc: None,
            interfaces: vec![],
            disks: Default::default(),
            location: Default::default(),
            arch: fleet::Arch::Amd64,
            boot_mode: fleet::BootMode::Uefi,
            boot_method: fleet::BootMethod::Pxe,
            console: None,
            minimum: Default::default(),
            image: None,
            kernel_params: vec![],
            install: None,
            services: vec![],
            ssh: Default::default(),
            dns: vec![],
            baseline: Default::default(),
        }
    }

    #[test]
    fn what_is_not_known_is_filled_in_and_nothing_is_chosen_for_a_person() {
        let found = findings(&node(), &facts());
        let spec = &found.patch.unwrap()["spec"];
        assert_eq!(spec["identity"]["serial"], "7ABC123");
        assert_eq!(spec["identity"]["serialFrom"], "sku");
        assert_eq!(spec["interfaces"][0]["mac"], "52:54:00:00:00:01");
        assert_eq!(spec.get("disks"), None, "two disks: a person chooses");
        assert!(found.hints.iter().any(|h| h.contains("S1") && h.contains("S2 (PM9A3, 960 GB)")), "{:?}", found.hints);
        assert_eq!(found.differs, Vec::<String>::new());
        let one = BmcFacts { drives: facts().drives.into_iter().take(1).collect(), manufacturer: None, ..facts() };
        let spec = &findings(&node(), &one).patch.unwrap()["spec"];
        assert_eq!(spec["disks"]["root"]["match"]["serial"], "S1");
        assert_eq!((&spec["identity"]["serial"], spec["identity"].get("serialFrom")), (&json!("CNFCP0012345"), None));
    }

    #[test]
    fn the_installer_sees_disks_links_and_firmware() {
        let disk = |serial: &str| rackctl_wire::Disk {
            name: "vda".into(),
            serial: Some(serial.into()),
            wwn: None,
            model: None,
            size_bytes: 4 << 30,
            content: rackctl_wire::Content::default(),
        };
        let nic = |mac: &str| Nic {
            name: "eth0".into(),
            mac: mac.into(),
            driver: Some("ixgbe".into()),
            link: Some(true),
            speed_mbps: Some(10_000),
        };
        let machine =
            rackctl_wire::MachineIds { macs: vec!["52:54:00:00:00:01".into()], ..rackctl_wire::MachineIds::default() };
        let interfaces = vec![nic("52:54:00:00:00:01"), nic("52:54:00:00:00:02")];
        let seen = HardwareFacts {
            machine,
            cores: 4,
            memory_bytes: 8 << 30,
            disks: vec![disk("D1")],
            hardware: Some(rackctl_wire::Hardware { uefi: false, cpu: None, interfaces }),
        };
        let own = fleet::Interface {
            name: None,
            mac: "52:54:00:00:00:01".parse().unwrap(),
            network: None,
            role: None,
            addresses: vec![],
        };
        let known = Node { interfaces: vec![own], ..node() };
        let found = hardware(&known, &seen);
        assert_eq!(
            found.patch.unwrap()["spec"],
            json!({"disks": {"root": {"match": {"serial": "D1"}, "use": "root"}}})
        );
        assert_eq!(found.differs, ["bootMode: the inventory says uefi, the machine booted as bios"]);
        let hint = "an interface that the inventory does not have: eth0 52:54:00:00:00:02 (link at 10000 Mb/s, ixgbe)";
        assert_eq!(found.hints, [hint]);
        let two = HardwareFacts { disks: vec![disk("D1"), disk("D2")], ..seen };
        let found = hardware(&known, &two);
        assert!(found.patch.is_none() && found.hints[0].contains("D1 (vda, 4 GB); D2"), "{:?}", found.hints);
    }

    #[test]
    fn what_stands_is_not_replaced_and_differences_are_told() {
        let interface = fleet::Interface {
            name: None,
            mac: "52:54:00:00:00:09".parse().unwrap(),
            network: Some("prov".into()),
            role: Some("provision".into()),
            addresses: vec![],
        };
        let disk = fleet::DiskRule {
            serial: Some("S9".into()),
            wwn: None,
            model: None,
            min_size_bytes: None,
            max_size_bytes: None,
            use_for: fleet::DiskUse::Root,
        };
        let identity = fleet::Identity { serial: Some("OTHER".into()), uuid: facts().uuid, ..Default::default() };
        let minimum = fleet::Minimum { cores: Some(16), memory_bytes: Some(32 << 30) };
        let disks = [("root".to_owned(), disk)].into();
        let known = Node { identity, interfaces: vec![interface], disks, minimum, ..node() };
        let found = findings(&known, &facts());
        assert_eq!((found.patch, found.differs.len()), (None, 3), "{:?}", found.differs);
        assert!(found.differs[0].contains("OTHER") && found.differs[1].contains("52:54:00:00:00:09"));
        assert_eq!(found.differs[2], "cores: at least 16 are wanted, the BMC knows 8");
    }
}
