//! `describe`: everything about one object, in sections.

use std::fmt::Write;

use serde_json::Value;

use super::{
    Kind, age, clean,
    jsonpath::bare,
    resource::{self, Observation, Status},
};
use crate::model::{Fleet, facts::Observed};

/// Indentation of a nested value.
const STEP: usize = 2;
/// Values begin in this column, where their names leave room.
const VALUE_AT: usize = 22;

/// A list with a longer value than this stands on lines of its own.
const LIST_WIDTH: usize = 100;
/// Of a list of long lines, so many are shown, and so much of each.
const LONG_LINES: usize = 5;
const LINE_MAX: usize = 160;
/// Fields that hold milliseconds since 1970.
const TIMES: [&str; 2] = ["at", "observed"];

/// As manifests write it: `4Gi`, where it comes out even.
fn size(bytes: u64) -> String {
    let units = [("Ti", 1u64 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((word, unit)) => format!("{}{word}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// `None` when there is no such object.
pub fn describe(fleet: &Fleet, status: &Status, seen: &Observation, kind: Kind, name: &str) -> Option<String> {
    let item = resource::item(fleet, status, kind, name)?;
    let mut page = Page { out: String::new(), origins: None };
    page.pair(0, "Name", name);
    page.pair(0, "Kind", kind.title());
    if let Some(place) = resource::place(fleet, kind, name) {
        page.pair(0, "Defined in", place);
    }
    if let Some(labels) = item["metadata"]["labels"].as_object() {
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={}", bare(v))).collect();
        page.pair(0, "Labels", &labels.join(","));
    }
    page.heading("Desired");
    page.origins = if kind == Kind::Node { fleet.origins.get(name) } else { None };
    page.tree(STEP, "", &item["spec"]);
    page.origins = None;
    if kind == Kind::Node || kind == Kind::Cluster {
        page.heading("Observed");
        page.tree(STEP, "", &item["status"]);
    }
    if kind == Kind::Node || kind == Kind::Cluster {
        observed(&mut page, status, seen);
    }
    Some(page.out)
}

fn observed(page: &mut Page<'_>, status: &Status, seen: &Observation) {
    if let Some(cluster) = &seen.cluster {
        page.heading("Bootstrapped");
        page.tree(STEP, "", cluster);
    }
    fact(page, status, "BMC", seen.facts.bmc.as_ref());
    fact(page, status, "System", seen.facts.system.as_ref());
    if let Some(record) = &seen.facts.record {
        page.heading(&format!("Last installation ({} ago)", age::since(status.now, record.at)));
        page.tree(STEP, "", &serde_json::to_value(record).unwrap_or_default());
    }
    page.heading("Events");
    if seen.events.is_empty() {
        let _ = writeln!(page.out, "  none");
    }
    for (at, text) in &seen.events {
        let _ = writeln!(page.out, "  {:<6} {}", age::since(status.now, *at), clean::line(text));
    }
    if !seen.by_hand.is_empty() {
        page.heading("To finish the pending step by hand");
        for command in &seen.by_hand {
            let _ = writeln!(page.out, "  {}", clean::line(command));
        }
    }
}

fn fact<T: serde::Serialize>(page: &mut Page<'_>, status: &Status, what: &str, fact: Option<&Observed<T>>) {
    let Some(fact) = fact else { return };
    page.heading(&format!("{what} ({} ago)", age::since(status.now, fact.at)));
    match &fact.value {
        Ok(value) => page.tree(STEP, "", &serde_json::to_value(value).unwrap_or_default()),
        Err(failure) => {
            page.pair(STEP, "no answer", &failure.why);
            if let Some(next) = &failure.next {
                page.pair(STEP, "next", next);
            }
        }
    }
}

struct Page<'a> {
    out: String,
    /// Path of a value → where it comes from.
    origins: Option<&'a std::collections::BTreeMap<String, String>>,
}

impl Page<'_> {
    fn heading(&mut self, text: &str) {
        let _ = writeln!(self.out, "{}:", clean::line(text));
    }

    fn pair(&mut self, indent: usize, name: &str, value: &str) {
        let label = format!("{:indent$}{}:", "", clean::line(name));
        let _ = writeln!(self.out, "{label:<VALUE_AT$} {}", clean::line(value));
    }

    fn tree(&mut self, indent: usize, path: &str, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.entry(indent, key, &below, value);
                }
            }
            Value::Array(list) => {
                for (i, value) in list.iter().enumerate() {
                    self.entry(indent, &format!("[{i}]"), &format!("{path}[{i}]"), value);
                }
            }
            other => self.pair(indent, "", &bare(other)),
        }
    }

    fn entry(&mut self, indent: usize, name: &str, path: &str, value: &Value) {
        // Sizes are bytes here and `memory: 32Gi` in the manifests.
        let written = path.strip_suffix("Bytes").unwrap_or(path);
        if let (true, Some(at)) = (TIMES.contains(&name), value.as_u64()) {
            return self.pair(indent, name, &age::stamp(at));
        }
        let from = self
            .origins
            .and_then(|o| o.get(path).or_else(|| o.get(written)))
            .map(|o| format!("   (from {o})"))
            .unwrap_or_default();
        match value {
            Value::Null => {}
            Value::Object(map) if map.is_empty() => {}
            Value::Array(list) if list.is_empty() => {}
            Value::Array(list) if list.iter().all(|v| !v.is_object() && !v.is_array()) => {
                let texts: Vec<String> = list.iter().map(bare).collect();
                // Log lines and the like: the last ones, each on its own.
                if texts.iter().any(|t| t.chars().count() > LIST_WIDTH) {
                    let _ = writeln!(self.out, "{:indent$}{}:{from}", "", clean::line(name));
                    let skipped = texts.len().saturating_sub(LONG_LINES);
                    if skipped > 0 {
                        let _ = writeln!(self.out, "{:indent$}  … {skipped} more before these (-o json shows all)", "");
                    }
                    for text in &texts[skipped..] {
                        let mut short: String = text.chars().take(LINE_MAX).collect();
                        if short.len() < text.len() {
                            short.push('…');
                        }
                        let _ = writeln!(self.out, "{:indent$}  {}", "", clean::line(&short));
                    }
                    return;
                }
                self.pair(indent, name, &format!("{}{from}", texts.join(", ")));
            }
            Value::Object(_) | Value::Array(_) => {
                let _ = writeln!(self.out, "{:indent$}{}:{from}", "", clean::line(name));
                self.tree(indent + STEP, path, value);
            }
            scalar => {
                let sized = match scalar.as_u64() {
                    Some(bytes) if path.ends_with("Bytes") || matches!(name, "minSize" | "maxSize") => size(bytes),
                    _ => bare(scalar),
                };
                self.pair(indent, name, &format!("{sized}{from}"));
            }
        }
    }
}
