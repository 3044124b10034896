//! Argument lists of iproute2 that make and remove the network of a laboratory. Pure.

use super::spec::{Lab, MachineSpec};

pub const BRIDGE: &str = "br0";
/// Of the operator on the bridge: gateway, boot server, API.
pub const GATEWAY: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 77, 0, 1);
pub const SUBNET: &str = "10.77.0.0/24";

/// The interface that simulated machines and their BMCs stand on, in a namespace of their own.
pub const MACHINES: &str = "machines";
/// Its other end, on the bridge.
const PORT: &str = "port-machines";

/// Each a whole argument list with the program first.
pub type Argv = Vec<String>;

fn ip<const N: usize>(words: [&str; N]) -> Argv {
    std::iter::once("ip").chain(words).map(str::to_owned).collect()
}

/// Name of the tap inside the namespace; at most 15 bytes as IFNAMSIZ wants.
pub fn tap(machine: &MachineSpec) -> String {
    format!("tap-{}", machine.name)
}

/// Everything that is to be run, in order. No forwarding delay: firmware starts to ask within a second of the link.
pub fn make(lab: &Lab) -> Vec<Argv> {
    let ns = lab.netns();
    let gateway = format!("{GATEWAY}/24");
    let mut all = vec![
        ip(["netns", "add", &ns]),
        ip(["-n", &ns, "link", "set", "lo", "up"]),
        ip([
            "-n",
            &ns,
            "link",
            "add",
            BRIDGE,
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        ]),
        ip(["-n", &ns, "addr", "add", &gateway, "dev", BRIDGE]),
        ip(["-n", &ns, "link", "set", BRIDGE, "up"]),
    ];
    if lab.simulated.is_some() {
        return all;
    }
    for machine in &lab.machines {
        let tap = tap(machine);
        let bmc = format!("{}/32", machine.bmc_address);
        all.push(ip(["-n", &ns, "addr", "add", &bmc, "dev", BRIDGE]));
        all.push(ip(["-n", &ns, "tuntap", "add", "dev", &tap, "mode", "tap"]));
        all.push(ip(["-n", &ns, "link", "set", &tap, "master", BRIDGE, "up"]));
    }
    all
}

/// The cable between the bridge and the namespace of the simulated machines, which is that of process `pid`; it dies
/// with either. To be run by that process. BMCs and machines take their addresses themselves.
pub fn machines(lab: &Lab, pid: u32) -> Vec<Argv> {
    let (ns, pid) = (lab.netns(), pid.to_string());
    vec![
        ip(["-n", &ns, "link", "add", PORT, "type", "veth", "peer", "name", MACHINES, "netns", &pid]),
        ip(["-n", &ns, "link", "set", PORT, "master", BRIDGE, "up"]),
        ip(["link", "set", "lo", "up"]),
        ip(["link", "set", MACHINES, "up"]),
        ip(["route", "add", SUBNET, "dev", MACHINES]),
    ]
}

/// Taps and the bridge die with the namespace.
pub fn remove(netns: &str) -> Argv {
    ip(["netns", "delete", netns])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::spec::Spec;

    #[test]
    fn one_machine() {
        let lab = Lab::plan(&Spec { nodes: 1, ..Spec::new("demo") }, uuid::Uuid::nil(), 0).unwrap();
        let lines: Vec<String> = make(&lab).into_iter().chain([remove(&lab.netns())]).map(|a| a.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "ip netns add rackctl-demo",
                "ip -n rackctl-demo link set lo up",
                "ip -n rackctl-demo link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                "ip -n rackctl-demo addr add 10.77.0.1/24 dev br0",
                "ip -n rackctl-demo link set br0 up",
                "ip -n rackctl-demo addr add 10.77.0.201/32 dev br0",
                "ip -n rackctl-demo tuntap add dev tap-n1 mode tap",
                "ip -n rackctl-demo link set tap-n1 master br0 up",
                "ip netns delete rackctl-demo",
            ]
        );
    }

    #[test]
    fn simulated_machines_hang_on_one_cable() {
        let spec = Spec { simulated: Some(Default::default()), ..Spec::new("demo") };
        let lab = Lab::plan(&spec, uuid::Uuid::nil(), 0).unwrap();
        assert!(make(&lab).iter().all(|argv| !argv.contains(&"tuntap".to_owned())));
        let lines: Vec<String> = machines(&lab, 7).into_iter().map(|a| a.join(" ")).collect();
        assert_eq!(lines[0], "ip -n rackctl-demo link add port-machines type veth peer name machines netns 7");
    }
}
