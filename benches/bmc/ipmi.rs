//! A thousand of the laboratory's own BMCs over IPMI, in one program: an address of 127.2.0.0/16 each.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use rackctl::{
    lab::bmc::{Account, Bmc, Chassis, Description, FakeChassis, Faults, ipmi},
    model::{Mac, Secret},
};
use tokio::net::UdpSocket;
use uuid::Uuid;

use super::mock::PASSWORD;

const PORT: u16 = 623;

pub fn addresses(count: usize) -> Vec<SocketAddr> {
    let at = |i: usize| Ipv4Addr::new(127, 2, (i / 250) as u8, 1 + (i % 250) as u8);
    (0..count).map(|i| SocketAddr::from((at(i), PORT))).collect()
}

pub struct Bmcs(Child);

impl Bmcs {
    pub fn start(count: usize) -> Bmcs {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["ipmi", &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready.trim(), "ready");
        Bmcs(child)
    }

    pub fn stop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Serves until standard input ends.
pub fn run(count: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        for (i, at) in addresses(count).into_iter().enumerate() {
            let chassis = FakeChassis::new(description(i));
            chassis.power_on(None).await.unwrap();
            let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
            let service = ipmi::Service::new(Bmc::new(chassis, account, Faults::default())).unwrap();
            let socket = UdpSocket::bind(at).await.unwrap();
            tokio::spawn(ipmi::serve(socket, service, None, std::future::pending()));
        }
    });
    println!("ready");
    for _ in std::io::stdin().lock().lines() {}
}

fn description(index: usize) -> Description {
    let [.., a, b] = index.to_be_bytes();
    let mac = Mac([0x02, 0, 0, 0, a, b]);
    Description {
        manufacturer: "rackctl".into(),
        model: "Bench".into(),
        serial: format!("B{index}"),
        sku: None,
        uuid: Uuid::from_u128(0x5254_0077_0000_4000_8000_0000_0000_0000 + index as u128),
        macs: vec![mac],
        drives: Vec::new(),
        memory_bytes: 1 << 30,
        cores: 1,
        uefi: true,
        bios_version: "1.0.0".into(),
    }
}
