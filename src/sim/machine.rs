//! A machine: hardware, disks, firmware, and what runs on it. Its boot is a task of its own that dies with the power.

use std::rc::Rc;

use rackctl_wire::{Content, Disk as DiskReport, EtcdMember, MachineIds, NodeConfig, NodeStatus, PROTOCOL, Signature};
use uuid::Uuid;

use super::{
    bmc::Bmc,
    etcd,
    exec::{Ctx, Owner, Topic, never, sleep},
    faults::MachineFaults,
    installer,
    log::What,
};
use crate::model::{
    Failure,
    failure::Cause,
    power::{BootTarget, OverrideFor},
};

/// What a disk bears that we wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct System {
    pub config: NodeConfig,
    pub sha256: String,
    pub host_key: String,
    /// Everything was written and read back.
    pub whole: bool,
    /// How its etcd is to be run.
    pub etcd: Option<EtcdMember>,
    /// Cluster and member id of its data directory.
    pub data: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    pub name: String,
    pub serial: String,
    pub size_bytes: u64,
    /// Somebody else's data lies on it.
    pub foreign: bool,
    /// And nobody sees that.
    pub hidden: bool,
    pub guid: Option<Uuid>,
    pub system: Option<System>,
}

impl Disk {
    pub fn report(&self) -> DiskReport {
        let signature = |kind: &str| Signature { kind: kind.into(), offset_bytes: 512, label: None, uuid: None };
        let guid = self.guid.filter(|_| !self.hidden);
        let mut signatures: Vec<Signature> = guid.iter().map(|_| signature("gpt")).collect();
        if self.foreign && !self.hidden {
            signatures.push(Signature { label: Some("photos".into()), ..signature("ext4") });
        }
        DiskReport {
            name: self.name.clone(),
            serial: Some(self.serial.clone()),
            wwn: None,
            model: Some("SIM".into()),
            size_bytes: self.size_bytes,
            content: Content { disk_guid: guid, signatures, first_nonzero_byte: None },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    Nothing,
    Firmware,
    Installer,
    System,
    /// Powered, and nothing will come of it until somebody cuts the power.
    Stuck,
}

/// Its etcd while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub cluster: u64,
    pub member: u64,
    /// Virtual time from which on it has what the leader has; `None`: never.
    pub synced_at: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Machine {
    pub name: String,
    pub serial: String,
    pub uuid: Uuid,
    pub mac: String,
    pub rack: String,
    pub bmc: Bmc,
    /// Its rack has power.
    pub feed: bool,
    pub power: bool,
    pub running: Running,
    /// Counts the boots: what an earlier one does is void.
    pub boots: u64,
    pub boot_id: String,
    pub disks: Vec<Disk>,
    /// Where the firmware looks first when nobody overrides.
    pub net_first: bool,
    pub etcd: Option<Member>,
    pub faults: MachineFaults,
    /// When its etcd last went away, and whether a request of ours took it.
    pub away: (u64, bool),
    /// When its etcd last began to run.
    pub serving_since: u64,
    /// A reset of ours is taking its power.
    pub cut_by_us: bool,
    /// A disk that was taken out, with what was on it.
    pub shelf: Option<Disk>,
}

impl Machine {
    pub fn ids(&self) -> MachineIds {
        MachineIds {
            uuid: Some(self.uuid),
            serial: Some(self.serial.clone()),
            board_serial: None,
            sku: None,
            macs: vec![self.mac.clone()],
        }
    }

    /// The disk that firmware starts: the first with a whole system.
    pub fn bootable(&self) -> Option<usize> {
        self.disks.iter().position(|d| d.system.as_ref().is_some_and(|s| s.whole))
    }

    pub fn system(&self) -> Option<(&Disk, &System)> {
        let disk = self.disks.get(self.bootable()?)?;
        Some((disk, disk.system.as_ref()?))
    }

    pub fn system_mut(&mut self) -> Option<&mut System> {
        let index = self.bootable()?;
        self.disks.get_mut(index)?.system.as_mut()
    }
}

/// Milliseconds that firmware takes.
async fn post(ctx: &Ctx) {
    let ms = ctx.world().rng.range(20_000, 60_000);
    sleep(ctx, ms).await;
}

pub fn power_on(ctx: &Ctx, machine: usize) {
    {
        let mut world = ctx.world();
        let node = world.name(machine);
        let Some(m) = world.machines.get_mut(machine) else { return };
        if !m.feed || m.power {
            return;
        }
        m.power = true;
        m.bmc.resets += 1;
        world.happened(What::PowerOn { node });
    }
    begin(ctx, machine);
}

pub fn power_off(ctx: &Ctx, machine: usize) {
    let was = {
        let mut world = ctx.world();
        let served = world.serves(machine);
        let node = world.name(machine);
        let was = world.machines.get(machine).is_some_and(|m| m.power);
        if was && world.machines.get(machine).is_some_and(|m| !m.cut_by_us) {
            super::watch::lost_power(&mut world, &node);
        }
        if was {
            world.happened(What::PowerOff { node, served });
        }
        was
    };
    if !was {
        return;
    }
    etcd::stop(ctx, machine);
    ctx.kill(Owner::Machine(machine));
    if let Some(m) = ctx.world().machines.get_mut(machine) {
        m.power = false;
        m.running = Running::Nothing;
    }
    ctx.notify(Topic::Machine(machine));
}

/// Off and on again, or the system's own restart: whatever runs is gone, firmware begins.
pub fn restart(ctx: &Ctx, machine: usize) {
    etcd::stop(ctx, machine);
    begin(ctx, machine);
}

fn begin(ctx: &Ctx, machine: usize) {
    ctx.kill(Owner::Machine(machine));
    {
        let mut world = ctx.world();
        let boot_id = world.rng.hex();
        let Some(m) = world.machines.get_mut(machine) else { return };
        m.running = Running::Firmware;
        m.boots += 1;
        m.boot_id = boot_id;
    }
    ctx.notify(Topic::Machine(machine));
    let sim = Rc::clone(ctx);
    ctx.spawn(Owner::Machine(machine), async move { boot(sim, machine).await });
}

async fn boot(ctx: Ctx, machine: usize) {
    post(&ctx).await;
    // Firmware reads the override now; one that lasts `once` is used up, unless this BMC keeps it.
    let network = {
        let mut world = ctx.world();
        let healed = world.healed;
        let Some(m) = world.machines.get_mut(machine) else { return };
        let over = m.bmc.boot;
        let ignored = !over.is_cleared() && m.faults.override_not_honoured > 0 && !healed;
        if ignored {
            m.faults.override_not_honoured -= 1;
        }
        let sticks = m.faults.sticky && !healed;
        if over.lasts == OverrideFor::Once && !sticks {
            m.bmc.boot = crate::model::power::BootOverride::CLEARED;
        }
        match over.target {
            BootTarget::Pxe | BootTarget::Http if !over.is_cleared() && !ignored => true,
            BootTarget::Disk if !over.is_cleared() && !ignored => false,
            _ => m.net_first,
        }
    };
    if network && installer::network_boot(&ctx, machine).await {
        return;
    }
    from_disk(&ctx, machine).await;
}

async fn from_disk(ctx: &Ctx, machine: usize) {
    let whole = {
        let mut world = ctx.world();
        let node = world.name(machine);
        let whole = world.machines.get(machine).is_some_and(|m| m.bootable().is_some());
        if whole {
            world.happened(What::BootsDisk { node, whole });
        } else {
            world.happened(What::NothingToBoot { node });
        }
        if let Some(m) = world.machines.get_mut(machine).filter(|_| !whole) {
            m.running = Running::Stuck;
        }
        whole
    };
    ctx.notify(Topic::Machine(machine));
    if !whole {
        return never().await;
    }
    let ms = ctx.world().rng.range(15_000, 60_000);
    sleep(ctx, ms).await;
    {
        let mut world = ctx.world();
        let (node, healed) = (world.name(machine), world.healed);
        let Some(m) = world.machines.get_mut(machine) else { return };
        if m.faults.hangs_at_boot > 0 && !healed {
            m.faults.hangs_at_boot -= 1;
            m.running = Running::Stuck;
            return;
        }
        m.running = Running::System;
        let generation = m.system().map_or(0, |(_, s)| s.config.generation);
        world.happened(What::Up { node, generation });
    }
    ctx.notify(Topic::Machine(machine));
    sleep(ctx, 1_500).await;
    // Started again at every boot, as it was told once.
    let config = ctx.world().machines.get(machine).and_then(|m| m.system().and_then(|(_, s)| s.etcd.clone()));
    if let Some(config) = config {
        let _ = etcd::start(ctx, machine, &config);
    }
    never().await
}

/// What the installed system says over SSH to somebody who expects this host key.
pub fn status(ctx: &Ctx, machine: usize, host_key: &str) -> Result<NodeStatus, Failure> {
    let world = ctx.world();
    let what = || format!("{}: ask its system", world.name(machine));
    let silent = || Failure::new(Cause::Unreachable, what(), "no answer over SSH");
    let m = world.machines.get(machine).filter(|m| m.running == Running::System).ok_or_else(silent)?;
    let (disk, system) = m.system().ok_or_else(silent)?;
    if system.host_key != host_key {
        return Err(Failure::new(Cause::Untrusted, what(), "another host key than the pinned one"));
    }
    let etcd = system.etcd.as_ref().map(|configured| rackctl_wire::EtcdStatus {
        configured: configured.clone(),
        running: m.etcd.is_some(),
        starts: 1,
        last_exit: None,
        has_data: system.data.is_some(),
        log_tail: Vec::new(),
    });
    Ok(NodeStatus {
        protocol: PROTOCOL,
        config: system.config.clone(),
        boot_id: m.boot_id.clone(),
        uptime_ms: 1,
        slot: "a".into(),
        root_disk_guid: disk.guid.unwrap_or_default(),
        root_disk_serial: Some(disk.serial.clone()),
        system_sha256: system.sha256.clone(),
        machine: m.ids(),
        unix_ms: Some((super::durable::EPOCH_MS + world.now).saturating_add_signed(if world.healed {
            0
        } else {
            m.faults.clock_ms
        })),
        etcd,
    })
}
