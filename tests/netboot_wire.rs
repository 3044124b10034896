//! The server process on a real wire: a veth pair between two network namespaces, made and removed here.
//! Needs root; skips loudly without.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rackctl::{
    model::{
        Mac,
        boot::{BootChoice, BootMachine, BootNetwork, BootObject, BootSubnet, BootTable, NetbootEvent},
        fleet::{Arch, DhcpMode},
    },
    netboot::{
        frame::{self, BROADCAST, End},
        packet_socket::{PacketSocket, Receive},
        rogue,
        servers::{OrderSender, Servers},
    },
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

/// Not a test: what the tests start as the server process.
#[test]
#[ignore = "the server process of the other tests"]
fn child_entry() {
    let _ = rackctl::netboot::child::main(0);
}

/// Not a test: a parent that starts the servers, tells their events, and waits to be killed.
#[test]
#[ignore = "a parent for the other tests; by hand: RACKCTL_BOOT_TABLE=table.json"]
fn parent_entry() {
    let Some(path) = std::env::var_os("RACKCTL_BOOT_TABLE") else { return };
    let table: BootTable = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let (_orders, mut events) = start(&table);
    let begun = Instant::now();
    while let Some(event) = events.blocking_recv() {
        println!("{:8.3} {}", begun.elapsed().as_secs_f64(), serde_json::to_string(&event).unwrap());
    }
}

fn start(table: &BootTable) -> (OrderSender, mpsc::Receiver<NetbootEvent>) {
    let me = std::env::current_exe().unwrap();
    let args = ["--exact", "child_entry", "--ignored", "--nocapture"];
    let (mut orders, events) = Servers::spawn_program(&me, &args, None).unwrap().into_async();
    orders.serve(table).unwrap();
    (orders, events)
}

/// Two namespaces with a wire between: `srv0` 10.77.0.1 and `cli0` 10.77.0.101.
struct Wire {
    server: String,
    client: String,
    dir: tempfile::TempDir,
}

impl Wire {
    fn new() -> Option<Wire> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root for network namespaces");
            return None;
        }
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let wire =
            Wire { server: format!("rknb-s-{id}"), client: format!("rknb-c-{id}"), dir: tempfile::tempdir().unwrap() };
        let (s, c) = (wire.server.as_str(), wire.client.as_str());
        let mac = MAC.to_string();
        for line in [
            vec!["netns", "add", s],
            vec!["netns", "add", c],
            vec!["-n", s, "link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "netns", c],
            vec!["-n", c, "link", "set", "cli0", "address", &mac],
            vec!["-n", s, "addr", "add", "10.77.0.1/24", "dev", "srv0"],
            vec!["-n", c, "addr", "add", "10.77.0.101/24", "dev", "cli0"],
            vec!["-n", s, "link", "set", "lo", "up"],
            vec!["-n", s, "link", "set", "srv0", "up"],
            vec!["-n", c, "link", "set", "cli0", "up"],
        ] {
            let out = Command::new("ip").args(&line).output().unwrap();
            if !out.status.success() {
                eprintln!("SKIPPED: ip {line:?}: {}", String::from_utf8_lossy(&out.stderr));
                return None;
            }
        }
        Some(wire)
    }

    /// Runs on a thread of its own inside a namespace.
    fn inside<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let file = fs::File::open(format!("/run/netns/{name}")).unwrap();
                    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    work()
                })
                .join()
                .unwrap()
        })
    }

    fn client(&self, argv: &[&str]) -> Output {
        Command::new("ip").args(["netns", "exec", &self.client]).args(argv).output().unwrap()
    }

    fn object(&self, name: &str, content: &[u8], tftp: bool) -> BootObject {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        BootObject {
            sha256: hex::encode(Sha256::digest(content)),
            path,
            size_bytes: content.len() as u64,
            tftp_name: tftp.then(|| name.to_owned()),
        }
    }

    fn table(&self) -> BootTable {
        let loader: Vec<u8> = (0..200_001u32).map(|i| (i * 7 % 251) as u8).collect();
        let kernel: Vec<u8> = (0..3_000_000u32).map(|i| (i * 13 % 253) as u8).collect();
        let objects = vec![self.object("snponly.efi", &loader, true), self.object("kernel", &kernel, false)];
        let kernel = objects[1].sha256.clone();
        let machine = BootMachine {
            node: "n1".to_owned(),
            mac: MAC,
            uuid: None,
            arch: Arch::Amd64,
            address: ADDRESS,
            hostname: "n1".to_owned(),
            boot: BootChoice::Installer {
                kernel_sha256: kernel.clone(),
                initrd_sha256: kernel,
                cmdline: vec!["console=ttyS0".to_owned()],
                seed_json: "{\"secret\":1}".to_owned(),
            },
        };
        let mut other = machine.clone();
        (other.node, other.mac, other.address) =
            ("n2".to_owned(), Mac([2, 0, 0, 0, 0, 9]), Ipv4Addr::new(10, 77, 0, 102));
        BootTable {
            version: 1,
            network: BootNetwork {
                name: "lab".to_owned(),
                interface: "srv0".to_owned(),
                server: SERVER,
                subnets: vec![BootSubnet {
                    cidr: "10.77.0.0/24".parse().unwrap(),
                    gateway: None,
                    relays: vec![],
                    dns: vec![],
                }],
                dhcp: DhcpMode::Authoritative,
                lease_s: 3600,
                probe_ms: rackctl::model::fleet::PROBE_MS,
                mtu: 1500,
                http_port: 8080,
                api: SocketAddrV4::new(SERVER, 8443),
                api_pin: String::new(),
            },
            machines: vec![machine, other],
            objects,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// The first event that `wanted` takes, within ten seconds.
fn wait<T>(events: &mut mpsc::Receiver<NetbootEvent>, mut wanted: impl FnMut(&NetbootEvent) -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    let mut seen = Vec::new();
    while Instant::now() < until {
        match events.try_recv() {
            Ok(event) => {
                if let Some(found) = wanted(&event) {
                    return found;
                }
                seen.push(event);
            }
            Err(mpsc::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => panic!("{error}: {seen:?}"),
        }
    }
    panic!("not told within ten seconds: {seen:?}")
}

fn ready(events: &mut mpsc::Receiver<NetbootEvent>) {
    wait(events, |event| match event {
        NetbootEvent::Ready { version: 1 } => Some(()),
        NetbootEvent::Failed { failure } => panic!("{failure:?}"),
        _ => None,
    });
}

/// A DISCOVER from the client's end of the wire; whole frame and payload of what comes back.
fn discover(mac: Mac) -> Option<(Vec<u8>, Vec<u8>)> {
    let socket = PacketSocket::open("cli0", Receive::DhcpReplies).unwrap();
    let mut message = rogue::discover(mac, 4711);
    message[10] = 0;
    let from = End { mac, ip: Ipv4Addr::UNSPECIFIED, port: 68 };
    let to = End { mac: BROADCAST, ip: Ipv4Addr::BROADCAST, port: 67 };
    socket.send(&frame::udp(from, to, &message)).unwrap();
    let mut buffer = [0u8; 2048];
    let answer = socket.receive(&mut buffer, Duration::from_secs(2)).unwrap()?.to_vec();
    let payload = frame::read_udp(&answer).unwrap().3.to_vec();
    Some((answer, payload))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// fault: F11 invariant: I8 harness: N
#[test]
fn serves_its_machines_and_nobody_else() {
    let Some(wire) = Wire::new() else { return };
    let table = wire.table();
    let (mut orders, mut events) = Wire::inside(&wire.server, || start(&table));
    ready(&mut events);

    // DHCP: a frame of our own, straight to the hardware address.
    let (answer, offer) = Wire::inside(&wire.client, || discover(MAC)).unwrap();
    assert_eq!(answer[..6], MAC.0);
    assert_eq!(offer[16..20], ADDRESS.octets());
    wait(&mut events, |e| matches!(e, NetbootEvent::DhcpOffered { node, .. } if node == "n1").then_some(()));
    assert!(Wire::inside(&wire.client, || discover(Mac([2, 0, 0, 0, 0, 7]))).is_none(), "a stranger was answered");
    wait(&mut events, |e| matches!(e, NetbootEvent::DhcpIgnored { mac: Some(_), .. }).then_some(()));

    // TFTP: with and without options, unknown names, writing.
    let loader = fs::read(&table.objects[0].path).unwrap();
    let into = wire.dir.path().join("got");
    let got = into.to_str().unwrap();
    for block in ["512", "1468", "8192"] {
        let out = wire.client(&[
            "curl",
            "-sS",
            "-m",
            "20",
            "--tftp-blksize",
            block,
            "-o",
            got,
            "tftp://10.77.0.1/snponly.efi",
        ]);
        assert!(out.status.success(), "{}", text(&out.stderr));
        assert!(fs::read(&into).unwrap() == loader, "block size {block}");
    }
    wait(&mut events, |e| matches!(e, NetbootEvent::TftpSent { bytes: 200_001, .. }).then_some(()));
    let begun = Instant::now();
    let out = wire.client(&["curl", "-sS", "-m", "20", "tftp://10.77.0.1/../../etc/passwd"]);
    assert!(!out.status.success() && begun.elapsed() < Duration::from_secs(2), "{}", text(&out.stderr));
    let out = wire.client(&["curl", "-sS", "-m", "20", "-T", got, "tftp://10.77.0.1/snponly.efi"]);
    assert!(!out.status.success());
    wait(&mut events, |e| matches!(e, NetbootEvent::TftpRefused { .. }).then_some(()));

    // HTTP.
    let object = &table.objects[1];
    let kernel = fs::read(&object.path).unwrap();
    let url = format!("http://10.77.0.1:8080/o/{}", object.sha256);
    let out = wire.client(&["curl", "-sS", "-m", "20", "-o", got, &url]);
    assert!(out.status.success() && fs::read(&into).unwrap() == kernel, "{}", text(&out.stderr));
    wait(&mut events, |e| matches!(e, NetbootEvent::ObjectServed { whole: true, bytes: 3_000_000, .. }).then_some(()));
    let out = wire.client(&["curl", "-sS", "-m", "20", "-D", "-", "-r", "1000000-1000009", &url]);
    assert!(text(&out.stdout).starts_with("HTTP/1.1 206"), "{}", text(&out.stdout));
    assert!(out.stdout.ends_with(&kernel[1_000_000..1_000_010]));
    assert!(text(&out.stdout).contains("content-range: bytes 1000000-1000009/3000000"));
    let status = |args: &[&str]| {
        let mut argv = vec!["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code} %header{content-length}"];
        argv.extend_from_slice(args);
        text(&wire.client(&argv).stdout)
    };
    let etag = format!("If-None-Match: \"{}\"", object.sha256);
    assert_eq!(status(&["-I", &url]), "200 3000000");
    assert_eq!(status(&["-r", "3000000-", &url]), "416 0");
    assert!(status(&["-H", &etag, &url]).starts_with("304"));
    assert!(status(&["-X", "POST", &url]).starts_with("405"));
    assert!(status(&["--path-as-is", "http://10.77.0.1:8080/o/../../etc/passwd"]).starts_with("404"));
    assert_eq!(status(&["http://10.77.0.1:8080/healthz"]), "200 3");
    let mine = "http://10.77.0.1:8080/seed/52-54-00-00-00-01.cpio";
    assert_eq!(status(&[mine]), "200 512");
    wait(&mut events, |e| matches!(e, NetbootEvent::SeedServed { .. }).then_some(()));
    assert!(status(&["http://10.77.0.1:8080/seed/02:00:00:00:00:09.cpio"]).starts_with("403"), "another's seed");
    let script = text(&wire.client(&["curl", "-sS", "http://10.77.0.1:8080/boot/52-54-00-00-00-01.ipxe"]).stdout);
    assert!(script.starts_with("#!ipxe\n") && script.contains(&url), "{script}");
    // Another address on the same wire is no machine of the run.
    let out = Command::new("ip").args(["-n", &wire.client, "addr", "add", "10.77.0.200/24", "dev", "cli0"]).output();
    assert!(out.unwrap().status.success());
    assert!(status(&["--interface", "10.77.0.200", mine]).starts_with("403"));
    assert!(status(&["--interface", "10.77.0.200", &url]).starts_with("403"));

    // A new table takes the seed away.
    let mut next = table.clone();
    next.version = 2;
    next.machines[0].boot = BootChoice::Withdrawn;
    orders.serve(&next).unwrap();
    wait(&mut events, |e| matches!(e, NetbootEvent::TableTaken { version: 2 }).then_some(()));
    assert!(status(&[mine]).starts_with("404"));

    // What the process may still do.
    // Of the servers' threads; the thread that runs this test program's harness is not theirs.
    let mut threads = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", orders.id())).unwrap().flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let name = status.lines().next().unwrap().trim_start_matches("Name:").trim().to_owned();
        if ["dhcp", "tftp", "http"].contains(&name.as_str()) {
            for line in ["CapPrm:\t0000000000002400", "CapEff:\t0000000000002400", "NoNewPrivs:\t1"] {
                assert!(status.contains(line), "{status}");
            }
            threads.push(name);
        }
    }
    threads.sort();
    assert_eq!(threads, ["dhcp", "http", "tftp"]);
    // And its end.
    let id = orders.id();
    let begun = Instant::now();
    drop(orders);
    assert!(begun.elapsed() < Duration::from_millis(250), "{:?}", begun.elapsed());
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}

// fault: F21 invariant: I8 harness: N
#[test]
fn a_second_server_on_the_wire_keeps_us_quiet() {
    let Some(wire) = Wire::new() else { return };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let name = wire.client.clone();
        let stop = &stop;
        scope.spawn(move || Wire::inside(&name, || answer_everybody(stop)));
        let table = wire.table();
        let (_orders, mut events) = Wire::inside(&wire.server, || start(&table));
        let rogue = wait(&mut events, |e| match e {
            NetbootEvent::RogueDhcp { server } => Some(*server),
            NetbootEvent::Ready { .. } => panic!("ready beside another server"),
            _ => None,
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(rogue, ADDRESS);
        wait(&mut events, |e| match e {
            NetbootEvent::Failed { failure } => failure.why.contains("10.77.0.101").then_some(()),
            _ => None,
        });
        assert!(Wire::inside(&wire.client, || discover(MAC)).is_none(), "answered beside another server");
    });
}

/// Offers to whoever asks, until told to stop.
fn answer_everybody(stop: &std::sync::atomic::AtomicBool) {
    let socket = std::net::UdpSocket::bind("0.0.0.0:67").unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let back = PacketSocket::open("cli0", Receive::Nothing).unwrap();
    let mut buffer = [0u8; 2048];
    let until = Instant::now() + Duration::from_secs(15);
    while !stop.load(Ordering::Relaxed) && Instant::now() < until {
        let Ok((len, _)) = socket.recv_from(&mut buffer) else { continue };
        let mut offer = buffer[..len.min(240)].to_vec();
        offer[0] = 2;
        offer.extend_from_slice(&[53, 1, 2, 54, 4, 10, 77, 0, 101, 255]);
        let from = End { mac: back.mac, ip: ADDRESS, port: 67 };
        let to = End { mac: BROADCAST, ip: Ipv4Addr::BROADCAST, port: 68 };
        back.send(&frame::udp(from, to, &offer)).unwrap();
    }
}

// fault: F28 harness: N
#[test]
fn a_taken_port_is_named_with_its_holder() {
    let Some(wire) = Wire::new() else { return };
    let table = wire.table();
    let failure = Wire::inside(&wire.server, || {
        let _held = std::net::UdpSocket::bind("0.0.0.0:67").unwrap();
        let (_orders, mut events) = start(&table);
        wait(&mut events, |e| match e {
            NetbootEvent::Failed { failure } => Some(failure.clone()),
            _ => None,
        })
    });
    assert!(failure.what.contains("udp port 67"), "{failure:?}");
    assert!(failure.why.contains(&format!("(process {})", std::process::id())), "{failure:?}");
    assert!(failure.next.is_some());
}

// fault: F52 invariant: I8 harness: K N
#[test]
fn killing_the_parent_frees_every_port_within_a_second() {
    let Some(wire) = Wire::new() else { return };
    let path: PathBuf = wire.dir.path().join("table.json");
    fs::write(&path, serde_json::to_vec(&wire.table()).unwrap()).unwrap();
    let mut parent: Child = Command::new("ip")
        .args(["netns", "exec", &wire.server])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "parent_entry", "--ignored", "--nocapture"])
        .env("RACKCTL_BOOT_TABLE", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let taken = || Wire::inside(&wire.server, ports_taken);
    let until = Instant::now() + Duration::from_secs(20);
    while taken() != [67, 69, 8080] {
        assert!(Instant::now() < until, "servers never came up: {:?}", taken());
        std::thread::sleep(Duration::from_millis(50));
    }
    parent.kill().unwrap();
    let killed = Instant::now();
    parent.wait().unwrap();
    while !taken().is_empty() {
        assert!(killed.elapsed() < Duration::from_secs(1), "still held: {:?}", taken());
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("ports free {:?} after the kill", killed.elapsed());
}

fn ports_taken() -> Vec<u16> {
    let udp = [67, 69].into_iter().filter(|port| std::net::UdpSocket::bind((SERVER, *port)).is_err());
    let tcp = Some(8080).into_iter().filter(|port| std::net::TcpListener::bind((SERVER, *port)).is_err());
    udp.chain(tcp).collect()
}
