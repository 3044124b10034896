//! What happens to a world by itself: by the clock, or because people came by.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    etcd,
    exec::{Ctx, Owner, sleep},
    faults::Faults,
    log::What,
    machine::{self, Running},
};

/// Everything of `faults` that has a time.
pub fn befall(ctx: &Ctx, faults: &Faults) {
    for (rack, at, ms) in faults.racks.clone() {
        later(ctx, at, move |sim| async move { dark(&sim, &rack, ms).await });
    }
    for (node, at) in faults.machines.iter().filter_map(|(n, f)| Some((n.clone(), f.bmc_restarts_at?))) {
        later(ctx, at, move |sim| async move { bmc_restarts(&sim, node) });
    }
    for (host, at, by) in faults.clocks.clone() {
        later(ctx, at, move |sim| async move {
            let mut world = sim.world();
            world.durable.step_wall(host, by);
            world.happened(What::ClockSet { host: host.to_owned(), by_ms: by });
        });
    }
    for (number, at, ms) in faults.alarms.clone() {
        later(ctx, at, move |sim| async move {
            alarm(&sim, &format!("c{number}"), true);
            sleep(&sim, ms).await;
            alarm(&sim, &format!("c{number}"), false);
        });
    }
    let mut world = ctx.world();
    if let Some((number, version)) = faults.version {
        world.versions.insert(format!("c{number}"), version);
    }
    world.rogue = faults.rogue.map(|(at, ms)| (at, at + ms));
}

/// In so many milliseconds; on behalf of nobody.
fn later<F: Future<Output = ()> + 'static>(ctx: &Ctx, ms: u64, then: impl FnOnce(Ctx) -> F + 'static) {
    let sim = Rc::clone(ctx);
    ctx.spawn(Owner::World, async move {
        sleep(&sim, ms).await;
        then(Rc::clone(&sim)).await;
    });
}

/// F12
fn bmc_restarts(ctx: &Ctx, node: String) {
    let mut world = ctx.world();
    let (now, ms) = (world.now, 90_000);
    let index = world.number.get(&node).copied().unwrap_or(usize::MAX);
    if let Some(m) = world.machines.get_mut(index) {
        m.bmc.away_until = now + ms;
        m.bmc.boot = crate::model::power::BootOverride::CLEARED;
        m.bmc.sessions = 0;
    }
    world.happened(What::BmcAway { node, ms });
}

/// F48: its members run out of space, and somebody makes room.
pub fn alarm(ctx: &Ctx, name: &str, raised: bool) {
    let mut world = ctx.world();
    let now = world.now;
    let Some(cluster) = world.clusters.values_mut().find(|c| c.name == name) else { return };
    cluster.alarm = cluster.members.first().map(|m| (m.id, now)).filter(|_| raised);
    world.happened(What::Alarm { cluster: name.to_owned(), raised });
}

/// Whoever reads that a cluster was refused for its alarm makes room there; `since`: an entry of the log.
pub fn makes_room(ctx: &Ctx, since: usize) {
    let told = |text: &str| Some(text.strip_prefix("refused: cluster/")?.split_once(" alarm: ")?.0.to_owned());
    let names: BTreeSet<String> = ctx.world().log.entries[since..]
        .iter()
        .filter_map(|e| if let What::Note { text } = &e.what { told(text) } else { None })
        .collect();
    for name in names {
        alarm(ctx, &name, false);
    }
}

/// F50
pub async fn dark(ctx: &Ctx, rack: &str, ms: u64) {
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

/// A machine that loses its power and comes back, and nobody of ours had anything to do with it.
pub fn fails_by_itself(ctx: &Ctx, node: &str, after: u64, back: u64) {
    let machine = ctx.world().number.get(node).copied().unwrap_or(usize::MAX);
    later(ctx, after, move |sim| async move {
        machine::power_off(&sim, machine);
        sleep(&sim, back).await;
        // Where its rack is dark by then, it comes back with the rack, which knows only who ran when it went dark.
        while sim.world().machines.get(machine).is_some_and(|m| !m.feed) {
            sleep(&sim, 1_000).await;
        }
        machine::power_on(&sim, machine);
    });
}

/// F43: the disk that was taken out before a reinstallation is put back, and the machine started from it. Once more,
/// and it has its new disk again.
pub fn swap_disk(ctx: &Ctx, machine: usize) {
    {
        let mut world = ctx.world();
        let node = world.name(machine);
        let Some(m) = world.machines.get_mut(machine) else { return };
        let Some(old) = m.shelf.take() else { return };
        if let Some(disk) = m.disks.first_mut() {
            m.shelf = Some(std::mem::replace(disk, old));
        }
        let generation = m.system().map_or(0, |(_, s)| s.config.generation);
        world.happened(What::DiskSwapped { node, generation });
    }
    machine::power_off(ctx, machine);
    machine::power_on(ctx, machine);
}

/// People came by: what was broken is mended, what hangs is restarted.
pub fn heal(ctx: &Ctx) {
    let stuck: Vec<usize> = {
        let mut world = ctx.world();
        world.healed = true;
        world.happened(What::Note { text: "healed".into() });
        let now = world.now;
        world.rogue = None;
        world.versions.clear();
        for cluster in world.clusters.values_mut() {
            cluster.alarm = None;
        }
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
pub async fn aftermath(ctx: &Ctx) {
    let (began, mark) = (ctx.now(), ctx.world().log.entries.len());
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
    let led: Vec<String> = world.log.entries[mark..]
        .iter()
        .filter(|e| e.at >= began)
        .filter_map(|e| match &e.what {
            What::DhcpInstaller { node } | What::BootsInstaller { node } => Some(node.clone()),
            _ => None,
        })
        .collect();
    for node in led {
        super::check::reinstalls(&mut world, &node);
    }
}
