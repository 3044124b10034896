//! Sensor data records: which sensors there are, and what their readings mean (IPMI 2.0, 33, 43.1 and 43.2).

use super::{
    bytes::{Reader, Short},
    message::{Command, Effect, function},
    text, words,
};

pub const FIRST: u16 = 0x0000;
pub const LAST: u16 = 0xFFFF;
/// Number, version, type and length: what every record begins with.
pub const HEADER_BYTES: u8 = 5;

/// Storage 0x22.
pub fn reserve() -> Command {
    Command::new(function::STORAGE, 0x22, "reserve the sensor records", Effect::Reads, [])
}

pub fn read_reservation(data: &[u8]) -> Result<u16, Short> {
    Reader::new(data).u16("reservation")
}

/// Storage 0x23: `count` bytes of a record from `offset` on.
pub fn get(reservation: u16, record: u16, offset: u8, count: u8) -> Command {
    let mut data = reservation.to_le_bytes().to_vec();
    data.extend(record.to_le_bytes());
    data.extend([offset, count]);
    Command::new(function::STORAGE, 0x23, "read a sensor record", Effect::Reads, data)
}

/// `(next record, bytes)`.
pub fn read(data: &[u8]) -> Result<(u16, &[u8]), Short> {
    let mut reader = Reader::new(data);
    Ok((reader.u16("next record")?, reader.rest()))
}

/// Bytes behind the header of a record.
pub fn length(header: &[u8]) -> Result<u8, Short> {
    let [.., length] = Reader::new(header).array::<5>("header of the record")?;
    Ok(length)
}

/// A sensor of a full (type 1) or compact (type 2) record.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensor {
    pub number: u8,
    pub lun: u8,
    /// Who answers for it: 0x20 is the BMC.
    pub owner: u8,
    pub name: String,
    /// Table 42-3.
    pub kind: u8,
    /// 1: threshold; else discrete.
    pub reading_type: u8,
    pub unit: String,
    /// `None`: no number belongs to it.
    pub formula: Option<Formula>,
}

impl Sensor {
    pub fn is_threshold(&self) -> bool {
        self.reading_type == 0x01
    }
    pub fn kind_word(&self) -> &'static str {
        words::sensor_type(self.kind)
    }
}

/// `y = L((M·x + B·10^K1)·10^K2)` (36.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formula {
    pub m: i16,
    pub b: i16,
    pub b_exponent: i8,
    pub r_exponent: i8,
    pub encoding: Encoding,
    /// Table 43-1, byte 24.
    pub linearization: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Unsigned,
    OnesComplement,
    TwosComplement,
}

impl Formula {
    /// `None`: the formula is the vendor's own, or the value is no number.
    pub fn value(&self, raw: u8) -> Option<f64> {
        let x = match self.encoding {
            Encoding::Unsigned => f64::from(raw),
            Encoding::TwosComplement => f64::from(raw as i8),
            Encoding::OnesComplement if raw & 0x80 != 0 => -f64::from(!raw),
            Encoding::OnesComplement => f64::from(raw),
        };
        let ten = |exponent: i8| 10f64.powi(i32::from(exponent));
        let y = (f64::from(self.m) * x + f64::from(self.b) * ten(self.b_exponent)) * ten(self.r_exponent);
        let value = match self.linearization & 0x7F {
            0 => y,
            1 => y.ln(),
            2 => y.log10(),
            3 => y.log2(),
            4 => y.exp(),
            5 => 10f64.powf(y),
            6 => y.exp2(),
            7 => y.recip(),
            8 => y * y,
            9 => y * y * y,
            10 => y.sqrt(),
            11 => y.cbrt(),
            _ => return None,
        };
        value.is_finite().then_some(value)
    }
}

/// Two's complement of so many bits.
fn signed(value: u16, bits: u32) -> i16 {
    let shift = 16 - bits;
    ((value << shift) as i16) >> shift
}

fn nibble(value: u8) -> i8 {
    ((value << 4) as i8) >> 4
}

/// A whole record. `None`: it is of no sensor.
pub fn decode(record: &[u8]) -> Result<Option<Sensor>, Short> {
    let mut reader = Reader::new(record);
    let [_, _, _, kind, _] = reader.array("header of the record")?;
    if !matches!(kind, 1 | 2) {
        return Ok(None);
    }
    let [owner, lun, number] = reader.array("key of the record")?;
    let [_, _, _, _, sensor_type, reading_type] = reader.array("body of the record")?;
    let _masks = reader.take(6, "masks of the record")?;
    let [units, base, modifier] = reader.array("units")?;
    let mut formula = None;
    if kind == 1 {
        let [linearization, m_low, m_high, b_low, b_high, _, exponents] = reader.array("formula")?;
        let encoding = match units >> 6 {
            0 => Some(Encoding::Unsigned),
            1 => Some(Encoding::OnesComplement),
            2 => Some(Encoding::TwosComplement),
            _ => None,
        };
        formula = encoding.map(|encoding| Formula {
            m: signed(u16::from(m_low) | u16::from(m_high >> 6) << 8, 10),
            b: signed(u16::from(b_low) | u16::from(b_high >> 6) << 8, 10),
            b_exponent: nibble(exponents & 0x0F),
            r_exponent: nibble(exponents >> 4),
            encoding,
            linearization,
        });
        let _limits = reader.take(17, "limits of the record")?;
    } else {
        let _shared = reader.take(8, "sharing of the record")?;
    }
    let code = reader.u8("name of the sensor")?;
    let name = text::decode(code, reader.take(usize::from(code & 0x1F), "name of the sensor")?);
    Ok(Some(Sensor {
        number,
        lun: lun & 0x03,
        owner,
        name,
        kind: sensor_type,
        reading_type,
        unit: unit(units, base, modifier),
        formula,
    }))
}

/// `W`, `%`, `cfm/min`, …
fn unit(units: u8, base: u8, modifier: u8) -> String {
    if units & 0x01 != 0 {
        return "%".to_owned();
    }
    let rate = match (units >> 3) & 0x07 {
        1 => "/µs",
        2 => "/ms",
        3 => "/s",
        4 => "/min",
        5 => "/h",
        6 => "/d",
        _ => "",
    };
    let with = match (units >> 1) & 0x03 {
        1 => format!("/{}", words::unit(modifier)),
        2 => format!("·{}", words::unit(modifier)),
        _ => String::new(),
    };
    format!("{}{with}{rate}", words::unit(base))
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A full record of a fan: 60·x rpm.
    pub fn fan() -> Vec<u8> {
        let mut r = vec![3, 0, 0x51, 1, 0, 0x20, 0, 0x41, 29, 1, 0x7F, 0x68, 4, 1];
        r.extend([0; 6]);
        r.extend([0x00, 18, 0, 0, 60, 0, 0, 0, 0, 0x00]);
        r.extend([0; 17]);
        r.push(0xC5);
        r.extend(b"Fan 1");
        r[4] = r.len() as u8 - 5;
        r
    }

    #[test]
    fn a_full_record() {
        let sensor = decode(&fan()).unwrap().unwrap();
        assert_eq!((sensor.name.as_str(), sensor.number, sensor.unit.as_str()), ("Fan 1", 0x41, "rpm"));
        assert_eq!(sensor.formula.unwrap().value(100), Some(6000.0));
        assert!(sensor.is_threshold());
        assert_eq!(decode(&fan()[..30]).map(|_| ()), Err(Short("limits of the record")));
        let mut other = fan();
        other[3] = 0x11;
        assert_eq!(decode(&other), Ok(None));
    }

    #[test]
    fn formulas() {
        let plain =
            Formula { m: 1, b: 0, b_exponent: 0, r_exponent: 0, encoding: Encoding::TwosComplement, linearization: 0 };
        assert_eq!(plain.value(0xFB), Some(-5.0));
        assert_eq!(Formula { encoding: Encoding::OnesComplement, ..plain }.value(0xFA), Some(-5.0));
        // 12 V in steps of 62 mV with an offset: (62·x + 2·10²)·10⁻³.
        let volt =
            Formula { m: 62, b: 2, b_exponent: 2, r_exponent: -3, encoding: Encoding::Unsigned, linearization: 0 };
        assert!((volt.value(190).unwrap() - 11.98).abs() < 1e-9);
        assert_eq!(Formula { linearization: 7, ..plain }.value(0), None, "1/0 is no number");
        assert_eq!(Formula { linearization: 0x70, ..plain }.value(1), None);
        assert_eq!((signed(0x3FF, 10), signed(0x1FF, 10), nibble(0x0D)), (-1, 511, -3));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..80), kind in 0u8..4, raw: u8) {
            let mut bytes = bytes;
            if let Some(at) = bytes.get_mut(3) { *at = kind; }
            if let Ok(Some(Sensor { formula: Some(formula), .. })) = decode(&bytes) {
                let _ = formula.value(raw);
            }
            let _ = (length(&bytes), read(&bytes), read_reservation(&bytes));
        }
    }
}
