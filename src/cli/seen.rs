//! What the store remembers, as `get` and `describe` show it; with `--refresh` the machines are asked first.

use std::collections::BTreeSet;

use super::{
    args::Targets,
    globals::Globals,
    logs,
    session::{Session, block_on, stop},
    standing::Memory,
};
use crate::{
    engine::play::{self, Standing},
    model::{
        Failure, Fleet,
        facts::{InstallPhase, NodeFacts, UnixMs},
        failure::Cause,
        goal::Goal,
    },
    output::{
        Kind, Stop,
        records::{self, Record},
        resource::{ClusterView, Observation, Status},
    },
    plan::Plan,
    run::{self, observe},
    store::{self, RunRecord, RunState},
};

/// Events that `describe` shows, and `get events` at most.
const LAST_EVENTS: usize = 12;
const EVENTS_MAX: usize = 500;

pub fn status(globals: &Globals, fleet: &Fleet, now: UnixMs, refresh: bool) -> Result<Status, Stop> {
    let session = Session::with_fleet(globals, fleet.clone())?;
    let mut status = Status { now, ..Status::default() };
    if refresh {
        let names: Vec<String> = fleet.nodes.keys().cloned().collect();
        session.enter(&names)?;
        let facts = block_on(async {
            let passwords = session.passwords(&names).await?;
            Ok(observe::facts(fleet, &names, &session.asking(&passwords, true)?).await?)
        })?;
        for (name, observed) in &facts.clusters {
            let mut view = ClusterView { observed: Some(observed.at), ..ClusterView::default() };
            match &observed.value {
                Ok(cluster) => {
                    view.healthy =
                        u32::try_from(cluster.members.iter().filter(|m| m.healthy && !m.learner).count()).ok();
                    view.members = u32::try_from(cluster.members.len()).ok();
                    view.leader = cluster
                        .leader
                        .as_ref()
                        .and_then(|id| cluster.members.iter().find(|m| m.id == *id))
                        .map(|m| m.name.clone());
                }
                Err(failure) => view.reason = Some(failure.to_string()),
            }
            status.clusters.insert(name.clone(), view);
        }
    }
    let runs = session.store.runs().map_err(|e| stop(&e))?;
    let chain = session.store.chain().map_err(|e| stop(&e))?;
    let seen = facts(&session)?;
    let held = held(&session)?;
    let memory = Memory { fleet, runs: &runs, chain: &chain, alive: &|run| held.contains(&run.id) };
    for name in fleet.nodes.keys() {
        let (at, facts) = seen
            .iter()
            .find(|(n, _, _)| n == name)
            .map_or((None, NodeFacts::default()), |(_, at, f)| (Some(*at), f.clone()));
        status.nodes.insert(name.clone(), memory.node(name, at, &facts));
    }
    let installed = |node: &str| {
        let (_, _, facts) = seen.iter().find(|(n, _, _)| n == node)?;
        facts.record.as_ref().filter(|r| r.phase == InstallPhase::Installed).map(|r| r.at)
    };
    for name in fleet.clusters.keys() {
        status.clusters.entry(name.clone()).or_insert_with(|| memory.cluster(name, installed));
    }
    Ok(status)
}

/// What choosing machines needs to know: something where fields are asked for, and nothing otherwise.
pub fn status_for(globals: &Globals, fleet: &Fleet, targets: &Targets) -> Result<Status, Stop> {
    match targets.select.field_selector {
        Some(_) => status(globals, fleet, run::clock::unix_ms(), false),
        None => Ok(Status { now: run::clock::unix_ms(), ..Status::default() }),
    }
}

/// Runs whose locks are in the hands of a living process: who began a run may be dead, and another have resumed it.
fn held(session: &Session) -> Result<BTreeSet<String>, Stop> {
    let locks = session.store.locks().map_err(|e| stop(&e))?;
    Ok(locks.into_iter().filter(|l| l.holder.alive()).map(|l| l.run).collect())
}

fn facts(session: &Session) -> Result<Vec<(String, UnixMs, NodeFacts)>, Stop> {
    let observed = session.store.observed().map_err(|e| stop(&e))?;
    let records = session.store.node_records().map_err(|e| stop(&e))?;
    let mut all: Vec<(String, UnixMs, NodeFacts)> = observed
        .into_iter()
        .filter_map(|(name, at, value)| Some((name, at, serde_json::from_value(value).ok()?)))
        .collect();
    for (name, record) in records {
        match all.iter_mut().find(|(n, _, _)| *n == name) {
            Some((_, at, facts)) => {
                *at = (*at).max(record.at);
                facts.record = Some(record);
            }
            None => all.push((name, record.at, NodeFacts { record: Some(record), ..NodeFacts::default() })),
        }
    }
    Ok(all)
}

/// What `describe` shows besides: facts, last events, and how a person finishes the pending step.
pub fn observation(globals: &Globals, fleet: &Fleet, kind: Kind, name: &str) -> Result<Observation, Stop> {
    if !matches!(kind, Kind::Node | Kind::Cluster) {
        return Ok(Observation::default());
    }
    let session = Session::with_fleet(globals, fleet.clone())?;
    let runs = session.store.runs().map_err(|e| stop(&e))?;
    let chain = session.store.chain().map_err(|e| stop(&e))?;
    let held = held(&session)?;
    let memory = Memory { fleet, runs: &runs, chain: &chain, alive: &|run| held.contains(&run.id) };
    let mut seen = Observation { events: memory.events(name, LAST_EVENTS), ..Observation::default() };
    let pending = if kind == Kind::Node {
        seen.facts = facts(&session)?.into_iter().find(|(n, _, _)| n == name).map(|(_, _, f)| f).unwrap_or_default();
        memory.pending_of_node(name)
    } else {
        let record = session.store.cluster_record(name).map_err(|e| stop(&e))?;
        seen.cluster = record.map(|r| {
            serde_json::json!({ "generation": r.generation, "clusterId": r.cluster_id, "run": r.run,
                "firstMember": r.bootstrap_member })
        });
        memory.pending_of_cluster(name)
    };
    if let Some(pending) = pending {
        seen.by_hand = memory.by_hand(&pending, (kind == Kind::Node).then_some(name));
    }
    Ok(seen)
}

pub fn records(globals: &Globals, fleet: &Fleet, kind: Kind) -> Result<Vec<Record>, Stop> {
    let session = Session::with_fleet(globals, fleet.clone())?;
    match kind {
        Kind::Run => {
            let held = held(&session)?;
            let runs = session.store.runs().map_err(|e| stop(&e))?;
            let rows = runs.into_iter().rev().map(|run| {
                let steps = if run.goal.is_playbook() { steps(&session, &run)? } else { Vec::new() };
                Ok(Record::Run(run_row(run, &held, steps)))
            });
            rows.collect()
        }
        Kind::Lock => Ok(session
            .store
            .locks()
            .map_err(|e| stop(&e))?
            .into_iter()
            .map(|l| {
                Record::Lock(records::Lock {
                    subject: l.name,
                    holder: l.holder.user.clone(),
                    host: l.holder.host.clone(),
                    run: Some(l.run),
                    since: l.since_ms,
                })
            })
            .collect()),
        Kind::Event => {
            let chain = session.store.chain().map_err(|e| stop(&e))?;
            let from = chain.len().saturating_sub(EVENTS_MAX);
            Ok(chain[from..].iter().map(|r| Record::Event(event_row(r))).collect())
        }
        Kind::Member => {
            let names: Vec<String> = fleet.nodes.keys().cloned().collect();
            session.enter(&names)?;
            let plan = whole(fleet);
            let rows = block_on(async { Ok(super::conduct::member_rows(&session, &plan).await) })?;
            Ok(rows.into_iter().map(|row| Record::Member(member_row(row))).collect())
        }
        other => Err(Stop::usage(
            Failure::new(
                Cause::Refused,
                format!("get {}", other.plural()),
                "addresses are given from the inventory and for the time of a run; no other lease is ever given",
            )
            .next("rackctl get nodes -o wide"),
        )),
    }
}

/// A plan that names every cluster and does nothing: for those who ask all of them.
fn whole(fleet: &Fleet) -> Plan {
    let none = crate::model::goal::Scope(Vec::new());
    let mut plan = Plan::empty(&fleet.id, &crate::model::goal::Goal::Join { nodes: none });
    plan.tracks =
        fleet.clusters.keys().map(|c| crate::plan::Track::new(crate::plan::Subject::Cluster(c.clone()))).collect();
    plan
}

/// Of a playbook's run: how each step stands.
fn steps(session: &Session, run: &RunRecord) -> Result<Vec<play::Row>, Stop> {
    let Ok(bound) = serde_json::from_value(run.plan.clone()) else { return Ok(Vec::new()) };
    let records = session.store.journal(&run.id).map_err(|e| stop(&e))?;
    Ok(play::rows(&run.id, &bound, &run::play::marks(&records)))
}

fn run_row(run: RunRecord, held: &BTreeSet<String>, steps: Vec<play::Row>) -> records::Run {
    let alive = held.contains(&run.id);
    records::Run {
        id: run.id,
        goal: match &run.goal {
            Goal::Playbook { name, .. } => format!("playbook {name}"),
            goal => goal.word().to_owned(),
        },
        phase: match run.state {
            RunState::Running if !alive => "Crashed".to_owned(),
            state => format!("{state:?}"),
        },
        nodes: run.goal.scope().0.clone(),
        operator: format!("{}@{}", run.actor.user, run.actor.host),
        started: run.started_ms,
        ended: run.ended_ms,
        // Of the step that the playbook stands at.
        reason: steps
            .iter()
            .rfind(|s| matches!(s.standing, Standing::Failed | Standing::Parked | Standing::Delayed))
            .and_then(|s| Some(format!("{}: {}", s.step, s.note.as_ref()?))),
        steps,
    }
}

fn event_row(record: &store::Record) -> records::Event {
    records::Event {
        at: record.at_ms,
        run: Some(record.run.clone()),
        subject: record.subject.clone(),
        kind: format!("{:?}", record.kind),
        message: logs::said(record),
    }
}

fn member_row([cluster, name, id, role, healthy, version]: [String; 6]) -> records::Member {
    records::Member {
        cluster,
        name,
        id,
        role,
        healthy: healthy == "yes",
        version: Some(version).filter(|v| v != "-"),
        peer_urls: Vec::new(),
        observed: run::clock::unix_ms(),
    }
}
