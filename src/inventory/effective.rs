//! Each node's values after site, hardware class and profile are laid below its own, templates filled in. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    check::Object,
    fault::{At, Report},
    kinds::Kind,
    merge::{Origins, lay},
    parallel,
    template::{About, render},
    yaml::{Tree, Value},
};

/// Objects by kind and name; of two with one name, the first.
pub(crate) type Index<'a> = HashMap<(Kind, &'a str), &'a Object>;

pub(crate) fn index(objects: &[Object]) -> Index<'_> {
    let mut index = HashMap::with_capacity(objects.len());
    for object in objects {
        index.entry((object.kind, object.name.as_str())).or_insert(object);
    }
    index
}

/// A node's own manifest, and its values from everywhere.
pub(crate) struct Effective<'a> {
    pub(crate) object: &'a Object,
    pub(crate) spec: Tree,
    /// Empty unless asked for.
    pub(crate) origins: Origins,
    pub(crate) labels: BTreeMap<String, String>,
}

/// [`Effective`] without its manifest, for what comes when all checks are done: the trees of thousands of manifests can
/// be given back by then.
pub(crate) struct Settled {
    pub(crate) name: String,
    pub(crate) at: At,
    pub(crate) spec: Tree,
    pub(crate) origins: Origins,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Effective<'_> {
    pub(crate) fn settled(self) -> Settled {
        let Effective { object, spec, origins, labels } = self;
        Settled { name: object.name.clone(), at: object.root.at, spec, origins, labels }
    }
}

impl Object {
    pub(crate) fn spec(&self) -> Option<&Tree> {
        self.root.get("spec")
    }
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.root.dig(&["metadata", "labels"]).map(Tree::entries).unwrap_or_default();
        labels.iter().filter_map(|e| Some((e.key.to_string(), e.value.text()?.to_owned()))).collect()
    }
    /// `Node/n1`
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.kind.name(), self.name)
    }
}

/// `origins`: also where each value comes from, which costs more than the rest.
pub(crate) fn effective<'a>(
    objects: &'a [Object],
    index: &Index<'_>,
    origins: bool,
    report: &mut Report,
) -> Vec<Effective<'a>> {
    let nodes: Vec<&Object> = objects.iter().filter(|o| o.kind == Kind::Node).collect();
    parallel::each(nodes, report, |object, report| one(object, index, origins, report))
}

fn one<'a>(object: &'a Object, index: &Index<'_>, wanted: bool, report: &mut Report) -> Effective<'a> {
    let mut spec = Tree { at: object.root.at, value: Value::Map(Arc::default()) };
    let mut origins = Origins::new();
    let own = object.spec();
    for (kind, field) in [(Kind::Site, "site"), (Kind::HardwareClass, "hardwareClass"), (Kind::Profile, "profile")] {
        let layer = own.and_then(|s| s.get(field)).and_then(Tree::text).and_then(|name| index.get(&(kind, name)));
        if let Some(layer) = layer
            && let Some(values) = layer.spec()
        {
            lay(&mut spec, values, &layer.id(), wanted.then_some(&mut origins));
        }
    }
    if let Some(own) = own {
        lay(&mut spec, own, &object.id(), wanted.then_some(&mut origins));
    }
    let labels = object.labels();
    let serial = spec.dig(&["identity", "serial"]).and_then(Tree::text).map(str::to_owned);
    let about = About { name: &object.name, serial: serial.as_deref(), labels: &labels };
    fill(&mut spec, about, "spec", report);
    Effective { object, spec, origins, labels }
}

/// Fills templates in, wherever text stands.
fn fill(tree: &mut Tree, about: About<'_>, path: &str, report: &mut Report) {
    match &mut tree.value {
        Value::Text(text) if text.contains("{{") => match render(text, about) {
            Ok(filled) => *text = filled,
            Err(fault) => report.add(tree.at, path, fault.message, fault.help),
        },
        // Most values have no template: nothing is copied, and no path made, but where one may be.
        Value::List(items) if items.iter().any(has_template) => {
            Arc::make_mut(items).iter_mut().for_each(|item| fill(item, about, path, report));
        }
        Value::Map(entries) if entries.iter().any(|e| has_template(&e.value)) => {
            for entry in Arc::make_mut(entries) {
                if has_template(&entry.value) {
                    fill(&mut entry.value, about, &format!("{path}.{}", entry.key), report);
                }
            }
        }
        _ => {}
    }
}

fn has_template(tree: &Tree) -> bool {
    match &tree.value {
        Value::Text(text) => text.contains("{{"),
        Value::List(items) => items.iter().any(has_template),
        Value::Map(entries) => entries.iter().any(|e| has_template(&e.value)),
        _ => false,
    }
}
