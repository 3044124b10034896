//! Brings interfaces up, by MAC address.

use crate::cmdline::Network;
use crate::console::say;
use crate::files;
use crate::netlink;
use crate::node_error::{Doing, NodeError, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

const ANSWER_WAIT_S: i64 = 5;

/// Name of the physical interface with this MAC (lower case), looked up in `/sys/class/net`.
pub fn find(net: &Path, mac: &str) -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir(net)
        .ok()?
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            files::line(entry.path().join("address")).is_some_and(|address| address.eq_ignore_ascii_case(mac))
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names.into_iter().next()
}

/// Waits for the driver to make the interface.
pub fn wait_for(mac: &str, patience: Duration) -> Result<String> {
    let began = Instant::now();
    loop {
        if let Some(name) = find(Path::new("/sys/class/net"), mac) {
            return Ok(name);
        }
        if began.elapsed() > patience {
            return Err(NodeError::new("network", format!("no interface with the address {mac} has come up")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the link has a carrier; an interface that does not tell counts as ready.
pub fn wait_for_carrier(name: &str, patience: Duration) -> bool {
    let path = Path::new("/sys/class/net").join(name).join("carrier");
    let began = Instant::now();
    while began.elapsed() < patience {
        match files::line(&path).as_deref() {
            Some("0") => std::thread::sleep(Duration::from_millis(100)),
            _ => return true,
        }
    }
    false
}

fn ask(message: &[u8], what: &str) -> Result<()> {
    let attempt = || -> nix::Result<std::result::Result<(), i32>> {
        let fd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::NetlinkRoute))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(ANSWER_WAIT_S, 0))?;
        send(fd.as_raw_fd(), message, MsgFlags::empty())?;
        let mut buffer = [0u8; 4096];
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        Ok(netlink::answer(&buffer[..length]))
    };
    match attempt().doing(what)? {
        Ok(()) | Err(libc::EEXIST) => Ok(()),
        Err(code) => Err(NodeError::new("network", format!("{what}: {}", std::io::Error::from_raw_os_error(code)))),
    }
}

/// Interface up, addresses set, default route set.
pub fn configure(name: &str, networks: &[Network], gateway: Option<IpAddr>) -> Result<()> {
    let index = nix::net::if_::if_nametoindex(name).doing(format_args!("looking up {name}"))?;
    ask(&netlink::link_up(index), &format!("bringing {name} up"))?;
    for network in networks {
        ask(&netlink::address(index, *network), &format!("adding {}/{} to {name}", network.address, network.prefix))?;
    }
    if let Some(gateway) = gateway {
        ask(&netlink::default_route(index, gateway), &format!("setting the default route over {gateway}"))?;
    }
    Ok(())
}

/// Every interface down, that nothing is sent any more.
pub fn silence() {
    for interface in nix::net::if_::if_nameindex().iter().flatten() {
        let name = interface.name().to_string_lossy();
        if let Err(error) = ask(&netlink::link_down(interface.index()), &format!("taking {name} down")) {
            say(error.to_string());
        }
    }
}

pub fn loopback() -> Result<()> {
    let address = Network { address: IpAddr::from([127, 0, 0, 1]), prefix: 8 };
    configure("lo", &[address], None)
}

#[cfg(test)]
mod tests {
    #[test]
    fn interfaces_are_found_by_address() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mac) in [("eth0", "52:54:00:00:00:01"), ("eth1", "52:54:00:00:00:AB")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("address"), format!("{mac}\n")).unwrap();
        }
        assert_eq!(super::find(dir.path(), "52:54:00:00:00:ab").as_deref(), Some("eth1"));
        assert_eq!(super::find(dir.path(), "52:54:00:00:00:ff"), None);
    }
}
