//! Several operators at once: one cluster, one writer a machine.
//!
//! `RACKCTL_CRASH_TIMES`, `_SEED` and `_JOBS` are set by `cargo xtask operators`.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

#[path = "../cluster_support/mod.rs"]
mod cluster_support;
#[allow(dead_code)] // what the crash points alone need
#[path = "../crash/mod.rs"]
mod crash;
mod crowd;
mod races;
mod stopped;
#[path = "../store_support/mod.rs"]
mod store_support;
mod turns;

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use crash::lab::{self, Lab};

const LONG: Duration = Duration::from_secs(240);

/// False, loudly, where this host cannot have such laboratories.
fn possible() -> bool {
    let Some(why) = lab::missing() else { return true };
    assert!(std::env::var("RACKCTL_E2E").as_deref() != Ok("required"), "RACKCTL_E2E=required, and {why}");
    eprintln!("SKIPPED: {why}");
    false
}

/// Its machines get their systems, and no cluster.
fn install(lab: &Lab) -> Result<(), String> {
    let hash = lab.plan_hash(&["install", "--all"])?;
    let said = lab.rackctl(&["install", "--all", "--approve", &hash]);
    if said.code == 0 { Ok(()) } else { Err(format!("install: {said}")) }
}

/// Ids of the clusters that the live members are of, and what is wrong with them.
fn clusters(lab: &Lab, nodes: u8) -> (BTreeSet<String>, Vec<String>) {
    let mut ids = BTreeSet::new();
    let mut wrong = Vec::new();
    for n in 1..=nodes {
        match lab.etcd(Ipv4Addr::new(10, 77, 0, 10 + n), "/v3/cluster/member/list") {
            Ok(list) => {
                let id: u64 = list["header"]["cluster_id"].as_str().and_then(|t| t.parse().ok()).unwrap_or(0);
                ids.insert(format!("{id:x}"));
                let members = list["members"].as_array().map_or(0, Vec::len);
                if members != usize::from(nodes) {
                    wrong.push(format!("n{n} lists {members} members: {list}"));
                }
            }
            Err(why) => wrong.push(format!("n{n}: {why}")),
        }
        let starts = lab.node(&format!("n{n}"), &["rackctl-node", "etcd", "status"]);
        if starts.as_ref().is_ok_and(|s| s["starts"] != 1) {
            wrong.push(format!("n{n}: its member was started {} times", starts.unwrap()["starts"]));
        }
    }
    (ids, wrong)
}
