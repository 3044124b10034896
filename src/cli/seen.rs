//! What the store remembers, as `get` and `describe` show it; with `--refresh` the machines are asked first.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    args::Targets,
    globals::Globals,
    logs, opened,
    session::{Session, block_on, stop},
    standing::{Memory, OpenRun, Seen, events},
};
use crate::{
    engine::play::{self, Standing},
    model::{
        Failure, Fleet,
        facts::{InstallPhase, NodeFacts, Observed, UnixMs},
        failure::Cause,
        goal::Goal,
        power::PowerState,
    },
    output::{
        Kind, Stop,
        records::{self, Record},
        resource::{ClusterView, Observation, Status},
    },
    plan::Plan,
    run::{self, observe},
    store::{self, RunHead, RunState, Standings, Store},
};

/// Events that `describe` shows, and `get events` at most.
const LAST_EVENTS: usize = 12;
const EVENTS_MAX: usize = 500;

pub fn status(globals: &Globals, fleet: &Fleet, now: UnixMs, refresh: bool) -> Result<Status, Stop> {
    let mut status = Status { now, ..Status::default() };
    let session;
    let opened;
    let store: &dyn Store = if refresh {
        session = Session::with_fleet(globals, fleet.clone())?;
        let names: Vec<String> = fleet.nodes.keys().cloned().collect();
        session.enter(&names)?;
        let facts = block_on(async {
            let passwords = session.passwords(&names).await?;
            let (asking, _ear) = session.asking(&passwords, true)?;
            Ok(observe::facts(fleet, &names, &asking).await?)
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
        &*session.store
    } else {
        opened = opened::open(globals.store.as_deref(), fleet)?;
        &*opened.store
    };
    let seen = facts(store)?;
    let recalled = Recalled::of(store)?;
    let alive = |run: &str| recalled.held.contains(run);
    let memory = Memory::new(fleet, &recalled.runs, &recalled.open, &recalled.standings, &alive);
    let nothing = Seen::default();
    let views = fleet.nodes.keys().map(|name| (name.clone(), memory.node(name, seen.get(name).unwrap_or(&nothing))));
    status.nodes = views.collect();
    let installed = |node: &str| {
        let record = seen.get(node).and_then(|seen| seen.record.as_ref());
        record.filter(|r| r.phase == InstallPhase::Installed).map(|r| r.at)
    };
    for name in fleet.clusters.keys() {
        status.clusters.entry(name.clone()).or_insert_with(|| memory.cluster(name, installed));
    }
    Ok(status)
}

/// What runs left behind, as far as views show it.
struct Recalled {
    runs: Vec<RunHead>,
    open: Vec<OpenRun>,
    standings: Standings,
    /// Runs whose locks are in the hands of a living process: who began a run may be dead, and another have resumed it.
    held: BTreeSet<String>,
}

impl Recalled {
    fn of(store: &dyn Store) -> Result<Recalled, Stop> {
        let runs = store.run_heads().map_err(|e| stop(&e))?;
        let mut open = Vec::new();
        for head in runs.iter().filter(|r| r.state.is_open() && !r.goal.is_playbook()) {
            let Some(run) = store.run(&head.id).map_err(|e| stop(&e))? else { continue };
            let Ok(plan) = serde_json::from_value::<Plan>(run.plan) else { continue };
            open.push(OpenRun::new(&head.id, plan, &store.journal(&head.id).map_err(|e| stop(&e))?));
        }
        let standings = store.standings().map_err(|e| stop(&e))?;
        Ok(Recalled { runs, open, standings, held: held(store)? })
    }
}

/// What choosing machines needs to know: something where fields are asked for, and nothing otherwise.
pub fn status_for(globals: &Globals, fleet: &Fleet, targets: &Targets) -> Result<Status, Stop> {
    match targets.select.field_selector {
        Some(_) => status(globals, fleet, run::clock::unix_ms(), false),
        None => Ok(Status { now: run::clock::unix_ms(), ..Status::default() }),
    }
}

/// Runs whose locks are in the hands of a living process.
fn held(store: &dyn Store) -> Result<BTreeSet<String>, Stop> {
    let locks = store.locks().map_err(|e| stop(&e))?;
    Ok(locks.into_iter().filter(|l| l.holder.alive()).map(|l| l.run).collect())
}

/// An observation as it is kept, of which the rest is passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    at_ms: UnixMs,
    facts: KeptFacts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptFacts {
    #[serde(default)]
    bmc: Option<Observed<KeptBmc>>,
    #[serde(default)]
    identity_mismatches: Vec<String>,
    #[serde(default)]
    system: Option<Observed<IgnoredAny>>,
}

#[derive(Deserialize)]
struct KeptBmc {
    power: PowerState,
}

/// What was seen of each node, last. One that an other version wrote, and this one cannot read, was not seen.
fn facts(store: &dyn Store) -> Result<HashMap<String, Seen>, Stop> {
    let mut all: HashMap<String, Seen> = HashMap::new();
    let mut each = |name: &str, text: &str| {
        let Ok(Kept { at_ms, facts }) = serde_json::from_str::<Kept>(text) else { return };
        let seen = Seen {
            at: Some(at_ms),
            bmc: facts.bmc.map(|b| (b.at, b.value.map(|b| b.power))),
            mismatch: facts.identity_mismatches.into_iter().next(),
            silence: facts.system.and_then(|s| s.value.err()),
            record: None,
        };
        all.insert(name.to_owned(), seen);
    };
    store.each_observed(&mut each).map_err(|e| stop(&e))?;
    for (name, record) in store.node_records().map_err(|e| stop(&e))? {
        let seen = all.entry(name).or_default();
        seen.at = seen.at.max(Some(record.at));
        seen.record = Some(record);
    }
    Ok(all)
}

/// All that was observed of one node.
fn facts_of(store: &dyn Store, node: &str) -> Result<NodeFacts, Stop> {
    let observed = store.observed().map_err(|e| stop(&e))?.into_iter().find(|(name, _, _)| name == node);
    let facts = observed.and_then(|(_, _, value)| serde_json::from_value(value).ok()).unwrap_or_default();
    let record = store.node_records().map_err(|e| stop(&e))?.into_iter().find(|(name, _)| name == node);
    Ok(match record {
        Some((_, record)) => NodeFacts { record: Some(record), ..facts },
        None => facts,
    })
}

/// What `describe` shows besides: facts, last events, and how a person finishes the pending step.
pub fn observation(globals: &Globals, fleet: &Fleet, kind: Kind, name: &str) -> Result<Observation, Stop> {
    if !matches!(kind, Kind::Node | Kind::Cluster) {
        return Ok(Observation::default());
    }
    let opened = opened::open(globals.store.as_deref(), fleet)?;
    let store = &*opened.store;
    let recalled = Recalled::of(store)?;
    let alive = |run: &str| recalled.held.contains(run);
    let memory = Memory::new(fleet, &recalled.runs, &recalled.open, &recalled.standings, &alive);
    let records = store.last_records(Some(name), LAST_EVENTS).map_err(|e| stop(&e))?;
    let mut seen = Observation { events: events(&records), ..Observation::default() };
    let pending = if kind == Kind::Node {
        seen.facts = facts_of(store, name)?;
        memory.pending_of_node(name)
    } else {
        let record = store.cluster_record(name).map_err(|e| stop(&e))?;
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
    let opened = opened::open(globals.store.as_deref(), fleet)?;
    let store = &*opened.store;
    match kind {
        Kind::Run => {
            let held = held(store)?;
            let runs = store.run_heads().map_err(|e| stop(&e))?;
            let rows = runs.into_iter().rev().map(|run| {
                let steps = if run.goal.is_playbook() { steps(store, &run)? } else { Vec::new() };
                Ok(Record::Run(run_row(run, &held, steps)))
            });
            rows.collect()
        }
        Kind::Lock => Ok(store
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
            let records = store.last_records(None, EVENTS_MAX).map_err(|e| stop(&e))?;
            Ok(records.iter().map(|r| Record::Event(event_row(r))).collect())
        }
        Kind::Member => {
            drop(opened);
            let session = Session::with_fleet(globals, fleet.clone())?;
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
fn steps(store: &dyn Store, run: &RunHead) -> Result<Vec<play::Row>, Stop> {
    let Some(run) = store.run(&run.id).map_err(|e| stop(&e))? else { return Ok(Vec::new()) };
    let Ok(bound) = serde_json::from_value(run.plan.clone()) else { return Ok(Vec::new()) };
    let records = store.journal(&run.id).map_err(|e| stop(&e))?;
    Ok(play::rows(&run.id, &bound, &run::play::marks(&records)))
}

fn run_row(run: RunHead, held: &BTreeSet<String>, steps: Vec<play::Row>) -> records::Run {
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
