//! What must hold within a machine: its disks, bonds, kernel arguments, delivered files.

use super::{Rules, items};
use crate::inventory::{
    check::list,
    fault::{Report, did_you_mean},
    format::{self, kernel_word, size_bytes},
    yaml::{Tree, Value},
};

pub(super) fn check(rules: &Rules<'_>, report: &mut Report, warnings: &mut Report) {
    for node in rules.nodes {
        let (spec, name) = (&node.spec, node.object.name.as_str());
        disks(spec, name, report);
        baseline(spec, name, report, warnings);
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

/// Longest name of a component or volume: it becomes part of a step's name.
const NAME_MAX: usize = 64;
/// What a BMC may be told to fetch from.
const SCHEMES: [&str; 9] = ["http", "https", "nfs", "cifs", "smb", "tftp", "ftp", "sftp", "scp"];

/// BIOS attributes, firmware, its images, and volumes.
fn baseline(spec: &Tree, name: &str, report: &mut Report, warnings: &mut Report) {
    for entry in spec.get("bios").map(Tree::entries).unwrap_or_default() {
        if matches!(entry.value.value, Value::List(_) | Value::Map(_) | Value::Null) {
            let message = "a BIOS attribute is text, a number, true or false";
            report.add(entry.value.at, format!("spec.bios.{}", entry.key), message, None);
        }
    }
    let plain = |text: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || " ._()-".contains(c);
        !text.is_empty() && text.len() <= NAME_MAX && text.trim() == text && text.chars().all(good)
    };
    let fault = |text: &str| format!("`{text}` is no name of 1 to {NAME_MAX} letters, digits, blanks and ._()-");
    for (field, at) in [("firmware", "spec.firmware"), ("firmwareImages", "spec.firmwareImages")] {
        for entry in spec.get(field).map(Tree::entries).unwrap_or_default().iter().filter(|e| !plain(&e.key)) {
            report.add(entry.key_at, at, fault(&entry.key), None);
        }
    }
    for entry in spec.get("firmwareImages").map(Tree::entries).unwrap_or_default() {
        let path = || format!("spec.firmwareImages.{}", entry.key);
        let has = |field: &str| entry.value.get(field).is_some();
        if has("url") && has("sha256") {
            let help = Some("name the file that has this digest: file: …, sha256: …".into());
            let message = "what the BMC fetches by itself cannot be checked from here";
            report.add(entry.value.at, path(), message, help);
        }
        if has("file") && !has("sha256") {
            let help = Some("sha256sum FILE says it".into());
            report.add(entry.value.at, path(), "a file has its `sha256` beside it", help);
        }
        if let Some((tree, url)) = entry.value.get("url").and_then(|t| Some((t, t.text()?)))
            && let Some(message) = bad_url(url)
        {
            report.add(tree.at, format!("{}.url", path()), message, None);
        }
        if spec.get("firmware").is_none_or(|f| f.get(&entry.key).is_none()) {
            let help = spec.get("firmware").and_then(|f| did_you_mean(&entry.key, f.entries().iter().map(|e| &*e.key)));
            let message = format!("node {name} has no version for it under firmware: it is never used");
            warnings.add(entry.key_at, path(), message, help);
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for (index, volume) in items(spec, &["raid"]) {
        let Some((tree, text)) = volume.get("name").and_then(|t| Some((t, t.text()?))) else { continue };
        let path = format!("spec.raid[{index}].name");
        if !plain(text) {
            report.add(tree.at, path, fault(text), None);
        } else if names.contains(&text) {
            report.add(tree.at, path, format!("two volumes are called `{text}`"), None);
        }
        names.push(text);
    }
}

/// Why a BMC could not be sent there. A password would be shown by every plan.
fn bad_url(text: &str) -> Option<String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Some(format!("`{text}` is no address as in https://HOST/IMAGE"));
    };
    let host = rest.split('/').next().unwrap_or_default();
    if !SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) {
        return Some(format!("`{scheme}` is nothing that a BMC fetches from: {}", list(SCHEMES.into_iter())));
    }
    if host.contains('@') {
        return Some("an address with a user in it would be shown by every plan".to_owned());
    }
    host.is_empty().then(|| format!("`{text}` names no host"))
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
