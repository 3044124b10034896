//! Names in paths: outside a BMC calls its system `System.Embedded.1`, inside it is `1`.

use super::{Fault, Faults, documents::each_text};

/// Outer path to inner path. A name that another replaces leads nowhere.
pub fn inward(path: &str, faults: &Faults) -> String {
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    let outer = |kind: &str| match kind {
        "Systems" => faults.text(Fault::SystemId),
        "Managers" => faults.text(Fault::ManagerId),
        "Chassis" => faults.text(Fault::ChassisId),
        _ => None,
    };
    if let [_, _, _, kind, id, rest @ ..] = parts.as_mut_slice() {
        match outer(kind) {
            Some(name) if id == name => *id = "1".into(),
            Some(_) if id == "1" => *id = "renamed".into(),
            _ => {}
        }
        if kind == "Systems" {
            let settings = |word: Option<&str>, last: &mut String| match word {
                Some(word) if last == word => *last = "Settings".into(),
                Some(_) if last == "Settings" => *last = "renamed".into(),
                _ => {}
            };
            match rest {
                [bios, last] if bios == "Bios" => settings(faults.text(Fault::BiosSettings), last),
                [last] => settings(faults.text(Fault::BootSettings), last),
                _ => {}
            }
        }
    }
    parts.join("/")
}

/// Inner path to outer path.
fn outward(text: &str, faults: &Faults) -> Option<String> {
    let below = text.strip_prefix("/redfish/v1/")?;
    let mut parts: Vec<&str> = below.split('/').collect();
    if let ["Systems", "1", "Bios", last @ "Settings"] = parts.as_mut_slice() {
        *last = faults.text(Fault::BiosSettings).unwrap_or("Settings");
    } else if let ["Systems", "1", last @ "Settings"] = parts.as_mut_slice() {
        *last = faults.text(Fault::BootSettings).unwrap_or("Settings");
    }
    let kind = match *parts.first()? {
        "Systems" => Fault::SystemId,
        "Managers" => Fault::ManagerId,
        "Chassis" => Fault::ChassisId,
        _ => return Some(format!("/redfish/v1/{}", parts.join("/"))),
    };
    let name = faults.text(kind);
    if let (Some(id), Some(name)) = (parts.get_mut(1).filter(|id| **id == "1"), name) {
        *id = name;
    }
    Some(format!("/redfish/v1/{}", parts.join("/")))
}

/// All paths of a document, as they are called outside.
pub fn rename(body: &mut serde_json::Value, faults: &Faults) {
    let named = [Fault::SystemId, Fault::ManagerId, Fault::ChassisId, Fault::BiosSettings, Fault::BootSettings];
    if !named.iter().any(|f| faults.has(*f)) {
        return;
    }
    each_text(body, &mut |text| {
        if let Some(outer) = outward(text, faults) {
            *text = outer;
        }
    });
}

/// The same of one path: a Location.
pub fn renamed(path: &str, faults: &Faults) -> String {
    outward(path, faults).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_in_and_out() {
        let faults = Faults::parse(["system-id=Self", "bios-settings=SD"]).unwrap();
        for (outer, inner) in [
            ("/redfish/v1/Systems/Self", "/redfish/v1/Systems/1"),
            ("/redfish/v1/Systems/Self/Bios/SD", "/redfish/v1/Systems/1/Bios/Settings"),
            ("/redfish/v1/Systems", "/redfish/v1/Systems"),
            ("/redfish/v1/Managers/1", "/redfish/v1/Managers/1"),
        ] {
            assert_eq!(inward(outer, &faults), inner);
            assert_eq!(renamed(inner, &faults), outer);
        }
        assert_eq!(inward("/redfish/v1/Systems/1", &faults), "/redfish/v1/Systems/renamed");
        assert_eq!(renamed("Self", &faults), "Self");
    }
}
