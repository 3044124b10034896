//! The BMC itself: what it is, and its own restart (IPMI 2.0, 20.1 to 20.3).

use super::{
    bytes::{Reader, Short},
    message::{Command, Effect, function},
};

/// IANA's number of Supermicro.
pub const SUPERMICRO: u32 = 10876;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub id: u8,
    pub revision: u8,
    /// As in `2.37`.
    pub firmware: (u8, u8),
    /// The firmware is being updated or the BMC is starting.
    pub starting: bool,
    /// As in `2.0`.
    pub ipmi: (u8, u8),
    pub offers: Offers,
    /// IANA enterprise number.
    pub manufacturer: u32,
    pub product: u16,
}

/// What the device holds (byte "additional device support").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers(pub u8);

impl Offers {
    pub fn sensors(self) -> bool {
        self.0 & 0x01 != 0
    }
    pub fn sdr(self) -> bool {
        self.0 & 0x02 != 0
    }
    pub fn sel(self) -> bool {
        self.0 & 0x04 != 0
    }
    pub fn fru(self) -> bool {
        self.0 & 0x08 != 0
    }
    pub fn chassis(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// App 0x01.
pub fn get_id() -> Command {
    Command::new(function::APP, 0x01, "get device ID", Effect::Reads, [])
}

fn bcd(byte: u8) -> u8 {
    (byte >> 4).saturating_mul(10) + (byte & 0x0F)
}

pub fn read_id(data: &[u8]) -> Result<Device, Short> {
    let mut reader = Reader::new(data);
    let [id, revision, major, minor, ipmi, offers] = reader.array("device ID")?;
    // Their first byte is the low one.
    let [a, b, c] = reader.array("manufacturer")?;
    let manufacturer = u32::from_le_bytes([a, b, c, 0]) & 0x000F_FFFF;
    let product = reader.u16("product")?;
    Ok(Device {
        id,
        revision: revision & 0x0F,
        firmware: (major & 0x7F, bcd(minor)),
        starting: major & 0x80 != 0,
        // BCD with the digits swapped: 0x51 is 1.5.
        ipmi: (ipmi & 0x0F, ipmi >> 4),
        offers: Offers(offers),
        manufacturer,
        product,
    })
}

impl Device {
    pub fn encode(&self) -> Vec<u8> {
        let [a, b, c, _] = self.manufacturer.to_le_bytes();
        let minor = ((self.firmware.1 / 10) << 4) | (self.firmware.1 % 10);
        let ipmi = self.ipmi.0 | (self.ipmi.1 << 4);
        let mut data = vec![self.id, self.revision, self.firmware.0 & 0x7F, minor, ipmi, self.offers.0, a, b, c];
        data.extend(self.product.to_le_bytes());
        // Auxiliary revision.
        data.extend([0; 4]);
        data
    }
    /// `2.37`
    pub fn version(&self) -> String {
        format!("{}.{:02}", self.firmware.0, self.firmware.1)
    }
    /// The maker by its IANA enterprise number, where it makes servers or BMCs.
    pub fn maker(&self) -> Option<&'static str> {
        Some(match self.manufacturer {
            2 => "IBM",
            11 => "HPE",
            42 => "Oracle",
            343 => "Intel",
            373 => "Tyan",
            674 => "Dell",
            2011 => "Huawei",
            3183 => "Quanta",
            4413 => "Broadcom",
            5703 => "NVIDIA",
            5771 => "Cisco",
            7154 => "IPMI Forum",
            7244 => "Quanta",
            10368 => "Fujitsu",
            SUPERMICRO => "Supermicro",
            15370 => "Gigabyte",
            19046 => "Lenovo",
            20974 => "AMI",
            37945 => "Inspur",
            47488 => "Supermicro",
            49622 => "ASRock Rack",
            _ => return None,
        })
    }
}

/// App 0x02: the BMC starts anew; the machine stays as it is. Sessions end with it.
pub fn cold_reset() -> Command {
    Command::new(function::APP, 0x02, "cold reset of the BMC", Effect::Acts, [])
}

/// App 0x03: less thorough, and often not offered.
pub fn warm_reset() -> Command {
    Command::new(function::APP, 0x03, "warm reset of the BMC", Effect::Acts, [])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_as_written() {
        let data = [0x20, 0x81, 0x02, 0x37, 0x02, 0xBF, 0xA2, 0x02, 0x00, 0x00, 0x01, 0, 0, 0, 0];
        let device = read_id(&data).unwrap();
        assert_eq!((device.version().as_str(), device.ipmi, device.maker()), ("2.37", (2, 0), Some("Dell")));
        assert!(device.offers.sel() && device.offers.chassis());
        assert_eq!(read_id(&device.encode()), Ok(device));
        assert_eq!(read_id(&data[..7]), Err(Short("manufacturer")));
    }
}
