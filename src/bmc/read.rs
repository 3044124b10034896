//! Resources → facts. Pure: what a BMC said becomes values of the model, cleaned; placeholders become nothing.

use uuid::Uuid;

use super::{
    link,
    quirks::Quirks,
    redfish::{
        json::clean,
        wire::{self, ComputerSystem, Drive, EnabledWord, EthernetInterface, Link, ModeWord, PowerWord},
    },
};
use crate::model::{
    Mac,
    facts::DriveFacts,
    fleet::BootMode,
    power::{BootOverride, BootTarget, OverrideFor, PowerState},
};

/// The system that is driven, with all that decides how it is written to.
#[derive(Clone, Debug)]
pub struct SystemView {
    pub path: String,
    pub system: ComputerSystem,
    /// As the header gave it, else the body's `@odata.etag`.
    pub etag: Option<String>,
    pub settings: Option<SettingsView>,
    /// ResetType values that the BMC offers; empty: it does not say.
    pub reset_types: Vec<String>,
    pub quirks: Quirks,
}

#[derive(Clone, Debug)]
pub struct SettingsView {
    pub path: String,
    pub system: ComputerSystem,
    pub etag: Option<String>,
}

/// Texts that vendors ship instead of a value.
pub fn placeholder(text: &str) -> bool {
    let lower = text.trim().to_lowercase();
    let filler = |c: char| matches!(c, '0' | '.' | '-' | ' ' | 'x' | '_' | '*' | '?');
    lower.is_empty()
        || lower.chars().all(filler)
        // `01234567890123456789AB` (Gigabyte).
        || lower.starts_with("0123456789")
        || matches!(
            lower.as_str(),
            "to be filled by o.e.m."
                | "default string"
                | "not specified"
                | "n/a"
                | "na"
                | "none"
                | "null"
                | "unknown"
                | "system serial number"
                | "1234567890"
                | "123456789"
                | "not available"
                | "oem"
                | "invalid"
        )
}

/// A foreign text, cleaned; placeholders are nothing.
pub fn text(value: &Option<String>) -> Option<String> {
    let text = clean(value.as_deref()?);
    (!placeholder(&text)).then_some(text)
}

/// All-zero and all-one UUIDs are placeholders.
pub fn uuid(value: &Option<String>) -> Option<Uuid> {
    let uuid = Uuid::parse_str(value.as_deref()?.trim()).ok()?;
    (!uuid.is_nil() && !uuid.is_max()).then_some(uuid)
}

pub fn power(word: Option<PowerWord>) -> PowerState {
    match word {
        Some(PowerWord::On) => PowerState::On,
        Some(PowerWord::Off) => PowerState::Off,
        Some(PowerWord::PoweringOn) => PowerState::PoweringOn,
        Some(PowerWord::PoweringOff) => PowerState::PoweringOff,
        Some(PowerWord::Unknown) | None => PowerState::Unknown,
    }
}

/// A word of `BootSourceOverrideTarget`, the vendors' own ones included.
pub fn boot_target(word: &str) -> Option<BootTarget> {
    Some(match word {
        "None" => BootTarget::None,
        "Pxe" => BootTarget::Pxe,
        "UefiHttp" => BootTarget::Http,
        "Hdd" => BootTarget::Disk,
        "Cd" | "UsbCd" | "CD/DVD" => BootTarget::Cd,
        "BiosSetup" => BootTarget::Setup,
        _ => return None,
    })
}

/// The override in force. `Err` holds the target that the model has no word for (`Usb`, `UefiTarget`).
pub fn boot(boot: &wire::Boot, quirks: &Quirks) -> Result<Option<BootOverride>, String> {
    let mode = match boot.mode {
        Some(ModeWord::Uefi) => Some(BootMode::Uefi),
        Some(ModeWord::Legacy) => Some(BootMode::Bios),
        Some(ModeWord::Unknown) | None => None,
    };
    let lasts = match boot.enabled {
        Some(EnabledWord::Disabled) => return Ok(Some(BootOverride { mode, ..BootOverride::CLEARED })),
        Some(EnabledWord::Once) => OverrideFor::Once,
        Some(EnabledWord::Continuous) => OverrideFor::Persistent,
        Some(EnabledWord::Unknown) | None => return Ok(None),
    };
    let Some(word) = boot.target.as_deref() else { return Ok(None) };
    let boot_next = word == "UefiBootNext" && quirks.pxe_reads_as_boot_next;
    let target = if boot_next { Some(BootTarget::Pxe) } else { boot_target(word) };
    target.map(|target| Some(BootOverride { target, lasts, mode })).ok_or_else(|| clean(word))
}

/// Overrides that the BMC offers, in the model's words; from the settings resource where the main one is silent.
pub fn boot_targets(view: &SystemView) -> Vec<BootTarget> {
    let mut targets = Vec::new();
    for target in offered_targets(view).iter().filter_map(|w| boot_target(w)) {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    targets
}

/// The same in the BMC's own words.
pub fn offered_targets(view: &SystemView) -> &[String] {
    let of =
        |s: &'_ ComputerSystem| s.boot.as_ref().and_then(|b| b.targets.as_ref()).filter(|t| !t.is_empty()).is_some();
    let source = if of(&view.system) { Some(&view.system) } else { view.settings.as_ref().map(|s| &s.system) };
    source.and_then(|s| s.boot.as_ref()).and_then(|b| b.targets.as_deref()).unwrap_or_default()
}

/// One drive; empty bays and placeholders give nothing.
pub fn drive(drive: &Drive, path: &str) -> Option<DriveFacts> {
    let name = text(&drive.name).or(text(&drive.id)).unwrap_or_else(|| clean(link::last_segment(path)));
    let wwn = drive.identifiers.iter().flatten().find_map(|i| {
        let format = i.format.as_deref().unwrap_or_default();
        matches!(format, "NAA" | "EUI" | "NGUID").then(|| text(&i.name)).flatten()
    });
    let (serial, model) = (text(&drive.serial), text(&drive.model));
    let size_bytes = drive.capacity.filter(|bytes| *bytes > 0);
    let empty_bay = serial.is_none() && model.is_none() && size_bytes.is_none() && wwn.is_none();
    (!empty_bay).then_some(DriveFacts { name, serial, wwn, model, size_bytes })
}

/// Permanent address first; zero, broadcast and multicast addresses are placeholders.
pub fn mac(interface: &EthernetInterface) -> Option<Mac> {
    let parse = |text: &Option<String>| text.as_deref().and_then(|t| t.trim().parse::<Mac>().ok());
    let real = |mac: &Mac| mac.0 != [0; 6] && mac.0[0] & 1 == 0;
    parse(&interface.permanent_mac).filter(real).or(parse(&interface.mac).filter(real))
}

/// Redfish says GiB, as a fraction at times.
pub fn memory_bytes(system: &ComputerSystem) -> Option<u64> {
    let gib = system.memory.as_ref()?.gib?;
    (gib.is_finite() && gib > 0.0 && gib < 1e9).then_some((gib * 1024.0 * 1024.0 * 1024.0) as u64)
}

/// Chooses the system: the named one, else the only one with a Reset action. `Err` says what there is to choose from.
pub fn choose<'a>(
    systems: &'a [(String, ComputerSystem)],
    wanted: Option<&str>,
) -> Result<&'a (String, ComputerSystem), String> {
    let id = |(path, system): &(String, ComputerSystem)| {
        clean(system.id.as_deref().unwrap_or_else(|| link::last_segment(path)))
    };
    let resets = |(_, s): &&(String, ComputerSystem)| s.actions.as_ref().is_some_and(|a| a.reset.is_some());
    let names = |list: &[&(String, ComputerSystem)]| list.iter().map(|s| id(s)).collect::<Vec<_>>().join(", ");
    let all: Vec<_> = systems.iter().collect();
    if let Some(wanted) = wanted {
        let matches = |s: &&&(String, ComputerSystem)| {
            id(s) == wanted || link::last_segment(&s.0) == wanted || link::same(&s.0, wanted)
        };
        return all.iter().find(matches).copied().ok_or_else(|| match all.len() {
            0 => format!("the BMC has no system; the inventory names `{wanted}`"),
            _ => format!("the BMC has no system `{wanted}`; it has: {}", names(&all)),
        });
    }
    let driven: Vec<_> = systems.iter().filter(resets).collect();
    match driven.as_slice() {
        [one] => Ok(one),
        [] => Err(format!("none of its systems has a Reset action ({})", names(&all))),
        many => Err(format!("it has several systems: {}", names(many))),
    }
}

/// Paths of a list of links, those without one left out.
pub fn paths(links: &Option<Vec<Link>>) -> Vec<String> {
    links.iter().flatten().filter_map(|l| l.id.clone()).filter(|p| !p.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::redfish::wire::parse;

    #[test]
    fn placeholders_are_nothing() {
        for text in [
            "",
            "  ",
            "To Be Filled By O.E.M.",
            "0000000",
            "N/A",
            "Default string",
            "........",
            "01234567890123456789AB",
        ] {
            assert!(placeholder(text), "{text:?}");
        }
        for text in ["LAB-0001", "7CE0123", "0x5002538f00000001"] {
            assert!(!placeholder(text), "{text:?}");
        }
        assert_eq!(uuid(&Some("00000000-0000-0000-0000-000000000000".into())), None);
    }

    #[test]
    fn systems_are_chosen_by_name_or_by_being_the_only_one() {
        let with = json!({"Id": "a", "Actions": {"#ComputerSystem.Reset": {"target": "/x"}}});
        let a = ("/s/a".to_owned(), parse::<ComputerSystem>(with.clone()));
        let gpu = ("/s/HGX_Baseboard_0".to_owned(), parse::<ComputerSystem>(json!({"Id": "HGX_Baseboard_0"})));
        let b = ("/s/b/".to_owned(), parse::<ComputerSystem>(json!({"Actions": {"#ComputerSystem.Reset": {}}})));
        assert_eq!(choose(&[a.clone(), gpu.clone()], None).map(|s| s.0.as_str()), Ok("/s/a"));
        assert_eq!(choose(&[a.clone(), b.clone()], None), Err("it has several systems: a, b".into()));
        assert_eq!(choose(&[a.clone(), b.clone()], Some("b")).map(|s| s.0.as_str()), Ok("/s/b/"));
        assert!(choose(std::slice::from_ref(&gpu), None).is_err_and(|e| e.contains("no") && e.contains("HGX")));
        assert!(choose(&[a], Some("c")).is_err_and(|e| e.contains("`c`") && e.contains(": a")));
    }

    #[test]
    fn drives_macs_and_memory() {
        let bay = parse::<Drive>(json!({"Name": "Bay 3", "SerialNumber": "", "CapacityBytes": 0}));
        assert_eq!(drive(&bay, "/d/3"), None);
        let ssd = parse::<Drive>(
            json!({"SerialNumber": " S1 ", "Identifiers": [{"DurableName": "5002538F", "DurableNameFormat": "NAA"}]}),
        );
        let facts = drive(&ssd, "/d/3").unwrap();
        assert_eq!(
            (facts.name.as_str(), facts.serial.as_deref(), facts.wwn.as_deref()),
            ("3", Some("S1"), Some("5002538F"))
        );
        let nic = parse(json!({"PermanentMACAddress": "00:00:00:00:00:00", "MACAddress": "52-54-00-00-00-01"}));
        assert_eq!(mac(&nic).map(|m| m.to_string()).as_deref(), Some("52:54:00:00:00:01"));
        assert_eq!(memory_bytes(&parse(json!({"MemorySummary": {"TotalSystemMemoryGiB": 0.5}}))), Some(512 << 20));
        assert_eq!(memory_bytes(&parse(json!({"MemorySummary": {"TotalSystemMemoryGiB": -1}}))), None);
    }
}
