//! Carries the steps of a node's track out: BMC, boot table, installer and installed system.
//!
//! Three entries, as the engine asks: [`observe`], [`act`], [`verify`]. Each reports; none decides what is next.

use std::time::Duration;

use rackctl_wire::{InterfaceConfig, NodeConfig, NodeStatus, PROTOCOL, WriteTicket};
use serde_json::{Value, json};

use super::{
    World, clock,
    desk::{Desk, Order, SILENCE},
    world::store_failure,
};
use crate::{
    bmc,
    engine::{
        Found,
        look::{self, Writing},
    },
    model::{
        Failure,
        facts::{InstallPhase, NodeRecord},
        failure::Cause,
        goal::Goal,
        power::{BootOverride, OverrideFor, PowerAction, PowerState},
    },
    plan::{StepKind, approval, wipe_guard},
    store::{Draft, RecordKind},
};

/// Between two looks at something that does not call us.
const POLL: Duration = Duration::from_millis(500);
/// Between two calls at a system that starts: an SSH client each.
const CALL_FIRST: Duration = Duration::from_millis(200);
const CALL_MOST: Duration = Duration::from_secs(2);
/// How long a resumed run listens for a machine's report before it takes the machine for gone.
const LISTEN: Duration = Duration::from_secs(6);
/// Power must follow within this.
const POWER_DEADLINE: Duration = Duration::from_secs(120);

pub(super) async fn observe(
    world: &World,
    node: &str,
    kind: &StepKind,
    resumed: bool,
    intent: Option<&Value>,
) -> (Found, Value) {
    match look(world, node, kind, resumed, intent).await {
        Ok(found) => found,
        Err(failure) => (Found::Unknown(failure), Value::Null),
    }
}

async fn look(
    world: &World,
    node: &str,
    kind: &StepKind,
    resumed: bool,
    intent: Option<&Value>,
) -> Result<(Found, Value), Failure> {
    let not_done = Ok((Found::NotDone, Value::Null));
    match kind {
        StepKind::BootInstaller { .. } => {
            if !resumed {
                // Its power is cut first: from there on its cluster does without it.
                return Ok((may_take(world, node).await?, json!({ "lastReset": world.last_reset(node) })));
            }
            let seen = async {
                let client = world.bmc(node).await?;
                let seen = async { Ok::<_, Failure>((client.power().await?, client.last_reset_time().await?)) }.await;
                close(client).await;
                seen
            };
            let seen = seen.await;
            // A claim is worth what the boot is that made it: nothing, once the machine is off.
            let is_off = matches!(seen, Ok((PowerState::Off, _)));
            if world.desk().claim_of(node).is_some() && !is_off {
                return Ok((Found::Done, json!("the installer has claimed")));
            }
            let (power, last_reset) = seen?;
            let before = intent.and_then(|i| i.get("lastReset")).and_then(Value::as_str).map(str::to_owned);
            let found = match look::installer_booted(power, last_reset.as_deref(), before.as_deref()) {
                // Its power is cut once more, or for the first time: the cluster is asked as it is now.
                Found::NotDone => may_take(world, node).await?,
                found => found,
            };
            Ok((found, json!({ "lastReset": last_reset })))
        }
        StepKind::WriteDisk { .. } => {
            let Some(ticket) = ticket_id(world, node) else { return not_done };
            if !resumed {
                return Ok((may_wipe(world, node).await?, Value::Null));
            }
            let heard =
                tokio::time::timeout(LISTEN, world.until_desk(POLL, |desk| desk.report_of(node).cloned())).await;
            let failed = world.desk().installer_failure(node);
            Ok(match look::write_begun(node, &ticket, heard.ok().as_ref(), failed) {
                Writing::Written => (Found::Done, json!("written and read back")),
                Writing::NotBegun => (may_wipe(world, node).await?, json!("the ticket never reached the installer")),
                Writing::UnderWay => {
                    let ticket = make_ticket(world, node, kind)?;
                    world.desk().order(node, Order::Write(Box::new(ticket)));
                    (Found::UnderWay, json!("the installer is writing"))
                }
                Writing::Ended(found) => (found, Value::Null),
            })
        }
        StepKind::RebootToDisk if resumed => {
            let heard =
                tokio::time::timeout(LISTEN, world.until_desk(POLL, |desk| desk.report_of(node).cloned())).await;
            Ok((look::rebooted(heard.ok().as_ref()), Value::Null))
        }
        StepKind::LeaveInstaller { on } if resumed => {
            Ok((super::inspect::look_left(world, node, *on, LISTEN).await?, Value::Null))
        }
        StepKind::SetPower { action, .. } => super::power::look(world, node, *action, resumed, intent).await,
        StepKind::ChangeBmc(change) => Ok((super::bmcs::look(world, node, change, resumed).await, Value::Null)),
        StepKind::Baseline(part) => super::baselines::look(world, node, kind, part, resumed, intent).await,
        StepKind::PowerOn => {
            let client = world.bmc(node).await?;
            let power = client.power().await;
            close(client).await;
            Ok((look::powered(power?), Value::Null))
        }
        _ => not_done,
    }
}

/// The last guards before a disk is written: approval and the quorum of the cluster that it may belong to.
async fn may_wipe(world: &World, node: &str) -> Result<Found, Failure> {
    world.target(node).ok_or_else(|| no_target(node))?;
    let digest = world.plan.artifacts.get(node).map(|a| a.system_sha256.as_str()).unwrap_or_default();
    let shown = world.plan.bound.get(node).map(String::as_str).unwrap_or_default();
    let wish = approval::Wish { node, disk: shown, artifact: digest, kind: "write-disk" };
    if let Err(failure) = approval::allows(world.approval.as_ref(), &wish, clock::unix_ms()) {
        return Ok(Found::Contradiction(failure));
    }
    may_take(world, node).await
}

/// Installed before: its data, and its vote, may be what a cluster's quorum stands on.
async fn may_take(world: &World, node: &str) -> Result<Found, Failure> {
    // A look takes its service away, and its data not.
    if matches!(world.plan.goal, Goal::Inspect { .. }) {
        return Ok(super::power::may_go(world, node).await);
    }
    // Of one that is unknown since the state was lost, its cluster may know more.
    let Some(record) = world.record(node)?.filter(NodeRecord::may_serve) else {
        return Ok(Found::NotDone);
    };
    if record.phase == InstallPhase::Installing {
        // Its data was given up before; whether its older system serves meanwhile is asked as before a restart.
        return Ok(super::power::may_go(world, node).await);
    }
    for cluster in world.fleet.clusters.values().filter(|c| c.members.iter().any(|m| m == node)) {
        if let Some(failure) = super::members::may_lose(world, &cluster.name, node).await {
            return Ok(Found::Held(Failure {
                what: format!("{node}: write its disk"),
                why: format!("{} (disk {})", failure.why, record.disk_serial.as_deref().unwrap_or("without a serial")),
                ..failure
            }));
        }
    }
    Ok(Found::NotDone)
}

pub(super) async fn act(world: &World, node: &str, kind: &StepKind, attempt: u32) -> Result<(), Failure> {
    match kind {
        StepKind::BootInstaller { target, mode } => {
            let until =
                clock::since_boot() + Duration::from_secs(kind.deadline_s() + StepKind::AwaitClaim.deadline_s());
            for cluster in super::power::clusters_of(world, node) {
                super::members::lead_away(world, &cluster, node).await;
            }
            let client = world.bmc_taking(node, kind).await?;
            let wanted = BootOverride { target: *target, lasts: OverrideFor::Once, mode: Some(*mode) };
            let done = async {
                // Off before it is offered anything: a machine that tries the network over and over would claim now, and
                // lose what it claimed with its power.
                cut(&client).await?;
                // An earlier process may have booted it, and that boot claimed while this one looked.
                if world.desk().void(node) {
                    world.append(super::claim_is_void(node)).map_err(|e| store_failure(&e))?;
                }
                // An offer knows no fence either: a process that slept past its lease makes none.
                world.gate.check(&format!("{node}: offer network boot"))?;
                world.desk().offer(node, attempt, until);
                world.set_offer(node, Some(attempt)).await?;
                // The override last, so that nothing else consumes it.
                let surer = attempt >= StepKind::BOOT_ATTEMPTS;
                super::boots::set(world, node, &client, wanted, None, surer).await?;
                client.set_power(true, false, POWER_DEADLINE).await
            };
            let done = done.await;
            close(client).await;
            done
        }
        StepKind::WriteDisk { generation, .. } => {
            world.gate.check(&format!("{node}: write its disk"))?;
            let ticket = make_ticket(world, node, kind)?;
            let target = world.target(node).ok_or_else(|| no_target(node))?;
            let claim = world.desk().claim_of(node).cloned().ok_or_else(|| no_target(node))?;
            // Known before the first byte: after any crash this disk is ours to finish.
            let record = NodeRecord {
                generation: *generation,
                run: world.run.clone(),
                phase: InstallPhase::Installing,
                system_host_key: claim.system_host_key,
                disk_guid: target.disk_guid,
                disk_serial: target.disk.serial.clone(),
                system_sha256: ticket.system_sha256.clone(),
                at: clock::unix_ms(),
                over: wipe_guard::over(&target, world.record(node)?.as_ref()),
            };
            world.store.put_node_record(node, &record).map_err(|e| store_failure(&e))?;
            world.desk().order(node, Order::Write(Box::new(ticket)));
            Ok(())
        }
        StepKind::WithdrawNetboot => {
            world.desk().withdraw(node);
            world.set_offer(node, None).await?;
            super::boots::clear(world, node).await
        }
        StepKind::LeaveInstaller { on } => super::inspect::leave(world, node, *on, attempt > 1).await,
        StepKind::RebootToDisk => {
            world.desk().order(node, Order::Reboot);
            Ok(())
        }
        StepKind::PowerOn => {
            let client = world.bmc(node).await?;
            let done = client.set_power(true, false, POWER_DEADLINE).await;
            close(client).await;
            done
        }
        StepKind::SetPower { .. } | StepKind::SetBoot { .. } => super::power::act(world, node, kind).await,
        StepKind::ChangeBmc(change) => super::bmcs::act(world, node, kind, change).await,
        StepKind::Baseline(part) => super::baselines::act(world, node, kind, part).await,
        _ => Ok(()),
    }
}

/// What was seen to hold, for the journal.
pub(super) async fn verify(world: &World, node: &str, kind: &StepKind) -> Result<Value, Failure> {
    match kind {
        StepKind::SetPower { .. } | StepKind::SetBoot { .. } => super::power::verify(world, node, kind).await,
        StepKind::ChangeBmc(change) => super::bmcs::verify(world, node, change).await,
        StepKind::ReadHardware => super::inspect::read(world, node).await,
        StepKind::LeaveInstaller { on } => super::inspect::left(world, node, *on).await.map(|()| Value::Null),
        StepKind::Baseline(part) => super::baselines::verify(world, node, kind, part).await,
        _ => proof(world, node, kind).await.map(|()| Value::Null),
    }
}

async fn proof(world: &World, node: &str, kind: &StepKind) -> Result<(), Failure> {
    match kind {
        StepKind::CheckIdentity => {
            let client = world.bmc(node).await?;
            let seen =
                async { Ok::<_, Failure>((client.facts().await?, client.last_reset_time().await.ok().flatten())) }
                    .await;
            close(client).await;
            let (facts, last_reset) = seen?;
            let spec = world.node(node)?;
            if let Err(differing) = bmc::identity::compare(&spec.identity, &facts) {
                let why = differing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                return Err(Failure::new(Cause::Mismatch, format!("{node}: check identity"), why)
                    .next(format!("rackctl bmc info {node} -o yaml")));
            }
            world.set_last_reset(node, last_reset);
            Ok(())
        }
        StepKind::BootInstaller { .. } | StepKind::PowerOn => {
            let client = world.bmc(node).await?;
            let power = wait_until(&client, PowerState::On).await;
            close(client).await;
            power
        }
        StepKind::AwaitClaim => {
            world
                .until_desk(Duration::from_secs(1), |desk: &Desk| {
                    look::claimed(desk.claim_of(node), desk.refusal_of(node))
                })
                .await
        }
        StepKind::CheckDisks => check_disks(world, node).await,
        StepKind::WriteDisk { .. } => {
            let ticket = ticket_id(world, node).ok_or_else(|| no_target(node))?;
            let stages = world
                .until_desk(Duration::from_secs(1), |desk: &Desk| {
                    look::written(desk.report_of(node), desk.installer_failure(node), &ticket)
                })
                .await?;
            // The machine's own account of its time, for the report.
            let draft = Draft {
                subject: node.to_owned(),
                step: format!("{node}/write-disk"),
                attempt: 1,
                kind: RecordKind::Fact,
                body: json!({ "stages": stages }),
            };
            world.append(draft).map(|_| ()).map_err(|e| store_failure(&e))
        }
        StepKind::WithdrawNetboot => {
            look::withdrawn(node, world.is_offered(node))?;
            let client = world.bmc(node).await?;
            let boot = client.boot().await;
            close(client).await;
            let boot = boot?;
            look::cleared(node, boot, &bmc::boot::words(boot))
        }
        StepKind::RebootToDisk => {
            let told = clock::since_boot();
            world
                .until_desk(Duration::from_millis(200), |desk: &Desk| {
                    let now = clock::since_boot();
                    let silent = desk.silent_for(node, now).unwrap_or(now.saturating_sub(told));
                    look::has_left(desk.report_of(node), silent, SILENCE).then_some(Ok(()))
                })
                .await
        }
        StepKind::AwaitInstalled { generation } => await_installed(world, node, *generation).await,
        _ => Ok(()),
    }
}

/// Every way out of a failed track: no network boot, no override, and an installer that touches nothing more.
pub(super) async fn finalize(world: &World, node: &str, reason: &str) -> Result<(), Failure> {
    world.desk().withdraw(node);
    world.desk().order(node, Order::Stop(reason.to_owned()));
    world.set_offer(node, None).await?;
    // Both, whatever comes of the first: a BMC that has no override leaves no machine in the dark.
    let cleared = super::boots::clear(world, node).await;
    // First the override: what is switched on again must not find the installer.
    let left = super::inspect::bring_back(world, node).await;
    bring_back(world, node).await.and(left).and(cleared)
}

/// A restart that was broken off between its halves left the machine off.
async fn bring_back(world: &World, node: &str) -> Result<(), Failure> {
    let records = world.store.journal(&world.run).map_err(|e| store_failure(&e))?;
    if !super::journal::owes_power(&world.plan, &records, node) {
        return Ok(());
    }
    let client = world.bmc(node).await?;
    let done = async {
        match client.power().await? {
            PowerState::Off => client.set_power(true, false, POWER_DEADLINE).await,
            _ => Ok(()),
        }
    }
    .await;
    close(client).await;
    done
}

/// Off, if it is on. Nothing that is kept runs on it: asking an installer or an empty disk to shut down only costs a
/// minute.
pub(super) async fn cut(client: &bmc::Client) -> Result<(), Failure> {
    if client.power().await? == PowerState::Off {
        return Ok(());
    }
    client.reset(PowerAction::ForceOff).await?;
    tokio::time::timeout(POWER_DEADLINE, wait_until(client, PowerState::Off)).await.map_err(|_| {
        Failure::new(
            Cause::AcceptedButIgnored,
            format!("{}: cut its power", client.node()),
            "the BMC took the request and it is still on",
        )
        .next(format!("rackctl power status {}", client.node()))
    })?
}

pub(super) async fn wait_until(client: &bmc::Client, wanted: PowerState) -> Result<(), Failure> {
    while client.power().await? != wanted {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// A session that cannot be deleted now stands in the store and is deleted at the next start.
pub(super) async fn close(client: bmc::Client) {
    let _ = client.close().await;
}

fn no_target(node: &str) -> Failure {
    Failure::new(Cause::Guard, format!("{node}: write its disk"), "no disk was checked in this boot")
}

fn ticket_id(world: &World, node: &str) -> Option<String> {
    world.target(node).map(|t| format!("{}/{node}/{}", world.run, t.disk_guid))
}

async fn check_disks(world: &World, node: &str) -> Result<(), Failure> {
    let disks = world
        .until_desk(Duration::from_secs(1), |desk: &Desk| {
            look::disks_seen(desk.report_of(node), desk.installer_failure(node))
        })
        .await?;
    let spec = world.node(node)?;
    let claim = world.desk().claim_of(node).cloned().ok_or_else(|| no_target(node))?;
    let reinstall = matches!(world.plan.goal, Goal::Install { reinstall: true, .. });
    let record = world.record(node)?;
    let target = look::target(spec, &world.run, &claim, &disks, record.as_ref(), reinstall)?;
    let draft = Draft {
        subject: node.to_owned(),
        step: format!("{node}/check-disks"),
        attempt: 1,
        kind: RecordKind::Fact,
        body: json!({ "target": target }),
    };
    world.append(draft).map_err(|e| store_failure(&e))?;
    world.set_target(node, target);
    Ok(())
}

fn make_ticket(world: &World, node: &str, kind: &StepKind) -> Result<WriteTicket, Failure> {
    let StepKind::WriteDisk { system_sha256, generation } = kind else { return Err(no_target(node)) };
    let target = world.target(node).ok_or_else(|| no_target(node))?;
    let id = ticket_id(world, node).ok_or_else(|| no_target(node))?;
    let spec = world.node(node)?;
    let interfaces = spec
        .interfaces
        .iter()
        .filter(|i| !i.addresses.is_empty())
        .map(|i| InterfaceConfig {
            mac: i.mac.to_string(),
            addresses: i.addresses.iter().map(ToString::to_string).collect(),
            gateway: i.network.as_ref().and_then(|n| world.fleet.networks.get(n)).and_then(|n| {
                let subnet = n.subnets.iter().find(|s| i.addresses.iter().any(|a| s.cidr.contains(&a.addr())))?;
                subnet.gateway.map(|g| g.to_string())
            }),
        })
        .collect();
    Ok(WriteTicket {
        id,
        disk_serial: target.disk.serial.clone(),
        disk_wwn: target.disk.wwn.clone(),
        disk_size_bytes: target.disk.size_bytes,
        disk_guid: target.disk_guid,
        system_sha256: system_sha256.clone(),
        node: NodeConfig {
            protocol: PROTOCOL,
            node: node.to_owned(),
            fleet: world.fleet.id.clone(),
            run: world.run.clone(),
            generation: *generation,
            hostname: node.to_owned(),
            interfaces,
            authorized_keys: spec.ssh.authorized_keys.clone(),
            dns: spec.dns.iter().map(ToString::to_string).collect(),
        },
    })
}

pub(super) async fn await_installed(world: &World, node: &str, generation: u64) -> Result<(), Failure> {
    let record = world.record(node)?.ok_or_else(|| {
        Failure::new(Cause::Guard, format!("{node}: wait for its system"), "the store knows no installation of it")
    })?;
    let mut pause = CALL_FIRST;
    loop {
        match status(world, node, &record.system_host_key).await {
            Ok(status) => {
                look::is_the_installed_one(node, &record, generation, &status)?;
                let record = NodeRecord { phase: InstallPhase::Installed, at: clock::unix_ms(), over: None, ..record };
                return world.store.put_node_record(node, &record).map_err(|e| store_failure(&e));
            }
            // A foreign host key answers: never wait that away.
            Err(failure) if failure.cause == Cause::Untrusted => return Err(failure),
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(CALL_MOST);
            }
        }
    }
}

async fn status(world: &World, node: &str, host_key: &str) -> Result<NodeStatus, Failure> {
    crate::remote::node_client::node_status(&world.ssh(node, host_key)?).await
}
