//! A machine's baseline against what its BMC shows: where they differ, and the steps that bring it about. Pure.
//!
//! Firmware comes first, because a new BIOS may bring attributes that the old one does not know; then attributes. Each is
//! followed by a restart that is left out where everything is in force already. Volumes are made before anything is
//! installed, of free drives alone, and never deleted.

use std::collections::BTreeMap;

use super::{Known, Plan, Refusal, StepKind, Subject, Track, node, power, wipe_guard};
use crate::model::{
    Failure, Fleet,
    baseline::{
        Baseline, BaselineFacts, BaselinePart, BayFacts, BiosFacts, FirmwareItem, InForce, StorageFacts, VolumeFacts,
        VolumeRule, component,
    },
    facts::{Facts, InstallPhase, NodeFacts},
    fleet::{DiskUse, Management, Node},
    goal::Ceiling,
    power::PowerState,
};

/// One thing that is not as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `bios.SriovGlobalEnable`, `firmware.BIOS`, `raid.boot`
    pub field: String,
    pub wanted: String,
    pub found: String,
}

/// What a look at a machine says of its baseline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    pub differences: Vec<Difference>,
    /// `bios`, `firmware` or `raid`, and why it could not be read.
    pub unreadable: Vec<(&'static str, Failure)>,
}

/// The three parts of a baseline that are asked for, with what was seen of each.
fn parts<'a>(
    asked: &Baseline,
    seen: Option<&'a BaselineFacts>,
) -> (Part<'a, BiosFacts>, Part<'a, Vec<FirmwareItem>>, Part<'a, Vec<StorageFacts>>) {
    fn part<T>(wanted: bool, seen: Option<&Option<Result<T, Failure>>>) -> Part<'_, T> {
        match (wanted, seen.and_then(Option::as_ref)) {
            (false, _) => Part::Unasked,
            (true, Some(Ok(value))) => Part::Seen(value),
            (true, Some(Err(failure))) => Part::Unreadable(Some(failure)),
            (true, None) => Part::Unreadable(None),
        }
    }
    (
        part(!asked.bios.is_empty(), seen.map(|s| &s.bios)),
        part(!asked.firmware.is_empty(), seen.map(|s| &s.firmware)),
        part(!asked.volumes.is_empty(), seen.map(|s| &s.storage)),
    )
}

enum Part<'a, T> {
    Unasked,
    Seen(&'a T),
    /// `None`: its BMC was not asked, or gave no answer at all.
    Unreadable(Option<&'a Failure>),
}

impl<T> Part<'_, T> {
    fn why(&self, node: &str, field: &str) -> Option<Failure> {
        let Part::Unreadable(failure) = self else { return None };
        let silent = || {
            let what = format!("{node}: read its baseline");
            Failure::new(crate::model::failure::Cause::Unreachable, what, "its BMC was not asked, or did not answer")
                .next(format!("rackctl bmc {field} {node}"))
        };
        Some(failure.cloned().unwrap_or_else(silent))
    }
}

/// Where a machine differs from its baseline; nothing where the inventory asks for nothing.
pub fn compare(node: &Node, seen: Option<&BaselineFacts>) -> Compared {
    let asked = &node.baseline;
    let (bios, firmware, storage) = parts(asked, seen);
    let mut out = Compared::default();
    let unreadable = [
        ("bios", bios.why(&node.name, "bios")),
        ("firmware", firmware.why(&node.name, "firmware")),
        ("raid", storage.why(&node.name, "raid")),
    ];
    out.unreadable = unreadable.into_iter().filter_map(|(field, why)| Some((field, why?))).collect();
    let mut differ = |field: String, wanted: String, found: String| {
        out.differences.push(Difference { field, wanted, found });
    };
    if let Part::Seen(items) = firmware {
        for (name, version) in &asked.firmware {
            let found = match component(items, name) {
                Ok(item) => item.version.clone().unwrap_or_else(|| "no version".to_owned()),
                Err(why) => why,
            };
            if found != *version {
                differ(format!("firmware.{name}"), version.clone(), found);
            }
        }
    }
    if let Part::Seen(bios) = bios {
        for (name, wanted) in not_in_force(&asked.bios, bios) {
            let found = match (bios.in_force.get(&name), bios.pending.get(&name)) {
                (None, _) => "no such attribute".to_owned(),
                (Some(now), Some(pending)) => format!("{now} (pending: {pending})"),
                (Some(now), None) => now.clone(),
            };
            differ(format!("bios.{name}"), wanted, found);
        }
    }
    if let Part::Seen(controllers) = storage {
        for rule in &asked.volumes {
            match volume(controllers, rule, asked) {
                Standing::There => {}
                Standing::Otherwise(found) => differ(format!("raid.{}", rule.name), rule.raid.clone(), found),
                Standing::Missing => differ(format!("raid.{}", rule.name), rule.raid.clone(), "no such volume".into()),
            }
        }
    }
    out
}

fn not_in_force(wanted: &BTreeMap<String, String>, seen: &BiosFacts) -> BTreeMap<String, String> {
    wanted.iter().filter(|(n, v)| seen.in_force.get(*n) != Some(v)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

enum Standing {
    There,
    Missing,
    /// A volume of this name that is something else.
    Otherwise(String),
}

fn volume(controllers: &[StorageFacts], rule: &VolumeRule, asked: &Baseline) -> Standing {
    let all = || controllers.iter().flat_map(|c| c.volumes.iter().map(move |v| (c, v)));
    if let Some((_, named)) = all().find(|(_, v)| v.name == rule.name) {
        return match &named.raid {
            Some(raid) if *raid == rule.raid => Standing::There,
            other => Standing::Otherwise(other.clone().unwrap_or_else(|| "a bare disk".to_owned())),
        };
    }
    // Controllers that name volumes themselves: the one of this kind on these drives, which no other rule names.
    let ours = |c: &StorageFacts, v: &VolumeFacts| {
        let drives: Vec<&BayFacts> = c.drives.iter().filter(|d| v.drives.contains(&d.id)).collect();
        v.raid.as_deref() == Some(&rule.raid)
            && !asked.volumes.iter().any(|r| r.name == v.name)
            && !drives.is_empty()
            && drives.iter().all(|d| obeys(rule, c, d))
    };
    if all().filter(|(c, v)| ours(c, v)).count() == 1 { Standing::There } else { Standing::Missing }
}

fn obeys(rule: &VolumeRule, controller: &StorageFacts, drive: &BayFacts) -> bool {
    let want = &rule.drives;
    let same = |want: &Option<String>, seen: &Option<String>| want.as_ref().is_none_or(|w| seen.as_ref() == Some(w));
    let model = |pattern: &String| {
        let fits = |text: &Option<String>| text.as_ref().is_some_and(|t| wipe_guard::matches(pattern, t.trim()));
        let named = controller.name.as_ref().is_some_and(|n| n.contains(pattern.trim_matches('*')));
        fits(&drive.model) || named
    };
    same(&want.serial, &drive.serial)
        && same(&want.wwn, &drive.wwn)
        && want.model.as_ref().is_none_or(model)
        && want.min_size_bytes.is_none_or(|min| drive.size_bytes.is_some_and(|b| b >= min))
        && want.max_size_bytes.is_none_or(|max| drive.size_bytes.is_some_and(|b| b <= max))
}

/// Drives for a volume that is missing: free, of one controller, and as many as its kind takes.
fn drives(node: &Node, controllers: &[StorageFacts], rule: &VolumeRule) -> Result<Vec<String>, String> {
    let kept = |d: &BayFacts| {
        let names = |r: &crate::model::fleet::DiskRule| r.serial.is_some() && r.serial == d.serial;
        node.disks.values().any(|r| r.use_for == DiskUse::Keep && names(r))
    };
    let free = |c: &StorageFacts| -> Vec<String> {
        let used = |d: &BayFacts| c.volumes.iter().any(|v| v.raid.is_some() && v.drives.contains(&d.id));
        c.drives.iter().filter(|d| obeys(rule, c, d) && !used(d) && !kept(d)).map(|d| d.id.clone()).collect()
    };
    let found: Vec<(&StorageFacts, Vec<String>)> =
        controllers.iter().map(|c| (c, free(c))).filter(|(_, drives)| !drives.is_empty()).collect();
    let [(controller, drives)] = found.as_slice() else {
        let several = found.iter().map(|(c, _)| c.id.as_str()).collect::<Vec<_>>().join(", ");
        return Err(match found.is_empty() {
            true => "no free drive is as its rule says".to_owned(),
            false => format!("free drives of several controllers are as its rule says ({several})"),
        });
    };
    if !controller.makes_volumes {
        return Err(format!("controller {} makes no volumes", controller.id));
    }
    let (takes, good) = match rule.raid.as_str() {
        "RAID0" => ("1 or more", !drives.is_empty()),
        "RAID1" => ("exactly 2", drives.len() == 2),
        "RAID5" => ("3 or more", drives.len() >= 3),
        "RAID6" => ("4 or more", drives.len() >= 4),
        _ => ("4 or more, in pairs", drives.len() >= 4 && drives.len() % 2 == 0),
    };
    match good {
        true => Ok(drives.clone()),
        false => Err(format!("{} takes {takes} drives, and its rule finds {}", rule.raid, drives.join(", "))),
    }
}

/// What a plan needs to know besides the machine.
pub(super) struct Asked<'a> {
    pub fleet: &'a Fleet,
    pub ceiling: Ceiling,
    /// Volumes count too.
    pub volumes: bool,
    /// Nothing was ever installed on it: volumes may be made.
    pub bare: bool,
    /// It was off, and is to be so again.
    pub stays_off: bool,
}

/// The steps that bring a machine to its baseline, with why; none where it is there already.
pub(super) fn steps(
    node: &Node,
    seen: Option<&BaselineFacts>,
    asked: &Asked<'_>,
) -> Result<Vec<(StepKind, String)>, Refusal> {
    let want = &node.baseline;
    let refuse = |kind: &str, why: String, next: String| Refusal {
        subject: Subject::Node(node.name.clone()),
        kind: kind.into(),
        why,
        next: Some(next),
    };
    let place = || {
        let of = |object: String| asked.fleet.places.get(&object).cloned();
        let class = node.hardware_class.as_ref().and_then(|class| of(format!("HardwareClass/{class}")));
        let own = || of(format!("Node/{}", node.name));
        class.or_else(own).unwrap_or_else(|| format!("the hardware class of {}", node.name))
    };
    let mut compared = compare(node, seen);
    if !asked.volumes {
        compared.unreadable.retain(|(field, _)| *field != "raid");
        compared.differences.retain(|d| !d.field.starts_with("raid."));
    }
    if let Some((field, failure)) = compared.unreadable.first() {
        let why = format!("its {field} cannot be read, and its baseline asks for it: {}", failure.why);
        let next = failure.next.clone().unwrap_or_else(|| format!("rackctl bmc {field} {}", node.name));
        return Err(refuse("baselineUnreadable", why, next));
    }
    if compared.differences.is_empty() {
        return Ok(Vec::new());
    }
    let (bios, firmware, storage) = parts(want, seen);
    let mut steps: Vec<(StepKind, String)> = Vec::new();
    let mut push = |part: BaselinePart, why: String| steps.push((StepKind::Baseline(part), why));
    let mut versions = BTreeMap::new();
    if let Part::Seen(items) = firmware {
        for (name, version) in &want.firmware {
            let item = component(items, name).map_err(|why| {
                refuse(
                    "firmwareUnknown",
                    format!("firmware.{name}: {why}"),
                    format!("rackctl bmc firmware {}", node.name),
                )
            })?;
            let found = item.version.as_deref().unwrap_or("no version");
            if found == version {
                continue;
            }
            let image = want.images.get(name);
            let Some(image) = image.filter(|i| i.version == *version) else {
                let has = image.map_or("none".to_owned(), |i| format!("one of version {}", i.version));
                let why = format!(
                    "its {name} firmware is {found} and must be {version}, and the inventory names {has} as its image"
                );
                let next = format!(
                    "edit {} and write firmwareImages: {{ {name}: {{ version: \"{version}\", url: … }} }}",
                    place()
                );
                return Err(refuse("firmwareImage", why, next));
            };
            if item.updateable == Some(false) {
                let why = format!(
                    "its {name} firmware is {found} and must be {version}, and its BMC says that it cannot be updated"
                );
                return Err(refuse("firmwareFixed", why, format!("rackctl bmc firmware {}", node.name)));
            }
            let part =
                BaselinePart::Firmware { component: name.clone(), version: version.clone(), image: image.at.clone() };
            push(part, format!("it is {found} and must be {version}"));
            versions.insert(name.clone(), version.clone());
        }
        if !versions.is_empty() {
            let why = "what is installed comes into force, unless all of it has".to_owned();
            push(BaselinePart::Restart { into: InForce::Firmware(versions.clone()), stays_off: asked.stays_off }, why);
        }
    }
    if let (Part::Seen(controllers), true) = (storage, asked.volumes) {
        for rule in &want.volumes {
            let next = format!("rackctl bmc raid {}", node.name);
            match volume(controllers, rule, want) {
                Standing::There => {}
                Standing::Otherwise(found) => {
                    let why = format!(
                        "its volume {} is {found} and must be {}: a volume is never deleted by itself",
                        rule.name, rule.raid
                    );
                    return Err(refuse("volumeDiffers", why, next));
                }
                Standing::Missing if !asked.bare => {
                    let why = format!(
                        "it has no volume {} ({}), and something is installed on it: volumes are made before that alone",
                        rule.name, rule.raid
                    );
                    return Err(refuse("volumeMissing", why, next));
                }
                Standing::Missing => {
                    let drives = drives(node, controllers, rule)
                        .map_err(|why| refuse("volumeDrives", format!("volume {}: {why}", rule.name), next))?;
                    let why = format!("a {} of the drives {}, whose contents are lost", rule.raid, drives.join(", "));
                    push(BaselinePart::Volume { name: rule.name.clone(), raid: rule.raid.clone(), drives }, why);
                }
            }
        }
    }
    if let Part::Seen(bios) = bios {
        let missing = not_in_force(&want.bios, bios);
        // A firmware that is still to come may know what this one does not.
        if let Some(why) = bios.unfit.as_ref().filter(|_| versions.is_empty()) {
            return Err(refuse("biosUnknown", why.clone(), format!("rackctl bmc bios {}", node.name)));
        }
        if !missing.is_empty() {
            let words: Vec<String> = missing
                .iter()
                .map(|(name, value)| {
                    let found = bios.in_force.get(name).map_or("not there", String::as_str);
                    format!("{name} is {found} and must be {value}")
                })
                .collect();
            push(BaselinePart::Bios { attributes: missing.clone() }, words.join("; "));
            let why = "what is pending comes into force, unless all of it has".to_owned();
            push(BaselinePart::Restart { into: InForce::Bios(missing), stays_off: asked.stays_off }, why);
        }
    }
    let needed = steps.iter().map(|(kind, _)| kind.danger()).max().map_or(Ceiling::Reversible, |danger| match danger {
        super::Danger::Reversible => Ceiling::Reversible,
        super::Danger::Reboot => Ceiling::Reboot,
        super::Danger::DataLoss => Ceiling::DataLoss,
    });
    if asked.ceiling < needed {
        let words: Vec<String> = compared
            .differences
            .iter()
            .map(|d| format!("{} is {} and must be {}", d.field, d.found, d.wanted))
            .collect();
        let (label, allow) = match needed {
            Ceiling::DataLoss => ("DATA LOSS on drives", "reboot,data-loss"),
            _ => ("a reboot", "reboot"),
        };
        let why = format!("{}: that takes {label}, which this goal does not allow", words.join("; "));
        return Err(refuse("ceiling", why, format!("rackctl apply --allow {allow}")));
    }
    Ok(steps)
}

/// Why nothing of a machine's own settings may be changed; `None`: it may.
fn forbidden(fleet: &Fleet, node: &Node) -> Option<Refusal> {
    power::refusal(fleet, node).or_else(|| {
        (node.management != Management::Full).then(|| Refusal {
            subject: Subject::Node(node.name.clone()),
            kind: "management".into(),
            why: "`management: power` lets rackctl switch its power only".into(),
            next: fleet
                .places
                .get(&format!("Node/{}", node.name))
                .map(|p| format!("edit {p} and set management: full")),
        })
    })
}

/// Adds what an installed machine needs to come to its baseline; what must not be done is refused, and the rest of the
/// machine's track goes on.
pub(super) fn of_installed(
    fleet: &Fleet,
    node: &Node,
    seen: &NodeFacts,
    ceiling: Ceiling,
    volumes: bool,
    track: &mut Track,
) -> Option<Refusal> {
    if node.baseline.is_empty() {
        return None;
    }
    let power = seen.bmc.as_ref().and_then(|b| b.value.as_ref().ok()).map(|b| b.power);
    let asked =
        Asked { fleet, ceiling, volumes, bare: seen.record.is_none(), stays_off: power == Some(PowerState::Off) };
    let steps = match steps(node, seen.baseline.as_ref(), &asked) {
        Ok(steps) if steps.is_empty() => {
            let all = if volumes { "as its baseline says" } else { "firmware and BIOS as its baseline says" };
            track.found.push(all.into());
            return None;
        }
        Ok(steps) => steps,
        Err(refusal) => return Some(refusal),
    };
    if let Some(refusal) = forbidden(fleet, node) {
        return Some(refusal);
    }
    if let Some(mismatch) = seen.identity_mismatches.first() {
        return Some(Refusal {
            subject: Subject::Node(node.name.clone()),
            kind: "identityMismatch".into(),
            why: format!("the machine behind its BMC is another one: {mismatch}"),
            next: Some(format!("rackctl bmc info {} -o yaml", node.name)),
        });
    }
    track.push(StepKind::CheckIdentity, "its BMC must be that of the inventory's machine".into());
    for (kind, why) in steps {
        track.push(kind, why);
    }
    let record = seen.record.as_ref().filter(|r| r.phase == InstallPhase::Installed);
    if let (Some(record), false) = (record, asked.stays_off) {
        let part = BaselinePart::AwaitService { generation: record.generation };
        track.push(StepKind::Baseline(part), "it must serve again, and its cluster count it".into());
    }
    None
}

/// `upgrade firmware`: the baseline alone, on machines whatever runs on them.
pub(super) fn tracks(fleet: &Fleet, facts: &Facts, known: &Known<'_>, plan: &mut Plan) {
    let goal = plan.goal.clone();
    let none = NodeFacts::default();
    for name in &goal.scope().0 {
        let Some(node) = fleet.nodes.get(name) else { continue };
        let seen = facts.nodes.get(name).unwrap_or(&none);
        let mut track = Track::new(Subject::Node(name.clone()));
        if node.baseline.is_empty() {
            track.found.push("the inventory asks for no baseline".into());
        }
        let refusal = of_installed(fleet, node, seen, Ceiling::Reboot, false, &mut track);
        let refusal = refusal.or_else(|| {
            // What it would cost its cluster cannot be told.
            (!track.steps.is_empty()).then(|| power::untold(fleet, facts, &goal, known, name)).flatten()
        });
        match refusal {
            Some(refusal) => plan.refusals.push(refusal),
            None => {
                if !track.steps.is_empty() {
                    plan.bound.insert(name.clone(), node::binding(node));
                }
                plan.tracks.push(track);
            }
        }
    }
    keep_quorums(fleet, facts, plan);
}

/// Machines that a cluster cannot do without even one by one are left alone.
pub(super) fn keep_quorums(fleet: &Fleet, facts: &Facts, plan: &mut Plan) {
    if !plan.goal.may_lose_quorum() {
        let goes = |t: &Track| t.steps.iter().any(|s| matches!(&s.kind, StepKind::Baseline(p) if p.takes_away()));
        power::keep_quorums(fleet, facts, plan, false, &goes);
    }
}

/// The drives that an approval of a track's volumes is bound to.
pub(super) fn binding(track: &Track) -> String {
    let volumes = track.steps.iter().filter_map(|s| match &s.kind {
        StepKind::Baseline(BaselinePart::Volume { name, raid, drives }) => {
            Some(format!(" volume={name} {raid} of {}", drives.join("+")))
        }
        _ => None,
    });
    volumes.collect()
}
