//! More of what must hold: leases and clocks (I16), halts (I14), old incarnations (I7), entries of effects (I13), limits
//! of waits (I18), the way back from a lost state (I5, I6), strangers on the network (I8), and what was approved (I12).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    check::{Invariant, broken},
    drive::Meddle,
    log::{Cause, What},
    machine::Running,
    operator::PROBE_MS,
    world::World,
};
use crate::{
    model::{failure::Cause as Why, rollout::Count},
    plan::{Plan, Subject},
    store::{LEASE, Record, RecordKind, Store},
};

/// Of the design: so many nodes stopped by one cause are a shared one.
const SHARED: u32 = 3;
/// A look at a cluster, its freshness, and the call that follows.
const LOOK_MS: u64 = 20_000;

/// Versions that may be in one cluster with [`super::fleet::VERSION`], by hand.
const FITTING: [&str; 2] = ["3.4.23", "3.5.1"];

/// Of one process: what went wrong in it.
#[derive(Default)]
struct Failures {
    pools: BTreeMap<String, u32>,
    causes: BTreeMap<(String, String), u32>,
}

#[derive(Default)]
pub struct More {
    /// Node → its pool, its pool's limit of failures, by run.
    pools: BTreeMap<String, BTreeMap<String, (String, u32)>>,
    /// Nodes that had begun, by run.
    begun: BTreeMap<String, BTreeSet<String>>,
    failures: BTreeMap<u32, Failures>,
    /// When an intent was made durable, by process and step.
    intents: BTreeMap<(u32, String), u64>,
    /// Processes whose host slept.
    slept: BTreeSet<u32>,
    /// The newest generation that was ever written to a node.
    written: BTreeMap<String, u64>,
    /// The generation that a node was last seen to come up with.
    installed: BTreeMap<String, u64>,
    /// Run that made a cluster.
    made: BTreeMap<String, String>,
    /// Run, step, attempt and action of resets that worked.
    resets: BTreeSet<(String, String, u32, &'static str)>,
    failed_alone: BTreeSet<String>,
    /// Entries of the log whose records were looked for.
    looked_for: usize,
}

/// A run is about to begin with this plan; `approved`: the hash that a person said yes to.
pub fn begins(world: &mut World, run: &str, plan: &Plan, approved: Option<&str>) {
    if approved.is_some_and(|hash| hash != plan.hash()) {
        broken(world, Invariant::I12, None, format!("run {run} begins with another plan than was approved"));
    }
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    let nodes = || plan.tracks.iter().filter(|t| !t.steps.is_empty() && matches!(t.subject, Subject::Node(_)));
    for track in nodes() {
        *totals.entry(track.pool.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let limit = |pool: &str, total: usize| match world.fleet.clusters.get(pool) {
        Some(cluster) => cluster.rollout.halt_after.of(total),
        None => Count::Number(u32::MAX).of(total),
    };
    let pools = nodes()
        .map(|t| {
            let pool = t.pool.clone().unwrap_or_default();
            let limit = limit(&pool, totals.get(pool.as_str()).copied().unwrap_or(0));
            (t.subject.name().to_owned(), (pool, limit))
        })
        .collect();
    world.watch.more.pools.insert(run.to_owned(), pools);
}

/// The first step of a node is looked at (I14).
pub fn node_begins(world: &mut World, process: u32, node: &str) {
    let run = world.processes.get(&process).map(|p| p.run.clone()).unwrap_or_default();
    let more = &mut world.watch.more;
    if !more.begun.entry(run.clone()).or_default().insert(node.to_owned()) {
        return;
    }
    let Some((pool, limit)) = more.pools.get(&run).and_then(|p| p.get(node)).cloned() else { return };
    let Some(failures) = more.failures.get(&process) else { return };
    let failed = failures.pools.get(&pool).copied().unwrap_or(0);
    if failed >= limit {
        let why = format!("it begins after {failed} failures in pool {pool:?}, which is halted at {limit}");
        broken(world, Invariant::I14, Some(node), why);
    } else if let Some((cause, count)) = failures.causes.iter().find(|(_, n)| **n >= SHARED) {
        let why = format!("it begins after {count} nodes were stopped by one cause: {cause:?}");
        broken(world, Invariant::I14, Some(node), why);
    }
}

/// A record became durable.
pub fn recorded(world: &mut World, process: u32, record: &Record, deadline_s: Option<u64>) {
    match record.kind {
        RecordKind::Intent => {
            world.watch.more.intents.insert((process, record.step.clone()), world.now);
        }
        RecordKind::Failed => failed(world, process, record),
        _ => {}
    }
    if matches!(record.kind, RecordKind::Done | RecordKind::Failed | RecordKind::Result)
        && let Some(began) = world.watch.more.intents.remove(&(process, record.step.clone()))
        && let Some(deadline_s) = deadline_s
        && !world.watch.more.slept.contains(&process)
    {
        // To do it, and to see it hold.
        let (took, limit) = (world.now - began, 2 * deadline_s * 1_000 + 1_000);
        if took > limit {
            let why = format!("{} took {took} ms, its limit is {limit}", record.step);
            broken(world, Invariant::I18, None, why);
        }
    }
}

fn failed(world: &mut World, process: u32, record: &Record) {
    let more = &mut world.watch.more;
    let Some((pool, _)) = more.pools.get(&record.run).and_then(|p| p.get(&record.subject)).cloned() else { return };
    if record.step.starts_with("cluster/") {
        return;
    }
    let word = record.step.rsplit_once('/').map_or("", |(_, word)| word).to_owned();
    let cause = record.body.pointer("/failure/cause").cloned().unwrap_or_default();
    let failures = more.failures.entry(process).or_default();
    *failures.causes.entry((word, cause.to_string())).or_default() += 1;
    if serde_json::from_value::<Why>(cause).ok() != Some(Why::Unreachable) {
        *failures.pools.entry(pool).or_default() += 1;
    }
}

/// A host slept in this world.
pub fn somebody_slept(world: &World) -> bool {
    !world.watch.more.slept.is_empty()
}

pub fn sleeps(world: &mut World, process: u32) {
    world.watch.more.slept.insert(process);
}

/// What every effect must heed besides; `what` is about to be logged.
pub fn on_effect(world: &mut World, cause: &Cause, what: &What) {
    let (now, lease) = (world.now, LEASE.as_millis() as u64);
    let renewed = world.durable.renewed(cause.process);
    if now > renewed + lease {
        let why = format!("{what:?} {} ms after the lease was renewed, {lease} ms is all it lasts", now - renewed);
        broken(world, Invariant::I16, None, why);
    }
    let run = |world: &World| world.processes.get(&cause.process).map(|p| p.run.clone()).unwrap_or_default();
    match what {
        What::Bootstrap { cluster, .. } => {
            let run = run(world);
            world.watch.more.made.insert(cluster.clone(), run);
        }
        What::MemberAdded { cluster, .. } | What::Promoted { cluster, .. } => {
            let alarm = world.clusters.values().find(|c| c.name == *cluster).and_then(|c| c.alarm);
            if alarm.is_some_and(|(_, since)| since + LOOK_MS < now) {
                let why = format!("{what:?} while an alarm is raised");
                broken(world, Invariant::I4, None, why);
            }
            // A cluster that this very run made is what its machines bring with them.
            if let Some(version) = world.versions.get(cluster).filter(|v| !FITTING.contains(v))
                && world.watch.more.made.get(cluster) != Some(&run(world))
            {
                let why = format!("{what:?}, and its members run {version}");
                broken(world, Invariant::I12, None, why);
            }
        }
        _ => {}
    }
}

/// A reset that worked, of one attempt of one step, is not sent again by the next process (I11), unless the machine lost
/// its power by itself meanwhile.
pub fn reset(world: &mut World, cause: &Cause, node: &str, action: &'static str) {
    let machine = world.number.get(node).and_then(|i| world.machines.get(*i));
    let on = machine.is_some_and(|m| m.power);
    let listens = on && machine.is_some_and(|m| m.running == Running::System);
    // Off what is off already, or on what is on: nothing happens.
    if match action {
        "On" => on,
        "ForceOff" => !on,
        "GracefulShutdown" => !listens,
        _ => false,
    } {
        return;
    }
    let run = world.processes.get(&cause.process).map(|p| p.run.clone()).unwrap_or_default();
    // Nor if somebody took it over while the first one could still send: by a wrong clock, or by force.
    let excused = world.watch.more.failed_alone.contains(node)
        || world.durable.robbed(&format!("node/{node}")).is_some_and(|r| r.alive);
    let key = (run, cause.step.clone(), cause.attempt, action);
    if !world.watch.more.resets.insert(key) && !excused {
        let why = format!("{action} was done twice for {}#{}", cause.step, cause.attempt);
        broken(world, Invariant::I11, Some(node), why);
    }
}

/// Its power went away, and nobody of ours did it.
pub fn lost_power(world: &mut World, node: &str) {
    world.watch.more.failed_alone.insert(node.to_owned());
}

/// I2: the one that acts does not hold the lock. One that was robbed of it by force, or by a clock that is wrong, cannot
/// know before its next renewal: what it may send before its lease has run out is what the lease is for.
pub fn was_robbed(world: &World, lock: &str, process: u32) -> bool {
    world.durable.robbed(lock).is_some_and(|r| r.process == process && world.now <= r.until + LOOK_MS)
}

/// A disk of this machine was written to its end.
pub fn written(world: &mut World, node: &str, generation: u64) {
    let newest = world.watch.more.written.entry(node.to_owned()).or_default();
    *newest = (*newest).max(generation);
}

/// It was seen to run as that generation.
pub fn installed(world: &mut World, node: &str, generation: u64) {
    world.watch.more.installed.insert(node.to_owned(), generation);
}

/// An etcd came up: with data or without, of that generation (I7).
pub fn member_up(world: &mut World, node: &str, generation: u64, listed: bool, had_data: bool, has_data: bool) {
    let newest = world.watch.more.written.get(node).copied().unwrap_or(0);
    if !listed {
        let why = format!("it runs as a member that was removed, in generation {generation} of {newest}");
        broken(world, Invariant::I7, Some(node), why);
    }
    if had_data && !has_data {
        broken(world, Invariant::I7, Some(node), "it runs under an old id without the data that it had".into());
    }
}

/// It runs with the disk of an older generation, and a run finds nothing amiss.
pub fn stale_unnoticed(world: &mut World, node: &str) {
    broken(world, Invariant::I7, Some(node), "it runs from an older disk, and nobody says so".into());
}

/// A machine was offered the installer. Another server that answered at two probes must have been noticed.
pub fn on_dhcp(world: &mut World, node: &str) {
    let now = world.now;
    if world.rogue.is_some_and(|(from, until)| (from + 2 * PROBE_MS..until).contains(&now)) {
        broken(world, Invariant::I8, Some(node), "it is served beside another DHCP server".into());
    }
}

/// A system that was installed is overwritten in a run that was not asked to: whatever the state says, it was there.
pub fn overwrites(world: &mut World, node: &str, over: Option<u64>) {
    // One that nobody ever saw come up is what an earlier run left unfinished.
    if over.is_none() || world.watch.more.installed.get(node) != over.as_ref() {
        return;
    }
    broken(world, Invariant::I5, Some(node), "an installed system was overwritten, and nobody asked for that".into());
}

/// The chain verifies, and every effect since the last look has its entry (I13).
pub fn chain(world: &mut World, meddle: &dyn Meddle) {
    let chain = match world.durable.store().chain() {
        Ok(chain) => meddle.chain(chain),
        Err(error) => return broken(world, Invariant::I13, None, error.to_string()),
    };
    if let Err(error) = crate::store::verify(&chain) {
        broken(world, Invariant::I13, None, error.to_string());
    }
    let intents: BTreeSet<(&str, &str)> =
        chain.iter().filter(|r| r.kind == RecordKind::Intent).map(|r| (r.run.as_str(), r.step.as_str())).collect();
    let missing: Vec<String> = world.log.entries[world.watch.more.looked_for.min(world.log.entries.len())..]
        .iter()
        .filter(|e| !matches!(e.what, What::SessionOpened { .. } | What::SessionClosed { .. }))
        .filter_map(|e| {
            let cause = e.cause.as_ref().filter(|c| !c.step.is_empty() && !c.step.ends_with(Cause::FINALIZE))?;
            // Their records were looked for when the state was lost; what was under way then arrived later.
            if cause.process <= world.durable.lost_with.get() {
                return None;
            }
            let run = world.processes.get(&cause.process)?.run.as_str();
            (!intents.contains(&(run, cause.step.as_str()))).then(|| format!("{run} {e}"))
        })
        .collect();
    world.watch.more.looked_for = world.log.entries.len();
    if let Some(first) = missing.first() {
        let why = format!("{} effects have no entry, the first: {first}", missing.len());
        broken(world, Invariant::I13, None, why);
    }
}
