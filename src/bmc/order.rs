//! The persistent boot order: which of its entries is the network boot of a machine's own interface, that entry moved to
//! the front, and back to where it stood. Pure.
//!
//! Sources: DSP8010, ComputerSystem `Boot.BootOrder` and BootOption; what vendors write into entries is seen in recorded
//! trees (HPE and AMI name the address in UefiDevicePath, Supermicro in DisplayName alone, Lenovo has one entry `Network`).

use super::{
    boot::Write,
    link,
    quirks::Vendor,
    read::SystemView,
    redfish::{
        json::clean,
        wire::{Boot, BootPatch, boot::BootOption},
    },
};
use crate::model::{Mac, power::BootTarget};

/// Entries that are looked at; the longest order that was seen has 31.
pub const MAX_ENTRIES: usize = 128;

/// Entries that a message names.
const LISTED: usize = 8;

/// What one word of the order stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As it stands in the order: `Boot0003`, `Boot0019: Ubuntu`, `ME0-PXE-IP4`.
    pub reference: String,
    pub name: String,
    pub alias: Option<String>,
    pub path: Option<String>,
    pub enabled: bool,
}

impl Entry {
    /// A word of the order that nothing is said of.
    pub fn bare(word: &str) -> Entry {
        Entry { reference: word.to_owned(), name: word.to_owned(), alias: None, path: None, enabled: true }
    }
    /// `Boot0003 (PXE IPv4 …)`
    pub fn words(&self) -> String {
        if self.name.is_empty() || self.name == self.reference {
            return clean(&self.reference);
        }
        format!("{} ({})", clean(&self.reference), clean(&self.name))
    }
}

/// The order's words with what the BMC says of each; a word that nothing is said of speaks for itself.
pub fn entries(order: &[String], options: &[(String, BootOption)]) -> Vec<Entry> {
    let of = |word: &String| {
        let names = |known: &str| {
            let known = known.trim();
            // `Boot0019: Ubuntu` (NVIDIA; nv-redfish bmc_quirks.rs).
            !known.is_empty() && (word == known || word.strip_prefix(known).is_some_and(|rest| rest.starts_with(':')))
        };
        let by_reference = options.iter().find(|(_, o)| o.reference.as_deref().is_some_and(names));
        let by_id = || options.iter().find(|(p, o)| names(o.id.as_deref().unwrap_or_else(|| link::last_segment(p))));
        let option = by_reference.or_else(by_id).map(|(_, option)| option);
        let name = option.and_then(|o| o.display.clone().or(o.name.clone())).unwrap_or_else(|| word.clone());
        Entry {
            reference: word.clone(),
            name,
            alias: option.and_then(|o| o.alias.clone()),
            path: option.and_then(|o| o.path.clone()),
            // Null is not off (HPE, Lenovo).
            enabled: option.is_none_or(|o| o.enabled != Some(false)),
        }
    };
    order.iter().take(MAX_ENTRIES).map(of).collect()
}

/// How well an entry boots from the network in the wanted way; smaller is better, `None`: not at all.
fn rank(entry: &Entry, target: BootTarget) -> Option<u8> {
    let name = entry.name.to_uppercase();
    let path = entry.path.as_deref().unwrap_or_default().to_uppercase();
    let alias = entry.alias.as_deref().unwrap_or_default();
    let http = alias == "UefiHttp" || path.contains("/URI(") || name.contains("HTTP");
    let v6 = path.contains("IPV6(") || name.contains("IPV6") || name.contains("IP6");
    // An entry for all of them: the firmware's own order of interfaces holds behind it (Lenovo).
    let any = matches!(name.as_str(), "NETWORK" | "NETWORK BOOT" | "UEFI NETWORK");
    let v4 = path.contains("MAC(") || name.contains("IPV4") || name.contains("IP4");
    let pxe = !http && (alias == "Pxe" || name.contains("PXE") || v4 || (path.contains("MAC(") && v6));
    match target {
        BootTarget::Pxe if pxe && !v6 => Some(0),
        BootTarget::Pxe if any => Some(1),
        BootTarget::Pxe if pxe => Some(2),
        BootTarget::Http if http && !v6 => Some(0),
        BootTarget::Http if any => Some(1),
        BootTarget::Http if http => Some(2),
        _ => None,
    }
}

/// Whether it boots from the network, in whatever way.
pub fn is_network(entry: &Entry) -> bool {
    rank(entry, BootTarget::Pxe).is_some() || rank(entry, BootTarget::Http).is_some()
}

/// Addresses that an entry names: `MAC(1402ECD93AA0,0x1)` of a device path, `94:6D:AE:91:FB:22` or `946DAE91FB22` as a
/// word of its name. Part of a GUID is none.
fn macs(entry: &Entry) -> Vec<Mac> {
    let mut found: Vec<Mac> = Vec::new();
    let mut note = |digits: &str| {
        let plain: String = digits.chars().filter(|c| !matches!(c, ':' | '-')).collect();
        let whole = plain.len() == 12 && plain.bytes().all(|b| b.is_ascii_hexdigit());
        let pairs: Vec<&str> = (0..6).filter_map(|i| plain.get(i * 2..i * 2 + 2)).collect();
        if let (true, Ok(mac)) = (whole, pairs.join(":").parse::<Mac>())
            && !found.contains(&mac)
        {
            found.push(mac);
        }
    };
    let path = entry.path.as_deref().unwrap_or_default();
    for (at, _) in path.match_indices("MAC(") {
        note(path.get(at + 4..).unwrap_or_default().split([',', ')']).next().unwrap_or_default());
    }
    for word in entry.name.split([' ', '(', ')', ',', '[', ']', '/']).filter(|w| matches!(w.len(), 12 | 17)) {
        note(word);
    }
    found
}

/// The first of them, and how many more there are.
fn listed<'a>(entries: impl ExactSizeIterator<Item = &'a Entry>) -> String {
    let more = entries.len().saturating_sub(LISTED);
    let mut words: Vec<String> = entries.take(LISTED).map(Entry::words).collect();
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

/// The entry that boots this machine from the network by one of `own`; `Err` says what there is instead.
///
/// Where no entry names an address, one that is the only one of its kind is taken: there is nothing to confuse it with.
pub fn find<'a>(entries: &'a [Entry], own: &[Mac], target: BootTarget) -> Result<&'a Entry, String> {
    let mut network: Vec<(u8, &Entry)> =
        entries.iter().filter_map(|e| Some((rank(e, target)?, e))).filter(|(_, e)| e.enabled).collect();
    // Stable: of two that are alike the earlier one stays the earlier one.
    network.sort_by_key(|(rank, _)| *rank);
    if network.is_empty() {
        return Err(format!("its boot order has no entry for network boot ({})", listed(entries.iter())));
    }
    if let Some((_, entry)) = network.iter().find(|(_, e)| macs(e).iter().any(|m| own.contains(m))) {
        return Ok(entry);
    }
    let shown = |list: &[(u8, &Entry)]| listed(list.iter().map(|(_, e)| *e));
    let own = own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let silent: Vec<(u8, &Entry)> = network.iter().filter(|(_, e)| macs(e).is_empty()).copied().collect();
    let best: Vec<(u8, &Entry)> =
        silent.iter().filter(|(r, _)| silent.first().is_some_and(|f| f.0 == *r)).copied().collect();
    match best.as_slice() {
        [(_, one)] => Ok(one),
        [] => Err(format!("no entry of its boot order is that of {own} ({})", shown(&network))),
        _ => Err(format!("which of these is that of {own} cannot be told: {}", shown(&best))),
    }
}

/// The order with this entry first; all others stay as they stand.
pub fn front(order: &[String], moved: &str) -> Vec<String> {
    let mut new: Vec<String> = order.iter().filter(|w| *w == moved).take(1).cloned().collect();
    new.extend(order.iter().filter(|w| *w != moved).cloned());
    new
}

/// The order with the entry behind those that it stood behind in the old one. What came meanwhile (the boot entry of a
/// system that was installed) stays where it is; what is gone stays gone.
pub fn back(old: &[String], now: &[String], moved: &str) -> Vec<String> {
    let Some(place) = old.iter().position(|w| w == moved).filter(|_| now.iter().any(|w| w == moved)) else {
        return now.to_vec();
    };
    let before = old.get(..place).unwrap_or_default();
    let mut new: Vec<String> = now.iter().filter(|w| *w != moved).cloned().collect();
    let behind = new.iter().rposition(|w| before.contains(w)).map_or(0, |at| at + 1);
    let here = now.iter().position(|w| w == moved).unwrap_or(0);
    // Never further to the front than it stands.
    new.insert(behind.max(here).min(new.len()), moved.to_owned());
    new
}

/// The order in force, and the one that is pending where that is shown apart.
pub fn shown(view: &SystemView) -> (Option<&[String]>, Option<&[String]>) {
    fn of(boot: Option<&Boot>) -> Option<&[String]> {
        boot.and_then(|b| b.order.as_deref()).filter(|order| !order.is_empty())
    }
    (of(view.system.boot.as_ref()), of(view.settings.as_ref().and_then(|s| s.system.boot.as_ref())))
}

/// The requests that set an order, best first. A settings resource that shows an order takes it there (XCC's Pending,
/// AMI's SD, NVIDIA's Settings); the system itself is the other way.
pub fn writes(view: &SystemView, order: &[String]) -> Vec<Write> {
    let body = BootPatch { boot: Some(Boot { order: Some(order.to_vec()), ..Boot::default() }) };
    let body = serde_json::to_value(body).unwrap_or_default();
    let write = |path: &str, etag: &Option<String>| Write {
        method: "PATCH",
        path: path.to_owned(),
        body: body.clone(),
        if_match: etag.clone(),
    };
    let main = write(&view.path, &view.etag);
    let settings = view.settings.as_ref().map(|s| write(&s.path, &s.etag));
    let first = view.quirks.settings_first || shown(view).1.is_some();
    match (settings, first) {
        (Some(settings), true) => vec![settings, main],
        (Some(settings), false) => vec![main, settings],
        (None, _) => vec![main],
    }
}

/// A vendor's own order, for where the standard one is not shown or not taken: a resource, and its list of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    pub path: String,
    pub property: String,
}

/// Supermicro's `FixedBootOrder` (libredfish supermicro.rs:368), and what Lenovo's boot manager goes by next.
pub fn own(view: &SystemView) -> Option<Own> {
    let at = |below: &str| format!("{}/Oem/{below}", view.path.trim_end_matches('/'));
    match view.quirks.vendor {
        Vendor::Supermicro => {
            Some(Own { path: at("Supermicro/FixedBootOrder"), property: "FixedBootOrder".to_owned() })
        }
        Vendor::Lenovo => {
            Some(Own { path: at("Lenovo/BootSettings/BootOrder.BootOrder"), property: "BootOrderNext".to_owned() })
        }
        _ => None,
    }
}

impl Own {
    /// The order that the resource shows; words that are no texts are left out.
    pub fn read(&self, body: &serde_json::Value) -> Vec<String> {
        let list = body.get(&self.property).and_then(serde_json::Value::as_array);
        list.into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).take(MAX_ENTRIES).collect()
    }

    pub fn write(&self, order: &[String], etag: Option<String>) -> Write {
        let body: serde_json::Map<String, serde_json::Value> =
            [(self.property.clone(), order.into())].into_iter().collect();
        Write { method: "PATCH", path: self.path.clone(), body: body.into(), if_match: etag }
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
