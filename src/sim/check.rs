//! The invariants of the design, checked against what truly happened: at every effect, at the end of every run, and
//! when all is over. What the product says of itself is believed nowhere, except where it is itself what is checked.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    drive::Meddle,
    durable::Intent,
    log::{Cause, What},
    tool::Tool,
    watch::{self, More},
    world::World,
};
use crate::{
    engine::{LEAVE_SAFE, Outcome},
    model::{Failure, facts::InstallPhase, goal::Goal},
    plan::{Plan, StepKind, Subject},
    store::Store,
};

/// From the beginning of a look at who is away to the effect that follows it: the look, its freshness, the log-in. What
/// goes away by itself in this time cannot be known by anybody.
const LOOK_MS: u64 = 20_000;

/// Numbers of the design's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No effect without a durable intent.
    I1,
    /// One writer per node: no effect without the lock.
    I2,
    /// Never more unavailable than allowed.
    I3,
    /// No quorum is lost by our doing.
    I4,
    /// Only the approved disk of the right machine is wiped, once.
    I5,
    /// One bootstrap per generation.
    I6,
    /// Nothing that was removed, or is older than its generation, runs with its old data.
    I7,
    /// No session is left at a BMC, and nobody is served beside another server.
    I8,
    /// No override and no offer are left.
    I9,
    /// Crash and resume end as no crash would.
    I11,
    /// Effects are the plan's.
    I12,
    /// The chain verifies.
    I13,
    /// After the budget of failures is spent no new node begins.
    I14,
    /// A lost answer is no reason to do it again.
    I15,
    /// Decisions follow the clock that goes on while a host sleeps.
    I16,
    /// Every wait has a limit, every run ends.
    I18,
    /// What is reported is true.
    I20,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub at: u64,
    pub invariant: Invariant,
    pub node: Option<String>,
    pub why: String,
}

/// What was approved for a run.
#[derive(Clone, Debug, Default)]
struct Approved {
    steps: BTreeSet<String>,
    wipes: BTreeSet<String>,
    /// Systems that are there may be written anew.
    reinstalls: bool,
}

#[derive(Default)]
pub struct Watcher {
    pub violations: Vec<Violation>,
    approved: BTreeMap<String, Approved>,
    wipes: BTreeMap<(String, String), u32>,
    bootstraps: BTreeMap<String, BTreeSet<u64>>,
    resets: BTreeMap<(u32, String, u32, &'static str), u32>,
    /// Members that voted once, by cluster: what a budget counts.
    voted: BTreeMap<String, BTreeSet<String>>,
    pub more: More,
}

impl Watcher {
    pub fn approve(&mut self, run: &str, plan: &Plan) {
        let wipes = |t: &&crate::plan::Track| t.steps.iter().any(|s| matches!(s.kind, StepKind::WriteDisk { .. }));
        let approved = Approved {
            steps: plan.steps().map(|s| s.id.clone()).collect(),
            wipes: plan.tracks.iter().filter(wipes).map(|t| t.subject.name().to_owned()).collect(),
            reinstalls: matches!(plan.goal, Goal::Install { reinstall: true, .. }),
        };
        self.approved.insert(run.to_owned(), approved);
    }
}

pub(super) fn broken(world: &mut World, invariant: Invariant, node: Option<&str>, why: String) {
    let violation = Violation { at: world.now, invariant, node: node.map(str::to_owned), why };
    world.watch.violations.push(violation);
}

/// An effect of a process of the tool, about to be logged.
pub fn on_effect(world: &mut World, cause: &Cause, what: &What) {
    match what {
        What::SessionOpened { .. } | What::SessionClosed { .. } => return,
        What::Wipe { .. } => return on_wipe(world, what),
        // What is in the process's own table changes nothing out there.
        What::Withdrawn { .. } => {}
        _ => watch::on_effect(world, cause, what),
    }
    let run = world.processes.get(&cause.process).map(|p| p.run.clone()).unwrap_or_default();
    let subject = cause.subject().to_owned();
    let node = what_node(what);
    let lock = if subject.starts_with("cluster/") { subject.clone() } else { format!("node/{subject}") };
    let holder = world.durable.holder(&lock);
    // What had left when its process died, and the state with it, arrives all the same.
    let under_way = cause.process <= world.durable.lost_with.get() && !world.durable.is_alive(cause.process);
    if holder != Some(cause.process) && !watch::was_robbed(world, &lock, cause.process) && !under_way {
        let why = format!("process {} acts, {lock} is held by {holder:?}", cause.process);
        broken(world, Invariant::I2, node.as_deref(), why);
    }
    if !cause.step.ends_with(Cause::FINALIZE) {
        if !world.watch.approved.get(&run).is_some_and(|a| a.steps.contains(&cause.step)) {
            broken(world, Invariant::I12, node.as_deref(), format!("{} is not in the plan of run {run}", cause.step));
        }
        let intent = world.durable.intent(&run, &cause.step);
        let fits = matches!(&intent, Some(Intent { open: true, attempt, .. }) if *attempt == cause.attempt);
        if !fits {
            let why = format!("{}#{} has no open intent: {intent:?}", cause.step, cause.attempt);
            broken(world, Invariant::I1, node.as_deref(), why);
        }
    }
    match what {
        What::Reset { node, action, done } => on_reset(world, cause, node, action, *done),
        What::Bootstrap { cluster, id, node } => {
            let ids = world.watch.bootstraps.entry(cluster.clone()).or_default();
            ids.insert(*id);
            if ids.len() > 1 {
                let why = format!("cluster {cluster} was made {} times", ids.len());
                broken(world, Invariant::I6, Some(node), why);
            }
            world.watch.voted.entry(cluster.clone()).or_default().insert(node.clone());
        }
        What::MemberRemoved { node, wiped: false, learner: false, .. } => {
            broken(world, Invariant::I7, Some(node), "a voter that has its data was taken out of the list".into());
        }
        // Until it joins again, it is none of those that a budget counts.
        What::MemberRemoved { cluster, node, .. } => {
            world.watch.voted.entry(cluster.clone()).or_default().remove(node);
        }
        What::Promoted { cluster, node, synced } => {
            if !synced {
                broken(world, Invariant::I4, Some(node), "a learner that had not caught up was promoted".into());
            }
            world.watch.voted.entry(cluster.clone()).or_default().insert(node.clone());
        }
        _ => {}
    }
}

fn what_node(what: &What) -> Option<String> {
    match what {
        What::Reset { node, .. }
        | What::OverrideSet { node }
        | What::OverrideCleared { node }
        | What::Offered { node }
        | What::Withdrawn { node }
        | What::Ticket { node }
        | What::Bootstrap { node, .. }
        | What::MemberRemoved { node, .. }
        | What::Promoted { node, .. } => Some(node.clone()),
        _ => None,
    }
}

fn on_reset(world: &mut World, cause: &Cause, node: &str, action: &'static str, done: bool) {
    let key = (cause.process, cause.step.clone(), cause.attempt, action);
    let times = world.watch.resets.entry(key).or_default();
    *times += 1;
    if *times > 1 {
        let why = format!("{action} was asked {times} times in one attempt of {}", cause.step);
        broken(world, Invariant::I15, Some(node), why);
    }
    if done {
        watch::reset(world, cause, node, action);
    }
    let Some(machine) = world.number.get(node).copied() else { return };
    if !done || action == "On" || !world.serves(machine) {
        return;
    }
    let member = world.machines.get(machine).and_then(|m| m.etcd);
    if let Some(cluster) = member.and_then(|e| world.clusters.get(&e.cluster))
        && cluster.has_quorum(world, None)
        // A look that saw none is not wrong as soon as the last one it takes is back.
        && cluster.quorum_since + LOOK_MS < world.now
        && cluster.known_standing(world, machine, world.now.saturating_sub(LOOK_MS)) <= cluster.voters().count() / 2
    {
        let why = format!("{action} takes the quorum of cluster {}", cluster.name);
        broken(world, Invariant::I4, Some(node), why);
    }
    // It came up so lately that a look may have counted it as away itself.
    if world.machines.get(machine).is_none_or(|m| m.serving_since + LOOK_MS < world.now) {
        budget(world, node, action);
    }
}

/// It does not serve, and a look that ended just before the effect could have told.
fn is_known_away(world: &World, machine: usize) -> bool {
    let Some(m) = world.machines.get(machine).filter(|_| !world.serves(machine)) else { return false };
    let since = match &m.etcd {
        // It runs, and its cluster has no quorum.
        Some(member) => world.clusters.get(&member.cluster).map_or(0, |c| c.disturbed_at),
        None if m.away.1 => return true,
        None => m.away.0,
    };
    since + LOOK_MS < world.now
}

/// What is away counts whoever took it away.
fn budget(world: &mut World, node: &str, action: &str) {
    let pools: Vec<(String, u32, Vec<String>)> = world
        .fleet
        .clusters
        .values()
        .filter(|c| c.members.iter().any(|m| m == node))
        .map(|c| (c.name.clone(), c.rollout.max_unavailable, c.members.clone()))
        .collect();
    for (name, limit, members) in pools {
        let voted = world.watch.voted.get(&name).cloned().unwrap_or_default();
        let away: Vec<&String> = members
            .iter()
            .filter(|m| voted.contains(*m) && *m != node)
            .filter(|m| world.number.get(*m).is_some_and(|i| is_known_away(world, *i)))
            .collect();
        if away.len() as u32 + 1 > limit {
            let why = format!("{action}: of {name} {away:?} are away already, {limit} may be");
            broken(world, Invariant::I3, Some(node), why);
        }
    }
}

fn on_wipe(world: &mut World, what: &What) {
    let What::Wipe { node, serial, run, foreign, over, .. } = what else { return };
    let times = world.watch.wipes.entry((run.clone(), node.clone())).or_default();
    *times += 1;
    if *times > 1 {
        let why = format!("wiped {times} times in run {run}");
        broken(world, Invariant::I5, Some(node), why);
    }
    let spec = world.fleet.nodes.get(node).cloned();
    let machine = world.number.get(node).and_then(|i| world.machines.get(*i)).cloned();
    let (Some(spec), Some(machine)) = (spec, machine) else { return };
    if !world.watch.approved.get(run).is_some_and(|a| a.wipes.contains(node)) {
        broken(world, Invariant::I5, Some(node), format!("its wipe was not approved for run {run}"));
    }
    if spec.root_disk().and_then(|(_, rule)| rule.serial.clone()).as_ref() != Some(serial) {
        broken(world, Invariant::I5, Some(node), format!("disk {serial} is not the inventory's"));
    }
    if !world.watch.approved.get(run).is_some_and(|a| a.reinstalls) {
        watch::overwrites(world, node, *over);
    }
    if *foreign {
        broken(world, Invariant::I5, Some(node), format!("disk {serial} held somebody's data"));
    }
    if spec.identity.serial.as_ref() != Some(&machine.serial) || spec.identity.uuid != Some(machine.uuid) {
        broken(world, Invariant::I5, Some(node), "it is another machine than the inventory's".into());
    }
    let step = format!("{node}/write-disk");
    // Whoever took the run over may have given the step up, or its limit passed while the host slept: the installer, which
    // has its ticket, does not hear of it.
    let given_up = world.durable.changed_hands() || watch::somebody_slept(world);
    if !world.durable.intent(run, &step).is_some_and(|i| i.open || given_up) {
        broken(world, Invariant::I1, Some(node), "it is wiped and no open intent says so".into());
    }
    let member = world.watch.voted.values().any(|v| v.contains(node));
    if member && machine.etcd.is_some() {
        broken(world, Invariant::I4, Some(node), "a member was wiped while it ran".into());
    }
}

/// A process says that its run is over.
pub fn on_run_end(world: &mut World, tool: &Tool, plan: &Plan, outcome: Outcome, failures: &[(String, Failure)]) {
    let over = matches!(outcome, Outcome::Interrupted | Outcome::Paused);
    for track in &plan.tracks {
        let Subject::Node(node) = &track.subject else { continue };
        let Some(machine) = world.number.get(node).and_then(|i| world.machines.get(*i)).cloned() else { continue };
        let began = track.steps.iter().any(|s| matches!(s.kind, StepKind::BootInstaller { .. }));
        // A BMC that cannot be asked cannot be mended: then it is said that this node may not be safe.
        let told = failures.iter().any(|(step, _)| *step == format!("{node}/{LEAVE_SAFE}"));
        if began && !over && !machine.bmc.boot.is_cleared() && !told {
            broken(world, Invariant::I9, Some(node), "its boot override is still set, and nobody was told".into());
        }
        if told && outcome == Outcome::Succeeded {
            broken(world, Invariant::I20, Some(node), "success was reported, and it could not be left safe".into());
        }
        let offered = tool.offers.borrow().contains_key(node);
        if !over && offered {
            broken(world, Invariant::I9, Some(node), "it is still offered network boot".into());
        }
    }
    if outcome == Outcome::Succeeded {
        truly_done(world, plan);
    }
}

fn truly_done(world: &mut World, plan: &Plan) {
    let records: BTreeMap<_, _> = world.durable.store().node_records().unwrap_or_default().into_iter().collect();
    for track in &plan.tracks {
        match &track.subject {
            Subject::Node(node) if track.steps.iter().any(|s| matches!(s.kind, StepKind::AwaitInstalled { .. })) => {
                let machine = world.number.get(node).and_then(|i| world.machines.get(*i));
                let on_disk = machine.and_then(|m| m.system()).map(|(_, s)| s.config.generation);
                let record = records.get(node);
                let recorded = record.filter(|r| r.phase == InstallPhase::Installed).map(|r| r.generation);
                if on_disk.is_none() || on_disk != recorded {
                    let why = format!("success was reported; on its disk {on_disk:?}, recorded {recorded:?}");
                    broken(world, Invariant::I20, Some(node), why);
                }
            }
            Subject::Cluster(name) => {
                let members: BTreeSet<&str> = track.steps.iter().filter_map(|s| s.kind.member()).collect();
                let missing: Vec<&str> = members.into_iter().filter(|m| !votes(world, name, m)).collect();
                if !missing.is_empty() {
                    let why = format!("success was reported; not voting in {name}: {missing:?}");
                    broken(world, Invariant::I20, None, why);
                }
            }
            Subject::Node(_) => {}
        }
    }
}

/// Every member of every cluster that voted once serves, when all restarts are over.
pub fn serves_again(world: &mut World) {
    let voted = world.watch.voted.clone();
    for (cluster, nodes) in voted {
        let away: Vec<String> =
            nodes.into_iter().filter(|n| world.number.get(n).is_some_and(|i| !world.serves(*i))).collect();
        if !away.is_empty() {
            broken(world, Invariant::I11, None, format!("of {cluster} {away:?} do not serve after all restarts"));
        }
    }
}

/// It is a voter in the one cluster of that name.
pub fn votes(world: &World, cluster: &str, node: &str) -> bool {
    world.clusters.values().filter(|c| c.name == cluster).any(|c| c.voters().any(|m| m.name == node))
}

/// Everybody went home.
pub fn at_the_end(world: &mut World, meddle: &dyn Meddle) {
    watch::chain(world, meddle);
    // What is noted is closed by the next log-in.
    let notes = world.durable.store().bmc_sessions().unwrap_or_default();
    let noted = |node: &str| notes.iter().filter(|s| s.node == node).count() as u32;
    let left: Vec<String> = world
        .machines
        .iter()
        .filter(|m| m.bmc.sessions > m.bmc.forgotten + noted(&m.name))
        .map(|m| m.name.clone())
        .collect();
    for node in left {
        broken(world, Invariant::I8, Some(&node), "a session is left open at its BMC".into());
    }
}

/// What a world without faults of machines must look like when all runs are over.
pub fn converged(world: &mut World, once: bool) {
    // Waits that ended while a host slept fail their nodes: what the run had begun, the next one begins anew.
    let gave_up = watch::somebody_slept(world);
    let fleet = std::rc::Rc::clone(&world.fleet);
    for machine in world.machines.clone() {
        if machine.faults.hopeless() {
            continue;
        }
        let generation = machine.system().map(|(_, s)| s.config.generation);
        if generation.is_none() && !kept_out(world, &machine.name) {
            broken(world, Invariant::I11, Some(&machine.name), "it is not installed in the end".into());
        }
        let wipes: u32 =
            world.watch.wipes.iter().filter(|((_, n), _)| *n == machine.name).map(|(_, times)| *times).sum();
        // Another host cannot hear what an installer says to the first: what it wrote there is written once more.
        if once && wipes != 1 && !world.durable.changed_hands() && !gave_up {
            broken(world, Invariant::I11, Some(&machine.name), format!("it was wiped {wipes} times in the end"));
        }
    }
    for cluster in fleet.clusters.values() {
        let hopeless = |m: &String| world.number.get(m).is_some_and(|i| world.machines[*i].faults.hopeless());
        let missing: Vec<&String> = cluster
            .members
            .iter()
            .filter(|m| !hopeless(m) && !kept_out(world, m))
            .filter(|m| !votes(world, &cluster.name, m))
            .collect();
        if !missing.is_empty() {
            let never: Vec<&String> = cluster.members.iter().filter(|m| hopeless(m)).collect();
            let (name, all) = (&cluster.name, &cluster.members);
            let why = format!("not voting in {name} in the end: {missing:?}; of {all:?} {never:?} cannot be installed");
            broken(world, Invariant::I11, None, why);
        }
    }
}

/// Where machines come in waves, one that can never be installed keeps those of later waves out, as its rollout says, and
/// three that fail alike keep everybody out. Members join in the inventory's order: one that is behind a machine that
/// never comes is there when that one has failed, and by then so many may have failed, of those that
/// are still to come, that its run is halted.
fn kept_out(world: &World, node: &str) -> bool {
    let Some(pool) = world.fleet.clusters.values().find(|c| c.members.iter().any(|m| m == node)) else { return false };
    let hopeless = |name: &String| world.number.get(name).is_some_and(|i| world.machines[*i].faults.hopeless());
    let all = world.machines.iter().filter(|m| m.faults.hopeless()).count();
    let own = pool.members.iter().filter(|m| hopeless(m)).count();
    let halts = all >= 3 || own as u32 >= pool.rollout.halt_after.of(own.max(1));
    let is_behind = pool.members.iter().take_while(|m| *m != node).any(hopeless);
    (!pool.rollout.waves.is_empty() && (own > 0 || all >= 3)) || (is_behind && halts)
}

pub fn never_ends(world: &mut World, why: String) {
    broken(world, Invariant::I18, None, why);
}

/// A machine was restarted when all was over, and its firmware found an installer.
pub fn reinstalls(world: &mut World, node: &str) {
    broken(world, Invariant::I9, Some(node), "after the end a restart leads into the installer".into());
}
