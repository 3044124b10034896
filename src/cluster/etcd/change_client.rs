//! Changes of membership. Each looks first, so each may be called again: what is done already is success,
//! what timed out is looked at before it is sent again, and what etcd refuses only for now is tried until the deadline.

use std::time::{Duration, Instant};

use super::{
    client::{CALL_DEADLINE, Client},
    error::{Fault, Kind},
    hex_id,
    observe_client::{OBSERVE_DEADLINE, POLL},
    parse_id,
    synced::{Progress, Rule, Verdict, Watch},
    wire::{Member, Members},
};
use crate::model::{Failure, failure::Cause, lease::Gate};

/// Between two tries of what etcd refuses for now.
const RETRY: Duration = Duration::from_millis(500);

/// A learner that is in the member list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Hex.
    pub id: String,
    /// It was there before the call.
    pub found: bool,
    /// It is a voter by now: an earlier call went further.
    pub voter: bool,
}

/// How long a change is tried, and while what holds. etcd knows no fence: whoever works under a lease asks it right
/// before each call that changes anything, however long the looks before it took.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'a> {
    pub deadline: Duration,
    pub gate: Option<&'a Gate>,
}

impl From<Duration> for Patience<'_> {
    fn from(deadline: Duration) -> Self {
        Patience { deadline, gate: None }
    }
}

impl Patience<'_> {
    fn may(&self, what: &str) -> Result<(), Failure> {
        self.gate.map_or(Ok(()), |gate| gate.check(what))
    }
}

/// What a try came to.
enum Tried<T> {
    Done(T),
    /// Not now, because of this.
    Again(Fault),
    Never(Failure),
}

/// Goes through the endpoints and tries until `step` says done or never, or time is up.
async fn until<T>(
    what: &str,
    endpoints: &[String],
    deadline: Duration,
    mut step: impl AsyncFnMut(&Client) -> Tried<T>,
) -> Result<T, Failure> {
    let began = Instant::now();
    let clients = endpoints.iter().map(|at| Client::new(at, CALL_DEADLINE)).collect::<Result<Vec<_>, _>>()?;
    let mut last: Option<Fault> = None;
    loop {
        for client in &clients {
            match step(client).await {
                Tried::Done(value) => return Ok(value),
                Tried::Never(failure) => return Err(failure),
                // "Later" from a member that answers says more than silence from one that does not.
                Tried::Again(fault) if fault.kind().is_some() || last.as_ref().is_none_or(|l| l.kind().is_none()) => {
                    last = Some(fault);
                }
                Tried::Again(_) => {}
            }
            if began.elapsed() >= deadline {
                break;
            }
        }
        if began.elapsed() + RETRY >= deadline {
            return Err(match last {
                None => Failure::new(Cause::Local, what, "no endpoint is known"),
                Some(fault) => {
                    let mut failure = fault.failure(what);
                    failure.why = format!("{}, tried for {} s", failure.why, began.elapsed().as_secs());
                    failure
                }
            });
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn settle<T>(what: &str, fault: Fault) -> Tried<T> {
    if fault.is_transient() || fault.kind() == Some(Kind::LearnerUnsupported) {
        Tried::Again(fault)
    } else {
        Tried::Never(fault.failure(what))
    }
}

async fn list(client: &Client) -> Result<Members, Fault> {
    client.members(true).await
}

/// Adds `peer_url` as a learner, unless it is in the member list. `name` is what the member will call itself:
/// a started member of another name under that URL is a failure.
pub async fn add_learner(
    endpoints: &[String],
    name: &str,
    peer_url: &str,
    patience: impl Into<Patience<'_>>,
) -> Result<Added, Failure> {
    let what = format!("{name}: add {peer_url} as a learner");
    let patience = patience.into();
    let mut sent = false;
    until(&what, endpoints, patience.deadline, async |client: &Client| {
        let members = match list(client).await {
            Ok(list) => list.members,
            Err(fault) => return settle(&what, fault),
        };
        match known(&what, name, peer_url, &members) {
            Err(failure) => return Tried::Never(failure),
            Ok(Some(m)) => return Tried::Done(Added { id: hex_id(m.id), found: !sent, voter: !m.learner }),
            Ok(None) => {}
        }
        if let Err(failure) = patience.may(&what) {
            return Tried::Never(failure);
        }
        sent = true;
        match client.member_add_learner(peer_url).await {
            Ok(Members { member: Some(m), .. }) => Tried::Done(Added { id: hex_id(m.id), found: false, voter: false }),
            Ok(_) => Tried::Again(Fault::Malformed("member add answered without a member".into())),
            Err(fault) if fault.kind() == Some(Kind::PeerUrlExists) => Tried::Again(fault),
            Err(fault) => settle(&what, fault),
        }
    })
    .await
}

/// The member with this peer URL, if it may be taken for the one that is to be added.
fn known<'a>(what: &str, name: &str, peer_url: &str, members: &'a [Member]) -> Result<Option<&'a Member>, Failure> {
    let found = members.iter().find(|m| m.peer_urls.iter().any(|url| url == peer_url));
    if let Some(m) = found
        && !m.name.is_empty()
        && m.name != name
    {
        let why = format!("member {} has this peer URL and is called {}, not {name}", hex_id(m.id), m.name);
        return Err(Failure::new(Cause::Mismatch, what, why));
    }
    if let Some(m) = members.iter().find(|m| m.name == name && !m.peer_urls.iter().any(|url| url == peer_url)) {
        let why = format!("member {} is called {name} and has {}", hex_id(m.id), m.peer_urls.join(", "));
        return Err(Failure::new(Cause::Mismatch, what, why));
    }
    Ok(found)
}

fn id_of(what: &str, id: &str) -> Result<u64, Failure> {
    parse_id(id).ok_or_else(|| Failure::new(Cause::Local, what, format!("`{id}` is no member id")))
}

/// Makes the learner a voter; one that is a voter is done. Only voters are asked.
pub async fn promote(endpoints: &[String], id: &str, patience: impl Into<Patience<'_>>) -> Result<(), Failure> {
    let what = format!("promote member {id}");
    let number = id_of(&what, id)?;
    let patience = patience.into();
    until(&what, endpoints, patience.deadline, async |client: &Client| {
        let members = match list(client).await {
            Ok(list) => list,
            Err(fault) => return settle(&what, fault),
        };
        match members.members.iter().find(|m| m.id == number) {
            None => return Tried::Never(Failure::new(Cause::Mismatch, &what, "it is not in the member list")),
            Some(m) if !m.learner => return Tried::Done(()),
            Some(_) => {}
        }
        if let Err(failure) = patience.may(&what) {
            return Tried::Never(failure);
        }
        match client.member_promote(number).await {
            Ok(_) => Tried::Done(()),
            Err(fault) if fault.kind() == Some(Kind::NotALearner) => Tried::Done(()),
            Err(fault) => settle(&what, fault),
        }
    })
    .await
}

/// Takes a member out; one that is not there is done.
pub async fn remove(endpoints: &[String], id: &str, patience: impl Into<Patience<'_>>) -> Result<(), Failure> {
    let what = format!("remove member {id}");
    let number = id_of(&what, id)?;
    let patience = patience.into();
    until(&what, endpoints, patience.deadline, async |client: &Client| {
        let members = match list(client).await {
            Ok(list) => list,
            Err(fault) => return settle(&what, fault),
        };
        if !members.members.iter().any(|m| m.id == number) {
            return Tried::Done(());
        }
        // A member that is asked to remove itself may be gone before it has answered: ask another one.
        if members.header.member_id == number && endpoints.len() > 1 {
            return Tried::Again(Fault::Unreachable("only the member itself answers".into()));
        }
        if let Err(failure) = patience.may(&what) {
            return Tried::Never(failure);
        }
        match client.member_remove(number).await {
            Ok(_) => Tried::Done(()),
            Err(fault) if fault.kind() == Some(Kind::MemberNotFound) => Tried::Done(()),
            Err(fault) => settle(&what, fault),
        }
    })
    .await
}

/// Makes member `target` the leader; if it leads already, done.
pub async fn move_leader(endpoints: &[String], target: &str, patience: impl Into<Patience<'_>>) -> Result<(), Failure> {
    let what = format!("make member {target} the leader");
    let number = id_of(&what, target)?;
    let patience = patience.into();
    until(&what, endpoints, patience.deadline, async |client: &Client| {
        let status = match client.status().await {
            Ok(status) => status,
            Err(fault) => return settle(&what, fault),
        };
        if status.leader == number {
            return Tried::Done(());
        }
        if status.leader != status.header.member_id {
            return Tried::Again(Fault::Unreachable(format!("the leader {} did not answer", hex_id(status.leader))));
        }
        if let Err(failure) = patience.may(&what) {
            return Tried::Never(failure);
        }
        match client.move_leader(number).await {
            // The next look says whether it came to that.
            Ok(()) => Tried::Again(Fault::Unreachable("the leader has not changed yet".into())),
            Err(fault) => settle(&what, fault),
        }
    })
    .await
}

/// Waits until the learner at `learner_endpoint` has applied what the leader has, and keeps up.
/// `progress` is called at every look.
pub async fn wait_synced(
    endpoints: &[String],
    learner_endpoint: &str,
    id: &str,
    rule: Rule,
    deadline: Duration,
    mut progress: impl FnMut(&Progress),
) -> Result<Progress, Failure> {
    let what = format!("wait until learner {id} at {learner_endpoint} has caught up");
    let number = id_of(&what, id)?;
    let began = Instant::now();
    let clients = endpoints.iter().map(|at| Client::new(at, OBSERVE_DEADLINE)).collect::<Result<Vec<_>, _>>()?;
    let learner = Client::new(learner_endpoint, OBSERVE_DEADLINE)?;
    let mut watch = Watch::new(rule);
    loop {
        // The leader first: a learner that then has its index has everything that was there at the beginning.
        let why = match (leader_index(&clients).await, learner.status().await) {
            (Ok((cluster, index)), Ok(status)) => {
                if status.header.member_id != number || status.header.cluster_id != cluster {
                    let why = format!(
                        "there stands member {} of cluster {}, expected was {id} of {}",
                        hex_id(status.header.member_id),
                        hex_id(status.header.cluster_id),
                        hex_id(cluster)
                    );
                    return Err(Failure::new(Cause::Mismatch, what, why));
                }
                let now = began.elapsed();
                let seen = Progress { leader_index: index, applied_index: status.raft_applied_index };
                progress(&seen);
                match watch.see(now, &seen) {
                    Verdict::Synced => return Ok(seen),
                    Verdict::Behind { by } => format!("{by} entries behind the leader's {index}"),
                    Verdict::Settling { for_another } => {
                        format!("caught up; must keep up for another {} ms", for_another.as_millis())
                    }
                }
            }
            (Err(fault), _) | (_, Err(fault)) => {
                watch.lost();
                if !fault.is_transient() {
                    return Err(fault.failure(what));
                }
                fault.why()
            }
        };
        if began.elapsed() + POLL > deadline {
            return Err(Failure::new(Cause::Deadline, what, format!("after {} s still: {why}", deadline.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Cluster id and raft index, from the leader itself.
async fn leader_index(clients: &[Client]) -> Result<(u64, u64), Fault> {
    let mut last = Fault::Unreachable("no endpoint is known".into());
    for client in clients {
        match client.status().await {
            Ok(s) if s.leader != 0 && s.leader == s.header.member_id => return Ok((s.header.cluster_id, s.raft_index)),
            Ok(s) if s.leader == 0 => last = Fault::Unreachable(format!("{} knows of no leader", client.endpoint())),
            Ok(_) => {}
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, url: &str) -> Member {
        Member { id, name: name.into(), peer_urls: vec![url.into()], ..Member::default() }
    }

    #[test]
    fn a_url_under_another_name_and_a_name_under_another_url_are_mismatches() {
        let list = [member(1, "n1", "http://1"), member(2, "", "http://2")];
        assert_eq!(known("w", "n2", "http://2", &list).unwrap().map(|m| m.id), Some(2));
        assert_eq!(known("w", "n3", "http://3", &list).unwrap(), None);
        assert_eq!(known("w", "n2", "http://1", &list).unwrap_err().cause, Cause::Mismatch);
        assert_eq!(known("w", "n1", "http://9", &list).unwrap_err().cause, Cause::Mismatch);
    }
}
