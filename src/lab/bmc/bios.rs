//! BIOS attributes: what is, what is pending, and when it comes into force (DSP0266 9.10, Bios, AttributeRegistry).

use serde_json::{Map, Value, json};

use super::{
    Fault,
    paths::SYSTEM,
    reply::{self, Reply, errors, message, refuse},
    state::State,
};

pub const BIOS: &str = "/redfish/v1/Systems/1/Bios";
/// By the name that it has inside.
pub const SETTINGS: &str = "/redfish/v1/Systems/1/Bios/Settings";

/// Attributes of the laboratory's BIOS: name, value as it leaves the factory, and what it may be.
pub const ATTRIBUTES: [(&str, &str, &[&str]); 8] = [
    ("BootMode", "Uefi", &["Uefi", "Bios"]),
    ("SriovGlobalEnable", "Disabled", &["Enabled", "Disabled"]),
    ("ProcVirtualization", "Enabled", &["Enabled", "Disabled"]),
    ("LogicalProc", "Enabled", &["Enabled", "Disabled"]),
    ("SysProfile", "PerfPerWattOptimizedDapc", &["PerfPerWattOptimizedDapc", "PerfOptimized", "Custom"]),
    ("SerialComm", "OnConRedirAuto", &["OnConRedirAuto", "OnNoConRedir", "Off"]),
    ("HttpDev1EnDis", "Disabled", &["Enabled", "Disabled"]),
    ("HttpDev1Uri", "", &[]),
];
/// Longest text of an attribute.
const TEXT_MAX: usize = 255;

pub fn defaults() -> Value {
    ATTRIBUTES.iter().map(|(name, value, _)| ((*name).to_owned(), json!(value))).collect::<Map<_, _>>().into()
}

impl State {
    pub fn patch_bios(&mut self, sent: &Map<String, Value>) -> Reply {
        let Some(attributes) = sent.get("Attributes").and_then(Value::as_object) else {
            return errors(400, vec![reply::property_missing("Attributes")]);
        };
        let other = sent.keys().find(|name| *name != "Attributes" && !name.starts_with('@'));
        if let Some(name) = other {
            return errors(400, vec![reply::unknown_property(name)]);
        }
        let pending = self.pending();
        if self.has(Fault::BiosPendingBlocks) && !pending.is_empty() {
            let text = "Pending configuration values are already committed; unable to set more until they are applied.";
            return refuse(400, "IDRAC.2.4.RAC0720", text, &[]);
        }
        let apply = &sent.get("@Redfish.SettingsApplyTime").cloned().unwrap_or_default()["ApplyTime"];
        match apply.as_str() {
            None | Some("OnReset") => {}
            Some(word) => return errors(400, vec![reply::not_in_list("ApplyTime", word)]),
        }
        let faults: Vec<Value> = attributes.iter().filter_map(|(name, value)| self.bios_fault(name, value)).collect();
        if !faults.is_empty() {
            return errors(400, faults);
        }
        // Without the order to apply it, nothing ever does.
        if self.has(Fault::BiosNeedsApplyTime) && apply.is_null() {
            return Reply::empty(200);
        }
        self.docs.merge(SETTINGS, &json!({ "Attributes": attributes }));
        Reply::empty(200)
    }

    fn pending(&self) -> Map<String, Value> {
        self.docs.body(SETTINGS).and_then(|b| b["Attributes"].as_object()).cloned().unwrap_or_default()
    }

    fn bios_fault(&self, name: &str, value: &Value) -> Option<Value> {
        if self.effective.text(Fault::BiosReadOnly) == Some(name) {
            return Some(reply::read_only(name));
        }
        let Some((_, _, words)) = ATTRIBUTES.iter().find(|(known, ..)| *known == name) else {
            return Some(reply::unknown_property(name));
        };
        match value {
            Value::String(text) if words.is_empty() && text.len() <= TEXT_MAX => None,
            Value::String(word) if words.contains(&word.as_str()) => None,
            Value::String(word) => Some(reply::not_in_list(name, word)),
            other => Some(reply::wrong_type(name, other)),
        }
    }

    /// The machine starts: what is pending is in force from now on.
    pub fn apply_bios(&mut self) {
        let pending = self.pending();
        if pending.is_empty() {
            return;
        }
        let empty = !self.has(Fault::BiosNoAttributes);
        self.docs.change(SETTINGS, |body| {
            if let Some(map) = body.as_object_mut() {
                map.shift_remove("Attributes");
                if empty {
                    map.insert("Attributes".into(), json!({}));
                }
            }
        });
        if self.has(Fault::BiosIgnored) {
            return;
        }
        let done = message("Success", "The settings were applied.", &[]);
        let now = super::build::stamp(self.last_reset);
        self.docs
            .merge(BIOS, &json!({ "Attributes": pending, "@Redfish.Settings": { "Time": now, "Messages": [done] } }));
        self.version += 1;
    }

    /// Secure Boot as it was switched, in force from this start on.
    pub fn apply_secure_boot(&mut self) {
        let path = format!("{SYSTEM}/SecureBoot");
        let on =
            self.docs.body(&path).map(|b| b["SecureBootEnable"] == json!(true) && b["SecureBootMode"] == "UserMode");
        if let Some(on) = on {
            let word = if on { "Enabled" } else { "Disabled" };
            self.docs.merge(&path, &json!({ "SecureBootCurrentBoot": word }));
        }
    }

    pub fn reset_bios(&mut self) -> Reply {
        let path = format!("{SYSTEM}/Bios/Settings");
        self.docs.merge(&path, &json!({ "Attributes": defaults() }));
        Reply::empty(204)
    }
}
