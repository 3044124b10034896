//! The server process: `rackctl __netboot FD`. Orders come in over the socket pair, events go out; when the pair
//! closes, the process ends.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    dhcp::{self, socket::DhcpSocket},
    events::{self, Events},
    http,
    live::{Current, Live},
    packet_socket::{PacketSocket, Receive},
    ports, privileges, ra, rogue, tftp,
};
use crate::model::{
    Failure,
    boot::{BootNetwork, BootTable, NetbootEvent, ServerOrder},
    failure::Cause,
    fleet::DhcpMode,
};

/// One order on the pair: a table of some thousand machines with their seeds.
const LONGEST_ORDER: u64 = 64 << 20;
const PROBE_EVERY: Duration = Duration::from_secs(60);

/// Takes the descriptor over. Returns when the pair is closed or the servers cannot start.
pub fn main(fd: RawFd) -> ExitCode {
    // SAFETY: the descriptor was made for this process by its parent and nothing else in it uses it.
    let pair = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    match serve(pair) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell but the terminal.
            eprintln!("rackctl: boot servers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(pair: UnixStream) -> io::Result<()> {
    privileges::bind_to_parent()?;
    // Ctrl-C at the terminal is the parent's: it ends the run in order and closes the pair.
    // SAFETY: ignoring a signal installs no handler.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
    let mut orders = BufReader::new(pair.try_clone()?);
    let Some(ServerOrder::Serve(first)) = read_order(&mut orders)? else { return Ok(()) };

    // Everything that needs privileges, then the drop, then the first thread.
    let opened = open(&first.network);
    let dropped = privileges::drop_all_but_network();
    let (events, receiver) = Events::channel();
    let writer =
        thread::Builder::new().name("events".to_owned()).spawn(move || events::write_lines(&receiver, pair))?;

    let version = first.version;
    let network = first.network.clone();
    let started = opened
        .and_then(|sockets| match dropped {
            Ok(()) => Ok(sockets),
            Err(error) => Err(Failure::new(Cause::Local, "drop privileges of the boot servers", error.to_string())),
        })
        .and_then(|sockets| Ok((sockets, Live::load(*first, None)?)))
        .and_then(|(sockets, live)| start(sockets, Current::new(live), &events, version));
    let current = match started {
        Ok(current) => current,
        Err(failure) => {
            events.tell(NetbootEvent::Failed { failure });
            drop(events);
            // The failure must have left before the process does.
            let _ = writer.join();
            return Ok(());
        }
    };
    while let Some(ServerOrder::Serve(table)) = read_order(&mut orders)? {
        take(*table, &network, &current, &events);
    }
    // The other threads end with the process; waiting for them would keep the ports open.
    std::process::exit(0)
}

/// `None` at the end of the pair.
fn read_order(orders: &mut impl BufRead) -> io::Result<Option<ServerOrder>> {
    let mut line = Vec::new();
    let read = orders.by_ref().take(LONGEST_ORDER).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(|error| io::Error::other(format!("order is malformed: {error}")))
}

fn take(table: BootTable, network: &BootNetwork, current: &Current, events: &Events) {
    let version = table.version;
    let same = |table: &BootTable| {
        let new = &table.network;
        (&new.interface, new.server, new.dhcp, new.http_port)
            == (&network.interface, network.server, network.dhcp, network.http_port)
    };
    let loaded = if same(&table) {
        Live::load(table, Some(&current.get()))
    } else {
        let why = "interface, address, DHCP mode and port are fixed while the servers run".to_owned();
        Err(Failure::new(Cause::Guard, format!("take over boot table {version}"), why))
    };
    match loaded {
        Ok(live) => {
            current.replace(live);
            events.tell(NetbootEvent::TableTaken { version });
        }
        // The table before stays in force.
        Err(failure) => events.tell(NetbootEvent::Failed { failure }),
    }
}

struct Sockets {
    dhcp: Vec<(u16, DhcpSocket)>,
    tftp: std::net::UdpSocket,
    http: std::net::TcpListener,
    router: PacketSocket,
}

fn open(network: &BootNetwork) -> Result<Sockets, Failure> {
    let (interface, server) = (network.interface.as_str(), network.server);
    let udp = |port| move |error| cannot_open(network, "udp", port, &error);
    let dhcp_ports: &[u16] = match network.dhcp {
        DhcpMode::Authoritative => &[dhcp::SERVER_PORT],
        DhcpMode::Proxy => &[dhcp::SERVER_PORT, dhcp::PROXY_PORT],
        DhcpMode::Off => &[],
    };
    let mut dhcp = Vec::new();
    for port in dhcp_ports {
        dhcp.push((*port, DhcpSocket::open(interface, server, *port).map_err(udp(*port))?));
    }
    Ok(Sockets {
        dhcp,
        tftp: tftp::bind(interface, server).map_err(udp(tftp::PORT))?,
        http: http::serve::bind(interface, server, network.http_port)
            .map_err(|error| cannot_open(network, "tcp", network.http_port, &error))?,
        router: PacketSocket::open(interface, Receive::Solicitations)
            .map_err(|error| cannot_open(network, "raw", 0, &error))?,
    })
}

fn cannot_open(network: &BootNetwork, protocol: &str, port: u16, error: &io::Error) -> Failure {
    let BootNetwork { interface, server, .. } = network;
    let what = match protocol {
        "raw" => format!("open a raw socket on {interface}"),
        _ => format!("open {protocol} port {port} of {server} on {interface}"),
    };
    let (why, next) = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            let holder =
                ports::holder(protocol, port).unwrap_or_else(|| "a process that cannot be seen from here".into());
            let tool = if protocol == "tcp" { "-ltnp" } else { "-lunp" };
            (format!("it is in use by {holder}"), format!("ss {tool} 'sport = :{port}'"))
        }
        Some(libc::EADDRNOTAVAIL) => {
            (format!("{server} is not an address of this host"), format!("ip addr show dev {interface}"))
        }
        Some(libc::ENODEV) => (format!("there is no interface {interface}"), "ip link".to_owned()),
        Some(libc::EACCES | libc::EPERM) => (
            "the capabilities CAP_NET_BIND_SERVICE and CAP_NET_RAW are missing".to_owned(),
            "sudo setcap cap_net_bind_service,cap_net_raw+ep \"$(command -v rackctl)\"".to_owned(),
        ),
        _ => (error.to_string(), "rackctl doctor".to_owned()),
    };
    Failure::new(Cause::Local, what, why).next(next)
}

/// Starts a thread a server. `Ready` is told once the look for another DHCP server has found none.
fn start(sockets: Sockets, current: Current, events: &Events, version: u64) -> Result<Current, Failure> {
    let network = current.get().table.network.clone();
    let probes = network.dhcp == DhcpMode::Authoritative && network.probe_ms > 0;
    let muzzled = Arc::new(AtomicBool::new(probes));

    let Sockets { dhcp, tftp, http, router } = sockets;
    for (port, socket) in dhcp {
        let (current, told, muzzled) = (current.clone(), events.clone(), Arc::clone(&muzzled));
        spawn("dhcp", events, move || {
            dhcp::serve::run(&socket, port, &current, &told, &muzzled);
            Ok(())
        })?;
    }
    let (table, told) = (current.clone(), events.clone());
    spawn("tftp", events, move || tftp::run(tftp, table, told))?;
    let (table, told) = (current.clone(), events.clone());
    spawn("http", events, move || http::serve::run(http, table, told))?;
    let table = current.clone();
    spawn("router advertisements", events, move || advertise(&router, &table))?;
    if probes {
        let told = events.clone();
        spawn("rogue probe", events, move || watch(&network, &told, &muzzled, version))?;
    } else {
        events.tell(NetbootEvent::Ready { version });
    }
    Ok(current)
}

fn spawn(
    name: &'static str,
    events: &Events,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    let events = events.clone();
    let run = move || {
        if let Err(error) = work() {
            let failure = Failure::new(Cause::Local, format!("boot servers: {name}"), error.to_string());
            events.tell(NetbootEvent::Failed { failure });
        }
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(|_| ())
        .map_err(|error| Failure::new(Cause::Local, format!("start boot servers: {name}"), error.to_string()))
}

fn advertise(router: &PacketSocket, current: &Current) -> io::Result<()> {
    let mut buffer = [0u8; 2048];
    loop {
        let Ok(frame) = router.receive(&mut buffer, Duration::from_secs(60)) else {
            // The interface is down; the wait keeps a lasting fault from spinning.
            thread::sleep(Duration::from_millis(500));
            continue;
        };
        let Some(asked) = frame.and_then(ra::read) else { continue };
        if current.get().machine(asked.mac).is_some() {
            // Not sent is not answered: the client waits and goes on without.
            let _ = router.send(&ra::advertise(router.mac, asked));
        }
    }
}

/// Nothing is answered until a look round has found no other server; one that turns up later stops the answers until
/// it is gone.
fn watch(network: &BootNetwork, events: &Events, muzzled: &AtomicBool, version: u64) -> io::Result<()> {
    let mut ready = false;
    let probe = Duration::from_millis(network.probe_ms.into());
    loop {
        match rogue::probe(&network.interface, network.server, probe) {
            Ok(found) if found.is_empty() => {
                muzzled.store(false, Ordering::Release);
                if !ready {
                    ready = true;
                    events.tell(NetbootEvent::Ready { version });
                }
            }
            Ok(found) => {
                muzzled.store(true, Ordering::Release);
                let names = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                for server in found {
                    events.tell(NetbootEvent::RogueDhcp { server });
                }
                let what = format!("serve DHCP on {} (network {})", network.interface, network.name);
                let why = format!("another DHCP server answers there: {names}; nothing is answered while it does");
                let next = format!("rackctl explain network.spec.dhcp   # `proxy` lives beside {names}");
                events.tell(NetbootEvent::Failed { failure: Failure::new(Cause::Guard, what, why).next(next) });
            }
            Err(error) => events.ignored(None, format!("cannot look for other DHCP servers: {error}")),
        }
        thread::sleep(PROBE_EVERY);
    }
}
