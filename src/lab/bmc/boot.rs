//! Boot: what is shown of the override, and what becomes of a PATCH of it. Most lies of BMCs are told here.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{
    BootState, Fault, Faults,
    paths::SYSTEM,
    reply::{self, Reply, errors, message, refuse},
    state::{BootWords, State},
};
use crate::{
    bmc::{
        read::boot_target,
        redfish::wire::{self, EnabledWord, ModeWord},
    },
    model::power::BootTarget,
};

/// Its settings resource, by the name that it has inside.
pub const SETTINGS: &str = "/redfish/v1/Systems/1/Settings";
const TARGETS: [&str; 8] = ["None", "Pxe", "UefiHttp", "Hdd", "Cd", "Usb", "BiosSetup", "UefiTarget"];
const LEGACY_TARGETS: [&str; 6] = ["None", "Pxe", "Hdd", "Cd", "Usb", "BiosSetup"];

/// Words of `BootSourceOverrideTarget` that are offered.
pub fn targets(uefi: bool, faults: &Faults) -> Vec<String> {
    if let Some(words) = faults.words(Fault::BootTargets) {
        return words.to_vec();
    }
    let words: &[&str] = if uefi { &TARGETS } else { &LEGACY_TARGETS };
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn word(target: BootTarget) -> &'static str {
    match target {
        BootTarget::None => "None",
        BootTarget::Pxe => "Pxe",
        BootTarget::Http => "UefiHttp",
        BootTarget::Disk => "Hdd",
        BootTarget::Cd => "Cd",
        BootTarget::Setup => "BiosSetup",
    }
}

/// Where a vendor has its own order, and the list in it.
pub fn own_order(vendor: &str) -> (String, &'static str) {
    match vendor {
        "lenovo" => (format!("{SYSTEM}/Oem/Lenovo/BootSettings/BootOrder.BootOrder"), "BootOrderNext"),
        _ => (format!("{SYSTEM}/Oem/Supermicro/FixedBootOrder"), "FixedBootOrder"),
    }
}

impl State {
    /// The live part of Boot. In a recorded tree only what it has is laid over.
    pub fn show_boot(&self, of: BootState, words: &BootWords, base: &mut Map<String, Value>) {
        let faults = &self.effective;
        if faults.has(Fault::BootOwnOrder) {
            base.retain(|name, _| name != "BootOrder" && name != "BootOptions");
        }
        if faults.has(Fault::BootNoOverride) {
            base.retain(|name, _| !name.starts_with("BootSourceOverride") && name != "HttpBootUri");
            return;
        }
        let own = words.target.as_deref().filter(|word| boot_target(word).unwrap_or(BootTarget::None) == of.target);
        let cleared = of.target == BootTarget::None && of.enabled == EnabledWord::Disabled;
        let word = match own.filter(|_| !cleared).unwrap_or_else(|| word(of.target)) {
            "Pxe" if faults.has(Fault::BootPxeIsNext) => "UefiBootNext",
            word => word,
        };
        let live = [
            ("BootSourceOverrideEnabled", json!(of.enabled)),
            ("BootSourceOverrideTarget", json!(word)),
            ("BootSourceOverrideMode", json!(of.mode)),
            ("HttpBootUri", json!(words.uri)),
        ];
        for (name, value) in live {
            if !self.places.recorded || base.contains_key(name) {
                base.insert(name.to_owned(), value);
            }
        }
        if faults.has(Fault::BootNoMode) {
            base.retain(|name, _| !name.starts_with("BootSourceOverrideMode"));
        }
        if faults.has(Fault::BootUriMissing) {
            base.remove("HttpBootUri");
        }
        if faults.has(Fault::BootNoContinuous) {
            let name = "BootSourceOverrideEnabled@Redfish.AllowableValues";
            base.insert(name.to_owned(), json!(["Disabled", "Once"]));
        }
        if faults.words(Fault::BootTargets).is_some() {
            let name = "BootSourceOverrideTarget@Redfish.AllowableValues";
            base.insert(name.to_owned(), json!(targets(of.mode == ModeWord::Uefi, faults)));
        }
    }

    /// What the system's own documents say of Boot, with what is live.
    fn shown_boot(&self) -> Map<String, Value> {
        let of = |path: &str| self.docs.body(path).and_then(|b| b["Boot"].as_object()).cloned().unwrap_or_default();
        let mut shown = self.places.settings.as_deref().map(of).unwrap_or_default();
        shown.extend(of(&self.places.system));
        self.show_boot(self.boot, &self.boot_words, &mut shown);
        shown
    }

    /// What stands first in the boot order, where that is the network: the machine starts from it without an override.
    pub fn first_of_order(&self) -> Option<BootTarget> {
        if let Some((path, property)) = self.effective.text(Fault::BootOwnOrder).map(own_order) {
            let first = self.docs.body(&path)?[property].get(0)?.as_str()?;
            return first.to_lowercase().contains("network").then_some(BootTarget::Pxe);
        }
        let boot = &self.docs.body(&self.places.system)?["Boot"];
        let first = boot["BootOrder"].get(0)?.as_str()?;
        let options = boot["BootOptions"]["@odata.id"].as_str()?;
        let option = self.docs.body(&format!("{}/{first}", options.trim_end_matches('/')))?;
        match option["Alias"].as_str()? {
            "Pxe" => Some(BootTarget::Pxe),
            "UefiHttp" => Some(BootTarget::Http),
            _ => None,
        }
    }

    /// A PATCH of the system with a Boot in it, or of its settings resource.
    pub fn patch_boot(&mut self, now: OffsetDateTime, sent: &Map<String, Value>, settings: bool) -> Reply {
        if self.has(Fault::BootSettings) && !settings {
            let text = "The operation is supported on the settings resource of the system alone.";
            return refuse(400, "Ami.1.0.OperationSupportedInFutureStateURI", text, &["Boot"]);
        }
        if self.within(Fault::PostLock, self.went_on, now) {
            let text = "The change cannot be made while the system is in its power-on self-test.";
            return refuse(400, "iLO.2.24.UnableToModifyDuringSystemPOST", text, &[]);
        }
        let shown = self.shown_boot();
        let faults = self.boot_faults(sent, &shown);
        if !faults.is_empty() {
            return errors(400, faults);
        }
        let order_alone = sent.len() == 1 && sent.contains_key("BootOrder");
        match self.effective.text(Fault::IgnoreBootOverride) {
            Some("override") if order_alone => {}
            Some(_) => return Reply::empty(200),
            None => {}
        }
        if let Some(order) = sent.get("BootOrder") {
            let order = json!({ "Boot": { "BootOrder": order } });
            let system = self.places.system.clone();
            self.docs.merge(&system, &order);
        }
        let before = self.pending_boot.clone().unwrap_or_else(|| (self.boot, self.boot_words.clone()));
        let after = self.changed(before, sent);
        // The resource as it is then is what is answered.
        let applied = Reply::empty(200);
        if settings && self.has(Fault::BootSettings) {
            self.pending_boot = Some(after);
            self.docs.change(SETTINGS, |_| {});
            return applied;
        }
        (self.boot, self.boot_words) = after;
        self.version += 1;
        if self.has(Fault::Boot400Applied) {
            return refuse(400, "GeneralError", "A general error has occurred.", &[]);
        }
        applied
    }

    fn changed(
        &self,
        (mut boot, mut words): (BootState, BootWords),
        sent: &Map<String, Value>,
    ) -> (BootState, BootWords) {
        let asked: wire::Boot = wire::parse(Value::Object(sent.clone()));
        if let Some(word) = asked.target {
            boot.target = boot_target(&word).unwrap_or(BootTarget::None);
            words.target = Some(word);
        }
        boot.enabled = match asked.enabled {
            Some(EnabledWord::Once) if self.has(Fault::BootOnceLasts) => EnabledWord::Continuous,
            asked => asked.unwrap_or(boot.enabled),
        };
        boot.mode = asked.mode.unwrap_or(match self.has(Fault::BootModeReverts) {
            true => ModeWord::Legacy,
            false => boot.mode,
        });
        if let Some(uri) = sent.get("HttpBootUri") {
            words.uri = uri.as_str().map(str::to_owned);
        }
        if self.has(Fault::BootDisabledAfter200) {
            (boot.mode, boot.enabled) = (ModeWord::Legacy, EnabledWord::Disabled);
        }
        (boot, words)
    }

    /// Why a PATCH is refused, a message for each property.
    fn boot_faults(&self, sent: &Map<String, Value>, shown: &Map<String, Value>) -> Vec<Value> {
        let has = |name: &str| sent.contains_key(name);
        let (enabled, target, mode) =
            ("BootSourceOverrideEnabled", "BootSourceOverrideTarget", "BootSourceOverrideMode");
        let mut faults: Vec<Value> =
            sent.iter().filter_map(|(name, value)| self.boot_fault(name, value, shown)).collect();
        if self.has(Fault::BootEnabledRequired) && (has(target) || has(mode)) && !has(enabled) {
            faults.push(reply::property_missing(enabled));
        }
        let same = sent.get(enabled).is_some_and(|value| shown.get(enabled) == Some(value));
        if self.has(Fault::BootEnabledUnchanged) && same {
            faults.push(reply::read_only(enabled));
        }
        if self.has(Fault::BootFullSet) && (has(enabled) || has(target) || has(mode)) {
            faults.extend([enabled, target, mode].into_iter().filter(|n| !has(n)).map(reply::property_missing));
        }
        if sent.is_empty() {
            faults.push(reply::property_missing("Boot"));
        }
        faults
    }

    fn boot_fault(&self, name: &str, value: &Value, shown: &Map<String, Value>) -> Option<Value> {
        if !shown.contains_key(name) {
            return Some(reply::unknown_property(name));
        }
        let listed = |word: &str| {
            let list = shown.get(&format!("{name}@Redfish.AllowableValues")).and_then(Value::as_array);
            list.is_none_or(|list| list.iter().any(|w| w == word))
        };
        match (name, value) {
            ("BootSourceOverrideMode", _) if self.has(Fault::BootModeReadOnly) => Some(reply::read_only(name)),
            ("HttpBootUri", _) if self.has(Fault::BootUriReadOnly) => Some(reply::read_only(name)),
            ("BootOrder", _) if self.has(Fault::BootOrderRefused) => Some(reply::unknown_property(name)),
            (
                "BootSourceOverrideEnabled" | "BootSourceOverrideTarget" | "BootSourceOverrideMode",
                Value::String(word),
            ) => {
                let known = name == "BootSourceOverrideTarget"
                    || ["Disabled", "Once", "Continuous", "UEFI", "Legacy"].contains(&word.as_str());
                (!listed(word) || !known).then(|| reply::not_in_list(name, word))
            }
            ("HttpBootUri", Value::String(_) | Value::Null) => None,
            ("BootOrder", Value::Array(order)) => {
                let known = shown.get("BootOrder").and_then(Value::as_array).cloned().unwrap_or_default();
                let wrong = order.iter().find(|o| !known.contains(o));
                wrong.map(|o| reply::not_in_list(name, o.as_str().unwrap_or("null")))
            }
            (
                "BootSourceOverrideEnabled"
                | "BootSourceOverrideTarget"
                | "BootSourceOverrideMode"
                | "HttpBootUri"
                | "BootOrder",
                value,
            ) => Some(reply::wrong_type(name, value)),
            ("UefiTargetBootSourceOverride" | "BootNext", Value::String(_) | Value::Null) => {
                // Neither is acted upon by an emulated machine: it is said, not swallowed.
                let text = format!("The property {name} is known and the machine cannot do it.");
                Some(message("PropertyValueConflict", &text, &[name, "BootSourceOverrideTarget"]))
            }
            _ => Some(reply::read_only(name)),
        }
    }

    /// The settings resource as it is shown: what is pending, or what is.
    pub fn show_settings(&self) -> Option<Value> {
        let word = self.effective.text(Fault::BootSettings)?;
        let mut boot = self.docs.body(SYSTEM)?["Boot"].as_object().cloned().unwrap_or_default();
        let (state, words) = self.pending_boot.clone().unwrap_or_else(|| (self.boot, self.boot_words.clone()));
        self.show_boot(state, &words, &mut boot);
        Some(json!({
            "@odata.id": SETTINGS, "@odata.type": "#ComputerSystem.v1_22_0.ComputerSystem",
            "Id": word, "Name": "Future state of the system", "Boot": boot,
        }))
    }
}
