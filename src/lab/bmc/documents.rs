//! The resources of a BMC as documents by path: built for the laboratory's own, or read from a recorded tree.
//!
//! Paths are without a trailing slash. What changes by itself (power, dates) is laid over them when they are shown.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Documents of one BMC: the largest recorded tree has 470.
const MAX: usize = 20_000;

#[derive(Clone, Debug)]
pub struct Document {
    pub body: Value,
    /// Counts changes: the ETag.
    pub version: u64,
    /// What a PATCH may change: `IndicatorLED`, `HTTP.ProtocolEnabled`.
    pub writable: &'static [&'static str],
    /// A collection whose members are the documents right below it.
    pub collects: bool,
    order: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Documents {
    map: BTreeMap<String, Document>,
    order: u64,
}

impl Documents {
    /// New or anew. Beyond the limit nothing is kept.
    pub fn put(&mut self, path: impl Into<String>, body: Value) -> &mut Document {
        let path = path.into();
        if self.map.len() >= MAX && !self.map.contains_key(&path) {
            // Beyond the limit a newer one takes the place of the last in order of paths.
            self.map.pop_last();
        }
        self.order += 1;
        let order = self.order;
        let document = self.map.entry(path).or_insert(Document {
            body: Value::Null,
            version: 0,
            writable: &[],
            collects: false,
            order,
        });
        document.body = body;
        document.version += 1;
        document
    }

    /// A collection of what stands right below it: `kind` is `LogEntry`, `Session`, …
    pub fn collection(&mut self, path: impl Into<String>, kind: &str, name: &str) {
        let path = path.into();
        let body = json!({
            "@odata.id": path,
            "@odata.type": format!("#{kind}Collection.{kind}Collection"),
            "Name": name,
        });
        self.put(path, body).collects = true;
    }

    /// A resource with the properties that all have; `body` holds the rest.
    pub fn resource(&mut self, path: impl Into<String>, kind: &str, name: &str, body: Value) -> &mut Document {
        let path = path.into();
        // `Thermal.v1_7_3.Thermal` of `Thermal.v1_7_3`.
        let bare = kind.split('.').next().unwrap_or(kind).to_owned();
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut whole = json!({
            "@odata.id": path,
            "@odata.type": format!("#{kind}.{bare}"),
            "Id": id,
            "Name": name,
        });
        merge(&mut whole, &body);
        self.put(path, whole)
    }

    pub fn get(&self, path: &str) -> Option<&Document> {
        self.map.get(path)
    }
    pub fn body(&self, path: &str) -> Option<&Value> {
        Some(&self.map.get(path)?.body)
    }
    /// The path as it is kept, whatever the case of the one asked for.
    pub fn find_any_case(&self, path: &str) -> Option<String> {
        if self.map.contains_key(path) {
            return Some(path.to_owned());
        }
        self.map.keys().find(|known| known.eq_ignore_ascii_case(path)).cloned()
    }
    pub fn remove(&mut self, path: &str) -> bool {
        self.map.remove(path).is_some()
    }
    /// Changes a document that is there.
    pub fn change(&mut self, path: &str, change: impl FnOnce(&mut Value)) -> bool {
        let Some(document) = self.map.get_mut(path) else { return false };
        change(&mut document.body);
        document.version += 1;
        true
    }
    /// Lays properties over a document that is there.
    pub fn merge(&mut self, path: &str, with: &Value) -> bool {
        self.change(path, |body| merge(body, with))
    }
    /// Right below a path, in the order in which they came.
    pub fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        let range = self.map.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix));
        let mut found: Vec<(u64, &String)> =
            range.filter(|(p, _)| !p[prefix.len()..].contains('/')).map(|(p, d)| (d.order, p)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, path)| path.clone()).collect()
    }
    pub fn paths(&self) -> impl Iterator<Item = &String> {
        self.map.keys()
    }
    pub fn len(&self) -> usize {
        self.map.len()
    }
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

/// Lays `with` over `base`: objects property by property, everything else whole.
pub fn merge(base: &mut Value, with: &Value) {
    match (base, with) {
        (Value::Object(base), Value::Object(with)) => {
            for (key, value) in with {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, with) => *base = with.clone(),
    }
}

/// Every object in a document, the document first.
pub fn each_object(value: &mut Value, act: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            act(map);
            map.values_mut().for_each(|v| each_object(v, act));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| each_object(v, act)),
        _ => {}
    }
}

/// Every text in a document.
pub fn each_text(value: &mut Value, act: &mut impl FnMut(&mut String)) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|v| each_text(v, act)),
        Value::Array(items) => items.iter_mut().for_each(|v| each_text(v, act)),
        Value::String(text) => act(text),
        _ => {}
    }
}

pub fn link(path: impl Into<String>) -> Value {
    json!({ "@odata.id": path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_what_stands_below_in_the_order_of_coming() {
        let mut docs = Documents::default();
        docs.collection("/a/Entries", "LogEntry", "Entries");
        for n in [9, 10, 2] {
            docs.resource(format!("/a/Entries/{n}"), "LogEntry.v1_16_0", "Entry", json!({"Severity": "OK"}));
        }
        docs.resource("/a/Entries/9/Deep", "X.v1_0_0", "Deep", json!({}));
        assert_eq!(docs.below("/a/Entries"), ["/a/Entries/9", "/a/Entries/10", "/a/Entries/2"]);
        let body = docs.body("/a/Entries/9").unwrap();
        assert_eq!((&body["@odata.type"], &body["Id"]), (&json!("#LogEntry.v1_16_0.LogEntry"), &json!("9")));
        assert!(docs.merge("/a/Entries/9", &json!({"Severity": "Warning"})) && !docs.merge("/b", &json!({})));
        assert_eq!(docs.get("/a/Entries/9").unwrap().version, 2);
        assert_eq!(docs.find_any_case("/A/entries/10").as_deref(), Some("/a/Entries/10"));
        assert!(docs.remove("/a/Entries/9") && !docs.remove("/a/Entries/9"));
    }
}
