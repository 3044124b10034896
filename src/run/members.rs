//! Carries the steps of a cluster's track out: etcd's own API for membership, SSH to start a member.

use std::{collections::BTreeSet, time::Duration};

use rackctl_wire::EtcdMember;
use serde_json::Value;
use uuid::Uuid;

use super::{World, journal::TAKEN_OUT, world::store_failure};
use crate::{
    cluster::etcd::{
        change_client::{Patience, add_learner, move_leader, promote, remove, wait_synced},
        client::Client,
        error::Fault,
        hex_id,
        member::{self as seats, Seat},
        observe_client::{observe as observe_etcd, probe_existing, wait_started},
        observed::may_bootstrap,
        synced::Rule,
        verify_client::{PREFIX, verify_member},
    },
    engine::{Found, look},
    model::{
        Failure,
        facts::{ClusterFacts, MemberFacts},
        failure::Cause,
        fleet::ClusterDriver,
    },
    plan::{
        StepKind, Subject,
        quorum::{self, Change},
    },
    remote::{client::Ssh, node_client},
    store::{ClusterRecord, Draft, RecordKind, StoreError},
};

const CHANGE_DEADLINE: Duration = Duration::from_secs(90);
/// For a change of leadership; etcd's election takes about a second.
const LEAD_DEADLINE: Duration = Duration::from_secs(5);
/// A learner that was seen in sync so lately is not asked again.
const SYNC_HOLDS: Duration = Duration::from_secs(3);
/// For the look whether a learner that was in sync is so still.
const STILL_SYNCED: Duration = Duration::from_secs(10);

fn what(cluster: &str, member: &str, doing: &str) -> String {
    format!("cluster {cluster}: {doing} {member}")
}

fn seat(world: &World, cluster: &str, member: &str) -> Result<Seat, Failure> {
    let bad = |why: &str| Failure::new(Cause::Guard, format!("cluster {cluster}"), why.to_owned());
    let spec = world.fleet.clusters.get(cluster).ok_or_else(|| bad("it is not in the fleet of this run"))?;
    let ClusterDriver::Etcd { client_port, peer_port, .. } = spec.driver else {
        return Err(bad("its driver is not etcd"));
    };
    let record = world.record(member)?.ok_or_else(|| bad(&format!("{member} is not installed")))?;
    let address = world.node(member)?.address().ok_or_else(|| bad(&format!("{member} has no address")))?;
    Ok(Seat {
        cluster: cluster.to_owned(),
        name: member.to_owned(),
        generation: record.generation,
        address,
        client_port,
        peer_port,
    })
}

/// Of those that are installed, `except` one.
fn client_urls(world: &World, cluster: &str, members: &[String], except: &str) -> Vec<String> {
    let others = members.iter().filter(|m| *m != except);
    others.filter_map(|m| seat(world, cluster, m).ok()).map(|s| s.client_url()).collect()
}

/// Client URLs of the voters, `except` one.
fn voters(world: &World, cluster: &str, except: &str) -> Result<Vec<String>, Failure> {
    let urls = client_urls(world, cluster, &world.voters(cluster), except);
    if urls.is_empty() {
        return Err(Failure::new(Cause::Guard, format!("cluster {cluster}"), "no voter is known to ask")
            .next(format!("rackctl describe cluster {cluster}")));
    }
    Ok(urls)
}

async fn facts(world: &World, cluster: &str, except: &str) -> Result<ClusterFacts, Failure> {
    observe_etcd(&endpoints(world, cluster, except)?).await
}

/// Client URLs at which the cluster is observed: its voters; in a run that has no business with the membership, and so
/// was told of none, every machine that was installed to be a member.
fn endpoints(world: &World, cluster: &str, except: &str) -> Result<Vec<String>, Failure> {
    if !world.voters(cluster).is_empty() {
        return voters(world, cluster, except);
    }
    let members = world.fleet.clusters.get(cluster).map(|c| c.members.as_slice()).unwrap_or_default();
    let urls = client_urls(world, cluster, members, except);
    if urls.is_empty() {
        return Err(Failure::new(Cause::Guard, format!("cluster {cluster}"), "no other machine of it is installed")
            .next(format!("rackctl describe cluster {cluster}")));
    }
    Ok(urls)
}

fn member_of<'a>(facts: &'a ClusterFacts, seat: &Seat) -> Option<&'a MemberFacts> {
    look::member(facts, &seat.peer_url())
}

pub(super) async fn observe(world: &World, cluster: &str, kind: &StepKind, resumed: bool) -> (Found, Value) {
    match look(world, cluster, kind, resumed).await {
        Ok(found) => (found, Value::Null),
        Err(failure) => (Found::Unknown(failure), Value::Null),
    }
}

async fn look(world: &World, cluster: &str, kind: &StepKind, resumed: bool) -> Result<Found, Failure> {
    let Some(member) = kind.member() else { return Ok(Found::NotDone) };
    let seat = seat(world, cluster, member)?;
    match kind {
        StepKind::Bootstrap { .. } => {
            let record = world.store.cluster_record(cluster).map_err(|e| store_failure(&e))?;
            // A ticket that nobody is known to have used is passed on with its token: whatever came of it then is what
            // comes of it now.
            let unused = |r: &&ClusterRecord| !r.may_exist() && r.bootstrap_member == member;
            let made = record.as_ref().filter(|r| r.run == world.run || !unused(r));
            let made = made.map(|r| (r.run.as_str(), r.generation));
            if let Some(found) = look::bootstrap(cluster, member, &world.run, made, resumed) {
                return Ok(found);
            }
            let Some(record) = record else { return Ok(Found::NotDone) };
            Ok(look::bootstrapped(&record.token, &node_status(world, member).await?))
        }
        StepKind::AddLearner { .. } => {
            let facts = facts(world, cluster, member).await?;
            Ok(match look::added(&facts, &seat.peer_url()) {
                Found::NotDone => {
                    guard(world, cluster, member, &facts, Change::AddLearner { peer_url: seat.peer_url() }).await
                }
                found => found,
            })
        }
        StepKind::RemoveMember { .. } => {
            let facts = facts(world, cluster, member).await?;
            let status = node_status(world, member).await?;
            Ok(match (look::removed(cluster, member, &facts, &seat.peer_url(), &status), member_of(&facts, &seat)) {
                (Found::NotDone, Some(m)) => {
                    guard(world, cluster, member, &facts, Change::Remove { id: m.id.clone() }).await
                }
                (found, _) => found,
            })
        }
        StepKind::StartMember { .. } if resumed => {
            Ok(look::started(cluster, seat.generation, &node_status(world, member).await?))
        }
        StepKind::Promote { .. } => {
            let facts = facts(world, cluster, member).await?;
            Ok(match (look::promoted(cluster, member, &facts, &seat.peer_url()), member_of(&facts, &seat)) {
                (Found::NotDone, Some(m)) => {
                    guard(world, cluster, member, &facts, Change::Promote { id: m.id.clone() }).await
                }
                (found, _) => found,
            })
        }
        _ => Ok(Found::NotDone),
    }
}

/// The quorum guard, on facts read just now. What time may mend is waited for; the rest is a contradiction.
async fn guard(world: &World, cluster: &str, member: &str, facts: &ClusterFacts, change: Change) -> Found {
    let mut synced = BTreeSet::new();
    // Who is taken out is proven dead: its machine was looked at right before.
    let dead = match &change {
        Change::Remove { id } => BTreeSet::from([id.clone()]),
        _ => BTreeSet::new(),
    };
    if let Change::Promote { id } = &change {
        // Synced a while ago is not synced now.
        let fresh = async {
            let own = seat(world, cluster, member)?.client_url();
            wait_synced(&voters(world, cluster, member)?, &own, id, Rule::default(), STILL_SYNCED, |_| {}).await
        };
        let just_now = world.since_synced(cluster, member).is_some_and(|since| since < SYNC_HOLDS);
        if just_now || fresh.await.is_ok() {
            synced.insert(id.clone());
        }
    }
    let declared = world.fleet.clusters.get(cluster).map_or(0, |c| c.size as usize);
    let seen = quorum::World {
        facts,
        declared,
        synced: &synced,
        dead: &dead,
        since_restart: world.since_restart(cluster),
        settle: quorum::SETTLE,
    };
    look::quorum_allows(cluster, member, &seen, &change)
}

/// Whether the cluster can do without this node's member now, data and all; `None`: it can, or has no such member.
pub(super) async fn may_lose(world: &World, cluster: &str, node: &str) -> Option<Failure> {
    world.store.cluster_record(cluster).ok().flatten()?;
    let doing = || what(cluster, node, "do without");
    // A cluster that is silent has no quorum to spare.
    let facts = match facts(world, cluster, node).await {
        Ok(facts) => facts,
        Err(failure) => return Some(Failure { what: doing(), ..failure }),
    };
    let member = facts.members.iter().find(|m| m.name == node)?;
    let declared = world.fleet.clusters.get(cluster).map_or(0, |c| c.size as usize);
    let none = BTreeSet::new();
    let seen = quorum::World {
        facts: &facts,
        declared,
        synced: &none,
        dead: &none,
        since_restart: world.since_restart(cluster),
        settle: quorum::SETTLE,
    };
    // A leader is no obstacle: it is led away before the power goes.
    let refusals = quorum::refusals(&seen, &Change::Stop { id: member.id.clone() });
    let lasting: Vec<_> = refusals.into_iter().filter(|r| !matches!(r, quorum::Refusal::Leader(_))).collect();
    quorum::verdict(&doing(), &lasting).err()
}

/// Whether the node's power may go now, for a while or for good, because an operator named it; `None`: it may.
pub(super) async fn may_pause(world: &World, cluster: &str, node: &str) -> Option<Failure> {
    world.store.cluster_record(cluster).ok().flatten()?;
    // Silent: it has no quorum that could be lost. A cluster of one is asked through the machine itself.
    let facts = facts(world, cluster, "").await.ok()?;
    let none = BTreeSet::new();
    let seen = quorum::World {
        facts: &facts,
        declared: world.fleet.clusters.get(cluster).map_or(0, |c| c.size as usize),
        synced: &none,
        dead: &none,
        since_restart: world.since_restart(cluster),
        settle: quorum::SETTLE,
    };
    quorum::verdict(&what(cluster, node, "do without"), &quorum::pausing(&seen, node)).err()
}

/// Until the cluster counts this node among its healthy voters again, where it is one of them at all. The caller's
/// deadline ends it.
pub(super) async fn until_counted(world: &World, cluster: &str, node: &str, pause: Duration) -> Result<(), Failure> {
    if world.store.cluster_record(cluster).map_err(|e| store_failure(&e))?.is_none() {
        return Ok(());
    }
    loop {
        if let Ok(facts) = facts(world, cluster, "").await {
            match facts.members.iter().find(|m| m.name == node && !m.learner) {
                Some(member) if !member.healthy => {}
                _ => return Ok(()),
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Gives the leadership to another healthy voter, where this node's member has it: a cluster that is asked needs no
/// election, one whose leader goes away serves nothing until it has held one. Not a condition: where it does not work,
/// the election comes.
pub(super) async fn lead_away(world: &World, cluster: &str, node: &str) {
    if !matches!(world.store.cluster_record(cluster), Ok(Some(_))) {
        return;
    }
    let Ok(endpoints) = endpoints(world, cluster, "") else { return };
    let Ok(facts) = observe_etcd(&endpoints).await else { return };
    let Some(own) = facts.members.iter().find(|m| m.name == node) else { return };
    let heir = facts.members.iter().find(|m| m.healthy && !m.learner && m.id != own.id);
    if let (true, Some(heir), Ok(())) =
        (facts.leader.as_ref() == Some(&own.id), heir, world.gate.check(&what(cluster, node, "lead away from")))
    {
        let _ = move_leader(&endpoints, &heir.id, Patience { deadline: LEAD_DEADLINE, gate: Some(&world.gate) }).await;
    }
}

pub(super) async fn act(world: &World, cluster: &str, kind: &StepKind) -> Result<(), Failure> {
    let Some(member) = kind.member() else { return Ok(()) };
    // Membership is changed by calls that know no fence: none is sent without the lease.
    world.gate.check(&what(cluster, member, kind.word()))?;
    let seat = seat(world, cluster, member)?;
    match kind {
        StepKind::Bootstrap { .. } => {
            let token = bootstrap_ticket(world, cluster, member).await?;
            start(world, member, &seats::bootstrap(&seat, token)).await
        }
        StepKind::RemoveMember { .. } => {
            let facts = facts(world, cluster, member).await?;
            match member_of(&facts, &seat) {
                Some(m) => remove(&voters(world, cluster, member)?, &m.id, patient(world)).await,
                None => Ok(()),
            }
        }
        StepKind::AddLearner { .. } => {
            add_learner(&voters(world, cluster, member)?, member, &seat.peer_url(), patient(world)).await.map(|_| ())
        }
        StepKind::StartMember { .. } => {
            let facts = facts(world, cluster, member).await?;
            start(world, member, &seats::joining(&seat, &facts)?).await
        }
        StepKind::Promote { .. } => {
            let facts = facts(world, cluster, member).await?;
            let id = member_of(&facts, &seat).map(|m| m.id.clone()).ok_or_else(|| {
                Failure::new(Cause::Mismatch, what(cluster, member, "promote"), "it is not in the member list")
            })?;
            promote(&voters(world, cluster, member)?, &id, patient(world)).await
        }
        _ => Ok(()),
    }
}

/// A learner that this run was to bring in, and could not, is taken out again: it keeps everybody else from joining, and
/// the next run adds it under a new id. F41.
pub(super) async fn finalize(world: &World, cluster: &str) -> Result<(), Failure> {
    let subject = Subject::Cluster(cluster.to_owned());
    let steps = world.plan.tracks.iter().filter(|t| t.subject == subject).flat_map(|t| &t.steps);
    let members: BTreeSet<&str> =
        steps.filter(|s| matches!(s.kind, StepKind::StartMember { .. })).filter_map(|s| s.kind.member()).collect();
    let seen = facts(world, cluster, "").await?;
    for member in members {
        let Ok(seat) = seat(world, cluster, member) else { continue };
        let Some(learner) = member_of(&seen, &seat).filter(|m| m.learner) else { continue };
        world.gate.check(&what(cluster, member, "take out"))?;
        let draft = Draft {
            subject: cluster.to_owned(),
            step: subject.to_string(),
            attempt: 1,
            kind: RecordKind::Fact,
            body: serde_json::json!({ TAKEN_OUT: member, "id": learner.id }),
        };
        world.append(draft).map_err(|e| store_failure(&e))?;
        remove(&voters(world, cluster, member)?, &learner.id, patient(world)).await?;
    }
    Ok(())
}

pub(super) async fn verify(world: &World, cluster: &str, kind: &StepKind) -> Result<(), Failure> {
    let Some(member) = kind.member() else { return Ok(()) };
    let seat = seat(world, cluster, member)?;
    let deadline = Duration::from_secs(kind.deadline_s());
    match kind {
        StepKind::Bootstrap { .. } => {
            let started = wait_started(&[], &seat.client_url(), member, deadline, |_| {}).await?;
            let record = world.store.cluster_record(cluster).map_err(|e| store_failure(&e))?;
            if let Some(record) = record {
                let known = ClusterRecord { cluster_id: Some(started.cluster_id), ..record.clone() };
                world.store.put_cluster_record(cluster, record.generation, &known).map_err(|e| store_failure(&e))?;
            }
            world.add_voter(cluster, member);
            Ok(())
        }
        StepKind::RemoveMember { .. } => {
            let facts = facts(world, cluster, member).await?;
            look::is_removed(cluster, member, &facts, &seat.peer_url())
        }
        StepKind::AddLearner { .. } => {
            let facts = facts(world, cluster, member).await?;
            look::is_added(cluster, member, &facts, &seat.peer_url())
        }
        StepKind::StartMember { .. } => {
            wait_started(&voters(world, cluster, member)?, &seat.client_url(), member, deadline, |_| {})
                .await
                .map(|_| ())
        }
        StepKind::AwaitSynced { .. } => {
            let facts = facts(world, cluster, member).await?;
            let id = member_of(&facts, &seat).map(|m| m.id.clone()).ok_or_else(|| {
                Failure::new(Cause::Mismatch, what(cluster, member, "wait for"), "it is not in the member list")
            })?;
            let rule = Rule::default();
            wait_synced(&voters(world, cluster, member)?, &seat.client_url(), &id, rule, deadline, |_| {}).await?;
            world.note_synced(cluster, member);
            Ok(())
        }
        StepKind::Promote { .. } => {
            let facts = facts(world, cluster, member).await?;
            look::is_promoted(cluster, member, &facts, &seat.peer_url())?;
            world.add_voter(cluster, member);
            Ok(())
        }
        StepKind::VerifyMember { .. } => {
            let own = seat.client_url();
            // A member whose machine has just come up elects and catches up first.
            let known = voters(world, cluster, member).unwrap_or_default();
            wait_started(&known, &own, member, deadline, |_| {}).await?;
            let seen = match voters(world, cluster, member) {
                Ok(others) => verify_member(&others[0], &own).await?.cluster_id,
                Err(_) => serves_alone(&what(cluster, member, "verify"), &own).await?,
            };
            let record = world.store.cluster_record(cluster).map_err(|e| store_failure(&e))?;
            let made = record.as_ref().and_then(|r| r.cluster_id.as_deref());
            look::same_cluster(cluster, member, &seen, made)?;
            match record {
                // Its bootstrap was not seen to the end: from now on it is known that it was made.
                Some(record) if record.cluster_id.is_none() => {
                    let known = ClusterRecord { cluster_id: Some(seen), ..record };
                    world.store.put_cluster_record(cluster, known.generation, &known).map_err(|e| store_failure(&e))
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The first member has nobody to compare with: it must take a write and read it back, linearizably.
async fn serves_alone(what: &str, endpoint: &str) -> Result<String, Failure> {
    const CALL: Duration = Duration::from_secs(10);
    let client = Client::new(endpoint, CALL)?;
    let key = format!("{PREFIX}{}", Uuid::new_v4());
    let proof = async {
        let lease = client.lease_grant(60).await?;
        client.create(key.as_bytes(), b"first", lease).await?;
        let read = client.range(key.as_bytes(), false).await?;
        client.lease_revoke(lease).await?;
        Ok::<_, Fault>(read)
    };
    let read = proof.await.map_err(|f| f.failure(what))?;
    if read.kvs.len() != 1 {
        return Err(Failure::new(Cause::AcceptedButIgnored, what, "it took a write and does not show it"));
    }
    Ok(hex_id(read.header.cluster_id))
}

/// One ticket per generation, durable before the first start; nobody else's data may be there.
async fn bootstrap_ticket(world: &World, cluster: &str, member: &str) -> Result<Uuid, Failure> {
    let doing = || what(cluster, member, "bootstrap");
    let given = world.store.cluster_record(cluster).map_err(|e| store_failure(&e))?;
    let token = |record: &ClusterRecord| {
        record.token.parse().map_err(|_| Failure::new(Cause::Malformed, doing(), "the recorded token is no UUID"))
    };
    if let Some(record) = given.as_ref().filter(|record| record.run == world.run) {
        return token(record);
    }
    let members = world.fleet.clusters.get(cluster).map(|c| c.members.clone()).unwrap_or_default();
    let written_now = |m: &str| {
        let subject = Subject::Node(m.to_owned());
        world
            .plan
            .tracks
            .iter()
            .any(|t| t.subject == subject && t.steps.iter().any(|s| matches!(s.kind, StepKind::WriteDisk { .. })))
    };
    // Machines whose disks this run writes hold nothing; all others are asked.
    let others: Vec<String> = members
        .iter()
        // What runs there under a ticket that is passed on is no other cluster; the node itself refuses others.
        .filter(|m| if *m == member { given.is_none() } else { !written_now(m) })
        .filter_map(|m| seat(world, cluster, m).ok())
        .map(|s| s.client_url())
        .collect();
    let seen = probe_existing(&others).await?;
    may_bootstrap(&doing(), &seen)?;
    // `look` has refused the record of another run that made a cluster.
    let (before, token) = match &given {
        Some(record) => (record.generation, token(record)?),
        None => (0, Uuid::new_v4()),
    };
    let record = ClusterRecord {
        generation: before.max(1),
        run: world.run.clone(),
        bootstrap_member: member.to_owned(),
        token: token.to_string(),
        cluster_id: None,
        found: false,
    };
    match world.store.put_cluster_record(cluster, before, &record) {
        Ok(()) => Ok(token),
        Err(StoreError::Conflict(why)) => {
            Err(Failure::new(Cause::Guard, doing(), why).next(format!("rackctl describe cluster {cluster}")))
        }
        Err(error) => Err(store_failure(&error)),
    }
}

fn connect(world: &World, member: &str) -> Result<Ssh, Failure> {
    let record = world.record(member)?.ok_or_else(|| Failure::new(Cause::Guard, member, "it is not installed"))?;
    world.ssh(member, &record.system_host_key)
}

fn patient(world: &World) -> Patience<'_> {
    Patience { deadline: CHANGE_DEADLINE, gate: Some(&world.gate) }
}

async fn start(world: &World, member: &str, etcd: &EtcdMember) -> Result<(), Failure> {
    // Whatever was asked before may have taken its time.
    world.gate.check(&format!("{member}: start etcd"))?;
    let status = node_client::etcd_start(&connect(world, member)?, etcd).await?;
    if status.running {
        return Ok(());
    }
    let tail = status.log_tail.last().cloned().unwrap_or_default();
    Err(Failure::new(
        Cause::Refused,
        format!("{member}: start etcd"),
        format!(
            "it ended: {}{}",
            status.last_exit.unwrap_or_else(|| "no reason".into()),
            if tail.is_empty() { tail } else { format!(" ({tail})") }
        ),
    )
    .next(format!("rackctl ssh {member} -- rackctl-node status")))
}

async fn node_status(world: &World, member: &str) -> Result<rackctl_wire::NodeStatus, Failure> {
    node_client::node_status(&connect(world, member)?).await
}
