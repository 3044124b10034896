//! Objects as scripts and tables see them: what should be from the Fleet, what is from a [`Status`].

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Kind, Table, age, format::API_VERSION};
use crate::model::{
    Fleet,
    facts::{NodeFacts, UnixMs},
    fleet::{Cluster, ClusterDriver, DhcpMode, Image, Node, SecretSource},
    power::PowerState,
};

/// What is, for all that is shown at once. Filled from the store by the verb.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The time that ages are counted from.
    pub now: UnixMs,
    pub nodes: BTreeMap<String, NodeView>,
    pub clusters: BTreeMap<String, ClusterView>,
}

/// How a node stands. Everything unknown is `None`, and prints as `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// `Unknown`, `Registered`, `Installing`, `Installed`, `Member`, `Failed`, …
    pub phase: Option<String>,
    pub power: Option<PowerState>,
    /// Counts installations.
    pub generation: Option<u64>,
    /// The run that works on it, or did last.
    pub run: Option<String>,
    /// When it was last seen.
    pub observed: Option<UnixMs>,
    /// Why it is in this phase, in a sentence.
    pub reason: Option<String>,
    /// What its next step waits for.
    pub waiting: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// Voters that answered as healthy.
    pub healthy: Option<u32>,
    pub members: Option<u32>,
    pub leader: Option<String>,
    pub observed: Option<UnixMs>,
    pub reason: Option<String>,
}

/// `on`, `off`, …: one word for tables, selectors and JSON alike.
pub fn power_word(power: PowerState) -> &'static str {
    match power {
        PowerState::On => "on",
        PowerState::Off => "off",
        PowerState::PoweringOn => "powering-on",
        PowerState::PoweringOff => "powering-off",
        PowerState::Unknown => "unknown",
    }
}

/// The cluster that a node is, or as a spare may become, a member of.
pub fn cluster_of<'f>(fleet: &'f Fleet, node: &str) -> Option<&'f str> {
    let holds = |list: &[String]| list.iter().any(|n| n == node);
    let member = fleet.clusters.iter().find(|(_, c)| holds(&c.members));
    member.or_else(|| fleet.clusters.iter().find(|(_, c)| holds(&c.spares))).map(|(name, _)| name.as_str())
}

/// [`cluster_of`] for many nodes.
struct Clusters<'f>(HashMap<&'f str, &'f str>);

impl<'f> Clusters<'f> {
    fn of(fleet: &'f Fleet) -> Self {
        let mut clusters = HashMap::new();
        for list in [|c: &Cluster| &c.members, |c: &Cluster| &c.spares] as [fn(&Cluster) -> &Vec<String>; 2] {
            for (name, cluster) in &fleet.clusters {
                for node in list(cluster) {
                    clusters.entry(node.as_str()).or_insert(name.as_str());
                }
            }
        }
        Clusters(clusters)
    }

    fn get(&self, node: &str) -> Option<&'f str> {
        self.0.get(node).copied()
    }
}

/// One object with `apiVersion`, `kind`, `metadata`, `spec`, `status`; `None` when there is none of that name.
pub fn item(fleet: &Fleet, status: &Status, kind: Kind, name: &str) -> Option<Value> {
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
    let (spec, state) = match kind {
        Kind::Node => {
            let node = fleet.nodes.get(name)?;
            if !node.labels.is_empty() {
                metadata.insert("labels".to_owned(), json!(node.labels));
            }
            (node_spec(node), node_status(fleet, node, status))
        }
        Kind::Network => (to_value(fleet.networks.get(name)?), json!({})),
        Kind::HardwareClass => (to_value(fleet.hardware_classes.get(name)?), json!({})),
        Kind::Profile => (to_value(fleet.profiles.get(name)?), json!({})),
        Kind::Cluster => {
            let cluster = fleet.clusters.get(name)?;
            let view = status.clusters.get(name).cloned().unwrap_or_default();
            (without(to_value(cluster), &["name"]), without_nulls(to_value(&view)))
        }
        Kind::Image => (to_value(fleet.images.get(name)?), json!({})),
        Kind::Site => (to_value(fleet.sites.get(name)?), json!({})),
        Kind::Credential => (to_value(fleet.credentials.get(name)?), json!({})),
        Kind::Playbook => (to_value(fleet.playbooks.get(name)?), json!({})),
        Kind::Run | Kind::Lock | Kind::Lease | Kind::Event | Kind::Member => return None,
    };
    if let Some(place) = place(fleet, kind, name) {
        metadata.insert("annotations".to_owned(), json!({ "rackctl.dev/place": place }));
    }
    Some(json!({
        "apiVersion": API_VERSION, "kind": kind.title(), "metadata": metadata,
        "spec": without_nulls(spec), "status": state,
    }))
}

/// `file:line` of an object.
pub fn place<'f>(fleet: &'f Fleet, kind: Kind, name: &str) -> Option<&'f str> {
    fleet.places.get(&format!("{}/{name}", kind.title())).map(String::as_str)
}

fn to_value(value: &impl Serialize) -> Value {
    // Cannot fail: string keys and finite numbers alone; were it ever to, the object shows as null.
    serde_json::to_value(value).unwrap_or_default()
}

fn without(mut value: Value, keys: &[&str]) -> Value {
    if let Value::Object(map) = &mut value {
        keys.iter().for_each(|key| drop(map.shift_remove(*key)));
    }
    value
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// In the shape of the manifests, with the values that hold after resolution.
fn node_spec(node: &Node) -> Value {
    let mut spec = without(to_value(node), &["name", "labels", "bmc", "disks", "bootMethod", "image"]);
    let Value::Object(map) = &mut spec else { return spec };
    map.insert("boot".to_owned(), json!({ "method": node.boot_method }));
    if let Some(image) = &node.image {
        map.insert("image".to_owned(), json!({ "name": image }));
    }
    if let Some(bmc) = &node.bmc {
        let endpoints: Vec<Value> = bmc
            .endpoints
            .iter()
            .map(|endpoint| {
                let mut value = to_value(&endpoint.at);
                value["credential"] = json!(endpoint.credential);
                let trust = to_value(&endpoint.trust);
                if trust.is_object() {
                    value["tls"] = trust;
                }
                value
            })
            .collect();
        let value =
            json!({ "endpoints": endpoints, "system": bmc.system, "mac": bmc.mac, "sharedNic": bmc.shared_nic });
        map.insert("bmc".to_owned(), value);
    }
    let disks: Map<String, Value> = node
        .disks
        .iter()
        .map(|(name, rule)| {
            let matches = json!({ "serial": rule.serial, "wwn": rule.wwn, "model": rule.model,
                "minSize": rule.min_size_bytes, "maxSize": rule.max_size_bytes });
            (name.clone(), json!({ "match": matches, "use": rule.use_for }))
        })
        .collect();
    map.insert("disks".to_owned(), Value::Object(disks));
    spec
}

fn node_status(fleet: &Fleet, node: &Node, status: &Status) -> Value {
    let view = status.nodes.get(&node.name).cloned().unwrap_or_default();
    without_nulls(json!({
        "phase": phase(&view), "power": view.power.map_or("unknown", power_word), "generation": view.generation,
        "cluster": cluster_of(fleet, &node.name), "run": view.run, "observed": view.observed.map(age::stamp),
        "reason": view.reason, "waiting": view.waiting,
    }))
}

fn phase(view: &NodeView) -> &str {
    view.phase.as_deref().unwrap_or("Unknown")
}

/// What `--field-selector` can ask of a node: `power`, `phase`, `profile`, `cluster`, `rack`, `site`, `lifecycle`,
/// `hardwareClass`, `management`, `name`. `None`: no such field.
pub fn node_field(fleet: &Fleet, status: &Status, name: &str, field: &str) -> Option<String> {
    let node = fleet.nodes.get(name)?;
    let view = status.nodes.get(name).cloned().unwrap_or_default();
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Some(match field {
        "name" | "metadata.name" => name.to_owned(),
        "power" | "status.power" => view.power.map_or("unknown", power_word).to_owned(),
        "phase" | "status.phase" => phase(&view).to_owned(),
        "profile" | "spec.profile" => text(&node.profile),
        "cluster" | "status.cluster" => cluster_of(fleet, name).unwrap_or_default().to_owned(),
        "rack" | "spec.location.rack" => text(&node.location.rack),
        "site" | "spec.site" => text(&node.site),
        "hardwareClass" | "spec.hardwareClass" => text(&node.hardware_class),
        "lifecycle" | "spec.lifecycle" => word(to_value(&node.lifecycle)),
        "management" | "spec.management" => word(to_value(&node.management)),
        _ => return None,
    })
}

pub const NODE_FIELDS: [&str; 10] =
    ["name", "power", "phase", "profile", "cluster", "rack", "site", "hardwareClass", "lifecycle", "management"];

const NODE_COLUMNS: [&str; 10] =
    ["NAME", "PHASE", "POWER", "PROFILE", "CLUSTER", "GENERATION", "RACK", "RUN", "OBSERVED", "REASON"];
const NODE_COLUMNS_WIDE: [&str; 6] = ["BMC", "ADDRESS", "MAC", "SERIAL", "SITE", "LIFECYCLE"];

/// The rows of one kind. Unknown names are left out: the caller has refused them.
pub fn table(fleet: &Fleet, status: &Status, kind: Kind, names: &[String], wide: bool) -> Table {
    match kind {
        Kind::Node => nodes(fleet, status, names, wide),
        Kind::Cluster => clusters(fleet, status, names, wide),
        _ => others(fleet, kind, names),
    }
}

fn nodes(fleet: &Fleet, status: &Status, names: &[String], wide: bool) -> Table {
    let mut headers: Vec<&str> = NODE_COLUMNS.to_vec();
    if wide {
        // The reason stays last: it is the column that may be cut.
        let reason = headers.len() - 1;
        headers.splice(reason..reason, NODE_COLUMNS_WIDE);
    }
    let mut table = Table::new(headers);
    let (clusters, unknown) = (Clusters::of(fleet), NodeView::default());
    for (name, node) in names.iter().filter_map(|name| fleet.nodes.get_key_value(name)) {
        let view = status.nodes.get(name).unwrap_or(&unknown);
        let mut cells = vec![
            name.clone(),
            phase(view).to_owned(),
            view.power.map_or("unknown", power_word).to_owned(),
            node.profile.clone().unwrap_or_default(),
            clusters.get(name).unwrap_or_default().to_owned(),
            view.generation.map(|g| g.to_string()).unwrap_or_default(),
            node.location.rack.clone().unwrap_or_default(),
            view.run.clone().unwrap_or_default(),
            view.observed.map(|at| age::since(status.now, at)).unwrap_or_default(),
        ];
        if wide {
            cells.extend([
                bmc_address(node),
                node.address().map(|a| a.to_string()).unwrap_or_default(),
                node.provision().map(|i| i.mac.to_string()).unwrap_or_default(),
                node.identity.serial.clone().unwrap_or_default(),
                node.site.clone().unwrap_or_default(),
                to_value(&node.lifecycle).as_str().unwrap_or_default().to_owned(),
            ]);
        }
        cells.push(view.reason.as_ref().or(view.waiting.as_ref()).cloned().unwrap_or_default());
        table.row(cells);
    }
    table
}

/// The first endpoint.
fn bmc_address(node: &Node) -> String {
    use crate::model::fleet::EndpointAt;
    match node.bmc.as_ref().and_then(|bmc| bmc.endpoints.first()).map(|e| &e.at) {
        Some(EndpointAt::Redfish(url)) => url.clone(),
        Some(EndpointAt::Ipmi(address)) => format!("ipmi://{address}"),
        None => String::new(),
    }
}

fn clusters(fleet: &Fleet, status: &Status, names: &[String], wide: bool) -> Table {
    let mut headers = vec!["NAME", "DRIVER", "HEALTHY", "MEMBERS", "SIZE", "LEADER", "OBSERVED"];
    headers.extend(wide.then_some(["DESIRED", "SPARES"]).into_iter().flatten());
    headers.push("REASON");
    let mut table = Table::new(headers);
    for (name, cluster) in names.iter().filter_map(|name| fleet.clusters.get_key_value(name)) {
        let view = status.clusters.get(name).cloned().unwrap_or_default();
        let number = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
        let mut cells = vec![
            name.clone(),
            driver(cluster),
            number(view.healthy),
            number(view.members),
            cluster.size.to_string(),
            view.leader.clone().unwrap_or_default(),
            view.observed.map(|at| age::since(status.now, at)).unwrap_or_default(),
        ];
        if wide {
            cells.extend([cluster.members.join(","), cluster.spares.join(",")]);
        }
        cells.push(view.reason.unwrap_or_default());
        table.row(cells);
    }
    table
}

fn driver(cluster: &Cluster) -> String {
    match &cluster.driver {
        ClusterDriver::Etcd { version, .. } => format!("etcd {version}"),
        ClusterDriver::Other { kind } => kind.clone(),
    }
}

fn others(fleet: &Fleet, kind: Kind, names: &[String]) -> Table {
    let headers: &[&str] = match kind {
        Kind::Network => &["NAME", "INTERFACE", "NAMESPACE", "DHCP", "SUBNETS"],
        Kind::HardwareClass => &["NAME", "BIOS", "FIRMWARE", "NODES"],
        Kind::Profile => &["NAME", "IMAGE", "NODES", "SERVICES"],
        Kind::Image => &["NAME", "SOURCE", "NODES"],
        Kind::Site => &["NAME", "DOMAIN", "NODES"],
        Kind::Credential => &["NAME", "USER", "PASSWORD FROM"],
        _ => &["NAME", "STEPS", "PARAMETERS"],
    };
    let count = |matches: &dyn Fn(&Node) -> bool| fleet.nodes.values().filter(|n| matches(n)).count().to_string();
    let mut table = Table::new(headers.iter().copied());
    for name in names {
        let cells = match kind {
            Kind::Network => fleet.networks.get(name).map(|n| {
                let subnets: Vec<String> = n.subnets.iter().map(|s| s.cidr.to_string()).collect();
                vec![
                    n.interface.clone(),
                    n.netns.clone().unwrap_or_default(),
                    dhcp(n.dhcp).to_owned(),
                    subnets.join(","),
                ]
            }),
            Kind::HardwareClass => fleet.hardware_classes.get(name).map(|class| {
                let used = count(&|n| n.hardware_class.as_ref() == Some(name));
                vec![class.bios.len().to_string(), class.firmware.len().to_string(), used]
            }),
            Kind::Profile => fleet.profiles.get(name).map(|profile| {
                let used = count(&|n| n.profile.as_ref() == Some(name));
                vec![profile.image.clone().unwrap_or_default(), used, profile.services.join(",")]
            }),
            Kind::Image => fleet.images.get(name).map(|image| {
                let source = match image {
                    Image::Distro { distro, .. } => distro.clone(),
                    Image::Nix { flake } => format!("nix {flake}"),
                    Image::Files { .. } => "files".to_owned(),
                };
                vec![source, count(&|n| n.image.as_ref() == Some(name))]
            }),
            Kind::Site => fleet
                .sites
                .get(name)
                .map(|site| vec![site.domain.clone().unwrap_or_default(), count(&|n| n.site.as_ref() == Some(name))]),
            Kind::Credential => {
                fleet.credentials.get(name).map(|c| vec![c.username.clone(), source(&c.password_from).to_owned()])
            }
            Kind::Playbook => fleet.playbooks.get(name).map(|p| {
                let words = p.parameters.iter().map(|(name, parameter)| {
                    let default = parameter.default.as_ref().map(|d| format!("={d}")).unwrap_or_default();
                    format!("{name}:{}{default}", parameter.of.word())
                });
                vec![p.steps.len().to_string(), words.collect::<Vec<_>>().join(" ")]
            }),
            _ => None,
        };
        if let Some(cells) = cells {
            table.row(std::iter::once(name.clone()).chain(cells));
        }
    }
    table
}

pub fn dhcp(mode: DhcpMode) -> &'static str {
    match mode {
        DhcpMode::Authoritative => "authoritative",
        DhcpMode::Proxy => "proxy",
        DhcpMode::Off => "off",
    }
}

/// The way to the password, never the password.
fn source(from: &SecretSource) -> &'static str {
    match from {
        SecretSource::Keyring(_) => "keyring",
        SecretSource::Exec { .. } => "exec",
        SecretSource::File(_) => "file",
        SecretSource::Env(_) => "env",
        SecretSource::Age(_) => "age",
        SecretSource::Sops(_) => "sops",
    }
}

/// Everything that was observed of a node, for `describe`.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    pub facts: NodeFacts,
    /// Of a cluster: what the store keeps of its bootstrap.
    pub cluster: Option<Value>,
    /// Newest last.
    pub events: Vec<(UnixMs, String)>,
    /// Commands with which a person finishes the pending step.
    pub by_hand: Vec<String>,
}

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;
