//! What a BMC keeps beside the machine: event log, sensor records, inventory. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    bmc::ipmi::{
        fru::{self, Inventory},
        options::Flags,
        sel::{Entry, What},
    },
    lab::bmc::Description,
};

/// Entries of the event log; older ones go.
const MAX_EVENTS: usize = 512;

pub struct Records {
    events: Vec<Entry>,
    next_event: u16,
    pub overflow: bool,
    pub reservation: u16,
    pub erased_at: Option<u32>,
    pub sensors: Vec<Vec<u8>>,
    pub fru: Vec<u8>,
    /// Parameters of the boot options that are kept as they come.
    pub boot_options: std::collections::BTreeMap<u8, Vec<u8>>,
    /// Flags that were written and are not in force: shown with their valid bit clear.
    pub stale_flags: Option<Flags>,
}

pub fn unix_now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

impl Records {
    pub fn new(about: &Description) -> Records {
        let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        let inventory = Inventory {
            chassis_serial: text(&about.serial),
            board_manufacturer: text(&about.manufacturer),
            board_product: text(&about.model),
            board_serial: text(&about.serial),
            manufacturer: text(&about.manufacturer),
            product: text(&about.model),
            part: about.sku.clone(),
            serial: text(&about.serial),
            ..Inventory::default()
        };
        Records {
            events: Vec::new(),
            next_event: 1,
            overflow: false,
            reservation: 0,
            erased_at: None,
            sensors: sensors(),
            fru: fru::encode(&inventory),
            boot_options: std::collections::BTreeMap::new(),
            stale_flags: None,
        }
    }

    pub fn events(&self) -> &[Entry] {
        &self.events
    }

    /// Returns its number.
    pub fn add(&mut self, what: What) -> u16 {
        if self.events.len() >= MAX_EVENTS {
            self.events.remove(0);
            self.overflow = true;
        }
        let id = self.next_event;
        self.next_event = if id >= 0xFFFE { 1 } else { id + 1 };
        self.events.push(Entry { id, at: Some(unix_now()), what });
        id
    }

    pub fn erase(&mut self) {
        self.events.clear();
        self.overflow = false;
        self.erased_at = Some(unix_now());
        self.add(event(0x10, 0x01, 0x6F, 2));
    }

    /// The record with this number (0: the first, 0xFFFF: the last), and the number after it.
    pub fn event(&self, id: u16) -> Option<(&Entry, u16)> {
        let at = match id {
            0 => 0,
            0xFFFF => self.events.len().checked_sub(1)?,
            id => self.events.iter().position(|entry| entry.id == id)?,
        };
        let next = self.events.get(at + 1).map_or(0xFFFF, |entry| entry.id);
        Some((self.events.get(at)?, next))
    }

    /// A sensor record and the number after it; numbers count from 1.
    pub fn sensor(&self, id: u16) -> Option<(&[u8], u16)> {
        let at = usize::from(id.max(1)) - 1;
        let next = if at + 1 < self.sensors.len() { id.max(1) + 1 } else { 0xFFFF };
        Some((self.sensors.get(at)?, next))
    }
}

pub fn event(sensor_type: u8, sensor: u8, kind: u8, offset: u8) -> What {
    What::Event { generator: 0x0020, sensor_type, sensor, kind, asserted: true, data: [offset, 0xFF, 0xFF] }
}

/// Sensor numbers of this BMC.
pub const TEMPERATURE: u8 = 0x01;
pub const FAN: u8 = 0x02;
pub const POWER: u8 = 0x03;
pub const SUPPLY: u8 = 0x04;

/// A full record. `m`: of the formula. `unit`: table 43-15. `upper_critical`: raw.
fn full(id: u16, number: u8, kind: u8, unit: u8, m: u8, upper_critical: u8, name: &str) -> Vec<u8> {
    let mut r = id.to_le_bytes().to_vec();
    r.extend([0x51, 0x01, 0, 0x20, 0x00, number, 7, 1, 0x7F, 0x68, kind, 0x01]);
    // Assertion, deassertion and readable masks: upper critical.
    r.extend([0x00, 0x02, 0x00, 0x02, 0x10, 0x10]);
    r.extend([0x00, unit, 0, 0, m, 0, 0, 0, 0, 0x00]);
    // Analog flags, nominal, normal, most and least, thresholds, hysteresis, reserved, OEM.
    r.extend([0x00, 0, 0, 0, 0xFF, 0, 0, upper_critical, 0, 0, 0, 0, 2, 2, 0, 0, 0]);
    named(r, name)
}

fn compact(id: u16, number: u8, kind: u8, name: &str) -> Vec<u8> {
    let mut r = id.to_le_bytes().to_vec();
    r.extend([0x51, 0x02, 0, 0x20, 0x00, number, 10, 1, 0x67, 0x40, kind, 0x6F]);
    r.extend([0x0F, 0, 0x0F, 0, 0x0F, 0]);
    r.extend([0xC0, 0, 0]);
    r.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    named(r, name)
}

fn named(mut record: Vec<u8>, name: &str) -> Vec<u8> {
    record.push(0xC0 | name.len() as u8);
    record.extend(name.bytes());
    let length = (record.len() - 5) as u8;
    if let Some(at) = record.get_mut(4) {
        *at = length;
    }
    record
}

fn sensors() -> Vec<Vec<u8>> {
    vec![
        full(1, TEMPERATURE, 0x01, 1, 1, 95, "CPU Temp"),
        full(2, FAN, 0x04, 18, 60, 255, "Fan 1"),
        full(3, POWER, 0x0B, 6, 4, 250, "Power Draw"),
        compact(4, SUPPLY, 0x08, "PSU 1"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::ipmi::sdr;

    #[test]
    fn its_records_are_read_by_the_product() {
        let names: Vec<_> = sensors().iter().map(|r| sdr::decode(r).unwrap().unwrap()).collect();
        let shown: Vec<_> = names.iter().map(|s| (s.name.as_str(), s.unit.as_str(), s.kind_word())).collect();
        assert_eq!(
            shown,
            [
                ("CPU Temp", "°C", "temperature"),
                ("Fan 1", "rpm", "fan"),
                ("Power Draw", "W", "other units"),
                ("PSU 1", "", "power supply")
            ]
        );
        for record in sensors() {
            assert_eq!(usize::from(record[4]), record.len() - 5);
        }
    }

    #[test]
    fn the_log_forgets_its_oldest_and_says_so() {
        let mut records = Records::new(&Description::default());
        for _ in 0..MAX_EVENTS + 2 {
            records.add(event(0x12, 1, 0x6F, 1));
        }
        assert!(records.overflow && records.events().len() == MAX_EVENTS);
        assert_eq!(records.event(0).map(|(e, next)| (e.id, next)), Some((3, 4)));
        assert_eq!(records.event(0xFFFF).map(|(_, next)| next), Some(0xFFFF));
        records.erase();
        assert_eq!((records.events().len(), records.events()[0].text().as_str()), (1, "log cleared"));
    }
}
