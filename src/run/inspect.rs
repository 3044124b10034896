//! `inspect --boot`: what the installer sees, and the machine left as it was found.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    World, clock,
    desk::{Desk, SILENCE},
    machines::{close, cut, wait_until},
    world::store_failure,
};
use crate::{
    bmc,
    engine::{Found, look},
    model::{Failure, facts::HardwareFacts, failure::Cause, power::PowerState},
    plan::StepKind,
    store::{Record, RecordKind},
};

/// Power must follow within this.
const POWER_DEADLINE: Duration = Duration::from_secs(120);

/// What is known of the machine once its installer has looked, for the journal: [`HardwareFacts`].
pub(super) async fn read(world: &World, node: &str) -> Result<Value, Failure> {
    let (disks, hardware) = world
        .until_desk(Duration::from_secs(1), |desk: &Desk| {
            look::hardware_seen(desk.report_of(node), desk.installer_failure(node))
        })
        .await?;
    let claim = world.desk().claim_of(node).cloned().ok_or_else(|| {
        Failure::new(Cause::Local, format!("{node}: read its hardware"), "its installer reports and has not claimed")
    })?;
    let facts =
        HardwareFacts { machine: claim.machine, cores: claim.cores, memory_bytes: claim.memory_bytes, disks, hardware };
    Ok(json!({ HARDWARE: facts, "at": clock::unix_ms() }))
}

/// Stands in the body of the record that [`read`] made.
const HARDWARE: &str = "hardware";

/// What a run saw of a node, out of its journal.
pub fn seen(records: &[Record], node: &str) -> Option<HardwareFacts> {
    let step = format!("{node}/{}", StepKind::ReadHardware.word());
    let done = records.iter().rev().find(|r| r.kind == RecordKind::Done && r.step == step)?;
    serde_json::from_value(done.body.get(HARDWARE)?.clone()).ok()
}

/// The installer was heard a moment ago: the machine is still in it.
fn is_in_installer(world: &World, node: &str) -> bool {
    world.desk().silent_for(node, clock::since_boot()).is_some_and(|silent| silent < SILENCE)
}

/// After a crash: has it left the installer already? One that was on before may run its own system by now, and is not
/// switched off for that.
pub(super) async fn look_left(world: &World, node: &str, on: bool, listen: Duration) -> Result<Found, Failure> {
    let heard = tokio::time::timeout(listen, world.until_desk(listen, |desk| desk.report_of(node).map(drop))).await;
    let client = world.bmc(node).await?;
    let power = client.power().await;
    close(client).await;
    Ok(match (power?, on, heard.is_ok()) {
        (PowerState::Off, false, _) | (PowerState::On, true, false) => Found::Done,
        _ => Found::NotDone,
    })
}

/// Out of the installer: nothing that is kept runs on it, so its power is cut; on again where it was on.
/// `again`: it may have left already, and only one that is heard is cut off.
pub(super) async fn leave(world: &World, node: &str, on: bool, again: bool) -> Result<(), Failure> {
    let client = world.bmc(node).await?;
    let done = async {
        if client.power().await? != PowerState::Off {
            if again && on && !is_in_installer(world, node) {
                return Ok(());
            }
            cut(&client).await?;
        }
        if on { client.set_power(true, false, POWER_DEADLINE).await } else { Ok(()) }
    }
    .await;
    close(client).await;
    done
}

pub(super) async fn left(world: &World, node: &str, on: bool) -> Result<(), Failure> {
    let client: bmc::Client = world.bmc(node).await?;
    let seen = wait_until(&client, if on { PowerState::On } else { PowerState::Off }).await;
    close(client).await;
    seen
}

/// On every other way out: a machine that was booted for a look goes back to how it was found.
pub(super) async fn bring_back(world: &World, node: &str) -> Result<(), Failure> {
    let own = |kind: &StepKind, id: &str| match kind {
        StepKind::LeaveInstaller { on } if id.split('/').next() == Some(node) => Some(*on),
        _ => None,
    };
    let Some(on) = world.plan.steps().find_map(|s| own(&s.kind, &s.id)) else { return Ok(()) };
    let records = world.store.journal(&world.run).map_err(|e| store_failure(&e))?;
    if owes_leaving(&records, node) { leave(world, node, on, true).await } else { Ok(()) }
}

/// Its boot was begun, and it has not been seen to leave.
fn owes_leaving(records: &[Record], node: &str) -> bool {
    let has = |word: &str, kind: RecordKind| {
        let step = format!("{node}/{word}");
        records.iter().any(|r| r.step == step && r.kind == kind)
    };
    has("boot-installer", RecordKind::Intent) && !has("leave-installer", RecordKind::Done)
}
