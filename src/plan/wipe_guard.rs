//! The last word before a disk is written: pure, over what the claim, the disk report and the store say.

use rackctl_wire::{Claim, Disk};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{
    Failure,
    facts::{InstallPhase, NodeRecord},
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
fn matches(pattern: &str, text: &str) -> bool {
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
