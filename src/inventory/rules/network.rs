//! Addresses of a network, and of machines in it.

use std::net::Ipv4Addr;

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
    for node in rules.nodes {
        let Some(spec) = node.object.spec() else { continue };
        for list in ["interfaces", "bonds", "vlans"] {
            for (index, one) in items(spec, &[list]) {
                let name = one.get("network").and_then(Tree::text);
                let Some(network) = name.and_then(|n| rules.index.get(&(Kind::Network, n))) else { continue };
                let subnets: Vec<&Tree> =
                    network.spec().map(|s| items(s, &["subnets"]).map(|(_, t)| t).collect()).unwrap_or_default();
                let path = format!("spec.{list}[{index}].addresses");
                for (_, tree) in items(one, &["addresses"]) {
                    address(tree, &subnets, &network.name, &path, report, warnings);
                }
            }
        }
    }
}

fn net(subnet: &Tree) -> Option<Ipv4Net> {
    subnet.get("cidr").and_then(Tree::text).and_then(|t| cidr(t).ok())
}

fn address(tree: &Tree, subnets: &[&Tree], network: &str, path: &str, report: &mut Report, warnings: &mut Report) {
    let Some(address) = tree.text().and_then(|t| interface_address(t).ok()) else { return };
    let nets: Vec<(Ipv4Net, &Tree)> = subnets.iter().filter_map(|s| Some((net(s)?, *s))).collect();
    if nets.is_empty() {
        return;
    }
    let Some((net, subnet)) = nets.iter().find(|(net, _)| net.contains(&address.addr())) else {
        let known: Vec<String> = nets.iter().map(|(net, _)| net.to_string()).collect();
        let message = format!("{} is in no subnet of Network {network}", address.addr());
        return report.add(tree.at, path, message, Some(format!("its subnets: {}", known.join(", "))));
    };
    if net.prefix_len() != address.prefix_len() {
        let message = format!("the prefix /{} is not that of its subnet {net}", address.prefix_len());
        report.add(tree.at, path, message, Some(format!("{}/{}", address.addr(), net.prefix_len())));
    }
    if subnet.get("gateway").and_then(Tree::text) == Some(address.addr().to_string().as_str()) {
        report.add(tree.at, path, format!("{} is the gateway of its subnet", address.addr()), None);
    }
    let pool: Vec<Ipv4Addr> = items(subnet, &["pool"]).filter_map(|(_, t)| ipv4(t.text()?).ok()).collect();
    if let [first, last] = pool.as_slice()
        && (*first..=*last).contains(&address.addr())
    {
        let message = format!("{} lies in the pool for machines without an address", address.addr());
        warnings.add(tree.at, path, message, Some("move the pool or the address: they may meet".into()));
    }
}
