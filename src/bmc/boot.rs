//! Which PATCH brings a boot override about: pure choice, tried in order, and the comparison of what was read back.

use super::{
    read::{self, SystemView},
    redfish::wire::{Boot, BootPatch, EnabledWord, ModeWord},
};
use crate::model::{
    fleet::BootMode,
    power::{BootOverride, BootTarget, OverrideFor},
};

/// One write, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub method: &'static str,
    pub path: String,
    pub body: serde_json::Value,
    pub if_match: Option<String>,
}

/// The requests to try, best first: the next one only where the one before was refused. `Err` says why none can do.
pub fn writes(view: &SystemView, want: BootOverride) -> Result<Vec<Write>, String> {
    let full = patch(view, want)?;
    let mut bare = full.clone();
    bare.mode = None;
    let main = |boot: &Boot, etag: Option<String>| write(&view.path, boot, etag);
    let mut list = Vec::new();
    let settings = |boot: &Boot| view.settings.as_ref().map(|s| write(&s.path, boot, s.etag.clone()));
    if view.quirks.settings_first {
        list.extend(settings(&full));
    }
    list.push(main(&full, view.etag.clone()));
    if full.mode.is_some() {
        list.push(main(&bare, view.etag.clone()));
    }
    if !view.quirks.settings_first {
        list.extend(settings(&full));
    }
    Ok(list)
}

fn write(path: &str, boot: &Boot, etag: Option<String>) -> Write {
    let body = serde_json::to_value(BootPatch { boot: Some(boot.clone()) }).unwrap_or_default();
    Write { method: "PATCH", path: path.to_owned(), body, if_match: etag }
}

/// The values to send. Target and Enabled always go together: Supermicro wants both (ironic management.py:168).
fn patch(view: &SystemView, want: BootOverride) -> Result<Boot, String> {
    let boot = view.system.boot.clone().or(view.settings.as_ref().and_then(|s| s.system.boot.clone()));
    let boot = boot.ok_or("the BMC offers no boot override")?;
    let enabled = if want.is_cleared() {
        EnabledWord::Disabled
    } else {
        match want.lasts {
            OverrideFor::Disabled => EnabledWord::Disabled,
            OverrideFor::Once => EnabledWord::Once,
            OverrideFor::Persistent => EnabledWord::Continuous,
        }
    };
    if let Some(values) = boot.enabled_values.as_deref().filter(|v| !v.is_empty()) {
        let word = format!("{enabled:?}");
        if !values.contains(&word) {
            return Err(format!("the BMC offers no override that lasts `{word}`; it offers: {}", shown(values)));
        }
    }
    let target =
        if want.is_cleared() { "None".to_owned() } else { target_word(want.target, read::offered_targets(view))? };
    let current = boot.mode.filter(|m| *m != ModeWord::Unknown);
    let asked = want.mode.map(|mode| match mode {
        BootMode::Uefi => ModeWord::Uefi,
        BootMode::Bios => ModeWord::Legacy,
    });
    let sends_mode = current.is_some() && !view.quirks.mode_read_only && !want.is_cleared();
    let mode = match asked {
        Some(mode) if sends_mode => Some(mode),
        None if sends_mode && view.quirks.always_send_mode => current,
        _ => None,
    };
    Ok(Boot { enabled: Some(enabled), target: Some(target), mode, ..Boot::default() })
}

/// The BMC's word for a target: the first of ours that it offers; where it says nothing, Redfish's own word.
fn target_word(target: BootTarget, offered: &[String]) -> Result<String, String> {
    let words: &[&str] = match target {
        BootTarget::None => &["None"],
        BootTarget::Pxe => &["Pxe"],
        BootTarget::Http => &["UefiHttp"],
        BootTarget::Disk => &["Hdd"],
        BootTarget::Cd => &["Cd", "UsbCd", "CD/DVD"],
        BootTarget::Setup => &["BiosSetup"],
    };
    if offered.is_empty() {
        return Ok(words.first().copied().unwrap_or("None").to_owned());
    }
    let found = words.iter().find(|w| offered.iter().any(|o| o == *w));
    found.map(|w| (*w).to_owned()).ok_or_else(|| {
        format!("the BMC does not offer to boot from `{}`; it offers: {}", words.join("` or `"), shown(offered))
    })
}

fn shown(values: &[String]) -> String {
    super::redfish::json::clean(&values.join(", "))
}

/// Whether what was read is what was asked. A mode that the BMC does not show is not compared.
/// One that could not be sent is: the machine would boot in the other one.
pub fn as_asked(want: BootOverride, read: BootOverride) -> bool {
    if want.is_cleared() {
        return read.is_cleared();
    }
    let mode = want.mode.is_none() || read.mode.is_none() || want.mode == read.mode;
    want.target == read.target && want.lasts == read.lasts && mode
}

/// `pxe once (uefi)`: for messages.
pub fn words(value: BootOverride) -> String {
    if value.is_cleared() {
        return "no override".to_owned();
    }
    let target = match value.target {
        BootTarget::None => "none",
        BootTarget::Pxe => "pxe",
        BootTarget::Http => "http",
        BootTarget::Disk => "disk",
        BootTarget::Cd => "cd",
        BootTarget::Setup => "setup",
    };
    let lasts = match value.lasts {
        OverrideFor::Disabled => "disabled",
        OverrideFor::Once => "once",
        OverrideFor::Persistent => "persistent",
    };
    let mode = match value.mode {
        Some(BootMode::Uefi) => " (uefi)",
        Some(BootMode::Bios) => " (bios)",
        None => "",
    };
    format!("{target} {lasts}{mode}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::{quirks, read::SettingsView, redfish::wire::parse};

    fn view(vendor: &str, boot: serde_json::Value) -> SystemView {
        let system = parse(json!({"Manufacturer": vendor, "Boot": boot}));
        let quirks = quirks::classify(&Default::default(), &system);
        SystemView {
            path: "/s/1".into(),
            system,
            etag: Some("\"a\"".into()),
            settings: None,
            reset_types: vec![],
            quirks,
        }
    }
    fn pxe(lasts: OverrideFor) -> BootOverride {
        BootOverride { target: BootTarget::Pxe, lasts, mode: Some(BootMode::Uefi) }
    }

    #[test]
    fn target_and_enabled_go_together_and_mode_only_where_it_exists() {
        let list =
            writes(&view("Contoso", json!({"BootSourceOverrideMode": "Legacy"})), pxe(OverrideFor::Once)).unwrap();
        let full = json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI"}});
        let bare = json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}});
        assert_eq!(list.iter().map(|w| &w.body).collect::<Vec<_>>(), [&full, &bare]);
        assert_eq!(list[0].if_match.as_deref(), Some("\"a\""));
        assert_eq!(writes(&view("Contoso", json!({})), pxe(OverrideFor::Once)).unwrap()[0].body, bare);
        assert_eq!(
            writes(&view("HPE", json!({"BootSourceOverrideMode": "UEFI"})), pxe(OverrideFor::Once)).unwrap()[0].body,
            bare
        );
    }

    #[test]
    fn supermicro_gets_its_mode_every_time() {
        let want = BootOverride { mode: None, ..pxe(OverrideFor::Once) };
        let list = writes(&view("Supermicro", json!({"BootSourceOverrideMode": "UEFI"})), want).unwrap();
        assert_eq!(list[0].body["Boot"]["BootSourceOverrideMode"], "UEFI");
    }

    #[test]
    fn ami_takes_it_in_the_settings_resource_first() {
        let mut ami = view("AMI", json!({}));
        let system = parse(json!({"Boot": {"BootSourceOverrideTarget@Redfish.AllowableValues": ["Pxe"]}}));
        ami.settings = Some(SettingsView { path: "/s/1/SD".into(), system, etag: None });
        let paths: Vec<_> = writes(&ami, pxe(OverrideFor::Once)).unwrap().into_iter().map(|w| w.path).collect();
        assert_eq!(paths, ["/s/1/SD", "/s/1"]);
        assert!(writes(&ami, BootOverride { target: BootTarget::Http, ..pxe(OverrideFor::Once) }).is_err());
    }

    #[test]
    fn what_is_not_offered_is_refused_before_it_is_sent() {
        let xcc = view("Lenovo", json!({"BootSourceOverrideEnabled@Redfish.AllowableValues": ["Once", "Disabled"]}));
        assert!(
            writes(&xcc, pxe(OverrideFor::Persistent))
                .is_err_and(|e| e.contains("Continuous") && e.contains("Once, Disabled"))
        );
        let old = view("X", json!({"BootSourceOverrideTarget@Redfish.AllowableValues": ["Hdd", "CD/DVD"]}));
        assert!(writes(&old, pxe(OverrideFor::Once)).is_err_and(|e| e.contains("Pxe") && e.contains("CD/DVD")));
        let cd = BootOverride { target: BootTarget::Cd, ..pxe(OverrideFor::Once) };
        assert_eq!(writes(&old, cd).unwrap()[0].body["Boot"]["BootSourceOverrideTarget"], "CD/DVD");
    }

    #[test]
    fn clearing_sends_disabled_and_is_read_leniently() {
        let list = writes(&view("X", json!({})), BootOverride::CLEARED).unwrap();
        assert_eq!(
            list[0].body,
            json!({"Boot": {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}})
        );
        assert!(as_asked(
            BootOverride::CLEARED,
            BootOverride { lasts: OverrideFor::Disabled, ..pxe(OverrideFor::Once) }
        ));
        assert!(!as_asked(BootOverride::CLEARED, pxe(OverrideFor::Once)));
    }

    // fault: F7 harness: D
    #[test]
    fn read_back_must_agree_in_target_duration_and_mode() {
        let want = pxe(OverrideFor::Once);
        assert!(as_asked(want, want));
        assert!(!as_asked(want, pxe(OverrideFor::Persistent)));
        assert!(!as_asked(want, BootOverride { mode: Some(BootMode::Bios), ..want }));
        assert!(as_asked(want, BootOverride { mode: None, ..want }));
        assert!(!as_asked(want, BootOverride { target: BootTarget::Disk, ..want }));
    }
}
