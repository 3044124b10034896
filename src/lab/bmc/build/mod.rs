//! The documents of a BMC with resources of its own (schemas: DSP8010), as they are when it is new.

mod chassis;
mod manager;
mod root;
mod schemas;
mod services;
mod storage;
mod system;

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Description, Fault, Faults,
    documents::{Documents, link},
    logs,
    paths::{MANAGER, SYSTEM},
};

pub use schemas::metadata;

/// The firmware of the BMC itself: this program.
pub const FIRMWARE: &str = concat!("rackctl-lab ", env!("CARGO_PKG_VERSION"));

/// RFC 3339 without fractions, as Redfish has its dates.
pub fn stamp(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

fn ok() -> Value {
    json!({ "State": "Enabled", "Health": "OK" })
}

pub fn documents(about: &Description, faults: &Faults) -> Documents {
    let mut docs = Documents::default();
    root::put(&mut docs, about);
    system::put(&mut docs, about, faults);
    storage::put(&mut docs, about);
    manager::put(&mut docs, about);
    chassis::put(&mut docs, about);
    services::put(&mut docs, about);
    services::shape(&mut docs, faults);
    schemas::put(&mut docs);
    media(&mut docs, faults);
    log(&mut docs, faults);
    docs
}

/// After a change of faults: what they give its shape is made anew.
pub fn reshape(docs: &mut Documents, before: &Faults, after: &Faults) {
    let slots = |f: &Faults| {
        let words = f.words(Fault::MediaSlots).map(<[String]>::to_vec);
        (words, f.text(Fault::MediaUnder).map(str::to_owned), f.has(Fault::MediaPatchOnly), first_only_ejects(f))
    };
    if slots(before) != slots(after) {
        media(docs, after);
    }
    let entries = |f: &Faults| (f.count(Fault::LogEntries), f.has(Fault::LogHostile), f.has(Fault::LogNoClear));
    if entries(before) != entries(after) {
        log(docs, after);
    }
    system::shape(docs, after);
    services::shape(docs, after);
}

fn first_only_ejects(faults: &Faults) -> bool {
    faults.text(Fault::MediaFirstRefuses) == Some("eject-only")
}

/// Virtual media under the manager, the system, or both.
fn media(docs: &mut Documents, faults: &Faults) {
    let under = faults.text(Fault::MediaUnder);
    for (owner, there) in [(MANAGER, under != Some("systems")), (SYSTEM, under.is_some())] {
        let path = format!("{owner}/VirtualMedia");
        for old in docs.below(&path) {
            docs.remove(&old);
        }
        docs.remove(&path);
        docs.change(owner, |body| {
            if let Some(map) = body.as_object_mut() {
                map.shift_remove("VirtualMedia");
                if there {
                    map.insert("VirtualMedia".into(), link(path.clone()));
                }
            }
        });
        if !there {
            continue;
        }
        docs.collection(path.clone(), "VirtualMedia", "Virtual media");
        let own = ["Cd".to_owned(), "Usb".to_owned()];
        for (number, slot) in faults.words(Fault::MediaSlots).unwrap_or(&own).iter().enumerate() {
            let at = format!("{path}/{slot}");
            let kinds = if slot.to_ascii_lowercase().contains("usb") { vec!["USBStick"] } else { vec!["CD", "DVD"] };
            let mut body = json!({
                "MediaTypes": kinds, "Image": null, "ImageName": null, "Inserted": false, "WriteProtected": true,
                "ConnectedVia": "NotConnected", "TransferProtocolType": null, "UserName": null, "Password": null,
            });
            if !faults.has(Fault::MediaPatchOnly) {
                let action = |name: &str| json!({ "target": format!("{at}/Actions/VirtualMedia.{name}") });
                body["Actions"] = json!({ "#VirtualMedia.EjectMedia": action("EjectMedia") });
                if number > 0 || !first_only_ejects(faults) {
                    body["Actions"]["#VirtualMedia.InsertMedia"] = action("InsertMedia");
                }
            }
            docs.resource(at, "VirtualMedia.v1_6_4", slot, body);
        }
    }
}

/// Both logs, new, with as many entries as are wanted.
fn log(docs: &mut Documents, faults: &Faults) {
    let begin = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
    for (service, name, kind) in [
        (format!("{MANAGER}/LogServices/SEL"), "System event log", "SEL"),
        (format!("{SYSTEM}/LogServices/EventLog"), "Event log", "Event"),
    ] {
        let entries = format!("{service}/Entries");
        for old in docs.below(&entries) {
            docs.remove(&old);
        }
        let mut body = json!({
            "LogEntryType": kind, "MaxNumberOfRecords": logs::MAX_ENTRIES, "OverWritePolicy": "WrapsWhenFull",
            "ServiceEnabled": true, "Status": ok(), "Entries": link(entries.clone()),
        });
        if !faults.has(Fault::LogNoClear) {
            body["Actions"] =
                json!({ "#LogService.ClearLog": { "target": format!("{service}/Actions/LogService.ClearLog") } });
        }
        docs.resource(service.clone(), "LogService.v1_7_0", name, body);
        docs.collection(entries.clone(), "LogEntry", "Log entries");
        for number in 1..=faults.count(Fault::LogEntries).unwrap_or(3) {
            let text = match (number % 4, faults.has(Fault::LogHostile)) {
                (_, true) => "\u{1b}[2J\u{1b}]0;owned\u{7}<script>alert(1)</script>\r\nfirmware updated",
                (1, _) => "the power supply lost its input",
                (2, _) => "the power supply has input again",
                (3, _) => "a correctable memory error was seen in DIMM A1",
                _ => "a drive was inserted",
            };
            let severity = if number % 4 == 1 { "Critical" } else { "OK" };
            let at = begin + time::Duration::minutes(number as i64);
            logs::add(docs, &entries, number, at, severity, text);
        }
    }
}
