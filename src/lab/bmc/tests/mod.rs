//! The real client against the laboratory's BMC, over real TLS on the loopback.

mod corners;
mod faults;
mod hostile;
mod ladder;
mod old_tls;
mod passwords;
mod power;
mod resources;
mod sessions;
mod tls;
mod trees;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::*;
use crate::{
    bmc::{Client, Leftover, Options, Passwords, RequestLine, SessionLedger},
    model::fleet::{self, Endpoint, EndpointAt, Trust},
};

pub(super) const PASSWORD: &str = "correct horse";

#[derive(Default)]
pub(super) struct Ledger(pub Mutex<Vec<String>>);

impl SessionLedger for Ledger {
    fn opening(&self, node: &str) {
        self.0.lock().unwrap().push(format!("opening {node}"));
    }
    fn opened(&self, node: &str, uri: &str) {
        self.0.lock().unwrap().push(format!("opened {node} {uri}"));
    }
    fn closed(&self, node: &str) {
        self.0.lock().unwrap().push(format!("closed {node}"));
    }
}

/// A running BMC with a fake machine, and all that a client needs.
pub(super) struct Bench {
    pub bmc: Arc<Bmc<FakeChassis>>,
    pub node: fleet::Node,
    pub pin: String,
    pub ledger: Arc<Ledger>,
    pub lines: Arc<Mutex<Vec<RequestLine>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn description() -> Description {
    Description {
        manufacturer: "Contoso".into(),
        model: "R1".into(),
        serial: "LAB-0001".into(),
        sku: Some("R1-SKU".into()),
        uuid: "6f2b8a54-1111-4222-8333-444455556666".parse().unwrap(),
        macs: vec!["52:54:00:00:00:01".parse().unwrap(), "52:54:00:00:00:02".parse().unwrap()],
        drives: vec![DriveDescription { serial: "DISK-1".into(), model: "Virtual".into(), size_bytes: 8 << 30 }],
        memory_bytes: 512 << 20,
        cores: 2,
        uefi: true,
        bios_version: "edk2".into(),
    }
}

pub(super) fn node(name: &str, url: String, trust: Trust) -> fleet::Node {
    let endpoint = Endpoint { at: EndpointAt::Redfish(url), credential: "lab".into(), trust };
    fleet::Node {
        name: name.into(),
        labels: Default::default(),
        site: None,
        hardware_class: None,
        profile: None,
        lifecycle: fleet::Lifecycle::Active,
        management: fleet::Management::Full,
        protect: false,
        identity: Default::default(),
        bmc: Some(fleet::Bmc { endpoints: vec![endpoint], system: None, mac: None, shared_nic: false }),
        interfaces: vec![],
        disks: Default::default(),
        location: Default::default(),
        arch: fleet::Arch::Amd64,
        boot_mode: fleet::BootMode::Uefi,
        boot_method: fleet::BootMethod::Pxe,
        console: None,
        minimum: Default::default(),
        image: None,
        kernel_params: vec![],
        install: None,
        services: vec![],
        ssh: Default::default(),
        dns: vec![],
        baseline: Default::default(),
    }
}

pub(super) fn quick() -> Faults {
    Faults::parse(["power-lag=200ms"]).unwrap()
}

/// Quick, and so besides.
pub(super) fn with(faults: &[&str]) -> Faults {
    Faults::parse(faults.iter().copied()).unwrap().over(&quick())
}

pub(super) async fn bench(nature: Faults) -> Bench {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let certificate = certificate("bmc-n1", None).unwrap();
    let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
    let bmc = Bmc::new(FakeChassis::new(description()), account, nature);
    let tls = certificate.server_config().unwrap();
    let task = tokio::spawn(serve(listener, tls, bmc.clone(), std::future::pending()));
    let node = node("n1", url, Trust::Pin(certificate.pin.clone()));
    Bench { bmc, node, pin: certificate.pin, ledger: Default::default(), lines: Default::default(), task }
}

pub(super) fn passwords(password: &str) -> Passwords {
    let mut passwords = Passwords::new();
    passwords.insert("lab", "root", Arc::new(Secret::new(password.into())));
    passwords
}

impl Bench {
    pub fn options(&self) -> Options {
        let lines = self.lines.clone();
        Options {
            read_only: false,
            deadline: Duration::from_secs(30),
            ledger: self.ledger.clone(),
            observer: Some(Arc::new(move |line: &RequestLine| lines.lock().unwrap().push(line.clone()))),
            gate: None,
        }
    }
    pub async fn client(&self) -> Client {
        Client::open(&self.node, &passwords(PASSWORD), self.options()).await.unwrap()
    }
    pub fn url(&self) -> String {
        match &self.node.bmc.as_ref().unwrap().endpoints[0].at {
            EndpointAt::Redfish(url) => url.clone(),
            EndpointAt::Ipmi(_) => unreachable!(),
        }
    }
    pub fn trust(&mut self, trust: Trust) {
        self.node.bmc.as_mut().unwrap().endpoints[0].trust = trust;
    }
    /// How often a method went to a path that ends so, as the BMC saw it.
    pub fn count(&self, method: &str, end: &str) -> usize {
        self.bmc.log().0.iter().filter(|l| l.method == method && l.path.ends_with(end)).count()
    }
}
