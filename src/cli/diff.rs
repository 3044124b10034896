//! `diff`: desired against observed, per node. Exit 1 when they differ.

use std::fmt::Write;

use serde_json::json;

use super::{
    args::look::Diff,
    globals::Globals,
    seen,
    session::{Session, block_on},
    targets::{self, Nothing},
};
use crate::{
    model::{
        facts::{Facts, NodeFacts},
        fleet::{Cluster, Lifecycle, Node},
    },
    output::{Exit, Stop, clean, stdout},
    plan::baseline::{self, Compared, Difference},
    run::observe,
};

struct Line {
    field: String,
    desired: String,
    observed: String,
}

pub fn run(globals: &Globals, args: &Diff) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, &args.targets)?;
    let names = targets::nodes(&session.fleet, &status, &args.targets, Nothing::MeansAll)?;
    session.enter(&names)?;
    let facts = block_on(async {
        let passwords = session.passwords(&names).await?;
        let (mut asking, _ear) = session.asking(&passwords, true)?;
        asking.baselines = true;
        Ok(observe::facts(&session.fleet, &names, &asking).await?)
    })?;
    let mut differing = false;
    let mut items = Vec::new();
    let mut text = String::new();
    for name in &names {
        let node = session.node(name)?;
        let none = NodeFacts::default();
        let cluster = session.fleet.clusters.values().find(|c| c.members.contains(name));
        let seen = facts.nodes.get(name).unwrap_or(&none);
        let mut lines = compare(node, seen, cluster, &facts);
        // A BMC that does not answer is said once.
        let answered = seen.bmc.as_ref().is_some_and(|b| b.value.is_ok());
        let baseline = if answered { baseline::compare(node, seen.baseline.as_ref()) } else { Compared::default() };
        let line = |d: Difference| Line { field: d.field, desired: d.wanted, observed: d.found };
        lines.extend(baseline.differences.into_iter().map(line));
        let unreadable = baseline.unreadable;
        differing |= !lines.is_empty() || !unreadable.is_empty();
        if !lines.is_empty() || !unreadable.is_empty() {
            let _ = writeln!(text, "{name}");
        }
        for line in &lines {
            let _ = writeln!(
                text,
                "- {}: {}\n+ {}: {}",
                line.field,
                clean::line(&line.observed),
                line.field,
                clean::line(&line.desired)
            );
        }
        for (field, failure) in &unreadable {
            let _ = writeln!(text, "? {field}: cannot be read: {}", clean::line(&failure.why));
        }
        items.push(json!({
            "apiVersion": "rackctl.dev/v1alpha1", "kind": "Diff", "metadata": { "name": name }, "spec": {},
            "status": { "differences": lines.iter().map(|l| json!({ "field": l.field, "desired": l.desired, "observed": l.observed })).collect::<Vec<_>>(),
                "unreadable": unreadable.iter().map(|(field, f)| json!({ "field": field, "failure": f })).collect::<Vec<_>>() },
        }));
    }
    if globals.format.is_for_people() {
        stdout::print(&text)?;
    } else {
        globals.print(&items, |_| crate::output::Table::new(["NAME"]))?;
    }
    Ok(if differing { Exit::Failed } else { Exit::Done })
}

fn compare(node: &Node, seen: &NodeFacts, cluster: Option<&Cluster>, facts: &Facts) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut differ = |field: &str, desired: String, observed: String| {
        lines.push(Line { field: field.to_owned(), desired, observed })
    };
    match seen.bmc.as_ref().map(|b| &b.value) {
        Some(Ok(bmc)) => {
            if let Some(boot) = bmc.boot.filter(|b| !b.is_cleared()) {
                differ("boot", "no override".into(), crate::bmc::boot::words(boot));
            }
            if let Some(want) = node.root_disk().and_then(|(_, rule)| rule.serial.clone()) {
                let shown: Vec<&str> = bmc.drives.iter().filter_map(|d| d.serial.as_deref()).collect();
                if !shown.is_empty() && !shown.contains(&want.as_str()) && !bmc.drives_unread() {
                    differ("disks.root", want, shown.join(", "));
                }
            }
        }
        Some(Err(failure)) => differ("bmc", "answers".into(), failure.why.clone()),
        None => {}
    }
    for mismatch in &seen.identity_mismatches {
        differ("identity", "as in the inventory".into(), mismatch.clone());
    }
    if node.lifecycle != Lifecycle::Active {
        return lines;
    }
    if node.install.is_some() {
        match (&seen.record, seen.system.as_ref().map(|s| &s.value)) {
            (None, _) => differ("system", "installed".into(), "never installed".into()),
            (Some(record), Some(Ok(status))) => {
                if status.config.generation != record.generation {
                    differ("generation", record.generation.to_string(), status.config.generation.to_string());
                }
                if status.system_sha256 != record.system_sha256 {
                    differ("system", record.system_sha256.clone(), status.system_sha256.clone());
                }
            }
            (Some(_), Some(Err(failure))) => differ("system", "answers over SSH".into(), failure.why.clone()),
            (Some(_), None) => {}
        }
    }
    if let Some(cluster) = cluster {
        let member = facts
            .clusters
            .get(&cluster.name)
            .and_then(|c| c.value.as_ref().ok())
            .and_then(|c| c.members.iter().find(|m| m.name == node.name));
        match member {
            Some(m) if m.learner => differ("membership", format!("voter of {}", cluster.name), "learner".into()),
            Some(m) if !m.healthy => {
                differ("membership", format!("healthy voter of {}", cluster.name), "unhealthy".into())
            }
            Some(_) => {}
            None => differ("membership", format!("voter of {}", cluster.name), "no member seen".into()),
        }
    }
    lines
}
