//! The drivers of the simulated world, as `run::machines` and `run::members` are those of the real one: the same
//! sequences of small operations, each of which takes time and may be cut by a crash. What is concluded from what they
//! see is [`crate::engine::look`], for both.

use std::{rc::Rc, time::Duration};

use rackctl_wire::{NodeConfig, PROTOCOL, WriteTicket};
use serde_json::{Value, json};

use super::{
    bmc::{self, Answer, Ask},
    exec::{Ctx, Topic, sleep, timeout, until},
    log::Cause as By,
    machine, member_drivers,
    tool::{Tool, fact, failed},
};
use crate::{
    engine::{
        Found,
        look::{self, Writing},
    },
    model::{
        Failure,
        facts::{BmcFacts, InstallPhase, NodeRecord},
        failure::Cause,
        power::{BootOverride, BootTarget, OverrideFor, PowerAction, PowerState},
    },
    plan::{StepKind, approval, wipe_guard},
    run::{
        claim_is_void,
        desk::{Order, SILENCE},
    },
    store::{BmcSession, Store},
};

const LISTEN_MS: u64 = 6_000;
const POWER_DEADLINE_MS: u64 = 120_000;
const BMC_DEADLINE_MS: u64 = 60_000;
/// Between two looks at something that does not call us.
const POLL_MS: u64 = 1_000;
/// The limit of what has none.
pub const FOR_EVER_MS: u64 = u64::MAX / 4;

/// A step in the hands of a driver.
#[derive(Clone)]
pub struct Doing {
    pub ctx: Ctx,
    pub tool: Rc<Tool>,
    pub by: By,
    pub node: String,
    pub machine: usize,
}

impl Doing {
    pub fn new(ctx: &Ctx, tool: &Rc<Tool>, node: &str, step: &str, attempt: u32) -> Doing {
        let machine = ctx.world().number.get(node).copied().unwrap_or(usize::MAX);
        let by = By { process: tool.process, step: step.to_owned(), attempt };
        Doing { ctx: Rc::clone(ctx), tool: Rc::clone(tool), by, node: node.to_owned(), machine }
    }

    fn desk<T>(&self, mut look: impl FnMut(&crate::run::desk::Desk) -> Option<T> + Unpin) -> impl Future<Output = T> {
        let tool = Rc::clone(&self.tool);
        until(&self.ctx, Topic::Desk(self.tool.process, self.machine), move || look(&tool.desk.borrow()))
    }

    fn no_target(&self) -> Failure {
        Failure::new(Cause::Guard, format!("{}: write its disk", self.node), "no disk was checked in this boot")
    }
}

/// A log-in at a BMC. A step that is cut off leaves it open, and its note.
pub struct Client<'a> {
    doing: &'a Doing,
    login: u64,
    /// Of the lease, when it was begun.
    lapses: u64,
}

impl<'a> Client<'a> {
    pub async fn open(doing: &'a Doing) -> Result<Client<'a>, Failure> {
        let login = doing.tool.logins.get() + 1;
        doing.tool.logins.set(login);
        let client = Client { doing, login, lapses: doing.tool.gate.lapses() };
        doing.tool.keep(client.note(None));
        client.ask(Ask::Open).await?;
        doing.tool.keep(client.note(Some("/s/1")));
        Ok(client)
    }

    fn note(&self, uri: Option<&str>) -> BmcSession {
        let (node, holder) = (self.doing.node.clone(), self.doing.tool.holder());
        let (login, at_ms) = (Some(self.login), Some(self.doing.ctx.now()));
        BmcSession { node, uri: uri.map(str::to_owned), holder, login, at_ms, abandoned: false }
    }

    pub async fn close(self) {
        // A planted bug forgets to log out.
        if !self.doing.tool.meddle.logs_out() || self.ask(Ask::Close).await.is_ok() {
            self.doing.tool.forget(&self.note(None));
        }
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, Failure> {
        let d = self.doing;
        d.tool.gate(&d.ctx).await;
        let mut limit = BMC_DEADLINE_MS;
        if matches!(ask, Ask::SetBoot(_) | Ask::Reset(_)) {
            // Nothing leaves unless the lease outlives it.
            d.tool.gate.check_since(self.lapses, &format!("{}: ask its BMC", d.node))?;
            limit = limit.min(d.tool.gate.longest().as_millis() as u64);
        }
        if !d.tool.meddle.has_deadlines() {
            limit = FOR_EVER_MS;
        }
        let answer = timeout(&d.ctx, limit, bmc::send(&d.ctx, &d.by, d.machine, ask)).await;
        d.tool.passed(&d.ctx).await;
        answer.unwrap_or_else(|| {
            Err(Failure::new(Cause::Deadline, format!("{}: ask its BMC", d.node), "no answer within 60 s"))
        })
    }

    fn odd(&self) -> Failure {
        Failure::new(Cause::Malformed, format!("{}: ask its BMC", self.doing.node), "it answers something else")
    }

    pub async fn power(&self) -> Result<PowerState, Failure> {
        match self.ask(Ask::Power).await? {
            Answer::Power(state) => Ok(state),
            _ => Err(self.odd()),
        }
    }

    async fn last_reset(&self) -> Result<Option<String>, Failure> {
        match self.ask(Ask::LastReset).await? {
            Answer::LastReset(at) => Ok(at),
            _ => Err(self.odd()),
        }
    }

    pub async fn facts(&self) -> Result<BmcFacts, Failure> {
        match self.ask(Ask::Facts).await? {
            Answer::Facts(facts) => Ok(*facts),
            _ => Err(self.odd()),
        }
    }

    pub async fn boot(&self) -> Result<BootOverride, Failure> {
        match self.ask(Ask::Boot).await? {
            Answer::Boot(boot) => Ok(boot),
            _ => Err(self.odd()),
        }
    }

    /// Set and read back.
    async fn set_boot(&self, wanted: BootOverride) -> Result<(), Failure> {
        self.ask(Ask::SetBoot(wanted)).await?;
        for _ in 0..3 {
            if crate::bmc::boot::as_asked(wanted, self.boot().await?) {
                return Ok(());
            }
            sleep(&self.doing.ctx, POLL_MS).await;
        }
        let why = "the BMC took the request and did not apply it";
        Err(Failure::new(Cause::AcceptedButIgnored, format!("{}: set the boot override", self.doing.node), why))
    }

    async fn reset(&self, action: PowerAction) -> Result<(), Failure> {
        if action != PowerAction::On {
            self.doing.tool.leave(&self.doing.ctx, &self.doing.by.step).await?;
        }
        self.ask(Ask::Reset(action)).await.map(|_| ())
    }

    /// Asks once, and looks until the BMC shows it; a reset whose answer was lost is not sent again.
    pub async fn set_power(&self, on: bool, force: bool) -> Result<(), Failure> {
        let d = self.doing;
        let deadline = d.ctx.now() + POWER_DEADLINE_MS;
        let mut ways = match (on, force) {
            (true, _) => vec![PowerAction::On],
            (false, false) => vec![PowerAction::GracefulShutdown],
            (false, true) => vec![PowerAction::ForceOff, PowerAction::GracefulShutdown],
        };
        let mut next_at = 0;
        loop {
            match self.power().await {
                Ok(state) if crate::bmc::reset::reached(on, state) => return Ok(()),
                Ok(_) if d.ctx.now() >= next_at => {
                    if let Some(action) = ways.pop() {
                        match self.reset(action).await {
                            Ok(()) => {}
                            Err(f) if matches!(f.cause, Cause::Unreachable | Cause::Deadline) => {}
                            Err(f) => return Err(f),
                        }
                        next_at = d.ctx.now() + 30_000;
                    }
                }
                Ok(_) => {}
                Err(f) if matches!(f.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy) => {}
                Err(f) => return Err(f),
            }
            if d.ctx.now() > deadline {
                let why = "the BMC took the request and the power did not follow";
                return Err(Failure::new(Cause::AcceptedButIgnored, format!("{}: power", d.node), why));
            }
            sleep(&d.ctx, POLL_MS).await;
        }
    }

    /// What `power` asks for, and until it is seen.
    async fn change(&self, action: PowerAction, force: bool) -> Result<(), Failure> {
        match action {
            PowerAction::On => self.set_power(true, force).await,
            PowerAction::ForceOff => self.cut().await,
            PowerAction::GracefulShutdown => self.set_power(false, force).await,
            PowerAction::PowerCycle => {
                if force {
                    self.cut().await?;
                } else {
                    self.set_power(false, false).await?;
                }
                self.set_power(true, force).await
            }
            PowerAction::ForceRestart | PowerAction::GracefulRestart => {
                let before = self.last_reset().await?;
                self.reset(action).await?;
                self.restarted(before).await
            }
        }
    }

    async fn cut(&self) -> Result<(), Failure> {
        let deadline = self.doing.ctx.now() + POWER_DEADLINE_MS;
        if self.power().await? == PowerState::Off {
            return Ok(());
        }
        match self.reset(PowerAction::ForceOff).await {
            Err(failure) if failure.cause != Cause::Unreachable => return Err(failure),
            _ => {}
        }
        while self.power().await? != PowerState::Off {
            if self.doing.ctx.now() > deadline {
                let why = "the BMC took the request and the machine is not off";
                let what = format!("{}: cut the power", self.doing.node);
                return Err(Failure::new(Cause::AcceptedButIgnored, what, why));
            }
            sleep(&self.doing.ctx, POLL_MS).await;
        }
        Ok(())
    }

    async fn restarted(&self, before: Option<String>) -> Result<(), Failure> {
        let deadline = self.doing.ctx.now() + POWER_DEADLINE_MS;
        loop {
            let (power, last) = (self.power().await?, self.last_reset().await?);
            if power == PowerState::On && (last.is_none() || last != before) {
                return Ok(());
            }
            if self.doing.ctx.now() > deadline {
                let why = "the BMC took the request and shows no reset";
                return Err(Failure::new(Cause::AcceptedButIgnored, format!("{}: restart", self.doing.node), why));
            }
            sleep(&self.doing.ctx, POLL_MS).await;
        }
    }

    async fn wait_until(&self, wanted: PowerState) -> Result<(), Failure> {
        while self.power().await? != wanted {
            sleep(&self.doing.ctx, POLL_MS).await;
        }
        Ok(())
    }

    async fn cut_first(&self) -> Result<(), Failure> {
        let d = self.doing;
        if self.power().await? == PowerState::Off {
            return Ok(());
        }
        self.reset(PowerAction::ForceOff).await?;
        let off = timeout(&d.ctx, POWER_DEADLINE_MS, self.wait_until(PowerState::Off)).await;
        off.unwrap_or_else(|| {
            let why = "the BMC took the request and it is still on";
            Err(Failure::new(Cause::AcceptedButIgnored, format!("{}: cut its power", d.node), why))
        })
    }
}

/// The two ways in which a driver may use a client, with the session closed on every way out.
macro_rules! with_bmc {
    ($doing:expr, |$client:ident| $body:expr) => {{
        let $client = Client::open($doing).await?;
        let result = async { $body }.await;
        $client.close().await;
        result
    }};
}

pub async fn observe(d: &Doing, kind: &StepKind, resumed: bool, intent: Option<&Value>) -> (Found, Value) {
    match look_at(d, kind, resumed, intent).await {
        Ok(found) => found,
        Err(failure) => (Found::Unknown(failure), Value::Null),
    }
}

async fn look_at(d: &Doing, kind: &StepKind, resumed: bool, intent: Option<&Value>) -> Result<(Found, Value), Failure> {
    let not_done = Ok((Found::NotDone, Value::Null));
    match kind {
        StepKind::BootInstaller { .. } => {
            if !resumed {
                let last = d.tool.last_reset.borrow().get(&d.node).cloned().flatten();
                return Ok((may_take(d).await?, json!({ "lastReset": last })));
            }
            let seen = async { with_bmc!(d, |c| Ok::<_, Failure>((c.power().await?, c.last_reset().await?))) }.await;
            let is_off = matches!(seen, Ok((PowerState::Off, _)));
            if d.tool.desk.borrow().claim_of(&d.node).is_some() && !is_off {
                return Ok((Found::Done, json!("the installer has claimed")));
            }
            let (power, last_reset) = seen?;
            let before = intent.and_then(|i| i.get("lastReset")).and_then(Value::as_str);
            let found = match look::installer_booted(power, last_reset.as_deref(), before) {
                Found::NotDone => may_take(d).await?,
                found => found,
            };
            Ok((found, json!({ "lastReset": last_reset })))
        }
        StepKind::WriteDisk { .. } => {
            let Some(ticket) = ticket_id(d) else { return not_done };
            if !resumed {
                return Ok((may_wipe(d).await?, Value::Null));
            }
            let node = d.node.clone();
            let heard = timeout(&d.ctx, LISTEN_MS, d.desk(move |desk| desk.report_of(&node).cloned())).await;
            let failed = d.tool.desk.borrow().installer_failure(&d.node);
            Ok(match look::write_begun(&d.node, &ticket, heard.as_ref(), failed) {
                Writing::Written => (Found::Done, json!("written and read back")),
                Writing::NotBegun => (may_wipe(d).await?, json!("the ticket never reached the installer")),
                Writing::UnderWay => {
                    let ticket = make_ticket(d, kind)?;
                    d.tool.desk.borrow_mut().order(&d.node, Order::Write(Box::new(ticket)));
                    (Found::UnderWay, json!("the installer is writing"))
                }
                Writing::Ended(found) => (found, Value::Null),
            })
        }
        StepKind::RebootToDisk if resumed => {
            let node = d.node.clone();
            let heard = timeout(&d.ctx, LISTEN_MS, d.desk(move |desk| desk.report_of(&node).cloned())).await;
            Ok((look::rebooted(heard.as_ref()), Value::Null))
        }
        StepKind::SetPower { action, .. } => {
            let (power, last) = with_bmc!(d, |c| Ok::<_, Failure>((c.power().await?, c.last_reset().await?)))?;
            let before = intent.and_then(|i| i.get("lastReset")).and_then(Value::as_str);
            let found = match look::power_changed(&d.node, *action, power, last.as_deref(), resumed, before) {
                Found::NotDone if *action != PowerAction::On => may_go(d).await,
                found => found,
            };
            Ok((found, json!({ "power": power, "lastReset": last })))
        }
        StepKind::PowerOn => {
            let power = with_bmc!(d, |c| c.power().await)?;
            Ok((look::powered(power), Value::Null))
        }
        _ => not_done,
    }
}

/// The last guards before a disk is written: approval, and the quorum of the cluster that it may belong to.
async fn may_wipe(d: &Doing) -> Result<Found, Failure> {
    d.tool.targets.borrow().get(&d.node).ok_or_else(|| d.no_target())?;
    let plan = d.tool.plan();
    let digest = plan.artifacts.get(&d.node).map(|a| a.system_sha256.as_str()).unwrap_or_default();
    let shown = plan.bound.get(&d.node).map(String::as_str).unwrap_or_default();
    let wish = approval::Wish { node: &d.node, disk: shown, artifact: digest, kind: "write-disk" };
    let given = d.tool.approval.borrow().clone();
    if let Err(failure) = approval::allows(given.as_ref(), &wish, d.tool.unix_ms(&d.ctx)) {
        return Ok(Found::Contradiction(failure));
    }
    may_take(d).await
}

/// What the plan saw is minutes old when the last of many machines has its turn.
async fn may_go(d: &Doing) -> Found {
    if !d.tool.sees.get() {
        return Found::NotDone;
    }
    let fleet = Rc::clone(&d.tool.fleet);
    for cluster in fleet.clusters.values().filter(|c| c.members.contains(&d.node)) {
        if let Some(failure) = member_drivers::may_pause(d, &cluster.name, &d.node).await {
            return Found::Held(failure);
        }
    }
    Found::NotDone
}

async fn may_take(d: &Doing) -> Result<Found, Failure> {
    let Some(record) = d.tool.node_record(&d.node)?.filter(NodeRecord::may_serve) else {
        return Ok(Found::NotDone);
    };
    if record.phase == InstallPhase::Installing {
        return Ok(may_go(d).await);
    }
    let fleet = Rc::clone(&d.tool.fleet);
    for cluster in fleet.clusters.values().filter(|c| c.members.contains(&d.node)) {
        if let Some(failure) = member_drivers::may_lose(d, &cluster.name, &d.node).await {
            return Ok(Found::Held(failure));
        }
    }
    Ok(Found::NotDone)
}

pub async fn act(d: &Doing, kind: &StepKind, attempt: u32) -> Result<(), Failure> {
    match kind {
        StepKind::BootInstaller { target, mode } => {
            let seconds = kind.deadline_s() + StepKind::AwaitClaim.deadline_s();
            let until = d.tool.until(&d.ctx, seconds);
            let wanted = BootOverride { target: *target, lasts: OverrideFor::Once, mode: Some(*mode) };
            with_bmc!(d, |c| {
                c.cut_first().await?;
                if d.tool.desk.borrow_mut().void(&d.node) {
                    d.tool.append(&d.ctx, claim_is_void(&d.node)).map_err(|e| failed(&e))?;
                }
                d.tool.gate(&d.ctx).await;
                d.tool.gate.check(&format!("{}: offer network boot", d.node))?;
                d.tool.desk.borrow_mut().offer(&d.node, attempt, until);
                d.tool.offer(&d.ctx, &d.by, &d.node, Some(attempt));
                sleep(&d.ctx, 30).await;
                c.set_boot(wanted).await?;
                c.set_power(true, false).await
            })
        }
        StepKind::WriteDisk { generation, .. } => {
            d.tool.gate.check(&format!("{}: write its disk", d.node))?;
            let ticket = make_ticket(d, kind)?;
            let target = d.tool.targets.borrow().get(&d.node).cloned().ok_or_else(|| d.no_target())?;
            let claim = d.tool.desk.borrow().claim_of(&d.node).cloned().ok_or_else(|| d.no_target())?;
            let record = NodeRecord {
                generation: *generation,
                run: d.tool.run.clone(),
                phase: InstallPhase::Installing,
                system_host_key: claim.system_host_key,
                disk_guid: target.disk_guid,
                disk_serial: target.disk.serial.clone(),
                system_sha256: ticket.system_sha256.clone(),
                at: d.tool.unix_ms(&d.ctx),
                over: wipe_guard::over(&target, d.tool.node_record(&d.node)?.as_ref()),
            };
            d.tool.gate(&d.ctx).await;
            d.tool.durable.store().put_node_record(&d.node, &record).map_err(|e| failed(&e))?;
            d.tool.desk.borrow_mut().order(&d.node, Order::Write(Box::new(ticket)));
            Ok(())
        }
        StepKind::WithdrawNetboot => {
            d.tool.gate(&d.ctx).await;
            withdraw(d);
            sleep(&d.ctx, 30).await;
            clear_override(d).await
        }
        StepKind::RebootToDisk => {
            d.tool.gate(&d.ctx).await;
            d.tool.desk.borrow_mut().order(&d.node, Order::Reboot);
            Ok(())
        }
        StepKind::PowerOn => with_bmc!(d, |c| c.set_power(true, false).await),
        StepKind::Baseline(part) => {
            let why = "simulated machines have no baseline: no fleet of a simulation asks for one";
            Err(Failure::new(Cause::Refused, format!("{}: {}", d.node, part.word()), why))
        }
        StepKind::SetPower { action, force, .. } => with_bmc!(d, |c| c.change(*action, *force).await),
        StepKind::SetBoot { target, persistent, .. } => {
            let lasts = if *persistent { OverrideFor::Persistent } else { OverrideFor::Once };
            let wanted = match target {
                BootTarget::None => BootOverride::CLEARED,
                target => BootOverride { target: *target, lasts, mode: None },
            };
            with_bmc!(d, |c| c.set_boot(wanted).await)
        }
        _ => Ok(()),
    }
}

/// What was seen to hold, for the journal.
pub async fn verify(d: &Doing, kind: &StepKind) -> Result<Value, Failure> {
    match kind {
        StepKind::SetPower { .. } => {
            let power = with_bmc!(d, |c| c.power().await)?;
            Ok(json!({ "power": power }))
        }
        StepKind::SetBoot { .. } => {
            let boot = with_bmc!(d, |c| c.boot().await)?;
            Ok(json!({ "boot": crate::bmc::boot::words(boot) }))
        }
        _ => proof(d, kind).await.map(|()| Value::Null),
    }
}

async fn proof(d: &Doing, kind: &StepKind) -> Result<(), Failure> {
    let node = d.node.clone();
    match kind {
        StepKind::CheckIdentity => {
            let (facts, last_reset) =
                with_bmc!(d, |c| Ok::<_, Failure>((c.facts().await?, c.last_reset().await.ok().flatten())))?;
            let spec = d.tool.fleet.nodes.get(&d.node).ok_or_else(|| d.no_target())?;
            if let Err(differing) = crate::bmc::identity::compare(&spec.identity, &facts) {
                let why = differing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                return Err(Failure::new(Cause::Mismatch, format!("{node}: check identity"), why));
            }
            d.tool.last_reset.borrow_mut().insert(node, last_reset);
            Ok(())
        }
        StepKind::BootInstaller { .. } | StepKind::PowerOn => with_bmc!(d, |c| c.wait_until(PowerState::On).await),
        StepKind::AwaitClaim => d.desk(move |desk| look::claimed(desk.claim_of(&node), desk.refusal_of(&node))).await,
        StepKind::CheckDisks => check_disks(d).await,
        StepKind::WriteDisk { .. } => {
            let ticket = ticket_id(d).ok_or_else(|| d.no_target())?;
            let stages = d
                .desk(move |desk| look::written(desk.report_of(&node), desk.installer_failure(&node), &ticket))
                .await?;
            let draft = fact(&d.node, format!("{}/write-disk", d.node), json!({ "stages": stages }));
            d.tool.append(&d.ctx, draft).map(|_| ()).map_err(|e| failed(&e))
        }
        StepKind::WithdrawNetboot => {
            look::withdrawn(&node, d.tool.offers.borrow().contains_key(&node))?;
            let boot = with_bmc!(d, |c| c.boot().await)?;
            look::cleared(&node, boot, &crate::bmc::boot::words(boot))
        }
        StepKind::RebootToDisk => {
            let told = d.ctx.now();
            let waited = || Duration::from_millis(d.ctx.now() - told);
            while !look::has_left(None, d.tool.silent_for(&d.ctx, &node).unwrap_or_else(waited), SILENCE) {
                sleep(&d.ctx, POLL_MS).await;
            }
            Ok(())
        }
        StepKind::AwaitInstalled { generation } => await_installed(d, *generation).await,
        _ => Ok(()),
    }
}

fn withdraw(d: &Doing) {
    d.tool.desk.borrow_mut().withdraw(&d.node);
    d.tool.offer(&d.ctx, &d.by, &d.node, None);
}

/// Every way out of a failed track.
pub async fn finalize(d: &Doing, reason: &str) -> Result<(), Failure> {
    d.tool.gate(&d.ctx).await;
    d.tool.desk.borrow_mut().withdraw(&d.node);
    d.tool.desk.borrow_mut().order(&d.node, Order::Stop(reason.to_owned()));
    d.tool.offer(&d.ctx, &d.by, &d.node, None);
    let cleared = clear_override(d).await;
    bring_back(d).await.and(cleared)
}

async fn bring_back(d: &Doing) -> Result<(), Failure> {
    let records = d.tool.durable.store().journal(&d.tool.run).map_err(|e| failed(&e))?;
    if !crate::run::owes_power(&d.tool.plan(), &records, &d.node) {
        return Ok(());
    }
    with_bmc!(d, |c| match c.power().await? {
        PowerState::Off => c.set_power(true, false).await,
        _ => Ok(()),
    })
}

async fn clear_override(d: &Doing) -> Result<(), Failure> {
    with_bmc!(d, |c| match c.boot().await?.is_cleared() {
        true => Ok(()),
        false => c.set_boot(BootOverride::CLEARED).await,
    })
}

fn ticket_id(d: &Doing) -> Option<String> {
    let targets = d.tool.targets.borrow();
    targets.get(&d.node).map(|t| format!("{}/{}/{}", d.tool.run, d.node, t.disk_guid))
}

async fn check_disks(d: &Doing) -> Result<(), Failure> {
    let node = d.node.clone();
    let disks = d.desk(move |desk| look::disks_seen(desk.report_of(&node), desk.installer_failure(&node))).await?;
    let spec = d.tool.fleet.nodes.get(&d.node).ok_or_else(|| d.no_target())?;
    let claim = d.tool.desk.borrow().claim_of(&d.node).cloned().ok_or_else(|| d.no_target())?;
    let reinstall = matches!(d.tool.plan().goal, crate::model::goal::Goal::Install { reinstall: true, .. });
    let record = d.tool.node_record(&d.node)?;
    let target = look::target(spec, &d.tool.run, &claim, &disks, record.as_ref(), reinstall)?;
    let draft = fact(&d.node, format!("{}/check-disks", d.node), json!({ "target": target }));
    d.tool.append(&d.ctx, draft).map_err(|e| failed(&e))?;
    d.tool.targets.borrow_mut().insert(d.node.clone(), target);
    Ok(())
}

fn make_ticket(d: &Doing, kind: &StepKind) -> Result<WriteTicket, Failure> {
    let StepKind::WriteDisk { system_sha256, generation } = kind else { return Err(d.no_target()) };
    let target = d.tool.targets.borrow().get(&d.node).cloned().ok_or_else(|| d.no_target())?;
    let id = ticket_id(d).ok_or_else(|| d.no_target())?;
    Ok(WriteTicket {
        id,
        disk_serial: target.disk.serial.clone(),
        disk_wwn: target.disk.wwn.clone(),
        disk_size_bytes: target.disk.size_bytes,
        disk_guid: target.disk_guid,
        system_sha256: system_sha256.clone(),
        node: NodeConfig {
            protocol: PROTOCOL,
            node: d.node.clone(),
            fleet: d.tool.fleet.id.clone(),
            run: d.tool.run.clone(),
            generation: *generation,
            hostname: d.node.clone(),
            interfaces: Vec::new(),
            authorized_keys: Vec::new(),
            dns: Vec::new(),
        },
    })
}

async fn await_installed(d: &Doing, generation: u64) -> Result<(), Failure> {
    let record = d.tool.node_record(&d.node)?.ok_or_else(|| {
        Failure::new(Cause::Guard, format!("{}: wait for its system", d.node), "the store knows no installation of it")
    })?;
    loop {
        sleep(&d.ctx, 100).await;
        match machine::status(&d.ctx, d.machine, &record.system_host_key) {
            Ok(status) => {
                look::is_the_installed_one(&d.node, &record, generation, &status)?;
                let record =
                    NodeRecord { phase: InstallPhase::Installed, at: d.tool.unix_ms(&d.ctx), over: None, ..record };
                d.tool.gate(&d.ctx).await;
                d.tool.durable.store().put_node_record(&d.node, &record).map_err(|e| failed(&e))?;
                super::watch::installed(&mut d.ctx.world(), &d.node, generation);
                return Ok(());
            }
            Err(failure) if failure.cause == Cause::Untrusted => return Err(failure),
            Err(_) => {
                // Woken when the machine changes; looked at again now and then all the same.
                let boots = d.ctx.world().machines.get(d.machine).map(|m| (m.boots, m.running));
                let (ctx, machine) = (Rc::clone(&d.ctx), d.machine);
                let changed = until(&d.ctx, Topic::Machine(d.machine), move || {
                    let now = ctx.world().machines.get(machine).map(|m| (m.boots, m.running));
                    (now != boots).then_some(())
                });
                timeout(&d.ctx, 30_000, changed).await;
            }
        }
    }
}
