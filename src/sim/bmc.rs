//! A BMC and its ways to disappoint. Each call is a request that takes time, may change the world, and is answered,
//! unless the answer is lost.

use std::{cell::RefCell, rc::Rc};

use super::{
    exec::{Ctx, Owner, Topic, never, sleep, until},
    log::{Cause as By, What},
    machine,
};
use crate::model::{
    Failure,
    facts::{BmcFacts, DriveFacts},
    failure::Cause,
    power::{BootOverride, BootTarget, PowerAction, PowerState},
};

#[derive(Clone, Debug)]
pub struct Bmc {
    pub boot: BootOverride,
    /// Counts power-ons: the last reset time, in a clock that nobody knows.
    pub resets: u64,
    /// Refuses connections until then.
    pub away_until: u64,
    pub sessions: u32,
    /// So many of them were noted in a state that was lost, or by nobody but a process that ended with a store that it
    /// could not write: they end when the BMC is tired of them.
    pub forgotten: u32,
    pub serial: Option<String>,
    pub uuid: Option<uuid::Uuid>,
    /// One way, milliseconds.
    pub latency_ms: u64,
}

/// What is asked of it.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Open,
    Close,
    /// What an earlier process left open.
    CloseAll,
    Power,
    Boot,
    LastReset,
    Facts,
    SetBoot(BootOverride),
    Reset(PowerAction),
}

#[derive(Clone, Debug)]
pub enum Answer {
    Done,
    Power(PowerState),
    Boot(BootOverride),
    LastReset(Option<String>),
    Facts(Box<BmcFacts>),
}

fn lost(node: &str) -> Failure {
    Failure::new(Cause::Unreachable, format!("{node}: ask its BMC"), "no answer")
}

/// One request. The caller sets the deadline: a BMC may hang for ever.
pub async fn ask(ctx: &Ctx, by: &By, machine: usize, ask: Ask) -> Result<Answer, Failure> {
    let (there, back) = {
        let mut world = ctx.world();
        let (jitter, healed) = (world.rng.range(0, 40), world.healed);
        let Some(m) = world.machines.get(machine) else { return Err(lost("nobody")) };
        let slow = if healed { 0 } else { m.faults.slow_ms };
        (m.bmc.latency_ms + jitter + slow / 2, m.bmc.latency_ms + slow / 2)
    };
    sleep(ctx, there).await;
    let (answer, is_lost, hangs) = carry_out(ctx, by, machine, ask);
    if hangs {
        return never().await;
    }
    sleep(ctx, back).await;
    if is_lost {
        let name = ctx.world().name(machine);
        return Err(lost(&name));
    }
    answer
}

/// A request that has left: whoever asked may die or lose patience, it is carried out all the same.
pub async fn send(ctx: &Ctx, by: &By, machine: usize, what: Ask) -> Result<Answer, Failure> {
    let answer: Rc<RefCell<Option<Result<Answer, Failure>>>> = Rc::default();
    let (sim, by, told) = (Rc::clone(ctx), by.clone(), Rc::clone(&answer));
    let topic = Topic::Answer(ctx.ticket());
    ctx.spawn(Owner::World, async move {
        let came = ask(&sim, &by, machine, what).await;
        *told.borrow_mut() = Some(came);
        sim.notify(topic);
    });
    until(ctx, topic, move || answer.borrow_mut().take()).await
}

/// The moment at which it happens. Answer, whether the answer is lost, whether none ever comes.
fn carry_out(ctx: &Ctx, by: &By, machine: usize, ask: Ask) -> (Result<Answer, Failure>, bool, bool) {
    let mut world = ctx.world();
    let (now, healed, node) = (world.now, world.healed, world.name(machine));
    let forgotten = world.durable.lost.get() && !world.durable.is_alive(by.process);
    let Some(m) = world.machines.get_mut(machine) else { return (Err(lost(&node)), false, false) };
    let dead = m.faults.bmc_dead && !healed;
    if dead || m.bmc.away_until > now || !m.feed {
        return (Err(lost(&node)), false, false);
    }
    if m.faults.hangs > 0 && !healed {
        m.faults.hangs -= 1;
        return (Err(lost(&node)), false, true);
    }
    let changes = matches!(ask, Ask::SetBoot(_) | Ask::Reset(_));
    let is_lost = changes && !healed && m.faults.answers_lost > 0;
    if is_lost {
        m.faults.answers_lost -= 1;
    }
    let answer = match ask {
        Ask::Open => {
            m.bmc.sessions += 1;
            m.bmc.forgotten += u32::from(forgotten);
            world.effect(by, What::SessionOpened { node });
            Answer::Done
        }
        Ask::Close => {
            m.bmc.sessions = m.bmc.sessions.saturating_sub(1);
            world.effect(by, What::SessionClosed { node });
            Answer::Done
        }
        Ask::CloseAll => {
            (m.bmc.sessions, m.bmc.forgotten) = (0, 0);
            world.effect(by, What::SessionClosed { node });
            Answer::Done
        }
        Ask::Power => Answer::Power(power(m.power, m.faults.power_unreadable && !healed)),
        Ask::Boot => Answer::Boot(m.bmc.boot),
        Ask::LastReset => Answer::LastReset((m.bmc.resets > 0).then(|| format!("reset {}", m.bmc.resets))),
        Ask::Facts => Answer::Facts(Box::new(facts(m))),
        Ask::SetBoot(wanted) => {
            if m.faults.override_ignored > 0 && !healed {
                m.faults.override_ignored -= 1;
            } else {
                m.bmc.boot = if wanted.is_cleared() { BootOverride::CLEARED } else { wanted };
            }
            let what = if wanted.is_cleared() { What::OverrideCleared { node } } else { What::OverrideSet { node } };
            world.effect(by, what);
            Answer::Done
        }
        Ask::Reset(action) => {
            let ignored = m.faults.power_ignored > 0 && !healed;
            if ignored {
                m.faults.power_ignored -= 1;
            }
            world.effect(by, What::Reset { node, action: word(action), done: !ignored });
            drop(world);
            if !ignored {
                cut_by_us(ctx, machine, true);
                reset(ctx, machine, action);
                cut_by_us(ctx, machine, false);
            }
            return (Ok(Answer::Done), is_lost, false);
        }
    };
    (Ok(answer), is_lost, false)
}

fn cut_by_us(ctx: &Ctx, machine: usize, ours: bool) {
    if let Some(m) = ctx.world().machines.get_mut(machine) {
        m.cut_by_us = ours;
    }
}

fn reset(ctx: &Ctx, machine: usize, action: PowerAction) {
    match action {
        PowerAction::On => machine::power_on(ctx, machine),
        PowerAction::ForceOff => machine::power_off(ctx, machine),
        PowerAction::GracefulShutdown => {
            let listens = ctx.world().machines.get(machine).is_some_and(|m| m.running == machine::Running::System);
            if listens {
                machine::power_off(ctx, machine);
            }
        }
        PowerAction::ForceRestart | PowerAction::GracefulRestart | PowerAction::PowerCycle => {
            machine::power_off(ctx, machine);
            machine::power_on(ctx, machine);
        }
    }
}

fn word(action: PowerAction) -> &'static str {
    match action {
        PowerAction::On => "On",
        PowerAction::GracefulShutdown => "GracefulShutdown",
        PowerAction::ForceOff => "ForceOff",
        PowerAction::ForceRestart => "ForceRestart",
        PowerAction::GracefulRestart => "GracefulRestart",
        PowerAction::PowerCycle => "PowerCycle",
    }
}

fn power(on: bool, unreadable: bool) -> PowerState {
    match (on, unreadable) {
        (_, true) => PowerState::Unknown,
        (true, _) => PowerState::On,
        (false, _) => PowerState::Off,
    }
}

fn facts(m: &machine::Machine) -> BmcFacts {
    let drives = m.disks.iter().map(|d| DriveFacts {
        name: d.name.clone(),
        serial: Some(d.serial.clone()),
        wwn: None,
        model: Some("SIM".into()),
        size_bytes: Some(d.size_bytes),
    });
    BmcFacts {
        endpoint: format!("https://bmc.{}", m.name),
        manufacturer: Some("Sim".into()),
        model: Some("S1".into()),
        serial: m.bmc.serial.clone(),
        sku: None,
        uuid: m.bmc.uuid,
        power: power(m.power, m.faults.power_unreadable),
        boot: Some(m.bmc.boot),
        boot_targets: vec![BootTarget::None, BootTarget::Pxe, BootTarget::Disk],
        // Some BMCs show no drives: then the installer's look alone decides.
        drives: if m.faults.hides_drives { Vec::new() } else { drives.collect() },
        macs: Vec::new(),
        cores: Some(8),
        memory_bytes: Some(1 << 34),
        bios_version: None,
        bmc_version: None,
        unread: Vec::new(),
    }
}
