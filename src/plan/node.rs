//! One node's track: from what its BMC, its system and the store say to what is left to do.

use super::{Artifacts, Known, Refusal, StepKind, Subject, Track, baseline};
use crate::model::{
    Fleet,
    facts::{BmcFacts, Facts, InstallPhase, NodeFacts},
    failure::Cause,
    fleet::{BootMethod, Install, Lifecycle, Management, Node},
    goal::Ceiling,
    power::{BootTarget, PowerState},
};

pub(super) struct Wish {
    pub installs: bool,
    pub reinstall: bool,
    /// Machines are brought to their baselines.
    pub baselines: bool,
    pub ceiling: Ceiling,
}

pub(super) struct Planned {
    pub track: Track,
    pub artifacts: Option<Artifacts>,
    pub needs_network: bool,
    /// What is left undone, while the rest of the track goes on.
    pub left: Option<Refusal>,
}

/// The values that an approval of this node's steps is bound to.
pub(super) fn binding(node: &Node) -> String {
    let disk = node.root_disk().map(|(name, rule)| {
        format!("{name} serial={} wwn={}", rule.serial.as_deref().unwrap_or("-"), rule.wwn.as_deref().unwrap_or("-"))
    });
    format!(
        "serial={} uuid={} mac={} disk={}",
        node.identity.serial.as_deref().unwrap_or("-"),
        node.identity.uuid.map_or("-".to_owned(), |u| u.to_string()),
        node.provision().map_or("-".to_owned(), |i| i.mac.to_string()),
        disk.unwrap_or_else(|| "-".to_owned())
    )
}

pub(super) fn track(
    fleet: &Fleet,
    node: &Node,
    facts: &Facts,
    known: &Known<'_>,
    wish: &Wish,
) -> Result<Planned, Refusal> {
    let name = &node.name;
    let refuse = |kind: &str, why: String, next: Option<String>| Refusal {
        subject: Subject::Node(name.clone()),
        kind: kind.into(),
        why,
        next,
    };
    let none = NodeFacts::default();
    let seen = facts.nodes.get(name).unwrap_or(&none);
    let mut track = Track::new(Subject::Node(name.clone()));

    let installed = installed(seen);
    if let (Some(what), false) = (&installed, wish.reinstall) {
        track.found.push(what.clone());
        let left = match wish.baselines && node.lifecycle != Lifecycle::Decommissioned {
            true => baseline::of_installed(fleet, node, seen, wish.ceiling, true, &mut track),
            false => None,
        };
        return Ok(Planned { track, artifacts: None, needs_network: false, left });
    }
    if node.lifecycle == Lifecycle::Decommissioned {
        return Err(refuse("decommissioned", "its lifecycle is `decommissioned`".into(), None));
    }
    if node.protect {
        return Err(refuse(
            "protected",
            "it is protected (`protect: true`): no power, boot or disk change whatever the plan says".into(),
            place(fleet, name).map(|p| format!("edit {p} and set protect: false")),
        ));
    }
    if node.management != Management::Full {
        return Err(refuse(
            "management",
            format!(
                "`management: {}` lets rackctl {} only",
                word(node.management),
                if node.management == Management::Power { "switch its power" } else { "look" }
            ),
            place(fleet, name).map(|p| format!("edit {p} and set management: full")),
        ));
    }
    if seen.record.as_ref().is_some_and(|r| r.phase == InstallPhase::Unknown) && !wish.reinstall {
        return Err(refuse(
            "stateUnknown",
            "the state was lost, and what is on its disk could not be told since: it is not taken for bare. Make it \
             answer, then rebuild again; or say `rackctl install --reinstall`, which wipes it"
                .into(),
            Some("rackctl state rebuild".into()),
        ));
    }
    let bmc = bmc_facts(seen).map_err(|why| {
        refuse(
            "unreachable",
            format!("its BMC does not answer as it should: {why}"),
            Some(format!("rackctl bmc info {name}")),
        )
    })?;
    if !bmc.mismatches.is_empty() {
        return Err(refuse(
            "identityMismatch",
            format!("the machine behind its BMC is another one: {}", bmc.mismatches.join("; ")),
            Some(format!("rackctl bmc info {name} -o yaml")),
        ));
    }
    if let Some(record) = &seen.record
        && record.phase == InstallPhase::Installed
        && !wish.reinstall
    {
        // Never "no answer, so install": it was installed, and its data may be all that is left of a cluster.
        let off = bmc.facts.is_some_and(|f| f.power == PowerState::Off);
        let generation = record.generation;
        track.found.push(format!(
            "installed as generation {generation}, does not answer over SSH{}",
            if off { " (power is off)" } else { "" }
        ));
        if off {
            push(&mut track, StepKind::PowerOn, "its power is off".into());
        }
        push(
            &mut track,
            StepKind::AwaitInstalled { generation },
            "it is installed and must answer before anything else is done with it".into(),
        );
        return Ok(Planned { track, artifacts: None, needs_network: false, left: None });
    }
    if !wish.installs {
        return Err(refuse(
            "notInstalled",
            "it is not installed, and a join installs nothing".into(),
            Some(format!("rackctl install {name}")),
        ));
    }
    if wish.reinstall && installed.is_none() && seen.record.is_none() {
        track.found.push("not installed yet: --reinstall changes nothing".into());
    }
    install_steps(fleet, node, facts, seen, bmc.facts, known, wish, track)
}

#[allow(clippy::too_many_arguments)]
fn install_steps(
    fleet: &Fleet,
    node: &Node,
    facts: &Facts,
    seen: &NodeFacts,
    bmc: Option<&BmcFacts>,
    known: &Known<'_>,
    wish: &Wish,
    mut track: Track,
) -> Result<Planned, Refusal> {
    let name = &node.name;
    let refuse = |kind: &str, why: String, next: Option<String>| Refusal {
        subject: Subject::Node(name.clone()),
        kind: kind.into(),
        why,
        next,
    };
    let lacking = |what: &str| {
        refuse("incomplete", format!("the inventory gives no {what}"), Some("rackctl explain node".into()))
    };
    let interface = node.provision().ok_or_else(|| lacking("interface with a MAC address"))?;
    let network = interface.network.as_ref().and_then(|n| fleet.networks.get(n).map(|v| (n, v)));
    let (network_name, _) = network.ok_or_else(|| lacking("network for its provisioning interface"))?;
    node.address().ok_or_else(|| lacking("address for its provisioning interface"))?;
    let (_, disk) = node.root_disk().ok_or_else(|| lacking("disk with `use: root`"))?;
    if node.identity.serial.is_none() && node.identity.uuid.is_none() {
        return Err(refuse(
            "identityUnknown",
            "the inventory names neither serial nor UUID: a machine is wiped only when two independent identities agree".into(),
            Some(format!("rackctl bmc info {name} -o yaml")),
        ));
    }
    let Some(Install::Image { system }) = &node.install else {
        let driver = match &node.install {
            None => return Err(lacking("install driver (profile → install → driver)")),
            Some(Install::NixosAnywhere { .. }) => "nixosAnywhere",
            Some(_) => "exec",
        };
        return Err(refuse(
            "unsupportedDriver",
            format!(
                "the install driver `{driver}` needs a netboot image of its own, which this version does not boot; the `image` driver works end to end"
            ),
            None,
        ));
    };
    if node.boot_method != BootMethod::Pxe {
        return Err(refuse("unsupportedBoot", "this version boots installers by PXE only".into(), None));
    }
    if let Some(servers) = facts.rogue_dhcp.get(network_name).filter(|s| !s.is_empty()) {
        let list = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(refuse(
            "rogueDhcp",
            format!("another DHCP server answers on network {network_name}: {list}"),
            Some("stop that server, or set dhcp.mode: proxy on the network".into()),
        ));
    }
    known_disk_agrees(disk, bmc)
        .map_err(|why| refuse("diskMismatch", why, Some(format!("rackctl bmc info {name} -o yaml"))))?;
    let image = node.image.as_deref().unwrap_or(system);
    let (boot, system) = match (known.artifacts.get(image), known.artifacts.get(system)) {
        (Some(boot), Some(system)) => (boot, system),
        _ => {
            return Err(refuse(
                "noImage",
                format!("image `{image}` or `{system}` is not built"),
                Some(format!("rackctl image build {image}")),
            ));
        }
    };
    if wish.ceiling < Ceiling::DataLoss {
        return Err(refuse(
            "ceiling",
            format!(
                "its disk {} would be written (DATA LOSS), which this goal does not allow",
                disk.serial.as_deref().or(disk.wwn.as_deref()).unwrap_or("chosen by rule")
            ),
            Some("rackctl apply --allow reboot,data-loss".into()),
        ));
    }
    let generation = seen.record.as_ref().map_or(1, |r| r.generation + 1);
    let artifacts = Artifacts { system_sha256: system.system_sha256.clone(), ..boot.clone() };
    let on = bmc.is_some_and(|f| f.power != PowerState::Off);
    push(&mut track, StepKind::CheckIdentity, format!("serial and UUID of the BMC must be {}", identity_words(node)));
    if wish.baselines && !node.baseline.is_empty() {
        let bare = seen.record.is_none();
        let asked = baseline::Asked { fleet, ceiling: wish.ceiling, volumes: true, bare, stays_off: false };
        for (kind, why) in baseline::steps(node, seen.baseline.as_ref(), &asked)? {
            push(&mut track, kind, why);
        }
    }
    push(
        &mut track,
        StepKind::BootInstaller { target: BootTarget::Pxe, mode: node.boot_mode },
        format!(
            "not installed; it is {} and will boot the installer over the network, once",
            if on { "on" } else { "off" }
        ),
    );
    push(&mut track, StepKind::AwaitClaim, "the installer proves MAC, UUID and its one-time token".into());
    push(&mut track, StepKind::CheckDisks, "the root disk must be the inventory's and hold nothing foreign".into());
    push(
        &mut track,
        StepKind::WriteDisk { system_sha256: artifacts.system_sha256.clone(), generation },
        format!(
            "disk {} gets system {} as generation {generation}",
            disk.serial.as_deref().or(disk.wwn.as_deref()).unwrap_or("that the rule matches"),
            &artifacts.system_sha256[..artifacts.system_sha256.len().min(12)]
        ),
    );
    push(&mut track, StepKind::WithdrawNetboot, "no later restart may find the installer again".into());
    push(&mut track, StepKind::RebootToDisk, "from the installer into the installed system".into());
    push(
        &mut track,
        StepKind::AwaitInstalled { generation },
        "it must come up from that disk, with its own host key".into(),
    );
    Ok(Planned { track, artifacts: Some(artifacts), needs_network: true, left: None })
}

/// Says in words that the node is installed and runs what was installed; `None` if that is not seen.
fn installed(seen: &NodeFacts) -> Option<String> {
    let record = seen.record.as_ref()?;
    let status = seen.system.as_ref()?.value.as_ref().ok()?;
    let same = status.config.generation == record.generation && status.root_disk_guid == record.disk_guid;
    (same && record.phase == InstallPhase::Installed).then(|| {
        format!(
            "installed as generation {}, up from disk {} (slot {})",
            record.generation,
            record.disk_serial.as_deref().unwrap_or("without a serial"),
            status.slot
        )
    })
}

pub(super) struct Bmc<'a> {
    pub facts: Option<&'a BmcFacts>,
    pub mismatches: Vec<String>,
}

pub(super) fn bmc_facts(seen: &NodeFacts) -> Result<Bmc<'_>, String> {
    match &seen.bmc {
        None => Err("it was not asked".into()),
        Some(observed) => match &observed.value {
            Ok(facts) => Ok(Bmc { facts: Some(facts), mismatches: seen.identity_mismatches.clone() }),
            Err(failure) if failure.cause == Cause::Mismatch => {
                Ok(Bmc { facts: None, mismatches: vec![failure.why.clone()] })
            }
            Err(failure) => Err(failure.why.clone()),
        },
    }
}

/// A disk that the BMC already shows must be the inventory's; what it does not show is settled by the claim guard.
fn known_disk_agrees(rule: &crate::model::fleet::DiskRule, bmc: Option<&BmcFacts>) -> Result<(), String> {
    let (Some(want), Some(facts)) = (&rule.serial, bmc) else { return Ok(()) };
    let shown: Vec<&str> = facts.drives.iter().filter_map(|d| d.serial.as_deref()).collect();
    // What it could not read may be that very disk.
    if shown.is_empty() || shown.contains(&want.as_str()) || facts.drives_unread() {
        return Ok(());
    }
    Err(format!("the inventory's root disk is {want}, the BMC shows {}", shown.join(", ")))
}

pub(super) fn identity_words(node: &Node) -> String {
    let mut words = Vec::new();
    words.extend(node.identity.serial.clone());
    words.extend(node.identity.uuid.map(|u| u.to_string()));
    words.join(" and ")
}

pub(super) fn word(management: Management) -> &'static str {
    match management {
        Management::Full => "full",
        Management::Power => "power",
        Management::Observe => "observe",
    }
}

pub(super) fn place(fleet: &Fleet, node: &str) -> Option<String> {
    fleet.places.get(&format!("Node/{node}")).cloned()
}

fn push(track: &mut Track, kind: StepKind, why: String) {
    track.push(kind, why);
}
