//! Where the state is: `--store`, RACKCTL_STORE or the context's, opened; by default the file of this fleet.

use std::{
    net::{IpAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{paths, session};
use crate::{
    model::{Failure, Fleet, failure::Cause},
    output::Stop,
    store::{EtcdStore, EtcdUrl, SqliteStore, Store, StoreError, etcd},
};

/// For one name of an etcd endpoint.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

pub struct Opened {
    pub store: Arc<dyn Store>,
    /// For keys and scratch files of this host: beside a state file, else in the fleet's state folder.
    pub folder: PathBuf,
}

/// Opens `sqlite:PATH`, `etcd://…`, or the file of this fleet in the state folder.
pub fn open(url: Option<&str>, fleet: &Fleet) -> Result<Opened, Stop> {
    if let Some(url) = url.filter(|url| url.starts_with(etcd::url::SCHEME)) {
        return Ok(Opened { store: Arc::new(in_etcd(url, fleet)?), folder: own_folder(fleet)? });
    }
    let path = store_path(url, fleet)?;
    let store = SqliteStore::open(&path).map_err(|e| session::stop(&named(e, &path)))?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(Opened { store: Arc::new(store), folder })
}

fn own_folder(fleet: &Fleet) -> Result<PathBuf, Failure> {
    Ok(paths::state()?.join("fleets").join(&fleet.id))
}

/// The state file: `sqlite:PATH`, or this fleet's in the state folder. For verbs that work on a file and nothing else.
pub(super) fn store_path(url: Option<&str>, fleet: &Fleet) -> Result<PathBuf, Stop> {
    let Some(url) = url else { return Ok(own_folder(fleet)?.join("state.db")) };
    let refuse = |why: &str, next: &str| {
        Err(Stop::usage(Failure::new(Cause::Refused, format!("--store {url}"), why).next(next)))
    };
    match url.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => Ok(std::path::absolute(path)
            .map_err(|e| Stop::usage(Failure::new(Cause::Local, format!("--store {url}"), e.to_string())))?),
        _ if url.starts_with(etcd::url::SCHEME) => refuse(
            "this verb works on a state file; what etcd keeps has one format, and is restored from an export",
            "rackctl store import FILE",
        ),
        _ => refuse("state is kept in `sqlite:PATH` or `etcd://HOST:PORT,…`", "rackctl --store sqlite:PATH …"),
    }
}

/// Not inside a cluster of the fleet: by its endpoints before it is asked anything, by its identity after.
fn in_etcd(text: &str, fleet: &Fleet) -> Result<EtcdStore, Stop> {
    let url = EtcdUrl::parse(text).map_err(Stop::usage)?;
    let resolved: Vec<Vec<IpAddr>> = url.hosts.iter().map(|(host, port)| addresses(host, *port)).collect();
    etcd::guard::outside(fleet, &url, &resolved)?;
    let store = EtcdStore::open(&url).map_err(|e| session::stop(&e))?;
    for name in fleet.clusters.keys() {
        let record = store.cluster_record(name).map_err(|e| session::stop(&e))?;
        let known = record.and_then(|record| record.cluster_id);
        etcd::guard::not_itself(name, known.as_deref(), &url, &store.cluster_id())?;
    }
    Ok(store)
}

/// Of a name; empty where nobody knows it, which opening the store will say better.
fn addresses(host: &str, port: u16) -> Vec<IpAddr> {
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    let (tell, told) = mpsc::channel();
    let name = host.to_owned();
    // The system's resolver takes no deadline.
    std::thread::spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(|all| all.map(|a| a.ip()).collect());
        let _ = tell.send(found.unwrap_or_default());
    });
    told.recv_timeout(RESOLVE_DEADLINE).unwrap_or_default()
}

/// A state file that cannot be opened is named, and so is the way around it.
pub(super) fn named(error: StoreError, path: &Path) -> StoreError {
    let StoreError::Failed(mut failure) = error else { return error };
    let shown = path.display().to_string();
    if !failure.what.contains(&shown) && !failure.why.contains(&shown) {
        failure.what = format!("{} {shown}", failure.what);
    }
    if failure.next.is_none() {
        failure.next = Some("rackctl --store sqlite:PATH …".to_owned());
    }
    StoreError::Failed(failure)
}
