//! Walking a BMC's tree under limits: collections, the system, its drives, interfaces and manager.

use std::{collections::BTreeSet, future::Future};

use futures_util::{StreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::send::{Request, Wire};
use crate::{
    bmc::{
        link, quirks,
        read::{self, SettingsView, SystemView},
        redfish::wire::{
            ActionInfo, Collection, ComputerSystem, Drive, EthernetInterface, Link, Manager, Processor, ServiceRoot,
            Storage,
        },
    },
    model::{
        Failure,
        facts::{BmcFacts, DriveFacts},
        failure::Cause,
    },
};

pub(super) const MAX_SESSIONS: usize = 128;
const MAX_SYSTEMS: usize = 16;
const MAX_CONTROLLERS: usize = 32;
const MAX_DRIVES: usize = 128;
const MAX_INTERFACES: usize = 64;
const MAX_PROCESSORS: usize = 16;
/// Pages of one collection.
const MAX_PAGES: usize = 16;
/// Requests that a walk has under way; the client's own limit holds below it.
const SIDE_BY_SIDE: usize = 2;

/// Where resources come from: a BMC, or a recorded tree.
pub trait Source: Sync {
    /// The body and the ETag. `Refused` means "not there for us" and is passed over where the resource is optional.
    fn fetch(&self, path: &str) -> impl Future<Output = Result<(Value, Option<String>), Failure>> + Send;
    /// For messages.
    fn node(&self) -> &str;
}

impl Source for Wire {
    async fn fetch(&self, path: &str) -> Result<(Value, Option<String>), Failure> {
        let request = Request::get(path);
        let answer = self.send(&request).await?;
        self.note_read(&request, &answer);
        if answer.ok() { Ok((answer.body, answer.etag)) } else { Err(self.refusal(&request, &answer)) }
    }
    fn node(&self) -> &str {
        &self.node
    }
}

/// The BMC itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagerFacts {
    pub name: Option<String>,
    pub kind: Option<String>,
    pub model: Option<String>,
    pub firmware: Option<String>,
    /// The BMC's clock as it says, RFC 3339; often wrong.
    pub date_time: Option<String>,
    /// `SSH`, `IPMI`, …: ways to the serial console that the BMC itself names.
    pub console: Vec<String>,
}

/// A resource and its ETag: the header's, else the body's.
pub(super) async fn get<S: Source, T: DeserializeOwned + Default>(
    source: &S,
    path: &str,
) -> Result<(T, Option<String>), Failure> {
    let (body, header) = source.fetch(path).await?;
    let written = || body.get("@odata.etag").and_then(Value::as_str).map(str::to_owned);
    // Packing servers append to the tag what they did; the bare tag is the resource's.
    let etag = header.or_else(written).map(|e| e.replace("-gzip", "")).filter(|e| !e.is_empty() && e.is_ascii());
    Ok((super::parsed(body), etag))
}

/// What may be missing: a refusal (404, 403 for this branch, 500) is nothing. Branches that are there and were not given
/// are told beside what was read: [`Wire::unread`].
pub(super) async fn optional<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<Option<T>, Failure> {
    match work.await {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.cause == Cause::Refused => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The members of a collection, over all its pages, each once.
pub(super) async fn collection<S: Source>(source: &S, path: &str, limit: usize) -> Result<Vec<String>, Failure> {
    let (mut members, mut known, mut pages) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut next = Some(path.to_owned());
    let endless = |why: String| {
        let what = format!("{}: read {}", source.node(), crate::bmc::redfish::json::clean(path));
        Failure::new(Cause::Malformed, what, why)
    };
    while let Some(page) = next {
        if pages.len() >= MAX_PAGES || !pages.insert(page.clone()) {
            return Err(endless(format!("the collection does not end after {} pages", pages.len())));
        }
        let (body, _) = get::<S, Collection>(source, &page).await?;
        for member in read::paths(&body.members) {
            if known.insert(member.clone()) {
                members.push(member);
            }
            if members.len() > limit {
                return Err(endless(format!("the collection has more than {limit} members")));
            }
        }
        next = body.next.filter(|n| !n.is_empty());
    }
    Ok(members)
}

/// All of them side by side, in order; those that are not there are left out.
pub(super) async fn each<S: Source, T: DeserializeOwned + Default + Send>(
    source: &S,
    paths: Vec<String>,
) -> Result<Vec<(String, T)>, Failure> {
    let fetched: Vec<_> = stream::iter(paths)
        .map(|path| async move {
            let found = optional(get::<S, T>(source, &path)).await?;
            Ok(found.map(|(value, _)| (path, value)))
        })
        .buffered(SIDE_BY_SIDE)
        .collect()
        .await;
    fetched.into_iter().filter_map(Result::transpose).collect()
}

/// Root → the system that is driven, its settings resource and its reset types.
pub async fn gather_view<S: Source>(
    source: &S,
    root: &ServiceRoot,
    wanted: Option<&str>,
) -> Result<SystemView, Failure> {
    let what = || format!("{}: choose the system", source.node());
    let systems = Link::path(&root.systems)
        .ok_or_else(|| Failure::new(Cause::Malformed, what(), "the service root names no systems"))?;
    let paths = collection(source, systems, MAX_SYSTEMS).await?;
    let found: Vec<(String, ComputerSystem)> = each(source, paths).await?;
    let (path, _) = read::choose(&found, wanted).map_err(|why| {
        let hint = format!("name one in the inventory: Node/{} spec.bmc.system", source.node());
        Failure::new(Cause::Refused, what(), why).next(hint)
    })?;
    let (system, etag): (ComputerSystem, _) = get(source, path).await?;
    let quirks = quirks::classify(root, &system);
    let object = system.settings.as_ref().and_then(|s| Link::path(&s.object)).map(str::to_owned);
    let settings =
        match object {
            Some(object) => optional(get::<S, ComputerSystem>(source, &object))
                .await?
                .map(|(system, etag)| SettingsView { path: object, system, etag }),
            None => None,
        };
    let reset = system.actions.as_ref().and_then(|a| a.reset.clone()).unwrap_or_default();
    let mut reset_types = reset.allowed.unwrap_or_default();
    if let (true, Some(info)) = (reset_types.is_empty(), reset.info.filter(|i| !i.is_empty())) {
        let info = optional(get::<S, ActionInfo>(source, &info)).await?.map(|(info, _)| info).unwrap_or_default();
        let kind = info.parameters.into_iter().flatten().find(|p| p.name.as_deref() == Some("ResetType"));
        reset_types = kind.and_then(|p| p.allowed).unwrap_or_default();
    }
    Ok(SystemView { path: path.clone(), system, etag, settings, reset_types, quirks })
}

/// The rest of the facts: drives, addresses, processors, the manager's version.
pub async fn gather_facts<S: Source>(
    source: &S,
    endpoint: &str,
    root: &ServiceRoot,
    view: &SystemView,
) -> Result<BmcFacts, Failure> {
    let system = &view.system;
    let drives = match Link::path(&system.storage) {
        Some(path) => drives(source, path).await?,
        None => Vec::new(),
    };
    let mut macs = Vec::new();
    if let Some(path) = Link::path(&system.interfaces) {
        let paths = optional(collection(source, path, MAX_INTERFACES)).await?.unwrap_or_default();
        for (_, interface) in each::<S, EthernetInterface>(source, paths).await? {
            macs.extend(read::mac(&interface).filter(|m| !macs.contains(m)));
        }
    }
    let mut cores = system.processors.as_ref().and_then(|p| p.cores).filter(|c| *c > 0);
    if cores.is_none()
        && let Some(path) = Link::path(&system.processor_list)
    {
        let paths = optional(collection(source, path, MAX_PROCESSORS)).await?.unwrap_or_default();
        let found: Vec<(String, Processor)> = each(source, paths).await?;
        let cpus = found.iter().filter(|(_, p)| p.kind.as_deref().is_none_or(|k| k == "CPU"));
        cores = Some(cpus.filter_map(|(_, p)| p.cores).fold(0, u32::saturating_add)).filter(|c| *c > 0);
    }
    let manager = manager(source, root, view).await?;
    Ok(BmcFacts {
        endpoint: endpoint.to_owned(),
        manufacturer: read::text(&system.manufacturer),
        model: read::text(&system.model),
        serial: read::text(&system.serial),
        sku: read::text(&system.sku),
        uuid: read::uuid(&system.uuid),
        power: read::power(system.power),
        boot: system.boot.as_ref().and_then(|b| read::boot(b, &view.quirks).ok().flatten()),
        boot_targets: read::boot_targets(view),
        drives,
        macs,
        cores,
        memory_bytes: read::memory_bytes(system),
        bios_version: read::text(&system.bios_version),
        bmc_version: manager.firmware,
        unread: Vec::new(),
    })
}

async fn drives<S: Source>(source: &S, storage: &str) -> Result<Vec<DriveFacts>, Failure> {
    let controllers = optional(collection(source, storage, MAX_CONTROLLERS)).await?.unwrap_or_default();
    let controllers: Vec<(String, Storage)> = each(source, controllers).await?;
    let mut paths = Vec::new();
    for path in controllers.iter().flat_map(|(_, c)| read::paths(&c.drives)) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    if paths.len() > MAX_DRIVES {
        let why = format!("the BMC names more than {MAX_DRIVES} drives");
        return Err(Failure::new(Cause::Malformed, format!("{}: read drives", source.node()), why));
    }
    let found: Vec<(String, Drive)> = each(source, paths).await?;
    Ok(found.iter().filter_map(|(path, drive)| read::drive(drive, path)).collect())
}

/// The manager of the system, else the first one.
pub(super) async fn manager<S: Source>(
    source: &S,
    root: &ServiceRoot,
    view: &SystemView,
) -> Result<ManagerFacts, Failure> {
    let mut paths = read::paths(&view.system.links.clone().unwrap_or_default().managed_by);
    if let (true, Some(all)) = (paths.is_empty(), Link::path(&root.managers)) {
        paths = optional(collection(source, all, MAX_SYSTEMS)).await?.unwrap_or_default();
    }
    let Some(path) = paths.first() else { return Ok(ManagerFacts::default()) };
    let Some((manager, _)) = optional(get::<S, Manager>(source, path)).await? else {
        return Ok(ManagerFacts::default());
    };
    let console = manager.serial_console.filter(|c| c.enabled != Some(false)).and_then(|c| c.connect_types);
    Ok(ManagerFacts {
        name: read::text(&manager.name).or(Some(link::last_segment(path).to_owned())),
        kind: read::text(&manager.kind),
        model: read::text(&manager.model),
        firmware: read::text(&manager.firmware),
        date_time: read::text(&manager.date_time),
        console: console.unwrap_or_default().iter().map(|t| crate::bmc::redfish::json::clean(t)).collect(),
    })
}
