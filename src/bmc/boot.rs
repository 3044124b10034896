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

impl Write {
    /// To read, before it is sent.
    pub fn line(&self) -> String {
        format!("{} {} {}", self.method, self.path, self.body)
    }
}

/// A write, and the override that it asks for: not always the one that is wished.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    pub write: Write,
    pub asks: BootOverride,
}

/// Variants of one wish, and of one override among them.
pub const MAX_VARIANTS: usize = 14;
const MAX_OF_ONE: usize = 7;

/// The requests to try, best first: the next one only where the one before was refused. `Err` says why none can do.
pub fn writes(view: &SystemView, want: BootOverride, url: Option<&str>) -> Result<Vec<Write>, String> {
    Ok(variants(view, want, false, url)?.into_iter().map(|v| v.write).collect())
}

/// As [`writes`], each with what it asks for. `lasting`: whoever asks clears the override afterwards, so that one that
/// lasts does where the BMC knows no other, and PXE where it does not offer UEFI HTTP boot.
pub fn variants(
    view: &SystemView,
    want: BootOverride,
    lasting: bool,
    url: Option<&str>,
) -> Result<Vec<Variant>, String> {
    let (mut list, mut refusal): (Vec<Variant>, Option<String>) = (Vec::new(), None);
    for asks in asks(want, lasting, url) {
        let bodies = match bodies(view, asks, url) {
            Ok(bodies) => bodies,
            Err(why) => {
                refusal.get_or_insert(why);
                continue;
            }
        };
        let mut own = Vec::new();
        let main = bodies.iter().map(|b| write(&view.path, b, view.etag.clone()));
        let settings = view.settings.iter().flat_map(|s| {
            let bodies = bodies.iter().take(2);
            bodies.map(|b| write(&s.path, b, s.etag.clone())).collect::<Vec<_>>()
        });
        if view.quirks.settings_first {
            own.extend(settings.chain(main));
        } else {
            own.extend(main.chain(settings));
        }
        // Taken with a tag and not applied, or the other way round: some mind it (OpenBMC, AMI).
        if let (true, true, Some(first)) = (lasting, list.is_empty(), own.first().cloned()) {
            let if_match = if first.if_match.is_some() { None } else { Some("*".to_owned()) };
            own.push(Write { if_match, ..first });
        }
        let mut taken = 0;
        for write in own {
            if taken < MAX_OF_ONE && list.len() < MAX_VARIANTS && !list.iter().any(|v| v.write == write) {
                taken += 1;
                list.push(Variant { write, asks });
            }
        }
    }
    match refusal {
        Some(why) if list.is_empty() => Err(why),
        _ => Ok(list),
    }
}

/// The overrides that do, best first.
fn asks(want: BootOverride, lasting: bool, url: Option<&str>) -> Vec<BootOverride> {
    let mut list = vec![want];
    if want.is_cleared() || !lasting {
        return list;
    }
    if want.lasts == OverrideFor::Once {
        list.push(BootOverride { lasts: OverrideFor::Persistent, ..want });
    }
    if want.target == BootTarget::Http && url.is_none() {
        let pxe: Vec<_> = list.iter().map(|ask| BootOverride { target: BootTarget::Pxe, ..*ask }).collect();
        list.extend(pxe);
    }
    list
}

fn write(path: &str, boot: &Boot, etag: Option<String>) -> Write {
    let body = serde_json::to_value(BootPatch { boot: Some(boot.clone()) }).unwrap_or_default();
    Write { method: "PATCH", path: path.to_owned(), body, if_match: etag }
}

/// Whether there is an override at all; some have an order alone (Cray EX).
pub fn has_override(boot: &Boot) -> bool {
    boot.enabled.is_some() || boot.target.is_some() || boot.targets.as_ref().is_some_and(|t| !t.is_empty())
}

/// The values to send, best first. Target and Enabled always go together: Supermicro wants both (ironic management.py:168);
/// all three where AMI wants the full set (:96), Target alone where Enabled may not be sent unchanged (story 2007355).
fn bodies(view: &SystemView, want: BootOverride, url: Option<&str>) -> Result<Vec<Boot>, String> {
    let of = |boot: &Option<Boot>| boot.clone().filter(has_override);
    let boot = of(&view.system.boot).or(view.settings.as_ref().and_then(|s| of(&s.system.boot)));
    // What says nothing of an override may take one all the same, unless it has an order in its place.
    let bare = || view.system.boot.clone().filter(|b| b.order.as_ref().is_none_or(Vec::is_empty));
    let boot = boot.or_else(bare).ok_or("the BMC offers no boot override")?;
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
    let writable = current.is_some() && !view.quirks.mode_read_only;
    let mode = match asked.filter(|_| !want.is_cleared()) {
        Some(mode) if writable => Some(mode),
        None if writable && view.quirks.always_send_mode && !want.is_cleared() => current,
        _ => None,
    };
    let http_boot_uri = url.filter(|_| want.target == BootTarget::Http).map(str::to_owned);
    let bare = Boot { enabled: Some(enabled), target: Some(target.clone()), http_boot_uri, ..Boot::default() };
    let full = Boot { mode, ..bare.clone() };
    let whole = Boot { mode: mode.or(current.filter(|_| writable)), ..bare.clone() };
    let mut list =
        if view.quirks.settings_first { vec![whole, full, bare.clone()] } else { vec![full, bare.clone(), whole] };
    if boot.enabled == Some(enabled) && !want.is_cleared() {
        list.push(Boot { enabled: None, ..bare });
    }
    let mut kept: Vec<Boot> = Vec::new();
    for body in list {
        if !kept.contains(&body) {
            kept.push(body);
        }
    }
    Ok(kept)
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

/// The mode that the system shows, and its settings resource.
pub type Modes = [Option<ModeWord>; 2];

pub fn modes(view: &SystemView) -> Modes {
    let settings = view.settings.as_ref().and_then(|s| s.system.boot.as_ref());
    [view.system.boot.as_ref(), settings].map(|boot| boot.and_then(|b| b.mode))
}

/// Some fall back to Legacy with every PATCH that names no mode (Supermicro: Redfishtool PR#106).
pub fn fell_to_bios(before: Modes, now: Modes) -> bool {
    before.into_iter().zip(now).any(|pair| pair == (Some(ModeWord::Uefi), Some(ModeWord::Legacy)))
}

/// What of `view` shows an override: the system, and the settings resource where that has one. `Err` holds a foreign word.
pub fn reads(view: &SystemView) -> [Result<Option<BootOverride>, String>; 2] {
    let of = |boot: Option<&Boot>| boot.map_or(Ok(None), |boot| read::boot(boot, &view.quirks));
    let settings = view.settings.as_ref().and_then(|s| s.system.boot.as_ref()).filter(|b| has_override(b));
    [of(view.system.boot.as_ref()), of(settings)]
}

/// Whether the override is there, in force or pending; both ways as it was read, in words.
pub fn seen(view: &SystemView, want: BootOverride, url: Option<&str>) -> Result<String, String> {
    let reads = reads(view);
    let cleared = want.is_cleared() && is_cleared(view);
    let found = reads.iter().flatten().flatten().find(|now| as_asked(want, **now));
    let there = if want.is_cleared() { cleared.then_some(BootOverride::CLEARED) } else { found.copied() };
    if let Some(now) = there {
        let uri = |boot: Option<&Boot>| boot.and_then(|b| b.http_boot_uri.clone());
        let settings = view.settings.as_ref().and_then(|s| s.system.boot.as_ref());
        let kept = [uri(view.system.boot.as_ref()), uri(settings)];
        return match url.filter(|_| want.target == BootTarget::Http) {
            Some(url) if !kept.iter().flatten().any(|u| u == url) => {
                let read = kept.into_iter().flatten().next().unwrap_or_else(|| "none".to_owned());
                Err(format!("{} from {}", words(now), super::redfish::json::clean(&read)))
            }
            Some(url) => Ok(format!("{} from {url}", words(now))),
            None => Ok(words(now)),
        };
    }
    let shown = |value: &Result<Option<BootOverride>, String>| match value {
        Ok(Some(value)) => Some(words(*value)),
        Ok(None) => None,
        Err(word) => Some(format!("`{word}`")),
    };
    let [main, settings] = reads.each_ref().map(shown);
    Err(match (main, settings) {
        (Some(main), Some(settings)) if main != settings => format!("{main} ({settings} pending)"),
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => "nothing".to_owned(),
    })
}

/// `Enabled Once, Target Pxe, Mode UEFI to /redfish/v1/Systems/1`: for messages.
pub fn sent(write: &Write) -> String {
    let boot = write.body.get("Boot").and_then(serde_json::Value::as_object);
    let one = |(name, value): (&String, &serde_json::Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{} {value}", name.strip_prefix("BootSourceOverride").unwrap_or(name))
    };
    let values: Vec<String> = boot.into_iter().flatten().map(one).collect();
    let with = if write.if_match.is_some() { " with If-Match" } else { "" };
    format!("{} to {}{with}", values.join(", "), super::redfish::json::clean(&write.path))
}

/// Nothing is overridden, nothing is pending; a BMC that has no override has none set.
pub fn is_cleared(view: &SystemView) -> bool {
    let none = |value: &Result<Option<BootOverride>, String>| match value {
        Ok(Some(now)) => now.is_cleared(),
        Ok(None) => true,
        Err(_) => false,
    };
    let silent = view.system.boot.as_ref().is_some_and(|b| has_override(b) && b.enabled.is_none());
    reads(view).iter().all(none) && !silent
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
#[path = "boot_tests.rs"]
mod tests;
