//! What ten thousand machines would have said of themselves.

use rackctl::model::{
    Fleet,
    baseline::{Baseline, BaselineFacts, BiosFacts, FirmwareItem},
    facts::{BmcFacts, DriveFacts, Facts, InstallPhase, NodeFacts, NodeRecord, Observed},
    fleet::EndpointAt,
    power::{BootTarget, PowerState},
};
use rackctl_wire::{MachineIds, NodeConfig, NodeStatus, PROTOCOL};

const AT_MS: u64 = 1_790_000_000_000;

/// Off, blank and as the inventory says: every one of them is to be installed.
pub fn of(fleet: &Fleet, name: &str, index: usize) -> NodeFacts {
    let node = &fleet.nodes[name];
    let endpoint = node.bmc.as_ref().map(|b| match &b.endpoints[0].at {
        EndpointAt::Redfish(url) => url.clone(),
        EndpointAt::Ipmi(address) => address.clone(),
    });
    let bmc = BmcFacts {
        endpoint: endpoint.unwrap(),
        manufacturer: Some("Example Inc.".into()),
        model: Some("PowerEdge R750".into()),
        serial: node.identity.serial.clone(),
        sku: node.identity.serial.clone(),
        uuid: node.identity.uuid,
        power: if index.is_multiple_of(3) { PowerState::On } else { PowerState::Off },
        boot: None,
        boot_targets: vec![BootTarget::Pxe, BootTarget::Http, BootTarget::Disk],
        drives: (0..4)
            .map(|bay| DriveFacts {
                name: format!("Disk {bay} in Backplane 1"),
                serial: Some(format!("S{index:06}{bay}")),
                wwn: Some(format!("0x5000c500{index:07}{bay}")),
                model: Some("SAMSUNG MZ7LH480".into()),
                size_bytes: Some(480_103_981_056),
            })
            .collect(),
        macs: node.interfaces.iter().map(|i| i.mac).collect(),
        cores: Some(64),
        memory_bytes: Some(512 << 30),
        bios_version: Some("2.19.1".into()),
        bmc_version: Some("7.10.30.00".into()),
        unread: Vec::new(),
    };
    let baseline = Some(in_force(&node.baseline));
    NodeFacts { bmc: Some(Observed { at: AT_MS, value: Ok(bmc) }), baseline, ..NodeFacts::default() }
}

/// All that is asked for is there already.
fn in_force(asked: &Baseline) -> BaselineFacts {
    let item = |(name, version): (&String, &String)| FirmwareItem {
        id: name.clone(),
        name: name.clone(),
        version: Some(version.clone()),
        updateable: Some(true),
    };
    BaselineFacts {
        bios: Some(Ok(BiosFacts { in_force: asked.bios.clone(), ..BiosFacts::default() })),
        firmware: Some(Ok(asked.firmware.iter().map(item).collect())),
        storage: None,
    }
}

/// Installed and in service.
pub fn serving(fleet: &Fleet) -> Facts {
    let one = |(index, name): (usize, &String)| {
        let record = record(index);
        let status = NodeStatus {
            protocol: PROTOCOL,
            config: NodeConfig {
                protocol: PROTOCOL,
                node: name.clone(),
                fleet: fleet.id.clone(),
                run: record.run.clone(),
                generation: record.generation,
                hostname: name.clone(),
                interfaces: Vec::new(),
                authorized_keys: Vec::new(),
                dns: Vec::new(),
            },
            boot_id: format!("{index:032x}"),
            uptime_ms: 86_400_000,
            unix_ms: Some(AT_MS),
            slot: "a".into(),
            root_disk_guid: record.disk_guid,
            root_disk_serial: record.disk_serial.clone(),
            system_sha256: record.system_sha256.clone(),
            machine: MachineIds::default(),
            etcd: None,
        };
        let system = Observed { at: AT_MS, value: Ok(status) };
        (name.clone(), NodeFacts { record: Some(record), system: Some(system), ..of(fleet, name, index) })
    };
    Facts { nodes: fleet.nodes.keys().enumerate().map(one).collect(), ..Facts::default() }
}

/// Of an installed machine, as the store keeps it.
pub fn record(index: usize) -> NodeRecord {
    NodeRecord {
        generation: 1,
        run: "r-00001".to_owned(),
        phase: InstallPhase::Installed,
        system_host_key: format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{index:043}"),
        disk_guid: uuid::Uuid::from_u128(index as u128),
        disk_serial: Some(format!("S{index:07}")),
        system_sha256: "ab".repeat(32),
        at: AT_MS,
        over: None,
    }
}

/// None of them installed.
pub fn blank(fleet: &Fleet) -> Facts {
    let nodes = fleet.nodes.keys().enumerate().map(|(i, name)| (name.clone(), of(fleet, name, i)));
    Facts { nodes: nodes.collect(), ..Facts::default() }
}
