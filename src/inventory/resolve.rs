//! Manifests without faults → [`Fleet`]. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    check::Object,
    effective::Settled,
    fault::Report,
    format::{cidr, duration_ms, duration_s, interface_address, ipv4, percent, size_bytes},
    kinds::Kind,
    manifest::{
        ClusterSpec, CredentialSpec, HardwareClassSpec, ImageSpec, NetworkSpec, NodeSpec, ProfileSpec, SiteSpec,
        credential::SecretFrom,
        hardware_class::{DiskSpec, FirmwareImageSpec, MinimumSpec, RaidLevel, RaidSpec},
        node::{EndpointSpec, IdentitySpec},
        profile::InstallDriver,
        site::{ChangeWindow, DisruptionSpec, SshSpec},
        text::{Count, Duration, Sha256, Size},
    },
    parallel,
    read::read,
    select::{self, ByValue, Selector},
};
use crate::model::{
    baseline::{Baseline, FirmwareImage, ImageAt, VolumeRule},
    fleet::{self, Fleet, Lifecycle},
    rollout::{self, Rollout},
};

/// What the text says cannot be what its type wants; the checks find such things first and say more.
type Fine<T> = Result<T, String>;

/// Default deadline of an `exec` install driver, in seconds.
const EXEC_DEADLINE_S: u64 = 1800;
const IPMI_PORT: u16 = 623;

/// `objects` are all but the nodes.
pub(crate) fn fleet(objects: &[Object], nodes: Vec<Settled>, report: &mut Report) -> Fleet {
    let mut fleet = Fleet::default();
    let resolved = parallel::each(nodes, report, |node, report| {
        let Settled { name, at, spec, origins, labels } = node;
        let origins = (!origins.is_empty()).then(|| Box::new((name.clone(), origins)));
        match read(&spec).and_then(|spec| self::node(&name, labels, spec)) {
            Ok(value) => (Some((name, value)), origins),
            Err(error) => {
                report.add(at, "spec", error, None);
                (None, origins)
            }
        }
    });
    let origins = &mut fleet.origins;
    // In one go: the map of ten thousand nodes is a third smaller than one that grew, and they are not held twice.
    let nodes: BTreeMap<String, fleet::Node> = resolved
        .into_iter()
        .filter_map(|(node, from)| {
            origins.extend(from.map(|from| *from));
            node
        })
        .collect();
    let all: Vec<&fleet::Node> = nodes.values().collect();
    let by_value = ByValue::new(&all, |node, key| select::value_of(node, key));
    let choose = |selector: &Selector, lifecycle: Lifecycle| -> Vec<String> {
        let matching = by_value.matching(selector).into_iter().filter(|n| n.lifecycle == lifecycle);
        matching.map(|n| n.name.clone()).collect()
    };
    for object in objects {
        if let Err(error) = put(object, &mut fleet, &choose) {
            report.add(object.root.at, "spec", error, None);
        }
    }
    drop(all);
    fleet.nodes = nodes;
    fleet
}

/// Names of the nodes of one lifecycle that a selector matches.
type Choose<'a> = &'a dyn Fn(&Selector, Lifecycle) -> Vec<String>;

fn put(object: &Object, fleet: &mut Fleet, choose: Choose<'_>) -> Fine<()> {
    let name = object.name.clone();
    let Some(spec) = object.spec() else { return Err("`spec` is missing".into()) };
    match object.kind {
        Kind::Node => {}
        Kind::Credential => {
            let spec: CredentialSpec = read(spec)?;
            let password_from = secret(spec.password_from)?;
            fleet.credentials.insert(name, fleet::Credential { username: spec.username, password_from });
        }
        Kind::Site => {
            let spec: SiteSpec = read(spec)?;
            let dns = spec.dns.iter().map(|a| ipv4(&a.0)).collect::<Fine<_>>()?;
            let ssh = ssh(spec.ssh.unwrap_or_default());
            let change_windows = spec.change_windows.into_iter().map(window).collect::<Fine<_>>()?;
            let disruption = disruption(spec.disruption)?;
            let second_operator = spec.approval.unwrap_or_default().second_operator;
            let (domain, ntp) = (spec.domain, spec.ntp);
            fleet
                .sites
                .insert(name, fleet::Site { domain, ntp, dns, ssh, change_windows, disruption, second_operator });
        }
        Kind::Network => drop(fleet.networks.insert(name, network(read(spec)?)?)),
        Kind::HardwareClass => {
            let spec: HardwareClassSpec = read(spec)?;
            fleet.hardware_classes.insert(name, fleet::HardwareClass { bios: spec.bios, firmware: spec.firmware });
        }
        Kind::Profile => {
            let spec: ProfileSpec = read(spec)?;
            let image = spec.image.map(|i| i.name.0);
            fleet.profiles.insert(name, fleet::Profile { image, services: spec.services.unwrap_or_default() });
        }
        Kind::Cluster => {
            let cluster = cluster(name.clone(), read(spec)?, choose)?;
            fleet.clusters.insert(name, cluster);
        }
        Kind::Image => drop(fleet.images.insert(name, image(read(spec)?)?)),
        Kind::Playbook => drop(fleet.playbooks.insert(name, read(spec)?)),
    }
    Ok(())
}

fn node(name: &str, labels: BTreeMap<String, String>, spec: NodeSpec) -> Fine<fleet::Node> {
    let bmc = match spec.bmc {
        Some(bmc) => Some(fleet::Bmc {
            endpoints: bmc.endpoints.into_iter().map(endpoint).collect::<Fine<_>>()?,
            system: bmc.system,
            mac: bmc.mac.map(|m| m.0.parse().map_err(|e: crate::model::mac::MacError| e.to_string())).transpose()?,
            shared_nic: bmc.shared_nic,
        }),
        None => None,
    };
    let interfaces = spec.interfaces.into_iter().map(|i| {
        Ok(fleet::Interface {
            name: i.name,
            mac: i.mac.0.parse().map_err(|e: crate::model::mac::MacError| e.to_string())?,
            network: i.network.map(|n| n.0),
            role: i.role,
            addresses: i.addresses.iter().map(|a| interface_address(&a.0)).collect::<Fine<_>>()?,
        })
    });
    let location = spec.location.unwrap_or_default();
    Ok(fleet::Node {
        name: name.to_owned(),
        labels,
        site: spec.site.map(|n| n.0),
        hardware_class: spec.hardware_class.map(|n| n.0),
        profile: spec.profile.map(|n| n.0),
        lifecycle: spec.lifecycle,
        management: spec.management,
        protect: spec.protect,
        identity: identity(spec.identity.unwrap_or_default())?,
        bmc,
        interfaces: interfaces.collect::<Fine<_>>()?,
        disks: spec.disks.into_iter().map(|(name, rule)| Ok((name, disk(rule)?))).collect::<Fine<_>>()?,
        location: fleet::Location {
            rack: location.rack,
            unit: location.unit,
            power: location.power,
            chassis: location.chassis,
        },
        arch: spec.arch.unwrap_or_default(),
        boot_mode: spec.boot_mode.unwrap_or_default(),
        boot_method: spec.boot.unwrap_or_default().method,
        console: spec.console,
        minimum: minimum(spec.minimum.unwrap_or_default())?,
        image: spec.image.map(|i| i.name.0),
        kernel_params: spec.kernel_params.unwrap_or_default(),
        install: match spec.install.and_then(|i| i.driver) {
            Some(driver) => Some(install(driver)?),
            None => None,
        },
        services: spec.services.unwrap_or_default(),
        ssh: ssh(spec.ssh.unwrap_or_default()),
        dns: spec.dns.unwrap_or_default().iter().map(|a| ipv4(&a.0)).collect::<Fine<_>>()?,
        baseline: Baseline {
            bios: spec
                .bios
                .into_iter()
                .map(|(name, value)| Ok((name.clone(), bios_word(&name, value)?)))
                .collect::<Fine<_>>()?,
            firmware: spec.firmware,
            images: spec
                .firmware_images
                .into_iter()
                .map(|(name, image)| Ok((name.clone(), firmware_image(&name, image)?)))
                .collect::<Fine<_>>()?,
            volumes: spec.raid.into_iter().map(volume).collect::<Fine<_>>()?,
        },
    })
}

/// The word of a plain value, by which a BMC's own is known whatever type it has there.
fn bios_word(name: &str, value: serde_json::Value) -> Fine<String> {
    match value {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        serde_json::Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(format!("bios.{name}: a BIOS attribute is text, a number, true or false")),
    }
}

fn firmware_image(name: &str, spec: FirmwareImageSpec) -> Fine<FirmwareImage> {
    let at = match (spec.url, spec.file, spec.sha256) {
        (Some(url), None, None) => ImageAt::Url(url),
        (None, Some(file), Some(digest)) => ImageAt::File { path: file.into(), sha256: digest.0.to_ascii_lowercase() },
        _ => {
            return Err(format!(
                "firmwareImages.{name} is either `url` (the BMC fetches it; nobody here could check a digest), or `file` with its `sha256`"
            ));
        }
    };
    Ok(FirmwareImage { version: spec.version, at })
}

fn volume(spec: RaidSpec) -> Fine<VolumeRule> {
    let raid = match spec.level {
        RaidLevel::Raid0 => "RAID0",
        RaidLevel::Raid1 => "RAID1",
        RaidLevel::Raid5 => "RAID5",
        RaidLevel::Raid6 => "RAID6",
        RaidLevel::Raid10 => "RAID10",
    };
    let drives = disk(DiskSpec { matching: spec.matching, use_for: spec.use_for })?;
    Ok(VolumeRule { name: spec.name, raid: raid.to_owned(), drives })
}

fn identity(spec: IdentitySpec) -> Fine<fleet::Identity> {
    let uuid = spec.uuid.map(|u| u.0.parse().map_err(|_| format!("`{}` is not a UUID", u.0))).transpose()?;
    Ok(fleet::Identity { serial: spec.serial, uuid, serial_from: spec.serial_from.unwrap_or_default() })
}

fn endpoint(spec: EndpointSpec) -> Fine<fleet::Endpoint> {
    let at = match (spec.redfish, spec.ipmi) {
        (Some(url), None) => fleet::EndpointAt::Redfish(url.0.trim_end_matches('/').to_owned()),
        (None, Some(host)) if host.0.contains(':') => fleet::EndpointAt::Ipmi(host.0),
        (None, Some(host)) => fleet::EndpointAt::Ipmi(format!("{}:{IPMI_PORT}", host.0)),
        _ => return Err("an endpoint has exactly one of `redfish` and `ipmi`".into()),
    };
    let trust = match spec.tls {
        Some(tls) => match (tls.pin, tls.ca) {
            (Some(pin), _) => {
                fleet::Trust::Pin(super::format::pin(&pin.0).ok_or_else(|| format!("`{}` is no pin", pin.0))?)
            }
            (None, Some(ca)) => fleet::Trust::Ca(ca.into()),
            (None, None) => fleet::Trust::None,
        },
        None => fleet::Trust::None,
    };
    Ok(fleet::Endpoint { at, credential: spec.credential.0, trust })
}

fn size(size: Option<Size>) -> Fine<Option<u64>> {
    size.map(|s| size_bytes(&s.0)).transpose()
}

fn disk(spec: DiskSpec) -> Fine<fleet::DiskRule> {
    let matching = spec.matching.unwrap_or_default();
    Ok(fleet::DiskRule {
        serial: matching.serial,
        wwn: matching.wwn,
        model: matching.model,
        min_size_bytes: size(matching.min_size)?,
        max_size_bytes: size(matching.max_size)?,
        use_for: spec.use_for.unwrap_or_default(),
    })
}

fn minimum(spec: MinimumSpec) -> Fine<fleet::Minimum> {
    Ok(fleet::Minimum { cores: spec.cores, memory_bytes: size(spec.memory)? })
}

fn install(driver: InstallDriver) -> Fine<fleet::Install> {
    match (driver.image, driver.nixos_anywhere, driver.exec) {
        (Some(image), None, None) => Ok(fleet::Install::Image { system: image.system.0 }),
        (None, Some(nix), None) => Ok(fleet::Install::NixosAnywhere { flake: nix.flake, extra_args: nix.extra_args }),
        (None, None, Some(exec)) => {
            let deadline_s = match exec.deadline {
                Some(deadline) => duration_s(&deadline.0)?,
                None => EXEC_DEADLINE_S,
            };
            Ok(fleet::Install::Exec { command: exec.command, deadline_s })
        }
        _ => Err("an install driver is exactly one of `nixosAnywhere`, `image` and `exec`".into()),
    }
}

fn ssh(spec: SshSpec) -> fleet::SshSpec {
    fleet::SshSpec {
        user: spec.user,
        identity: spec.identity.map(PathBuf::from),
        authorized_keys: spec.authorized_keys.unwrap_or_default(),
    }
}

fn secret(from: SecretFrom) -> Fine<fleet::SecretSource> {
    use fleet::SecretSource as To;
    let sources = [
        from.keyring.map(To::Keyring),
        from.exec.map(|e| To::Exec { command: e.command }),
        from.file.map(|p| To::File(p.into())),
        from.env.map(To::Env),
        from.age.map(|p| To::Age(p.into())),
        from.sops.map(|p| To::Sops(p.into())),
    ];
    let mut said = sources.into_iter().flatten();
    match (said.next(), said.next()) {
        (Some(source), None) => Ok(source),
        _ => Err("a secret has exactly one source".into()),
    }
}

fn seconds(text: Option<&Duration>, default: u32) -> Fine<u32> {
    match text {
        Some(text) => u32::try_from(duration_s(&text.0)?).map_err(|_| format!("`{}` is too long", text.0)),
        None => Ok(default),
    }
}

fn count(count: &Count) -> Fine<rollout::Count> {
    Ok(match count {
        Count::Number(number) => rollout::Count::Number(*number),
        Count::Percent(share) => rollout::Count::Percent(percent(share)?),
    })
}

fn window(spec: ChangeWindow) -> Fine<rollout::ChangeWindow> {
    let minutes = |text: &str| {
        let (hour, minute) = text.split_once(':').ok_or_else(|| format!("`{text}` is no time of day"))?;
        let number = |t: &str| t.parse::<u16>().map_err(|_| format!("`{text}` is no time of day"));
        Ok::<_, String>(number(hour)? * 60 + number(minute)?)
    };
    let timezone = spec.timezone.unwrap_or_else(|| "UTC".to_owned());
    if !rollout::known_timezone(&timezone) {
        return Err(format!("`{timezone}` is no time zone of the IANA database, as in `Europe/Berlin`"));
    }
    Ok(rollout::ChangeWindow {
        days: spec.days.iter().map(|day| *day as u8).collect(),
        from_min: minutes(&spec.from.0)?,
        to_min: minutes(&spec.to.0)?,
        timezone,
    })
}

fn disruption(spec: Option<DisruptionSpec>) -> Fine<rollout::DomainLimits> {
    let spec = spec.unwrap_or_default();
    let default = rollout::DomainLimits::default();
    let limit = |own: Option<Count>, default| Ok::<_, String>(own.as_ref().map(count).transpose()?.or(default));
    Ok(rollout::DomainLimits {
        rack: limit(spec.rack, default.rack)?,
        power: limit(spec.power, default.power)?,
        chassis: limit(spec.chassis, default.chassis)?,
    })
}

fn network(spec: NetworkSpec) -> Fine<fleet::Network> {
    let dhcp = spec.dhcp.unwrap_or_default();
    let subnets = spec.subnets.into_iter().map(|subnet| {
        let pool = match subnet.pool.as_deref() {
            Some([first, last]) => Some((ipv4(&first.0)?, ipv4(&last.0)?)),
            Some(_) => return Err("a pool is its first and its last address".to_owned()),
            None => None,
        };
        Ok(fleet::Subnet {
            cidr: cidr(&subnet.cidr.0)?,
            gateway: subnet.gateway.map(|g| ipv4(&g.0)).transpose()?,
            pool,
            relays: subnet.relays.iter().map(|r| ipv4(&r.0)).collect::<Fine<_>>()?,
        })
    });
    Ok(fleet::Network {
        subnets: subnets.collect::<Fine<_>>()?,
        interface: spec.interface.unwrap_or_default(),
        netns: spec.netns,
        mtu: spec.mtu.unwrap_or(1500),
        dhcp: dhcp.mode,
        lease_s: seconds(dhcp.lease_time.as_ref(), 600)?,
        probe_ms: match dhcp.probe_time {
            Some(text) => u32::try_from(duration_ms(&text.0)?).map_err(|_| "a probe time of weeks".to_owned())?,
            None => fleet::PROBE_MS,
        },
        http_port: spec.http_port.unwrap_or(8080),
        api_port: spec.api_port.unwrap_or(8443),
    })
}

fn cluster(name: String, spec: ClusterSpec, choose: Choose<'_>) -> Fine<fleet::Cluster> {
    let driver = match (spec.driver.etcd, spec.driver.http, spec.driver.exec) {
        (Some(etcd), None, None) => fleet::ClusterDriver::Etcd {
            version: etcd.version.0.trim_start_matches('v').to_owned(),
            client_port: etcd.client_port.unwrap_or(2379),
            peer_port: etcd.peer_port.unwrap_or(2380),
        },
        (None, Some(http), None) => fleet::ClusterDriver::Other { kind: format!("http/{}", http.preset) },
        (None, None, Some(_)) => fleet::ClusterDriver::Other { kind: "exec".into() },
        _ => return Err("a cluster's driver is exactly one of `etcd`, `http` and `exec`".into()),
    };
    let members = select::selector(&spec.members.selector.0).map_err(|e| e.to_string())?;
    let pool = spec.members.pool.map(|p| select::selector(&p.0)).transpose().map_err(|e| e.to_string())?;
    let rollout = spec.rollout.unwrap_or_default();
    let default = Rollout::default();
    let max_unavailable = match rollout.max_unavailable {
        Some(Count::Number(number)) => number,
        // Rounded down, as a share of a quorum must be; never less than one.
        Some(Count::Percent(share)) => {
            let share = u64::from(spec.members.size) * u64::from(percent(&share)?) / 100;
            u32::try_from(share).unwrap_or(u32::MAX).max(1)
        }
        None => default.max_unavailable,
    };
    Ok(fleet::Cluster {
        name,
        driver,
        members: choose(&members, Lifecycle::Active),
        size: spec.members.size,
        spares: pool.map(|p| choose(&p, Lifecycle::Spare)).unwrap_or_default(),
        depends_on: spec.depends_on.into_iter().map(|n| n.0).collect(),
        rollout: Rollout {
            max_unavailable,
            waves: rollout.waves.iter().map(count).collect::<Fine<_>>()?,
            soak_s: seconds(rollout.soak.as_ref(), default.soak_s)?,
            min_healthy_s: seconds(rollout.min_healthy.as_ref(), default.min_healthy_s)?,
            deadline_s: seconds(rollout.deadline.as_ref(), default.deadline_s)?,
            halt_after: rollout.halt_after.as_ref().map(count).transpose()?.unwrap_or(default.halt_after),
        },
    })
}

fn ready(path: String, sha256: &Sha256) -> fleet::ReadyFile {
    fleet::ReadyFile { path: path.into(), sha256: sha256.0.to_ascii_lowercase() }
}

fn image(spec: ImageSpec) -> Fine<fleet::Image> {
    match (spec.build, spec.files) {
        (Some(build), None) => match (build.distro, build.nix) {
            (Some(distro), None) => {
                let arch = build.arch.unwrap_or_default();
                Ok(fleet::Image::Distro { distro, arch, packages: build.packages })
            }
            (None, Some(flake)) => Ok(fleet::Image::Nix { flake }),
            _ => Err("a build is exactly one of `distro` and `nix`".into()),
        },
        (None, Some(files)) => Ok(fleet::Image::Files {
            kernel: files.kernel.path.into(),
            kernel_sha256: files.kernel.sha256.0.to_ascii_lowercase(),
            initrd: files.initrd.path.into(),
            initrd_sha256: files.initrd.sha256.0.to_ascii_lowercase(),
            cmdline: files.cmdline,
            stage2: files.stage2.map(|f| ready(f.path, &f.sha256)),
            system: files.system.map(|f| ready(f.path, &f.sha256)),
            loaders: files.loaders.into_iter().map(|l| (l.name, ready(l.path, &l.sha256))).collect(),
        }),
        _ => Err("an image is exactly one of `build` and `files`".into()),
    }
}
