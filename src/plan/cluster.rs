//! One cluster's track: members one at a time, learner → synced → promoted, each verified.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Known, Plan, Refusal, Step, StepKind, Subject, Track};
use crate::model::{
    Fleet,
    facts::{ClusterFacts, Facts, InstallPhase},
    failure::Cause,
    fleet::{Cluster, ClusterDriver},
};

/// What the plan holds of each machine already, by name: asked for every member of every cluster.
pub(super) struct Machines<'a> {
    scope: HashSet<&'a str>,
    refused: HashSet<&'a str>,
    tracks: HashMap<&'a str, &'a Track>,
}

impl<'a> Machines<'a> {
    /// Before the first cluster is planned.
    pub(super) fn of(plan: &'a Plan, scope: &'a [String]) -> Machines<'a> {
        // What is left undone on a machine that has a track leaves it ready.
        let node = |subject: &'a Subject| if let Subject::Node(name) = subject { Some(name.as_str()) } else { None };
        let tracks: HashMap<&str, &Track> = plan.tracks.iter().filter_map(|t| Some((node(&t.subject)?, t))).collect();
        Machines {
            scope: scope.iter().map(String::as_str).collect(),
            refused: plan
                .refusals
                .iter()
                .filter_map(|r| node(&r.subject))
                .filter(|n| !tracks.contains_key(n))
                .collect(),
            tracks,
        }
    }

    /// The goal names it.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.scope.contains(name)
    }

    fn ready(&self, name: &str) -> bool {
        self.scope.contains(name) && !self.refused.contains(name)
    }

    /// It comes up in this plan, with the disk that it has.
    fn returns(&self, name: &str) -> bool {
        self.up(name).is_some() && !self.writes(name)
    }

    /// Its disk is written in this plan.
    fn writes(&self, name: &str) -> bool {
        let writes = |t: &&Track| t.steps.iter().any(|s| matches!(s.kind, StepKind::WriteDisk { .. }));
        self.tracks.get(name).is_some_and(writes)
    }

    /// The step that brings it up, where there is one.
    fn up(&self, name: &str) -> Option<&Step> {
        self.tracks.get(name)?.steps.last()
    }
}

pub(super) fn track(
    fleet: &Fleet,
    cluster: &Cluster,
    facts: &Facts,
    known: &Known<'_>,
    plan: &Machines<'_>,
) -> Result<Track, Refusal> {
    let subject = Subject::Cluster(cluster.name.clone());
    let refuse = |kind: &str, why: String, next: Option<String>| Refusal {
        subject: subject.clone(),
        kind: kind.into(),
        why,
        next,
    };
    let mut track = Track::new(subject.clone());
    let unfit = |seen| {
        let unfit = super::fit::unfit(cluster, facts, seen)?;
        Some(refuse(unfit.kind, unfit.why, Some(unfit.next)))
    };
    let made = known.cluster_generations.contains_key(&cluster.name);
    let seen: Option<&ClusterFacts> = match facts.clusters.get(&cluster.name).map(|o| &o.value) {
        Some(Ok(facts)) => Some(facts),
        // Two cluster ids among the members, or an answer that makes no sense: nobody decides here.
        Some(Err(f)) if matches!(f.cause, Cause::Mismatch | Cause::Malformed | Cause::Guard) => {
            return Err(refuse("contradiction", f.why.clone(), f.next.clone()));
        }
        _ => None,
    };
    let ready = |m: &str| plan.ready(m);
    let returns = |m: &str| plan.returns(m);

    let Some(seen) = seen else {
        if made {
            // A cluster that exists and is silent is never made again: its data would be lost.
            if !cluster.members.iter().any(|m| returns(m)) {
                return Err(refuse(
                    "silent",
                    "it was bootstrapped before and no member answers: it is never bootstrapped again by itself".into(),
                    Some(format!("rackctl describe cluster {}", cluster.name)),
                ));
            }
            for member in cluster.members.iter().filter(|m| returns(m)) {
                push(
                    &mut track,
                    StepKind::VerifyMember { member: member.clone() },
                    "its machine comes up in this run; the cluster must serve again".into(),
                    plan,
                );
            }
            // None of them has a quorum before the others are up.
            let machines: Vec<_> =
                track.steps.iter().flat_map(|s| s.awaits.clone()).collect::<BTreeSet<_>>().into_iter().collect();
            if let Some(first) = track.steps.first_mut() {
                first.awaits = machines;
            }
            // What is new needs no answer of the cluster to be known as no member: it joins in this run, not in the next.
            let mut others: Vec<&String> = cluster.members.iter().filter(|m| ready(m) && !returns(m)).collect();
            others.sort_by_key(|m| plan.up(m).is_some());
            for member in others {
                if plan.writes(member) || is_empty(facts, member) {
                    // It may be in the list from before.
                    if facts.nodes.get(member).is_some_and(|f| f.record.is_some()) {
                        let why = "its machine is installed anew: whatever member it was is gone".to_owned();
                        push(&mut track, StepKind::RemoveMember { member: member.clone() }, why, plan);
                    }
                    join(&mut track, member, plan);
                }
            }
            if track.steps.iter().any(|s| !matches!(s.kind, StepKind::VerifyMember { .. }))
                && let Some(refusal) = unfit(None)
            {
                return Err(refusal);
            }
            return Ok(track);
        }
        // Whoever runs already comes first: a machine that fails in the installer must not keep the others waiting for
        // a cluster, run after run.
        let runs = |m: &str| {
            facts.nodes.get(m).is_some_and(|f| {
                f.record.as_ref().is_some_and(|r| r.phase == InstallPhase::Installed)
                    && f.system.as_ref().is_some_and(|s| s.value.is_ok())
            })
        };
        let mut members: Vec<&String> = cluster.members.iter().filter(|m| ready(m)).collect();
        members.sort_by_key(|m| !runs(m));
        let Some(first) = members.first() else {
            return Err(refuse("noMember", "none of its members can be prepared; see their refusals".into(), None));
        };
        push(
            &mut track,
            StepKind::Bootstrap { member: (*first).clone() },
            "no member exists and none ever did".into(),
            plan,
        );
        push(
            &mut track,
            StepKind::VerifyMember { member: (*first).clone() },
            "the first member must serve reads and writes".into(),
            plan,
        );
        for member in &members[1..] {
            join(&mut track, member, plan);
        }
        if let Some(refusal) = unfit(None) {
            return Err(refusal);
        }
        return Ok(track);
    };
    if !seen.alarms.is_empty() {
        return Err(refuse(
            "alarm",
            format!("it raises alarms: {}", seen.alarms.join(", ")),
            Some(format!("rackctl describe cluster {}", cluster.name)),
        ));
    }
    // Whoever is in the list already comes first: a learner that was left behind, perhaps never started and so without
    // a name, forbids every other one.
    let listed = |m: &str| {
        let ClusterDriver::Etcd { peer_port, .. } = cluster.driver else { return false };
        let url = fleet.member_address(m, peer_port).map(|at| format!("http://{at}"));
        seen.members.iter().any(|x| x.name == m || url.as_ref().is_some_and(|u| x.peer_urls.contains(u)))
    };
    let mut members: Vec<&String> = cluster.members.iter().collect();
    // Then who runs already: a machine that can never be installed must not keep the others waiting, run after run.
    members.sort_by_key(|m| (!listed(m), plan.up(m).is_some()));
    for member in members {
        match seen.members.iter().find(|m| m.name == *member) {
            Some(m) if !m.learner && m.healthy => {
                track.voters.push(member.clone());
                track.found.push(format!("{member} is a healthy voter ({})", m.id));
            }
            // It runs, and nothing of a member is on its disk: it was installed anew. F42.
            Some(m) if !m.healthy && ready(member) && is_empty(facts, member) => {
                push(
                    &mut track,
                    StepKind::RemoveMember { member: member.clone() },
                    format!("its machine was installed anew and has no data of member {}", m.id),
                    plan,
                );
                join(&mut track, member, plan);
            }
            Some(m) if m.learner && ready(member) => {
                push(&mut track, StepKind::StartMember { member: member.clone() }, "it is a learner".into(), plan);
                push(
                    &mut track,
                    StepKind::AwaitSynced { member: member.clone() },
                    "a learner must have caught up before it votes".into(),
                    plan,
                );
                push(&mut track, StepKind::Promote { member: member.clone() }, "it is a learner".into(), plan);
                push(
                    &mut track,
                    StepKind::VerifyMember { member: member.clone() },
                    "it must serve what others wrote".into(),
                    plan,
                );
            }
            Some(m) if !m.learner && returns(member) => {
                push(
                    &mut track,
                    StepKind::VerifyMember { member: member.clone() },
                    "its machine comes up in this run; it must serve what others wrote".into(),
                    plan,
                );
            }
            Some(m) => {
                return Err(refuse(
                    "unhealthyMember",
                    format!("member {member} ({}) is in the list and not healthy", m.id),
                    Some(format!("rackctl describe node {member}")),
                ));
            }
            None if ready(member) => join(&mut track, member, plan),
            None => track.found.push(format!("{member} is not a member and not in this plan")),
        }
    }
    // Where nobody joins, what is there is left as it is.
    if track.steps.iter().any(|s| !matches!(s.kind, StepKind::VerifyMember { .. }))
        && let Some(refusal) = unfit(Some(seen))
    {
        return Err(refusal);
    }
    Ok(track)
}

/// The machine's installed system answers, with its own host key, and was never told to run a member.
fn is_empty(facts: &Facts, member: &str) -> bool {
    let system = facts.nodes.get(member).and_then(|n| n.system.as_ref()).and_then(|o| o.value.as_ref().ok());
    system.is_some_and(|status| status.etcd.is_none())
}

fn join(track: &mut Track, member: &str, plan: &Machines<'_>) {
    let m = || member.to_owned();
    push(track, StepKind::AddLearner { member: m() }, "it is not in the member list".into(), plan);
    push(
        track,
        StepKind::StartMember { member: m() },
        "its etcd must run with the members' list and the cluster's token".into(),
        plan,
    );
    push(track, StepKind::AwaitSynced { member: m() }, "a learner must have caught up before it votes".into(), plan);
    push(track, StepKind::Promote { member: m() }, "synced learners become voters".into(), plan);
    push(track, StepKind::VerifyMember { member: m() }, "it must serve what others wrote".into(), plan);
}

fn push(track: &mut Track, kind: StepKind, why: String, plan: &Machines<'_>) {
    let member = kind.member().unwrap_or_default().to_owned();
    let id = format!("{}/{}-{}", track.subject, kind.word(), member);
    // A member's first step waits for the machine itself, where this plan brings it up.
    let begins = !track.steps.iter().any(|s| s.kind.member() == Some(&member));
    let awaits = plan.up(&member).filter(|_| begins).map(|s| s.id.clone()).into_iter().collect();
    track.steps.push(Step { id, danger: kind.danger(), kind, why, awaits });
}
