//! Carries out what `bmc` changes: done, and read back as far as it can be.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    World, clock,
    machines::close,
    power,
    sessions::{self, LogIn},
};
use crate::{
    bmc::{self, volumes::Wish},
    engine::Found,
    model::{
        Failure, Secret,
        bmc::BmcChange,
        failure::Cause,
        fleet::{EndpointAt, Trust},
    },
    plan::StepKind,
    store::{Draft, RecordKind},
};

/// The name under which a new password, or a new certificate with its key, stands among the passwords of a run: no
/// credential of an inventory has blanks.
pub const HANDED: &str = "what was handed over";
/// A BMC's web server starts anew with its certificate.
const SERVED_WITHIN: Duration = Duration::from_secs(120);
const SERVED_POLL: Duration = Duration::from_secs(2);
/// The log-in that proves a new password.
const PROOF_DEADLINE: Duration = Duration::from_secs(60);

/// What was begun by a process that died and cannot be seen is a person's to judge.
pub(super) async fn look(world: &World, node: &str, change: &BmcChange, resumed: bool) -> Found {
    if resumed && !change.repeatable() {
        let why = "it was asked for before a crash, and whether it happened cannot be told from here";
        return Found::Contradiction(
            Failure::new(Cause::NeedsPerson, format!("{node}: {}", change.word()), why)
                .next(format!("rackctl bmc {} {node}, and rackctl abort", change.verb())),
        );
    }
    if change.takes_away() { power::may_go(world, node).await } else { Found::NotDone }
}

pub(super) async fn act(world: &World, node: &str, kind: &StepKind, change: &BmcChange) -> Result<(), Failure> {
    // A little less than the engine gives, so that it is the driver who says what did not come.
    let limit = Duration::from_secs(change.deadline_s().saturating_sub(20)).min(world.patience);
    if change.takes_away() {
        for cluster in power::clusters_of(world, node) {
            super::members::lead_away(world, &cluster, node).await;
            world.note_restart(&cluster);
        }
    }
    let client = if change.takes_away() { world.bmc_taking(node, kind).await? } else { world.bmc(node).await? };
    let done = carry_out(world, &client, node, kind, change, limit).await;
    close(client).await;
    done
}

async fn carry_out(
    world: &World,
    bmc: &bmc::Client,
    node: &str,
    kind: &StepKind,
    change: &BmcChange,
    limit: Duration,
) -> Result<(), Failure> {
    // What the others need; logs, passwords and the restart are IPMI's too.
    let redfish = || bmc.redfish(change.word());
    match change {
        BmcChange::ClearLog { log } => bmc.clear_logs(log.as_deref()).await.map(drop),
        BmcChange::SetBios { attributes } => redfish()?.set_bios(attributes).await.map(drop),
        BmcChange::ClearPendingBios => redfish()?.clear_pending_bios().await.map(drop),
        BmcChange::SetSecureBoot { on } => redfish()?.set_secure_boot(*on).await.map(drop),
        BmcChange::InsertMedia { image, slot } => {
            redfish()?.insert_media(slot.as_deref(), image, limit).await.map(drop)
        }
        BmcChange::EjectMedia { slot } => redfish()?.eject_media(slot.as_deref(), limit).await.map(drop),
        BmcChange::RestartBmc => bmc.restart_bmc(limit).await,
        BmcChange::Nmi => bmc.nmi().await,
        BmcChange::SetPassword { user } => {
            let new = handed(world, node, change)?;
            bmc.set_password(user, &new).await
        }
        BmcChange::CreateUser { user, role } => {
            let new = handed(world, node, change)?;
            bmc.create_user(user, role, &new).await
        }
        BmcChange::DeleteUser { user } => {
            spare(world, node, user, change)?;
            bmc.delete_user(user).await
        }
        BmcChange::EnableUser { user, on } => {
            if !on {
                spare(world, node, user, change)?;
            }
            bmc.enable_user(user, *on).await
        }
        BmcChange::UnlockUser { user } => bmc.unlock_user(user).await,
        BmcChange::ReplaceCertificate { .. } => {
            let pem = handed(world, node, change)?;
            redfish()?.replace_certificate(&pem).await
        }
        BmcChange::UpdateFirmware { image, target } => {
            let progress = |percent: u32| {
                world.show_progress(node, kind, percent);
                // Lost, it costs nothing but a line.
                let _ = world.append(fact(node, change, json!({ "percent": percent })));
            };
            let image = match image.starts_with('/') {
                true => bmc::client::Image::File(image.into()),
                false => bmc::client::Image::Address(image.clone()),
            };
            let updated = redfish()?.update_firmware(&image, target.as_deref(), limit, &progress).await;
            world.end_progress(node);
            let updated = updated?;
            let body = json!({ "changes": updated.changes, "taskSeenToEnd": updated.task_seen_to_end });
            world.append(fact(node, change, body)).map(drop).map_err(|e| super::world::store_failure(&e))?;
            if !updated.task_seen_to_end && updated.changes.is_empty() {
                let why = "the BMC took the image, its task is gone, and no version has changed: it may wait for the machine's next start";
                return Err(Failure::new(Cause::AcceptedButIgnored, format!("{node}: update its firmware"), why)
                    .next(format!("rackctl bmc firmware {node}")));
            }
            Ok(())
        }
        BmcChange::CreateVolume { raid, drives, name } => {
            let wish = Wish { raid: raid.clone(), drives: drives.clone(), name: name.clone() };
            redfish()?.create_volume(&wish, limit).await.map(drop)
        }
        BmcChange::DeleteVolume { volume } => redfish()?.delete_volume(volume, limit).await,
    }
}

fn fact(node: &str, change: &BmcChange, body: Value) -> Draft {
    Draft {
        subject: node.to_owned(),
        step: format!("{node}/{}", change.word()),
        attempt: 1,
        kind: RecordKind::Fact,
        body,
    }
}

/// Whoever takes away the account of a log-in has none any more.
fn spare(world: &World, node: &str, user: &str, change: &BmcChange) -> Result<(), Failure> {
    let passwords = world.passwords();
    let endpoints = world.node(node)?.bmc.iter().flat_map(|b| &b.endpoints);
    let mut logins = endpoints.filter_map(|e| passwords.get(node, &e.credential).ok());
    if !logins.any(|login| login.username == user) {
        return Ok(());
    }
    let why = format!("the inventory logs in to it as `{user}`");
    Err(Failure::new(Cause::Guard, format!("{node}: {}", change.word()), why)
        .next("name another user in the credential first: rackctl bmc users NAME --create USER --role Administrator"))
}

/// A secret that was handed over with the goal. It is never written down, so a resumed run does not have it.
fn handed(world: &World, node: &str, change: &BmcChange) -> Result<Arc<Secret>, Failure> {
    let passwords = world.passwords();
    let login = passwords.get(node, HANDED).map_err(|_| {
        let why = "what it needs is a secret that is never kept, and it is not at hand any more";
        Failure::new(Cause::Guard, format!("{node}: {}", change.word()), why)
            .next(format!("rackctl abort, then rackctl bmc {} once more", change.verb()))
    })?;
    Ok(Arc::clone(&login.password))
}

/// What is there now, for the journal and the table.
pub(super) async fn verify(world: &World, node: &str, change: &BmcChange) -> Result<Value, Failure> {
    if let BmcChange::SetPassword { user } = change {
        prove(world, node, user, change).await?;
        return Ok(json!({ "said": format!("{user}: the new password works") }));
    }
    if let BmcChange::CreateUser { user, role } = change {
        let client = world.bmc(node).await?;
        let by_ipmi = client.ipmi(change.word()).is_ok();
        close(client).await;
        // Over IPMI the BMC was asked when it was set; a log-in there wants more than most roles may.
        if !by_ipmi {
            prove(world, node, user, change).await?;
        }
        return Ok(json!({ "said": format!("{user}: made as {role}, its password works") }));
    }
    if let BmcChange::ReplaceCertificate { pin } = change {
        let said = served(world, node, pin).await?;
        leave_over(world, node, pin).await;
        return Ok(said);
    }
    let client = world.bmc(node).await?;
    let seen = said(&client, change).await;
    close(client).await;
    Ok(json!({ "said": seen?, "at": clock::unix_ms() }))
}

async fn said(client: &bmc::Client, change: &BmcChange) -> Result<String, Failure> {
    let redfish = || client.redfish(change.word());
    Ok(match change {
        BmcChange::ClearLog { log } => {
            let logs = client.logs(log.as_deref()).await?;
            let told: Vec<String> = logs
                .iter()
                .filter(|l| l.clear.is_some())
                .map(|l| format!("{}: {} entries", l.id, l.entries.len()))
                .collect();
            told.join(", ")
        }
        BmcChange::SetBios { attributes } => {
            let bios = redfish()?.bios().await?;
            let waits = attributes.keys().filter(|name| bios.pending.contains_key(*name)).count();
            match waits {
                0 => "in force".to_owned(),
                waits => format!("{waits} pending until the next start"),
            }
        }
        BmcChange::ClearPendingBios => "nothing is pending".to_owned(),
        BmcChange::SetSecureBoot { on } => {
            let word = if *on { "on" } else { "off" };
            match redfish()?.secure_boot().await?.pending() {
                None => format!("{word}, in force"),
                Some(_) => format!("{word} from the next start on"),
            }
        }
        BmcChange::InsertMedia { image, .. } => {
            let slots = redfish()?.media().await?;
            let holding = slots.iter().find(|s| bmc::media::holds(s, image));
            holding.map_or("inserted".to_owned(), |s| format!("{} in slot {}", image, s.id))
        }
        BmcChange::EjectMedia { .. } => "empty".to_owned(),
        BmcChange::RestartBmc => {
            let info = client.bmc_info().await?;
            format!("restarted, answers as {}", info.firmware.as_deref().unwrap_or("before"))
        }
        BmcChange::Nmi => "sent".to_owned(),
        BmcChange::SetPassword { user } | BmcChange::CreateUser { user, .. } => user.clone(),
        BmcChange::DeleteUser { user } => format!("{user}: deleted"),
        BmcChange::EnableUser { user, on: true } => format!("{user}: enabled"),
        BmcChange::EnableUser { user, on: false } => format!("{user}: disabled"),
        BmcChange::UnlockUser { user } => format!("{user}: unlocked"),
        BmcChange::ReplaceCertificate { pin } => pin.clone(),
        BmcChange::UpdateFirmware { .. } => "done: `rackctl bmc firmware` shows the versions".to_owned(),
        BmcChange::CreateVolume { raid, .. } => format!("{raid} volume made"),
        BmcChange::DeleteVolume { volume } => format!("{volume} deleted"),
    })
}

/// The key that is shown at a handshake is the new one's. Nothing is sent over that connection.
async fn served(world: &World, node: &str, pin: &str) -> Result<Value, Failure> {
    let spec = world.node(node)?;
    let mut urls = spec.bmc.iter().flat_map(|b| &b.endpoints).filter_map(|e| match &e.at {
        EndpointAt::Redfish(url) => Some(url.clone()),
        EndpointAt::Ipmi(_) => None,
    });
    let Some(url) = urls.next() else {
        let why = "the inventory gives it no Redfish endpoint";
        return Err(Failure::new(Cause::Guard, format!("{node}: look at its certificate"), why));
    };
    let until = clock::since_boot() + SERVED_WITHIN;
    loop {
        match bmc::tls::probe_pin(&url).await {
            Ok(seen) if seen == pin => {
                return Ok(json!({ "said": format!("serves {pin}") }));
            }
            Ok(seen) if clock::since_boot() >= until => {
                let why = format!("the BMC took the certificate and still presents {seen}, not {pin}");
                return Err(Failure::new(Cause::AcceptedButIgnored, format!("{node}: replace its certificate"), why)
                    .next(format!("rackctl bmc cert {node}")));
            }
            Err(failure) if clock::since_boot() >= until => return Err(failure),
            _ => tokio::time::sleep(SERVED_POLL).await,
        }
    }
}

/// The log-out after the change met another key than the one that is believed: what it left open is closed by a log-in
/// that believes the new one, which was handed over and is served. One that cannot be closed ends by itself.
async fn leave_over(world: &World, node: &str, pin: &str) {
    let Ok(spec) = world.node(node) else { return };
    let mut spec = spec.clone();
    let endpoints = spec.bmc.iter_mut().flat_map(|b| &mut b.endpoints);
    for endpoint in endpoints.filter(|e| matches!(e.at, EndpointAt::Redfish(_))).take(1) {
        if let Trust::Pin(old) = &mut endpoint.trust {
            *old = pin.to_owned();
        }
    }
    let how = LogIn {
        read_only: world.is_read_only(),
        deadline: PROOF_DEADLINE,
        observer: world.observer(),
        gate: Some(Arc::clone(&world.gate)),
    };
    if let Ok(client) = sessions::open(&world.store, &spec, &world.passwords(), how).await {
        close(client).await;
    }
}

/// One log-in with the new password at the first endpoint that answers: never tried twice.
async fn prove(world: &World, node: &str, user: &str, change: &BmcChange) -> Result<(), Failure> {
    let new = handed(world, node, change)?;
    let spec = world.node(node)?;
    let mut passwords = bmc::Passwords::new();
    for endpoint in spec.bmc.iter().flat_map(|b| &b.endpoints) {
        let login = bmc::Login::new(user, Arc::clone(&new));
        passwords.put_for(node, &endpoint.credential, Ok(login));
    }
    let how = LogIn {
        read_only: world.is_read_only(),
        deadline: PROOF_DEADLINE,
        observer: world.observer(),
        gate: Some(Arc::clone(&world.gate)),
    };
    let opened = sessions::open(&world.store, spec, &passwords, how).await;
    let seen = match opened {
        // Under Basic auth nothing has been proven by the log-in itself.
        Ok(client) => {
            let seen = client.power().await;
            close(client).await;
            seen.map(drop)
        }
        Err(failure) => Err(failure),
    };
    seen.map_err(|failure| match failure.cause {
        Cause::Unauthorized => Failure::new(
            Cause::AcceptedButIgnored,
            format!("{node}: {} of `{user}`", change.word()),
            format!("the BMC took the new password and refuses it at the log-in: {}", failure.why),
        )
        .next(format!("rackctl bmc users {node}")),
        _ => failure,
    })
}
