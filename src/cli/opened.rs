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

/// Where a state is, before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    Etcd(EtcdUrl),
}

impl Place {
    /// `sqlite:PATH`, `etcd://…`, or the file of this fleet in the state folder.
    pub fn of(url: Option<&str>, fleet: &Fleet) -> Result<Place, Stop> {
        match url {
            Some(url) if url.starts_with(etcd::url::SCHEME) => {
                Ok(Place::Etcd(EtcdUrl::parse(url).map_err(Stop::usage)?))
            }
            _ => Ok(Place::File(store_path(url, fleet)?)),
        }
    }

    /// For keys and scratch files of this host.
    pub fn folder(&self, fleet: &Fleet) -> Result<PathBuf, Stop> {
        match self {
            Place::File(path) => Ok(path.parent().unwrap_or(Path::new("/")).to_owned()),
            Place::Etcd(_) => Ok(own_folder(fleet)?),
        }
    }

    /// Also one whose content was moved elsewhere.
    pub fn open(&self, fleet: &Fleet) -> Result<Arc<dyn Store>, Stop> {
        match self {
            Place::File(path) => {
                let store = SqliteStore::open(path).map_err(|e| session::stop(&named(e, path)))?;
                Ok(Arc::new(store))
            }
            Place::Etcd(url) => Ok(Arc::new(in_etcd(url, fleet)?)),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::File(path) => write!(f, "sqlite:{}", path.display()),
            Place::Etcd(url) => url.fmt(f),
        }
    }
}

/// Opens the state; refused where it was moved elsewhere.
pub fn open(url: Option<&str>, fleet: &Fleet) -> Result<Opened, Stop> {
    let place = Place::of(url, fleet)?;
    let store = place.open(fleet)?;
    if let Some(to) = store.moved().map_err(|e| session::stop(&e))? {
        let why = format!("its content was moved to {to}");
        return Err(Failure::new(Cause::Guard, format!("open {place}"), why)
            .next(format!("rackctl --store {to} …"))
            .into());
    }
    Ok(Opened { store, folder: place.folder(fleet)? })
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
            "a state file is brought to this version; what etcd keeps has one format, and is moved",
            "rackctl store migrate --to URL",
        ),
        _ => refuse("state is kept in `sqlite:PATH` or `etcd://HOST:PORT,…`", "rackctl --store sqlite:PATH …"),
    }
}

/// Not inside a cluster of the fleet: by its endpoints before it is asked anything, by its identity after.
fn in_etcd(url: &EtcdUrl, fleet: &Fleet) -> Result<EtcdStore, Stop> {
    outside(url, fleet)?;
    let store = EtcdStore::open(url).map_err(|e| session::stop(&e))?;
    // One that is being filled has no content yet: what fills it was looked at where it came from.
    if !store.is_being_filled() {
        not_itself(&store, url, fleet, &store)?;
    }
    Ok(store)
}

pub(super) fn outside(url: &EtcdUrl, fleet: &Fleet) -> Result<(), Failure> {
    let resolved: Vec<Vec<IpAddr>> = url.hosts.iter().map(|(host, port)| addresses(host, *port)).collect();
    etcd::guard::outside(fleet, url, &resolved)
}

/// `known`: whose records say what the fleet's clusters are.
pub(super) fn not_itself(store: &EtcdStore, url: &EtcdUrl, fleet: &Fleet, known: &dyn Store) -> Result<(), Stop> {
    for name in fleet.clusters.keys() {
        let record = known.cluster_record(name).map_err(|e| session::stop(&e))?;
        let known = record.and_then(|record| record.cluster_id);
        etcd::guard::not_itself(name, known.as_deref(), url, &store.cluster_id())?;
    }
    Ok(())
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
