//! Carries out what `power`, `boot set` and `bmc` ask of a node: seen before, done, seen after.

use std::time::Duration;

use serde_json::{Value, json};

use super::{World, machines::close, members};
use crate::{
    bmc,
    engine::{Found, look},
    model::{
        Failure,
        failure::Cause,
        power::{BootOverride, BootTarget, OverrideFor, PowerAction},
    },
    plan::StepKind,
};

/// Between two tries to reach a BMC that shares the machine's network card, and how long it may be away when the machine
/// changes its power: the link drops, and is negotiated anew.
const SHARED_POLL: Duration = Duration::from_secs(2);
const SHARED_AWAY: Duration = Duration::from_secs(90);

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
        StepKind::SetPower { action, force, wait } => {
            let wish = bmc::Wish { action: *action, force: *force, wait: *wait };
            client.drive(wish, limit).await.map(|untold| {
                if let Some(untold) = untold {
                    world.note_untold(node, untold);
                }
            })
        }
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

/// The override that `boot set` asks for, for the sending and for the preview.
pub fn wanted(target: BootTarget, persistent: bool) -> BootOverride {
    let lasts = if persistent { OverrideFor::Persistent } else { OverrideFor::Once };
    match target {
        BootTarget::None => BootOverride::CLEARED,
        target => BootOverride { target, lasts, mode: None },
    }
}

/// What it is now, for the journal and the table.
pub(super) async fn verify(world: &World, node: &str, kind: &StepKind) -> Result<Value, Failure> {
    let shared = world.node(node)?.bmc.as_ref().is_some_and(|bmc| bmc.shared_nic);
    match shared && matches!(kind, StepKind::SetPower { .. }) {
        true => while_away(SHARED_AWAY.min(world.patience), SHARED_POLL, async || seen(world, node, kind).await).await,
        false => seen(world, node, kind).await,
    }
}

/// Once more as long as nobody answers: the BMC comes back with the link.
async fn while_away<T>(
    limit: Duration,
    poll: Duration,
    mut look: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let until = tokio::time::Instant::now() + limit;
    loop {
        match look().await {
            Err(failure) if failure.cause == Cause::Unreachable => {
                if tokio::time::Instant::now() >= until {
                    let why = format!("{}; it shares the machine's network card, and did not come back", failure.why);
                    return Err(Failure { why, ..failure });
                }
                tokio::time::sleep(poll).await;
            }
            seen => return seen,
        }
    }
}

async fn seen(world: &World, node: &str, kind: &StepKind) -> Result<Value, Failure> {
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
            _ => {
                let power = client.power().await?;
                Ok(match world.untold(node) {
                    Some(untold) => json!({ "power": power, "warning": untold }),
                    None => json!({ "power": power }),
                })
            }
        }
    }
    .await;
    close(client).await;
    seen
}

/// For steps that take a machine off, or off and on: both are seen.
pub(super) async fn drive(
    client: &bmc::Client,
    action: PowerAction,
    force: bool,
    limit: Duration,
) -> Result<(), Failure> {
    client.drive(bmc::Wish { action, force, wait: true }, limit).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    // fault: F2 invariant: I15 harness: D
    #[tokio::test]
    async fn a_bmc_on_the_machines_own_card_is_waited_for_and_not_for_ever() {
        const LIMIT: Duration = Duration::from_millis(100);
        const POLL: Duration = Duration::from_millis(10);
        let away = || Failure::new(Cause::Unreachable, "n1: read", "no answer");
        let mut tries = 0;
        let seen = while_away(LIMIT, POLL, async || {
            tries += 1;
            if tries < 5 { Err(away()) } else { Ok(tries) }
        });
        assert_eq!(seen.await.unwrap(), 5);
        let never = while_away(LIMIT, POLL, async || Err::<(), _>(away())).await.unwrap_err();
        assert!(never.why.contains("shares the machine's network card"), "{never}");
        // What is no absence is told at once.
        let mut tries = 0;
        let refused = while_away(LIMIT, POLL, async || {
            tries += 1;
            Err::<(), _>(Failure::new(Cause::Unauthorized, "n1", "no"))
        });
        assert_eq!((refused.await.unwrap_err().cause, tries), (Cause::Unauthorized, 1));
    }
}
