//! The quorum guard: may this change be made now? Pure.
//!
//! It is computed on the membership that the change aims at. A new member counts as unhealthy until it is a
//! learner that was verified in sync. Two voters are passed through on the way up to the declared size, or when
//! a voter proven dead is removed; as an end state they are refused unless declared, because they tolerate no
//! more failures than one voter and have twice the chance of one.

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
    Alarm(String),
    Settling {
        left: Duration,
    },
    UnknownMember(String),
    PeerUrlTaken {
        by: String,
    },
    OtherLearner(String),
    Unnamed(String),
    NotALearner(String),
    NotSynced(String),
    /// The leader must be moved away first.
    Leader(String),
    LastVoter,
    /// An end state of two voters that nobody declared.
    TwoVoters,
    /// Too few healthy voters would be left.
    Quorum {
        voters: usize,
        healthy: usize,
        needed: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoLeader => write!(f, "the cluster has no leader"),
            Refusal::Alarm(alarm) => write!(f, "an alarm is raised: {alarm}"),
            Refusal::Settling { left } => write!(f, "a member was restarted; settled in {} ms", left.as_millis()),
            Refusal::UnknownMember(id) => write!(f, "member {id} is not in the member list"),
            Refusal::PeerUrlTaken { by } => write!(f, "member {by} has this peer URL already"),
            Refusal::OtherLearner(id) => write!(f, "member {id} is a learner still: one at a time"),
            Refusal::Unnamed(id) => write!(f, "member {id} was added and has never started"),
            Refusal::NotALearner(id) => write!(f, "member {id} is a voter already"),
            Refusal::NotSynced(id) => write!(f, "learner {id} is not verified to be in sync"),
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
    let mut out = common(world, change);
    let facts = world.facts;
    let subject = match change {
        Change::AddLearner { peer_url } => {
            let taken = facts.members.iter().find(|m| m.peer_urls.iter().any(|u| u == peer_url));
            out.extend(taken.map(|m| Refusal::PeerUrlTaken { by: m.id.clone() }));
            None
        }
        Change::Promote { id } | Change::Remove { id } | Change::Stop { id } => {
            let Some(member) = facts.members.iter().find(|m| m.id == *id) else {
                out.push(Refusal::UnknownMember(id.clone()));
                return out;
            };
            Some(member)
        }
    };
    out.extend(on_target(world, change, subject));
    out
}

/// [`refusals`] as a failure of the step `what`.
pub fn guard(what: &str, world: &World<'_>, change: &Change) -> Result<(), Failure> {
    let all = refusals(world, change);
    if all.is_empty() {
        return Ok(());
    }
    let why: Vec<String> = all.iter().map(Refusal::to_string).collect();
    Err(Failure::new(Cause::Guard, what, why.join("; ")))
}

/// What forbids any change at all, except where it is itself what is changed.
fn common(world: &World<'_>, change: &Change) -> Vec<Refusal> {
    let mut out = Vec::new();
    if world.facts.leader.is_none() {
        out.push(Refusal::NoLeader);
    }
    out.extend(world.facts.alarms.iter().cloned().map(Refusal::Alarm));
    if let Some(left) = world.since_restart.and_then(|s| world.settle.checked_sub(s)).filter(|left| !left.is_zero()) {
        out.push(Refusal::Settling { left });
    }
    let own = match change {
        Change::AddLearner { .. } => None,
        Change::Promote { id } | Change::Remove { id } | Change::Stop { id } => Some(id.as_str()),
    };
    for m in world.facts.members.iter().filter(|m| Some(m.id.as_str()) != own) {
        if m.name.is_empty() {
            out.push(Refusal::Unnamed(m.id.clone()));
        } else if m.learner {
            out.push(Refusal::OtherLearner(m.id.clone()));
        }
    }
    out
}

/// The voters after the change, and how many of them are healthy then.
fn on_target(world: &World<'_>, change: &Change, subject: Option<&MemberFacts>) -> Vec<Refusal> {
    let mut out = Vec::new();
    let is_healthy = |m: &MemberFacts| m.healthy && !world.dead.contains(&m.id);
    let before: Vec<&MemberFacts> = world.facts.members.iter().filter(|m| !m.learner).collect();
    let mut voters = before.len();
    let mut healthy = before.iter().filter(|m| is_healthy(m)).count();
    let mut may_be_two = true;
    if let Some(member) = subject {
        let is_leader = world.facts.leader.as_ref() == Some(&member.id);
        let counted = usize::from(!member.learner && is_healthy(member));
        match change {
            Change::AddLearner { .. } => {}
            Change::Promote { id } => {
                if !member.learner {
                    out.push(Refusal::NotALearner(id.clone()));
                    return out;
                }
                if member.name.is_empty() {
                    out.push(Refusal::Unnamed(id.clone()));
                } else if !world.synced.contains(id) {
                    out.push(Refusal::NotSynced(id.clone()));
                }
                voters += 1;
                let fit = !member.name.is_empty() && world.synced.contains(id) && !world.dead.contains(id);
                healthy += usize::from(fit);
                // On the way up to more than two, or two is what was asked for.
                may_be_two = world.declared >= 2;
            }
            Change::Remove { id } => {
                if is_leader && voters > 1 {
                    out.push(Refusal::Leader(id.clone()));
                }
                if !member.learner {
                    voters -= 1;
                    healthy -= counted;
                    may_be_two = world.declared == 2 || world.dead.contains(id);
                }
            }
            Change::Stop { id } => {
                if is_leader && voters > 1 {
                    out.push(Refusal::Leader(id.clone()));
                }
                healthy -= counted;
            }
        }
    }
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
