//! Values flow site → hardware class → profile → node: maps merge, lists replace. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::yaml::{Entry, Tree, Value};

/// Maps of which one field excludes the others: the later one replaces the earlier one whole.
const WHOLE: &[&str] = &["install.driver", "image"];
/// The same of each entry below.
const WHOLE_BELOW: &str = "firmwareImages.";
/// What belongs to an object itself and does not flow.
const OWN: &[&str] = &["changeWindows", "disruption", "approval"];

/// Which object a value comes from: path → `Kind/name`.
pub(crate) type Origins = BTreeMap<String, String>;

/// Lays `from` (a spec) over `into`, and notes where each value comes from, where that is asked for.
pub(crate) fn lay(into: &mut Tree, from: &Tree, origin: &str, mut origins: Option<&mut Origins>) {
    let mut path = String::new();
    // Most machines of a large fleet differ in their own values alone: over nothing, these are shared and not copied.
    let flows = |e: &Entry| !OWN.contains(&&*e.key) && e.value.value != Value::Null;
    if into.entries().is_empty() && from.entries().iter().all(flows) {
        into.value = from.value.clone();
        if let Some(origins) = origins {
            for entry in from.entries() {
                path.clear();
                path.push_str(&entry.key);
                note(&entry.value, &mut path, origin, origins);
            }
        }
        return;
    }
    for entry in from.entries().iter().filter(|e| !OWN.contains(&&*e.key)) {
        merge_entry(into, entry, &mut path, origin, &mut origins);
    }
}

fn is_whole(path: &str) -> bool {
    WHOLE.contains(&path) || path.starts_with(WHOLE_BELOW)
}

fn merge_entry(into: &mut Tree, entry: &Entry, path: &mut String, origin: &str, origins: &mut Option<&mut Origins>) {
    if entry.value.value == Value::Null {
        return;
    }
    let length = path.len();
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&entry.key);
    let Value::Map(entries) = &mut into.value else { return path.truncate(length) };
    let entries = Arc::make_mut(entries);
    let there = entries.iter_mut().find(|e| e.key == entry.key);
    match (there, &entry.value.value) {
        (Some(old), Value::Map(new)) if matches!(old.value.value, Value::Map(_)) && !is_whole(path) => {
            for inner in new.iter() {
                merge_entry(&mut old.value, inner, path, origin, origins);
            }
        }
        (Some(old), _) => {
            old.value = entry.value.clone();
            old.key_at = entry.key_at;
            if let Some(origins) = origins {
                forget(path, origins);
                note(&entry.value, path, origin, origins);
            }
        }
        (None, _) => {
            entries.push(entry.clone());
            if let Some(origins) = origins {
                note(&entry.value, path, origin, origins);
            }
        }
    }
    path.truncate(length);
}

/// What stood at a path and below it comes from nowhere any more.
fn forget(path: &str, origins: &mut Origins) {
    let below: Vec<String> = origins
        .range(path.to_owned()..)
        .map(|(p, _)| p)
        .take_while(|p| p.starts_with(path))
        .filter(|p| p.len() == path.len() || p.as_bytes().get(path.len()) == Some(&b'.'))
        .cloned()
        .collect();
    below.iter().for_each(|p| drop(origins.remove(p)));
}

fn note(tree: &Tree, path: &mut String, origin: &str, origins: &mut Origins) {
    match &tree.value {
        Value::Map(entries) if !entries.is_empty() => {
            for entry in entries.iter() {
                let length = path.len();
                path.push('.');
                path.push_str(&entry.key);
                note(&entry.value, path, origin, origins);
                path.truncate(length);
            }
        }
        _ => drop(origins.insert(path.clone(), origin.to_owned())),
    }
}
