//! Members, sizes and order of clusters.

use std::collections::HashMap;

use super::{Rules, items};
use crate::inventory::{
    effective::Effective,
    fault::{Report, did_you_mean},
    kinds::Kind,
    select::{ByValue, Selector, selector},
    yaml::{Tree, Value},
};

pub(super) fn check(rules: &Rules<'_>, report: &mut Report, warnings: &mut Report) {
    let nodes = ByValue::new(rules.nodes, value_of);
    let matching = |selector: &Selector| nodes.matching(selector);
    for cluster in rules.of(Kind::Cluster) {
        let Some(spec) = cluster.spec() else { continue };
        members(spec, rules, &matching, report, warnings);
        if let Some(limit) = spec.dig(&["rollout", "maxUnavailable"])
            && (limit.value == Value::Int(0) || limit.text().is_some_and(|t| t.trim_start_matches('0') == "%"))
        {
            let help = Some("1 at least".into());
            report.add(
                limit.at,
                "spec.rollout.maxUnavailable",
                "with no member that may be down nothing can ever be changed",
                help,
            );
        }
        for (index, other) in items(spec, &["dependsOn"]) {
            rules.refer(Kind::Cluster, Some(other), || format!("spec.dependsOn[{index}]"), report);
        }
    }
    circles(rules, report);
}

type Matching<'m, 'a> = &'m dyn Fn(&Selector) -> Vec<&'a Effective<'a>>;

fn members<'a>(spec: &Tree, rules: &Rules<'a>, matching: Matching<'_, 'a>, report: &mut Report, warnings: &mut Report) {
    let read = |field: &str| {
        let tree = spec.dig(&["members", field])?;
        Some((tree, tree.text()?, selector(tree.text()?).ok()?))
    };
    let Some((tree, text, members)) = read("selector") else { return };
    let chosen = matching(&members);
    let active = chosen.iter().filter(|n| lifecycle(n) == "active").count();
    if chosen.is_empty() {
        let message = format!("the selector `{text}` matches no node");
        return report.add(tree.at, "spec.members.selector", message, near_value(text, rules));
    }
    let pool = read("pool");
    let mut spares = pool.as_ref().map(|(_, _, p)| matching(p)).unwrap_or_default();
    spares.retain(|n| lifecycle(n) == "spare");
    if let Some((tree, text, _)) = &pool
        && spares.is_empty()
    {
        let help = Some("spares are nodes with `lifecycle: spare`".into());
        warnings.add(tree.at, "spec.members.pool", format!("the pool `{text}` has no spare"), help);
    }
    let spares = spares.iter().filter(|n| !chosen.iter().any(|c| std::ptr::eq(*c, **n))).count();
    let Some((at, Value::Int(size))) = spec.dig(&["members", "size"]).map(|t| (t.at, &t.value)) else { return };
    let size = usize::try_from(*size).unwrap_or(0);
    let path = "spec.members.size";
    if active > size {
        let help = Some(format!("size: {active}, or `lifecycle: spare` for the nodes that are too many"));
        report.add(at, path, format!("{active} active nodes match the selector, and the size is {size}"), help);
    } else if chosen.len() + spares < size {
        let message = format!(
            "size {size} cannot be reached: {} nodes match the selector, {spares} more are spares",
            chosen.len()
        );
        report.add(at, path, message, Some(format!("label more nodes for `{text}`, or lower the size")));
    } else if active < size {
        let help = Some("make a spare `lifecycle: active` with the labels of the selector, or lower the size".into());
        warnings.add(at, path, format!("{active} active nodes match the selector, and the size is {size}"), help);
    }
    if size > 0 && size % 2 == 0 {
        let message = format!("{size} voters bear no more failures than {}", size - 1);
        warnings.add(at, path, message, Some("an odd number is the rule".into()));
    }
}

fn lifecycle<'a>(node: &'a Effective<'_>) -> &'a str {
    node.object.spec().and_then(|s| s.get("lifecycle")).and_then(Tree::text).unwrap_or("active")
}

/// As `select::value_of`, before there is a Node.
pub(super) fn value_of<'a>(node: &'a Effective<'_>, key: &str) -> Option<&'a str> {
    let field = |path: &[&str]| node.object.spec().and_then(|s| s.dig(path)).and_then(Tree::text);
    let value = match key {
        "name" => return Some(node.object.name.as_str()),
        "lifecycle" => return Some(lifecycle(node)),
        "management" => return Some(field(&["management"]).unwrap_or("full")),
        "site" | "profile" | "hardwareClass" => field(&[key]),
        "rack" | "chassis" => field(&["location", key]),
        _ => None,
    };
    value.or_else(|| node.labels.get(key).map(String::as_str))
}

/// A requirement of the selector with the nearest that some node satisfies.
fn near_value(text: &str, rules: &Rules<'_>) -> Option<String> {
    let known: std::collections::BTreeSet<String> =
        rules.nodes.iter().flat_map(|n| n.labels.iter().map(|(k, v)| format!("{k}={v}"))).collect();
    text.split(',')
        .filter(|part| !known.contains(*part))
        .find_map(|part| did_you_mean(part, known.iter().map(String::as_str)))
}

/// Clusters that wait for each other never start.
fn circles(rules: &Rules<'_>, report: &mut Report) {
    let waits: HashMap<&str, Vec<&str>> = rules
        .of(Kind::Cluster)
        .map(|c| {
            let on = c.spec().map(|s| items(s, &["dependsOn"]).filter_map(|(_, t)| t.text()).collect());
            (c.name.as_str(), on.unwrap_or_default())
        })
        .collect();
    for cluster in rules.of(Kind::Cluster) {
        let mut reached: Vec<&str> = waits.get(cluster.name.as_str()).cloned().unwrap_or_default();
        let mut next = 0;
        while let Some(name) = reached.get(next).copied() {
            next += 1;
            for on in waits.get(name).into_iter().flatten() {
                if !reached.contains(on) {
                    reached.push(on);
                }
            }
        }
        if reached.contains(&cluster.name.as_str()) {
            let at = cluster.spec().and_then(|s| s.get("dependsOn")).map_or(cluster.root.at, |t| t.at);
            report.add(at, "spec.dependsOn", format!("Cluster {} waits for itself in the end", cluster.name), None);
        }
    }
}
