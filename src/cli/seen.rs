//! What the store remembers, as `get` and `describe` show it; with `--refresh` the machines are asked first.

use super::{
    globals::Globals,
    logs,
    session::{Session, block_on, stop},
};
use crate::{
    model::{
        Failure, Fleet,
        facts::{InstallPhase, NodeFacts, UnixMs},
        failure::Cause,
    },
    output::{
        Kind, Stop,
        records::{self, Record},
        resource::{ClusterView, NodeView, Observation, Status},
    },
    plan::Plan,
    run::{self, observe},
    store::{self, RecordKind, RunRecord, RunState},
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
    for name in fleet.nodes.keys() {
        let (at, facts) = seen
            .iter()
            .find(|(n, _, _)| n == name)
            .map_or((None, NodeFacts::default()), |(_, at, f)| (Some(*at), f.clone()));
        status.nodes.insert(name.clone(), view(name, at, &facts, &runs, &chain, fleet));
    }
    Ok(status)
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

fn run_of<'a>(runs: &'a [RunRecord], node: &str) -> Option<&'a RunRecord> {
    runs.iter().find(|r| super::prepare::scope(&r.goal).0.iter().any(|n| n == node))
}

fn view(
    name: &str,
    at: Option<UnixMs>,
    facts: &NodeFacts,
    runs: &[RunRecord],
    chain: &[store::Record],
    fleet: &Fleet,
) -> NodeView {
    let run = run_of(runs, name);
    let open = run.filter(|r| matches!(r.state, RunState::Running | RunState::Interrupted));
    let of_run: Vec<&store::Record> = run.map(|r| chain.iter().filter(|c| c.run == r.id).collect()).unwrap_or_default();
    let failed = of_run.iter().rev().find(|r| r.subject == name && r.kind == RecordKind::Failed);
    let done = |step: &str| of_run.iter().any(|r| r.kind == RecordKind::Done && r.step == step);
    let todo = open.and_then(|r| serde_json::from_value::<Plan>(r.plan.clone()).ok()).and_then(|plan| {
        let track = plan.tracks.into_iter().find(|t| t.subject.name() == name)?;
        track.steps.into_iter().find(|s| !done(&s.id))
    });
    let member = fleet.clusters.values().any(|c| {
        c.members.iter().any(|m| m == name)
            && chain
                .iter()
                .any(|r| r.kind == RecordKind::Done && r.step == format!("cluster/{}/verify-member-{name}", c.name))
    });
    let installed = facts.record.as_ref().map(|r| r.phase);
    let phase = match (installed, &todo) {
        _ if failed.is_some() && installed != Some(InstallPhase::Installed) => "Failed",
        (_, Some(_)) => "Installing",
        (Some(InstallPhase::Installed), _) if member => "Member",
        (Some(InstallPhase::Installed), _) => "Installed",
        (Some(InstallPhase::Installing), _) => "Installing",
        (None, None) if at.is_some() => "Registered",
        (None, None) => "Unknown",
    };
    let bmc = facts.bmc.as_ref();
    let reason = failed
        .and_then(|r| r.body.get("failure"))
        .and_then(|f| serde_json::from_value::<Failure>(f.clone()).ok())
        .map(|f| f.to_string())
        .or_else(|| bmc.and_then(|b| b.value.as_ref().err()).map(ToString::to_string))
        .or_else(|| facts.identity_mismatches.first().cloned());
    NodeView {
        phase: Some(phase.to_owned()),
        power: bmc.and_then(|b| b.value.as_ref().ok()).map(|b| b.power),
        generation: facts.record.as_ref().map(|r| r.generation),
        run: run.map(|r| r.id.clone()),
        observed: at,
        reason,
        waiting: todo.map(|s| {
            let begun = of_run.iter().rev().find(|r| r.step == s.id && r.kind == RecordKind::Intent);
            match begun {
                Some(record) => format!(
                    "{} (begun {}; at most {} s)",
                    s.kind.word(),
                    crate::model::clock::utc(record.at_ms),
                    s.kind.deadline_s()
                ),
                None => format!("{} (not begun)", s.kind.word()),
            }
        }),
    }
}

pub fn observation(globals: &Globals, fleet: &Fleet, node: &str) -> Result<Observation, Stop> {
    let session = Session::with_fleet(globals, fleet.clone())?;
    let facts = facts(&session)?.into_iter().find(|(n, _, _)| n == node).map(|(_, _, f)| f).unwrap_or_default();
    let chain = session.store.chain().map_err(|e| stop(&e))?;
    let mine: Vec<&store::Record> = chain.iter().filter(|r| r.subject == node).collect();
    let events = mine[mine.len().saturating_sub(LAST_EVENTS)..].iter().map(|r| (r.at_ms, logs::line(r))).collect();
    let runs = session.store.runs().map_err(|e| stop(&e))?;
    let mut by_hand = Vec::new();
    if let Some(run) = run_of(&runs, node).filter(|r| matches!(r.state, RunState::Running | RunState::Interrupted)) {
        by_hand.push(format!("rackctl logs {} --follow", run.id));
        by_hand.push(format!("rackctl resume {}", run.id));
    }
    by_hand.push(format!("rackctl power status {node}"));
    by_hand.push(format!("rackctl boot show {node}"));
    by_hand.push(format!("rackctl console {node}"));
    if facts.record.is_some() {
        by_hand.push(format!("rackctl ssh {node} -- rackctl-node status"));
    }
    Ok(Observation { facts, events, by_hand })
}

pub fn records(globals: &Globals, fleet: &Fleet, kind: Kind) -> Result<Vec<Record>, Stop> {
    let session = Session::with_fleet(globals, fleet.clone())?;
    match kind {
        Kind::Run => {
            Ok(session.store.runs().map_err(|e| stop(&e))?.into_iter().rev().map(|r| Record::Run(run_row(r))).collect())
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
        other => Err(Stop::usage(Failure::new(
            Cause::Refused,
            format!("get {}", other.plural()),
            "this version keeps no such records",
        ))),
    }
}

/// A plan that names every cluster and does nothing: for those who ask all of them.
fn whole(fleet: &Fleet) -> Plan {
    let tracks = fleet
        .clusters
        .keys()
        .map(|c| crate::plan::Track {
            subject: crate::plan::Subject::Cluster(c.clone()),
            steps: Vec::new(),
            found: Vec::new(),
            voters: Vec::new(),
        })
        .collect();
    let none = crate::model::goal::Scope(Vec::new());
    Plan {
        schema: 1,
        tool_version: String::new(),
        fleet: fleet.id.clone(),
        goal: crate::model::goal::Goal::Join { nodes: none },
        tracks,
        refusals: Vec::new(),
        artifacts: Default::default(),
        bound: Default::default(),
        networks: Default::default(),
    }
}

fn run_row(run: RunRecord) -> records::Run {
    let (goal, nodes) = match &run.goal {
        crate::model::goal::Goal::Apply { nodes, .. } => ("apply", nodes),
        crate::model::goal::Goal::Install { nodes, .. } => ("install", nodes),
        crate::model::goal::Goal::Join { nodes } => ("join", nodes),
    };
    let alive = run.actor.alive();
    records::Run {
        id: run.id,
        goal: goal.to_owned(),
        phase: match run.state {
            RunState::Running if !alive => "Crashed".to_owned(),
            state => format!("{state:?}"),
        },
        nodes: nodes.0.clone(),
        operator: format!("{}@{}", run.actor.user, run.actor.host),
        started: run.started_ms,
        ended: run.ended_ms,
        reason: None,
    }
}

fn event_row(record: &store::Record) -> records::Event {
    records::Event {
        at: record.at_ms,
        run: Some(record.run.clone()),
        subject: record.subject.clone(),
        kind: format!("{:?}", record.kind),
        message: logs::line(record),
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
