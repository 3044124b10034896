//! Which rollout, failure domains and change windows a plan's nodes follow.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Danger, Domain, Known, Plan, Pool, StepKind, Subject};
use crate::model::{
    Fleet,
    facts::{Facts, InstallPhase, NodeFacts, NodeRecord},
    fleet::Node,
    goal::Goal,
    power::PowerState,
    rollout::{Rollout, RolloutWish},
};

/// The pool of machines that belong to no cluster, where a plan needs one; no cluster's name has blanks.
pub const ALONE: &str = "nodes without a cluster";
/// What a machine may take that gets firmware, in seconds: images, their tasks, and starts that write them.
const BASELINE_S: u32 = 3 * 3_600;

/// Fills in what the engine admits by: pools, domains, windows, and who serves now.
pub(super) fn attach(fleet: &Fleet, facts: &Facts, known: &Known<'_>, plan: &mut Plan) {
    let pool_of: BTreeMap<&str, &str> =
        fleet.clusters.values().flat_map(|c| c.members.iter().map(|m| (m.as_str(), c.name.as_str()))).collect();
    let voters = voters(fleet, facts);
    let mut alone: Vec<String> = Vec::new();
    let mut domains: BTreeSet<String> = BTreeSet::new();
    for track in plan.tracks.iter_mut().filter(|t| !t.steps.is_empty()) {
        let Subject::Node(name) = &track.subject else { continue };
        let Some(node) = fleet.nodes.get(name) else { continue };
        if let Some(pool) = pool_of.get(name.as_str())
            && let Some(cluster) = fleet.clusters.get(*pool)
        {
            track.pool = Some((*pool).to_owned());
            if !plan.pools.contains_key(*pool) {
                let mut rollout = cluster.rollout.clone();
                rollout.max_unavailable =
                    rollout.max_unavailable.min(spare_voters(facts, known, pool).unwrap_or(u32::MAX));
                if let Goal::Baseline { rollout: wish, .. } = &plan.goal {
                    rollout = wish.over(rollout, cluster.members.len());
                }
                plan.pools.insert((*pool).to_owned(), Pool { rollout, nodes: cluster.members.clone() });
            }
        }
        let takes_away = track.steps.iter().any(|s| s.danger >= Danger::Reboot);
        let seen = facts.nodes.get(name);
        let serves = seen.is_some_and(|f| serves(node, &voters, f));
        let counted =
            || seen.is_some_and(|f| is_counted_on(facts, known, pool_of.get(name.as_str()).copied(), name, f));
        track.disrupts = takes_away && (serves || counted());
        let baseline = takes_away && track.steps.iter().any(|s| matches!(s.kind, StepKind::Baseline(_)));
        if baseline && let Some(pool) = track.pool.as_ref().and_then(|p| plan.pools.get_mut(p)) {
            // Firmware that is written is not stuck.
            pool.rollout.deadline_s = pool.rollout.deadline_s.max(BASELINE_S);
        }
        // Nobody said how many of the machines without a cluster may be away: those that serve go with care, and by
        // `upgrade firmware` all do.
        if baseline && track.pool.is_none() && (serves || matches!(plan.goal, Goal::Baseline { .. })) {
            track.pool = Some(ALONE.to_owned());
            alone.push(name.clone());
        }
        track.domains = limited(fleet, node).map(|(key, _)| key).collect();
        domains.extend(track.domains.iter().cloned());
        if let Some(site) = &node.site
            && let Some(windows) = fleet.sites.get(site).map(|s| &s.change_windows).filter(|w| !w.is_empty())
            && takes_away
        {
            track.site = Some(site.clone());
            plan.windows.insert(site.clone(), windows.clone());
        }
    }
    if !alone.is_empty() {
        let wish = match &plan.goal {
            Goal::Baseline { rollout, .. } => rollout.clone(),
            _ => RolloutWish::default(),
        };
        let rest = plan.goal.scope().0.iter().filter(|n| !pool_of.contains_key(n.as_str()));
        let nodes: Vec<String> = rest.cloned().collect();
        let rollout = wish.without_cluster(nodes.len());
        let rollout = Rollout { deadline_s: rollout.deadline_s.max(BASELINE_S), ..rollout };
        plan.pools.insert(ALONE.to_owned(), Pool { rollout, nodes });
    }
    if domains.is_empty() {
        return;
    }
    let mut nodes: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
    for node in fleet.nodes.values() {
        for (key, _) in limited(fleet, node).filter(|(key, _)| domains.contains(key)) {
            nodes.entry(key).or_default().push(node);
        }
    }
    for (key, members) in nodes {
        let count = members.iter().find_map(|n| limited(fleet, n).find(|(k, _)| *k == key)).map(|(_, count)| count);
        let Some(count) = count else { continue };
        let names = members.iter().map(|n| n.name.clone()).collect();
        plan.domains.insert(key, Domain { limit: count.of(members.len()), nodes: names });
    }
}

/// The failure domains of a node that are limited, each with its limit.
fn limited<'a>(fleet: &'a Fleet, node: &'a Node) -> impl Iterator<Item = (String, crate::model::rollout::Count)> + 'a {
    let limits = node.site.as_ref().and_then(|s| fleet.sites.get(s)).map(|s| s.disruption).unwrap_or_default();
    // A rack `r1` of one site is not the rack `r1` of another.
    let site = node.site.as_deref().map(|s| format!("{s}/")).unwrap_or_default();
    let place = &node.location;
    [
        ("rack", &place.rack, limits.rack),
        ("power", &place.power, limits.power),
        ("chassis", &place.chassis, limits.chassis),
    ]
    .into_iter()
    .filter_map(move |(kind, name, limit)| Some((format!("{site}{kind}/{}", name.as_ref()?), limit?)))
}

/// Voters that may be away at once without the quorum: a cluster that is not yet as large as declared bears less than
/// its rollout was written for. One at least: whether even that is too many is the quorum guard's matter.
///
/// One also where a cluster exists and does not say how many it has. `None`: there is none yet.
fn spare_voters(facts: &Facts, known: &Known<'_>, cluster: &str) -> Option<u32> {
    let Some(seen) = facts.clusters.get(cluster).and_then(|o| o.value.as_ref().ok()) else {
        return known.cluster_generations.contains_key(cluster).then_some(1);
    };
    let voters = seen.members.iter().filter(|m| !m.learner).count();
    u32::try_from(voters.saturating_sub(super::quorum::majority(voters)).max(1)).ok()
}

/// Members that their own cluster, of the inventory, says are healthy voters.
fn voters<'a>(fleet: &'a Fleet, facts: &'a Facts) -> HashSet<&'a str> {
    let mut voters = HashSet::new();
    for cluster in fleet.clusters.values() {
        let Some(Ok(seen)) = facts.clusters.get(&cluster.name).map(|o| &o.value) else { continue };
        let healthy: HashSet<&str> =
            seen.members.iter().filter(|m| m.healthy && !m.learner).map(|m| m.name.as_str()).collect();
        voters.extend(cluster.members.iter().map(String::as_str).filter(|m| healthy.contains(m)));
    }
    voters
}

/// It is silent now, and may serve again by the time that it has its turn: machines that come back were not asked by the
/// plan. While it is down, the budget lets it go as it is. Whom its cluster does not list as a voter nobody misses.
fn is_counted_on(facts: &Facts, known: &Known<'_>, pool: Option<&str>, name: &str, seen: &NodeFacts) -> bool {
    if !seen.record.as_ref().is_some_and(NodeRecord::may_serve) {
        return false;
    }
    let Some(pool) = pool else { return true };
    match facts.clusters.get(pool).map(|o| &o.value) {
        Some(Ok(cluster)) => cluster.members.iter().any(|m| m.name == *name && !m.learner),
        _ => known.cluster_generations.contains_key(pool),
    }
}

/// It was installed and answers, or its cluster says that it is healthy.
fn serves(node: &Node, voters: &HashSet<&str>, seen: &NodeFacts) -> bool {
    let phase = seen.record.as_ref().map(|r| r.phase);
    // What it does cannot be told any more: it may well serve, unless it is off. So may one whose disk was to be written
    // over an older system, and lost its power before: it comes up with what it had.
    let may_serve = seen.record.as_ref().is_some_and(NodeRecord::may_serve);
    if may_serve && phase != Some(InstallPhase::Installed) {
        let power = seen.bmc.as_ref().and_then(|b| b.value.as_ref().ok()).map(|b| b.power);
        return power != Some(PowerState::Off);
    }
    let installed = phase == Some(InstallPhase::Installed);
    let answers = seen.system.as_ref().is_some_and(|s| s.value.is_ok());
    installed && (answers || voters.contains(node.name.as_str()))
}
