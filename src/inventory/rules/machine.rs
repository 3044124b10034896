//! What must hold within a machine: its disks, bonds, kernel arguments, delivered files.

use super::{Rules, items};
use crate::inventory::{
    check::list,
    fault::{Report, did_you_mean},
    format::{self, kernel_word, size_bytes},
    yaml::Tree,
};

pub(super) fn check(rules: &Rules<'_>, report: &mut Report, warnings: &mut Report) {
    for node in rules.nodes {
        let (spec, name) = (&node.spec, node.object.name.as_str());
        disks(spec, name, report);
        links(spec, report, warnings);
        for (index, word) in items(spec, &["kernelParams"]) {
            // A template that could not be filled in was reported.
            if let Some(text) = word.text().filter(|t| !t.contains("{{"))
                && let Err(want) = kernel_word(text)
            {
                report.add(word.at, format!("spec.kernelParams[{index}]"), format!("`{text}` is not {want}"), None);
            }
        }
        for (index, endpoint) in items(spec, &["bmc", "endpoints"]) {
            for (field, form) in [("redfish", "rackctl-https-url"), ("ipmi", "rackctl-host-port")] {
                // What has no template was checked before.
                if let Some((tree, text)) = endpoint.get(field).and_then(|t| Some((t, t.text()?)))
                    && had_template(node.object.spec(), index, field)
                    && !text.contains("{{")
                    && let Err(want) = format::check(form, text)
                {
                    let path = format!("spec.bmc.endpoints[{index}].{field}");
                    report.add(tree.at, path, format!("with its template filled in it is not {want}"), None);
                }
            }
        }
        for (index, secret) in items(spec, &["install", "secrets"]) {
            if let Some((tree, to)) = secret.get("to").and_then(|t| Some((t, t.text()?)))
                && (!to.starts_with('/') || to.split('/').any(|part| part == ".."))
            {
                let path = format!("spec.install.secrets[{index}].to");
                report.add(tree.at, path, format!("`{to}` is not an absolute path without `..`"), None);
            }
        }
    }
}

fn had_template(own: Option<&Tree>, endpoint: usize, field: &str) -> bool {
    let endpoints = own.and_then(|s| s.dig(&["bmc", "endpoints"])).map(Tree::items).unwrap_or_default();
    endpoints.get(endpoint).and_then(|e| e.get(field)).and_then(Tree::text).is_some_and(|t| t.contains("{{"))
}

fn disks(spec: &Tree, name: &str, report: &mut Report) {
    let Some(disks) = spec.get("disks") else { return };
    let of_root = |e: &&crate::inventory::yaml::Entry| e.value.get("use").and_then(Tree::text) == Some("root");
    let roots: Vec<_> = disks.entries().iter().filter(of_root).collect();
    if let [_, second, ..] = roots.as_slice() {
        let rules = list(roots.iter().map(|e| &*e.key));
        let message = format!("node {name} has {} root disk rules: {rules}", roots.len());
        let help = Some("keep `use: root` in one of them; the others get `use: keep`".into());
        report.add(second.key_at, "spec.disks", message, help);
    }
    for entry in disks.entries() {
        let size = |field: &str| {
            let tree = entry.value.dig(&["match", field])?;
            Some((tree.at, size_bytes(tree.text()?).ok()?))
        };
        if let (Some((at, min)), Some((_, max))) = (size("minSize"), size("maxSize"))
            && min > max
        {
            let path = format!("spec.disks.{}.match", entry.key);
            report.add(at, path, "minSize is larger than maxSize: no disk matches", None);
        }
        if entry.value.get("use").and_then(Tree::text) == Some("root")
            && entry.value.get("match").is_none_or(|m| m.entries().is_empty())
        {
            let help = Some("say which disk: match: { serial: … }, or model, wwn, minSize".into());
            report.add(
                entry.value.at,
                format!("spec.disks.{}", entry.key),
                "the rule for root says nothing of the disk",
                help,
            );
        }
    }
}

fn links(spec: &Tree, report: &mut Report, warnings: &mut Report) {
    let named =
        |list: &str| items(spec, &[list]).filter_map(|(_, t)| t.get("name").and_then(Tree::text)).collect::<Vec<_>>();
    let mut below = named("interfaces");
    for (index, bond) in items(spec, &["bonds"]) {
        let members: Vec<&str> = items(bond, &["members"]).filter_map(|(_, t)| t.text()).collect();
        if let Some((tree, member)) = bond.get("pxeMember").and_then(|t| Some((t, t.text()?)))
            && !members.contains(&member)
        {
            let help = did_you_mean(member, members.iter().copied());
            let path = format!("spec.bonds[{index}].pxeMember");
            report.add(tree.at, path, format!("`{member}` is no member of the bond"), help);
        }
        below.extend(members);
    }
    below.extend(named("bonds"));
    for (index, vlan) in items(spec, &["vlans"]) {
        if let Some((tree, link)) = vlan.get("link").and_then(|t| Some((t, t.text()?)))
            && !below.contains(&link)
        {
            let help = did_you_mean(link, below.iter().copied());
            let message = format!("no interface or bond of this node is named `{link}`");
            warnings.add(tree.at, format!("spec.vlans[{index}].link"), message, help);
        }
    }
}
