//! Proof that a member is in the cluster that it was to join, and not in one of its own.

use std::{collections::BTreeSet, time::Duration};

use uuid::Uuid;

use super::{
    client::{CALL_DEADLINE, Client},
    error::Fault,
    hex_id,
    wire::Members,
};
use crate::model::{Failure, failure::Cause};

/// Prefix of the keys that are written for a proof.
pub const PREFIX: &str = "/rackctl/verify/";
/// The key goes by itself if nobody is left to remove it.
const LEASE_S: u64 = 60;
/// Looks until both member lists are the same: the new member may be applying the last change.
const TRIES: u32 = 25;
const BETWEEN: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub cluster_id: String,
    /// Id of the member at the new endpoint.
    pub member_id: String,
    /// Names of all members, sorted.
    pub members: Vec<String>,
}

/// Same cluster id, same members, and a key written through the old member is read, linearizably, through the new one.
pub async fn verify_member(old_endpoint: &str, new_endpoint: &str) -> Result<Verified, Failure> {
    let what = format!("verify the member at {new_endpoint} against the one at {old_endpoint}");
    let old = Client::new(old_endpoint, CALL_DEADLINE)?;
    let new = Client::new(new_endpoint, CALL_DEADLINE)?;
    let verified = same_members(&what, &old, &new).await?;

    let lease = old.lease_grant(LEASE_S).await.map_err(|f| f.failure(&what))?;
    let proof = read_through(&what, &old, &new, lease).await;
    // Also after a failure: what is bound to the lease goes with it. If this fails too, it goes after LEASE_S.
    let withdrawn = old.lease_revoke(lease).await;
    proof?;
    withdrawn.map_err(|f| f.failure(format!("{what}: remove the key")))?;
    Ok(verified)
}

async fn same_members(what: &str, old: &Client, new: &Client) -> Result<Verified, Failure> {
    let mut left = TRIES;
    loop {
        left -= 1;
        let (a, b) = tokio::join!(old.members(true), new.members(true));
        let (a, b) = match (a, b) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(fault), _) | (_, Err(fault)) => {
                if left > 0 && matches!(fault, Fault::Etcd(..)) && fault.is_unknown() {
                    tokio::time::sleep(BETWEEN).await;
                    continue;
                }
                return Err(fault.failure(what));
            }
        };
        match compare(&a, &b) {
            Ok(verified) => return Ok(verified),
            Err(Difference::Cluster(why)) => return Err(Failure::new(Cause::Mismatch, what, why)),
            Err(Difference::Members(why)) if left == 0 => return Err(Failure::new(Cause::Mismatch, what, why)),
            Err(Difference::Members(_)) => tokio::time::sleep(BETWEEN).await,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Difference {
    Cluster(String),
    Members(String),
}

fn compare(old: &Members, new: &Members) -> Result<Verified, Difference> {
    let (a, b) = (old.header.cluster_id, new.header.cluster_id);
    if a != b {
        return Err(Difference::Cluster(format!(
            "the old one is in cluster {}, the new one in {}",
            hex_id(a),
            hex_id(b)
        )));
    }
    if old.header.member_id == new.header.member_id {
        let why = format!("both endpoints are member {}", hex_id(old.header.member_id));
        return Err(Difference::Cluster(why));
    }
    let set = |list: &Members| -> BTreeSet<(u64, String, Vec<String>, bool)> {
        list.members.iter().map(|m| (m.id, m.name.clone(), m.peer_urls.clone(), m.learner)).collect()
    };
    let (seen_old, seen_new) = (set(old), set(new));
    if seen_old != seen_new {
        let text = |s: &BTreeSet<(u64, String, Vec<String>, bool)>| -> String {
            let each: Vec<String> = s
                .iter()
                .map(|(id, name, urls, learner)| {
                    format!("{}={name} {}{}", hex_id(*id), urls.join(","), if *learner { " (learner)" } else { "" })
                })
                .collect();
            each.join("; ")
        };
        let why = format!("the old one lists [{}], the new one [{}]", text(&seen_old), text(&seen_new));
        return Err(Difference::Members(why));
    }
    let mut members: Vec<String> = old.members.iter().map(|m| m.name.clone()).collect();
    members.sort();
    Ok(Verified { cluster_id: hex_id(a), member_id: hex_id(new.header.member_id), members })
}

async fn read_through(what: &str, old: &Client, new: &Client, lease: u64) -> Result<(), Failure> {
    let key = format!("{PREFIX}{}", Uuid::new_v4());
    let value = Uuid::new_v4().to_string();
    let written = old.create(key.as_bytes(), value.as_bytes(), lease).await.map_err(|f| f.failure(what))?;
    if !written.succeeded {
        return Err(Failure::new(Cause::Mismatch, what, format!("{key} existed before it was written")));
    }
    let read = new.range(key.as_bytes(), false).await.map_err(|f| f.failure(what))?;
    match read.kvs.first() {
        Some(kv) if kv.value == value.as_bytes() => Ok(()),
        Some(kv) => {
            let got: String = String::from_utf8_lossy(&kv.value).chars().take(64).collect();
            Err(Failure::new(Cause::Mismatch, what, format!("{key} was written as {value} and read as {got}")))
        }
        None => Err(Failure::new(Cause::Mismatch, what, format!("{key}, written through the old one, is not there"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::etcd::wire::{Header, Member};

    fn list(cluster: u64, me: u64, ids: &[u64]) -> Members {
        Members {
            header: Header { cluster_id: cluster, member_id: me, ..Header::default() },
            members: ids.iter().map(|id| Member { id: *id, name: format!("n{id}"), ..Member::default() }).collect(),
            member: None,
        }
    }

    #[test]
    fn cluster_members_and_endpoint_must_agree() {
        let verified = compare(&list(7, 1, &[1, 2]), &list(7, 2, &[2, 1])).unwrap();
        assert_eq!((verified.member_id.as_str(), verified.members), ("2", vec!["n1".to_string(), "n2".to_string()]));
        assert!(matches!(compare(&list(7, 1, &[1]), &list(8, 2, &[1])), Err(Difference::Cluster(_))));
        assert!(matches!(compare(&list(7, 1, &[1]), &list(7, 1, &[1])), Err(Difference::Cluster(_))));
        assert!(matches!(compare(&list(7, 1, &[1, 2]), &list(7, 2, &[1])), Err(Difference::Members(_))));
    }
}
