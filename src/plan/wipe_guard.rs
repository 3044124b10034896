//! The last word before a disk is written: pure, over what the claim, the disk report and the store say.

use rackctl_wire::{Claim, Disk};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{
    Failure,
    facts::{InstallPhase, NodeRecord, Overwritten},
    failure::Cause,
    fleet::{DiskRule, Node},
};

/// The disk that may be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    pub disk: Disk,
    /// GUID that the new partition table will bear.
    pub disk_guid: Uuid,
}

/// The mark that a write of this run leaves: uuidv5 over run, node and disk.
pub fn disk_guid(run: &str, node: &str, disk: &Disk) -> Uuid {
    const NAMESPACE: Uuid = uuid::uuid!("6b1c6f0e-9d0c-5a57-8f0a-7261636b6374");
    let name = format!("{run}\n{node}\n{}", disk.wwn.as_deref().or(disk.serial.as_deref()).unwrap_or(&disk.name));
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// The machine that claims is the inventory's: MAC, and UUID or serial as its own firmware tells them.
pub fn identity(node: &Node, claim: &Claim) -> Result<(), Failure> {
    let what = format!("{}: claim", node.name);
    let mismatch = |why: String| {
        Failure::new(Cause::Mismatch, what.clone(), why).next(format!("rackctl bmc info {} -o yaml", node.name))
    };
    let mac = node.provision().map(|i| i.mac.to_string()).unwrap_or_default();
    if !claim.mac.eq_ignore_ascii_case(&mac) {
        return Err(mismatch(format!("the machine booted from MAC {}, the inventory says {mac}", claim.mac)));
    }
    let mut agreeing = 0;
    if let Some(want) = node.identity.uuid {
        match claim.machine.uuid {
            Some(seen) if seen == want || swapped(seen) == want => agreeing += 1,
            Some(seen) => return Err(mismatch(format!("the machine's UUID is {seen}, the inventory says {want}"))),
            None => {}
        }
    }
    if let Some(want) = &node.identity.serial {
        let shown: Vec<&String> =
            [&claim.machine.serial, &claim.machine.sku, &claim.machine.board_serial].into_iter().flatten().collect();
        if shown.iter().any(|s| s.trim() == want) {
            agreeing += 1;
        } else if let Some(serial) = &claim.machine.serial {
            return Err(mismatch(format!("the machine's serial is {serial}, the inventory says {want}")));
        }
    }
    if agreeing == 0 {
        return Err(mismatch(
            "neither UUID nor serial of the machine could be compared: one identity (the MAC) is not enough".into(),
        ));
    }
    Ok(())
}

/// Exactly one disk obeys the root rule, and what is on it may be destroyed.
pub fn disk(
    node: &Node,
    run: &str,
    disks: &[Disk],
    record: Option<&NodeRecord>,
    reinstall: bool,
) -> Result<Target, Failure> {
    let what = format!("{}: choose the root disk", node.name);
    let refuse = |cause: Cause, why: String| {
        Err(Failure::new(cause, what.clone(), why).next(format!("rackctl describe node {}", node.name)))
    };
    let Some((_, rule)) = node.root_disk() else {
        return refuse(Cause::Guard, "the inventory names no root disk".into());
    };
    let matching: Vec<&Disk> = disks.iter().filter(|d| obeys(rule, d)).collect();
    let disk = match matching.as_slice() {
        [one] => *one,
        [] => {
            let shown: Vec<String> = disks.iter().map(words).collect();
            let list = if shown.is_empty() { "no disk at all".to_owned() } else { shown.join(", ") };
            return refuse(Cause::Mismatch, format!("the inventory says {}, the machine has {list}", rule_words(rule)));
        }
        several => {
            let list: Vec<String> = several.iter().map(|d| words(d)).collect();
            return refuse(
                Cause::Mismatch,
                format!("{} disks obey the rule {}: {}", several.len(), rule_words(rule), list.join(", ")),
            );
        }
    };
    let guid = disk_guid(run, &node.name, disk);
    let target = Target { disk: disk.clone(), disk_guid: guid };
    if disk.content.is_blank() || disk.content.disk_guid == Some(guid) {
        return Ok(target);
    }
    if let Some(record) = record
        && disk.content.disk_guid == Some(record.disk_guid)
        && (reinstall || record.phase == InstallPhase::Installing)
    {
        return Ok(target);
    }
    // The last write was announced and never began: what it was to replace is what is there.
    if let Some(NodeRecord { phase: InstallPhase::Installing, over: Some(over), .. }) = record
        && disk.content.disk_guid == Some(over.disk_guid)
        && (reinstall || !over.installed)
    {
        return Ok(target);
    }
    let mut found: Vec<String> = disk
        .content
        .signatures
        .iter()
        .map(|s| {
            let label = s.label.as_deref().or(s.uuid.as_deref()).map(|l| format!(" `{l}`")).unwrap_or_default();
            format!("{}{label} at byte {}", s.kind, s.offset_bytes)
        })
        .collect();
    if let (true, Some(at)) = (found.is_empty(), disk.content.first_nonzero_byte) {
        found.push(format!("unrecognised data at byte {at}"));
    }
    let expected =
        record.map_or("a blank disk".to_owned(), |r| format!("a blank disk or our own table {}", r.disk_guid));
    refuse(
        Cause::Guard,
        format!(
            "disk {} holds foreign data ({}); expected {expected}. Nothing was written",
            words(disk),
            found.join(", ")
        ),
    )
}

/// What this write is about to replace, for the record of it.
pub fn over(target: &Target, before: Option<&NodeRecord>) -> Option<Overwritten> {
    let found = target.disk.content.disk_guid?;
    let earlier = before.and_then(|b| b.over);
    if found == target.disk_guid {
        return earlier;
    }
    let stood = |b: &NodeRecord| b.phase != InstallPhase::Installing && b.disk_guid == found;
    let installed = before.is_some_and(stood) || earlier.is_some_and(|o| o.disk_guid == found && o.installed);
    Some(Overwritten { disk_guid: found, installed })
}

fn obeys(rule: &DiskRule, disk: &Disk) -> bool {
    let same = |want: &Option<String>, seen: &Option<String>| {
        want.as_ref().is_none_or(|w| seen.as_ref().is_some_and(|s| s.trim() == w))
    };
    same(&rule.serial, &disk.serial)
        && same(&rule.wwn, &disk.wwn)
        && rule.model.as_ref().is_none_or(|m| disk.model.as_ref().is_some_and(|s| matches(m, s.trim())))
        && rule.min_size_bytes.is_none_or(|min| disk.size_bytes >= min)
        && rule.max_size_bytes.is_none_or(|max| disk.size_bytes <= max)
}

/// `*` stands for any text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(previous) = last.replace(part) {
            match rest.find(previous) {
                Some(at) => rest = &rest[at + previous.len()..],
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |end| rest.ends_with(end))
}

fn words(disk: &Disk) -> String {
    format!(
        "{} ({}, {} MB)",
        disk.serial.as_deref().or(disk.wwn.as_deref()).unwrap_or("without a serial"),
        disk.name,
        disk.size_bytes / 1_000_000
    )
}

fn rule_words(rule: &DiskRule) -> String {
    let mut parts = Vec::new();
    parts.extend(rule.serial.as_ref().map(|s| format!("serial {s}")));
    parts.extend(rule.wwn.as_ref().map(|s| format!("WWN {s}")));
    parts.extend(rule.model.as_ref().map(|s| format!("model {s}")));
    parts.extend(rule.min_size_bytes.map(|b| format!("at least {b} bytes")));
    parts.extend(rule.max_size_bytes.map(|b| format!("at most {b} bytes")));
    if parts.is_empty() { "any disk".to_owned() } else { parts.join(", ") }
}

/// Some firmware gives the first three fields in the other byte order (SMBIOS 2.6, section 7.2.1).
fn swapped(uuid: Uuid) -> Uuid {
    Uuid::from_bytes_le(uuid.into_bytes())
}

#[cfg(test)]
mod tests {
    use rackctl_wire::{Content, Signature};

    use super::*;

    fn node(rule: serde_json::Value) -> Node {
        serde_json::from_value(serde_json::json!({
            "name": "n1", "labels": {}, "site": null, "hardwareClass": null, "profile": null, "lifecycle": "active",
            "management": "full", "protect": false, "identity": {"serial": null, "uuid": null, "serialFrom": "serialNumber"},
            "bmc": null, "interfaces": [], "disks": {"root": rule}, "location": {}, "arch": "amd64", "bootMode": "uefi",
            "bootMethod": "pxe", "console": null, "minimum": {}, "image": null, "kernelParams": [], "install": null,
            "services": [], "ssh": {"user": null, "identity": null, "authorizedKeys": []}, "dns": []
        }))
        .unwrap()
    }

    fn by_serial(serial: &str) -> Node {
        node(
            serde_json::json!({"serial": serial, "wwn": null, "model": null, "minSizeBytes": null, "maxSizeBytes": null, "useFor": "root"}),
        )
    }

    fn disk(serial: &str) -> Disk {
        Disk {
            name: "vda".into(),
            serial: Some(serial.into()),
            wwn: None,
            model: Some("QEMU".into()),
            size_bytes: 4 << 30,
            content: Content::default(),
        }
    }

    fn record(phase: InstallPhase, disk_guid: Uuid) -> NodeRecord {
        NodeRecord {
            generation: 1,
            run: "old".into(),
            phase,
            system_host_key: String::new(),
            disk_guid,
            disk_serial: None,
            system_sha256: String::new(),
            at: 0,
            over: None,
        }
    }

    // fault: F52 invariant: I5 harness: D
    #[test]
    fn what_a_write_that_never_began_was_to_replace_is_known() {
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut old = disk("A");
        old.content.disk_guid = Some(first);
        old.content.signatures = vec![Signature { kind: "gpt".into(), offset_bytes: 512, label: None, uuid: None }];
        let target = Target { disk: old.clone(), disk_guid: second };
        let announced = |before: &NodeRecord| NodeRecord {
            over: over(&target, Some(before)),
            ..record(InstallPhase::Installing, second)
        };
        let go =
            |r: &NodeRecord, reinstall| super::disk(&by_serial("A"), "r", &[old.clone()], Some(r), reinstall).is_ok();
        // A write that nobody saw the end of may be replaced by any later one.
        let unproven = announced(&record(InstallPhase::Installing, first));
        assert!(go(&unproven, false) && go(&unproven, true));
        // A system that stood is not replaced unless that is asked for, however often it was announced.
        let stood = announced(&record(InstallPhase::Installed, first));
        let again = announced(&stood);
        assert!(!go(&stood, false) && go(&stood, true) && !go(&again, false) && go(&again, true));
        // And never anything else.
        assert!(!go(&record(InstallPhase::Installing, second), true));
        assert_eq!(over(&Target { disk: disk("A"), disk_guid: second }, Some(&stood)), None, "it was blank");
        let mut begun = disk("A");
        begun.content.disk_guid = Some(second);
        assert_eq!(over(&Target { disk: begun, disk_guid: second }, Some(&stood)), stood.over);
    }

    #[test]
    fn a_blank_disk_with_the_right_serial_may_be_written() {
        let target = super::disk(&by_serial("A"), "r", &[disk("A"), disk("B")], None, false).unwrap();
        assert_eq!(target.disk.serial.as_deref(), Some("A"));
        assert_eq!(target.disk_guid, disk_guid("r", "n1", &disk("A")));
        assert_ne!(target.disk_guid, disk_guid("r2", "n1", &disk("A")), "the mark is this run's");
    }

    // fault: F31 invariant: I5 harness: D
    #[test]
    fn another_disk_is_refused_with_both_values() {
        let failure = super::disk(&by_serial("A"), "r", &[disk("B")], None, false).unwrap_err();
        assert_eq!(failure.cause, Cause::Mismatch);
        assert!(failure.why.contains("serial A") && failure.why.contains('B'), "{}", failure.why);
    }

    // fault: F32 invariant: I5 harness: D
    #[test]
    fn a_disk_of_another_size_is_another_disk() {
        let sized = |min: serde_json::Value, max: serde_json::Value| {
            node(
                serde_json::json!({"serial": "A", "wwn": null, "model": null, "minSizeBytes": min, "maxSizeBytes": max, "useFor": "root"}),
            )
        };
        let size = disk("A").size_bytes;
        for (min, max, fits) in [(size, size, true), (size + 1, size + 1, false), (1, size - 1, false)] {
            let chosen = super::disk(&sized(min.into(), max.into()), "r", &[disk("A")], None, false);
            assert_eq!(chosen.is_ok(), fits, "{min} to {max}, it has {size}");
            assert!(fits || chosen.unwrap_err().cause == Cause::Mismatch);
        }
    }

    // fault: F32 invariant: I5 harness: D
    #[test]
    fn a_rule_that_two_disks_obey_chooses_none() {
        let any = node(
            serde_json::json!({"serial": null, "wwn": null, "model": "QE*", "minSizeBytes": 1, "maxSizeBytes": null, "useFor": "root"}),
        );
        assert!(super::disk(&any, "r", &[disk("A")], None, false).is_ok());
        assert_eq!(super::disk(&any, "r", &[disk("A"), disk("B")], None, false).unwrap_err().cause, Cause::Mismatch);
    }

    // fault: F32 invariant: I5 harness: D
    #[test]
    fn foreign_data_is_never_destroyed_and_is_named() {
        let mut full = disk("A");
        full.content.signatures =
            vec![Signature { kind: "ext4".into(), offset_bytes: 1024, label: Some("photos".into()), uuid: None }];
        let failure = super::disk(&by_serial("A"), "r", &[full.clone()], None, true).unwrap_err();
        assert_eq!(failure.cause, Cause::Guard);
        assert!(failure.why.contains("ext4 `photos`"), "{}", failure.why);
        let mut noise = disk("A");
        noise.content.first_nonzero_byte = Some(77);
        assert!(super::disk(&by_serial("A"), "r", &[noise], None, false).unwrap_err().why.contains("byte 77"));
    }

    // fault: F32 invariant: I5 harness: D
    #[test]
    fn our_own_table_is_ours_only_while_unfinished_or_when_asked() {
        let old = Uuid::from_u128(7);
        let mut ours = disk("A");
        ours.content.disk_guid = Some(old);
        ours.content.signatures = vec![Signature { kind: "gpt".into(), offset_bytes: 512, label: None, uuid: None }];
        let go = |phase, guid, reinstall| {
            super::disk(&by_serial("A"), "r", &[ours.clone()], Some(&record(phase, guid)), reinstall).is_ok()
        };
        assert!(go(InstallPhase::Installing, old, false), "an unfinished write is finished");
        assert!(!go(InstallPhase::Installed, old, false), "an installed disk is kept");
        assert!(go(InstallPhase::Installed, old, true), "unless it is asked for");
        assert!(!go(InstallPhase::Installed, Uuid::from_u128(8), true), "and only if it is the recorded one");
        let mut this_run = ours.clone();
        this_run.content.disk_guid = Some(disk_guid("r", "n1", &disk("A")));
        assert!(super::disk(&by_serial("A"), "r", &[this_run], None, false).is_ok());
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, want) in [
            ("SAMSUNG MZ*", "SAMSUNG MZ7", true),
            ("*MZ*", "SAMSUNG MZ7", true),
            ("SAMSUNG", "SAMSUNG MZ", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    proptest::proptest! {
        // fault: F32 invariant: I5 harness: D
        /// Whatever the machine reports: a disk with content that is not ours is never chosen.
        #[test]
        fn never_a_disk_with_foreign_content(
            serials in proptest::collection::vec("[AB]", 0..4),
            filled in proptest::collection::vec(proptest::bool::ANY, 4),
            reinstall: bool,
        ) {
            let disks: Vec<Disk> = serials.iter().zip(&filled).map(|(s, full)| {
                let mut d = disk(s);
                d.content.first_nonzero_byte = full.then_some(9);
                d
            }).collect();
            if let Ok(target) = super::disk(&by_serial("A"), "r", &disks, None, reinstall) {
                proptest::prop_assert!(target.disk.content.is_blank());
                proptest::prop_assert_eq!(serials.iter().filter(|s| *s == "A").count(), 1);
            }
        }
    }
}
