//! Carries out what brings a machine to its baseline: images with their tasks, BIOS attributes, volumes, the restart that
//! brings them into force, and the look that they are. The same BMC drivers as of the verbs that change them by name.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::{World, clock, machines, members, power};
use crate::{
    bmc::{
        self,
        bios::{self, Bios},
        client::{Client, Image},
        firmware::Item,
        volumes::{Controller, Wish},
    },
    engine::Found,
    model::{
        Failure,
        baseline::{
            Baseline, BaselineFacts, BaselinePart, BayFacts, BiosFacts, FirmwareItem, ImageAt, InForce, StorageFacts,
            VolumeFacts, component, versions_missing,
        },
        facts::NodeRecord,
        failure::Cause,
        power::{PowerAction, PowerState},
    },
    plan::{StepKind, approval},
};

/// Between two looks at what a start is to bring into force.
const POLL: Duration = Duration::from_secs(2);
/// A machine that is up for so long and shows other BIOS attributes has not taken them.
const BIOS_SETTLES: Duration = Duration::from_secs(300);
/// The same of versions: a start that writes a BIOS restarts by itself, more than once.
const FIRMWARE_SETTLES: Duration = Duration::from_secs(1_200);
/// What is left of a step's limit for the driver's own word.
const MARGIN_S: u64 = 20;
/// Bytes of an image that are read at a time.
const CHUNK: usize = 1 << 20;
/// In a fact's body: what has become of an image.
pub const SENT: &str = "image";

/// What has become of an image that was sent, for whoever goes on after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Sent {
    /// The BMC has it. `task`: where that can be followed; none where no answer said so.
    Taken {
        task: Option<String>,
    },
    /// Its task came to its end.
    Ended,
    Failed,
}

/// What a machine's BMC shows of its baseline; each part by itself, for a BMC may have one and not the other.
pub(super) async fn facts(client: &bmc::Client, asked: &Baseline) -> BaselineFacts {
    let redfish = client.redfish("read its baseline");
    let mut seen = BaselineFacts::default();
    if !asked.bios.is_empty() {
        seen.bios = Some(match &redfish {
            Ok(client) => client.bios().await.map(|read| bios_facts(&read, &asked.bios)),
            Err(failure) => Err(failure.clone()),
        });
    }
    if !asked.firmware.is_empty() {
        seen.firmware = Some(match &redfish {
            Ok(client) => client.firmware().await.map(|items| items.iter().map(item).collect()),
            Err(failure) => Err(failure.clone()),
        });
    }
    if !asked.volumes.is_empty() {
        seen.storage = Some(match &redfish {
            Ok(client) => client.volumes().await.map(|all| all.iter().map(storage).collect()),
            Err(failure) => Err(failure.clone()),
        });
    }
    seen
}

fn bios_facts(read: &Bios, asked: &BTreeMap<String, String>) -> BiosFacts {
    let words = |from: &BTreeMap<String, Value>| {
        asked.keys().filter_map(|name| Some((name.clone(), bios::word(from.get(name)?)))).collect()
    };
    BiosFacts { in_force: words(&read.attributes), pending: words(&read.pending), unfit: read.typed(asked).err() }
}

/// As plans compare it.
pub fn item(item: &Item) -> FirmwareItem {
    FirmwareItem {
        id: item.id.clone(),
        name: item.name.clone(),
        version: item.version.clone(),
        updateable: item.updateable,
    }
}

fn storage(controller: &Controller) -> StorageFacts {
    let volume = |v: &bmc::volumes::Volume| VolumeFacts {
        id: v.id.clone(),
        name: v.name.clone(),
        raid: v.raid.clone(),
        drives: v.drives.clone(),
    };
    let bay = |d: &bmc::volumes::Part| BayFacts {
        id: d.id.clone(),
        serial: d.serial.clone(),
        wwn: d.wwn.clone(),
        model: d.model.clone(),
        size_bytes: d.size_bytes,
    };
    StorageFacts {
        id: controller.id.clone(),
        name: controller.name.clone(),
        makes_volumes: controller.collection.is_some(),
        volumes: controller.volumes.iter().map(volume).collect(),
        drives: controller.drives.iter().map(bay).collect(),
    }
}

/// A log-in for the work in `$body`, closed on every way out.
macro_rules! with_bmc {
    ($opened:expr, $doing:expr, |$client:ident, $redfish:ident| $body:expr) => {{
        let $client = $opened;
        let done = match $client.redfish($doing) {
            Ok($redfish) => async { $body }.await,
            Err(failure) => Err(failure),
        };
        machines::close($client).await;
        done
    }};
}

fn step_id(node: &str, kind: &StepKind) -> String {
    format!("{node}/{}", kind.name())
}

/// A little less than the engine gives, so that it is the driver who says what did not come.
fn limit(part: &BaselinePart) -> Duration {
    Duration::from_secs(part.deadline_s().saturating_sub(MARGIN_S))
}

pub(super) async fn look(
    world: &World,
    node: &str,
    kind: &StepKind,
    part: &BaselinePart,
    resumed: bool,
    intent: Option<&Value>,
) -> Result<(Found, Value), Failure> {
    let word = part.word();
    match part {
        BaselinePart::Firmware { component, version, image } => {
            let items: Vec<FirmwareItem> =
                with_bmc!(world.bmc(node).await?, word, |client, redfish| redfish.firmware().await)?
                    .iter()
                    .map(item)
                    .collect();
            if versions_missing(&items, &[(component.clone(), version.clone())].into()).is_empty() {
                return Ok((Found::Done, json!({ "said": format!("{component} is {version}") })));
            }
            match world.sent(&step_id(node, kind)) {
                Some(Sent::Taken { .. }) => return Ok((Found::UnderWay, Value::Null)),
                Some(Sent::Ended) => return Ok((Found::Done, json!({ "said": "waits for the next start" }))),
                Some(Sent::Failed) => {}
                // Whether the BMC has it is not known: what it works at is waited for, and then the version tells.
                None if resumed => {
                    let running =
                        with_bmc!(world.bmc(node).await?, word, |client, redfish| redfish.running_tasks().await)?;
                    if !running.is_empty() {
                        return Ok((Found::UnderWay, Value::Null));
                    }
                }
                None => {}
            }
            if let Err(failure) = same_image(node, image).await {
                return Ok((Found::Contradiction(failure), Value::Null));
            }
            Ok((power::may_go(world, node).await, Value::Null))
        }
        BaselinePart::Volume { name, raid, drives } => {
            let (all, running) = with_bmc!(world.bmc(node).await?, word, |client, redfish| {
                Ok((redfish.volumes().await?, if resumed { redfish.running_tasks().await? } else { Vec::new() }))
            })?;
            if is_made(&all, name, raid, drives) {
                return Ok((Found::Done, Value::Null));
            }
            if !running.is_empty() {
                return Ok((Found::UnderWay, Value::Null));
            }
            let artifact = world.plan.artifacts.get(node).map(|a| a.system_sha256.as_str()).unwrap_or_default();
            let disk = world.plan.bound.get(node).map(String::as_str).unwrap_or_default();
            let wish = approval::Wish { node, disk, artifact, kind: kind.word() };
            Ok(match approval::allows(world.approval.as_ref(), &wish, clock::unix_ms()) {
                Ok(()) => (power::may_go(world, node).await, Value::Null),
                Err(failure) => (Found::Contradiction(failure), Value::Null),
            })
        }
        BaselinePart::Bios { attributes } => {
            let missing = with_bmc!(world.bmc(node).await?, word, |client, redfish| {
                pending_or_in_force(redfish, attributes).await
            })?;
            Ok((if missing.is_empty() { Found::Done } else { Found::NotDone }, Value::Null))
        }
        BaselinePart::Restart { into, stays_off } => {
            let (missing, power, last_reset) = with_bmc!(world.bmc(node).await?, word, |client, redfish| {
                let missing = not_in_force(redfish, into).await?.missing;
                Ok((missing, client.power().await?, client.last_reset_time().await?))
            })?;
            let was = intent.and_then(|i| i.get("power")).cloned().unwrap_or_else(|| json!(power));
            let before = intent.and_then(|i| i.get("lastReset")).and_then(Value::as_str);
            let note = json!({ "power": was, "lastReset": before.or(last_reset.as_deref()) });
            let left_on = *stays_off && resumed && power != PowerState::Off;
            if missing.is_empty() && !left_on {
                return Ok((Found::Done, json!({ "said": "in force" })));
            }
            // It was started anew before the crash, and has yet to show it.
            let restarted = resumed && before.is_some() && last_reset.as_deref() != before && power == PowerState::On;
            if restarted && !left_on {
                return Ok((Found::UnderWay, note));
            }
            Ok((if *stays_off { Found::NotDone } else { power::may_go(world, node).await }, note))
        }
        BaselinePart::AwaitService { .. } => Ok((Found::NotDone, Value::Null)),
    }
}

pub(super) async fn act(world: &World, node: &str, kind: &StepKind, part: &BaselinePart) -> Result<(), Failure> {
    let (word, limit) = (part.word(), limit(part));
    match part {
        BaselinePart::Firmware { component: name, image, .. } => {
            lead_away(world, node).await;
            let id = step_id(node, kind);
            world.show_progress(node, kind, 0);
            let taken = with_bmc!(world.bmc_taking(node, kind).await?, word, |client, redfish| {
                let known = redfish.firmware().await?;
                let items: Vec<FirmwareItem> = known.iter().map(item).collect();
                let target = component(&items, name)
                    .map_err(|why| Failure::new(Cause::Refused, format!("{node}: {word}"), why))?;
                let image = match image {
                    ImageAt::Url(url) => Image::Address(url.clone()),
                    ImageAt::File { path, .. } => Image::File(path.clone()),
                };
                match redfish.begin_update(&image, Some(&target.id), &known, limit).await {
                    Ok(task) => world.note_sent(node, &id, Sent::Taken { task }),
                    // Whether it came through is found out by looking.
                    Err(failure) if matches!(failure.cause, Cause::Unreachable | Cause::Deadline) => {
                        world.note_sent(node, &id, Sent::Taken { task: None })?;
                        Err(failure)
                    }
                    Err(failure) => Err(failure),
                }
            });
            if taken.is_err() {
                world.end_progress(node);
            }
            taken
        }
        BaselinePart::Volume { name, raid, drives } => {
            lead_away(world, node).await;
            let wish = Wish { raid: raid.clone(), drives: drives.clone(), name: Some(name.clone()) };
            with_bmc!(world.bmc_taking(node, kind).await?, word, |client, redfish| {
                redfish.create_volume(&wish, limit).await.map(drop)
            })
        }
        BaselinePart::Bios { attributes } => {
            with_bmc!(world.bmc(node).await?, word, |client, redfish| redfish.set_bios(attributes).await.map(drop))
        }
        BaselinePart::Restart { into, stays_off } => {
            if !stays_off {
                lead_away(world, node).await;
            }
            // What may serve is asked to shut down; nothing that is kept runs on the others.
            let force = !world.record(node)?.is_some_and(|r| NodeRecord::may_serve(&r));
            let patience = limit.min(world.patience);
            let done = with_bmc!(world.bmc_taking(node, kind).await?, word, |client, redfish| {
                if !not_in_force(redfish, into).await?.missing.is_empty() {
                    match client.power().await? {
                        PowerState::Off => client.set_power(true, false, patience).await?,
                        _ => power::drive(&client, PowerAction::PowerCycle, force, patience).await?,
                    }
                }
                if *stays_off {
                    // Never before all of it is in force: a start that writes firmware is not cut off.
                    until_in_force(world, node, redfish, into, limit).await?;
                    match force {
                        true => power::drive(&client, PowerAction::ForceOff, true, patience).await?,
                        false => client.set_power(false, true, patience).await?,
                    }
                }
                Ok(())
            });
            if !stays_off {
                power::clusters_of(world, node).iter().for_each(|cluster| world.note_restart(cluster));
            }
            done
        }
        BaselinePart::AwaitService { .. } => Ok(()),
    }
}

/// What was seen to hold, for the journal.
pub(super) async fn verify(world: &World, node: &str, kind: &StepKind, part: &BaselinePart) -> Result<Value, Failure> {
    let (word, limit) = (part.word(), limit(part));
    match part {
        BaselinePart::Firmware { component, version, .. } => {
            let seen = with_bmc!(world.bmc(node).await?, word, |client, redfish| {
                follow(world, node, kind, redfish, limit).await?;
                redfish.firmware_when_back(limit).await
            });
            world.end_progress(node);
            let items: Vec<FirmwareItem> = seen?.iter().map(item).collect();
            let missing = versions_missing(&items, &[(component.clone(), version.clone())].into());
            Ok(json!({ "said": match missing.first() {
                None => format!("{component} is {version}"),
                Some(missing) => format!("{missing}, after the next start"),
            } }))
        }
        BaselinePart::Volume { name, raid, drives } => {
            let until = clock::since_boot() + limit;
            with_bmc!(world.bmc(node).await?, word, |client, redfish| {
                loop {
                    let made = is_made(&redfish.volumes().await?, name, raid, drives);
                    if made {
                        return Ok(json!({ "said": format!("{raid} volume {name} of {}", drives.join(", ")) }));
                    }
                    if clock::since_boot() >= until || redfish.running_tasks().await?.is_empty() {
                        let why = format!("no volume {name} ({raid}) is listed, and the BMC works at none");
                        return Err(Failure::new(Cause::AcceptedButIgnored, format!("{node}: {word}"), why)
                            .next(format!("rackctl bmc raid {node}")));
                    }
                    tokio::time::sleep(POLL).await;
                }
            })
        }
        BaselinePart::Bios { attributes } => {
            let missing = with_bmc!(world.bmc(node).await?, word, |client, redfish| {
                pending_or_in_force(redfish, attributes).await
            })?;
            match missing.is_empty() {
                true => Ok(json!({ "said": format!("{} set", attributes.len()) })),
                false => Err(Failure::new(Cause::AcceptedButIgnored, format!("{node}: {word}"), missing.join("; "))
                    .next(format!("rackctl bmc bios {node}"))),
            }
        }
        BaselinePart::Restart { into, stays_off } => with_bmc!(world.bmc(node).await?, word, |client, redfish| {
            until_in_force(world, node, redfish, into, limit).await?;
            let state = client.power().await?;
            let wanted = if *stays_off { PowerState::Off } else { PowerState::On };
            if state != wanted {
                let why = format!("all of it is in force, and its power is {state:?} instead of {wanted:?}");
                return Err(Failure::new(Cause::AcceptedButIgnored, format!("{node}: {word}"), why)
                    .next(format!("rackctl power status {node}")));
            }
            Ok(json!({ "said": "in force" }))
        }),
        BaselinePart::AwaitService { generation } => {
            machines::await_installed(world, node, *generation).await?;
            for cluster in power::clusters_of(world, node) {
                members::until_counted(world, &cluster, node, POLL).await?;
            }
            Ok(Value::Null)
        }
    }
}

async fn lead_away(world: &World, node: &str) {
    for cluster in power::clusters_of(world, node) {
        members::lead_away(world, &cluster, node).await;
        world.note_restart(&cluster);
    }
}

/// To the end of what the BMC does with an image. A task that is not known by name is any that runs.
async fn follow(world: &World, node: &str, kind: &StepKind, client: &Client, limit: Duration) -> Result<(), Failure> {
    let id = step_id(node, kind);
    let progress = |percent: u32| world.show_progress(node, kind, percent);
    let task = match world.sent(&id) {
        Some(Sent::Taken { task: Some(task) }) => task,
        Some(Sent::Ended | Sent::Failed) => return Ok(()),
        Some(Sent::Taken { task: None }) | None => match client.running_tasks().await?.into_iter().next() {
            Some(task) => {
                world.note_sent(node, &id, Sent::Taken { task: Some(task.clone()) })?;
                task
            }
            None => return world.note_sent(node, &id, Sent::Ended),
        },
    };
    match client.follow_update(&task, limit, &progress).await {
        Ok(_) => world.note_sent(node, &id, Sent::Ended),
        Err(failure) => {
            if failure.cause == Cause::Refused {
                world.note_sent(node, &id, Sent::Failed)?;
            }
            Err(failure)
        }
    }
}

/// The image is the one of the inventory: before anything is sent.
async fn same_image(node: &str, image: &ImageAt) -> Result<(), Failure> {
    let ImageAt::File { path, sha256 } = image else { return Ok(()) };
    let local = |e: std::io::Error| {
        Failure::new(Cause::Local, format!("{node}: read the image {}", path.display()), e.to_string())
            .next("rackctl validate")
    };
    let seen = digest(path).await.map_err(local)?;
    if seen == *sha256 {
        return Ok(());
    }
    let why = format!("{} has the SHA-256 {seen}, the inventory says {sha256}", path.display());
    Err(Failure::new(Cause::Mismatch, format!("{node}: check the image"), why)
        .next("rackctl explain hardwareclass.firmwareImages"))
}

async fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = tokio::fs::File::open(path).await?;
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk).await? {
            0 => return Ok(hex::encode(digest.finalize())),
            read => digest.update(chunk.get(..read).unwrap_or_default()),
        }
    }
}

fn is_made(all: &[Controller], name: &str, raid: &str, drives: &[String]) -> bool {
    let of = |v: &bmc::volumes::Volume| drives.iter().all(|d| v.drives.contains(d));
    all.iter().flat_map(|c| &c.volumes).any(|v| v.raid.as_deref() == Some(raid) && (v.name == name || of(v)))
}

async fn pending_or_in_force(client: &Client, asked: &BTreeMap<String, String>) -> Result<Vec<String>, Failure> {
    let read = client.bios().await?;
    match read.typed(asked) {
        Ok(typed) => Ok(read.missing(&typed)),
        Err(why) => Err(Failure::new(Cause::Refused, "read its BIOS attributes", why)),
    }
}

/// What a start has not brought into force yet.
struct Missing {
    /// As `BIOS: is 1.0, must be 2.0`.
    missing: Vec<String>,
    /// Some of it is still announced for a start.
    pending: bool,
}

async fn not_in_force(client: &Client, into: &InForce) -> Result<Missing, Failure> {
    match into {
        InForce::Firmware(versions) => {
            let items: Vec<FirmwareItem> = client.firmware().await?.iter().map(item).collect();
            Ok(Missing { missing: versions_missing(&items, versions), pending: false })
        }
        InForce::Bios(attributes) => {
            let seen = bios_facts(&client.bios().await?, attributes);
            let word = |name: &String, value: &String| {
                let is = seen.in_force.get(name).map_or("not there", String::as_str);
                (is != value).then(|| format!("{name}: is {is}, must be {value}"))
            };
            let missing = attributes.iter().filter_map(|(name, value)| word(name, value)).collect();
            Ok(Missing { missing, pending: !seen.pending.is_empty() })
        }
    }
}

/// Looks until all of it is in force. What a machine that has been on for long enough does not show, it has not taken.
async fn until_in_force(
    world: &World,
    node: &str,
    client: &Client,
    into: &InForce,
    limit: Duration,
) -> Result<(), Failure> {
    let settles = world.settles.unwrap_or(match into {
        InForce::Firmware(_) => FIRMWARE_SETTLES,
        InForce::Bios(_) => BIOS_SETTLES,
    });
    let (began, mut on_since) = (clock::since_boot(), None);
    loop {
        let seen = async { Ok::<_, Failure>((not_in_force(client, into).await?, client.power().await?)) }.await;
        let now = clock::since_boot();
        let passing = |f: &Failure| matches!(f.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy);
        let (left, ended) = match seen {
            Ok((seen, _)) if seen.missing.is_empty() => return Ok(()),
            Ok((seen, power)) => {
                let on = if power == PowerState::On { Some(*on_since.get_or_insert(now)) } else { None };
                on_since = on;
                let settled = on.is_some_and(|since| now >= since + settles) && !seen.pending;
                (seen.missing.join("; "), settled)
            }
            // While the machine starts, its BMC may have no word of it.
            Err(failure) if passing(&failure) || failure.cause == Cause::Refused => (failure.why, false),
            Err(failure) => return Err(failure),
        };
        if ended || now >= began + limit {
            // The BMC's word that it is done with an image was worth nothing: the next attempt sends it again.
            if let InForce::Firmware(versions) = into {
                for component in versions.keys() {
                    world.note_sent(node, &format!("{node}/bring-firmware-{component}"), Sent::Failed)?;
                }
            }
            let (verb, what) = match into {
                InForce::Firmware(_) => ("firmware", "the image was installed"),
                InForce::Bios(_) => ("bios", "the attributes were set"),
            };
            let why =
                format!("{what} without a complaint, the machine was started anew, and it is not applied: {left}");
            return Err(Failure::new(Cause::AcceptedButIgnored, format!("{node}: bring its {verb} into force"), why)
                .next(format!("rackctl bmc {verb} {node}, and rackctl bmc log {node}")));
        }
        tokio::time::sleep(POLL.min(settles / 2)).await;
    }
}
