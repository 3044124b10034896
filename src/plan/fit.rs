//! What must fit before anybody joins a cluster: versions of its members, and clocks of the machines. Pure.

use crate::model::{
    facts::{ClusterFacts, Facts},
    fleet::{Cluster, ClusterDriver},
};

/// Machines of one cluster whose clocks are further apart do not join: certificates are not valid yet on one and
/// leases end too early on the other. A look over SSH may itself take seconds on a slow machine.
pub const CLOCK_SKEW_MS: u64 = 30_000;

/// Why nobody may join now: kind of the refusal, in words, and what to do about it.
pub(super) struct Unfit {
    pub kind: &'static str,
    pub why: String,
    pub next: String,
}

pub(super) fn unfit(cluster: &Cluster, facts: &Facts, seen: Option<&ClusterFacts>) -> Option<Unfit> {
    seen.and_then(|seen| versions(cluster, seen)).or_else(|| clocks(cluster, facts))
}

/// etcd lives with one minor version between its members, and never goes back.
fn versions(cluster: &Cluster, seen: &ClusterFacts) -> Option<Unfit> {
    let ClusterDriver::Etcd { version, .. } = &cluster.driver else { return None };
    let declared = minor(version)?;
    let running: Vec<((u64, u64), &str, &str)> = seen
        .members
        .iter()
        .filter_map(|m| {
            let version = m.version.as_deref()?;
            Some((minor(version)?, m.name.as_str(), version))
        })
        .collect();
    let unfit = |why: String| {
        let next = format!("rackctl describe cluster {}", cluster.name);
        Some(Unfit { kind: "versionSkew", why, next })
    };
    if let Some((_, name, runs)) = running.iter().find(|(v, ..)| declared < *v) {
        return unfit(format!(
            "the inventory says {version}, {name} runs {runs}: a cluster is never brought back to an older version"
        ));
    }
    let far = |a: (u64, u64), b: (u64, u64)| a.0 != b.0 || a.1.abs_diff(b.1) > 1;
    let (_, name, runs) = running.iter().find(|(v, ..)| far(*v, declared))?;
    unfit(format!("the inventory says {version}, {name} runs {runs}: they are more than one minor version apart"))
}

fn minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Each machine's clock against this host's at the same moment: whether this host is right does not matter.
fn clocks(cluster: &Cluster, facts: &Facts) -> Option<Unfit> {
    let ahead = |name: &str| {
        let seen = facts.nodes.get(name)?.system.as_ref()?;
        let clock = seen.value.as_ref().ok()?.unix_ms?;
        Some(clock as i64 - seen.at as i64)
    };
    let all: Vec<(i64, &String)> = cluster.members.iter().filter_map(|m| Some((ahead(m)?, m))).collect();
    let (first, last) = (all.iter().min()?, all.iter().max()?);
    let apart = last.0.abs_diff(first.0);
    (apart > CLOCK_SKEW_MS).then(|| Unfit {
        kind: "clockSkew",
        why: format!("the clock of {} is {} s ahead of that of {}", last.1, apart / 1_000, first.1),
        next: format!("set the clocks of {} and {} (site → ntp), then again", last.1, first.1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        facts::{MemberFacts, NodeFacts, Observed},
        rollout::Rollout,
    };

    fn cluster(version: &str) -> Cluster {
        Cluster {
            name: "core".into(),
            driver: ClusterDriver::Etcd { version: version.into(), client_port: 2379, peer_port: 2380 },
            members: vec!["n1".into(), "n2".into()],
            size: 2,
            spares: vec![],
            depends_on: vec![],
            rollout: Rollout::default(),
        }
    }

    fn running(versions: &[&str]) -> ClusterFacts {
        let member = |(i, v): (usize, &&str)| MemberFacts {
            id: i.to_string(),
            name: format!("n{}", i + 1),
            peer_urls: vec![],
            client_urls: vec![],
            learner: false,
            healthy: true,
            version: Some((*v).to_owned()),
            raft_index: None,
        };
        let members = versions.iter().enumerate().map(member).collect();
        ClusterFacts { cluster_id: "c".into(), members, leader: None, alarms: vec![] }
    }

    // fault: F49 invariant: I12 harness: D
    #[test]
    fn never_back_and_never_further_than_one_minor_version() {
        let kind = |declared: &str, seen: &[&str]| {
            unfit(&cluster(declared), &Facts::default(), Some(&running(seen))).map(|u| u.why)
        };
        assert_eq!(kind("3.5.1", &["3.5.1", "3.4.23"]), None, "on its way up");
        assert_eq!(kind("3.5.9", &["3.5.12"]), None, "patch versions go both ways");
        assert_eq!(kind("3.5.1", &["unknown"]), None);
        assert!(kind("3.4.23", &["3.5.1"]).is_some_and(|w| w.contains("3.4.23") && w.contains("n1 runs 3.5.1")));
        assert!(kind("3.6.0", &["3.5.1", "3.4.23"]).is_some_and(|w| w.contains("n2 runs 3.4.23")));
        assert!(kind("4.0.0", &["3.9.0"]).is_some());
    }

    fn says(at: u64, unix_ms: Option<u64>) -> NodeFacts {
        let status = serde_json::json!({
            "protocol": 1,
            "config": {
                "protocol": 1, "node": "n1", "fleet": "f", "run": "r", "generation": 1, "hostname": "n1",
                "interfaces": [], "authorizedKeys": [],
            },
            "bootId": "b", "uptimeMs": 1, "slot": "a", "rootDiskGuid": uuid::Uuid::nil(), "systemSha256": "s",
            "machine": { "macs": [] },
        });
        let mut status: rackctl_wire::NodeStatus = serde_json::from_value(status).unwrap();
        status.unix_ms = unix_ms;
        NodeFacts { system: Some(Observed { at, value: Ok(status) }), ..NodeFacts::default() }
    }

    // fault: F44 invariant: I16 harness: D
    #[test]
    fn clocks_are_held_against_each_other_and_not_against_this_host() {
        let seen = |one: NodeFacts, other: NodeFacts| {
            let nodes = [("n1".to_owned(), one), ("n2".to_owned(), other)].into();
            unfit(&cluster("3.5.1"), &Facts { nodes, ..Facts::default() }, None).map(|u| (u.kind, u.why))
        };
        // This host is a day behind; they were asked ten seconds apart.
        let day = 86_400_000;
        assert_eq!(seen(says(1_000, Some(day)), says(11_000, Some(day + 10_000))), None);
        assert_eq!(seen(says(1_000, Some(day)), says(1_000, None)), None, "an older installation does not tell");
        let (kind, why) = seen(says(1_000, Some(day)), says(1_000, Some(day + CLOCK_SKEW_MS + 1))).unwrap();
        assert_eq!((kind, why.as_str()), ("clockSkew", "the clock of n2 is 30 s ahead of that of n1"));
    }
}
