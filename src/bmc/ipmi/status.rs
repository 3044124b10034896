//! Status codes of RMCP+ and RAKP (IPMI 2.0, table 13-15), and what each means for the next step.

/// The code as the BMC sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u8);

impl Status {
    pub const OK: Status = Status(0x00);
    pub const NO_RESOURCES: Status = Status(0x01);
    pub const INVALID_SESSION: Status = Status(0x02);
    pub const UNAUTHORIZED_ROLE: Status = Status(0x0A);
    pub const NO_RESOURCES_FOR_ROLE: Status = Status(0x0B);
    pub const INVALID_NAME_LENGTH: Status = Status(0x0C);
    pub const UNAUTHORIZED_NAME: Status = Status(0x0D);
    pub const INVALID_INTEGRITY_CHECK: Status = Status(0x0F);
    pub const NO_CIPHER_SUITE: Status = Status(0x11);
    pub const ILLEGAL_PARAMETER: Status = Status(0x12);

    /// The algorithms are not offered: another suite may be. Says nothing about user and password.
    pub fn is_about_algorithms(self) -> bool {
        matches!(self.0, 0x03..=0x07 | 0x10 | 0x11)
    }
    /// The user is known and may not be what was asked for.
    pub fn is_about_role(self) -> bool {
        matches!(self.0, 0x09 | 0x0A)
    }
    /// User or password are refused. Never tried again: BMCs lock accounts.
    pub fn is_about_login(self) -> bool {
        matches!(self.0, 0x0C..=0x0F)
    }
    pub fn is_busy(self) -> bool {
        matches!(self.0, 0x01 | 0x0B)
    }
    pub fn word(self) -> &'static str {
        match self.0 {
            0x00 => "no error",
            0x01 => "no resources for another session",
            0x02 => "invalid session ID",
            0x03 => "invalid payload type",
            0x04 => "invalid authentication algorithm",
            0x05 => "invalid integrity algorithm",
            0x06 => "no matching authentication payload",
            0x07 => "no matching integrity payload",
            0x08 => "inactive session ID",
            0x09 => "invalid role",
            0x0A => "unauthorized role or privilege level",
            0x0B => "no resources for a session at this role",
            0x0C => "invalid name length",
            0x0D => "unauthorized name",
            0x0E => "unauthorized GUID",
            0x0F => "invalid integrity check value",
            0x10 => "invalid confidentiality algorithm",
            0x11 => "no cipher suite matches the proposed algorithms",
            0x12 => "illegal or unrecognized parameter",
            _ => "a code that the specification does not name",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RMCP+ status 0x{:02x}: {}", self.0, self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_means_two_things() {
        for code in 0..=u8::MAX {
            let s = Status(code);
            let meanings = [s.is_about_algorithms(), s.is_about_role(), s.is_about_login(), s.is_busy()];
            assert!(meanings.iter().filter(|m| **m).count() <= 1, "{s}");
        }
        assert_eq!(Status(0x11).to_string(), "RMCP+ status 0x11: no cipher suite matches the proposed algorithms");
    }
}
