//! Reading recorded trees of real BMCs (beside the repository, not in it): nothing panics, and what is found is shown.

use std::path::PathBuf;

use serde_json::Value;

use super::{ROOT, Source, gather_facts, gather_view, parsed};
use crate::{
    bmc::{boot, client::Operation, redfish::json, reset},
    model::{
        Failure,
        failure::Cause,
        power::{BootOverride, BootTarget, OverrideFor, PowerAction},
    },
};

pub(super) struct Tree(pub PathBuf);

impl Source for Tree {
    async fn fetch(&self, path: &str) -> Result<(Value, Option<String>), Failure> {
        let what = format!("read {path}");
        let mut folder = self.0.clone();
        for part in path.trim_matches('/').split('/') {
            let exact = folder.join(part);
            // HPE writes `/redfish/v1/systems/1/bios` and means `Systems`: its server does not mind the case.
            let other = || {
                let entries = std::fs::read_dir(&folder).ok()?.flatten();
                let mut names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
                names.find(|n| n.eq_ignore_ascii_case(part)).map(|n| folder.join(n))
            };
            folder = if exact.exists() { exact } else { other().unwrap_or(exact) };
        }
        let file = folder.join("index.json");
        let bytes = std::fs::read(&file).map_err(|e| Failure::new(Cause::Refused, &what, e.to_string()))?;
        let body = json::read(&bytes).map_err(|e| Failure::new(Cause::Malformed, &what, e.to_string()))?;
        Ok((body, None))
    }
    fn node(&self) -> &str {
        "tree"
    }
}

pub(super) fn trees() -> Option<Vec<PathBuf>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("RACKCTL_SHARED").map(PathBuf::from).unwrap_or(beside);
    let mut trees: Vec<PathBuf> = std::fs::read_dir(shared.join("data/redfish"))
        .ok()?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.join("redfish/v1/index.json").is_file())
        .collect();
    trees.sort();
    Some(trees)
}

#[tokio::test]
async fn every_recorded_tree_is_read() {
    let Some(trees) = trees() else {
        eprintln!("SKIPPED: no recorded Redfish trees (set RACKCTL_SHARED)");
        return;
    };
    assert!(!trees.is_empty());
    let pxe = BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: None };
    println!(
        "tree | vendor | system | serial / sku | uuid | power | boot | resets | drives (serials) | macs | cores | GiB | bmc"
    );
    for tree in trees {
        let name = tree.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let source = Tree(tree);
        let root = parsed(source.fetch(ROOT).await.unwrap().0);
        let view = match gather_view(&source, &root, None).await {
            Ok(view) => view,
            Err(failure) => panic!("{name}: {failure}"),
        };
        let facts = gather_facts(&source, "https://tree", &root, &view).await.unwrap_or_else(|f| panic!("{name}: {f}"));
        let serials = facts.drives.iter().filter(|d| d.serial.is_some()).count();
        println!(
            "{name} | {:?} | {} | {} / {} | {} | {:?} | {} of {:?} | {} | {} ({serials}) | {} | {:?} | {:?} | {}",
            view.quirks.vendor,
            view.path,
            facts.serial.as_deref().unwrap_or("-"),
            facts.sku.as_deref().unwrap_or("-"),
            facts.uuid.map(|u| u.to_string()).unwrap_or("-".into()),
            facts.power,
            facts.boot.map(boot::words).unwrap_or("-".into()),
            facts.boot_targets,
            view.reset_types.join(","),
            facts.drives.len(),
            facts.macs.len(),
            facts.cores,
            facts.memory_bytes.map(|b| b >> 30),
            facts.bmc_version.as_deref().unwrap_or("-"),
        );
        assert!(reset::request(&view, PowerAction::On).is_ok(), "{name}: {:?}", view.reset_types);
        assert!(reset::request(&view, PowerAction::ForceOff).is_ok(), "{name}: {:?}", view.reset_types);
        let writes = super::requests_preview(&view, Operation::SetBoot(pxe)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let first = &writes[0];
        println!("    {} {} {}", first.method, first.path, first.body);
        assert_eq!(first.body["Boot"]["BootSourceOverrideTarget"], "Pxe", "{name}");
    }
}

/// Any resource of any tree, read as any type: a property may be missing, never the program.
#[test]
fn every_recorded_file_is_read_as_every_type() {
    use crate::bmc::redfish::wire::{self, parse};
    let Some(trees) = trees() else {
        eprintln!("SKIPPED: no recorded Redfish trees (set RACKCTL_SHARED)");
        return;
    };
    let (mut folders, mut files, mut deepest) = (trees, 0u32, 0usize);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "json") {
                let value =
                    json::read(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                deepest = deepest.max(depth(&value));
                parse::<wire::ServiceRoot>(value.clone());
                parse::<wire::Collection>(value.clone());
                parse::<wire::Drive>(value.clone());
                parse::<wire::Manager>(value.clone());
                parse::<wire::ErrorBody>(value.clone()).summary();
                let system: wire::ComputerSystem = parse(value.clone());
                if let Some(id) = value.get("Id").and_then(Value::as_str) {
                    assert_eq!(system.id.as_deref(), Some(id), "{}", path.display());
                }
                files += 1;
            }
        }
    }
    println!("{files} files, deepest nesting {deepest}");
    assert!(files > 100);
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
