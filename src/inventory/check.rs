//! A tree against the shape of its kind: every fault, with place and suggestion.

use std::borrow::Cow;

use super::{
    fault::{At, Report, did_you_mean},
    format,
    kinds::Kind,
    manifest::API_VERSION,
    schema::{MapRule, Rule, Shape, shape},
    yaml::{Tree, Value},
};

/// An object of the inventory: well enough formed to have a kind and a name.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) root: Tree,
}

/// Checks a document. A `kind: List` is its items. Objects come back also where they have faults, so that references
/// to them are not reported as well.
pub(crate) fn document(tree: Tree, report: &mut Report, objects: &mut Vec<Object>) {
    match tree.value {
        // An empty document: `---` at the end of a file.
        Value::Null => {}
        Value::Map(ref entries) => {
            if tree.get("kind").and_then(Tree::text) == Some("List") {
                for entry in entries.iter() {
                    match (&*entry.key, &entry.value.value) {
                        ("items", Value::List(items)) => {
                            items.iter().for_each(|item| document(item.clone(), report, objects));
                        }
                        ("items", _) => report.add(entry.value.at, "items", wrong("a list", &entry.value), None),
                        ("apiVersion" | "kind" | "metadata", _) => {}
                        (other, _) => report.add(
                            entry.key_at,
                            "",
                            format!("unknown field `{other}` in a List"),
                            did_you_mean(other, ["items"]),
                        ),
                    }
                }
            } else {
                objects.extend(object(tree, report));
            }
        }
        _ => {
            let message = wrong("a map with apiVersion, kind, metadata and spec", &tree);
            report.add(tree.at, "", message, Some("see `rackctl explain node`".into()));
        }
    }
}

fn object(tree: Tree, report: &mut Report) -> Option<Object> {
    let kind = envelope(&tree, report)?;
    value(&tree, shape(kind), "", report);
    let name = tree.dig(&["metadata", "name"]).and_then(Tree::text)?.to_owned();
    Some(Object { kind, name, root: tree })
}

/// Version and kind; `None` where the rest cannot be checked.
fn envelope(tree: &Tree, report: &mut Report) -> Option<Kind> {
    match tree.get("apiVersion").map(|v| (v, v.text())) {
        Some((_, Some(API_VERSION))) => {}
        Some((at, Some(version))) if version.starts_with("rackctl.dev/") => {
            report.add(
                at.at,
                "apiVersion",
                format!("this rackctl ({}) reads {API_VERSION}, not {version}", env!("CARGO_PKG_VERSION")),
                Some(format!(
                    "install the rackctl release that reads {version}, or write the manifest as {API_VERSION}"
                )),
            );
            return None;
        }
        Some((at, Some(version))) => {
            let tool = reader_of(version);
            let help = did_you_mean(version, [API_VERSION])
                .unwrap_or_else(|| format!("rackctl's own manifests begin with `apiVersion: {API_VERSION}`"));
            report.add(at.at, "apiVersion", format!("`{version}` is not rackctl's: {tool} reads it"), Some(help));
            return None;
        }
        Some((at, None)) => {
            report.add(at.at, "apiVersion", wrong("text", at), Some(format!("apiVersion: {API_VERSION}")))
        }
        None => report.add(tree.at, "apiVersion", "missing", Some(format!("begin with `apiVersion: {API_VERSION}`"))),
    }
    let names = || Kind::ALL.into_iter().map(Kind::name);
    match tree.get("kind").map(|k| (k, k.text())) {
        Some((at, Some(word))) => {
            let kind = Kind::from_name(word);
            if kind.is_none() {
                let help = did_you_mean(word, names()).unwrap_or_else(|| format!("one of {}", list(names())));
                report.add(at.at, "kind", format!("unknown kind `{word}`"), Some(help));
            }
            kind
        }
        Some((at, None)) => {
            report.add(at.at, "kind", wrong("text", at), Some(format!("one of {}", list(names()))));
            None
        }
        None => {
            report.add(tree.at, "kind", "missing", Some(format!("one of {}", list(names()))));
            None
        }
    }
}

/// The tool that reads manifests of a foreign version.
fn reader_of(version: &str) -> &'static str {
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    match group {
        "" | "apps" | "batch" => "kubectl (Kubernetes)",
        g if g.ends_with(".k8s.io") && g.contains("cluster.x-k8s.io") => "clusterctl (Cluster API)",
        g if g.ends_with(".k8s.io") => "kubectl (Kubernetes)",
        g if g.ends_with("metal3.io") => "the Metal3 operator",
        g if g.ends_with("tinkerbell.org") => "Tinkerbell",
        g if g.ends_with("talos.dev") || g.ends_with("sidero.dev") => "talosctl",
        _ => "another tool",
    }
}

fn value(tree: &Tree, shape: &Shape, path: &str, report: &mut Report) {
    let mut fault = |message: String, help: Option<String>| report.add(tree.at, path, message, help);
    match (&shape.rule, &tree.value) {
        (Rule::Any, _) | (Rule::Bool, Value::Bool(_)) | (Rule::Number, Value::Int(_) | Value::Float(_)) => {}
        (Rule::Integer { min, max }, Value::Int(number)) => {
            if number < min || number > max {
                fault(format!("{number} is out of range: {min} to {max}"), None);
            }
        }
        (Rule::Count, Value::Int(number)) => {
            if !(0..=i64::from(u32::MAX)).contains(number) {
                fault(format!("{number} is not a number of things"), None);
            }
        }
        (Rule::Count, Value::Text(text)) => {
            if let Err(want) = format::check("rackctl-count", text) {
                fault(format!("`{text}` is not {want}"), Some("1, or \"25%\"".into()));
            }
        }
        (Rule::Text { format: Some(name) }, Value::Text(text)) => {
            // Addresses of endpoints are checked once they are filled in (`rules::machine`), and so is what takes the
            // parameters of playbooks; nothing else with a form of its own takes templates.
            let (name, takes) = match name.strip_suffix("-or-template") {
                Some(name) => (name, true),
                None => (name.as_str(), matches!(name.as_str(), "rackctl-https-url" | "rackctl-host-port")),
            };
            let later = takes && text.contains("{{");
            if !later && let Err(want) = format::check(name, text) {
                fault(format!("`{}` is not {want}", without_password(text)), None);
            }
        }
        (Rule::Text { format: None }, Value::Text(text)) => {
            if text.contains(['\0', '\r']) || text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
                fault("the text holds control characters".into(), None);
            }
        }
        (Rule::Words(words), Value::Text(text)) => {
            if !words.iter().any(|(word, _)| word == text) {
                let known = || words.iter().map(|(word, _)| word.as_str());
                let help = did_you_mean(text, known()).unwrap_or_else(|| format!("one of {}", list(known())));
                fault(format!("unknown word `{text}`"), Some(help));
            }
        }
        (Rule::List { item, min, max }, Value::List(items)) => {
            if items.len() < *min || items.len() > *max {
                let want = match (min, max) {
                    (min, &usize::MAX) => format!("at least {min}"),
                    (min, max) if min == max => format!("{min}"),
                    (min, max) => format!("{min} to {max}"),
                };
                fault(format!("{} values where {want} are wanted", items.len()), None);
            }
            for (index, one) in items.iter().enumerate() {
                if one.value == Value::Null {
                    report.add(one.at, format!("{path}[{index}]"), wrong(&wanted(&item.rule), one), None);
                }
                value(one, item, &format!("{path}[{index}]"), report);
            }
        }
        (Rule::Map(rule), Value::Map(_)) => map(tree, rule, path, report),
        (Rule::Forms(forms), found) if *found != Value::Null => match forms.iter().find(|f| takes(&f.rule, found)) {
            Some(form) => value(tree, form, path, report),
            None => fault(wrong(&wanted(&shape.rule), tree), None),
        },
        // A field without a value is a field that is not there (a required one was reported by its map).
        (_, Value::Null) if !path.is_empty() => {}
        (Rule::Words(_) | Rule::Text { .. }, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {
            fault(wrong("text", tree), Some("write the value in quotes".into()));
        }
        (rule, _) => fault(wrong(&wanted(rule), tree), None),
    }
}

/// May a value of this kind stand here at all? What is said of its content comes after.
fn takes(rule: &Rule, value: &Value) -> bool {
    match (rule, value) {
        (Rule::Forms(forms), _) => forms.iter().any(|f| takes(&f.rule, value)),
        (Rule::Any, _)
        | (Rule::Bool, Value::Bool(_))
        | (Rule::Number, Value::Int(_) | Value::Float(_))
        | (Rule::Integer { .. }, Value::Int(_))
        | (Rule::Count, Value::Int(_) | Value::Text(_))
        | (Rule::Text { .. } | Rule::Words(_), Value::Text(_))
        | (Rule::List { .. }, Value::List(_))
        | (Rule::Map(_), Value::Map(_)) => true,
        _ => false,
    }
}

fn map(tree: &Tree, rule: &MapRule, path: &str, report: &mut Report) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for entry in tree.entries() {
        match (rule.field(&entry.key), &rule.rest) {
            (Some(shape), _) => value(&entry.value, shape, &join(&entry.key), report),
            (None, Some(shape)) => {
                if path == "metadata.labels" && !format::is_label_key(&entry.key) {
                    report.add(entry.key_at, path, format!("`{}` is not the key of a label", entry.key), None);
                }
                value(&entry.value, shape, &join(&entry.key), report);
            }
            (None, None) => unknown(&entry.key, entry.key_at, rule, path, report),
        }
    }
    let there = |name: &str| tree.get(name).is_some_and(|v| v.value != Value::Null);
    for name in rule.required.iter().filter(|name| !there(name)).filter(|name| !path.is_empty() || !is_envelope(name)) {
        let help = rule.field(name).and_then(|s| s.description.clone()).map(|d| first_sentence(&d).to_owned());
        report.add(tree.at, path, format!("`{name}` is missing"), help);
    }
    if !rule.one_of.is_empty() {
        let said: Vec<&str> = rule.one_of.iter().map(String::as_str).filter(|name| there(name)).collect();
        let one_of = || Some(format!("exactly one of {}", list(rule.one_of.iter().map(String::as_str))));
        match said.as_slice() {
            [_] => {}
            // A misspelt one was reported already.
            [] if tree.entries().iter().any(|e| rule.field(&e.key).is_none()) => {}
            [] => report.add(tree.at, path, "none of the possible fields is there", one_of()),
            more => report.add(tree.at, path, format!("{} exclude each other", list(more.iter().copied())), one_of()),
        }
    }
}

/// Reported by `envelope`, which says more.
fn is_envelope(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind")
}

fn unknown(key: &str, at: At, rule: &MapRule, path: &str, report: &mut Report) {
    if matches!(key.to_ascii_lowercase().as_str(), "password" | "passwd" | "pass" | "passphrase" | "token" | "secret") {
        report.add(
            at,
            path,
            format!("a secret in plain text (`{key}`) is refused"),
            Some("say where it comes from: `passwordFrom: { keyring: SERVICE/USER }` of a Credential (or exec, file, env, age, sops), and change it: it has been in a file".into()),
        );
        return;
    }
    let help = match key {
        "<<" => Some("merge keys are not YAML 1.2; put common values into a HardwareClass or Profile".into()),
        _ => did_you_mean(key, rule.names()).or_else(|| match rule.fields.len() {
            0..=12 => Some(format!("known here: {}", list(rule.names()))),
            _ => None,
        }),
    };
    report.add(at, path, format!("unknown field `{key}`"), help);
}

fn wanted(rule: &Rule) -> Cow<'static, str> {
    let words = match rule {
        Rule::Forms(forms) => {
            let mut all: Vec<Cow<'static, str>> = forms.iter().map(|f| wanted(&f.rule)).collect();
            all.dedup();
            return all.join(" or ").into();
        }
        Rule::Any => "a value",
        Rule::Bool => "true or false",
        Rule::Number => "a number",
        Rule::Integer { .. } => "a whole number",
        Rule::Count => "a number or a percentage",
        Rule::Text { .. } | Rule::Words(_) => "text",
        Rule::List { .. } => "a list",
        Rule::Map(_) => "a map",
    };
    words.into()
}

/// The value is not quoted: it may be a secret in the wrong place.
fn wrong(want: &str, tree: &Tree) -> String {
    format!("{want} is wanted here, not {}", tree.what())
}

/// An address is quoted in a message without the password that should not stand in it.
fn without_password(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &text[..scheme + 3], &text[at..]),
        _ => text.to_owned(),
    }
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first)
}

pub(crate) fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}
