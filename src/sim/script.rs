//! One simulated world from its seed to its end: the fleet, what goes wrong, what operators do about it, the checks.

use std::{cell::Cell, fmt, rc::Rc};

use super::{
    check::{self, Violation},
    drive::{Honest, Meddle},
    etcd,
    exec::{Ctx, Owner, Sim, sleep},
    faults::{self, Faults, Profile},
    fleet,
    log::What,
    machine::{self, Running},
    operator::{self, Command, Ending, Office, WORLD_DEADLINE},
    rng::Rng,
    world::World,
};
use crate::{
    engine::Outcome,
    model::{
        goal::{Ceiling, Goal, Scope},
        power::PowerAction,
    },
    run::keys::Keys,
};

/// How often an operator tries before giving up on a fleet.
const ROUNDS_MAX: u32 = 30;
/// How often one run is resumed before it is aborted.
const RESUMES_MAX: u32 = 4;

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub nodes: usize,
    pub faults: Profile,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {} --nodes {} --faults {}", self.seed, self.nodes, self.faults.word())
    }
}

/// What came of it.
pub struct Report {
    pub scenario: Scenario,
    pub violations: Vec<Violation>,
    /// Virtual milliseconds.
    pub took_ms: u64,
    pub processes: usize,
    pub wipes: usize,
    pub log: Vec<String>,
    /// The log around the first violation.
    pub around: Vec<String>,
}

impl Report {
    /// One line that says what broke and how to see it again.
    pub fn line(&self) -> String {
        let first = self.violations.first().map_or("holds".to_owned(), |v| {
            format!(
                "{:?} at {} ms{}: {}",
                v.invariant,
                v.at,
                v.node.as_ref().map(|n| format!(" ({n})")).unwrap_or_default(),
                v.why
            )
        });
        format!("{} violations; cargo xtask simulate --runs 1 {}: {first}", self.violations.len(), self.scenario)
    }
}

pub fn simulate(scenario: Scenario) -> Report {
    let (names, racks) = (fleet::names(scenario.nodes), fleet::racks(scenario.nodes));
    let faults = faults::draw(scenario.seed, scenario.faults, &names, &racks);
    run(scenario, faults, Rc::new(Honest))
}

pub(super) fn run(scenario: Scenario, faults: Faults, meddle: Rc<dyn Meddle>) -> Report {
    let fleet = Rc::new(fleet::fleet(scenario.seed, scenario.nodes));
    let mut machines = fleet::machines(scenario.seed, &fleet, &faults);
    for disk in machines.iter_mut().flat_map(|m| &mut m.disks) {
        disk.hidden = meddle.hides_foreign_data();
    }
    let keys = Rc::new(Keys::from_bytes([7; 32]));
    let ctx = Sim::new(World::new(scenario.seed, &fleet, machines));
    let office = Office { fleet, keys, concurrency: 32, meddle };
    let over = Rc::new(Cell::new(false));
    befall(&ctx, &faults);
    second_operator(&ctx, &office, &faults);
    {
        let (sim, office, over) = (Rc::clone(&ctx), office.clone(), Rc::clone(&over));
        ctx.spawn(Owner::World, async move {
            operates(&sim, &office, scenario, faults).await;
            changes(&sim, &office, scenario).await;
            aftermath(&sim).await;
            over.set(true);
        });
    }
    ctx.run(WORLD_DEADLINE.as_millis() as u64, || over.get());
    let mut world = ctx.world();
    if !over.get() {
        check::never_ends(&mut world, "the operators never went home".into());
    }
    check::at_the_end(&mut world);
    report(&ctx, scenario, &mut world)
}

fn report(ctx: &Ctx, scenario: Scenario, world: &mut World) -> Report {
    let violations = std::mem::take(&mut world.watch.violations);
    let around = violations.first().map(|v| world.log.around(v.node.as_deref(), v.at + 1, 60)).unwrap_or_default();
    Report {
        scenario,
        took_ms: ctx.now(),
        processes: world.processes.len(),
        wipes: world.log.entries.iter().filter(|e| matches!(e.what, What::Wipe { .. })).count(),
        log: world.log.entries.iter().map(ToString::to_string).collect(),
        around,
        violations,
    }
}

/// What goes wrong by the clock.
fn befall(ctx: &Ctx, faults: &Faults) {
    for (rack, at, ms) in faults.racks.clone() {
        let sim = Rc::clone(ctx);
        ctx.spawn(Owner::World, async move {
            sleep(&sim, at).await;
            dark(&sim, &rack, ms).await;
        });
    }
    for (node, at) in faults.machines.iter().filter_map(|(n, f)| Some((n.clone(), f.bmc_restarts_at?))) {
        let sim = Rc::clone(ctx);
        ctx.spawn(Owner::World, async move {
            sleep(&sim, at).await;
            let mut world = sim.world();
            let (now, ms) = (world.now, 90_000);
            let index = world.number.get(&node).copied().unwrap_or(usize::MAX);
            if let Some(m) = world.machines.get_mut(index) {
                m.bmc.away_until = now + ms;
                m.bmc.boot = crate::model::power::BootOverride::CLEARED;
                m.bmc.sessions = 0;
            }
            world.happened(What::BmcAway { node, ms });
        });
    }
}

async fn dark(ctx: &Ctx, rack: &str, ms: u64) {
    let there: Vec<(usize, bool)> = {
        let mut world = ctx.world();
        world.happened(What::RackDark { rack: rack.to_owned() });
        world.machines.iter().enumerate().filter(|(_, m)| m.rack == rack).map(|(i, m)| (i, m.power)).collect()
    };
    for (machine, _) in &there {
        machine::power_off(ctx, *machine);
        if let Some(m) = ctx.world().machines.get_mut(*machine) {
            m.feed = false;
            m.bmc.sessions = 0;
        }
    }
    sleep(ctx, ms).await;
    ctx.world().happened(What::RackLit { rack: rack.to_owned() });
    for (machine, was_on) in there {
        if let Some(m) = ctx.world().machines.get_mut(machine) {
            m.feed = true;
        }
        if was_on {
            machine::power_on(ctx, machine);
        }
    }
}

fn goal(office: &Office) -> Goal {
    let nodes = Scope(office.fleet.nodes.keys().cloned().collect());
    Goal::Apply { nodes, allow: Ceiling::DataLoss }
}

/// F54: somebody else wants the same, and is told who is at it.
fn second_operator(ctx: &Ctx, office: &Office, faults: &Faults) {
    let Some(at) = faults.second_operator else { return };
    let (sim, office) = (Rc::clone(ctx), office.clone());
    ctx.spawn(Owner::World, async move {
        sleep(&sim, at).await;
        if !sim.world().healed {
            let command = Command::Run(goal(&office));
            operator::process(&sim, &office, "b", command, None).await;
        }
    });
}

/// The operator at host `a`: goes on until the fleet is as the inventory says.
async fn operates(ctx: &Ctx, office: &Office, scenario: Scenario, faults: Faults) {
    let mut rng = Rng::new(scenario.seed).fork("operator");
    let mut befalls = faults.tool.into_iter();
    let names: Vec<String> = office.fleet.nodes.keys().cloned().collect();
    let (mut healthy_rounds, mut aborted) = (0, false);
    let mut resumed: (String, u32) = (String::new(), 0);
    for _ in 0..ROUNDS_MAX {
        let command = match operator::open_run_of(ctx, &names) {
            Some(run) => {
                resumed = if resumed.0 == run { (run.clone(), resumed.1 + 1) } else { (run.clone(), 1) };
                // What does not end by being resumed is given up, and begun anew.
                let give_up = resumed.1 > RESUMES_MAX || rng.chance(50);
                aborted |= give_up;
                if give_up { Command::Abort(run) } else { Command::Resume(run) }
            }
            None => Command::Run(goal(office)),
        };
        let ending = operator::process(ctx, office, "a", command, befalls.next()).await;
        match ending {
            Ending::Ended { outcome: Outcome::Succeeded, refused: 0, .. } | Ending::Nothing { refused: 0 } => break,
            Ending::Died | Ending::OpenRun | Ending::Locked => {}
            Ending::Ended { outcome: Outcome::Interrupted | Outcome::Paused | Outcome::Aborted, .. } => {}
            Ending::Ended { .. } | Ending::Nothing { .. } | Ending::Failed if !ctx.world().healed => heal(ctx),
            Ending::Ended { .. } | Ending::Nothing { .. } | Ending::Failed => {
                healthy_rounds += 1;
                if healthy_rounds > 6 {
                    break;
                }
            }
        }
        let pause = rng.range(1_000, if ctx.world().healed { 240_000 } else { 120_000 });
        sleep(ctx, pause).await;
    }
    // A run that was given up has written what the next one writes again.
    let only_tool = matches!(scenario.faults, Profile::None | Profile::Crash) && !aborted;
    check::converged(&mut ctx.world(), only_tool);
}

/// The second act: what runs already is restarted or written anew, while machines fail by themselves.
async fn changes(ctx: &Ctx, office: &Office, scenario: Scenario) {
    let mut rng = Rng::new(scenario.seed).fork("changes");
    let faulty = !matches!(scenario.faults, Profile::None);
    if scenario.faults == Profile::Crash && rng.chance(500) {
        return;
    }
    let names: Vec<String> = {
        let world = ctx.world();
        world.machines.iter().filter(|m| m.system().is_some()).map(|m| m.name.clone()).collect()
    };
    if names.is_empty() {
        return;
    }
    sleep(ctx, 60_000).await;
    let reinstall = faulty && rng.chance(250);
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
            fails_by_itself(ctx, &node, after, back);
        }
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
    if !reinstall {
        check::serves_again(&mut ctx.world());
    }
}

/// F50: a machine that loses its power and comes back, and nobody of ours had anything to do with it.
fn fails_by_itself(ctx: &Ctx, node: &str, after: u64, back: u64) {
    let (sim, machine) = (Rc::clone(ctx), ctx.world().number.get(node).copied().unwrap_or(usize::MAX));
    ctx.spawn(Owner::World, async move {
        sleep(&sim, after).await;
        machine::power_off(&sim, machine);
        sleep(&sim, back).await;
        machine::power_on(&sim, machine);
    });
}

/// People came by: what was broken is mended, what hangs is restarted.
fn heal(ctx: &Ctx) {
    let stuck: Vec<usize> = {
        let mut world = ctx.world();
        world.healed = true;
        world.happened(What::Note { text: "healed".into() });
        let now = world.now;
        for m in &mut world.machines {
            m.bmc.away_until = 0;
            if let Some(e) = &mut m.etcd {
                e.synced_at = e.synced_at.or(Some(now));
            }
        }
        let hangs = |m: &machine::Machine| m.running == Running::Stuck && m.power && m.bootable().is_some();
        world.machines.iter().enumerate().filter(|(_, m)| hangs(m)).map(|(i, _)| i).collect()
    };
    for machine in stuck {
        machine::restart(ctx, machine);
    }
    let idle: Vec<_> = {
        let world = ctx.world();
        let idle = |m: &machine::Machine| {
            let config = m.system().and_then(|(_, s)| s.etcd.clone());
            config.filter(|_| m.running == Running::System && m.etcd.is_none())
        };
        world.machines.iter().enumerate().filter_map(|(i, m)| Some((i, idle(m)?))).collect()
    };
    for (machine, config) in idle {
        let _ = etcd::start(ctx, machine, &config);
    }
}

/// Long after: every machine is restarted, and none of them may find an installer (I9).
async fn aftermath(ctx: &Ctx) {
    let began = ctx.now();
    let count = {
        let mut world = ctx.world();
        world.healed = true;
        world.machines.len()
    };
    for machine in 0..count {
        let on = ctx.world().machines.get(machine).is_some_and(|m| m.power);
        if on {
            machine::power_off(ctx, machine);
            machine::power_on(ctx, machine);
        }
    }
    sleep(ctx, 300_000).await;
    let mut world = ctx.world();
    let led: Vec<String> = world
        .log
        .entries
        .iter()
        .filter(|e| e.at >= began)
        .filter_map(|e| match &e.what {
            What::DhcpInstaller { node } | What::BootsInstaller { node } => Some(node.clone()),
            _ => None,
        })
        .collect();
    for node in led {
        check::reinstalls(&mut world, &node);
    }
}
