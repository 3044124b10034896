//! `inspect --boot`: a machine boots the installer, is looked at, and is left as it was found. No step writes to a disk.

use super::{Artifacts, Known, Plan, Refusal, StepKind, Subject, Track, node};
use crate::model::{
    Fleet,
    facts::{Facts, InstallPhase, NodeFacts, NodeRecord},
    fleet::{BootMethod, Image, Install, Lifecycle, Management, Node},
    power::{BootTarget, PowerState},
};

/// The image whose installer a machine boots: its own, else the one of its system, else the only one that there is.
pub fn image<'a>(fleet: &'a Fleet, node: &'a Node) -> Option<&'a String> {
    let system = match &node.install {
        Some(Install::Image { system }) => Some(system),
        _ => None,
    };
    let boots = |image: &Image| matches!(image, Image::Distro { .. } | Image::Files { .. });
    let only = || {
        let mut all = fleet.images.iter().filter(|(_, image)| boots(image)).map(|(name, _)| name);
        all.next().filter(|_| all.next().is_none())
    };
    node.image.as_ref().or(system).or_else(only)
}

pub(super) fn tracks(
    fleet: &Fleet,
    facts: &Facts,
    known: &Known<'_>,
    scope: &[String],
    installed: bool,
    plan: &mut Plan,
) {
    for name in scope {
        let Some(node) = fleet.nodes.get(name) else { continue };
        match track(fleet, node, facts, known, installed) {
            Ok((track, artifacts, network)) => {
                let dhcp = fleet.networks.get(&network).map(|n| format!("{:?}", n.dhcp).to_lowercase());
                plan.networks.insert(network, dhcp.unwrap_or_else(|| "unknown".to_owned()));
                plan.artifacts.insert(name.clone(), artifacts);
                plan.bound.insert(name.clone(), node::binding(node));
                plan.tracks.push(track);
            }
            Err(refusal) => plan.refusals.push(refusal),
        }
    }
}

fn track(
    fleet: &Fleet,
    node: &Node,
    facts: &Facts,
    known: &Known<'_>,
    also_installed: bool,
) -> Result<(Track, Artifacts, String), Refusal> {
    let name = &node.name;
    let refuse = |kind: &str, why: String, next: Option<String>| Refusal {
        subject: Subject::Node(name.clone()),
        kind: kind.into(),
        why,
        next,
    };
    let none = NodeFacts::default();
    let seen = facts.nodes.get(name).unwrap_or(&none);
    if node.lifecycle == Lifecycle::Decommissioned {
        return Err(refuse("decommissioned", "its lifecycle is `decommissioned`".into(), None));
    }
    let edit = |what: &str| node::place(fleet, name).map(|p| format!("edit {p} and set {what}"));
    if node.protect {
        let why = "it is protected (`protect: true`): no power, boot or disk change";
        return Err(refuse("protected", why.into(), edit("protect: false")));
    }
    if node.management != Management::Full {
        let why = format!("`management: {}` does not let rackctl boot it", node::word(node.management));
        return Err(refuse("management", why, edit("management: full")));
    }
    let record = seen.record.as_ref().filter(|r| r.may_serve());
    if let (Some(record), false) = (record, also_installed) {
        return Err(serves(record).map_or_else(
            || {
                refuse(
                    "installed",
                    "it may serve: the state was lost, and what runs on it is not known".into(),
                    again(),
                )
            },
            |why| refuse("installed", why, again()),
        ));
    }
    let bmc = node::bmc_facts(seen).map_err(|why| {
        let why = format!("its BMC does not answer as it should: {why}");
        refuse("unreachable", why, Some(format!("rackctl bmc info {name}")))
    })?;
    if !bmc.mismatches.is_empty() {
        let why = format!("the machine behind its BMC is another one: {}", bmc.mismatches.join("; "));
        return Err(refuse("identityMismatch", why, Some(format!("rackctl bmc info {name} -o yaml"))));
    }
    let first = || Some(format!("rackctl inspect {name} --write"));
    if node.identity.serial.is_none() && node.identity.uuid.is_none() {
        let why = "the inventory names neither serial nor UUID: what boots could not be told from another machine";
        return Err(refuse("identityUnknown", why.into(), first()));
    }
    let lacking = |what: &str| refuse("incomplete", format!("the inventory gives no {what}"), first());
    let interface = node.provision().ok_or_else(|| lacking("interface with a MAC address"))?;
    let network = interface.network.as_ref().filter(|n| fleet.networks.contains_key(*n));
    let network = network.ok_or_else(|| lacking("network for its provisioning interface"))?;
    node.address().ok_or_else(|| lacking("address for its provisioning interface"))?;
    if node.boot_method != BootMethod::Pxe {
        return Err(refuse("unsupportedBoot", "this version boots installers by PXE only".into(), None));
    }
    if let Some(servers) = facts.rogue_dhcp.get(network).filter(|s| !s.is_empty()) {
        let list = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let why = format!("another DHCP server answers on network {network}: {list}");
        let next = "stop that server, or set dhcp.mode: proxy on the network";
        return Err(refuse("rogueDhcp", why, Some(next.into())));
    }
    let Some(image) = image(fleet, node) else {
        let why = "the inventory gives no image, and there is more or less than one to choose";
        return Err(refuse("noImage", why.into(), Some("rackctl get images".into())));
    };
    let Some(artifacts) = known.artifacts.get(image) else {
        let why = format!("image `{image}` is not built");
        return Err(refuse("noImage", why, Some(format!("rackctl image build {image}"))));
    };
    let on = bmc.facts.is_some_and(|f| f.power != PowerState::Off);
    let state = if on { "on" } else { "off" };
    let mut track = Track::new(Subject::Node(name.clone()));
    let words = node::identity_words(node);
    track.push(StepKind::CheckIdentity, format!("serial and UUID of the BMC must be {words}"));
    track.push(
        StepKind::BootInstaller { target: BootTarget::Pxe, mode: node.boot_mode },
        format!("it is {state} and will boot the installer over the network, once"),
    );
    track.push(StepKind::AwaitClaim, "the installer proves MAC, UUID and its one-time token".into());
    track.push(StepKind::ReadHardware, "what it has; no disk is written".into());
    track.push(StepKind::WithdrawNetboot, "no later restart may find the installer again".into());
    track.push(StepKind::LeaveInstaller { on }, format!("it was {state}, and is {state} again"));
    if let Some(record) = record.filter(|r| on && r.phase == InstallPhase::Installed) {
        let why = "it must come up from its own disk again";
        track.push(StepKind::AwaitInstalled { generation: record.generation }, why.into());
    }
    Ok((track, artifacts.clone(), network.clone()))
}

/// Why a recorded machine counts as serving; `None`: nobody knows.
fn serves(record: &NodeRecord) -> Option<String> {
    (record.phase != InstallPhase::Unknown).then(|| {
        format!(
            "it is installed (generation {}, run {}): a look from the installer takes it out of service meanwhile",
            record.generation, record.run
        )
    })
}

fn again() -> Option<String> {
    Some("--installed looks at it all the same, one at a time, as its cluster allows".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{bmc, fleet, installed},
        *,
    };
    use crate::{
        model::goal::{Goal, Scope},
        plan::{Class, Danger, plan},
    };

    fn looked_at(fleet: &Fleet, seen: NodeFacts, also_installed: bool) -> Plan {
        let artifacts = Artifacts {
            kernel_sha256: "k".into(),
            initrd_sha256: "i".into(),
            stage2_sha256: "2".into(),
            system_sha256: "s".into(),
        };
        let built = [("img".to_owned(), artifacts)].into();
        let known = Known { artifacts: &built, cluster_generations: &Default::default() };
        let facts = Facts { nodes: [("n1".to_owned(), seen)].into(), ..Facts::default() };
        let nodes = Scope(vec!["n1".into()]);
        plan(fleet, &facts, &Goal::Inspect { nodes, installed: also_installed, lose_quorum: false }, &known)
    }

    fn on(mut seen: NodeFacts) -> NodeFacts {
        if let Some(Ok(facts)) = seen.bmc.as_mut().map(|b| &mut b.value) {
            facts.power = PowerState::On;
        }
        seen
    }

    fn words(plan: &Plan) -> Vec<&'static str> {
        plan.steps().map(|s| s.kind.word()).collect()
    }

    #[test]
    fn nothing_is_written_and_the_machine_is_left_as_it_was() {
        let plan = looked_at(&fleet(&["n1"]), bmc("n1"), false);
        let steps =
            ["check-identity", "boot-installer", "await-claim", "read-hardware", "withdraw-netboot", "leave-installer"];
        assert_eq!(words(&plan), steps);
        assert!(plan.steps().all(|s| s.danger < Danger::DataLoss && s.kind.class() != Class::Destroy));
        assert_eq!(plan.networks.keys().collect::<Vec<_>>(), ["prov"]);
        let last = |plan: &Plan| plan.steps().last().map(|s| s.kind.clone());
        assert_eq!(last(&plan), Some(StepKind::LeaveInstaller { on: false }));
        assert_eq!(
            last(&looked_at(&fleet(&["n1"]), on(bmc("n1")), false)),
            Some(StepKind::LeaveInstaller { on: true })
        );
    }

    #[test]
    fn what_serves_is_left_alone_unless_it_is_meant() {
        let refused = looked_at(&fleet(&["n1"]), on(installed("n1")), false);
        assert!(refused.is_empty());
        assert_eq!(refused.refusals[0].kind, "installed");
        assert!(refused.refusals[0].next.as_deref().is_some_and(|n| n.contains("--installed")));
        let meant = looked_at(&fleet(&["n1"]), on(installed("n1")), true);
        assert_eq!(words(&meant).last(), Some(&"await-installed"));
        assert!(meant.tracks[0].disrupts, "its cluster's budget counts it");
    }

    #[test]
    fn refusals_say_what_is_missing() {
        let kind = |fleet: &Fleet, seen| looked_at(fleet, seen, false).refusals.first().map(|r| r.kind.clone());
        let with = |change: &dyn Fn(&mut Node)| {
            let mut fleet = fleet(&["n1"]);
            change(fleet.nodes.get_mut("n1").unwrap());
            fleet
        };
        let unknown = with(&|n| (n.identity.serial, n.identity.uuid) = (None, None));
        assert_eq!(kind(&unknown, bmc("n1")).as_deref(), Some("identityUnknown"));
        assert_eq!(kind(&with(&|n| n.protect = true), bmc("n1")).as_deref(), Some("protected"));
        assert_eq!(kind(&with(&|n| n.management = Management::Power), bmc("n1")).as_deref(), Some("management"));
        assert_eq!(kind(&with(&|n| n.interfaces.clear()), bmc("n1")).as_deref(), Some("incomplete"));
        assert_eq!(kind(&with(&|n| n.image = Some("other".into())), bmc("n1")).as_deref(), Some("noImage"));
        assert_eq!(kind(&fleet(&["n1"]), NodeFacts::default()).as_deref(), Some("unreachable"));
        // A machine without disk rule or install driver is what this is for.
        let bare = with(&|n| {
            n.disks.clear();
            n.install = None;
        });
        assert_eq!(kind(&bare, bmc("n1")), None);
    }
}
