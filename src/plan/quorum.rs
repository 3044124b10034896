//! The quorum guard: may this change be made now? Pure; planner, run and simulation ask it alike.
//!
//! Asked of the membership that is there (a cluster without a quorum is not touched: whatever is sent to it may
//! be carried out much later) and of the one that the change aims at. A new member counts as unhealthy until it
//! is a learner that was verified in sync. Two voters are passed through on the way up to the declared size, or
//! when a voter proven dead is removed; as an end state they are refused unless declared, because they tolerate
//! no more failures than one voter and have twice the chance of one.
//!
//! `tests/quorum_reference.rs` holds it against a second writing of the same rules that shares no code with it.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::model::{
    Failure,
    facts::{ClusterFacts, MemberFacts},
    failure::Cause,
};

/// etcd refuses to add members while a voter has not been connected for about 5 s.
pub const SETTLE: Duration = Duration::from_secs(5);

/// What is about to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    AddLearner {
        peer_url: String,
    },
    /// By member id, hex.
    Promote {
        id: String,
    },
    Remove {
        id: String,
    },
    /// The member stops, for a while or for good, and stays in the list.
    Stop {
        id: String,
    },
}

/// What is known when it is asked.
#[derive(Clone, Debug)]
pub struct World<'a> {
    pub facts: &'a ClusterFacts,
    /// Voters that the inventory declares.
    pub declared: usize,
    /// Learners that were verified in sync, by id.
    pub synced: &'a BTreeSet<String>,
    /// Members proven dead (powered off and silent, or said so by a person), by id.
    pub dead: &'a BTreeSet<String>,
    /// Since any member was last restarted; `None`: none was, as far as is known.
    pub since_restart: Option<Duration>,
    pub settle: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoLeader,
    /// Who is said to lead is no voter of the list, or is proven dead.
    StrayLeader(String),
    /// The cluster as it stands has no quorum.
    NoQuorum {
        voters: usize,
        healthy: usize,
        needed: usize,
    },
    Alarm(String),
    Settling {
        left: Duration,
    },
    UnknownMember(String),
    PeerUrlTaken {
        by: String,
    },
    /// etcd adds nobody while a voter is not connected; a dead one is removed first.
    UnhealthyVoter(String),
    OtherLearner(String),
    Unnamed(String),
    NotALearner(String),
    NotSynced(String),
    /// A learner that is to be promoted is proven dead.
    DeadLearner(String),
    /// The leader must be moved away first.
    Leader(String),
    LastVoter,
    /// An end state of two voters that nobody declared.
    TwoVoters,
    /// Too few healthy voters would be left after the change.
    Quorum {
        voters: usize,
        healthy: usize,
        needed: usize,
    },
}

impl Refusal {
    /// Time may mend it: it is waited for, within the step's limit.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Refusal::NoLeader
                | Refusal::NoQuorum { .. }
                | Refusal::Settling { .. }
                | Refusal::UnhealthyVoter(_)
                | Refusal::NotSynced(_)
                | Refusal::Quorum { .. }
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoLeader => write!(f, "the cluster has no leader"),
            Refusal::StrayLeader(id) => write!(f, "the leader is said to be {id}, which is no living voter"),
            Refusal::NoQuorum { voters, healthy, needed } => {
                write!(f, "the cluster has no quorum: of {voters} voters {healthy} are healthy and {needed} are needed")
            }
            Refusal::Alarm(alarm) => write!(f, "an alarm is raised: {alarm}"),
            Refusal::Settling { left } => write!(f, "a member was restarted; settled in {} ms", left.as_millis()),
            Refusal::UnknownMember(id) => write!(f, "member {id} is not in the member list"),
            Refusal::PeerUrlTaken { by } => write!(f, "member {by} has this peer URL already"),
            Refusal::UnhealthyVoter(id) => write!(f, "voter {id} is not healthy: nobody can be added meanwhile"),
            Refusal::OtherLearner(id) => write!(f, "member {id} is a learner still: one at a time"),
            Refusal::Unnamed(id) => write!(f, "member {id} was added and has never started"),
            Refusal::NotALearner(id) => write!(f, "member {id} is a voter already"),
            Refusal::NotSynced(id) => write!(f, "learner {id} is not verified to be in sync"),
            Refusal::DeadLearner(id) => write!(f, "learner {id} is proven dead"),
            Refusal::Leader(id) => write!(f, "member {id} is the leader: move the leadership away first"),
            Refusal::LastVoter => write!(f, "no voter would be left"),
            Refusal::TwoVoters => write!(f, "two voters would be left, which the inventory does not declare"),
            Refusal::Quorum { voters, healthy, needed } => {
                write!(f, "of {voters} voters {healthy} would be healthy and {needed} are needed")
            }
        }
    }
}

/// Majority of so many voters.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Every reason against it at once; none: it may be done.
pub fn refusals(world: &World<'_>, change: &Change) -> Vec<Refusal> {
    let id = match change {
        Change::AddLearner { peer_url } => {
            let mut out = standing(world, &BTreeSet::new());
            out.extend(joining(world, peer_url));
            return out;
        }
        Change::Promote { id } | Change::Remove { id } | Change::Stop { id } => id,
    };
    let mut out = standing(world, &BTreeSet::from([id.as_str()]));
    let Some(member) = world.facts.members.iter().find(|m| m.id == *id) else {
        out.push(Refusal::UnknownMember(id.clone()));
        return out;
    };
    out.extend(match change {
        Change::AddLearner { .. } => Vec::new(),
        Change::Promote { .. } => promoting(world, member),
        Change::Remove { .. } => removing(world, member),
        Change::Stop { .. } => stopping(world, &[member]),
    });
    out
}

/// [`refusals`] as a failure of the step `what`.
pub fn guard(what: &str, world: &World<'_>, change: &Change) -> Result<(), Failure> {
    verdict(what, &refusals(world, change))
}

/// Why these machines, named as their members are, may not all be stopped at the same time. Names that no member
/// bears are not the cluster's concern.
pub fn may_stop_nodes(world: &World<'_>, names: &BTreeSet<String>) -> Vec<Refusal> {
    let members: Vec<&MemberFacts> = world.facts.members.iter().filter(|m| names.contains(&m.name)).collect();
    if members.is_empty() {
        return Vec::new();
    }
    let mut out = standing(world, &members.iter().map(|m| m.id.as_str()).collect());
    out.extend(stopping(world, &members));
    out
}

/// Why the machine of member `name` may not go off or restart now, where an operator has named it. Only what time may
/// mend: whatever else is wrong with the cluster, a machine may have to be restarted to mend it. Nothing is held back
/// where nothing more is lost: a member that does not serve, a cluster without a quorum.
pub fn pausing(world: &World<'_>, name: &str) -> Vec<Refusal> {
    let Some(member) = voters(world).find(|m| m.name == name && is_healthy(world, m)) else { return Vec::new() };
    let mut out = standing(world, &BTreeSet::from([member.id.as_str()]));
    if out.iter().any(|r| matches!(r, Refusal::NoQuorum { .. })) {
        return Vec::new();
    }
    out.extend(stopping(world, &[member]));
    out.retain(|r| matches!(r, Refusal::Settling { .. } | Refusal::Quorum { .. }));
    out
}

/// Refusals as a failure of the step `what`; none: it may be done.
pub fn verdict(what: &str, refusals: &[Refusal]) -> Result<(), Failure> {
    if refusals.is_empty() {
        return Ok(());
    }
    let why: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    Err(Failure::new(Cause::Guard, what, why.join("; ")).next("rackctl get members"))
}

/// What forbids any change at all, except where it is itself what is changed (`own`, by id).
fn standing(world: &World<'_>, own: &BTreeSet<&str>) -> Vec<Refusal> {
    let mut out = Vec::new();
    match &world.facts.leader {
        None => out.push(Refusal::NoLeader),
        Some(id) if !voters(world).any(|m| m.id == *id) || world.dead.contains(id) => {
            out.push(Refusal::StrayLeader(id.clone()));
        }
        Some(_) => {}
    }
    let (all, healthy) = (voters(world).count(), voters(world).filter(|m| is_healthy(world, m)).count());
    if healthy < majority(all) {
        out.push(Refusal::NoQuorum { voters: all, healthy, needed: majority(all) });
    }
    out.extend(world.facts.alarms.iter().cloned().map(Refusal::Alarm));
    if let Some(left) = world.since_restart.and_then(|s| world.settle.checked_sub(s)).filter(|left| !left.is_zero()) {
        out.push(Refusal::Settling { left });
    }
    for m in world.facts.members.iter().filter(|m| !own.contains(m.id.as_str())) {
        if m.name.is_empty() {
            out.push(Refusal::Unnamed(m.id.clone()));
        } else if m.learner {
            out.push(Refusal::OtherLearner(m.id.clone()));
        }
    }
    out
}

fn voters<'a>(world: &World<'a>) -> impl Iterator<Item = &'a MemberFacts> {
    world.facts.members.iter().filter(|m| !m.learner)
}

/// A member that has never started cannot be, whatever answers at its address.
fn is_healthy(world: &World<'_>, m: &MemberFacts) -> bool {
    m.healthy && !m.name.is_empty() && !world.dead.contains(&m.id)
}

/// A learner has no vote: the quorum stays what it was.
fn joining(world: &World<'_>, peer_url: &str) -> Vec<Refusal> {
    let taken = world.facts.members.iter().find(|m| m.peer_urls.iter().any(|u| u == peer_url));
    let mut out: Vec<Refusal> = taken.map(|m| Refusal::PeerUrlTaken { by: m.id.clone() }).into_iter().collect();
    let ill = voters(world).filter(|m| !is_healthy(world, m));
    out.extend(ill.map(|m| Refusal::UnhealthyVoter(m.id.clone())));
    out
}

fn promoting(world: &World<'_>, member: &MemberFacts) -> Vec<Refusal> {
    if !member.learner {
        return vec![Refusal::NotALearner(member.id.clone())];
    }
    let mut out = Vec::new();
    if member.name.is_empty() {
        out.push(Refusal::Unnamed(member.id.clone()));
    } else if !world.synced.contains(&member.id) {
        out.push(Refusal::NotSynced(member.id.clone()));
    }
    if world.dead.contains(&member.id) {
        out.push(Refusal::DeadLearner(member.id.clone()));
    }
    let fit = usize::from(out.is_empty());
    let healthy = voters(world).filter(|m| is_healthy(world, m)).count() + fit;
    // On the way up to more than two, or two is what was asked for.
    out.extend(on_target(voters(world).count() + 1, healthy, world.declared >= 2));
    out
}

fn removing(world: &World<'_>, member: &MemberFacts) -> Vec<Refusal> {
    if member.learner {
        return Vec::new();
    }
    let mut out = Vec::new();
    let left: Vec<&MemberFacts> = voters(world).filter(|m| m.id != member.id).collect();
    if !left.is_empty() && world.facts.leader.as_ref() == Some(&member.id) {
        out.push(Refusal::Leader(member.id.clone()));
    }
    let healthy = left.iter().filter(|m| is_healthy(world, m)).count();
    let may_be_two = world.declared == 2 || world.dead.contains(&member.id);
    out.extend(on_target(left.len(), healthy, may_be_two));
    out
}

/// They stay in the list, all of them down at the same time.
fn stopping(world: &World<'_>, members: &[&MemberFacts]) -> Vec<Refusal> {
    let mut out = Vec::new();
    let stops = |id: &str| members.iter().any(|m| m.id == id);
    if !members.iter().any(|m| !m.learner) {
        return out;
    }
    let all = voters(world).count();
    if let Some(leader) = world.facts.leader.as_ref().filter(|id| all > 1 && stops(id)) {
        out.push(Refusal::Leader(leader.clone()));
    }
    let healthy = voters(world).filter(|m| is_healthy(world, m) && !stops(&m.id)).count();
    out.extend(on_target(all, healthy, true));
    out
}

/// The membership after the change.
fn on_target(voters: usize, healthy: usize, may_be_two: bool) -> Vec<Refusal> {
    let mut out = Vec::new();
    if voters == 0 {
        out.push(Refusal::LastVoter);
    } else if healthy < majority(voters) {
        out.push(Refusal::Quorum { voters, healthy, needed: majority(voters) });
    }
    if voters == 2 && !may_be_two {
        out.push(Refusal::TwoVoters);
    }
    out
}

#[cfg(test)]
#[path = "quorum_tests.rs"]
mod tests;
