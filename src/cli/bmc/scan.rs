//! `bmc scan`: which BMCs answer in a network, as manifests ready to keep.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::{
    bmc::client::{Found, scan},
    cli::{args::bmc::Scan, globals::Globals, session::block_on},
    model::{Failure, Fleet, failure::Cause, fleet::EndpointAt},
    output::{Exit, Stop, Table, stdout, yaml},
    run::netns,
};

/// For the connection; what is not there says nothing.
const CONNECT: Duration = Duration::from_secs(2);
/// For what answers.
const LOOK: Duration = Duration::from_secs(30);
/// Addresses of one scan: a /16.
const MOST: usize = 1 << 16;
const AT_ONCE: usize = 128;

pub fn run(globals: &Globals, args: &Scan) -> Result<Exit, Stop> {
    let addresses = addresses(&args.networks).map_err(Stop::usage)?;
    // Without one, nothing is known yet: that is what a scan is for.
    let fleet = match globals.fleet() {
        Ok(fleet) => Some(fleet),
        Err(_) if globals.filenames.is_empty() => None,
        Err(stop) => return Err(stop),
    };
    if let Some(name) = &args.netns {
        netns::enter(name)?;
    }
    let connect = globals.timeout.unwrap_or(CONNECT);
    let count = addresses.len();
    let (found, failures) = block_on(async {
        let answers: Vec<_> = stream::iter(addresses)
            .map(|ip| scan(SocketAddr::new(ip, args.port), connect, LOOK))
            .buffered(globals.concurrency.unwrap_or(AT_ONCE).max(1))
            .collect()
            .await;
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok(one) => found.extend(one),
                Err(failure) => failures.push(failure),
            }
        }
        Ok((found, failures))
    })?;
    show(globals, args, fleet.as_ref(), &found)?;
    stdout::note(&format!("{} of {count} addresses answer as a BMC", found.len()));
    for (pin, many) in shared(&found) {
        stdout::note(&format!(
            "warning: {many} of them show the same key ({pin}): a key of the maker's proves little; give each its own"
        ));
    }
    let exit = if found.is_empty() { Exit::Failed } else { Exit::Partial };
    if failures.is_empty() { Ok(Exit::Done) } else { Err(Stop { exit, failures }) }
}

fn show(globals: &Globals, args: &Scan, fleet: Option<&Fleet>, found: &[Found]) -> Result<(), Stop> {
    let known = fleet.map(known).unwrap_or_default();
    let items: Vec<Value> = found
        .iter()
        .filter(|one| !known.contains_key(one.url.as_str()))
        .map(|one| manifest(one, &args.credential))
        .collect();
    for one in found {
        if let Some(name) = known.get(one.url.as_str()) {
            stdout::note(&format!("{} is {name} already", one.url));
        }
    }
    if globals.format.is_for_people() && !args.table {
        return stdout::print(&yaml::emit_all(&items));
    }
    globals.print(&items, |wide| {
        let mut table = Table::new(["ADDRESS", "VENDOR", "PRODUCT", "REDFISH", "NODE", "PIN"]);
        for one in found {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let pin = if wide { one.pin.clone() } else { one.pin.chars().take(19).collect() };
            let node = known.get(one.url.as_str()).map_or("-", |name| name);
            table.row([
                one.address.to_string(),
                text(&one.vendor),
                text(&one.product),
                text(&one.version),
                node.to_owned(),
                pin,
            ]);
        }
        table
    })
}

/// A node as far as its BMC tells of it without a credential. Named after the address: the serial needs a log-in.
fn manifest(found: &Found, credential: &str) -> Value {
    let name = format!("bmc-{}", found.address.to_string().replace(['.', ':'], "-").trim_end_matches('-'));
    json!({
        "apiVersion": "rackctl.dev/v1alpha1",
        "kind": "Node",
        "metadata": { "name": name },
        "spec": {
            "lifecycle": "spare",
            "bmc": { "endpoints": [{ "redfish": found.url, "credential": credential, "tls": { "pin": found.pin } }] },
        },
    })
}

fn known(fleet: &Fleet) -> BTreeMap<&str, &str> {
    let mut known = BTreeMap::new();
    for node in fleet.nodes.values() {
        for endpoint in node.bmc.iter().flat_map(|b| &b.endpoints) {
            if let EndpointAt::Redfish(url) = &endpoint.at {
                known.insert(url.as_str(), node.name.as_str());
            }
        }
    }
    known
}

/// Keys that more than one BMC shows, and how many.
fn shared(found: &[Found]) -> Vec<(&str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in found {
        *counts.entry(&one.pin).or_default() += 1;
    }
    counts.into_iter().filter(|(_, many)| *many > 1).collect()
}

/// The hosts of all networks, each once, in order.
fn addresses(networks: &[IpNet]) -> Result<Vec<IpAddr>, Failure> {
    let mut all = Vec::new();
    for network in networks {
        for host in network.hosts().take(MOST + 1) {
            if all.len() >= MOST {
                let why = format!("more than {MOST} addresses are asked for at once; name smaller networks");
                return Err(Failure::new(Cause::Refused, "bmc scan", why));
            }
            all.push(host);
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, pin: char) -> Found {
        Found {
            address: address.parse().unwrap(),
            url: format!("https://{address}"),
            pin: format!("sha256:{}", pin.to_string().repeat(64)),
            vendor: Some("Contoso".into()),
            product: None,
            version: Some("1.18.0".into()),
        }
    }

    #[test]
    fn hosts_are_counted_once_and_limited() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert_eq!(addresses(&[net("10.0.0.0/30"), net("10.0.0.2/32")]).unwrap().len(), 2);
        assert_eq!(addresses(&[net("10.0.0.0/16")]).unwrap().len(), 65_534);
        assert!(addresses(&[net("10.0.0.0/8")]).unwrap_err().why.contains("smaller"));
        assert!(addresses(&[net("fd00::/64")]).is_err());
    }

    /// What is printed is an inventory, but for the credential that a person has to add.
    #[test]
    fn manifests_are_ready_to_keep() {
        let all = [found("10.0.0.1", 'a'), found("10.0.0.2", 'b')];
        let items: Vec<Value> = all.iter().map(|f| manifest(f, "bmc-default")).collect();
        let credential = "---\napiVersion: rackctl.dev/v1alpha1\nkind: Credential\nmetadata: { name: bmc-default }\n\
                          spec: { username: root, passwordFrom: { env: BMC_PASSWORD } }\n";
        let source = crate::inventory::Source::Stdin(format!("{credential}{}", yaml::emit_all(&items)));
        let fleet = crate::inventory::load(&[source]).unwrap_or_else(|faults| panic!("{faults}")).fleet;
        assert_eq!(known(&fleet).get("https://10.0.0.2"), Some(&"bmc-10-0-0-2"));
        assert_eq!(fleet.nodes.len(), 2);
    }

    #[test]
    fn a_key_that_many_show_is_told() {
        let all = [found("10.0.0.1", 'a'), found("10.0.0.2", 'b'), found("10.0.0.3", 'a')];
        assert_eq!(shared(&all), [(all[0].pin.as_str(), 2)]);
        assert_eq!(shared(&all[..2]), []);
    }
}
