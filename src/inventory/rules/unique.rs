//! What may stand in the inventory once: names, MACs, addresses, (BMC, system) pairs, serials, UUIDs.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use super::{Rules, items};
use crate::{
    inventory::{
        fault::{At, Report},
        yaml::Tree,
    },
    model::Mac,
};

/// Serials that many machines bear: vendors' placeholders, compared without case and white space.
const PLACEHOLDERS: [&str; 9] = [
    "defaultstring",
    "0123456789",
    "tobefilledbyo.e.m.",
    "notspecified",
    "systemserialnumber",
    "none",
    "n/a",
    "unknown",
    "0",
];

/// Values seen so far: value → place and owner of the first.
struct Once<'a, V> {
    what: &'static str,
    rules: &'a Rules<'a>,
    seen: HashMap<V, (At, &'a str)>,
}

impl<'a, V: Eq + Hash> Once<'a, V> {
    fn new(what: &'static str, rules: &'a Rules<'a>) -> Self {
        Once { what, rules, seen: HashMap::new() }
    }
    fn take(
        &mut self,
        value: V,
        shown: impl FnOnce() -> String,
        at: At,
        owner: &'a str,
        path: impl FnOnce() -> String,
        report: &mut Report,
    ) {
        match self.seen.entry(value) {
            Entry::Vacant(place) => drop(place.insert((at, owner))),
            Entry::Occupied(taken) => {
                let (first, other) = taken.get();
                let message = format!("{} `{}` stands twice: {other} has it too", self.what, shown());
                report.add(at, path(), message, Some(format!("the first one stands at {}", self.rules.place(*first))));
            }
        }
    }
}

pub(super) fn check<'a>(rules: &'a Rules<'a>, report: &mut Report, warnings: &mut Report) {
    let mut names = Once::new("the name", rules);
    for object in rules.objects {
        let at = object.root.dig(&["metadata", "name"]).map_or(object.root.at, |t| t.at);
        names.take(
            (object.kind, object.name.as_str()),
            || object.id(),
            at,
            "another object",
            || "metadata.name".into(),
            report,
        );
    }
    drop(names);
    let mut macs = Once::new("the MAC address", rules);
    let mut addresses = Once::new("the address", rules);
    let mut systems = Once::new("the BMC system", rules);
    let mut serials = Once::new("the serial", rules);
    let mut uuids = Once::new("the UUID", rules);
    for node in rules.nodes {
        let Some(spec) = node.object.spec() else { continue };
        let owner = node.object.name.as_str();
        let mut mac = |tree: Option<&'a Tree>, path: &dyn Fn() -> String, report: &mut Report| {
            if let Some((tree, text)) = tree.and_then(|t| Some((t, t.text()?)))
                && let Ok(mac) = text.parse::<Mac>()
            {
                macs.take(mac, || text.to_owned(), tree.at, owner, path, report);
            }
        };
        mac(spec.dig(&["bmc", "mac"]), &|| "spec.bmc.mac".into(), report);
        for (index, interface) in items(spec, &["interfaces"]) {
            mac(interface.get("mac"), &|| format!("spec.interfaces[{index}].mac"), report);
        }
        for list in ["interfaces", "bonds", "vlans"] {
            for (index, one) in items(spec, &[list]) {
                for (_, address) in items(one, &["addresses"]) {
                    let text = address.text().unwrap_or_default();
                    let host = text.split_once('/').map_or(text, |(host, _)| host);
                    if !host.is_empty() {
                        let path = || format!("spec.{list}[{index}].addresses");
                        addresses.take(host, || host.to_owned(), address.at, owner, path, report);
                    }
                }
            }
        }
        let system = spec.dig(&["bmc", "system"]).and_then(Tree::text).unwrap_or_default();
        for (index, endpoint) in items(spec, &["bmc", "endpoints"]) {
            for protocol in ["redfish", "ipmi"] {
                let Some(at) = endpoint.get(protocol) else { continue };
                let Some(text) = at.text() else { continue };
                let shown = || if system.is_empty() { text.to_owned() } else { format!("{text} system {system}") };
                let path = || format!("spec.bmc.endpoints[{index}].{protocol}");
                systems.take((protocol, host(text, protocol), system), shown, at.at, owner, path, report);
            }
        }
        if let Some((tree, text)) = spec.dig(&["identity", "serial"]).and_then(|t| Some((t, t.text()?))) {
            let plain: String = text.to_lowercase().split_whitespace().collect();
            if PLACEHOLDERS.contains(&plain.as_str()) || plain.bytes().all(|b| b == b'0') {
                let help = Some("leave it out, or write the one that is printed on the machine".into());
                warnings.add(
                    tree.at,
                    "spec.identity.serial",
                    format!("`{text}` is a placeholder of the vendor and identifies nothing"),
                    help,
                );
            } else {
                let path = || "spec.identity.serial".into();
                serials.take(plain, || text.to_owned(), tree.at, owner, path, report);
            }
        }
        if let Some((tree, text)) = spec.dig(&["identity", "uuid"]).and_then(|t| Some((t, t.text()?))) {
            let path = || "spec.identity.uuid".into();
            uuids.take(text.to_lowercase(), || text.to_owned(), tree.at, owner, path, report);
        }
    }
}

/// The host and port of an endpoint, as one spelling.
fn host<'a>(text: &'a str, protocol: &str) -> Cow<'a, str> {
    let (bare, port) = match protocol {
        "redfish" => (text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/'), ":443"),
        _ => (text, ":623"),
    };
    let host = bare.strip_suffix(port).unwrap_or(bare);
    if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}
