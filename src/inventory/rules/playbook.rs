//! Parameters, names and conditions in playbooks.

use super::{Rules, cluster::value_of, each_text, items};
use crate::{
    inventory::{
        fault::{Report, did_you_mean},
        format::duration_ms,
        kinds::Kind,
        play::{When, fits, webhook, when},
        select::{ranges, selector},
        template::{alone, variables},
        yaml::{Entry, Tree, Value},
    },
    model::playbook::ParameterType,
};

/// Declared parameters, by name; a type that is no type was reported by the schema.
type Declared<'t> = Vec<(&'t str, Option<ParameterType>)>;

pub(super) fn check(rules: &Rules<'_>, report: &mut Report, warnings: &mut Report) {
    for playbook in rules.of(Kind::Playbook) {
        let Some(spec) = playbook.spec() else { continue };
        let entries = spec.get("parameters").map(Tree::entries).unwrap_or_default();
        let declared: Declared<'_> = entries.iter().map(|e| (&*e.key, type_of(&e.value))).collect();
        for entry in entries {
            parameter(rules, entry, report);
        }
        let mut used = Vec::new();
        for (index, one) in items(spec, &["steps"]) {
            step(rules, one, &format!("spec.steps[{index}]"), &declared, &mut used, report, warnings);
        }
        for entry in entries.iter().filter(|e| !used.iter().any(|name| *name == e.key)) {
            let message = format!("no step uses the parameter `{}`", entry.key);
            warnings.add(entry.key_at, "spec.parameters", message, Some(format!("{{{{ {} }}}}", entry.key)));
        }
    }
}

fn type_of(parameter: &Tree) -> Option<ParameterType> {
    serde_json::from_value(parameter.get("type")?.to_json()).ok()
}

fn parameter(rules: &Rules<'_>, entry: &Entry, report: &mut Report) {
    let path = format!("spec.parameters.{}", entry.key);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !entry.key.bytes().all(plain) || !entry.key.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let help = Some("a letter, then letters, digits, `-` and `_`".into());
        report.add(entry.key_at, "spec.parameters", format!("`{}` is no name for a parameter", entry.key), help);
    }
    let (Some(default), Some(of)) = (entry.value.get("default"), type_of(&entry.value)) else { return };
    let text = match &default.value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => return,
    };
    let path = format!("{path}.default");
    let known = |of: ParameterType, name: &str| {
        let kind = if of == ParameterType::Cluster { Kind::Cluster } else { Kind::Node };
        if rules.index.contains_key(&(kind, name)) {
            return Ok(());
        }
        let names = rules.names.get(&kind).map(Vec::as_slice).unwrap_or_default();
        let help = did_you_mean(name, names.iter().copied()).map(|h| format!("; {h}")).unwrap_or_default();
        Err(format!("no {} is named `{name}`{help}", kind.name()))
    };
    if let Err(why) = fits(of, &text, &known) {
        report.add(default.at, path, format!("no {}: {why}", of.word()), None);
    }
}

fn step(
    rules: &Rules<'_>,
    step: &Tree,
    path: &str,
    declared: &Declared<'_>,
    used: &mut Vec<String>,
    report: &mut Report,
    warnings: &mut Report,
) {
    for entry in step.entries() {
        let at = format!("{path}.{}", entry.key);
        if entry.key == "onFailure" {
            let (list, below) = match entry.value.get("steps") {
                Some(steps) => (steps, format!("{at}.steps")),
                None => (&entry.value, at.clone()),
            };
            for (index, one) in list.items().iter().enumerate() {
                self::step(rules, one, &format!("{below}[{index}]"), declared, used, report, warnings);
            }
            if let Some(delay) = entry.value.get("delay") {
                texts(delay, &format!("{at}.delay"), declared, used, report);
            }
            continue;
        }
        texts(&entry.value, &at, declared, used, report);
        match &*entry.key {
            "when" => condition(&entry.value, &at, declared, report),
            "name" => {}
            "upgrade" => {
                rules.refer(Kind::Cluster, entry.value.get("cluster"), || format!("{at}.cluster"), report);
                for below in ["os", "firmware"] {
                    if let Some(tree) = entry.value.get(below) {
                        names(rules, tree, &format!("{at}.{below}"), report, warnings);
                    }
                }
            }
            verb => {
                names(rules, &entry.value, &at, report, warnings);
                of_verb(rules, verb, &entry.value, &at, report, warnings);
            }
        }
    }
}

/// Templates: parameters that exist, of a type that can stand there.
fn texts(tree: &Tree, path: &str, declared: &Declared<'_>, used: &mut Vec<String>, report: &mut Report) {
    each_text(tree, path, &mut |tree, text, path| match variables(text) {
        Ok(found) => {
            for name in found {
                used.push(name.to_owned());
                if !declared.iter().any(|(known, _)| *known == name) {
                    let help = did_you_mean(name, declared.iter().map(|(known, _)| *known))
                        .or_else(|| Some("declare it under spec.parameters".into()));
                    report.add(tree.at, path, format!("unknown template variable `{name}`"), help);
                }
            }
            let of = alone(text).and_then(|name| declared.iter().find(|(known, _)| *known == name));
            if let (Some((name, Some(of))), Some(wanted)) = (of, wanted(path))
                && *of != wanted
                && *of != ParameterType::Text
            {
                let message = format!("a {} is wanted here; the parameter `{name}` is a {}", wanted.word(), of.word());
                report.add(tree.at, path, message, Some(format!("type: {}", wanted.word())));
            }
        }
        Err(fault) => report.add(tree.at, path, fault.message, fault.help),
    });
}

/// The type of what stands at a path; `None`: any text.
fn wanted(path: &str) -> Option<ParameterType> {
    let field = path.rsplit('.').next().unwrap_or(path);
    match field.split('[').next().unwrap_or(field) {
        "node" | "with" | "nodes" => Some(ParameterType::Node),
        "cluster" => Some(ParameterType::Cluster),
        "selector" => Some(ParameterType::Selector),
        "healthy" | "deadline" | "duration" | "delay" => Some(ParameterType::Duration),
        "reinstall" | "force" | "persistent" | "loseQuorum" => Some(ParameterType::Bool),
        _ => None,
    }
}

fn condition(tree: &Tree, path: &str, declared: &Declared<'_>, report: &mut Report) {
    let Some(text) = tree.text() else { return };
    match when(text) {
        Ok(When::Is(flag) | When::IsNot(flag)) => {
            let of = alone(flag).and_then(|name| declared.iter().find(|(known, _)| *known == name));
            if let Some((name, Some(of))) = of
                && !matches!(of, ParameterType::Bool | ParameterType::Text)
            {
                let message = format!("a bool is wanted here; the parameter `{name}` is a {}", of.word());
                report.add(tree.at, path, message, Some(format!("\"{{{{ {name} }}}} == …\"")));
            }
        }
        Ok(_) => {}
        Err(want) => report.add(tree.at, path, "this condition cannot be read", Some(want)),
    }
}

/// Nodes and clusters that are named literally.
fn names(rules: &Rules<'_>, tree: &Tree, path: &str, report: &mut Report, warnings: &mut Report) {
    rules.refer(Kind::Cluster, tree.get("cluster"), || format!("{path}.cluster"), report);
    for field in ["node", "with"] {
        rules.refer(Kind::Node, tree.get(field), || format!("{path}.{field}"), report);
    }
    for (index, word) in items(tree, &["nodes"]) {
        let Some(text) = word.text().filter(|t| !t.contains("{{")) else { continue };
        let all = rules.names.get(&Kind::Node).map(Vec::as_slice).unwrap_or_default();
        if let Err(error) = ranges(&[text]).and_then(|set| set.pick(all.iter().copied())) {
            report.add(word.at, format!("{path}.nodes[{index}]"), error.to_string(), None);
        }
    }
    if let Some((tree, text)) = tree.get("selector").and_then(|t| Some((t, t.text()?)))
        && !text.contains("{{")
        && let Ok(chosen) = selector(text)
        && !rules.nodes.iter().any(|n| chosen.matches_with(|key| value_of(n, key)))
    {
        let message = format!("the selector `{text}` matches no node");
        warnings.add(tree.at, format!("{path}.selector"), message, Some("the playbook cannot be run so".into()));
    }
}

fn of_verb(rules: &Rules<'_>, verb: &str, tree: &Tree, path: &str, report: &mut Report, warnings: &mut Report) {
    let there = |field: &str| tree.get(field).filter(|t| t.value != Value::Null);
    match verb {
        "apply" => {
            let said: Vec<&str> = ["node", "nodes", "selector"].into_iter().filter(|f| there(f).is_some()).collect();
            if said.len() > 1 {
                let help = Some("one of them, or none: all active nodes".into());
                report.add(tree.at, path, format!("`{}` exclude each other", said.join("`, `")), help);
            }
        }
        "gate" => never(tree, there("healthy"), there("deadline"), path, report),
        "wait" => {
            if let (Some(_), Some(deadline)) = (there("duration"), there("deadline")) {
                let help = Some("leave it out, or wait `for` something".into());
                report.add(deadline.at, format!("{path}.deadline"), "a duration has no deadline beside it", help);
            }
            let Some(condition) = there("for") else { return };
            let at = format!("{path}.for");
            names(rules, condition, &at, report, warnings);
            never(condition, condition.get("healthy"), there("deadline"), &at, report);
            let has = |field: &str| condition.get(field).is_some_and(|t| t.value != Value::Null);
            if has("node") && !has("power") {
                report.add(condition.at, &at, "`power` is missing", Some("power: on, or power: off".into()));
            }
            for (field, with) in [("power", "node"), ("healthy", "cluster")] {
                if has(field) && !has(with) {
                    report.add(condition.at, &at, format!("`{field}` belongs to `{with}`"), None);
                }
            }
        }
        "notify" => {
            if let Some((url, text)) = there("url").and_then(|t| Some((t, t.text()?)))
                && text.starts_with("http")
                && let Err(why) = webhook(text, there("pin").is_some())
            {
                let help = Some("pin: sha256:… of the server's public key".into());
                report.add(url.at, format!("{path}.url"), why, help.filter(|_| text.starts_with("https")));
            } else if let (None, Some(pin)) = (there("url"), there("pin")) {
                report.add(pin.at, format!("{path}.pin"), "a `pin` belongs to an https `url`", None);
            }
        }
        _ => {}
    }
}

/// A deadline that ends before what it waits for can be seen.
fn never(tree: &Tree, healthy: Option<&Tree>, deadline: Option<&Tree>, path: &str, report: &mut Report) {
    let ms = |t: Option<&Tree>| duration_ms(t?.text()?).ok();
    if let (Some(healthy), Some(deadline)) = (ms(healthy), ms(deadline))
        && deadline <= healthy
    {
        let help = Some("a deadline that is longer than `healthy`".into());
        report.add(tree.at, path, "the deadline ends before the cluster can have been healthy for so long", help);
    }
}
