//! Asks all endpoints at once and changes nothing.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{
    client::Client,
    error::{Fault, Kind},
    hex_id,
    observed::{Answer, Existing, join},
};
use crate::model::{
    Failure,
    facts::{ClusterFacts, MemberFacts},
    failure::Cause,
};

/// For one call of an observation: a member that takes longer is not well.
pub const OBSERVE_DEADLINE: Duration = Duration::from_secs(4);
/// Between two looks of a wait.
pub const POLL: Duration = Duration::from_millis(100);
/// Endpoints of one cluster.
pub const ENDPOINTS_MAX: usize = 64;

/// The cluster as its members at these endpoints (`http://IP:PORT`) see it. See [`join`] for what is a failure.
pub async fn observe(endpoints: &[String]) -> Result<ClusterFacts, Failure> {
    let what = format!("observe the etcd cluster at {}", endpoints.join(", "));
    let answers = ask_all(&what, endpoints).await?;
    join(&what, &answers)
}

pub(super) async fn ask_all(what: &str, endpoints: &[String]) -> Result<Vec<(String, Result<Answer, Fault>)>, Failure> {
    if endpoints.len() > ENDPOINTS_MAX {
        let why = format!("{} endpoints, at most {ENDPOINTS_MAX} are asked", endpoints.len());
        return Err(Failure::new(Cause::Local, what, why));
    }
    let clients = endpoints.iter().map(|at| Client::new(at, OBSERVE_DEADLINE)).collect::<Result<Vec<_>, _>>()?;
    let answers = join_all(clients.iter().map(ask)).await;
    Ok(endpoints.iter().cloned().zip(answers).collect())
}

async fn ask(client: &Client) -> Result<Answer, Fault> {
    let status = client.status().await?;
    let (agreed, health, alarms) = tokio::join!(client.members(true), client.health(), client.alarms());
    let (members, linearizable) = match agreed {
        Ok(list) => (list.members, true),
        // No quorum: its own view is better than none. A learner (3.4) gives no list at all.
        Err(_) => match client.members(false).await {
            Ok(list) => (list.members, false),
            Err(fault) if fault.kind() == Some(Kind::LearnerUnsupported) => (vec![], false),
            Err(fault) => return Err(fault),
        },
    };
    let healthy = matches!(&health, Ok(h) if h.health == "true") && alarms.is_ok();
    Ok(Answer { status, members, linearizable, healthy, alarms: alarms.map(|a| a.alarms).unwrap_or_default() })
}

/// Before a bootstrap: is there any cluster at any of the endpoints? [`super::observed::may_bootstrap`] judges it.
pub async fn probe_existing(endpoints: &[String]) -> Result<Vec<(String, Existing)>, Failure> {
    let what = format!("look for an existing etcd cluster at {}", endpoints.join(", "));
    let answers = ask_all(&what, endpoints).await?;
    Ok(answers.into_iter().map(|(at, answer)| (at, existing(answer))).collect())
}

fn existing(answer: Result<Answer, Fault>) -> Existing {
    match answer {
        Ok(a) => Existing::Cluster {
            cluster_id: hex_id(a.status.header.cluster_id),
            member_names: a.members.iter().map(|m| m.name.clone()).collect(),
        },
        Err(Fault::NotListening(_)) => Existing::Nothing,
        Err(fault) => Existing::Unknown { why: fault.why() },
    }
}

/// A member that answers at its own endpoint under its name, and the cluster that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    pub cluster_id: String,
    pub member: MemberFacts,
}

/// Waits until the member at `endpoint` answers, is called `name` and, if it is a voter, is healthy.
/// `others` are the endpoints of the members that were there before (none at a bootstrap): a learner does not
/// list members, so its name is what they have learned of it.
/// `progress` is told why it still waits, whenever that changes.
pub async fn wait_started(
    others: &[String],
    endpoint: &str,
    name: &str,
    deadline: Duration,
    mut progress: impl FnMut(&str),
) -> Result<Started, Failure> {
    let what = format!("{name}: wait for its etcd member at {endpoint}");
    let began = Instant::now();
    let mut endpoints = vec![endpoint.to_string()];
    endpoints.extend(others.iter().filter(|o| *o != endpoint).cloned());
    let mut last = String::new();
    loop {
        let why = match started(&what, name, &ask_all(&what, &endpoints).await?)? {
            Ok(started) => return Ok(started),
            Err(why) => why,
        };
        if why != last {
            progress(&why);
            last = why;
        }
        if began.elapsed() + POLL > deadline {
            return Err(Failure::new(Cause::Deadline, what, format!("after {} s still: {last}", deadline.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The first answer is the member's own. Outer error: wrong for good. Inner error: not yet, and why.
fn started(
    what: &str,
    name: &str,
    answers: &[(String, Result<Answer, Fault>)],
) -> Result<Result<Started, String>, Failure> {
    let own = match answers.first() {
        Some((_, Ok(answer))) => hex_id(answer.status.header.member_id),
        Some((_, Err(fault))) if fault.is_transient() => return Ok(Err(fault.why())),
        Some((_, Err(fault))) => return Err(fault.failure(what)),
        None => return Ok(Err("no endpoint is known".into())),
    };
    let facts = match join(what, answers) {
        Ok(facts) => facts,
        Err(failure) if failure.cause == Cause::Unreachable => return Ok(Err(failure.why)),
        Err(failure) => return Err(failure),
    };
    let Some(member) = facts.members.into_iter().find(|m| m.id == own) else {
        return Ok(Err(format!("member {own} is not in the member list yet")));
    };
    if member.name.is_empty() {
        return Ok(Err("it has not made its name known yet".into()));
    }
    if member.name != name {
        let why = format!("the member there is called {}, not {name}", member.name);
        return Err(Failure::new(Cause::Mismatch, what, why));
    }
    if facts.leader.is_none() {
        return Ok(Err("the cluster has no leader".into()));
    }
    if !member.learner && !member.healthy {
        return Ok(Err("its /health says no".into()));
    }
    Ok(Ok(Started { cluster_id: facts.cluster_id, member }))
}
