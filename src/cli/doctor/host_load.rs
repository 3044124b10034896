//! Looks at this host. Opens no port: what listens is read from the kernel's tables.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use super::checks::wanted_ports;
use crate::model::Fleet;

const TOOLS: [&str; 6] = ["ssh", "apt-get", "dpkg-deb", "ip", "qemu-system-x86_64", "nixos-anywhere"];

#[derive(Clone, Debug)]
pub struct Host {
    /// Permitted capabilities of this process, a bit each.
    pub capabilities: u64,
    /// This very program.
    pub program: PathBuf,
    pub ports: Vec<Port>,
    /// Name → there is one.
    pub interfaces: BTreeMap<String, bool>,
    pub tools: BTreeMap<String, PathBuf>,
    /// Builds of boot artifacts that are there.
    pub builds: usize,
    /// Which keyring answers.
    pub keyring: Option<&'static str>,
    pub now_s: u64,
    pub clock_synchronised: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub number: u16,
    pub protocol: &'static str,
    pub purpose: &'static str,
    pub taken: bool,
}

impl Host {
    pub fn look(fleet: Option<&Fleet>, interfaces: &[String]) -> Host {
        let empty = Fleet::default();
        let fleet = fleet.unwrap_or(&empty);
        let mut wanted: Vec<String> = interfaces.to_vec();
        if wanted.is_empty() {
            wanted = fleet.networks.values().filter(|n| n.netns.is_none()).map(|n| n.interface.clone()).collect();
            // A network that nothing boots from names no interface.
            wanted.retain(|name| !name.is_empty());
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let udp = format!("{}{}", read("/proc/net/udp"), read("/proc/net/udp6"));
        let tcp = format!("{}{}", read("/proc/net/tcp"), read("/proc/net/tcp6"));
        let ports = wanted_ports(fleet).into_iter().map(|(number, protocol, purpose)| {
            let taken = if protocol == "udp" { listens(&udp, number, false) } else { listens(&tcp, number, true) };
            Port { number, protocol, purpose, taken }
        });
        Host {
            capabilities: permitted(&read("/proc/self/status")),
            program: env::current_exe().unwrap_or_else(|_| "rackctl".into()),
            ports: ports.collect(),
            interfaces: wanted
                .into_iter()
                // A name with a slash is no interface and must not become a path.
                .map(|name| (name.clone(), !name.contains('/') && Path::new("/sys/class/net").join(&name).exists()))
                .collect(),
            tools: TOOLS.iter().filter_map(|tool| Some(((*tool).to_owned(), find(tool)?))).collect(),
            builds: crate::cli::image::builds(),
            keyring: keyring(),
            now_s: crate::output::age::now() / 1000,
            clock_synchronised: clock_synchronised(),
        }
    }
}

/// `CapPrm` of a process's status.
fn permitted(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Does a socket of `/proc/net/{udp,tcp}` hold this local port? For TCP: one that listens (state 0A).
fn listens(table: &str, port: u16, tcp: bool) -> bool {
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().and_then(|address| address.rsplit_once(':')).map(|(_, port)| port);
        let state = words.nth(1);
        local.is_some_and(|hex| u16::from_str_radix(hex, 16) == Ok(port)) && (!tcp || state == Some("0A"))
    })
}

fn find(tool: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(tool)).find(runs)
}

fn keyring() -> Option<&'static str> {
    let bus = env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some()
        || Path::new(&format!("/run/user/{}/bus", nix::unistd::getuid())).exists();
    if bus {
        return Some("session bus");
    }
    Path::new("/proc/keys").exists().then_some("the kernel's keyring, until the next boot")
}

fn clock_synchronised() -> bool {
    // SAFETY: timex is plain integers, for which zero is a value; modes 0 asks and changes nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole timex that lives through the call.
    let state = unsafe { libc::adjtimex(&mut timex) };
    state >= 0 && timex.status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue\n  12: 00000000:0043 00000000:0000 07 00000000:00000000\n";
    const TCP: &str = "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 0\n   1: 0100007F:0050 0100007F:1F90 01 0\n";

    #[test]
    fn the_kernels_tables() {
        assert!(listens(UDP, 67, false) && !listens(UDP, 69, false));
        assert!(listens(TCP, 8080, true), "listening");
        assert!(!listens(TCP, 80, true), "a connection from that port is no listener");
        assert_eq!(permitted("Name:\tx\nCapPrm:\t0000000000002400\n"), 1 << 10 | 1 << 13);
        assert_eq!(permitted(""), 0);
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let host = Host::look(None, &["lo".into(), "../net".into()]);
        assert_eq!(host.interfaces.get("lo"), Some(&true));
        assert_eq!(host.interfaces.get("../net"), Some(&false));
    }
}
