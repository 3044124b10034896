//! The product's client against the laboratory's BMC over UDP on the loopback, and both against programs that no one
//! here wrote.

mod accounts;
mod console;
mod drive;
mod faults;
mod lies;
mod many;
mod network;
mod peers;
mod simulator;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use super::*;
use crate::{
    bmc::{Client, Options, Passwords, RequestLine},
    lab::bmc::{
        Account, FakeChassis, Faults as BmcFaults,
        tests::{PASSWORD, description, node, passwords},
    },
    model::{
        Secret,
        fleet::{self, Endpoint, EndpointAt, Trust},
    },
};

pub(super) struct Bench {
    pub service: Arc<Service<FakeChassis>>,
    pub at: SocketAddr,
    pub node: fleet::Node,
    pub lines: Arc<Mutex<Vec<RequestLine>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn quick() -> BmcFaults {
    BmcFaults::parse(["power-lag=100ms"]).unwrap()
}

pub(super) fn endpoint(at: SocketAddr) -> Endpoint {
    Endpoint { at: EndpointAt::Ipmi(at.to_string()), credential: "lab".into(), trust: Trust::None }
}

pub(super) async fn bench(console: Option<PathBuf>) -> Bench {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
    let service = Service::new(Bmc::new(FakeChassis::new(description()), account, quick())).unwrap();
    let task = tokio::spawn(serve(socket, service.clone(), console, std::future::pending()));
    let mut node = node("n1", String::new(), Trust::None);
    node.bmc.as_mut().unwrap().endpoints = vec![endpoint(at)];
    Bench { service, at, node, lines: Default::default(), task }
}

impl Bench {
    pub fn options(&self) -> Options {
        let lines = self.lines.clone();
        Options {
            read_only: false,
            deadline: Duration::from_secs(30),
            ledger: Arc::new(crate::bmc::NoLedger),
            observer: Some(Arc::new(move |line: &RequestLine| lines.lock().unwrap().push(line.clone()))),
            gate: None,
        }
    }
    pub async fn client(&self) -> Client {
        self.open(&passwords(PASSWORD)).await.unwrap()
    }
    pub async fn open(&self, passwords: &Passwords) -> Result<Client, crate::model::Failure> {
        Client::open(&self.node, passwords, self.options()).await
    }
    /// Faults as `lab bmc set` takes them, in place of those before.
    pub fn lie(&self, faults: &[&str]) {
        self.service.bmc().set_faults(BmcFaults::parse(faults.iter().copied()).unwrap());
    }
    pub fn chassis(&self) -> &FakeChassis {
        self.service.bmc().chassis()
    }
    /// Names of the commands that the client sent.
    pub fn sent(&self) -> Vec<String> {
        self.lines.lock().unwrap().iter().map(|line| line.path.clone()).collect()
    }
}
