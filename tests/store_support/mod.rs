//! Real etcd servers for the store's tests, on loopback ports.
#![allow(dead_code)] // Each test program uses a part.

pub mod proxy;

use std::{net::Ipv4Addr, path::Path};

use rackctl::{
    cluster::etcd::member::{Seat, bootstrap},
    store::{Draft, EtcdStore, EtcdUrl, Fence, Holder, LEASE, RecordKind, Store, StoreError, clock},
};
use rackctl_wire::EtcdMember;
use serde_json::json;
use uuid::Uuid;

use crate::cluster_support::{Etcd, free_port};

pub struct Server {
    pub etcd: Etcd,
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start(binary: &Path) -> Server {
        Server::start_with(binary, "http", &[])
    }

    /// `scheme` of its client URL; `options` of etcd.
    pub fn start_with(binary: &Path, scheme: &str, options: &[String]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let seat = seat("s1");
        let member = bootstrap(&seat, Uuid::new_v4());
        let https = |url: &str| url.replace("http://", &format!("{scheme}://"));
        let member = EtcdMember {
            listen_client_urls: https(&member.listen_client_urls),
            advertise_client_urls: https(&member.advertise_client_urls),
            ..member
        };
        let etcd = Etcd::start_with(binary, folder.path(), &member, options);
        Server { etcd, port: seat.client_port, _folder: folder }
    }

    pub fn url(&self, rest: &str) -> EtcdUrl {
        url(&[self.port], rest)
    }

    pub fn store(&self, prefix: &str) -> EtcdStore {
        EtcdStore::open(&self.url(prefix)).unwrap()
    }
}

pub fn url(ports: &[u16], rest: &str) -> EtcdUrl {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    EtcdUrl::parse(&format!("etcd://{}/{rest}", hosts.join(","))).unwrap()
}

pub fn seat(name: &str) -> Seat {
    Seat {
        cluster: "store".into(),
        name: name.into(),
        generation: 1,
        address: Ipv4Addr::LOCALHOST,
        client_port: free_port(),
        peer_port: free_port(),
    }
}

pub fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

/// On another host: whether it lives cannot be told from here.
pub fn elsewhere(user: &str) -> Holder {
    Holder { host: "elsewhere".into(), user: user.into(), pid: 7, ..Holder::this() }
}

pub fn lock(store: &dyn Store, list: &[&str], run: &str, holder: &Holder) -> Result<Fence, StoreError> {
    store.lock(&names(list), run, holder, &clock::stamp(), LEASE)
}

pub fn draft(step: &str) -> Draft {
    let body = json!({ "of": step });
    Draft { subject: "n1".into(), step: step.into(), attempt: 1, kind: RecordKind::Intent, body }
}

pub fn append(store: &dyn Store, run: &str, fence: &Fence, step: &str) -> Result<rackctl::store::Record, StoreError> {
    store.append(run, 5, fence, draft(step))
}

/// How often each step stands in the chain, which must hold.
pub fn times(store: &dyn Store, step: &str) -> usize {
    let chain = store.chain().unwrap();
    assert_eq!(rackctl::store::verify(&chain).unwrap(), store.head().unwrap().hash);
    chain.iter().filter(|record| record.step == step).count()
}
