//! Readings of a chassis → one list, whatever generation of Redfish they came from. Pure.

use serde::Serialize;

use super::{
    link,
    read::text,
    redfish::{
        json::clean,
        wire::{
            Status,
            sensor::{self as wire, Classic, Measured, Threshold},
        },
    },
};

/// What a BMC measures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Readings {
    /// What the whole machine draws, in watts.
    pub power_watts: Option<f64>,
    pub sensors: Vec<Reading>,
    /// Sensors that are in a state and have no value; IPMI's alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<Stated>,
    /// Sensors that are named and give no reading: absent parts, a machine that is off.
    pub silent: u32,
}

/// A discrete sensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stated {
    pub name: String,
    /// `power supply`, `memory`, …: IPMI's words.
    pub kind: String,
    /// None of them: nothing to tell.
    pub states: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    pub name: String,
    /// Id of the chassis.
    pub chassis: String,
    pub kind: Kind,
    pub value: f64,
    /// `Cel`, `RPM`, `%`, `V`, `A`, `W`, …: UCUM, as Redfish has it.
    pub unit: Option<String>,
    /// `OK`, `Warning`, `Critical`.
    pub health: Option<String>,
    #[serde(flatten)]
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Temperature,
    Fan,
    Power,
    Voltage,
    Current,
    Other,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Temperature => "temperature",
            Kind::Fan => "fan",
            Kind::Power => "power",
            Kind::Voltage => "voltage",
            Kind::Current => "current",
            Kind::Other => "other",
        }
    }
}

/// Thresholds, in the unit of the reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_critical: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_warning: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_warning: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_critical: Option<f64>,
}

impl Readings {
    /// `None` is a sensor that says nothing.
    pub fn add(&mut self, reading: Option<Reading>) {
        match reading {
            Some(reading) => self.sensors.push(reading),
            None => self.silent = self.silent.saturating_add(1),
        }
    }
}

fn real(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite())
}

fn health(status: &Option<Status>) -> Option<String> {
    text(&status.as_ref()?.health)
}

fn absent(status: &Option<Status>) -> bool {
    let state = status.as_ref().and_then(|s| s.state.as_deref());
    matches!(state, Some("Absent" | "Disabled" | "UnavailableOffline"))
}

/// A Sensor resource; `None`: absent or without a reading.
pub fn sensor(path: &str, chassis: &str, sensor: &wire::Sensor) -> Option<Reading> {
    if absent(&sensor.status) {
        return None;
    }
    let value = real(sensor.reading)?;
    let unit = text(&sensor.unit);
    let kind = match (sensor.kind.as_deref(), unit.as_deref()) {
        (Some("Temperature"), _) => Kind::Temperature,
        (Some("Rotational"), _) => Kind::Fan,
        (Some("Power" | "ApparentPower"), _) => Kind::Power,
        (Some("Voltage"), _) => Kind::Voltage,
        (Some("Current"), _) => Kind::Current,
        (Some(_), _) => Kind::Other,
        (None, Some("Cel" | "C")) => Kind::Temperature,
        (None, Some("RPM" | "{rev}/min")) => Kind::Fan,
        (None, Some("W")) => Kind::Power,
        (None, Some("V")) => Kind::Voltage,
        (None, Some("A")) => Kind::Current,
        _ => Kind::Other,
    };
    let limits = sensor.thresholds.clone().unwrap_or_default();
    let of = |t: &Option<Threshold>| real(t.as_ref().and_then(|t| t.reading));
    Some(Reading {
        name: text(&sensor.name).or(text(&sensor.id)).unwrap_or_else(|| clean(link::last_segment(path))),
        chassis: chassis.to_owned(),
        kind,
        value,
        unit,
        health: health(&sensor.status),
        limits: Limits {
            low_critical: of(&limits.lower_critical).or(of(&limits.lower_fatal)),
            low_warning: of(&limits.lower_caution),
            high_warning: of(&limits.upper_caution),
            high_critical: of(&limits.upper_critical).or(of(&limits.upper_fatal)),
        },
    })
}

/// An element of the classic Thermal or Power lists. `kind` is the list's; what the element carries decides the unit.
pub fn classic(chassis: &str, kind: Kind, element: &Classic) -> Option<Reading> {
    if absent(&element.status) {
        return None;
    }
    let told = |value: Option<f64>, unit: &str| real(value).map(|v| (v, Some(unit.to_owned())));
    let (value, unit) = match kind {
        Kind::Temperature => told(element.celsius, "Cel"),
        Kind::Voltage => told(element.volts, "V"),
        Kind::Power => told(element.consumed_w, "W")
            .or(told(element.input_w, "W"))
            .or(told(element.output_w, "W"))
            .or(told(element.last_output_w, "W")),
        _ => real(element.reading).map(|v| {
            let unit = text(&element.unit);
            (v, unit.map(|u| if u == "Percent" { "%".to_owned() } else { u }))
        }),
    }?;
    let name = text(&element.name).or(text(&element.fan_name)).or(text(&element.id));
    // Placeholders have no name: `nil` is one maker's.
    let name = name.filter(|n| n != "nil")?;
    Some(Reading {
        name,
        chassis: chassis.to_owned(),
        kind,
        value,
        unit,
        health: health(&element.status),
        limits: Limits {
            low_critical: real(element.lower_critical).or(real(element.lower_fatal)),
            low_warning: real(element.lower_caution),
            high_warning: real(element.upper_caution),
            high_critical: real(element.upper_critical).or(real(element.upper_fatal)),
        },
    })
}

/// A reading that stands in another resource (fan, power supply, thermal metrics), without limits.
pub fn measured(chassis: &str, name: &str, kind: Kind, unit: &str, measured: &Option<Measured>) -> Option<Reading> {
    let value = real(measured.as_ref()?.reading)?;
    Some(Reading {
        name: clean(name),
        chassis: chassis.to_owned(),
        kind,
        value,
        unit: Some(unit.to_owned()),
        health: None,
        limits: Limits::default(),
    })
}

/// What the machine draws, by the first source that says it: its chassis, its power control, its supplies together.
pub fn draw(environment: Option<f64>, control: &[Classic], supplies_in: &[f64]) -> Option<f64> {
    let positive = |v: &f64| v.is_finite() && *v > 0.0;
    let control = || control.iter().find_map(|c| c.consumed_w.filter(positive));
    let supplies = || Some(supplies_in.iter().filter(|v| positive(v)).sum::<f64>()).filter(positive);
    environment.filter(positive).or_else(control).or_else(supplies)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::redfish::wire::parse;

    #[test]
    fn a_sensor_has_value_unit_and_limits() {
        let raw =
            parse(json!({"Name": "Inlet\u{7}", "ReadingType": "Temperature", "Reading": 24.5, "ReadingUnits": "Cel",
            "Status": {"State": "Enabled", "Health": "Warning"},
            "Thresholds": {"UpperCaution": {"Reading": 40}, "UpperFatal": {"Reading": 50}, "LowerCritical": null}}));
        let read = sensor("/c/1/Sensors/x", "1", &raw).unwrap();
        assert_eq!((read.name.as_str(), read.kind, read.value), ("Inlet", Kind::Temperature, 24.5));
        assert_eq!((read.limits.high_warning, read.limits.high_critical), (Some(40.0), Some(50.0)));
        assert_eq!((read.limits.low_critical, read.health.as_deref()), (None, Some("Warning")));
        for silent in [json!({"Name": "a", "Reading": null}), json!({"Reading": 3, "Status": {"State": "Absent"}})] {
            assert_eq!(sensor("/x", "1", &parse(silent)), None);
        }
    }

    #[test]
    fn the_classic_lists_are_read_by_what_they_carry() {
        let fan = parse(json!({"FanName": "Fan 1", "Reading": 30, "ReadingUnits": "Percent"}));
        let read = classic("1", Kind::Fan, &fan).unwrap();
        assert_eq!((read.name.as_str(), read.value, read.unit.as_deref()), ("Fan 1", 30.0, Some("%")));
        let hot = parse(json!({"Name": "CPU", "ReadingCelsius": 41, "UpperThresholdCritical": 45}));
        assert_eq!(classic("1", Kind::Temperature, &hot).unwrap().limits.high_critical, Some(45.0));
        assert_eq!(classic("1", Kind::Power, &parse(json!({"Name": "nil", "PowerInputWatts": 3}))), None);
        assert_eq!(classic("1", Kind::Temperature, &parse(json!({"Name": "CPU", "ReadingCelsius": null}))), None);
    }

    #[test]
    fn the_draw_is_told_by_the_first_that_knows() {
        let control: Vec<Classic> =
            vec![parse(json!({"PowerConsumedWatts": null})), parse(json!({"PowerConsumedWatts": 97}))];
        assert_eq!(draw(Some(120.0), &control, &[]), Some(120.0));
        assert_eq!(draw(Some(0.0), &control, &[]), Some(97.0));
        assert_eq!(draw(None, &[], &[50.0, 60.0]), Some(110.0));
        assert_eq!(draw(None, &[], &[]), None);
    }
}
