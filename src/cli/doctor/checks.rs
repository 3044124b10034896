//! From what the host is like to what it lacks. Pure.

use super::host_load::Host;
use crate::model::{
    Fleet,
    fleet::{DhcpMode, Image, Install, SecretSource},
};

/// Linux capabilities by bit (capability.h).
const CAPABILITIES: [(&str, u32, &str); 3] = [
    ("cap_net_bind_service", 10, "to open the ports of DHCP, TFTP and HTTP"),
    ("cap_net_raw", 13, "to answer DHCP clients that have no address"),
    ("cap_sys_admin", 21, "to enter network namespaces"),
];
/// Wall clocks before this are wrong: 2026-01-01.
const CLOCK_MIN_S: u64 = 1_767_225_600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub verdict: Verdict,
    pub found: String,
    /// The command that mends it.
    pub mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Missing, and not needed for what this inventory says.
    Optional,
    /// Missing and needed: exit 1.
    Missing,
}

impl Verdict {
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Good => "ok",
            Verdict::Optional => "optional",
            Verdict::Missing => "MISSING",
        }
    }
    fn lacking(needed: bool) -> Verdict {
        if needed { Verdict::Missing } else { Verdict::Optional }
    }
}

fn good(name: impl Into<String>, found: impl Into<String>) -> Check {
    Check { name: name.into(), verdict: Verdict::Good, found: found.into(), mend: None }
}

fn lacks(name: impl Into<String>, needed: bool, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name: name.into(), verdict: Verdict::lacking(needed), found: found.into(), mend: Some(mend.into()) }
}

pub fn checks(host: &Host, fleet: &Fleet) -> Vec<Check> {
    let mut all = capabilities(host, fleet);
    all.extend(ports(host));
    all.extend(host.interfaces.iter().map(|(name, exists)| {
        let check = format!("interface {name}");
        if *exists { good(check, "exists") } else { lacks(check, true, "there is none", "ip -brief link") }
    }));
    all.extend(tools(host, fleet));
    all.push(match host.builds {
        0 => lacks("loaders", builds(fleet), "no boot artifacts are built yet", "rackctl image build"),
        count => good("loaders", format!("{count} builds of boot artifacts")),
    });
    all.push(keyring(host, fleet));
    all.push(clock(host));
    all
}

fn capabilities(host: &Host, fleet: &Fleet) -> Vec<Check> {
    let one = |(name, bit, why): &(&str, u32, &str)| {
        let needed = match *name {
            "cap_sys_admin" => fleet.networks.values().any(|n| n.netns.is_some()),
            _ => true,
        };
        if host.capabilities >> bit & 1 == 1 {
            return good(*name, "held");
        }
        let mend = format!("sudo setcap cap_net_bind_service,cap_net_raw,cap_sys_admin+ep {}", host.program.display());
        lacks(*name, needed, format!("not held: needed {why}"), mend)
    };
    CAPABILITIES.iter().map(one).collect()
}

fn ports(host: &Host) -> Vec<Check> {
    let one = |port: &super::host_load::Port| {
        let name = format!("port {}/{}", port.number, port.protocol);
        let flag = if port.protocol == "udp" { "u" } else { "t" };
        match port.taken {
            false => good(name, "free"),
            true => {
                let mend = format!("sudo ss -{flag}lpn 'sport = :{}'", port.number);
                lacks(name, true, format!("another program listens on it ({})", port.purpose), mend)
            }
        }
    };
    host.ports.iter().map(one).collect()
}

/// Ports that the servers of this inventory open on this host: number, protocol, purpose. Those of networks in
/// a namespace of their own are that namespace's.
pub fn wanted_ports(fleet: &Fleet) -> Vec<(u16, &'static str, &'static str)> {
    let mut wanted = vec![(69, "udp", "TFTP")];
    let here = || fleet.networks.values().filter(|n| n.netns.is_none() && !n.interface.is_empty());
    if fleet.networks.is_empty() || here().any(|n| n.dhcp != DhcpMode::Off) {
        wanted.push((67, "udp", "DHCP"));
    }
    for network in here() {
        wanted.push((network.http_port, "tcp", "boot artifacts"));
        wanted.push((network.api_port, "tcp", "provisioning API"));
    }
    if !fleet.networks.is_empty() && here().next().is_none() {
        wanted.clear();
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

fn builds(fleet: &Fleet) -> bool {
    fleet.images.values().any(|image| matches!(image, Image::Distro { .. }))
}

fn tools(host: &Host, fleet: &Fleet) -> Vec<Check> {
    let nix = fleet.nodes.values().any(|n| matches!(n.install, Some(Install::NixosAnywhere { .. })));
    let netns = fleet.networks.values().any(|n| n.netns.is_some());
    let wanted = [
        ("ssh", true, "shells on installed machines", "sudo apt-get install openssh-client"),
        ("apt-get", builds(fleet), "building images of a distribution", "build on Debian 12"),
        ("dpkg-deb", builds(fleet), "building images of a distribution", "sudo apt-get install dpkg"),
        ("ip", netns, "laboratories", "sudo apt-get install iproute2"),
        (
            "qemu-system-x86_64",
            false,
            "laboratories",
            "sudo apt-get install qemu-system-x86 ovmf seabios ipxe ipxe-qemu",
        ),
        ("nixos-anywhere", nix, "the install driver nixosAnywhere", "nix profile install nixpkgs#nixos-anywhere"),
    ];
    let one = |(name, needed, why, mend): (&str, bool, &str, &str)| match host.tools.get(name) {
        Some(path) => good(name, path.display().to_string()),
        None => lacks(name, needed, format!("not in PATH: for {why}"), mend),
    };
    wanted.into_iter().map(one).collect()
}

fn keyring(host: &Host, fleet: &Fleet) -> Check {
    let needed = fleet.credentials.values().any(|c| matches!(c.password_from, SecretSource::Keyring(_)));
    match host.keyring {
        Some(kind) => good("keyring", kind),
        None => lacks(
            "keyring",
            needed,
            "neither a secret service nor the kernel's keyring",
            "sudo apt-get install gnome-keyring dbus-user-session",
        ),
    }
}

fn clock(host: &Host) -> Check {
    if host.now_s < CLOCK_MIN_S {
        return lacks(
            "clock",
            true,
            "it stands before 2026: certificates and apt's index will not verify",
            "sudo timedatectl set-ntp true",
        );
    }
    if host.clock_synchronised {
        return good("clock", "synchronised");
    }
    lacks("clock", false, "the kernel does not know it to be synchronised", "timedatectl status")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{cli::doctor::host_load::Port, model::fleet::Credential};

    fn host() -> Host {
        Host {
            capabilities: 1 << 10 | 1 << 13,
            program: "/usr/bin/rackctl".into(),
            ports: vec![Port { number: 67, protocol: "udp", purpose: "DHCP", taken: true }],
            interfaces: BTreeMap::from([("br0".to_owned(), true), ("br9".to_owned(), false)]),
            tools: BTreeMap::from([("ssh".to_owned(), "/usr/bin/ssh".into())]),
            builds: 2,
            keyring: None,
            now_s: CLOCK_MIN_S + 1,
            clock_synchronised: true,
        }
    }

    fn verdict(all: &[Check], name: &str) -> Verdict {
        all.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("{name} is not checked")).verdict
    }

    #[test]
    fn a_host_is_judged_by_what_the_inventory_needs() {
        let mut fleet = Fleet::default();
        let all = checks(&host(), &fleet);
        for (name, expected) in [
            ("cap_net_raw", Verdict::Good),
            ("cap_sys_admin", Verdict::Optional),
            ("port 67/udp", Verdict::Missing),
            ("interface br0", Verdict::Good),
            ("interface br9", Verdict::Missing),
            ("ssh", Verdict::Good),
            ("nixos-anywhere", Verdict::Optional),
            ("keyring", Verdict::Optional),
            ("clock", Verdict::Good),
        ] {
            assert_eq!(verdict(&all, name), expected, "{name}");
        }
        let credential = Credential { username: "admin".into(), password_from: SecretSource::Keyring("a/b".into()) };
        fleet.credentials.insert("bmc".into(), credential);
        assert_eq!(verdict(&checks(&host(), &fleet), "keyring"), Verdict::Missing);
    }

    #[test]
    fn everything_that_is_missing_says_how_to_mend_it() {
        let poor = Host { capabilities: 0, builds: 0, now_s: 0, tools: BTreeMap::new(), ..host() };
        for check in checks(&poor, &Fleet::default()).iter().filter(|c| c.verdict != Verdict::Good) {
            assert!(check.mend.is_some(), "{check:?}");
        }
    }

    #[test]
    fn without_an_inventory_the_usual_ports_are_looked_at() {
        assert_eq!(wanted_ports(&Fleet::default()), [(67, "udp", "DHCP"), (69, "udp", "TFTP")]);
    }
}
