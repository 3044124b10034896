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
    bmc::{
        client::{Found, scan},
        ipmi::{Present, presence},
    },
    cli::{args::bmc::Scan, globals::Globals, interrupt, session::block_on_alone},
    model::{Failure, Fleet, failure::Cause, fleet::EndpointAt},
    output::{Exit, Stop, Table, stdout, yaml},
    run::{netns, sessions},
};

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
    let count = addresses.len();
    let at_once = globals.concurrency.unwrap_or(AT_ONCE).max(1);
    let (found, failures) = block_on_alone(async {
        let ear = interrupt::looks()?;
        let stopped = ear.told();
        let mut answers = stream::iter(addresses).map(|ip| one(ip, args)).buffered(at_once);
        let (mut asked, mut found, mut failures) = (0, Vec::new(), Vec::new());
        let shows = count > at_once && stdout::is_terminal() && stdout::stderr_is_terminal();
        loop {
            let (address, redfish, ipmi) = tokio::select! {
                answer = answers.next() => match answer {
                    Some(answer) => answer,
                    None => break,
                },
                // What was found is not lost by it.
                () = sessions::stop(&stopped) => {
                    let why = format!("{asked} of {count} addresses were asked");
                    failures.push(Failure::new(Cause::Interrupted, "bmc scan", why));
                    break;
                }
            };
            asked += 1;
            let redfish = redfish.unwrap_or_else(|failure| {
                failures.push(failure);
                None
            });
            if redfish.is_some() || ipmi.is_some() {
                found.push(Answer { address, redfish, ipmi });
            }
            if shows {
                stdout::status(&format!("{asked} of {count} addresses asked, {} answered", found.len()));
            }
        }
        if shows {
            stdout::status("");
        }
        Ok((found, failures))
    })?;
    let interrupted = failures.iter().any(|f| f.cause == Cause::Interrupted);
    show(globals, args, fleet.as_ref(), &found)?;
    let drivable = found.iter().filter(|one| one.is_driven()).count();
    stdout::note(&format!("{drivable} of {count} addresses answer as a BMC"));
    for one in found.iter().filter(|one| !one.is_driven()) {
        let what = match one.ipmi.and_then(|p| p.ipmi_2) {
            Some(_) => "speaks IPMI 1.5 alone, whose sessions are not encrypted",
            None => "answers pings for a BMC and does not say that it speaks IPMI 2.0",
        };
        stdout::note(&format!("warning: {} has no Redfish and {what}: it is not driven", one.address));
    }
    for (pin, many) in shared(&found) {
        stdout::note(&format!(
            "warning: {many} of them show the same key ({pin}): a key of the maker's proves little; give each its own"
        ));
    }
    let exit = match drivable {
        _ if interrupted => Exit::Interrupted,
        0 => Exit::Failed,
        _ => Exit::Partial,
    };
    if failures.is_empty() { Ok(Exit::Done) } else { Err(Stop { exit, failures }) }
}

/// Both ways at one address, side by side.
async fn one(ip: IpAddr, args: &Scan) -> (IpAddr, Result<Option<Found>, Failure>, Option<Present>) {
    let redfish = scan(SocketAddr::new(ip, args.port), args.wait, LOOK);
    let ipmi = presence(SocketAddr::new(ip, args.ipmi_port), args.wait);
    let (redfish, ipmi) = futures_util::future::join(redfish, ipmi).await;
    (ip, redfish, ipmi)
}

/// What answers at one address.
struct Answer {
    address: IpAddr,
    redfish: Option<Found>,
    ipmi: Option<Present>,
}

impl Answer {
    /// The endpoint that a manifest of it names: Redfish, else IPMI 2.0.
    fn endpoint(&self, credential: &str) -> Option<Value> {
        match (&self.redfish, self.ipmi) {
            (Some(found), _) => {
                Some(json!({ "redfish": found.url, "credential": credential, "tls": { "pin": found.pin } }))
            }
            (None, Some(Present { at, ipmi_2: Some(true) })) => {
                Some(json!({ "ipmi": at.to_string(), "credential": credential }))
            }
            _ => None,
        }
    }
    fn is_driven(&self) -> bool {
        self.endpoint("").is_some()
    }
    /// Its node in the inventory, by either endpoint.
    fn known<'a>(&self, known: &BTreeMap<String, &'a str>) -> Option<&'a str> {
        let redfish = self.redfish.as_ref().and_then(|found| known.get(&found.url));
        redfish.or_else(|| known.get(&self.ipmi?.at.to_string())).copied()
    }
}

fn show(globals: &Globals, args: &Scan, fleet: Option<&Fleet>, found: &[Answer]) -> Result<(), Stop> {
    let known = fleet.map(known).unwrap_or_default();
    let items: Vec<Value> = found
        .iter()
        .filter(|one| one.known(&known).is_none())
        .filter_map(|one| manifest(one, &args.credential))
        .collect();
    for one in found {
        if let Some(name) = one.known(&known) {
            let address = one.redfish.as_ref().map_or_else(|| one.address.to_string(), |found| found.url.clone());
            stdout::note(&format!("{address} is {name} already"));
        }
    }
    if globals.format.is_for_people() && !args.table {
        return stdout::print(&yaml::emit_all(&items));
    }
    globals.print(&items, |wide| {
        let mut table = Table::new(["ADDRESS", "VENDOR", "PRODUCT", "REDFISH", "IPMI", "NODE", "PIN"]);
        for one in found {
            let redfish = one.redfish.as_ref();
            let text = |value: Option<&Option<String>>| value.cloned().flatten().unwrap_or_else(|| "-".to_owned());
            let pin = redfish.map_or("-", |found| found.pin.as_str());
            let ipmi = match one.ipmi.map(|present| present.ipmi_2) {
                Some(Some(true)) => "2.0",
                Some(Some(false)) => "1.5",
                Some(None) => "ping",
                None => "-",
            };
            table.row([
                one.address.to_string(),
                text(redfish.map(|found| &found.vendor)),
                text(redfish.map(|found| &found.product)),
                text(redfish.map(|found| &found.version)),
                ipmi.to_owned(),
                one.known(&known).unwrap_or("-").to_owned(),
                if wide { pin.to_owned() } else { pin.chars().take(19).collect() },
            ]);
        }
        table
    })
}

/// A node as far as its BMC tells of it without a credential. Named after the address: the serial needs a log-in. `None`:
/// what answers is not driven.
fn manifest(found: &Answer, credential: &str) -> Option<Value> {
    let name = format!("bmc-{}", found.address.to_string().replace(['.', ':'], "-").trim_end_matches('-'));
    let endpoint = found.endpoint(credential)?;
    Some(json!({
        "apiVersion": "rackctl.dev/v1alpha1",
        "kind": "Node",
        "metadata": { "name": name },
        "spec": { "lifecycle": "spare", "bmc": { "endpoints": [endpoint] } },
    }))
}

/// Endpoint → node.
fn known(fleet: &Fleet) -> BTreeMap<String, &str> {
    let mut known = BTreeMap::new();
    for node in fleet.nodes.values() {
        for endpoint in node.bmc.iter().flat_map(|b| &b.endpoints) {
            let (EndpointAt::Redfish(at) | EndpointAt::Ipmi(at)) = &endpoint.at;
            known.insert(at.clone(), node.name.as_str());
        }
    }
    known
}

/// Keys that more than one BMC shows, and how many.
fn shared(found: &[Answer]) -> Vec<(&str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in found.iter().filter_map(|one| one.redfish.as_ref()) {
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

    fn found(address: &str, pin: char) -> Answer {
        let address: IpAddr = address.parse().unwrap();
        let found = Found {
            address,
            url: format!("https://{address}"),
            pin: format!("sha256:{}", pin.to_string().repeat(64)),
            vendor: Some("Contoso".into()),
            product: None,
            version: Some("1.18.0".into()),
        };
        Answer { address, redfish: Some(found), ipmi: None }
    }

    fn by_ipmi(address: &str, ipmi_2: Option<bool>) -> Answer {
        let address: IpAddr = address.parse().unwrap();
        Answer { address, redfish: None, ipmi: Some(Present { at: SocketAddr::new(address, 623), ipmi_2 }) }
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
        let mut both = found("10.0.0.2", 'b');
        both.ipmi = by_ipmi("10.0.0.2", Some(true)).ipmi;
        let old = [by_ipmi("10.0.0.4", Some(false)), by_ipmi("10.0.0.5", None)];
        assert!(old.iter().all(|one| manifest(one, "bmc-default").is_none()));
        let all = [found("10.0.0.1", 'a'), both, by_ipmi("10.0.0.3", Some(true)), by_ipmi("fd00::3", Some(true))];
        let items: Vec<Value> = all.iter().filter_map(|f| manifest(f, "bmc-default")).collect();
        let credential = "---\napiVersion: rackctl.dev/v1alpha1\nkind: Credential\nmetadata: { name: bmc-default }\n\
                          spec: { username: root, passwordFrom: { env: BMC_PASSWORD } }\n";
        let source = crate::inventory::Source::Stdin(format!("{credential}{}", yaml::emit_all(&items)));
        let fleet = crate::inventory::load(&[source]).unwrap_or_else(|faults| panic!("{faults}")).fleet;
        let known = known(&fleet);
        let names: Vec<_> = all.iter().map(|one| one.known(&known)).collect();
        assert_eq!(names, ["bmc-10-0-0-1", "bmc-10-0-0-2", "bmc-10-0-0-3", "bmc-fd00--3"].map(Some));
        assert!(
            !known.contains_key("10.0.0.2:623"),
            "IPMI shows a hash of the password: only where there is nothing else"
        );
    }

    #[test]
    fn a_key_that_many_show_is_told() {
        let all = [found("10.0.0.1", 'a'), found("10.0.0.2", 'b'), found("10.0.0.3", 'a')];
        assert_eq!(shared(&all), [(format!("sha256:{}", "a".repeat(64)).as_str(), 2)]);
        assert_eq!(shared(&all[..2]), []);
    }
}
