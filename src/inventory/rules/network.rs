//! Addresses of a network, and of machines in it.

use std::{collections::HashMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Rules, items};
use crate::inventory::{
    fault::Report,
    format::{cidr, interface_address, ipv4},
    kinds::Kind,
    yaml::Tree,
};

pub(super) fn check(rules: &Rules<'_>, report: &mut Report, warnings: &mut Report) {
    for network in rules.of(Kind::Network) {
        let Some(spec) = network.spec() else { continue };
        for (index, subnet) in items(spec, &["subnets"]) {
            let Some(net) = net(subnet) else { continue };
            let path = |field: &str| format!("spec.subnets[{index}].{field}");
            let mut inside = |tree: &Tree, field: &str| {
                let address = tree.text().and_then(|t| ipv4(t).ok())?;
                if !net.contains(&address) {
                    report.add(tree.at, path(field), format!("{address} is not in {net}"), None);
                }
                Some(address)
            };
            if let Some(gateway) = subnet.get("gateway") {
                inside(gateway, "gateway");
            }
            let pool: Vec<(&Tree, Option<Ipv4Addr>)> =
                items(subnet, &["pool"]).map(|(_, tree)| (tree, inside(tree, "pool"))).collect();
            if let [(at, Some(first)), (_, Some(last))] = pool.as_slice()
                && first > last
            {
                let help = Some(format!("pool: [{last}, {first}]"));
                report.add(at.at, path("pool"), format!("the pool ends at {last}, before it begins at {first}"), help);
            }
        }
    }
    let mut networks: HashMap<&str, Vec<Net<'_>>> = HashMap::new();
    for network in rules.of(Kind::Network) {
        // Of two with one name, the first; the second is a fault.
        networks.entry(network.name.as_str()).or_insert_with(|| nets(network.spec()));
    }
    for node in rules.nodes {
        let Some(spec) = node.object.spec() else { continue };
        for list in ["interfaces", "bonds", "vlans"] {
            for (index, one) in items(spec, &[list]) {
                let Some(network) = one.get("network").and_then(Tree::text) else { continue };
                let Some(nets) = networks.get(network).filter(|nets| !nets.is_empty()) else { continue };
                for (_, tree) in items(one, &["addresses"]) {
                    let path = || format!("spec.{list}[{index}].addresses");
                    address(tree, nets, network, path, report, warnings);
                }
            }
        }
    }
}

/// A subnet, as far as it can be read.
struct Net<'a> {
    net: Ipv4Net,
    gateway: Option<&'a str>,
    pool: Vec<Ipv4Addr>,
}

fn nets(spec: Option<&Tree>) -> Vec<Net<'_>> {
    let subnets = spec.map(|s| items(s, &["subnets"])).into_iter().flatten();
    subnets
        .filter_map(|(_, subnet)| {
            Some(Net {
                net: net(subnet)?,
                gateway: subnet.get("gateway").and_then(Tree::text),
                pool: items(subnet, &["pool"]).filter_map(|(_, t)| ipv4(t.text()?).ok()).collect(),
            })
        })
        .collect()
}

fn net(subnet: &Tree) -> Option<Ipv4Net> {
    subnet.get("cidr").and_then(Tree::text).and_then(|t| cidr(t).ok())
}

fn address(
    tree: &Tree,
    nets: &[Net<'_>],
    network: &str,
    path: impl Fn() -> String,
    report: &mut Report,
    warnings: &mut Report,
) {
    let Some(address) = tree.text().and_then(|t| interface_address(t).ok()) else { return };
    let Some(Net { net, gateway, pool }) = nets.iter().find(|n| n.net.contains(&address.addr())) else {
        let known: Vec<String> = nets.iter().map(|n| n.net.to_string()).collect();
        let message = format!("{} is in no subnet of Network {network}", address.addr());
        return report.add(tree.at, path(), message, Some(format!("its subnets: {}", known.join(", "))));
    };
    if net.prefix_len() != address.prefix_len() {
        let message = format!("the prefix /{} is not that of its subnet {net}", address.prefix_len());
        report.add(tree.at, path(), message, Some(format!("{}/{}", address.addr(), net.prefix_len())));
    }
    if gateway.is_some_and(|gateway| gateway == address.addr().to_string()) {
        report.add(tree.at, path(), format!("{} is the gateway of its subnet", address.addr()), None);
    }
    if let [first, last] = pool.as_slice()
        && (*first..=*last).contains(&address.addr())
    {
        let message = format!("{} lies in the pool for machines without an address", address.addr());
        warnings.add(tree.at, path(), message, Some("move the pool or the address: they may meet".into()));
    }
}
