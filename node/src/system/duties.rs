//! What the installed system does: network, SSH, etcd, and a clean end.

use super::member::Member;
use super::{Booted, booted, control};
use crate::cmdline::Network;
use crate::console::say;
use crate::init::reboot;
use crate::node_error::{Doing, NodeError, Result};
use crate::service::Service;
use crate::volume::partition_node;
use crate::{children, files, grubenv, marker, mounts, net, sshd};
use nix::sys::signal::{SigSet, Signal};
use rackctl_wire::image::layout;
use rackctl_wire::{InterfaceConfig, NodeConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const INTERFACE_WAIT: Duration = Duration::from_secs(30);
const STOP_GRACE: Duration = Duration::from_secs(10);
/// A slot is good when sshd has run this long.
const GOOD_AFTER: Duration = Duration::from_secs(5);

pub fn run() -> Result<()> {
    // Before any thread is made: signals are taken in one place only.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGPWR] {
        signals.add(signal);
    }
    signals.thread_block().doing("blocking signals")?;
    let _ = nix::sys::reboot::set_cad_enabled(false);
    children::reap_orphans();
    let booted = booted()?;
    let config: NodeConfig = marker::read(&Path::new("/data").join(marker::NODE))?;
    say(format!("node {} generation {} slot {}", config.node, config.generation, booted.slot));
    let host_key = std::fs::read_to_string(Path::new("/data").join(marker::HOST_KEY)).doing("reading the host key")?;
    if let Err(error) = nix::unistd::sethostname(&config.hostname) {
        say(format!("the host name could not be set: {error}"));
    }
    for dir in ["/run/log", "/data/lib", "/data/log", "/data/etcd"] {
        std::fs::create_dir_all(dir).doing(format_args!("making {dir}"))?;
    }
    let resolver: String = config.dns.iter().map(|server| format!("nameserver {server}\n")).collect();
    files::write_atomic(Path::new("/run/resolv.conf"), resolver.as_bytes(), 0o644)?;
    if let Err(error) = net::loopback() {
        say(error.to_string());
    }
    for interface in &config.interfaces {
        // One interface that is missing must not keep the others down.
        if let Err(error) = bring_up(interface) {
            say(format!("interface {}: {error}", interface.mac));
        }
    }
    sshd::prepare(Path::new("/"), &host_key, &config.authorized_keys)?;
    let ssh = Service::start("sshd", PathBuf::from("/run/log/sshd.log"), || sshd::command(None))?;
    let member = Arc::new(Member::new(config.generation));
    member.start_if_configured();
    control::serve(member.clone())?;
    say("up");
    if booted.trial {
        mark_good_when_up(booted, ssh.clone());
    }
    let signal = signals.wait();
    say(format!("going down ({})", signal.map_or("a signal", Signal::as_str)));
    member.stop_process();
    ssh.stop(STOP_GRACE);
    nix::unistd::sync();
    mounts::release(Path::new("/data"));
    reboot()
}

fn bring_up(interface: &InterfaceConfig) -> Result<()> {
    let name = net::wait_for(&interface.mac.to_ascii_lowercase(), INTERFACE_WAIT)?;
    let bad = |text: &str| NodeError::new("network", format!("{text} is no address"));
    let mut networks = Vec::new();
    for text in &interface.addresses {
        networks.push(Network::parse(text).ok_or_else(|| bad(text))?);
    }
    let gateway = match &interface.gateway {
        Some(text) => Some(text.parse().map_err(|_| bad(text))?),
        None => None,
    };
    net::configure(&name, &networks, gateway)?;
    say(format!("{name} ({}) has {}", interface.mac, interface.addresses.join(" ")));
    Ok(())
}

fn mark_good_when_up(booted: Booted, ssh: Service) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if ssh.status().running_for.is_some_and(|running| running >= GOOD_AFTER) {
                break;
            }
        }
        let esp = partition_node(&Path::new("/dev").join(&booted.disk), booted.esp);
        match grubenv::mark_good(&esp, &booted.slot) {
            Ok(_) => say(format!("slot {} is marked as good ({})", booted.slot, layout::TRY)),
            Err(error) => say(format!("slot {} could not be marked as good: {error}", booted.slot)),
        }
    });
}
