//! Firmware settings: what is in force, what is pending, and what is sent to change them. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    link,
    redfish::{
        json::clean,
        wire::{Link, bios as wire},
    },
};

/// Attributes of one machine; the fullest real one has 550.
const MAX_ATTRIBUTES: usize = 4096;

/// The settings of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bios {
    /// In force now.
    pub attributes: BTreeMap<String, Value>,
    /// Values that the next start brings into force, where they differ.
    pub pending: BTreeMap<String, Value>,
    /// Name of the registry that says which values there are.
    pub registry: Option<String>,
    pub secure_boot: Option<SecureBoot>,
    #[serde(skip)]
    pub ways: Ways,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecureBoot {
    /// At the next start.
    pub enabled: Option<bool>,
    /// `Enabled`, `Disabled`: at the last start.
    pub current: Option<String>,
    /// `UserMode`, `SetupMode`, …
    pub mode: Option<String>,
}

/// Where changes go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    pub path: String,
    /// The settings resource; `None`: there is none, and changes go to the resource itself.
    pub settings: Option<String>,
    /// `ApplyTime` words that the settings resource offers.
    pub apply_times: Vec<String>,
    /// Throws away what is pending, where the BMC can.
    pub clear: Option<String>,
}

/// Names and plain values alone: an attribute that is an object is none.
fn plain(map: &Option<Map<String, Value>>) -> BTreeMap<String, Value> {
    let keep = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => Value::String(clean(text)),
            Value::Bool(_) | Value::Number(_) | Value::Null => value.clone(),
            _ => return None,
        };
        Some((clean(name), value))
    };
    map.iter().flatten().take(MAX_ATTRIBUTES).filter_map(keep).collect()
}

/// `settings`: path and content of the settings resource.
pub fn bios(path: &str, bios: &wire::Bios, settings: Option<(&str, &wire::Bios)>) -> Bios {
    let attributes = plain(&bios.attributes);
    let mut pending = settings.map(|(_, s)| plain(&s.attributes)).unwrap_or_default();
    // Some list what differs, some repeat everything.
    pending.retain(|name, value| attributes.get(name).is_none_or(|now| !same(now, value)));
    // A password field reads as null here and as an empty text there.
    let empty = |v: Option<&Value>| v.is_none_or(|v| v.is_null() || v.as_str() == Some(""));
    pending.retain(|name, value| !(empty(Some(value)) && empty(attributes.get(name))));
    let apply_times = bios.settings.as_ref().and_then(|s| s.apply_times.clone()).unwrap_or_default();
    let actions = settings.and_then(|(_, s)| s.actions.clone()).unwrap_or_default();
    Bios {
        attributes,
        pending,
        registry: super::read::text(&bios.registry),
        secure_boot: None,
        ways: Ways {
            path: path.to_owned(),
            settings: settings.map(|(path, _)| path.to_owned()),
            apply_times,
            clear: clear_action(&actions.oem),
        },
    }
}

/// Dell's `…#DellManager.ClearPending`; others have none.
fn clear_action(oem: &Option<Map<String, Value>>) -> Option<String> {
    let found = oem.iter().flatten().find(|(name, _)| name.ends_with("ClearPending"))?;
    let target = found.1.get("target")?.as_str()?;
    (!target.is_empty()).then(|| target.to_owned())
}

pub fn secure_boot(state: &wire::SecureBoot) -> SecureBoot {
    use super::read::text;
    SecureBoot { enabled: state.enable, current: text(&state.current), mode: text(&state.mode) }
}

impl SecureBoot {
    /// In force and how: `Disabled (SetupMode)`. Where the BMC keeps the switch alone, that.
    pub fn now(&self) -> Option<String> {
        let current = self.current.as_deref().or(self.enabled.map(switch))?;
        Some(self.mode.as_ref().map_or_else(|| current.to_owned(), |mode| format!("{current} ({mode})")))
    }

    /// What the next start brings, where that is something else.
    pub fn pending(&self) -> Option<&'static str> {
        let (next, current) = (switch(self.enabled?), self.current.as_deref()?);
        (current != next).then_some(next)
    }
}

fn switch(on: bool) -> &'static str {
    if on { "Enabled" } else { "Disabled" }
}

/// Where a settings resource may be that is not announced (Gigabyte; ansible PR#6434).
pub fn unannounced(path: &str) -> String {
    format!("{}/SD", path.trim_end_matches('/'))
}

/// The announced settings resource.
pub fn announced(bios: &wire::Bios) -> Option<&str> {
    bios.settings.as_ref().and_then(|s| Link::path(&s.object))
}

impl Bios {
    /// Texts from a command line as the types that the attributes have. `Err` says what is wrong, and what comes close.
    pub fn typed(&self, wanted: &BTreeMap<String, String>) -> Result<Map<String, Value>, String> {
        let mut typed = Map::new();
        for (name, text) in wanted {
            let Some(now) = self.attributes.get(name) else {
                let near = self.attributes.keys().max_by(|a, b| {
                    let score = |k: &str| strsim::jaro_winkler(&k.to_lowercase(), &name.to_lowercase());
                    score(a).total_cmp(&score(b))
                });
                let near = near.map(|n| format!("; is it `{n}`?")).unwrap_or_default();
                return Err(format!("this machine has no BIOS attribute `{}`{near}", clean(name)));
            };
            let value = match now {
                Value::Bool(_) => text.parse().map(Value::Bool).map_err(|_| "true or false"),
                Value::Number(_) => match (text.parse::<i64>(), text.parse::<f64>()) {
                    (Ok(whole), _) => Ok(json!(whole)),
                    (_, Ok(number)) if number.is_finite() => Ok(json!(number)),
                    _ => Err("a number"),
                },
                _ => Ok(json!(text)),
            };
            let value = value.map_err(|kind| format!("BIOS attribute `{name}` is {kind}, not `{}`", clean(text)))?;
            typed.insert(name.clone(), value);
        }
        Ok(typed)
    }

    /// Those of `wanted` that neither hold nor are pending, as `Name: is X, pending Y, asked for Z`.
    pub fn missing(&self, wanted: &Map<String, Value>) -> Vec<String> {
        let holds = |name: &str, value: &Value| match self.pending.get(name) {
            Some(pending) => same(pending, value),
            None => self.attributes.get(name).is_some_and(|now| same(now, value)),
        };
        let shown = |v: Option<&Value>| v.map_or("nothing".to_owned(), word);
        wanted
            .iter()
            .filter(|(name, value)| !holds(name, value))
            .map(|(name, value)| {
                let (now, pending) = (shown(self.attributes.get(name)), shown(self.pending.get(name)));
                format!("{name}: is {now}, pending {pending}, asked for {}", word(value))
            })
            .collect()
    }
}

impl Ways {
    /// Path and body of the PATCH. All attributes in one, for some take one job at a time (libredfish dell.rs:257).
    pub fn patch(&self, wanted: &Map<String, Value>) -> (String, Value) {
        let mut body = json!({ "Attributes": wanted });
        if self.apply_times.iter().any(|t| t == "OnReset") {
            body["@Redfish.SettingsApplyTime"] =
                json!({ "@odata.type": "#Settings.v1_1_0.PreferredApplyTime", "ApplyTime": "OnReset" });
        }
        (self.settings.clone().unwrap_or_else(|| self.path.clone()), body)
    }

    /// The place that is looked at for what is pending, in words.
    pub fn place(&self) -> &str {
        link::last_segment(self.settings.as_deref().unwrap_or(&self.path))
    }
}

/// Numbers by their value: BMCs write 5 as 5.0 too.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// A value without the quotes of JSON.
pub fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::redfish::wire::parse;

    fn sample(settings: Value) -> Bios {
        let current = parse(json!({
            "Attributes": {"BootMode": "Uefi", "Cores": 4, "Quiet": true, "SetupPassword": null, "Odd": {"a": 1}},
            "AttributeRegistry": "R.v1",
            "@Redfish.Settings": {"SettingsObject": {"@odata.id": "/b/Settings"}, "SupportedApplyTimes": ["OnReset"]}
        }));
        bios("/b", &current, Some(("/b/Settings", &parse(settings))))
    }

    fn asked(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_number_that_is_written_otherwise_is_not_pending() {
        let now = parse(json!({"Attributes": {"Cores": 4, "Delay": 1.5, "BootMode": "Uefi"}}));
        let settings = parse(json!({"Attributes": {"Cores": 4.0, "Delay": 2, "BootMode": "Uefi"}}));
        let read = bios("/b", &now, Some(("/b/SD", &settings)));
        assert_eq!(read.pending.keys().collect::<Vec<_>>(), ["Delay"]);
    }

    #[test]
    fn secure_boot_is_told_as_it_is_and_as_it_will_be() {
        let read = |value: Value| secure_boot(&parse(value));
        let waits =
            read(json!({"SecureBootEnable": false, "SecureBootCurrentBoot": "Enabled", "SecureBootMode": "UserMode"}));
        assert_eq!((waits.now().as_deref(), waits.pending()), (Some("Enabled (UserMode)"), Some("Disabled")));
        let rests = read(json!({"SecureBootEnable": true, "SecureBootCurrentBoot": "Enabled"}));
        assert_eq!((rests.now().as_deref(), rests.pending()), (Some("Enabled"), None));
        let switch_alone = read(json!({"SecureBootEnable": true}));
        assert_eq!((switch_alone.now().as_deref(), switch_alone.pending()), (Some("Enabled"), None));
        assert_eq!(read(json!({})).now(), None);
    }

    #[test]
    fn pending_is_what_differs_however_the_bmc_lists_it() {
        let whole = sample(json!({"Attributes": {"BootMode": "Uefi", "Cores": 8, "Quiet": true, "SetupPassword": ""}}));
        let alone = sample(json!({"Attributes": {"Cores": 8}}));
        assert_eq!(whole.pending, BTreeMap::from([("Cores".to_owned(), json!(8))]));
        assert_eq!(whole.pending, alone.pending);
        assert_eq!(sample(json!({})).pending, BTreeMap::new());
        assert!(!whole.attributes.contains_key("Odd"));
    }

    #[test]
    fn texts_become_the_attributes_own_types() {
        let bios = sample(json!({}));
        let typed = bios.typed(&asked(&[("Cores", "8"), ("Quiet", "false"), ("BootMode", "Legacy")])).unwrap();
        assert_eq!(Value::Object(typed), json!({"BootMode": "Legacy", "Cores": 8, "Quiet": false}));
        assert!(bios.typed(&asked(&[("Cores", "many")])).unwrap_err().contains("is a number, not `many`"));
        assert!(bios.typed(&asked(&[("bootmode", "x")])).unwrap_err().contains("is it `BootMode`?"));
    }

    #[test]
    fn a_job_is_asked_for_where_that_is_offered() {
        let bios = sample(json!({"Actions": {"Oem": {"D.v1#DellManager.ClearPending": {"target": "/b/clear"}}}}));
        let (path, body) = bios.ways.patch(&bios.typed(&asked(&[("Cores", "8")])).unwrap());
        assert_eq!(
            (path.as_str(), &body["@Redfish.SettingsApplyTime"]["ApplyTime"]),
            ("/b/Settings", &json!("OnReset"))
        );
        assert_eq!(bios.ways.clear.as_deref(), Some("/b/clear"));
        let plain = Ways { path: "/b".into(), ..Ways::default() };
        assert_eq!(plain.patch(&Map::new()), ("/b".to_owned(), json!({"Attributes": {}})));
    }

    #[test]
    fn what_was_not_taken_is_named_with_all_three_values() {
        let bios = sample(json!({"Attributes": {"Cores": 8}}));
        let wanted = bios.typed(&asked(&[("Cores", "8"), ("BootMode", "Uefi")])).unwrap();
        assert_eq!(bios.missing(&wanted), Vec::<String>::new());
        let wanted = bios.typed(&asked(&[("Cores", "6")])).unwrap();
        assert_eq!(bios.missing(&wanted), ["Cores: is 4, pending 8, asked for 6"]);
    }
}
