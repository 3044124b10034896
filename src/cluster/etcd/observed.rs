//! The answers of all endpoints joined into facts. Pure.

use std::collections::BTreeMap;

use super::{
    error::Fault,
    hex_id,
    wire::{Alarm, Member, Status},
};
use crate::model::{
    Failure,
    facts::{ClusterFacts, MemberFacts},
    failure::Cause,
};

/// What one endpoint said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: Status,
    /// Empty from a learner, which gives no list.
    pub members: Vec<Member>,
    /// The list was agreed on by the cluster, not only known to this member.
    pub linearizable: bool,
    pub healthy: bool,
    pub alarms: Vec<Alarm>,
}

/// Joins them. Members of two clusters among the endpoints are a failure that names both ids.
/// Without quorum there are facts all the same: no leader, nobody healthy, the list of whoever knows most.
pub fn join(what: &str, answers: &[(String, Result<Answer, Fault>)]) -> Result<ClusterFacts, Failure> {
    let good: Vec<(&str, &Answer)> =
        answers.iter().filter_map(|(at, answer)| answer.as_ref().ok().map(|a| (at.as_str(), a))).collect();
    if good.is_empty() {
        return Err(nobody(what, answers));
    }
    one_cluster(what, &good)?;
    let rank = |a: &&Answer| (a.linearizable, a.status.raft_term, a.status.raft_applied_index, a.status.raft_index);
    let Some(best) = good.iter().map(|(_, a)| *a).filter(|a| !a.members.is_empty()).max_by_key(rank) else {
        return Err(Failure::new(Cause::Unreachable, what, "only a learner answers, and it does not list the members"));
    };

    let by_member: BTreeMap<u64, &Answer> = good.iter().map(|(_, a)| (a.status.header.member_id, *a)).collect();
    let mut members: Vec<MemberFacts> = best
        .members
        .iter()
        .map(|m| {
            let own = by_member.get(&m.id);
            MemberFacts {
                id: hex_id(m.id),
                name: m.name.clone(),
                peer_urls: m.peer_urls.clone(),
                client_urls: m.client_urls.clone(),
                learner: m.learner,
                healthy: own.is_some_and(|a| a.healthy),
                version: own.map(|a| a.status.version.clone()).filter(|v| !v.is_empty()),
                raft_index: own.map(|a| a.status.raft_applied_index),
            }
        })
        .collect();
    members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let leader = (best.status.leader != 0).then(|| hex_id(best.status.leader));
    let mut alarms: Vec<String> = good.iter().flat_map(|(_, a)| &a.alarms).map(alarm_text).collect();
    alarms.sort();
    alarms.dedup();
    Ok(ClusterFacts { cluster_id: hex_id(best.status.header.cluster_id), members, leader, alarms })
}

fn alarm_text(alarm: &Alarm) -> String {
    let name = if alarm.alarm.is_empty() { "NONE" } else { &alarm.alarm };
    format!("{name} on member {}", hex_id(alarm.member_id))
}

fn one_cluster(what: &str, good: &[(&str, &Answer)]) -> Result<(), Failure> {
    let mut by_cluster: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for (at, answer) in good {
        by_cluster.entry(answer.status.header.cluster_id).or_default().push(at);
    }
    if by_cluster.len() < 2 {
        return Ok(());
    }
    let each: Vec<String> =
        by_cluster.iter().map(|(id, at)| format!("cluster id {} at {}", hex_id(*id), at.join(", "))).collect();
    Err(Failure::new(Cause::Mismatch, what, format!("two clusters stand where one should: {}", each.join("; "))))
}

fn nobody(what: &str, answers: &[(String, Result<Answer, Fault>)]) -> Failure {
    let each: Vec<String> = answers
        .iter()
        .filter_map(|(at, answer)| answer.as_ref().err().map(|fault| format!("{at}: {}", fault.why())))
        .collect();
    let malformed = answers.iter().any(|(_, a)| matches!(a, Err(Fault::Malformed(_))));
    let cause = if malformed { Cause::Malformed } else { Cause::Unreachable };
    let why = if each.is_empty() { "no endpoint is known".into() } else { each.join("; ") };
    Failure::new(cause, what, why)
}

/// Before a bootstrap: what each endpoint shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing listens there.
    Nothing,
    Cluster {
        cluster_id: String,
        member_names: Vec<String>,
    },
    /// Something is there, or the address does not answer at all: no proof of either.
    Unknown {
        why: String,
    },
}

/// `Ok` only if every endpoint is proven to have no etcd listening. It is no proof that no data lies on a disk:
/// that the nodes say themselves (`EtcdStatus::has_data`).
pub fn may_bootstrap(what: &str, seen: &[(String, Existing)]) -> Result<(), Failure> {
    let mut clusters = Vec::new();
    let mut unknown = Vec::new();
    for (at, existing) in seen {
        match existing {
            Existing::Nothing => {}
            Existing::Cluster { cluster_id, member_names } => {
                clusters.push(format!("{at} belongs to cluster {cluster_id} with {}", member_names.join(", ")));
            }
            Existing::Unknown { why } => unknown.push(format!("{at}: {why}")),
        }
    }
    if !clusters.is_empty() {
        let why = format!("a cluster exists already: {}", clusters.join("; "));
        return Err(Failure::new(Cause::Guard, what, why).next("rackctl get members"));
    }
    if !unknown.is_empty() {
        let why = format!("it is not known that there is no cluster: {}", unknown.join("; "));
        return Err(Failure::new(Cause::Unreachable, what, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::etcd::wire::Header;

    fn answer(cluster: u64, me: u64, leader: u64) -> Answer {
        let member = |id: u64| Member { id, name: format!("n{id}"), ..Member::default() };
        Answer {
            status: Status {
                header: Header { cluster_id: cluster, member_id: me, ..Header::default() },
                version: "3.4.23".into(),
                leader,
                raft_applied_index: 10 + me,
                ..Status::default()
            },
            members: vec![member(1), member(2)],
            linearizable: leader != 0,
            healthy: leader != 0,
            alarms: vec![],
        }
    }

    #[test]
    fn health_and_version_are_each_members_own() {
        let gone = Err(Fault::NotListening("connection refused".into()));
        let facts = join("look", &[("http://a".into(), Ok(answer(7, 1, 1))), ("http://b".into(), gone)]).unwrap();
        assert_eq!(facts.leader.as_deref(), Some("1"));
        assert_eq!((facts.members[0].healthy, facts.members[0].raft_index), (true, Some(11)));
        assert_eq!((facts.members[1].healthy, facts.members[1].version.as_deref()), (false, None));
    }

    #[test]
    fn two_cluster_ids_are_named_with_their_endpoints() {
        let failure =
            join("look", &[("http://a".into(), Ok(answer(0xaa, 1, 1))), ("http://b".into(), Ok(answer(0xbb, 2, 2)))])
                .unwrap_err();
        assert_eq!(failure.cause, Cause::Mismatch);
        for text in ["cluster id aa at http://a", "cluster id bb at http://b"] {
            assert!(failure.why.contains(text), "{}", failure.why);
        }
    }

    #[test]
    fn no_answer_is_unreachable_and_says_why_for_each() {
        let failure = join(
            "look",
            &[
                ("http://a".into(), Err(Fault::NotListening("connection refused".into()))),
                ("http://b".into(), Err(Fault::Deadline(std::time::Duration::from_millis(50)))),
            ],
        )
        .unwrap_err();
        assert_eq!(failure.cause, Cause::Unreachable);
        assert_eq!(failure.why, "http://a: connection refused; http://b: no answer within 50 ms");
    }

    #[test]
    fn alarms_of_all_are_joined_once() {
        let mut a = answer(7, 1, 1);
        a.alarms = vec![Alarm { member_id: 2, alarm: "NOSPACE".into() }];
        let mut b = answer(7, 2, 1);
        b.alarms = a.alarms.clone();
        let facts = join("look", &[("http://a".into(), Ok(a)), ("http://b".into(), Ok(b))]).unwrap();
        assert_eq!(facts.alarms, ["NOSPACE on member 2"]);
    }

    // fault: F45 invariant: I6 harness: D
    #[test]
    fn silence_is_no_permission_to_bootstrap() {
        let at = |e: Existing| [("http://a".to_string(), Existing::Nothing), ("http://b".to_string(), e)];
        assert!(may_bootstrap("b", &at(Existing::Nothing)).is_ok());
        let unknown = may_bootstrap("b", &at(Existing::Unknown { why: "no connection".into() })).unwrap_err();
        assert_eq!(unknown.cause, Cause::Unreachable);
        let there = Existing::Cluster { cluster_id: "aa".into(), member_names: vec!["n1".into()] };
        assert_eq!(may_bootstrap("b", &at(there)).unwrap_err().cause, Cause::Guard);
    }
}
