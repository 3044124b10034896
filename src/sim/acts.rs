//! What operators do besides installing: restarts, reinstallations, errands, and what they do after a disaster.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    check,
    exec::{Ctx, sleep},
    fate, faults,
    faults::{Faults, Lost, Profile},
    log::What,
    machine,
    operator::{self, Command, Ending, Office},
    rng::Rng,
    script::{ROUNDS_MAX, Scenario, goal},
    watch,
};
use crate::{
    model::{
        goal::{Goal, Scope},
        power::{BootTarget, PowerAction},
    },
    store::{MemoryStore, Store},
};

/// Longer than a machine that lost its power needs to serve again.
const QUIET_MS: u64 = 300_000;

fn installed(ctx: &Ctx) -> Vec<String> {
    let world = ctx.world();
    world.machines.iter().filter(|m| m.system().is_some()).map(|m| m.name.clone()).collect()
}

/// The second act: what runs already is restarted or written anew, while machines fail by themselves.
pub async fn changes(ctx: &Ctx, office: &Office, scenario: Scenario, faults: &Faults) {
    let mut rng = Rng::new(scenario.seed).fork("changes");
    let faulty = !matches!(scenario.faults, Profile::None);
    if scenario.faults == Profile::Crash && rng.chance(500) && !faults.old_disk {
        return;
    }
    let names = installed(ctx);
    if names.is_empty() {
        return;
    }
    sleep(ctx, 60_000).await;
    let reinstall = (faulty && rng.chance(250)) || faults.old_disk;
    let goal = if reinstall {
        let some = names.iter().filter(|_| rng.chance(300)).cloned().collect();
        Goal::Install { nodes: Scope(some), reinstall: true }
    } else {
        let action =
            *rng.pick(&[PowerAction::PowerCycle, PowerAction::ForceRestart]).unwrap_or(&PowerAction::PowerCycle);
        Goal::Power { nodes: Scope(names.clone()), action, force: rng.chance(500), wait: true, lose_quorum: false }
    };
    if faulty {
        for _ in 0..rng.range(0, 3) {
            let (after, back) = (rng.range(1_000, 900_000), rng.range(60_000, 900_000));
            let node = rng.pick(&names).cloned().unwrap_or_default();
            fate::fails_by_itself(ctx, &node, after, back);
        }
    }
    let old_disks = reinstall && faults.old_disk;
    if old_disks {
        keep_images(ctx, &goal.scope().0);
    }
    let mut fault =
        (faulty && rng.chance(400)).then(|| faults::tool_fault(&mut rng, names.len() as u64, scenario.faults));
    let mut over = false;
    for round in 0..ROUNDS_MAX {
        let command = match operator::open_run_of(ctx, &names) {
            Some(run) if round > 4 => Command::Abort(run),
            Some(run) => Command::Resume(run),
            None if over || round > 4 => break,
            None => Command::Run(goal.clone()),
        };
        let ending = operator::process(ctx, office, "a", command, fault.take()).await;
        over = matches!(ending, Ending::Ended { .. } | Ending::Nothing { .. });
        let pause = rng.range(1_000, 120_000);
        sleep(ctx, pause).await;
    }
    // Longer than the latest failure, its way back and a boot.
    sleep(ctx, 2_400_000).await;
    if old_disks {
        old_disk(ctx, office).await;
    }
    if !reinstall && !ctx.world().durable.lost.get() {
        check::serves_again(&mut ctx.world());
    }
}

/// Runs it to its end, whatever that is.
async fn ends(ctx: &Ctx, office: &Office, goal: Goal) -> Ending {
    let names = goal.scope().0.clone();
    let mut told = Ending::Nothing { refused: 0 };
    for round in 0..4 {
        let command = match operator::open_run_of(ctx, &names) {
            Some(run) if round > 2 => Command::Abort(run),
            Some(run) => Command::Resume(run),
            None if round > 0 => break,
            None => Command::Run(goal.clone()),
        };
        told = operator::process(ctx, office, "a", command, None).await;
        sleep(ctx, 10_000).await;
    }
    told
}

/// Of the disks that are about to be written anew.
fn keep_images(ctx: &Ctx, nodes: &[String]) {
    let mut world = ctx.world();
    for m in world.machines.iter_mut().filter(|m| nodes.contains(&m.name)) {
        m.shelf = m.disks.first().filter(|d| d.system.is_some()).cloned();
    }
}

/// F42, F43: members with an empty disk under an old name join anew under a new id; then a machine comes back with the
/// disk that it had before.
async fn old_disk(ctx: &Ctx, office: &Office) {
    ends(ctx, office, goal(office)).await;
    let anew = |m: &machine::Machine| {
        let generation = |d: &machine::Disk| d.system.as_ref().map_or(0, |s| s.config.generation);
        m.shelf.as_ref().is_some_and(|old| m.disks.first().is_some_and(|now| generation(now) > generation(old)))
    };
    let Some(machine) = ctx.world().machines.iter().position(anew) else { return };
    fate::swap_disk(ctx, machine);
    sleep(ctx, QUIET_MS).await;
    // It is named, and nothing is done to it.
    let told = ends(ctx, office, goal(office)).await;
    if matches!(told, Ending::Nothing { refused: 0 }) {
        let mut world = ctx.world();
        let node = world.name(machine);
        watch::stale_unnoticed(&mut world, &node);
    }
    fate::swap_disk(ctx, machine);
    sleep(ctx, QUIET_MS).await;
}

/// One machine is switched off and on, and some are told what to boot next.
pub async fn errands(ctx: &Ctx, office: &Office, scenario: Scenario) {
    let mut rng = Rng::new(scenario.seed).fork("errands");
    let names = installed(ctx);
    let Some(one) = rng.pick(&names).cloned() else { return };
    let some: Vec<String> = names.into_iter().filter(|_| rng.chance(300)).collect();
    if !some.is_empty() {
        let target = *rng.pick(&[BootTarget::Pxe, BootTarget::Disk]).unwrap_or(&BootTarget::Disk);
        ends(ctx, office, Goal::Boot { nodes: Scope(some), target, persistent: false, url: None }).await;
    }
    let action = *rng.pick(&[PowerAction::ForceOff, PowerAction::GracefulShutdown]).unwrap_or(&PowerAction::ForceOff);
    let power = |action| {
        let nodes = Scope(vec![one.clone()]);
        Goal::Power { nodes, action, force: rng.clone().chance(500), wait: true, lose_quorum: false }
    };
    ends(ctx, office, power(action)).await;
    sleep(ctx, 60_000).await;
    ends(ctx, office, power(PowerAction::On)).await;
    sleep(ctx, QUIET_MS).await;
}

/// F56: a plan is shown and approved; before it is begun, somebody puts another machine in a place of it.
pub async fn approves_what_is_stale(ctx: &Ctx, office: &Office) {
    let Some(hash) = operator::plan_only(ctx, office, "a", &goal(office)).await else { return };
    let exchange = |serial: Option<String>| {
        let mut world = ctx.world();
        let m = world.machines.first_mut()?;
        std::mem::replace(&mut m.bmc.serial, serial)
    };
    let own = exchange(Some("SN-exchanged".to_owned()));
    sleep(ctx, 5_000).await;
    let told = operator::process(ctx, office, "a", Command::Approved(goal(office), hash), None).await;
    ctx.world().happened(What::Note { text: format!("approved what is stale: {told:?}") });
    exchange(own);
}

/// F57: the state is gone, or somebody put an older copy of it in its place; it is made anew from what is there.
pub async fn loses_its_state(ctx: &Ctx, office: &Office, lost: Lost, backup: Option<MemoryStore>) {
    let hints: BTreeMap<_, _> =
        backup.as_ref().map(|b| b.node_records().unwrap_or_default().into_iter().collect()).unwrap_or_default();
    {
        let mut world = ctx.world();
        watch::chain(&mut world, Rc::clone(&office.meddle).as_ref());
        for m in &mut world.machines {
            m.bmc.forgotten = m.bmc.sessions;
        }
        world.durable.lost_with.set(world.processes.len() as u32);
        world.durable.replace(backup);
        world.durable.unbelieved.set(office.meddle.rebuilds());
        world.happened(What::StateLost { older: lost.older });
    }
    sleep(ctx, 30_000).await;
    if !office.meddle.rebuilds() {
        return;
    }
    // It is refused while anybody is at work.
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        let command = Command::Rebuild { hints: hints.clone(), known: lost.known };
        let told = operator::process(ctx, office, "a", command, None).await;
        if !matches!(told, Ending::Locked) {
            break;
        }
        sleep(ctx, 120_000).await;
    }
    sleep(ctx, 5_000).await;
}
