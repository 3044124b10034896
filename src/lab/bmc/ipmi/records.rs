//! What a BMC keeps beside the machine: event log, sensor records, inventory, accounts. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use zeroize::Zeroize;

use super::sessions::Known;
use crate::{
    bmc::ipmi::{
        bytes::Short,
        crypto::{MAX_PASSWORD_BYTES, MAX_USER_BYTES},
        fru::{self, Inventory},
        rakp::Privilege,
        sel::{Entry, What},
    },
    lab::bmc::{Account, Description},
};

/// Entries of the event log; older ones go.
const MAX_EVENTS: usize = 512;
pub const MAX_USERS: u8 = 8;
/// The user that the laboratory's account is.
const ACCOUNT: u8 = 2;

pub struct User {
    pub name: [u8; MAX_USER_BYTES],
    pub password: Vec<u8>,
    /// As in Set User Access; 0x0F: none.
    pub privilege: u8,
    pub enabled: bool,
}

impl Drop for User {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

pub struct Records {
    events: Vec<Entry>,
    next_event: u16,
    pub overflow: bool,
    pub reservation: u16,
    pub erased_at: Option<u32>,
    pub sensors: Vec<Vec<u8>>,
    pub fru: Vec<u8>,
    /// Users 1 to [`MAX_USERS`].
    pub users: Vec<User>,
    /// Parameters of the boot options that are kept as they come.
    pub boot_options: std::collections::BTreeMap<u8, Vec<u8>>,
}

pub fn unix_now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

impl Records {
    pub fn new(about: &Description, account: &Account) -> Records {
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
        let mut users: Vec<User> = (0..MAX_USERS)
            .map(|_| User { name: [0; MAX_USER_BYTES], password: Vec::new(), privilege: 0x0F, enabled: false })
            .collect();
        let (name, password) = (account.user.as_bytes(), account.password.expose().as_bytes());
        // What IPMI cannot carry is no account of IPMI.
        if name.len() <= MAX_USER_BYTES
            && password.len() <= MAX_PASSWORD_BYTES
            && let Some(user) = users.get_mut(usize::from(ACCOUNT) - 1)
        {
            for (to, from) in user.name.iter_mut().zip(name) {
                *to = *from;
            }
            user.password = password.to_vec();
            (user.privilege, user.enabled) = (Privilege::Administrator.number(), true);
        }
        Records {
            events: Vec::new(),
            next_event: 1,
            overflow: false,
            reservation: 0,
            erased_at: None,
            sensors: sensors(),
            fru: fru::encode(&inventory),
            users,
            boot_options: std::collections::BTreeMap::new(),
        }
    }

    /// By name, as RAKP asks. An empty name is nobody's.
    pub fn look_up(&self, name: &[u8]) -> Option<Known> {
        let named = |user: &&User| user.name.iter().copied().take_while(|b| *b != 0).eq(name.iter().copied());
        let user = self.users.iter().filter(|u| u.enabled && !name.is_empty()).find(named)?;
        Some(Known { password: user.password.clone(), most: Privilege::of(user.privilege)? })
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

    pub fn user(&mut self, number: u8) -> Result<&mut User, Short> {
        let at = usize::from(number & 0x3F).checked_sub(1);
        at.and_then(|at| self.users.get_mut(at)).ok_or(Short("user"))
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
        let account = Account { user: "a".into(), password: crate::model::Secret::new("b".into()) };
        let mut records = Records::new(&Description::default(), &account);
        for _ in 0..MAX_EVENTS + 2 {
            records.add(event(0x12, 1, 0x6F, 1));
        }
        assert!(records.overflow && records.events().len() == MAX_EVENTS);
        assert_eq!(records.event(0).map(|(e, next)| (e.id, next)), Some((3, 4)));
        assert_eq!(records.event(0xFFFF).map(|(_, next)| next), Some(0xFFFF));
        records.erase();
        assert_eq!((records.events().len(), records.events()[0].text().as_str()), (1, "log cleared"));
        assert!(records.look_up(b"a").is_some() && records.look_up(b"").is_none() && records.look_up(b"b").is_none());
    }

    #[test]
    fn a_password_that_ipmi_cannot_carry_is_no_account() {
        let account = Account { user: "a".into(), password: crate::model::Secret::new("p".repeat(21)) };
        assert!(Records::new(&Description::default(), &account).look_up(b"a").is_none());
    }
}
