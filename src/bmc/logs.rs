//! Logs of a BMC → lines that people read: cleaned, newest last. Pure.

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    link,
    read::text,
    redfish::wire::{Action, log as wire},
};

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    System,
    Manager,
    Chassis,
}

impl Owner {
    pub fn word(self) -> &'static str {
        match self {
            Owner::System => "system",
            Owner::Manager => "manager",
            Owner::Chassis => "chassis",
        }
    }
}

/// One log as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// `Sel`, `IML`, `Log1`: unique among an owner's logs.
    pub id: String,
    pub owner: Owner,
    pub path: String,
    /// Where it is cleared; `None`: this log cannot be.
    pub clear: Option<String>,
    /// Newest last.
    pub entries: Vec<Entry>,
    /// There are entries beyond the limit that were not read.
    pub more: bool,
    /// Its entries could not be read: it names them, and they are not there.
    pub unreadable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub id: String,
    /// As the BMC's clock said, RFC 3339.
    pub at: Option<String>,
    /// `OK`, `Warning`, `Critical`.
    pub severity: Option<String>,
    pub message: Option<String>,
    pub message_id: Option<String>,
    /// `Temperature 5`: kind and number, as far as told.
    pub sensor: Option<String>,
}

/// One service without its entries; `None`: it keeps none that could be read.
pub fn log(path: &str, owner: Owner, service: &wire::LogService) -> Log {
    let clear = Action::target(&service.actions.clone().unwrap_or_default().clear).map(str::to_owned);
    let id = text(&service.id).unwrap_or_else(|| super::redfish::json::clean(link::last_segment(path)));
    Log { id, owner, path: path.to_owned(), clear, entries: Vec::new(), more: false, unreadable: false }
}

/// `None`: it says nothing at all.
pub fn entry(path: &str, entry: &wire::LogEntry) -> Option<Entry> {
    let id = text(&entry.id).unwrap_or_else(|| super::redfish::json::clean(link::last_segment(path)));
    let message = text(&entry.message).or(text(&entry.entry_code)).or(text(&entry.name));
    let at = stamp(&entry.created).or(stamp(&entry.happened));
    if message.is_none() && at.is_none() {
        return None;
    }
    let sensor = match (text(&entry.sensor_type), entry.sensor_number) {
        (Some(kind), Some(number)) => Some(format!("{kind} {number}")),
        (Some(kind), None) => Some(kind),
        (None, Some(number)) if number != 0 && number != 255 => Some(format!("#{number}")),
        _ => None,
    };
    Some(Entry { id, at, severity: text(&entry.severity), message, message_id: text(&entry.message_id), sensor })
}

/// An entry of which only its path is known.
pub fn nameless(path: &str) -> Entry {
    let id = super::redfish::json::clean(link::last_segment(path));
    Entry { id, at: None, severity: None, message: None, message_id: None, sensor: None }
}

/// A time that is none (`0000-00-00…`) is nothing.
fn stamp(value: &Option<String>) -> Option<String> {
    text(value).filter(|t| !t.starts_with("0000"))
}

/// Whether entries stand with the newest first. Clocks are set back and forth, so the majority of neighbours decides.
pub fn falls(entries: &[Entry]) -> bool {
    let time = |e: &Entry| e.at.as_deref().and_then(|t| OffsetDateTime::parse(t, &Rfc3339).ok());
    let number = |e: &Entry| e.id.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().ok();
    let mut balance = 0i64;
    for pair in entries.windows(2) {
        let [a, b] = pair else { continue };
        let order = match (time(a), time(b)) {
            (Some(a), Some(b)) if a != b => a.cmp(&b),
            _ => number(a).cmp(&number(b)),
        };
        balance += match order {
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Greater => -1,
            std::cmp::Ordering::Equal => 0,
        };
    }
    balance < 0
}

/// BMCs give their logs in either order: turned so that the newest is last. Entries of one time keep their places.
pub fn newest_last(mut entries: Vec<Entry>) -> Vec<Entry> {
    if falls(&entries) {
        entries.reverse();
    }
    entries
}

/// Of a list of links alone, the `most` newest, as far as their numbers tell.
pub fn newest_of_links<T>(mut links: Vec<(String, T)>, most: usize) -> Vec<(String, T)> {
    if links.len() <= most {
        return links;
    }
    let number = |path: &str| link::last_segment(path).parse::<u64>().ok();
    if links.iter().all(|(path, _)| number(path).is_some()) {
        links.sort_by_key(|(path, _)| number(path));
    }
    links.split_off(links.len() - most)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::redfish::wire::parse;

    fn at(id: &str, at: Option<&str>) -> Entry {
        Entry {
            id: id.into(),
            at: at.map(str::to_owned),
            severity: None,
            message: None,
            message_id: None,
            sensor: None,
        }
    }

    fn ids(entries: Vec<Entry>) -> Vec<String> {
        newest_last(entries).into_iter().map(|e| e.id).collect()
    }

    #[test]
    fn an_entry_is_cleaned_and_placeholders_are_dropped() {
        let raw = parse(json!({"Id": "7", "Created": "0000-00-00T00:00:00Z", "EventTimestamp": "2026-01-02T03:04:05Z",
            "Severity": "Critical", "Message": "fan\u{1b}[31m gone", "MessageId": "N/A", "SensorType": "Fan", "SensorNumber": 3}));
        let read = entry("/l/7", &raw).unwrap();
        assert_eq!(read.at.as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(read.message.as_deref(), Some("fan [31m gone"));
        assert_eq!((read.message_id, read.sensor.as_deref()), (None, Some("Fan 3")));
        assert_eq!(entry("/l/8", &parse(json!({"Message": null}))), None);
    }

    #[test]
    fn either_order_ends_with_the_newest() {
        let (a, b, c) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00Z");
        assert_eq!(ids(vec![at("1", Some(a)), at("2", Some(b)), at("3", Some(c))]), ["1", "2", "3"]);
        assert_eq!(ids(vec![at("3", Some(c)), at("2", Some(b)), at("1", Some(a))]), ["1", "2", "3"]);
        // One clock that was set back does not turn a log around; no clock at all: the numbers say it.
        let set_back = vec![at("1", Some(b)), at("2", Some(a)), at("3", Some(b)), at("4", Some(c))];
        assert_eq!(ids(set_back), ["1", "2", "3", "4"]);
        assert_eq!(ids(vec![at("12", None), at("11", None), at("9", None)]), ["9", "11", "12"]);
        assert_eq!(ids(vec![]), Vec::<String>::new());
    }

    #[test]
    fn of_links_the_newest_are_kept() {
        let links = |list: &[&str]| list.iter().map(|p| ((*p).to_owned(), ())).collect::<Vec<_>>();
        let kept = newest_of_links(links(&["/e/10", "/e/9", "/e/2"]), 2);
        assert_eq!(kept, links(&["/e/9", "/e/10"]));
        assert_eq!(newest_of_links(links(&["/e/b", "/e/a"]), 1), links(&["/e/a"]));
    }
}
