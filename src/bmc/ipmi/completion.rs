//! Completion codes in words (IPMI 2.0, table 5-2). Codes 0x80 to 0xBE belong to the command: its noun gives those.

/// The code as the BMC sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion(pub u8);

impl Completion {
    pub const OK: Completion = Completion(0x00);
    pub const BUSY: Completion = Completion(0xC0);
    pub const INVALID_COMMAND: Completion = Completion(0xC1);
    pub const TIMEOUT: Completion = Completion(0xC3);
    pub const RESERVATION_CANCELLED: Completion = Completion(0xC5);
    pub const TRUNCATED: Completion = Completion(0xC6);
    pub const LENGTH: Completion = Completion(0xC7);
    pub const LIMIT: Completion = Completion(0xC8);
    pub const RANGE: Completion = Completion(0xC9);
    pub const CANNOT_RETURN_SO_MANY: Completion = Completion(0xCA);
    pub const NOT_PRESENT: Completion = Completion(0xCB);
    pub const INVALID_FIELD: Completion = Completion(0xCC);
    pub const NOT_NOW: Completion = Completion(0xD5);
    pub const PRIVILEGE: Completion = Completion(0xD4);

    /// Not carried out, and may be soon.
    pub fn is_busy(self) -> bool {
        matches!(self.0, 0xC0 | 0xC3 | 0xCE | 0xD0 | 0xD1 | 0xD2)
    }

    pub fn word(self) -> &'static str {
        match self.0 {
            0x00 => "done",
            0xC0 => "the BMC is busy",
            0xC1 => "the BMC does not know this command",
            0xC2 => "the command is not valid for this LUN",
            0xC3 => "the BMC timed out over it",
            0xC4 => "the BMC is out of space",
            0xC5 => "the reservation was cancelled or is invalid",
            0xC6 => "the request was cut off",
            0xC7 => "the length of the request is wrong",
            0xC8 => "a field of the request is too long",
            0xC9 => "a parameter is out of range",
            0xCA => "the BMC cannot return so many bytes",
            0xCB => "there is no such sensor, record or data",
            0xCC => "a field of the request is invalid",
            0xCD => "the command is not possible for this sensor or record",
            0xCE => "the BMC could not answer",
            0xCF => "the BMC took it for a duplicate",
            0xD0 => "the sensor records are being updated",
            0xD1 => "the firmware of the BMC is being updated",
            0xD2 => "the BMC is still starting",
            0xD3 => "the destination is not there",
            0xD4 => "the user's privilege is not enough, or a firewall of the BMC forbids it",
            0xD5 => "not possible in the present state",
            0xD6 => "a part of the command is disabled",
            0xFF => "no reason given",
            0x80..=0xBE => "a code of this command",
            0x01..=0x7E => "a code of the vendor",
            _ => "a code that the specification does not name",
        }
    }
}

impl std::fmt::Display for Completion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IPMI completion code 0x{:02x}: {}", self.0, self.word())
    }
}
