//! Reading and clearing the logs of a BMC.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Client,
    ground::Ground,
    walk::{self, Source},
};
use crate::{
    bmc::{
        link,
        logs::{self, Log, Owner},
        redfish::wire::{Link, log as wire},
    },
    model::{Failure, failure::Cause},
};

const MAX_SERVICES: usize = 32;
/// Entries of one log that are kept, the newest.
pub const MAX_ENTRIES: usize = 2048;
/// Entries that are fetched one by one, where a log gives links alone.
const MAX_SINGLE: usize = 64;
/// What clearing leaves behind: most BMCs note that they were told to.
const AFTER_CLEAR: usize = 3;
const CLEAR_TRIES: u32 = 6;
const CLEAR_PAUSE: Duration = Duration::from_secs(1);

/// Every log of the system, its managers and chassis; one that several owners name is the first one's. `wanted`: this
/// one alone.
pub async fn gather_logs<S: Source>(ground: &Ground<'_, S>, wanted: Option<&str>) -> Result<Vec<Log>, Failure> {
    const DOING: &str = "read its logs";
    let mut homes: Vec<(Owner, String)> = Vec::new();
    let mut home = |owner, link: &Option<Link>| {
        homes.extend(Link::path(link).map(|path| (owner, path.to_owned())));
    };
    home(Owner::System, &ground.view.system.logs);
    for (_, manager) in ground.managers().await? {
        home(Owner::Manager, &manager.logs);
    }
    for (_, chassis) in ground.chassis().await? {
        home(Owner::Chassis, &chassis.logs);
    }
    let mut found: Vec<(Log, wire::LogService)> = Vec::new();
    for (owner, path) in &homes {
        for (path, service) in ground.members::<wire::LogService>(path, MAX_SERVICES).await?.unwrap_or_default() {
            if !found.iter().any(|(log, _)| link::same(&log.path, &path)) {
                found.push((logs::log(&path, *owner, &service), service));
            }
        }
    }
    if found.is_empty() {
        let mut looked: Vec<&str> = homes.iter().map(|(_, path)| path.as_str()).collect();
        if looked.is_empty() {
            looked.push("LogServices of its system, managers and chassis");
        }
        return Err(ground.lacks(DOING, "log", &looked));
    }
    if let Some(wanted) = wanted {
        let names: Vec<String> = found.iter().map(|(log, _)| log.id.clone()).collect();
        found.retain(|(log, _)| log.id.eq_ignore_ascii_case(wanted));
        if found.is_empty() {
            let what = format!("log `{wanted}`; it has {}", names.join(", "));
            return Err(ground.lacks(DOING, &what, &[]));
        }
    }
    let mut all = Vec::new();
    for (mut log, service) in found {
        match Link::path(&service.entries) {
            Some(path) => entries(ground, path, &mut log).await?,
            None => log.unreadable = true,
        }
        all.push(log);
    }
    Ok(all)
}

async fn entries<S: Source>(ground: &Ground<'_, S>, path: &str, log: &mut Log) -> Result<(), Failure> {
    let Some((members, more)) = walk::optional(ground.newest(path, MAX_ENTRIES)).await? else {
        log.unreadable = true;
        return Ok(());
    };
    let links = members.iter().filter(|(_, body)| body.is_none()).count();
    let kept = if links > MAX_SINGLE { logs::newest_of_links(members, MAX_SINGLE) } else { members };
    log.more = more || links > MAX_SINGLE;
    let read: Vec<(String, wire::LogEntry)> = ground.filled(kept).await?;
    log.entries = logs::newest_last(read.iter().filter_map(|(path, e)| logs::entry(path, e)).collect());
    Ok(())
}

impl Client {
    /// The logs of the machine and of its BMC, newest entries last; `wanted` names one.
    pub async fn logs(&self, wanted: Option<&str>) -> Result<Vec<Log>, Failure> {
        self.limited("read its logs", self.logs_now(wanted)).await
    }

    async fn logs_now(&self, wanted: Option<&str>) -> Result<Vec<Log>, Failure> {
        let view = self.fresh_view(false).await?;
        gather_logs(&self.ground(&view), wanted).await
    }

    /// Clears the named log, or all that can be cleared, and sees that they are empty. Says which.
    pub async fn clear_logs(&self, wanted: Option<&str>) -> Result<Vec<String>, Failure> {
        self.limited("clear its logs", self.clear_now(wanted)).await
    }

    async fn clear_now(&self, wanted: Option<&str>) -> Result<Vec<String>, Failure> {
        let doing = "clear its logs";
        let found = self.logs_now(wanted).await?;
        let clearable: Vec<&Log> = found.iter().filter(|log| log.clear.is_some()).collect();
        if clearable.is_empty() {
            let looked: Vec<&str> = found.iter().map(|log| log.path.as_str()).collect();
            return Err(self.lacks(doing, "log that can be cleared", &looked));
        }
        let mut cleared = Vec::new();
        for log in clearable {
            let Some(target) = &log.clear else { continue };
            self.post(target, serde_json::json!({})).await?;
            self.seen_empty(log).await?;
            cleared.push(log.id.clone());
        }
        Ok(cleared)
    }

    async fn seen_empty(&self, log: &Log) -> Result<(), Failure> {
        let old: Vec<&String> = log.entries.iter().map(|e| &e.id).collect();
        let mut left = 0;
        for attempt in 0..CLEAR_TRIES {
            if attempt > 0 {
                sleep(CLEAR_PAUSE).await;
            }
            let now = self.logs_now(Some(&log.id)).await?;
            let Some(now) = now.iter().find(|l| link::same(&l.path, &log.path)) else { continue };
            left = now.entries.len();
            // What is there now and was not before is news, not a remnant: ids may begin anew, contents differ then.
            let remnants = now.entries.iter().filter(|e| log.entries.contains(e)).count();
            if remnants == 0 || (left <= AFTER_CLEAR && left < old.len()) {
                return Ok(());
            }
        }
        let why = format!("the BMC took the request and its log {} still has {left} entries of {}", log.id, old.len());
        Err(Failure::new(Cause::AcceptedButIgnored, self.what("clear its logs"), why)
            .next(format!("rackctl bmc log {} --log {}", self.wire.node, log.id)))
    }
}
