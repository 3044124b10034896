//! The system event log (IPMI 2.0, 31 and 32): its state, its entries, and emptying it.

use super::{
    bytes::{Reader, Short},
    message::{Command, Effect, function},
    words,
};

pub const FIRST: u16 = 0x0000;
pub const LAST: u16 = 0xFFFF;
/// Timestamps below count from the BMC's start, not from 1970 (37.1).
const SINCE_START: u32 = 0x2000_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    pub entries: u16,
    pub free_bytes: u16,
    /// Seconds since 1970; `None`: never.
    pub last_addition: Option<u32>,
    pub last_erase: Option<u32>,
    /// Entries were lost for want of room.
    pub overflow: bool,
    pub reserves: bool,
}

/// Storage 0x40.
pub fn get_info() -> Command {
    Command::new(function::STORAGE, 0x40, "event log info", Effect::Reads, [])
}

fn time(seconds: u32) -> Option<u32> {
    (seconds != u32::MAX && seconds >= SINCE_START).then_some(seconds)
}

pub fn read_info(data: &[u8]) -> Result<Info, Short> {
    let mut reader = Reader::new(data);
    let _ = reader.u8("version of the log")?;
    let (entries, free_bytes) = (reader.u16("number of entries")?, reader.u16("free space")?);
    let (addition, erase) = (reader.u32("time of addition")?, reader.u32("time of erasure")?);
    let support = reader.u8("what the log supports")?;
    Ok(Info {
        entries,
        free_bytes,
        last_addition: time(addition),
        last_erase: time(erase),
        overflow: support & 0x80 != 0,
        reserves: support & 0x02 != 0,
    })
}

/// Storage 0x42. Counts as reading: it changes nothing of the log.
pub fn reserve() -> Command {
    Command::new(function::STORAGE, 0x42, "reserve the event log", Effect::Reads, [])
}

pub fn read_reservation(data: &[u8]) -> Result<u16, Short> {
    Reader::new(data).u16("reservation")
}

/// Storage 0x43: a whole record.
pub fn get_entry(reservation: u16, record: u16) -> Command {
    let mut data = reservation.to_le_bytes().to_vec();
    data.extend(record.to_le_bytes());
    data.extend([0, 0xFF]);
    Command::new(function::STORAGE, 0x43, "read the event log", Effect::Reads, data)
}

/// Storage 0x47. `begin`: start emptying; else ask how far it is.
pub fn clear(reservation: u16, begin: bool) -> Command {
    let mut data = reservation.to_le_bytes().to_vec();
    data.extend(*b"CLR");
    data.push(if begin { 0xAA } else { 0x00 });
    let (effect, name) = match begin {
        true => (Effect::Sets, "clear the event log"),
        false => (Effect::Reads, "event log erasure"),
    };
    Command::new(function::STORAGE, 0x47, name, effect, data)
}

/// Whether emptying has ended.
pub fn read_clear(data: &[u8]) -> Result<bool, Short> {
    Ok(Reader::new(data).u8("progress of the erasure")? & 0x0F == 1)
}

/// One entry (table 32-1 to 32-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u16,
    /// Seconds since 1970 by the BMC's clock; `None`: it has none, or counts from its start.
    pub at: Option<u32>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Event {
        generator: u16,
        sensor_type: u8,
        sensor: u8,
        /// Generic or sensor-specific (0x6F).
        kind: u8,
        asserted: bool,
        data: [u8; 3],
    },
    Oem {
        kind: u8,
        data: Vec<u8>,
    },
}

impl Entry {
    /// `(next record, entry)` of an answer.
    pub fn read(data: &[u8]) -> Result<(u16, Entry), Short> {
        let mut reader = Reader::new(data);
        let next = reader.u16("next record")?;
        Ok((next, Entry::decode(reader.rest())?))
    }

    pub fn decode(record: &[u8]) -> Result<Entry, Short> {
        let mut reader = Reader::new(record);
        let (id, kind) = (reader.u16("record number")?, reader.u8("record type")?);
        if kind >= 0xE0 {
            return Ok(Entry { id, at: None, what: What::Oem { kind, data: reader.take(13, "OEM data")?.to_vec() } });
        }
        let at = time(reader.u32("timestamp")?);
        if kind >= 0xC0 {
            return Ok(Entry { id, at, what: What::Oem { kind, data: reader.take(9, "OEM data")?.to_vec() } });
        }
        let generator = reader.u16("generator")?;
        let [_, sensor_type, sensor, event] = reader.array("event")?;
        let data = reader.array("event data")?;
        let what =
            What::Event { generator, sensor_type, sensor, kind: event & 0x7F, asserted: event & 0x80 == 0, data };
        Ok(Entry { id, at, what })
    }

    /// 16 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.id.to_le_bytes().to_vec();
        let at = self.at.unwrap_or(u32::MAX).to_le_bytes();
        match &self.what {
            What::Event { generator, sensor_type, sensor, kind, asserted, data } => {
                bytes.push(0x02);
                bytes.extend(at);
                bytes.extend(generator.to_le_bytes());
                bytes.extend([0x04, *sensor_type, *sensor, kind | if *asserted { 0 } else { 0x80 }]);
                bytes.extend(data);
            }
            What::Oem { kind, data } => {
                bytes.push(*kind);
                if *kind < 0xE0 {
                    bytes.extend(at);
                }
                bytes.extend(data);
            }
        }
        bytes.resize(16, 0xFF);
        bytes
    }

    /// `temperature`, `OEM`.
    pub fn source(&self) -> &'static str {
        match &self.what {
            What::Event { sensor_type, .. } => words::sensor_type(*sensor_type),
            What::Oem { .. } => "OEM",
        }
    }

    /// What happened, in words.
    pub fn text(&self) -> String {
        match &self.what {
            What::Event { sensor_type, kind, asserted, data: [first, ..], .. } => {
                let word = words::event(*sensor_type, *kind, first & 0x0F);
                if *asserted { word } else { format!("{word} (deasserted)") }
            }
            What::Oem { kind, data } => format!("OEM record 0x{kind:02x}: {}", hex::encode(data)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_in_words() {
        let record = [0x07, 0, 0x02, 0x00, 0xF1, 0x53, 0x65, 0x20, 0, 0x04, 0x01, 0x30, 0x01, 0x59, 0x5A, 0x55];
        let entry = Entry::decode(&record).unwrap();
        assert_eq!((entry.id, entry.at, entry.source()), (7, Some(0x6553_F100), "temperature"));
        assert_eq!(entry.text(), "above upper critical");
        assert_eq!(entry.encode(), record);
        assert_eq!(Entry::read(&[0xFF, 0xFF, 1, 0, 0x02]), Err(Short("timestamp")));
    }

    #[test]
    fn times_before_the_clock_was_set_are_none() {
        assert_eq!((time(5), time(u32::MAX), time(1_700_000_000)), (None, None, Some(1_700_000_000)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((_, entry)) = Entry::read(&bytes) {
                let _ = (entry.text(), entry.source(), entry.encode());
            }
            let _ = (read_info(&bytes), read_reservation(&bytes), read_clear(&bytes));
        }
    }
}
