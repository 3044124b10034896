//! The installer of a machine, as its program behaves: claims until it is answered, looks at the disks, reports every
//! second and does what the directives say, one at a time; a write that has begun is not stopped.

use rackctl_wire::{
    Claim, ClaimAnswer, Directive, Disk as DiskReport, PROTOCOL, Report, Stage, StageError, WriteTicket,
};

use super::{
    exec::{Ctx, Topic, never, sleep},
    log::{Cause, What},
    machine::{self, Running, System},
    tool::Away,
};

/// Between two reports, milliseconds.
const INTERVAL: u64 = rackctl_wire::REPORT_INTERVAL_MS * 8 / 10;
const PATIENCE: u64 = rackctl_wire::API_PATIENCE_S * 1_000;

/// Asks for an offer and boots it. `false`: none came, firmware goes on to the disk.
pub async fn network_boot(ctx: &Ctx, machine: usize) -> bool {
    let ms = ctx.world().rng.range(2_000, 6_000);
    sleep(ctx, ms).await;
    let (mac, uuid) = match ctx.world().machines.get(machine) {
        Some(m) => (m.mac.clone(), m.uuid),
        None => return false,
    };
    let tools: Vec<_> = ctx.tools();
    let Some((node, token, host)) = tools.iter().find_map(|t| t.netboot(&mac, uuid)) else { return false };
    {
        let mut world = ctx.world();
        super::watch::on_dhcp(&mut world, &node);
        world.happened(What::DhcpInstaller { node: node.clone() });
    }
    let (hangs, ms) = {
        let mut world = ctx.world();
        let healed = world.healed;
        let ms = world.rng.range(8_000, 30_000);
        let hangs = match world.machines.get_mut(machine) {
            Some(m) if m.faults.never_claims > 0 && !healed => {
                m.faults.never_claims -= 1;
                true
            }
            _ => false,
        };
        (hangs, ms)
    };
    sleep(ctx, ms).await;
    {
        let mut world = ctx.world();
        let own = world.name(machine);
        world.happened(What::BootsInstaller { node: own });
        if let Some(m) = world.machines.get_mut(machine) {
            m.running = if hangs { Running::Stuck } else { Running::Installer };
        }
    }
    ctx.notify(Topic::Machine(machine));
    if hangs {
        return never().await;
    }
    Installer::new(ctx, machine, node, token, host).run(ctx).await;
    never().await
}

struct Installer {
    machine: usize,
    host: String,
    claim: Claim,
    session: String,
    stage: Stage,
    /// When the stage ends by itself.
    until: u64,
    disks: Option<Vec<DiskReport>>,
    ticket: Option<WriteTicket>,
    error: Option<StageError>,
    away_since: Option<u64>,
    last: Option<Directive>,
}

impl Installer {
    fn new(ctx: &Ctx, machine: usize, node: String, token: String, host: String) -> Installer {
        let mut world = ctx.world();
        let (attempt, key, system_key) = (world.rng.hex(), world.rng.hex(), world.rng.hex());
        let (ids, mac, boot_id) =
            world.machines.get(machine).map(|m| (m.ids(), m.mac.clone(), m.boot_id.clone())).unwrap_or_default();
        let claim = Claim {
            protocol: PROTOCOL,
            node,
            token,
            attempt,
            mac,
            machine: ids,
            installer_host_key: format!("ssh-ed25519 {key}"),
            system_host_key: format!("ssh-ed25519 {system_key}"),
            boot_id,
            cores: 8,
            memory_bytes: 1 << 34,
        };
        Installer {
            machine,
            host,
            claim,
            session: String::new(),
            stage: Stage::Claimed,
            until: 0,
            disks: None,
            ticket: None,
            error: None,
            away_since: None,
            last: None,
        }
    }

    async fn run(mut self, ctx: &Ctx) {
        let ms = ctx.world().rng.range(4_000, 12_000);
        sleep(ctx, ms).await;
        let Some(answer) = self.claims(ctx).await else { return };
        self.session = answer.session;
        self.enter(ctx, Stage::SecondStage, 4_000, 20_000);
        loop {
            self.go_on(ctx);
            if !self.reports(ctx).await {
                return;
            }
            if self.obeys(ctx) {
                return;
            }
            let pause = match self.until {
                0 => INTERVAL,
                at => at.saturating_sub(ctx.now()).clamp(1, INTERVAL),
            };
            sleep(ctx, pause).await;
        }
    }

    fn enter(&mut self, ctx: &Ctx, stage: Stage, least: u64, most: u64) {
        self.stage = stage;
        self.until = if most == 0 { 0 } else { ctx.now() + ctx.world().rng.range(least, most) };
    }

    async fn claims(&self, ctx: &Ctx) -> Option<ClaimAnswer> {
        let deadline = ctx.now() + PATIENCE;
        let mut pause = 1_000;
        loop {
            sleep(ctx, 20).await;
            let answer = match ctx.tool_at(&self.host) {
                Some(tool) => tool.claim(ctx, self.machine, &self.claim),
                None => Err(Away::Silent),
            };
            let lost = answer.is_ok() && {
                let mut world = ctx.world();
                let healed = world.healed;
                match world.machines.get_mut(self.machine) {
                    Some(m) if m.faults.claim_answers_lost > 0 && !healed => {
                        m.faults.claim_answers_lost -= 1;
                        true
                    }
                    _ => false,
                }
            };
            sleep(ctx, 20).await;
            match answer {
                Ok(answer) if !lost => return Some(answer),
                // A refusal is final: the program says why on the console and stays.
                Err(Away::Refused(_)) => return None,
                _ if ctx.now() > deadline => return None,
                _ => {}
            }
            sleep(ctx, pause).await;
            pause = (pause * 2).min(15_000);
        }
    }

    fn report(&self) -> Report {
        Report {
            protocol: PROTOCOL,
            node: self.claim.node.clone(),
            boot_id: self.claim.boot_id.clone(),
            stage: self.stage,
            done_bytes: None,
            total_bytes: None,
            disks: self.disks.clone(),
            hardware: None,
            ticket: self.ticket.as_ref().map(|t| t.id.clone()),
            error: self.error.clone(),
            uptime_ms: 1,
            stage_started_ms: Vec::new(),
        }
    }

    /// `false`: it has given up reporting.
    async fn reports(&mut self, ctx: &Ctx) -> bool {
        sleep(ctx, 10).await;
        let answer = match ctx.tool_at(&self.host) {
            Some(tool) => tool.report(ctx, self.machine, &self.session, self.report()),
            None => Err(Away::Silent),
        };
        match answer {
            Ok(directive) => {
                self.away_since = None;
                if self.last.as_ref() != Some(&directive) {
                    self.last = Some(directive);
                }
                true
            }
            Err(Away::Refused(401)) => match self.claims(ctx).await {
                Some(answer) => {
                    self.session = answer.session;
                    true
                }
                None => false,
            },
            Err(_) => ctx.now().saturating_sub(*self.away_since.get_or_insert(ctx.now())) <= PATIENCE,
        }
    }

    /// Stages that end by themselves.
    fn go_on(&mut self, ctx: &Ctx) {
        if self.until == 0 || ctx.now() < self.until {
            return;
        }
        match self.stage {
            Stage::SecondStage => self.enter(ctx, Stage::Examining, 500, 3_000),
            Stage::Examining => {
                self.enter(ctx, Stage::Ready, 0, 0);
                let disks = |m: &machine::Machine| m.disks.iter().map(machine::Disk::report).collect();
                self.disks = ctx.world().machines.get(self.machine).map(disks);
            }
            Stage::Fetching => self.begins_to_write(ctx),
            Stage::Writing => self.goes_on_writing(ctx),
            Stage::ReadBack => self.enter(ctx, Stage::BootSetup, 500, 3_000),
            Stage::BootSetup => self.has_written(ctx),
            _ => {}
        }
    }

    /// The newest directive. `true`: the machine restarts, this program is over.
    fn obeys(&mut self, ctx: &Ctx) -> bool {
        // One at a time: while a write goes on nothing else is looked at.
        if matches!(self.stage, Stage::Fetching | Stage::Writing | Stage::ReadBack | Stage::BootSetup) {
            return false;
        }
        match &self.last {
            Some(Directive::Reboot) => {
                machine::restart(ctx, self.machine);
                true
            }
            Some(Directive::Write(ticket)) if self.ticket.is_none() && self.stage == Stage::Ready => {
                self.ticket = Some((**ticket).clone());
                self.takes_ticket(ctx);
                false
            }
            _ => false,
        }
    }

    fn fail(&mut self, kind: &str, message: String) {
        self.error = Some(StageError { stage: self.stage, kind: kind.into(), message });
        self.stage = Stage::Failed;
        self.until = 0;
    }

    /// The disk that the ticket names, by serial and size.
    fn disk(&self, ctx: &Ctx) -> Option<usize> {
        let ticket = self.ticket.as_ref()?;
        let world = ctx.world();
        let disks = &world.machines.get(self.machine)?.disks;
        disks
            .iter()
            .position(|d| Some(&d.serial) == ticket.disk_serial.as_ref() && d.size_bytes == ticket.disk_size_bytes)
    }

    fn takes_ticket(&mut self, ctx: &Ctx) {
        let Some(disk) = self.disk(ctx) else {
            return self.fail("diskNotFound", "no disk has that serial and size".into());
        };
        let guid = self.ticket.as_ref().map(|t| t.disk_guid);
        let known = ctx.world().machines.get(self.machine).is_some_and(|m| {
            m.disks.get(disk).is_some_and(|d| d.guid == guid && d.system.as_ref().is_some_and(|s| s.whole))
        });
        if known {
            // Its key is this boot's, as the claim says: taken over with what stands on the disk.
            if let Some(s) = ctx.world().machines.get_mut(self.machine).and_then(|m| m.system_mut()) {
                s.host_key.clone_from(&self.claim.system_host_key);
            }
            self.enter(ctx, Stage::Written, 0, 0);
        } else {
            self.enter(ctx, Stage::Fetching, 3_000, 20_000);
        }
    }

    fn begins_to_write(&mut self, ctx: &Ctx) {
        let (Some(disk), Some(ticket)) = (self.disk(ctx), self.ticket.clone()) else {
            return self.fail("diskNotFound", "the disk is gone".into());
        };
        self.enter(ctx, Stage::Writing, 10_000, 90_000);
        let mut world = ctx.world();
        let node = world.name(self.machine);
        let Some(d) = world.machines.get_mut(self.machine).and_then(|m| m.disks.get_mut(disk)) else { return };
        let foreign = d.foreign;
        let over = d.system.take().filter(|s| s.whole).map(|s| s.config.generation);
        d.foreign = false;
        d.guid = Some(ticket.disk_guid);
        let what = What::Wipe {
            node,
            serial: d.serial.clone(),
            guid: ticket.disk_guid,
            run: ticket.node.run.clone(),
            ticket: ticket.id.clone(),
            foreign,
            over,
        };
        // Whose ticket it is: the process that answers at the installer's address.
        drop(world);
        let cause = Cause {
            process: ctx.tool_at(&self.host).map_or(0, |t| t.process),
            step: format!("{}/write-disk", self.claim.node),
            attempt: 1,
        };
        ctx.world().effect(&cause, what);
    }

    fn goes_on_writing(&mut self, ctx: &Ctx) {
        let (fails, dies) = {
            let mut world = ctx.world();
            let healed = world.healed;
            match world.machines.get_mut(self.machine) {
                Some(m) if m.faults.fails_writing > 0 && !healed => {
                    m.faults.fails_writing -= 1;
                    (true, false)
                }
                Some(m) if m.faults.dies_writing > 0 && !healed => {
                    m.faults.dies_writing -= 1;
                    m.running = Running::Stuck;
                    (false, true)
                }
                _ => (false, false),
            }
        };
        if fails {
            self.fail("io", "the disk gave an error".into());
        } else if dies {
            // It hangs: nothing more is heard of it.
            ctx.notify(Topic::Machine(self.machine));
            self.host.clear();
            self.until = 0;
        } else {
            self.enter(ctx, Stage::ReadBack, 5_000, 30_000);
        }
    }

    fn has_written(&mut self, ctx: &Ctx) {
        let (Some(disk), Some(ticket)) = (self.disk(ctx), self.ticket.clone()) else {
            return self.fail("diskNotFound", "the disk is gone".into());
        };
        self.enter(ctx, Stage::Written, 0, 0);
        let mut world = ctx.world();
        let node = world.name(self.machine);
        let generation = ticket.node.generation;
        if let Some(d) = world.machines.get_mut(self.machine).and_then(|m| m.disks.get_mut(disk)) {
            d.system = Some(System {
                config: ticket.node.clone(),
                sha256: ticket.system_sha256.clone(),
                host_key: self.claim.system_host_key.clone(),
                whole: true,
                etcd: None,
                data: None,
            });
        }
        super::watch::written(&mut world, &node, generation);
        world.happened(What::Written { node, guid: ticket.disk_guid, generation });
    }
}
