//! From an inventory and a goal to a plan: ask the machines, build what they will boot, plan.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use super::{
    paths,
    session::{self, Built, Session, failure},
};
use crate::{
    bmc,
    image::{self, BuildEvent, BuildSpec},
    model::{
        Failure,
        boot::BootObject,
        facts::{Facts, InstallPhase},
        failure::Cause,
        fleet::{Arch, DhcpMode, Image, Install},
        goal::Goal,
    },
    netboot,
    output::stdout,
    plan::{self, Artifacts, Known, Plan},
    run::observe,
    store,
};

/// How long another DHCP server is listened for.
const ROGUE_PROBE: Duration = Duration::from_millis(1_200);

pub struct Prepared {
    pub facts: Facts,
    pub built: Built,
    pub plan: Plan,
    /// Our address on each network of the plan.
    pub servers: BTreeMap<String, std::net::Ipv4Addr>,
}

pub async fn prepare(
    session: &Session,
    goal: &Goal,
    passwords: &Arc<bmc::Passwords>,
    built: Option<Built>,
) -> Result<Prepared, Failure> {
    let names = &goal.scope().0;
    let (mut asking, ear) = session.asking(passwords, true)?;
    asking.baselines = matches!(goal, Goal::Apply { .. } | Goal::Install { .. } | Goal::Baseline { .. });
    let fleet = &session.fleet;
    let mut facts = observe::facts(fleet, names, &asking).await?;
    // What comes now may take minutes, and ^C may end it.
    drop(ear);
    let built = match built {
        Some(built) => built,
        // For machines whose BMC answers alone: building takes a minute, and the others are refused in any case.
        None => {
            let answers =
                |n: &&String| facts.nodes.get(*n).and_then(|f| f.bmc.as_ref()).is_some_and(|b| b.value.is_ok());
            let reached: Vec<String> = names.iter().filter(answers).cloned().collect();
            build(session, &reached, goal)?
        }
    };
    let networks = session.networks(names);
    let servers = servers(session, networks.iter());
    if !built.is_empty() {
        for network in networks {
            let spec = &fleet.networks[&network];
            let Some(address) = servers.get(&network).copied() else { continue };
            if spec.dhcp == DhcpMode::Authoritative && spec.probe_ms > 0 {
                let interface = spec.interface.clone();
                let time = ROGUE_PROBE.min(Duration::from_millis(spec.probe_ms.into()));
                let probed =
                    tokio::task::spawn_blocking(move || netboot::rogue::probe(&interface, address, time)).await;
                match probed {
                    Ok(Ok(found)) if found.is_empty() => {}
                    Ok(Ok(found)) => {
                        facts.rogue_dhcp.insert(network, found.into_iter().collect());
                    }
                    // Without the right to raw sockets the server child looks before its first answer.
                    _ => stdout::note(&format!(
                        "note: other DHCP servers on {network} were not looked for; the servers do before they answer"
                    )),
                }
            }
        }
    }
    // A bootstrap that was permitted and of which nothing came is none: what it may do again, the run finds out.
    let generations =
        store::cluster_generations(session.store.as_ref(), fleet.clusters.keys()).map_err(|e| failure(&e))?;
    let digests: BTreeMap<String, Artifacts> = built.iter().map(|(name, a)| (name.clone(), digests(a))).collect();
    let plan = plan::plan(fleet, &facts, goal, &Known { artifacts: &digests, cluster_generations: &generations });
    if let Some(network) = plan.networks.keys().find(|n| !servers.contains_key(*n)) {
        let interface = &fleet.networks[network].interface;
        return Err(Failure::new(
            Cause::Local,
            format!("network {network}"),
            format!("interface {interface} of this host has no address in the network's subnets"),
        )
        .next(format!("ip address show {interface}")));
    }
    Ok(Prepared { facts, built, plan, servers })
}

fn digests(a: &image::Artifacts) -> Artifacts {
    Artifacts {
        kernel_sha256: a.kernel.sha256.clone(),
        initrd_sha256: a.initrd.sha256.clone(),
        stage2_sha256: a.stage2.sha256.clone(),
        system_sha256: a.system.sha256.clone(),
    }
}

/// Images that nodes without a system will need.
fn images(session: &Session, names: &[String], goal: &Goal) -> Result<Vec<(String, Image, Arch)>, Failure> {
    // A look at an installed machine boots it as well.
    let reinstall = matches!(goal, Goal::Install { reinstall: true, .. } | Goal::Inspect { .. });
    let records = session.store.node_records().map_err(|e| session::failure(&e))?;
    let installed = |name: &str| records.iter().any(|(n, r)| n == name && r.phase == InstallPhase::Installed);
    let mut wanted: BTreeMap<String, (Image, Arch)> = BTreeMap::new();
    for node in names.iter().filter_map(|n| session.fleet.nodes.get(n)).filter(|n| reinstall || !installed(&n.name)) {
        let system = match &node.install {
            Some(Install::Image { system }) => Some(system),
            _ => None,
        };
        let looks = matches!(goal, Goal::Inspect { .. }).then(|| plan::inspect::image(&session.fleet, node)).flatten();
        for name in node.image.iter().chain(system).chain(looks) {
            if let Some(image @ (Image::Distro { .. } | Image::Files { .. })) = session.fleet.images.get(name) {
                wanted.insert(name.clone(), (image.clone(), node.arch));
            }
        }
    }
    Ok(wanted.into_iter().map(|(name, (image, arch))| (name, image, arch)).collect())
}

/// Builds what the goal's nodes will boot and is not built yet; said on standard error, for it takes a minute the
/// first time.
pub fn build(session: &Session, names: &[String], goal: &Goal) -> Result<Built, Failure> {
    let mut built = Built::new();
    if !goal.boots() {
        return Ok(built);
    }
    for (name, image, arch) in images(session, names, goal)? {
        let made = match &image {
            Image::Files { .. } => image::files::take(&name, &image),
            _ => build_one(&name, &image, arch, &paths::cache()?, &paths::node_program()?),
        };
        match made {
            Ok(artifacts) => drop(built.insert(name, artifacts)),
            // The nodes that need it are refused by the plan; the others go on.
            Err(failure) => stdout::note(&format!("warning: image {name}: {failure}")),
        }
    }
    Ok(built)
}

/// Where the machines lie in a laboratory's namespace, what they boot is built before that is entered: no package
/// mirror can be reached from inside. Elsewhere it waits until it is known which machines answer.
pub fn build_ahead(session: &Session, goal: &Goal) -> Result<Option<Built>, Failure> {
    let names = &goal.scope().0;
    let inside = session.networks(names).iter().any(|n| session.fleet.networks[n].netns.is_some());
    if inside { build(session, names, goal).map(Some) } else { Ok(None) }
}

pub fn build_one(
    name: &str,
    image: &Image,
    arch: Arch,
    cache: &std::path::Path,
    program: &std::path::Path,
) -> Result<image::Artifacts, Failure> {
    let (cache_dir, objects_dir): (PathBuf, PathBuf) = (cache.join("packages"), cache.join("objects"));
    let spec = BuildSpec { image, arch, cache_dir: &cache_dir, objects_dir: &objects_dir, node_program: program };
    image::build(&spec, &mut |event| {
        let line = match event {
            BuildEvent::Unchanged { .. } => return,
            BuildEvent::Renewed { wanted, from: Some(from), to } => {
                format!("{wanted} {from} is gone from the index, renewed to {to}")
            }
            BuildEvent::Renewed { wanted, from: None, to } => format!("{wanted} pinned to {to}"),
            BuildEvent::Downloading { packages, size_bytes } => {
                format!("downloading {packages} packages, {} MB", size_bytes / 1_000_000)
            }
            BuildEvent::Unpacked { packages } => format!("{packages} packages unpacked"),
            BuildEvent::Stored { name, size_bytes } => format!("{name}: {:.1} MB", size_bytes as f64 / 1e6),
        };
        stdout::note(&format!("image {name}: {line}"));
    })
}

/// Everything that the network-boot servers may hand out.
pub fn objects(built: &Built) -> Vec<BootObject> {
    let mut objects: BTreeMap<String, BootObject> = BTreeMap::new();
    for artifacts in built.values() {
        let about = |o: &image::Object, name: Option<&str>| BootObject {
            sha256: o.sha256.clone(),
            path: o.path.clone(),
            size_bytes: o.size_bytes,
            tftp_name: name.map(str::to_owned),
        };
        for object in [&artifacts.kernel, &artifacts.initrd, &artifacts.stage2, &artifacts.system] {
            objects.insert(object.sha256.clone(), about(object, None));
        }
        for loader in &artifacts.loaders {
            objects.insert(loader.object.sha256.clone(), about(&loader.object, Some(&loader.tftp_name)));
        }
    }
    objects.into_values().collect()
}

/// Our address on each of these networks, where this host has one.
pub fn servers<'a>(
    session: &Session,
    networks: impl Iterator<Item = &'a String>,
) -> BTreeMap<String, std::net::Ipv4Addr> {
    networks
        .filter_map(|name| {
            let spec = session.fleet.networks.get(name)?;
            Some((name.clone(), own_address(&spec.interface, spec.subnets.iter().map(|s| s.cidr))?))
        })
        .collect()
}

/// Our IPv4 address on an interface, inside one of the subnets.
fn own_address(interface: &str, mut subnets: impl Iterator<Item = ipnet::Ipv4Net>) -> Option<std::net::Ipv4Addr> {
    let addresses: Vec<std::net::Ipv4Addr> = nix::ifaddrs::getifaddrs()
        .ok()?
        .filter(|a| a.interface_name == interface)
        .filter_map(|a| Some(a.address?.as_sockaddr_in()?.ip()))
        .collect();
    subnets.find_map(|s| addresses.iter().copied().find(|a| s.contains(a)))
}
