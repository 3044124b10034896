//! One door for fuzzing: any bytes are taken as the answer of a BMC, read as every resource that there is, and put
//! through every decision that is made of one. It must end, must not panic, and whatever is shown of it must be fit for
//! a terminal.

use serde::Serialize;
use serde_json::Value;

use super::{
    accounts, bios, boot, certificates, firmware, link, logs, media, neighbours, order, quirks,
    read::{self, SettingsView, SystemView},
    redfish::{
        json::{self, MAX_TEXT_CHARS},
        wire::{self, ErrorBody, parse},
    },
    reset, sensors, volumes,
};
use crate::model::power::{BootOverride, BootTarget, OverrideFor, PowerAction};

const PATH: &str = "/redfish/v1/Systems/1";
/// Keys whose values are the BMC's own paths: they are sent back to it as they came, and never shown uncleaned.
const RAW: [&str; 4] = ["path", "collection", "target", "info"];

/// Reads `bytes` as the body of an answer.
///
/// # Panics
/// A text that is shown steers a terminal, or is longer than what is kept: found by fuzzing, mended in its reader.
pub fn document(bytes: &[u8]) {
    let Ok(value) = json::read(bytes) else { return };
    system(&value);
    pieces(&value);
    services(&value);
    links(&value);
    let told = parse::<ErrorBody>(value.clone()).summary();
    fits(&told);
}

fn system(value: &Value) {
    let system: wire::ComputerSystem = parse(value.clone());
    let root: wire::ServiceRoot = parse(value.clone());
    let quirks = quirks::classify(&root, &system);
    let settings = SettingsView { path: format!("{PATH}/Settings"), system: system.clone(), etag: None };
    for (settings, reset_types) in [(None, Vec::new()), (Some(settings), words_of(value))] {
        let view =
            SystemView { path: PATH.to_owned(), system: system.clone(), etag: None, settings, reset_types, quirks };
        for target in read::boot_targets(&view).into_iter().chain([BootTarget::Pxe, BootTarget::Http]) {
            for lasts in [OverrideFor::Once, OverrideFor::Persistent, OverrideFor::Disabled] {
                let want = BootOverride { target, lasts, mode: None };
                if let Ok(ways) = boot::variants(&view, want, true, None) {
                    let few = !ways.is_empty() && ways.len() <= boot::MAX_VARIANTS;
                    assert!(few, "{} ways to set an override", ways.len());
                }
            }
        }
        entries(&view, value);
        for action in [PowerAction::On, PowerAction::ForceOff, PowerAction::PowerCycle] {
            let _ = reset::request(&view, action);
        }
        let shown = view.system.boot.as_ref().map(|b| read::boot(b, &view.quirks));
        fits(&shown.and_then(Result::err));
    }
    fits(&(read::text(&system.serial), read::text(&system.manufacturer), read::uuid(&system.uuid)));
    let _ = (read::power(system.power), read::memory_bytes(&system));
    let twice = [(PATH.to_owned(), system.clone()), ("/redfish/v1/Systems/2/".to_owned(), system)];
    for wanted in [None, Some("1"), Some("x")] {
        fits(&read::choose(&twice, wanted).err());
    }
}

fn entries(view: &SystemView, value: &Value) {
    let (main, pending) = order::shown(view);
    for now in [main, pending].into_iter().flatten() {
        let entries = order::entries(now, &[(PATH.to_owned(), parse(value.clone()))]);
        let start = |text: String| text.chars().take(MAX_TEXT_CHARS).collect::<String>();
        fits(&entries.iter().map(|e| start(e.words())).collect::<Vec<_>>());
        for target in [BootTarget::Pxe, BootTarget::Http] {
            fits(&order::find(&entries, &[], target).err().map(start));
        }
        let moved = now.last().cloned().unwrap_or_default();
        let back = order::back(now, &order::front(now, &moved), &moved);
        assert_eq!(back.len(), order::front(now, &moved).len(), "an entry is lost or invented");
    }
}

fn pieces(value: &Value) {
    let drive: wire::Drive = parse(value.clone());
    fits(&(read::drive(&drive, PATH).map(|d| (d.name, d.serial, d.wwn, d.model)), volumes::part(PATH, &drive)));
    fits(&read::mac(&parse(value.clone())));
    let volume = volumes::volume(PATH, &parse(value.clone()));
    let wish = volumes::Wish { raid: "RAID1".into(), drives: volume.drives.clone(), name: None };
    let controller = volumes::Controller {
        id: "0".into(),
        name: None,
        collection: Some(PATH.into()),
        drives: volumes::part(PATH, &drive).into_iter().collect(),
        volumes: vec![volume],
    };
    fits(&volumes::create(std::slice::from_ref(&controller), &wish).err());
    fits(&controller);
    fits(&sensors::sensor(PATH, "c", &parse(value.clone())));
    for kind in [sensors::Kind::Temperature, sensors::Kind::Fan, sensors::Kind::Power] {
        fits(&sensors::classic("c", kind, &parse(value.clone())));
    }
    let power: wire::sensor::Power = parse(value.clone());
    let _ = sensors::draw(None, power.control.as_deref().unwrap_or_default(), &[]);
    fits(&neighbours::neighbour(PATH, &parse(value.clone())));
    fits(&certificates::certificate(PATH, &parse(value.clone()), true));
    let slots: Vec<media::Slot> = media::slot(PATH, &parse(value.clone())).into_iter().collect();
    for slot in media::choose(&slots, None).unwrap_or_default() {
        let writes = (media::inserts(slot, "https://h/i.iso"), media::ejects(slot));
        assert!(writes.0.len() + writes.1.len() <= 32, "{} writes for one image", writes.0.len() + writes.1.len());
        let _ = media::holds(slot, "https://h/i.iso");
    }
}

fn services(value: &Value) {
    let settings: wire::bios::Bios = parse(value.clone());
    let now = bios::bios(PATH, &settings, bios::announced(&settings).map(|path| (path, &settings)));
    // A null is no value that could be asked for.
    let there = now.attributes.iter().filter(|(_, value)| !value.is_null());
    let wanted = there.map(|(name, value)| (name.clone(), bios::word(value))).collect();
    if let Ok(typed) = now.typed(&wanted) {
        assert!(now.missing(&typed).is_empty(), "what stands there already is told as missing");
        let _ = now.ways.patch(&typed);
    }
    let update: wire::update::UpdateService = parse(value.clone());
    let _ = firmware::push(&update, None);
    if let Ok(body) = firmware::simple_update(&parse(value.clone()), "http://h/image", Some(PATH)) {
        assert!(body.get("ImageURI").is_some());
    }
    fits(&firmware::item(PATH, &parse(value.clone())));
    if let firmware::Standing::Failed(why) = firmware::standing(&parse(value.clone())) {
        fits(&why);
    }
    let _ = firmware::task_of(value.get("@odata.id").and_then(Value::as_str), value);
    fits(&accounts::account(PATH, &parse(value.clone())));
    let rules = accounts::rules(&parse(value.clone()));
    let _ = accounts::fits("correct horse battery", &rules, quirks::Vendor::Other);
    fits(&logs::log(PATH, logs::Owner::System, &parse(value.clone())));
    let entries: Vec<logs::Entry> =
        list(value).iter().chain([value]).filter_map(|entry| logs::entry(PATH, &parse(entry.clone()))).collect();
    let sorted = logs::newest_last(entries.clone());
    assert_eq!(sorted.len(), entries.len(), "sorting a log loses none of it");
    fits(&sorted);
}

/// A link may lead to this BMC and nowhere else.
fn links(value: &Value) {
    let Ok(base) = reqwest::Url::parse("https://192.0.2.1") else { return };
    for word in words_of(value) {
        if let Ok(url) = link::resolve(&base, &word) {
            assert_eq!(url.origin(), base.origin(), "{word:?}");
            assert!(url.username().is_empty() && url.password().is_none(), "{word:?}");
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.get("Members").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Texts of the document's first level.
fn words_of(value: &Value) -> Vec<String> {
    let texts = value.as_object().into_iter().flat_map(|o| o.values()).filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// What is shown steers no terminal.
fn fits(shown: &impl Serialize) {
    let Ok(value) = serde_json::to_value(shown) else { return };
    walk(&value);
}

fn walk(value: &Value) {
    match value {
        Value::String(text) => {
            assert!(!text.chars().any(char::is_control), "a text that steers a terminal: {text:?}");
            assert!(text.chars().count() <= MAX_TEXT_CHARS * 8, "a text of {} characters", text.chars().count());
        }
        Value::Array(items) => items.iter().for_each(walk),
        Value::Object(map) => map.iter().filter(|(key, _)| !RAW.contains(&key.as_str())).for_each(|(_, v)| walk(v)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Names that the readers know, so that what is drawn reaches them.
    const NAMES: [&str; 24] = [
        "Id",
        "Name",
        "@odata.id",
        "Members",
        "Boot",
        "BootSourceOverrideTarget",
        "BootSourceOverrideEnabled",
        "SerialNumber",
        "UUID",
        "PowerState",
        "Actions",
        "#ComputerSystem.Reset",
        "target",
        "Attributes",
        "Reading",
        "ReadingCelsius",
        "MemberId",
        "Message",
        "Created",
        "Severity",
        "CapacityBytes",
        "Links",
        "Drives",
        "TaskState",
    ];

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            prop::sample::select(vec!["Once", "Pxe", "On", "Enabled", "2026-01-01T00:00:00Z", "/redfish/v1/x"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((prop::sample::select(NAMES.to_vec()), inner), 0..6)
                    .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_document_breaks_a_reader(value in any_json()) {
            document(value.to_string().as_bytes());
        }
        #[test]
        fn no_bytes_break_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            document(&bytes);
        }
    }
}
