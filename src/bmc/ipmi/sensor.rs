//! What a sensor reads now, and its thresholds (IPMI 2.0, 35.9 and 35.14).

use super::{
    bytes::{Reader, Short},
    message::{Command, Effect, function},
    sdr::Sensor,
    words,
};

/// Sensor 0x2D.
pub fn get(number: u8) -> Command {
    Command::new(function::SENSOR, 0x2D, "read a sensor", Effect::Reads, [number])
}

/// Sensor 0x27.
pub fn get_thresholds(number: u8) -> Command {
    Command::new(function::SENSOR, 0x27, "read thresholds", Effect::Reads, [number])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    pub reading: u8,
    /// The sensor is scanned and its reading is one.
    pub available: bool,
    /// Thresholds passed, or states asserted, lowest bit first.
    pub states: u16,
}

pub fn read(data: &[u8]) -> Result<Raw, Short> {
    let mut reader = Reader::new(data);
    let [reading, flags] = reader.array("reading")?;
    // State bytes may be missing.
    let low = reader.u8("states").unwrap_or(0);
    let high = reader.u8("states").unwrap_or(0);
    // Scanning enabled and not "unavailable".
    let available = flags & 0x40 != 0 && flags & 0x20 == 0;
    Ok(Raw { reading, available, states: u16::from(low) | u16::from(high & 0x7F) << 8 })
}

/// In the sensor's unit; `None`: it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    pub lower_non_critical: Option<f64>,
    pub lower_critical: Option<f64>,
    pub lower_non_recoverable: Option<f64>,
    pub upper_non_critical: Option<f64>,
    pub upper_critical: Option<f64>,
    pub upper_non_recoverable: Option<f64>,
}

pub fn read_thresholds(sensor: &Sensor, data: &[u8]) -> Result<Thresholds, Short> {
    let mut reader = Reader::new(data);
    let mask = reader.u8("threshold mask")?;
    let mut values = [None; 6];
    for (bit, value) in values.iter_mut().enumerate() {
        let raw = reader.u8("thresholds")?;
        if mask & (1 << bit) != 0 {
            *value = sensor.formula.and_then(|formula| formula.value(raw));
        }
    }
    let [
        lower_non_critical,
        lower_critical,
        lower_non_recoverable,
        upper_non_critical,
        upper_critical,
        upper_non_recoverable,
    ] = values;
    Ok(Thresholds {
        lower_non_critical,
        lower_critical,
        lower_non_recoverable,
        upper_non_critical,
        upper_critical,
        upper_non_recoverable,
    })
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Ok,
    Warning,
    Critical,
}

/// A sensor with what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub sensor: Sensor,
    /// `None`: not available now (often: the machine is off), or discrete.
    pub value: Option<f64>,
    /// Discrete states in words.
    pub states: Vec<String>,
    pub available: bool,
    pub health: Health,
    pub thresholds: Thresholds,
}

pub fn reading(sensor: Sensor, raw: Raw, thresholds: Thresholds) -> Reading {
    let value = raw.available.then(|| sensor.formula.and_then(|f| f.value(raw.reading))).flatten();
    let states = match sensor.is_threshold() || !raw.available {
        true => Vec::new(),
        false => (0..15)
            .filter(|bit| raw.states & (1 << bit) != 0)
            .map(|bit| words::event(sensor.kind, sensor.reading_type, bit))
            .collect(),
    };
    // Bits of a threshold sensor: lower non-critical, critical, non-recoverable, and the upper ones (35.14).
    let health = match raw.states & 0x3F {
        _ if !sensor.is_threshold() || !raw.available => Health::Ok,
        0 => Health::Ok,
        passed if passed & 0b11_0110 != 0 => Health::Critical,
        _ => Health::Warning,
    };
    Reading { sensor, value, states, available: raw.available, health, thresholds }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::ipmi::sdr::{self, tests::fan};

    #[test]
    fn a_reading_with_its_thresholds() {
        let fan = sdr::decode(&fan()).unwrap().unwrap();
        let thresholds = read_thresholds(&fan, &[0x02, 1, 10, 2, 3, 4, 5]).unwrap();
        assert_eq!((thresholds.lower_critical, thresholds.upper_critical), (Some(600.0), None));
        let ok = reading(fan.clone(), read(&[100, 0xC0, 0xC0]).unwrap(), thresholds);
        assert_eq!((ok.value, ok.health), (Some(6000.0), Health::Ok));
        let slow = reading(fan.clone(), read(&[5, 0xC0, 0xC3]).unwrap(), thresholds);
        assert_eq!((slow.value, slow.health), (Some(300.0), Health::Critical));
        let off = reading(fan, read(&[0, 0xE0, 0x00]).unwrap(), thresholds);
        assert_eq!((off.value, off.available, off.health), (None, false, Health::Ok));
        assert_eq!(read(&[1]), Err(Short("reading")));
    }

    #[test]
    fn discrete_states_in_words() {
        let supply = Sensor {
            number: 1,
            lun: 0,
            owner: 0x20,
            name: "PSU".into(),
            kind: 0x08,
            reading_type: 0x6F,
            unit: String::new(),
            formula: None,
        };
        let raw = read(&[0, 0xC0, 0x09, 0x80]).unwrap();
        assert_eq!(reading(supply, raw, Thresholds::default()).states, ["presence detected", "input lost"]);
    }
}
