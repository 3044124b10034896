//! Carries out what `power`, `boot set` and `bmc` ask of a node: seen before, done, seen after.

use std::time::Duration;

use serde_json::{Value, json};

use super::{World, clock, machines::close, members};
use crate::{
    bmc,
    engine::{Found, look},
    model::{
        Failure,
        failure::Cause,
        power::{BootOverride, BootTarget, OverrideFor, PowerAction, PowerState},
    },
    plan::StepKind,
};

/// Between two looks at a machine's power.
const POLL: Duration = Duration::from_millis(500);

/// The mark by which a restart is known later stands in the intent.
pub(super) async fn look(
    world: &World,
    node: &str,
    action: PowerAction,
    resumed: bool,
    intent: Option<&Value>,
) -> Result<(Found, Value), Failure> {
    let seen = async {
        let client = world.bmc(node).await?;
        let seen = async { Ok::<_, Failure>((client.power().await?, client.last_reset_time().await?)) }.await;
        close(client).await;
        seen
    }
    .await;
    let unseen_for = world.note_look(node, seen.is_ok());
    let (power, last_reset) = match seen {
        // Nothing was asked of it yet: the operator's patience is not only for the machine, also for its BMC. What a
        // process that died may have begun is looked for as long as the step may take.
        Err(failure) if !resumed && unseen_for >= world.patience => {
            return Ok((Found::Contradiction(failure), Value::Null));
        }
        seen => seen?,
    };
    let before = intent.and_then(|i| i.get("lastReset")).and_then(Value::as_str);
    let note = json!({ "power": power, "lastReset": last_reset });
    let found = match look::power_changed(node, action, power, last_reset.as_deref(), resumed, before) {
        Found::NotDone if takes_away(action) => may_go(world, node).await,
        found => found,
    };
    Ok((found, note))
}

fn takes_away(action: PowerAction) -> bool {
    action != PowerAction::On
}

/// What the plan saw is minutes old when the last of many machines has its turn.
pub(super) async fn may_go(world: &World, node: &str) -> Found {
    if world.plan.goal.may_lose_quorum() {
        return Found::NotDone;
    }
    for cluster in clusters_of(world, node) {
        if let Some(failure) = members::may_pause(world, &cluster, node).await {
            return Found::Held(failure.next("rackctl get members; --lose-quorum does it all the same"));
        }
    }
    Found::NotDone
}

pub(super) fn clusters_of(world: &World, node: &str) -> Vec<String> {
    let of = world.fleet.clusters.values().filter(|c| c.members.iter().any(|m| m == node));
    of.map(|c| c.name.clone()).collect()
}

pub(super) async fn act(world: &World, node: &str, kind: &StepKind) -> Result<(), Failure> {
    let limit = Duration::from_secs(kind.deadline_s()).min(world.patience);
    if let StepKind::SetPower { action, .. } = kind
        && takes_away(*action)
    {
        for cluster in clusters_of(world, node) {
            members::lead_away(world, &cluster, node).await;
            // From now on: how long it stays away is not known, and the guard asks the members as well.
            world.note_restart(&cluster);
        }
    }
    let client = world.bmc_taking(node, kind).await?;
    let done = match kind {
        StepKind::SetPower { action, force, wait } => change(&client, *action, *force, *wait, limit).await,
        StepKind::SetBoot { target: BootTarget::None, .. } => {
            close(client).await;
            return super::boots::clear(world, node).await;
        }
        StepKind::SetBoot { target, persistent, url } => {
            super::boots::set(world, node, &client, wanted(*target, *persistent), url.as_deref(), false).await
        }
        _ => Ok(()),
    };
    close(client).await;
    if let (StepKind::SetPower { .. }, Ok(())) = (kind, &done) {
        clusters_of(world, node).iter().for_each(|cluster| world.note_restart(cluster));
    }
    done
}

fn wanted(target: BootTarget, persistent: bool) -> BootOverride {
    let lasts = if persistent { OverrideFor::Persistent } else { OverrideFor::Once };
    match target {
        BootTarget::None => BootOverride::CLEARED,
        target => BootOverride { target, lasts, mode: None },
    }
}

/// What it is now, for the journal and the table.
pub(super) async fn verify(world: &World, node: &str, kind: &StepKind) -> Result<Value, Failure> {
    let client = world.bmc(node).await?;
    let seen = async {
        match kind {
            // By another way than the override, or not as asked: what was read back when it was set says more.
            StepKind::SetBoot { target, .. } => {
                let booted = world.booted(node).filter(|_| *target != BootTarget::None);
                let shown = match booted {
                    Some(words) => words,
                    None => client.boot_shown().await?,
                };
                Ok(json!({ "boot": shown }))
            }
            _ => Ok(json!({ "power": client.power().await? })),
        }
    }
    .await;
    close(client).await;
    seen
}

pub(super) async fn change(
    client: &bmc::Client,
    action: PowerAction,
    force: bool,
    wait: bool,
    limit: Duration,
) -> Result<(), Failure> {
    if !wait {
        return client.reset(action).await;
    }
    match action {
        PowerAction::On => client.set_power(true, force, limit).await,
        PowerAction::ForceOff => cut(client, limit).await,
        PowerAction::GracefulShutdown => client.set_power(false, force, limit).await,
        PowerAction::PowerCycle => {
            if force {
                cut(client, limit).await?;
            } else {
                client.set_power(false, false, limit).await?;
            }
            client.set_power(true, force, limit).await
        }
        PowerAction::ForceRestart | PowerAction::GracefulRestart => {
            let before = client.last_reset_time().await?;
            client.reset(action).await?;
            restarted(client, before, limit).await
        }
    }
}

/// Without asking the operating system, which `set_power` would do first and wait for.
async fn cut(client: &bmc::Client, limit: Duration) -> Result<(), Failure> {
    let until = clock::since_boot() + limit;
    if client.power().await? == PowerState::Off {
        return Ok(());
    }
    // A lost answer is not sent again: what is seen next counts.
    if let Err(failure) = client.reset(PowerAction::ForceOff).await
        && failure.cause != Cause::Unreachable
    {
        return Err(failure);
    }
    while client.power().await? != PowerState::Off {
        if clock::since_boot() > until {
            let why = format!("the BMC took the request and the machine is not off after {limit:?}");
            return Err(Failure::new(Cause::AcceptedButIgnored, format!("{}: cut the power", client.node()), why)
                .next(format!("rackctl bmc info {}", client.node())));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// The BMC's own mark of a reset must change, where it keeps one; the machine must be on in any case.
async fn restarted(client: &bmc::Client, before: Option<String>, limit: Duration) -> Result<(), Failure> {
    let until = clock::since_boot() + limit;
    loop {
        let (power, last) = (client.power().await?, client.last_reset_time().await?);
        if power == PowerState::On && (last.is_none() || last != before) {
            return Ok(());
        }
        if clock::since_boot() > until {
            return Err(Failure::new(
                Cause::AcceptedButIgnored,
                format!("{}: restart", client.node()),
                "the BMC took the request and shows no reset",
            )
            .next(format!("rackctl power reset {} --force", client.node())));
        }
        tokio::time::sleep(POLL).await;
    }
}
