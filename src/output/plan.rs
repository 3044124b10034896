//! A plan as people read it before they say yes, and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::clean;
use crate::{
    model::goal::Goal,
    plan::{Danger, Plan},
};

/// Where a plan is about to be carried out: the first line of every plan and prompt.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub context: Option<String>,
    pub site: Option<String>,
    /// Short revision of the inventory's git checkout; `true`: with uncommitted changes.
    pub revision: Option<(String, bool)>,
}

fn goal_word(goal: &Goal) -> (&'static str, usize) {
    (goal.word(), goal.scope().0.len())
}

/// Context, site, revision, nodes in scope, counts of WIPE and REBOOT, networks on which DHCP will answer.
pub fn first_line(place: &Place, plan: &Plan) -> String {
    let (word, nodes) = goal_word(&plan.goal);
    let revision = match &place.revision {
        Some((revision, true)) => format!("{revision} (dirty)"),
        Some((revision, false)) => revision.clone(),
        None => "not in git".to_owned(),
    };
    let networks = if plan.networks.is_empty() {
        "DHCP answers nowhere".to_owned()
    } else {
        let list: Vec<String> = plan.networks.iter().map(|(n, how)| format!("{n} ({how})")).collect();
        format!("DHCP answers on {}", list.join(", "))
    };
    format!(
        "context {} · site {} · revision {revision} · {word} {nodes} node{} · {} WIPE · {} REBOOT · {networks}",
        place.context.as_deref().unwrap_or("-"),
        place.site.as_deref().unwrap_or("-"),
        if nodes == 1 { "" } else { "s" },
        plan.count(Danger::DataLoss),
        plan.reboots(),
    )
}

pub fn text(place: &Place, plan: &Plan) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", first_line(place, plan));
    for track in &plan.tracks {
        let _ = writeln!(out, "\n{}", track.subject);
        for found in &track.found {
            let _ = writeln!(out, "  = {}", clean::line(found));
        }
        for step in &track.steps {
            let name = match step.kind.about() {
                Some(member) => format!("{} {member}", step.kind.word()),
                None => step.kind.word().to_owned(),
            };
            let _ = writeln!(out, "  + {name:<24} {:<10}  {}", step.danger.to_string(), clean::line(&step.why));
            if let Some(awaited) = step.awaits.first() {
                let _ = writeln!(out, "    {:<36}  after {awaited}", "");
            }
        }
        if track.steps.is_empty() && track.found.is_empty() {
            let _ = writeln!(out, "  = nothing to do");
        }
    }
    if !plan.refusals.is_empty() {
        let _ = writeln!(out, "\nRefused:");
        for refusal in &plan.refusals {
            let _ = writeln!(out, "  ! {}: {}", refusal.subject, clean::line(&refusal.why));
            if let Some(next) = &refusal.next {
                let _ = writeln!(out, "      next: {}", clean::line(next));
            }
        }
    }
    if plan.count(Danger::DataLoss) > 0 {
        let _ = writeln!(
            out,
            "\nThe installers come over plain PXE: whoever is on the provisioning segment is trusted. What they fetch is checked by digest."
        );
    }
    let _ = writeln!(out, "\nPlan {}", plan.hash());
    out
}

pub fn value(place: &Place, plan: &Plan) -> Value {
    json!({
        "apiVersion": "rackctl.dev/v1alpha1",
        "kind": "Plan",
        "metadata": { "name": plan.short_hash(), "hash": plan.hash(), "context": place.context, "site": place.site,
            "revision": place.revision.as_ref().map(|(r, _)| r), "dirty": place.revision.as_ref().map(|(_, d)| d) },
        "spec": plan,
        "status": { "wipes": plan.count(Danger::DataLoss), "reboots": plan.reboots(), "empty": plan.is_empty() },
    })
}
