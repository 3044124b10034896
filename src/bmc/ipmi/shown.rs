//! What IPMI tells, in the words that Redfish's side has for the same: log entries, readings, accounts. Pure.

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    crypto::MAX_PASSWORD_BYTES,
    device::Device,
    fru::Inventory,
    rakp::Privilege,
    sel::{self, What},
    sensor::{Health, Reading},
    user::User,
};
use crate::bmc::{
    accounts::{Account, Rules},
    logs::{Entry, Log, Owner},
    sensors::{self, Kind, Limits, Readings, Stated},
};

/// What the BMC says of itself, and what its inventory records say of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// As in `2.0`.
    pub version: String,
    /// IANA enterprise number.
    pub manufacturer_id: u32,
    pub product_id: u16,
    /// `None`: it has none, or one that cannot be read at all.
    pub inventory: Option<Inventory>,
}

pub fn about(device: &Device, inventory: Option<Inventory>) -> About {
    About {
        version: format!("{}.{}", device.ipmi.0, device.ipmi.1),
        manufacturer_id: device.manufacturer,
        product_id: device.product,
        inventory,
    }
}

/// The one log that IPMI knows.
pub const LOG: &str = "SEL";
/// Threshold events (IPMI 2.0, table 42-2).
const THRESHOLD: u8 = 0x01;

/// The event log as one of the machine's logs.
pub fn log(entries: &[sel::Entry]) -> Log {
    Log {
        id: LOG.to_owned(),
        owner: Owner::System,
        path: "ipmi/sel".to_owned(),
        clear: Some("ipmi/sel".to_owned()),
        entries: entries.iter().map(entry).collect(),
        more: false,
        unreadable: false,
    }
}

/// Times are those of the BMC's clock, which IPMI gives no zone: they are shown as if it were UTC.
pub fn entry(entry: &sel::Entry) -> Entry {
    let at = entry.at.and_then(|s| OffsetDateTime::from_unix_timestamp(i64::from(s)).ok());
    let sensor = match &entry.what {
        What::Event { sensor, .. } => Some(format!("{} {sensor}", entry.source())),
        What::Oem { .. } => None,
    };
    Entry {
        id: entry.id.to_string(),
        at: at.and_then(|at| at.format(&Rfc3339).ok()),
        severity: severity(&entry.what).map(str::to_owned),
        message: Some(entry.text()),
        message_id: None,
        sensor,
    }
}

/// As far as an event says it itself: thresholds and the generic severities do, the others are the reader's to judge.
fn severity(what: &What) -> Option<&'static str> {
    let What::Event { kind, asserted, data: [first, ..], .. } = what else { return None };
    let word = match (*kind, first & 0x0F) {
        (THRESHOLD, 0 | 1 | 6 | 7) => "Warning",
        (THRESHOLD, 2..=5 | 8..=11) => "Critical",
        // Table 42-2, "severity" states.
        (0x07, 0 | 7 | 8) => "OK",
        (0x07, 1 | 4) => "Warning",
        (0x07, 2 | 3 | 5 | 6) => "Critical",
        _ => return None,
    };
    Some(if *asserted { word } else { "OK" })
}

/// What all sensors say. Those that say nothing are counted.
pub fn readings(all: Vec<Reading>) -> Readings {
    let mut shown = Readings::default();
    for one in all {
        match (one.value, one.available, one.sensor.is_threshold()) {
            (Some(value), true, _) => shown.add(Some(reading(&one, value))),
            (None, true, false) => shown.states.push(Stated {
                name: one.sensor.name.clone(),
                kind: one.sensor.kind_word().to_owned(),
                states: one.states,
            }),
            _ => shown.add(None),
        }
    }
    shown.sensors.sort_by_key(|r| r.kind);
    shown
}

fn reading(one: &Reading, value: f64) -> sensors::Reading {
    let unit = match one.sensor.unit.as_str() {
        "" => None,
        "°C" => Some("Cel"),
        "rpm" => Some("RPM"),
        other => Some(other),
    };
    let kind = match (one.sensor.kind, unit) {
        (0x01, _) | (_, Some("Cel")) => Kind::Temperature,
        (0x02, _) | (_, Some("V")) => Kind::Voltage,
        (0x03, Some("W")) | (_, Some("W")) => Kind::Power,
        (0x03, _) | (_, Some("A")) => Kind::Current,
        (0x04, _) | (_, Some("RPM")) => Kind::Fan,
        _ => Kind::Other,
    };
    let health = match one.health {
        Health::Ok => "OK",
        Health::Warning => "Warning",
        Health::Critical => "Critical",
    };
    let limits = &one.thresholds;
    sensors::Reading {
        name: one.sensor.name.clone(),
        chassis: String::new(),
        kind,
        value,
        unit: unit.map(str::to_owned),
        health: one.sensor.is_threshold().then(|| health.to_owned()),
        limits: Limits {
            low_critical: limits.lower_critical.or(limits.lower_non_recoverable),
            low_warning: limits.lower_non_critical,
            high_warning: limits.upper_non_critical,
            high_critical: limits.upper_critical.or(limits.upper_non_recoverable),
        },
    }
}

/// An account. Its role is its privilege on the channel that was asked by.
pub fn account(user: &User) -> Account {
    Account {
        id: user.number.to_string(),
        user: user.name.clone(),
        role: user.access.privilege.map(Privilege::word).map(str::to_owned),
        enabled: user.access.enabled,
        locked: None,
        must_change: None,
        path: format!("ipmi/user/{}", user.number),
    }
}

/// IPMI asks for no least length, and has no word for lockouts.
pub fn rules() -> Rules {
    Rules { max_password: u32::try_from(MAX_PASSWORD_BYTES).ok(), ..Rules::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::ipmi::{
        sdr,
        sensor::{self, Thresholds},
    };

    fn event(kind: u8, offset: u8, asserted: bool) -> sel::Entry {
        let what = What::Event { generator: 0x20, sensor_type: 1, sensor: 48, kind, asserted, data: [offset, 0, 0] };
        sel::Entry { id: 7, at: Some(1_700_000_000), what }
    }

    #[test]
    fn events_have_a_severity_where_they_say_one() {
        let shown = entry(&event(1, 9, true));
        assert_eq!((shown.id.as_str(), shown.at.as_deref()), ("7", Some("2023-11-14T22:13:20Z")));
        assert_eq!((shown.severity.as_deref(), shown.sensor.as_deref()), (Some("Critical"), Some("temperature 48")));
        assert_eq!(shown.message.as_deref(), Some("above upper critical"));
        let word = |kind, offset, asserted| entry(&event(kind, offset, asserted)).severity;
        assert_eq!(word(1, 7, true).as_deref(), Some("Warning"));
        assert_eq!(word(1, 9, false).as_deref(), Some("OK"));
        assert_eq!(word(0x6F, 0, true), None);
        let oem = sel::Entry { id: 1, at: None, what: What::Oem { kind: 0xE0, data: vec![0; 13] } };
        assert_eq!((entry(&oem).at, entry(&oem).sensor, entry(&oem).severity), (None, None, None));
    }

    #[test]
    fn readings_states_and_silence() {
        let fan = sdr::decode(&sdr::tests::fan()).unwrap().unwrap();
        let supply = sdr::Sensor { kind: 0x08, reading_type: 0x6F, formula: None, name: "PSU".into(), ..fan.clone() };
        let raw = |data: &[u8]| sensor::read(data).unwrap();
        let limits = Thresholds { lower_critical: Some(600.0), ..Thresholds::default() };
        let shown = readings(vec![
            sensor::reading(supply, raw(&[0, 0xC0, 0x09, 0x80]), Thresholds::default()),
            sensor::reading(fan.clone(), raw(&[5, 0xC0, 0xC2]), limits),
            sensor::reading(fan, raw(&[0, 0xE0, 0]), limits),
        ]);
        assert_eq!((shown.sensors.len(), shown.silent), (1, 1));
        let slow = &shown.sensors[0];
        assert_eq!((slow.value, slow.unit.as_deref(), slow.kind), (300.0, Some("RPM"), Kind::Fan));
        assert_eq!((slow.health.as_deref(), slow.limits.low_critical), (Some("Critical"), Some(600.0)));
        assert_eq!(shown.states[0].states, ["presence detected", "input lost"]);
        assert_eq!(shown.states[0].kind, "power supply");
    }
}
