//! What must hold between objects: names, references, addresses, sizes. On trees, so that every fault has its place
//! and an object with faults of its own is still looked at. Pure.

mod cluster;
mod machine;
mod network;
mod playbook;
mod unique;

use std::collections::{BTreeMap, HashMap};

use super::{
    check::Object,
    effective::{Effective, Index},
    fault::{At, Report, did_you_mean},
    kinds::Kind,
    template,
    yaml::{Tree, Value},
};

/// Names of each kind, for references and suggestions.
pub(super) type Names<'a> = BTreeMap<Kind, Vec<&'a str>>;

pub(super) struct Rules<'a> {
    pub(super) objects: &'a [Object],
    pub(super) index: &'a Index<'a>,
    pub(super) nodes: &'a [Effective<'a>],
    pub(super) names: Names<'a>,
    /// `file:line` of a place.
    pub(super) files: &'a [std::path::PathBuf],
}

pub(super) fn check(
    objects: &[Object],
    index: &Index<'_>,
    nodes: &[Effective<'_>],
    files: &[std::path::PathBuf],
    report: &mut Report,
    warnings: &mut Report,
) {
    let mut names = Names::new();
    for object in objects {
        names.entry(object.kind).or_default().push(&object.name);
    }
    let rules = Rules { objects, index, nodes, names, files };
    unique::check(&rules, report, warnings);
    network::check(&rules, report, warnings);
    machine::check(&rules, report, warnings);
    cluster::check(&rules, report, warnings);
    playbook::check(&rules, report, warnings);
    references(&rules, report);
    templates(&rules, report);
}

impl Rules<'_> {
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |o| o.kind == kind)
    }

    pub(super) fn place(&self, at: At) -> String {
        match self.files.get(at.file as usize) {
            Some(file) => format!("{}:{}", file.display(), at.line),
            None => format!("line {}", at.line),
        }
    }

    /// A name that stands at `tree` must be that of an object.
    pub(super) fn refer(&self, kind: Kind, tree: Option<&Tree>, path: impl FnOnce() -> String, report: &mut Report) {
        let Some((tree, name)) = tree.and_then(|t| t.text().map(|n| (t, n))) else { return };
        if name.contains("{{") || self.index.contains_key(&(kind, name)) {
            return;
        }
        let names = self.names.get(&kind).map(Vec::as_slice).unwrap_or_default();
        let help = did_you_mean(name, names.iter().copied()).or_else(|| match names {
            [] => Some(format!("there is no {} at all: is its file among those read?", kind.name())),
            _ => None,
        });
        report.add(tree.at, path(), format!("no {} is named `{name}`", kind.name()), help);
    }
}

fn references(rules: &Rules<'_>, report: &mut Report) {
    for object in rules.objects {
        let Some(spec) = object.spec() else { continue };
        let mut refer = |kind, path: &[&str]| {
            rules.refer(kind, spec.dig(path), || format!("spec.{}", path.join(".")), report);
        };
        match object.kind {
            Kind::Node | Kind::Profile => {
                refer(Kind::Image, &["image", "name"]);
                refer(Kind::Image, &["install", "driver", "image", "system"]);
            }
            _ => {}
        }
        if object.kind == Kind::Node {
            refer(Kind::Site, &["site"]);
            refer(Kind::HardwareClass, &["hardwareClass"]);
            refer(Kind::Profile, &["profile"]);
            for (index, endpoint) in items(spec, &["bmc", "endpoints"]) {
                let path = || format!("spec.bmc.endpoints[{index}].credential");
                rules.refer(Kind::Credential, endpoint.get("credential"), path, report);
            }
            for list in ["interfaces", "bonds", "vlans"] {
                for (index, one) in items(spec, &[list]) {
                    let path = || format!("spec.{list}[{index}].network");
                    rules.refer(Kind::Network, one.get("network"), path, report);
                }
            }
        }
    }
}

/// Items of a list and their numbers; none where there is no list.
pub(super) fn items<'t>(tree: &'t Tree, path: &[&str]) -> impl Iterator<Item = (usize, &'t Tree)> {
    tree.dig(path).map(Tree::items).unwrap_or_default().iter().enumerate()
}

/// Templates in objects that no node may use, and in those where none can stand. Nodes' own were filled in already.
fn templates(rules: &Rules<'_>, report: &mut Report) {
    // What a node uses was checked with that node, and named it.
    let mut used: HashMap<(Kind, &str), ()> = HashMap::new();
    for node in rules.nodes {
        let own = node.object.spec();
        for (kind, field) in [(Kind::Site, "site"), (Kind::HardwareClass, "hardwareClass"), (Kind::Profile, "profile")]
        {
            if let Some(name) = own.and_then(|s| s.get(field)).and_then(Tree::text) {
                used.insert((kind, name), ());
            }
        }
    }
    for object in rules.objects {
        let Some(spec) = object.spec() else { continue };
        match object.kind {
            Kind::Node | Kind::Playbook => {}
            Kind::Cluster | Kind::Image | Kind::Network => each_text(spec, "spec", &mut |tree, text, path| {
                if text.contains("{{") {
                    let message =
                        format!("a {} belongs to no one node: templates mean nothing here", object.kind.name());
                    report.add(tree.at, path, message, None);
                }
            }),
            kind if used.contains_key(&(kind, object.name.as_str())) => {}
            _ => each_text(spec, "spec", &mut |tree, text, path| {
                let fault = template::variables(text).and_then(|v| v.into_iter().try_for_each(template::known));
                if let Err(fault) = fault {
                    report.add(tree.at, path, fault.message, fault.help);
                }
            }),
        }
    }
}

pub(super) fn each_text(tree: &Tree, path: &str, act: &mut dyn FnMut(&Tree, &str, &str)) {
    match &tree.value {
        Value::Text(text) => act(tree, text, path),
        Value::List(items) => {
            items.iter().enumerate().for_each(|(i, item)| each_text(item, &format!("{path}[{i}]"), act));
        }
        Value::Map(entries) => {
            entries.iter().for_each(|e| each_text(&e.value, &format!("{path}.{}", e.key), act));
        }
        _ => {}
    }
}
