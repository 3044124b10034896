//! One simulated world from its seed to its end: the fleet, what goes wrong, what operators do about it, the checks.

use std::{cell::Cell, fmt, rc::Rc};

use super::{
    acts,
    check::{self, Violation},
    drive::{Honest, Meddle},
    exec::{Ctx, Owner, Sim, sleep},
    fate::{self, heal},
    faults::{self, Faults, Profile},
    fleet,
    log::{Log, What},
    operator::{self, Command, Ending, Office, WORLD_DEADLINE},
    rng::Rng,
    world::World,
};
use crate::{
    engine::Outcome,
    model::goal::{Ceiling, Goal, Scope},
    run::keys::Keys,
    store::MemoryStore,
};

/// So often an operator finds it locked before asking who is at it.
const LOCKED_MAX: u32 = 3;
/// Five minutes each, for which an operator lets another one work.
const WAITS_MAX: u32 = 36;
/// How often an operator tries before giving up on a fleet.
pub(super) const ROUNDS_MAX: u32 = 30;
/// How often one run is resumed before it is aborted.
const RESUMES_MAX: u32 = 4;

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub nodes: usize,
    pub faults: Profile,
    /// Without change windows, waves and domains of its own, and without what is rare.
    pub plain: bool,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {} --nodes {} --faults {}", self.seed, self.nodes, self.faults.word())?;
        f.write_str(if self.plain { " --plain" } else { "" })
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
    log: Log,
    /// The log around the first violation.
    pub around: Vec<String>,
}

impl Report {
    /// All that happened, a line each.
    pub fn log(&self) -> Vec<String> {
        self.log.entries.iter().map(ToString::to_string).collect()
    }

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
    let mut faults = faults::draw(scenario.seed, scenario.faults, &names, &racks);
    if !scenario.plain {
        faults::draw_more(scenario.seed, scenario.faults, &names, &mut faults);
    }
    run(scenario, faults, Rc::new(Honest))
}

pub(super) fn run(scenario: Scenario, faults: Faults, meddle: Rc<dyn Meddle>) -> Report {
    let fleet = Rc::new(fleet::varied(scenario.seed, scenario.nodes, scenario.plain));
    let mut machines = fleet::machines(scenario.seed, &fleet, &faults);
    for disk in machines.iter_mut().flat_map(|m| &mut m.disks) {
        disk.hidden = meddle.hides_foreign_data();
    }
    let keys = Rc::new(Keys::from_bytes([7; 32]));
    let ctx = Sim::new(World::new(scenario.seed, &fleet, machines));
    let office_meddle = Rc::clone(&meddle);
    ctx.world().starts_anything = !meddle.starts_only_its_own();
    let office = Office { fleet, keys, concurrency: 32, meddle };
    let over = Rc::new(Cell::new(false));
    fate::befall(&ctx, &faults);
    second_operator(&ctx, &office, &faults);
    {
        let (sim, office, over) = (Rc::clone(&ctx), office.clone(), Rc::clone(&over));
        ctx.spawn(Owner::World, async move {
            operates(&sim, &office, scenario, &faults).await;
            acts::changes(&sim, &office, scenario, &faults).await;
            if faults.errands {
                acts::errands(&sim, &office, scenario).await;
            }
            fate::aftermath(&sim).await;
            over.set(true);
        });
    }
    ctx.run(WORLD_DEADLINE.as_millis() as u64, || over.get());
    let mut world = ctx.world();
    if !over.get() {
        check::never_ends(&mut world, "the operators never went home".into());
    }
    check::at_the_end(&mut world, Rc::clone(&office_meddle).as_ref());
    let report = report(&ctx, scenario, &mut world);
    drop(world);
    ctx.end();
    report
}

fn report(ctx: &Ctx, scenario: Scenario, world: &mut World) -> Report {
    let violations = std::mem::take(&mut world.watch.violations);
    // Its whole cluster, if it is in one.
    let about = |v: &Violation| -> Vec<String> {
        let Some(node) = &v.node else { return Vec::new() };
        let pool = world.fleet.clusters.values().find(|c| c.members.contains(node));
        pool.map_or_else(|| vec![node.clone()], |c| c.members.clone())
    };
    let around = violations.first().map(|v| world.log.around(&about(v), v.at + 1, 60)).unwrap_or_default();
    Report {
        scenario,
        took_ms: ctx.now(),
        processes: world.processes.len(),
        wipes: world.log.entries.iter().filter(|e| matches!(e.what, What::Wipe { .. })).count(),
        log: std::mem::take(&mut world.log),
        around,
        violations,
    }
}

pub(super) fn goal(office: &Office) -> Goal {
    let nodes = Scope(office.fleet.nodes.keys().cloned().collect());
    Goal::Apply { nodes, allow: Ceiling::DataLoss }
}

/// F54: somebody else wants the same, and is told who is at it.
fn second_operator(ctx: &Ctx, office: &Office, faults: &Faults) {
    let Some(at) = faults.second_operator else { return };
    let (sim, office, takes_over) = (Rc::clone(ctx), office.clone(), faults.takes_over);
    ctx.spawn(Owner::World, async move {
        sleep(&sim, at).await;
        if !sim.world().healed {
            let command = Command::Run(goal(&office));
            let told = operator::process(&sim, &office, "b", command, None).await;
            if takes_over && matches!(told, Ending::Locked | Ending::OpenRun) {
                take_over(&sim, &office).await;
            }
        }
    });
}

/// F53: the one at it does nothing any more, as it seems: his locks are taken when their leases have run out.
async fn take_over(ctx: &Ctx, office: &Office) {
    const TRIES: u32 = 60;
    let names: Vec<String> = office.fleet.nodes.keys().cloned().collect();
    for _ in 0..TRIES {
        sleep(ctx, 20_000).await;
        // It may be planning still.
        let Some(run) = operator::open_run_of(ctx, &names) else { continue };
        match operator::process(ctx, office, "b", Command::TakeOver(run), None).await {
            Ending::Locked => {}
            _ => return,
        }
    }
}

/// Machines that are installed, and those that vote.
fn reach(ctx: &Ctx) -> usize {
    let world = ctx.world();
    let installed = world.machines.iter().filter(|m| m.system().is_some()).count();
    installed + world.clusters.values().map(|c| c.voters().count()).sum::<usize>()
}

/// The operator at host `a`: goes on until the fleet is as the inventory says.
async fn operates(ctx: &Ctx, office: &Office, scenario: Scenario, faults: &Faults) {
    let mut rng = Rng::new(scenario.seed).fork("operator");
    let mut odd = Rng::new(scenario.seed).fork("odd");
    let mut befalls = faults.tool.clone().into_iter();
    let names: Vec<String> = office.fleet.nodes.keys().cloned().collect();
    let (mut healthy_rounds, mut aborted, mut reached) = (0, false, 0);
    let mut resumed: (String, u32) = (String::new(), 0);
    let (mut lost, mut backup): (_, Option<MemoryStore>) = (faults.lost, None);
    if faults.stale_plan {
        acts::approves_what_is_stale(ctx, office).await;
    }
    let mut locked = 0;
    for round in 1..=ROUNDS_MAX {
        let command = match operator::open_run_of(ctx, &names) {
            // Who holds it died on another host: that is for a person to find out, and to say.
            Some(run) if locked >= LOCKED_MAX && !ctx.world().durable.anybody_lives() => Command::TakeOver(run),
            Some(run) => {
                resumed = if resumed.0 == run { (run.clone(), resumed.1 + 1) } else { (run.clone(), 1) };
                // What does not end by being resumed is given up, and begun anew.
                let give_up = resumed.1 > RESUMES_MAX || rng.chance(50);
                aborted |= give_up;
                if give_up { Command::Abort(run) } else { Command::Resume(run) }
            }
            None => Command::Run(goal(office)),
        };
        if lost.is_some_and(|l| l.older && l.after == round) {
            backup = Some(ctx.world().durable.copy());
        }
        let read = ctx.world().log.entries.len();
        let ending = operator::process(ctx, office, "a", command, befalls.next()).await;
        if let Some(l) = lost.filter(|l| round >= l.after && !ctx.world().durable.anybody_lives()) {
            lost = None;
            acts::loses_its_state(ctx, office, l, backup.take()).await;
            continue;
        }
        locked = if matches!(ending, Ending::Locked) { locked + 1 } else { 0 };
        // Somebody is at it, on another host: a disk that is never written alone costs half an hour there.
        for _ in 0..WAITS_MAX {
            if locked == 0 || !ctx.world().durable.anybody_lives() {
                break;
            }
            sleep(ctx, 300_000).await;
        }
        match ending {
            Ending::Ended { outcome: Outcome::Succeeded, refused: 0, .. } | Ending::Nothing { refused: 0 } => break,
            Ending::Died | Ending::OpenRun | Ending::Locked | Ending::Stale => {}
            Ending::Ended { outcome: Outcome::Interrupted | Outcome::Paused | Outcome::Aborted, .. } => {}
            Ending::Ended { .. } | Ending::Nothing { .. } | Ending::Failed if !ctx.world().healed => heal(ctx),
            Ending::Ended { .. } | Ending::Nothing { .. } | Ending::Failed => {
                fate::makes_room(ctx, read);
                // Nobody goes home while each round brings something.
                let now = reach(ctx);
                healthy_rounds = if now > reached { 0 } else { healthy_rounds + 1 };
                reached = reached.max(now);
                if healthy_rounds > 6 {
                    break;
                }
            }
        }
        if !faults.clocks.is_empty() && odd.chance(300) {
            let world = ctx.world();
            world.durable.reboot("a", world.now);
        }
        let pause = rng.range(1_000, if ctx.world().healed { 240_000 } else { 120_000 });
        sleep(ctx, pause).await;
    }
    // Whoever does not know what it had promises nothing.
    if ctx.world().durable.lost.get() {
        return;
    }
    // A run that was given up has written what the next one writes again.
    let only_tool = matches!(scenario.faults, Profile::None | Profile::Crash) && !aborted;
    check::converged(&mut ctx.world(), only_tool);
}
