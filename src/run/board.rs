//! What the network-boot servers are told: a pure function of the fleet and of who is offered what.

use std::{collections::BTreeMap, net::SocketAddrV4};

use rackctl_wire::{PROTOCOL, Seed, cmdline};

use super::keys::Keys;
use crate::{
    model::{
        Failure, Fleet,
        boot::{BootChoice, BootMachine, BootNetwork, BootObject, BootSubnet, BootTable},
        failure::Cause,
        fleet::{Image, Node},
    },
    plan::Plan,
};

/// Who is offered network boot now, and for which boot attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    pub version: u64,
    pub attempts: BTreeMap<String, u32>,
}

pub struct Frame<'a> {
    pub fleet: &'a Fleet,
    pub plan: &'a Plan,
    pub run: &'a str,
    /// Our address on the network.
    pub server: std::net::Ipv4Addr,
    pub api_pin: &'a str,
    pub objects: &'a [BootObject],
}

/// The table of one network. Machines of the plan that are not offered anything are served an address alone.
pub fn table(frame: &Frame<'_>, network: &str, offers: &Offers, keys: &Keys) -> Result<BootTable, Failure> {
    let spec = frame
        .fleet
        .networks
        .get(network)
        .ok_or_else(|| Failure::new(Cause::Guard, format!("network {network}"), "it is not in the inventory"))?;
    let about = BootNetwork {
        name: network.to_owned(),
        interface: spec.interface.clone(),
        server: frame.server,
        subnets: spec
            .subnets
            .iter()
            .map(|s| BootSubnet { cidr: s.cidr, gateway: s.gateway, relays: s.relays.clone(), dns: Vec::new() })
            .collect(),
        dhcp: spec.dhcp,
        lease_s: spec.lease_s,
        probe_ms: spec.probe_ms,
        mtu: spec.mtu,
        http_port: spec.http_port,
        api: SocketAddrV4::new(frame.server, spec.api_port),
        api_pin: frame.api_pin.to_owned(),
    };
    let mut machines = Vec::new();
    for name in frame.plan.artifacts.keys() {
        let Some(node) = frame.fleet.nodes.get(name) else { continue };
        let Some(interface) = node.provision().filter(|i| i.network.as_deref() == Some(network)) else { continue };
        let Some(address) = node.address() else { continue };
        let boot = match offers.attempts.get(name) {
            Some(attempt) => installer(frame, &about, node, *attempt, keys)?,
            None => BootChoice::Withdrawn,
        };
        machines.push(BootMachine {
            node: name.clone(),
            mac: interface.mac,
            uuid: node.identity.uuid,
            arch: node.arch,
            address,
            hostname: name.clone(),
            boot,
        });
    }
    Ok(BootTable { version: offers.version, network: about, machines, objects: frame.objects.to_vec() })
}

fn installer(
    frame: &Frame<'_>,
    network: &BootNetwork,
    node: &Node,
    attempt: u32,
    keys: &Keys,
) -> Result<BootChoice, Failure> {
    let name = &node.name;
    let artifacts = frame.plan.artifacts.get(name).ok_or_else(|| {
        Failure::new(Cause::Guard, format!("{name}: network boot"), "the plan gives it nothing to boot")
    })?;
    let seed = Seed { protocol: PROTOCOL, node: name.clone(), token: keys.token(frame.run, name, attempt) };
    let seed_json =
        serde_json::to_string(&seed).map_err(|e| Failure::new(Cause::Local, format!("{name}: seed"), e.to_string()))?;
    let interface = node.provision();
    let address = interface.and_then(|i| i.addresses.first()).map(ToString::to_string).unwrap_or_default();
    let mac = interface.map(|i| i.mac.to_string()).unwrap_or_default();
    let mut words = vec![
        format!("{}={name}", cmdline::NODE),
        format!("{}=https://{}", cmdline::API, network.api),
        format!("{}={}", cmdline::PIN, network.api_pin),
        format!("{}=http://{}:{}", cmdline::ASSETS, network.server, network.http_port),
        format!("{}=sha256:{}", cmdline::STAGE2, artifacts.stage2_sha256),
        format!("{}=sha256:{}", cmdline::SYSTEM, artifacts.system_sha256),
        format!("{}={mac}", cmdline::MAC),
        format!("{}={address}", cmdline::ADDRESS),
    ];
    let gateway =
        network.subnets.iter().find(|s| node.address().is_some_and(|a| s.cidr.contains(&a))).and_then(|s| s.gateway);
    words.extend(gateway.map(|g| format!("{}={g}", cmdline::GATEWAY)));
    words.extend(node.console.as_ref().map(|c| format!("console={}", c.replace(",115200", ",115200n8"))));
    words.push("panic=30".to_owned());
    let image = node.image.as_ref().and_then(|name| frame.fleet.images.get(name));
    if let Some(Image::Files { cmdline, .. }) = image {
        words.extend(cmdline.split_ascii_whitespace().map(str::to_owned));
    }
    words.extend(node.kernel_params.iter().cloned());
    Ok(BootChoice::Installer {
        kernel_sha256: artifacts.kernel_sha256.clone(),
        initrd_sha256: artifacts.initrd_sha256.clone(),
        cmdline: words,
        seed_json,
    })
}
