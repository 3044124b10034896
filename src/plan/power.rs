//! `power`, `boot set` and what `bmc` changes: short plans under the same refusals, budget and quorum guard as every other.

use super::{Known, Plan, Refusal, StepKind, Subject, Track};
use crate::model::{
    Fleet,
    facts::{Facts, InstallPhase},
    fleet::{Cluster, Management, Node},
    goal::Goal,
    power::PowerAction,
};

pub(super) fn tracks(fleet: &Fleet, facts: &Facts, goal: &Goal, known: &Known<'_>, plan: &mut Plan) {
    for name in &goal.scope().0 {
        let Some(node) = fleet.nodes.get(name) else { continue };
        if let Some(refusal) = refusal(fleet, node)
            .or_else(|| installed(facts, goal, name))
            .or_else(|| untold(fleet, facts, goal, known, name))
        {
            plan.refusals.push(refusal);
            continue;
        }
        let mut track = Track::new(Subject::Node(name.clone()));
        match goal {
            Goal::Power { action, force, wait, .. } => {
                let kind = StepKind::SetPower { action: *action, force: *force, wait: *wait };
                track.push(kind, "asked for by name".to_owned());
            }
            Goal::Boot { target, persistent, url, .. } => {
                let kind = StepKind::SetBoot { target: *target, persistent: *persistent, url: url.clone() };
                track.push(kind, "asked for by name".to_owned());
            }
            Goal::Bmc { change, .. } => {
                track.push(StepKind::ChangeBmc(change.clone()), format!("asked for by name{}", change.detail()));
            }
            _ => continue,
        }
        plan.tracks.push(track);
    }
    if let Goal::Bmc { change, lose_quorum: false, .. } = goal
        && change.takes_away()
    {
        keep_quorums(fleet, facts, plan, change.destroys(), &|_| true);
    }
    if let Goal::Power { action, lose_quorum: false, .. } = goal {
        match action {
            PowerAction::On => {}
            PowerAction::GracefulShutdown | PowerAction::ForceOff => keep_quorums(fleet, facts, plan, true, &|_| true),
            PowerAction::ForceRestart | PowerAction::GracefulRestart | PowerAction::PowerCycle => {
                keep_quorums(fleet, facts, plan, false, &|_| true);
            }
        }
    }
}

pub(super) fn refusal(fleet: &Fleet, node: &Node) -> Option<Refusal> {
    let place = fleet.places.get(&format!("Node/{}", node.name));
    let refuse = |kind: &str, why: &str, edit: &str| {
        let next = place.map(|p| format!("edit {p} and set {edit}"));
        Some(Refusal { subject: Subject::Node(node.name.clone()), kind: kind.into(), why: why.into(), next })
    };
    if node.protect {
        let why = "it is protected (`protect: true`): no power, boot or disk change";
        return refuse("protected", why, "protect: false");
    }
    if node.management == Management::Observe {
        return refuse("management", "`management: observe` lets rackctl look only", "management: power");
    }
    None
}

/// Data of a machine that rackctl installed, or may have: its system stands on one of its volumes.
fn installed(facts: &Facts, goal: &Goal, node: &str) -> Option<Refusal> {
    if !matches!(goal, Goal::Bmc { change, installed: false, .. } if change.destroys()) {
        return None;
    }
    let record = facts.nodes.get(node)?.record.as_ref()?;
    Some(Refusal {
        subject: Subject::Node(node.to_owned()),
        kind: "installed".into(),
        why: format!(
            "it is installed (generation {}, run {}), and its system may stand on one of its volumes",
            record.generation, record.run
        ),
        next: Some("--installed does it all the same".into()),
    })
}

/// A cluster that exists, of which no member could be asked because the state was lost: what a machine's end would cost it
/// cannot be told.
pub(super) fn untold(fleet: &Fleet, facts: &Facts, goal: &Goal, known: &Known<'_>, node: &str) -> Option<Refusal> {
    if !goal.takes_away() || goal.may_lose_quorum() {
        return None;
    }
    let record = facts.nodes.get(node)?.record.as_ref()?;
    let exists = |c: &&Cluster| c.members.iter().any(|m| m == node) && known.cluster_generations.contains_key(&c.name);
    let silent = |c: &&Cluster| facts.clusters.get(&c.name).is_none_or(|seen| seen.value.is_err());
    let cluster = fleet.clusters.values().filter(exists).find(silent)?;
    (record.phase == InstallPhase::Unknown).then(|| Refusal {
        subject: Subject::Node(node.to_owned()),
        kind: "quorum".into(),
        why: format!("the state was lost, and whether cluster {} can do without it cannot be told", cluster.name),
        next: Some("rackctl state rebuild, or --lose-quorum".into()),
    })
}

/// Machines that go off stay off: together they must leave every cluster its quorum. Restarts go one after the other
/// under the cluster's budget: it is enough that the cluster can do without each, which one or two voters never can.
/// `takes`: the tracks that take their machine away.
pub(super) fn keep_quorums(
    fleet: &Fleet,
    facts: &Facts,
    plan: &mut Plan,
    together: bool,
    takes: &dyn Fn(&Track) -> bool,
) {
    let next = match (&plan.goal, together) {
        (Goal::Bmc { .. } | Goal::Baseline { .. }, _) => "--lose-quorum does it all the same",
        (Goal::Apply { .. }, _) => "rackctl upgrade firmware NAME --lose-quorum",
        (_, true) => "rackctl power off … --lose-quorum",
        (_, false) => "rackctl power cycle … --lose-quorum",
    };
    for cluster in fleet.clusters.values() {
        let Some(Ok(seen)) = facts.clusters.get(&cluster.name).map(|o| &o.value) else { continue };
        let goes = |name: &str| plan.tracks.iter().any(|t| t.subject.name() == name && takes(t));
        let voters: Vec<_> = seen.members.iter().filter(|m| !m.learner).collect();
        let leaving: Vec<String> = voters.iter().filter(|m| goes(&m.name)).map(|m| m.name.clone()).collect();
        let missing = voters.iter().filter(|m| m.healthy && goes(&m.name)).count();
        let left = voters.iter().filter(|m| m.healthy).count() - if together { missing } else { missing.min(1) };
        let needed = voters.len() / 2 + 1;
        // Off already, or without a quorum already: nothing more is lost.
        let healthy = voters.iter().filter(|m| m.healthy).count();
        // The first one's return may bring the quorum back that the second one's end would take.
        let in_turn = !together && leaving.len() > 1 && voters.len() < 3;
        if leaving.is_empty() || left >= needed || left == healthy && !in_turn {
            continue;
        }
        let names: Vec<String> =
            plan.tracks.iter().map(|t| t.subject.name().to_owned()).filter(|n| leaving.contains(n)).collect();
        plan.tracks.retain(|t| !leaving.iter().any(|n| n == t.subject.name()));
        for name in names {
            plan.refusals.push(Refusal {
                subject: Subject::Node(name),
                kind: "quorum".into(),
                why: format!(
                    "cluster {} would be left with {left} healthy voters of {}, and {needed} are needed",
                    cluster.name,
                    voters.len()
                ),
                next: Some(next.to_owned()),
            });
        }
    }
}
