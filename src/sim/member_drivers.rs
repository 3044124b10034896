//! Carries the steps of a simulated cluster's track out, as `run::members` does on real ones.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use uuid::Uuid;

use super::{
    drivers::Doing,
    etcd,
    exec::{Ctx, sleep},
    machine,
    tool::{Tool, failed},
};
use crate::{
    cluster::etcd::{
        error::{Fault, Kind},
        hex_id,
        member::{self as seats, Seat},
        observed::{self, Answer, Existing, may_bootstrap},
        synced::{Progress, Rule, Verdict, Watch},
    },
    engine::{Found, look},
    model::{Failure, facts::ClusterFacts, failure::Cause, fleet::ClusterDriver},
    plan::{
        StepKind, Subject,
        quorum::{self, Change},
    },
    run::TAKEN_OUT,
    store::{ClusterRecord, Store, StoreError},
};

const CHANGE_DEADLINE_MS: u64 = 90_000;
const POLL_MS: u64 = 500;
/// For a learner that was in sync a while ago to show that it still is.
const STILL_SYNCED_MS: u64 = 10_000;

fn what(cluster: &str, member: &str, doing: &str) -> String {
    format!("cluster {cluster}: {doing} {member}")
}

/// The seat of a member; its machine's number.
fn seat(d: &Doing, cluster: &str, member: &str) -> Result<Seat, Failure> {
    let bad = |why: String| Failure::new(Cause::Guard, format!("cluster {cluster}"), why);
    let spec = d.tool.fleet.clusters.get(cluster).ok_or_else(|| bad("it is not in the fleet".into()))?;
    let ClusterDriver::Etcd { client_port, peer_port, .. } = spec.driver else {
        return Err(bad("its driver is not etcd".into()));
    };
    let record = d.tool.node_record(member)?.ok_or_else(|| bad(format!("{member} is not installed")))?;
    let node = d.tool.fleet.nodes.get(member).ok_or_else(|| bad("no such node".into()))?;
    let address = node.address().ok_or_else(|| bad(format!("{member} has no address")))?;
    let generation = record.generation;
    Ok(Seat { cluster: cluster.to_owned(), name: member.to_owned(), generation, address, client_port, peer_port })
}

fn machine_of(d: &Doing, member: &str) -> usize {
    d.ctx.world().number.get(member).copied().unwrap_or(usize::MAX)
}

fn voters(d: &Doing, cluster: &str, except: &str) -> Result<Vec<usize>, Failure> {
    let known = d.tool.voters.borrow().get(cluster).cloned().unwrap_or_default();
    let others: Vec<usize> =
        known.iter().filter(|m| *m != except && seat(d, cluster, m).is_ok()).map(|m| machine_of(d, m)).collect();
    if others.is_empty() {
        return Err(Failure::new(Cause::Guard, format!("cluster {cluster}"), "no voter is known to ask"));
    }
    Ok(others)
}

/// Asks all at once; who does not answer costs the deadline of a look.
pub async fn ask_all(d: &Doing, machines: &[usize]) -> Vec<(String, Result<Answer, Fault>)> {
    d.tool.gate(&d.ctx).await;
    sleep(&d.ctx, 20).await;
    let (answers, silent) = answers(d, machines);
    if silent {
        sleep(&d.ctx, 4_000).await;
    }
    answers
}

/// Who was asked, and what was answered.
type Answers = Vec<(String, Result<Answer, Fault>)>;

/// And whether one of them let the deadline go by.
fn answers(d: &Doing, machines: &[usize]) -> (Answers, bool) {
    let world = d.ctx.world();
    let all: Vec<_> =
        machines.iter().map(|m| (format!("http://{}", world.name(*m)), etcd::answer(&world, *m))).collect();
    let silent = all.iter().any(|(_, a)| matches!(a, Err(Fault::Unreachable(_))));
    (all, silent)
}

async fn facts(d: &Doing, cluster: &str, except: &str) -> Result<ClusterFacts, Failure> {
    let answers = ask_all(d, &endpoints(d, cluster, except)?).await;
    observed::join(&format!("observe cluster {cluster}"), &answers)
}

/// Its voters; in a run that was told of none, every machine that was installed to be a member.
fn endpoints(d: &Doing, cluster: &str, except: &str) -> Result<Vec<usize>, Failure> {
    if d.tool.voters.borrow().get(cluster).is_some_and(|v| !v.is_empty()) {
        return voters(d, cluster, except);
    }
    let members = d.tool.fleet.clusters.get(cluster).map(|c| c.members.clone()).unwrap_or_default();
    let others: Vec<usize> =
        members.iter().filter(|m| *m != except && seat(d, cluster, m).is_ok()).map(|m| machine_of(d, m)).collect();
    match others.is_empty() {
        true => Err(Failure::new(Cause::Guard, format!("cluster {cluster}"), "no other machine of it is installed")),
        false => Ok(others),
    }
}

/// Whether the node's power may go now, because an operator named it; `None`: it may.
pub async fn may_pause(d: &Doing, cluster: &str, node: &str) -> Option<Failure> {
    d.tool.durable.store().cluster_record(cluster).ok().flatten()?;
    // Silent: it has no quorum that could be lost.
    let facts = facts(d, cluster, "").await.ok()?;
    let declared = d.tool.fleet.clusters.get(cluster).map_or(0, |c| c.size as usize);
    let none = BTreeSet::new();
    let settle = quorum::SETTLE;
    let seen = quorum::World { facts: &facts, declared, synced: &none, dead: &none, since_restart: None, settle };
    quorum::verdict(&what(cluster, node, "do without"), &quorum::pausing(&seen, node)).err()
}

pub async fn observe(d: &Doing, cluster: &str, kind: &StepKind, resumed: bool) -> Found {
    look_at(d, cluster, kind, resumed).await.unwrap_or_else(Found::Unknown)
}

async fn look_at(d: &Doing, cluster: &str, kind: &StepKind, resumed: bool) -> Result<Found, Failure> {
    let Some(member) = kind.member() else { return Ok(Found::NotDone) };
    let seat = seat(d, cluster, member)?;
    match kind {
        StepKind::Bootstrap { .. } => {
            let record = d.tool.durable.store().cluster_record(cluster).map_err(|e| failed(&e))?;
            // One that nobody is known to have used is passed on.
            let unused = |r: &&ClusterRecord| !r.may_exist() && r.bootstrap_member == member;
            let made = record.as_ref().filter(|r| r.run == d.tool.run || !unused(r));
            let made = made.map(|r| (r.run.as_str(), r.generation));
            if let Some(found) = look::bootstrap(cluster, member, &d.tool.run, made, resumed) {
                return Ok(found);
            }
            let Some(record) = record else { return Ok(Found::NotDone) };
            Ok(look::bootstrapped(&record.token, &status(d, member).await?))
        }
        StepKind::AddLearner { .. } => {
            let facts = facts(d, cluster, member).await?;
            Ok(match look::added(&facts, &seat.peer_url()) {
                Found::NotDone => {
                    guard(d, cluster, member, &facts, Change::AddLearner { peer_url: seat.peer_url() }).await
                }
                found => found,
            })
        }
        StepKind::RemoveMember { .. } => {
            let facts = facts(d, cluster, member).await?;
            let (status, url) = (status(d, member).await?, seat.peer_url());
            Ok(match (look::removed(cluster, member, &facts, &url, &status), look::member(&facts, &url)) {
                (Found::NotDone, Some(m)) => {
                    guard(d, cluster, member, &facts, Change::Remove { id: m.id.clone() }).await
                }
                (found, _) => found,
            })
        }
        StepKind::StartMember { .. } if resumed => {
            Ok(look::started(cluster, seat.generation, &status(d, member).await?))
        }
        StepKind::Promote { .. } => {
            let facts = facts(d, cluster, member).await?;
            let known = look::member(&facts, &seat.peer_url());
            Ok(match (look::promoted(cluster, member, &facts, &seat.peer_url()), known) {
                (Found::NotDone, Some(m)) => {
                    guard(d, cluster, member, &facts, Change::Promote { id: m.id.clone() }).await
                }
                (found, _) => found,
            })
        }
        _ => Ok(Found::NotDone),
    }
}

/// The quorum guard, on facts read just now.
async fn guard(d: &Doing, cluster: &str, member: &str, facts: &ClusterFacts, change: Change) -> Found {
    let mut synced = BTreeSet::new();
    if let Change::Promote { id } = &change
        && wait_synced(d, cluster, member, STILL_SYNCED_MS).await.is_ok()
    {
        synced.insert(id.clone());
    }
    let dead = match &change {
        Change::Remove { id } => BTreeSet::from([id.clone()]),
        _ => BTreeSet::new(),
    };
    let declared = d.tool.fleet.clusters.get(cluster).map_or(0, |c| c.size as usize);
    let settle = quorum::SETTLE;
    let seen = quorum::World { facts, declared, synced: &synced, dead: &dead, since_restart: None, settle };
    look::quorum_allows(cluster, member, &seen, &change)
}

/// Whether the cluster can do without this node's member now; `None`: it can, or has no such member.
pub async fn may_lose(d: &Doing, cluster: &str, node: &str) -> Option<Failure> {
    d.tool.durable.store().cluster_record(cluster).ok().flatten()?;
    let doing = what(cluster, node, "do without");
    let facts = match facts(d, cluster, node).await {
        Ok(facts) => facts,
        Err(failure) => return Some(Failure { what: doing, ..failure }),
    };
    let member = facts.members.iter().find(|m| m.name == node)?;
    let declared = d.tool.fleet.clusters.get(cluster).map_or(0, |c| c.size as usize);
    let none = BTreeSet::new();
    let settle = quorum::SETTLE;
    let seen = quorum::World { facts: &facts, declared, synced: &none, dead: &none, since_restart: None, settle };
    let refusals = quorum::refusals(&seen, &Change::Stop { id: member.id.clone() });
    let lasting: Vec<_> = refusals.into_iter().filter(|r| !matches!(r, quorum::Refusal::Leader(_))).collect();
    quorum::verdict(&doing, &lasting).err()
}

/// Who is unavailable now, of the plan's pools and failure domains, for any reason.
pub async fn down(ctx: &Ctx, tool: &Rc<Tool>) -> Result<BTreeSet<String>, Failure> {
    let plan = tool.plan();
    let records = tool.durable.store().node_records().map_err(|e| failed(&e))?;
    let installed = |name: &str| records.iter().find(|(n, r)| n == name && r.may_serve()).map(|(_, r)| r);
    let mut down = BTreeSet::new();
    let mut asked: BTreeSet<&String> = BTreeSet::new();
    let mut waits = false;
    tool.gate(ctx).await;
    sleep(ctx, 20).await;
    for (name, pool) in &plan.pools {
        let members: Vec<&String> = pool.nodes.iter().filter(|n| installed(n).is_some()).collect();
        asked.extend(members.iter());
        let made = tool.durable.store().cluster_record(name).map_err(|e| failed(&e))?.is_some();
        let (Some(first), true) = (members.first(), made) else { continue };
        let d = Doing::new(ctx, tool, first, &format!("cluster/{name}/look"), 1);
        let machines: Vec<usize> = members.iter().map(|m| machine_of(&d, m)).collect();
        let (answers, silent) = answers(&d, &machines);
        waits |= silent;
        let facts = observed::join("observe", &answers).ok();
        down.extend(look::away(&pool.nodes, &members, facts.as_ref()).into_iter().cloned());
    }
    // All were asked at the same time.
    if waits {
        sleep(ctx, 4_000).await;
    }
    let others: BTreeSet<&String> =
        plan.domains.values().flat_map(|d| &d.nodes).filter(|n| !asked.contains(n)).collect();
    for name in others {
        let Some(record) = installed(name) else { continue };
        let machine = ctx.world().number.get(name).copied().unwrap_or(usize::MAX);
        sleep(ctx, 20).await;
        if machine::status(ctx, machine, &record.system_host_key).is_err() {
            down.insert(name.clone());
        }
    }
    Ok(down)
}

pub async fn act(d: &Doing, cluster: &str, kind: &StepKind) -> Result<(), Failure> {
    let Some(member) = kind.member() else { return Ok(()) };
    d.tool.gate.check(&what(cluster, member, kind.word()))?;
    let seat = seat(d, cluster, member)?;
    match kind {
        StepKind::Bootstrap { .. } => {
            let token = bootstrap_ticket(d, cluster, member).await?;
            start(d, member, &seats::bootstrap(&seat, token)).await
        }
        StepKind::RemoveMember { .. } => change(d, cluster, member, &seat.peer_url(), "remove").await,
        StepKind::AddLearner { .. } => change(d, cluster, member, &seat.peer_url(), "add").await,
        StepKind::StartMember { .. } => {
            let facts = facts(d, cluster, member).await?;
            start(d, member, &seats::joining(&seat, &facts)?).await
        }
        StepKind::Promote { .. } => change(d, cluster, member, &seat.peer_url(), "promote").await,
        _ => Ok(()),
    }
}

/// Looks the member up first, then asks; what may pass is tried again until the deadline.
async fn change(d: &Doing, cluster: &str, member: &str, url: &str, doing: &str) -> Result<(), Failure> {
    let what = what(cluster, member, doing);
    let deadline = d.ctx.now() + CHANGE_DEADLINE_MS;
    loop {
        let through = voters(d, cluster, member)?;
        let seen = observed::join(&what, &ask_all(d, &through).await);
        let mut fault = None;
        match seen {
            Ok(facts) => match (doing, look::member(&facts, url)) {
                ("add", Some(_)) => return Ok(()),
                ("remove", None) => return Ok(()),
                ("promote", Some(m)) if !m.learner => return Ok(()),
                ("promote", None) => {
                    return Err(Failure::new(Cause::Mismatch, what, "it is not in the member list"));
                }
                _ => {
                    for machine in &through {
                        d.tool.gate.check(&what)?;
                        match call(d, member, *machine, url, doing).await {
                            Ok(()) => return Ok(()),
                            Err(f) => fault = Some(f),
                        }
                        if !matches!(fault, Some(Fault::Unreachable(_) | Fault::NotListening(_))) {
                            break;
                        }
                    }
                }
            },
            Err(f) if f.cause == Cause::Unreachable => {}
            Err(f) => return Err(f),
        }
        match &fault {
            Some(Fault::Etcd(Kind::PeerUrlExists, _)) if doing == "add" => return Ok(()),
            Some(Fault::Etcd(Kind::NotALearner, _)) => return Ok(()),
            Some(f) if !f.is_transient() => return Err(etcd::failure(f, &what)),
            _ => {}
        }
        if d.ctx.now() > deadline {
            return Err(Failure::new(Cause::Deadline, what, "90 s went by"));
        }
        sleep(&d.ctx, POLL_MS).await;
    }
}

async fn call(d: &Doing, member: &str, through: usize, url: &str, doing: &str) -> Result<(), Fault> {
    d.tool.gate(&d.ctx).await;
    let (answer, lost) = {
        let mut world = d.ctx.world();
        let answer = match doing {
            "add" => etcd::add_learner(&mut world, &d.by, through, url),
            "remove" => etcd::remove(&mut world, &d.by, through, url),
            _ => etcd::promote(&mut world, &d.by, through, url),
        };
        let own = world.number.get(member).copied().unwrap_or(usize::MAX);
        let healed = world.healed;
        let lost = match world.machines.get_mut(own) {
            Some(m) if doing == "add" && !healed => std::mem::take(&mut m.faults.add_answer_lost),
            _ => false,
        };
        (answer, lost)
    };
    d.tool.passed(&d.ctx).await;
    sleep(&d.ctx, 40).await;
    if lost { Err(Fault::Unreachable("the connection broke".into())) } else { answer }
}

pub async fn finalize(d: &Doing, cluster: &str) -> Result<(), Failure> {
    let plan = d.tool.plan();
    let subject = Subject::Cluster(cluster.to_owned());
    let steps = plan.tracks.iter().filter(|t| t.subject == subject).flat_map(|t| &t.steps);
    let members: BTreeSet<&str> =
        steps.filter(|s| matches!(s.kind, StepKind::StartMember { .. })).filter_map(|s| s.kind.member()).collect();
    let seen = facts(d, cluster, "").await?;
    for member in members {
        let Ok(seat) = seat(d, cluster, member) else { continue };
        if look::member(&seen, &seat.peer_url()).is_none_or(|m| !m.learner) {
            continue;
        }
        d.tool.gate.check(&what(cluster, member, "take out"))?;
        let fact = super::tool::fact(cluster, subject.to_string(), serde_json::json!({ TAKEN_OUT: member }));
        d.tool.append(&d.ctx, fact).map_err(|e| failed(&e))?;
        change(d, cluster, member, &seat.peer_url(), "remove").await?;
    }
    Ok(())
}

pub async fn verify(d: &Doing, cluster: &str, kind: &StepKind) -> Result<(), Failure> {
    let Some(member) = kind.member() else { return Ok(()) };
    let seat = seat(d, cluster, member)?;
    let deadline_ms = kind.deadline_s() * 1_000;
    match kind {
        StepKind::Bootstrap { .. } => {
            let id = wait_started(d, &[], member, deadline_ms).await?;
            let record = d.tool.durable.store().cluster_record(cluster).map_err(|e| failed(&e))?;
            if let Some(record) = record {
                let known = ClusterRecord { cluster_id: Some(id), ..record.clone() };
                let put = d.tool.durable.store().put_cluster_record(cluster, record.generation, &known);
                put.map_err(|e| failed(&e))?;
            }
            d.tool.add_voter(cluster, member);
            Ok(())
        }
        StepKind::RemoveMember { .. } => {
            let facts = facts(d, cluster, member).await?;
            look::is_removed(cluster, member, &facts, &seat.peer_url())
        }
        StepKind::AddLearner { .. } => {
            let facts = facts(d, cluster, member).await?;
            look::is_added(cluster, member, &facts, &seat.peer_url())
        }
        StepKind::StartMember { .. } => {
            wait_started(d, &voters(d, cluster, member)?, member, deadline_ms).await.map(|_| ())
        }
        StepKind::AwaitSynced { .. } => wait_synced(d, cluster, member, deadline_ms).await,
        StepKind::Promote { .. } => {
            let facts = facts(d, cluster, member).await?;
            look::is_promoted(cluster, member, &facts, &seat.peer_url())?;
            d.tool.add_voter(cluster, member);
            Ok(())
        }
        StepKind::VerifyMember { .. } => {
            let known = voters(d, cluster, member).unwrap_or_default();
            wait_started(d, &known, member, deadline_ms).await?;
            let own = machine_of(d, member);
            let through = known.first().copied().unwrap_or(own);
            d.tool.gate(&d.ctx).await;
            sleep(&d.ctx, 40).await;
            let proof = etcd::write_and_read(&mut d.ctx.world(), through, own);
            let seen = proof.map(hex_id).map_err(|f| etcd::failure(&f, &what(cluster, member, "verify")))?;
            let recorded = d.tool.durable.store().cluster_record(cluster).map_err(|e| failed(&e))?;
            let recorded = recorded.and_then(|r| r.cluster_id);
            look::same_cluster(cluster, member, &seen, recorded.as_deref())
        }
        _ => Ok(()),
    }
}

/// Cluster id of the member that answers under its name, in a cluster with a leader.
async fn wait_started(d: &Doing, others: &[usize], member: &str, deadline_ms: u64) -> Result<String, Failure> {
    let what = format!("{member}: wait for its etcd member");
    let own = machine_of(d, member);
    let deadline = d.ctx.now() + deadline_ms;
    let mut machines = vec![own];
    machines.extend(others.iter().filter(|m| **m != own));
    loop {
        let answers = ask_all(d, &machines).await;
        let id = match answers.first() {
            Some((_, Ok(answer))) => Some(hex_id(answer.status.header.member_id)),
            Some((_, Err(fault))) if !fault.is_transient() => return Err(etcd::failure(fault, &what)),
            _ => None,
        };
        match (id, observed::join(&what, &answers)) {
            (Some(id), Ok(facts)) => {
                let found = facts.members.iter().find(|m| m.id == id);
                if let Some(m) = found
                    && m.name == member
                    && facts.leader.is_some()
                    && (m.learner || m.healthy)
                {
                    return Ok(facts.cluster_id);
                }
            }
            (_, Err(f)) if f.cause != Cause::Unreachable => return Err(f),
            _ => {}
        }
        if d.ctx.now() + POLL_MS > deadline {
            return Err(Failure::new(Cause::Deadline, what, "it does not answer"));
        }
        sleep(&d.ctx, POLL_MS).await;
    }
}

async fn wait_synced(d: &Doing, cluster: &str, member: &str, deadline_ms: u64) -> Result<(), Failure> {
    let what = what(cluster, member, "wait until it has caught up:");
    let (began, own) = (d.ctx.now(), machine_of(d, member));
    let mut watch = Watch::new(Rule::default());
    loop {
        let mut machines = voters(d, cluster, member)?;
        machines.push(own);
        let mut answers = ask_all(d, &machines).await;
        let learner = answers.pop();
        let leader = answers.iter().filter_map(|(_, a)| a.as_ref().ok()).find(|a| a.status.leader != 0);
        match (leader, learner) {
            (Some(leader), Some((_, Ok(learner)))) => {
                let seen = Progress {
                    leader_index: leader.status.raft_index,
                    applied_index: learner.status.raft_applied_index,
                };
                if watch.see(Duration::from_millis(d.ctx.now() - began), &seen) == Verdict::Synced {
                    return Ok(());
                }
            }
            (_, Some((_, Err(fault)))) if !fault.is_transient() => return Err(etcd::failure(&fault, &what)),
            _ => watch.lost(),
        }
        if d.ctx.now() + POLL_MS > began + deadline_ms {
            return Err(Failure::new(Cause::Deadline, what, "it never did"));
        }
        sleep(&d.ctx, POLL_MS).await;
    }
}

/// One ticket per generation, durable before the first start; nobody else's data may be there.
async fn bootstrap_ticket(d: &Doing, cluster: &str, member: &str) -> Result<Uuid, Failure> {
    let doing = what(cluster, member, "bootstrap");
    let given = d.tool.durable.store().cluster_record(cluster).map_err(|e| failed(&e))?;
    let token = |record: &ClusterRecord| {
        record.token.parse().map_err(|_| Failure::new(Cause::Malformed, doing.as_str(), "the token is no UUID"))
    };
    if let Some(record) = given.as_ref().filter(|record| record.run == d.tool.run) {
        return token(record);
    }
    let plan = d.tool.plan();
    let written_now = |m: &str| {
        let subject = Subject::Node(m.to_owned());
        let writes = |s: &crate::plan::Step| matches!(s.kind, StepKind::WriteDisk { .. });
        plan.tracks.iter().any(|t| t.subject == subject && t.steps.iter().any(writes))
    };
    let members = d.tool.fleet.clusters.get(cluster).map(|c| c.members.clone()).unwrap_or_default();
    let others: Vec<usize> = members
        .iter()
        .filter(|m| if *m == member { given.is_none() } else { !written_now(m) })
        .filter(|m| seat(d, cluster, m).is_ok())
        .map(|m| machine_of(d, m))
        .collect();
    let seen: Vec<(String, Existing)> = ask_all(d, &others)
        .await
        .into_iter()
        .map(|(at, answer)| {
            let existing = match answer {
                Ok(a) => Existing::Cluster { cluster_id: hex_id(a.status.header.cluster_id), member_names: vec![] },
                Err(Fault::NotListening(_)) => Existing::Nothing,
                Err(fault) => Existing::Unknown { why: fault.why() },
            };
            (at, existing)
        })
        .collect();
    may_bootstrap(&doing, &seen)?;
    let (before, token) = match &given {
        Some(record) => (record.generation, token(record)?),
        None => (0, d.ctx.world().rng.uuid()),
    };
    let record = ClusterRecord {
        generation: before.max(1),
        run: d.tool.run.clone(),
        bootstrap_member: member.to_owned(),
        token: token.to_string(),
        cluster_id: None,
        found: false,
    };
    d.tool.gate(&d.ctx).await;
    match d.tool.durable.store().put_cluster_record(cluster, before, &record) {
        Ok(()) => {
            d.tool.passed(&d.ctx).await;
            Ok(token)
        }
        Err(StoreError::Conflict(why)) => Err(Failure::new(Cause::Guard, doing, why)),
        Err(error) => Err(failed(&error)),
    }
}

async fn status(d: &Doing, member: &str) -> Result<rackctl_wire::NodeStatus, Failure> {
    d.tool.gate(&d.ctx).await;
    sleep(&d.ctx, 100).await;
    let record = d.tool.node_record(member)?;
    let key = record.map(|r| r.system_host_key).unwrap_or_default();
    machine::status(&d.ctx, machine_of(d, member), &key)
}

async fn start(d: &Doing, member: &str, config: &rackctl_wire::EtcdMember) -> Result<(), Failure> {
    status(d, member).await?;
    d.tool.gate(&d.ctx).await;
    d.tool.gate.check(&format!("{member}: start etcd"))?;
    let started = etcd::start_by(&d.ctx, Some(&d.by), machine_of(d, member), config);
    d.tool.passed(&d.ctx).await;
    sleep(&d.ctx, 500).await;
    started.map_err(|why| Failure::new(Cause::Refused, format!("{member}: start etcd"), format!("it ended: {why}")))
}

/// What planning sees of a cluster: the endpoints of its installed members.
pub async fn cluster_facts(d: &Doing, machines: &[usize]) -> Result<ClusterFacts, Failure> {
    let answers = ask_all(d, machines).await;
    observed::join("observe", &answers)
}
