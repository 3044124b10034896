//! What ten thousand machines would have said of themselves.

use rackctl::model::{
    Fleet,
    facts::{BmcFacts, DriveFacts, Facts, NodeFacts, Observed},
    fleet::EndpointAt,
    power::{BootTarget, PowerState},
};

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
        power: if index % 3 == 0 { PowerState::On } else { PowerState::Off },
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
    };
    NodeFacts { bmc: Some(Observed { at: 1_790_000_000_000, value: Ok(bmc) }), ..NodeFacts::default() }
}

pub fn all(fleet: &Fleet) -> Facts {
    let nodes = fleet.nodes.keys().enumerate().map(|(i, name)| (name.clone(), of(fleet, name, i)));
    Facts { nodes: nodes.collect(), ..Facts::default() }
}
