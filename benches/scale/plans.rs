//! The two greatest plans of a fleet: everything is new, or everything serves and is made anew.

use std::collections::BTreeMap;

use rackctl::{
    model::{
        Fleet,
        facts::Facts,
        goal::{Ceiling, Goal, Scope},
    },
    plan::{self, Artifacts, Known, Plan},
};

fn of(fleet: &Fleet, facts: &Facts, goal: &Goal) -> Plan {
    let digest = || "ab".repeat(32);
    let made = Artifacts {
        kernel_sha256: digest(),
        initrd_sha256: digest(),
        stage2_sha256: digest(),
        system_sha256: digest(),
    };
    let artifacts = BTreeMap::from([("debian-12".to_owned(), made)]);
    let known = Known { artifacts: &artifacts, cluster_generations: &BTreeMap::new() };
    let plan = plan::plan(fleet, facts, goal, &known);
    assert_eq!(plan.refusals, []);
    plan
}

/// Every machine is installed, and the members join their clusters.
pub fn apply(fleet: &Fleet, facts: &Facts) -> Plan {
    of(fleet, facts, &Goal::Apply { nodes: Scope(fleet.nodes.keys().cloned().collect()), allow: Ceiling::DataLoss })
}

/// Every machine is installed again, within the budgets.
pub fn reinstall(fleet: &Fleet, facts: &Facts) -> Plan {
    of(fleet, facts, &Goal::Install { nodes: Scope(fleet.nodes.keys().cloned().collect()), reinstall: true })
}
