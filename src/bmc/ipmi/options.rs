//! System boot options: parameter 3 (what clears the flags) and parameter 5 (the flags), IPMI 2.0, 28.12 to 28.14.

use super::{
    bytes::{Reader, Short},
    message::{Command, Effect, function},
};
use crate::model::{
    fleet::BootMode,
    power::{BootOverride, BootTarget, OverrideFor},
};

pub const PARAMETER_CLEARING: u8 = 3;
pub const PARAMETER_FLAGS: u8 = 5;
const VALID: u8 = 0x80;
const PERSISTENT: u8 = 0x40;
const EFI: u8 = 0x20;
/// Device selector of the disk.
const DISK: u8 = 2;
/// Supermicro's of its disk in UEFI mode: the byte 0x24.
const SUPERMICRO_DISK: u8 = 9;
/// "Don't clear the valid bit where no chassis control follows within 60 s": else a slow run boots from its disk.
const KEEP_AFTER_60_S: u8 = 0x08;

/// Chassis 0x08 with parameter 3; BMCs that refuse it keep the flags anyway, or clear them after 60 s.
pub fn keep_flags() -> Command {
    let data = [PARAMETER_CLEARING, KEEP_AFTER_60_S];
    Command::new(function::CHASSIS, 0x08, "set boot option 3", Effect::Sets, data)
}

/// The five bytes of parameter 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub [u8; 5]);

/// Chassis 0x08 with parameter 5.
pub fn set_flags(flags: Flags) -> Command {
    let [a, b, c, d, e] = flags.0;
    let data = [PARAMETER_FLAGS, a, b, c, d, e];
    Command::new(function::CHASSIS, 0x08, "set boot flags", Effect::Sets, data)
}

/// Chassis 0x09 with parameter 5.
pub fn get_flags() -> Command {
    Command::new(function::CHASSIS, 0x09, "get boot flags", Effect::Reads, [PARAMETER_FLAGS, 0, 0])
}

/// The answer: version, parameter, its bytes. A parameter marked invalid is as none.
pub fn read_flags(data: &[u8]) -> Result<Flags, Short> {
    let mut reader = Reader::new(data);
    let [_, parameter] = reader.array("boot option")?;
    let flags = reader.array("boot flags")?;
    Ok(Flags(if parameter & 0x80 != 0 { [0; 5] } else { flags }))
}

/// Device selectors (table 28-14, data 2, bits 5 to 2).
fn selector(target: BootTarget) -> Option<u8> {
    Some(match target {
        BootTarget::None => 0,
        BootTarget::Pxe => 1,
        BootTarget::Disk => DISK,
        BootTarget::Cd => 5,
        BootTarget::Setup => 6,
        BootTarget::Http => return None,
    })
}

impl Flags {
    pub fn is_valid(&self) -> bool {
        self.0[0] & VALID != 0
    }

    /// The flags for a wish. `Err`: IPMI has no such device.
    pub fn wanted(want: BootOverride, now: Flags) -> Result<Flags, String> {
        if want.is_cleared() {
            // "No override", and valid: an empty word with the bit clear is "no change" to some BMCs.
            return Ok(Flags([VALID, 0, 0, 0, 0]));
        }
        let device = selector(want.target)
            .ok_or("IPMI has no boot device for UEFI HTTP boot: pxe is the one that starts from the network")?;
        let persistent = if want.lasts == OverrideFor::Persistent { PERSISTENT } else { 0 };
        let efi = match want.mode {
            Some(BootMode::Uefi) => EFI,
            Some(BootMode::Bios) => 0,
            None => now.0[0] & EFI,
        };
        Ok(Flags([VALID | persistent | efi, device << 2, 0, 0, 0]))
    }

    /// As the maker's firmware understands them: Supermicro's starts from its disk in UEFI mode with 0x24, and with the
    /// specification's 0x08 goes on as ever (Ironic's ipmitool.py:166, bmclib PR#209).
    pub fn of_maker(self, maker: Option<&str>) -> Flags {
        let Flags([first, second, rest @ ..]) = self;
        let [c, d, e] = rest;
        match maker {
            Some("Supermicro") if first & EFI != 0 && second == DISK << 2 => {
                Flags([first, SUPERMICRO_DISK << 2, c, d, e])
            }
            _ => self,
        }
    }

    /// The override that they are. Flags whose valid bit is clear are none, whatever else they say. `Err`: a device that
    /// the model has no word for.
    pub fn read(&self) -> Result<BootOverride, String> {
        let [first, second, ..] = self.0;
        let number = (second >> 2) & 0x0F;
        if !self.is_valid() || number == 0 {
            return Ok(BootOverride::CLEARED);
        }
        let target = match number {
            1 => BootTarget::Pxe,
            DISK | 3 | SUPERMICRO_DISK => BootTarget::Disk,
            // 8: a CD that the BMC provides.
            5 | 8 => BootTarget::Cd,
            6 => BootTarget::Setup,
            4 => return Err("diagnostic partition".into()),
            7 | 15 => return Err("floppy".into()),
            11 => return Err("remote disk".into()),
            other => return Err(format!("device {other}")),
        };
        let lasts = if first & PERSISTENT != 0 { OverrideFor::Persistent } else { OverrideFor::Once };
        let mode = if first & EFI != 0 { BootMode::Uefi } else { BootMode::Bios };
        Ok(BootOverride { target, lasts, mode: Some(mode) })
    }

    /// What a BMC with this override shows.
    pub fn shown(value: BootOverride) -> Flags {
        if value.is_cleared() { Flags([0; 5]) } else { Flags::wanted(value, Flags([0; 5])).unwrap_or(Flags([0; 5])) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pxe(lasts: OverrideFor, mode: Option<BootMode>) -> BootOverride {
        BootOverride { target: BootTarget::Pxe, lasts, mode }
    }
    const NOTHING: Flags = Flags([0; 5]);

    #[test]
    fn valid_persistent_and_efi_bits() {
        let bytes = |lasts, mode| Flags::wanted(pxe(lasts, mode), NOTHING).unwrap().0;
        assert_eq!(bytes(OverrideFor::Once, Some(BootMode::Bios)), [0x80, 0x04, 0, 0, 0]);
        assert_eq!(bytes(OverrideFor::Once, Some(BootMode::Uefi)), [0xA0, 0x04, 0, 0, 0]);
        assert_eq!(bytes(OverrideFor::Persistent, Some(BootMode::Uefi)), [0xE0, 0x04, 0, 0, 0]);
        let kept = Flags::wanted(pxe(OverrideFor::Once, None), Flags([0x20, 0, 0, 0, 0])).unwrap();
        assert_eq!(kept.0[0], 0xA0, "a mode that nobody asked for stays as it is");
        assert!(
            Flags::wanted(BootOverride { target: BootTarget::Http, ..pxe(OverrideFor::Once, None) }, NOTHING).is_err()
        );
    }

    #[test]
    fn flags_with_a_clear_valid_bit_are_no_override() {
        assert_eq!(Flags([0x60, 0x04, 0, 0, 0]).read(), Ok(BootOverride::CLEARED));
        assert_eq!(Flags([0x80, 0x00, 0, 0, 0]).read(), Ok(BootOverride::CLEARED));
        assert_eq!(Flags([0xE0, 0x04, 0, 0, 0]).read(), Ok(pxe(OverrideFor::Persistent, Some(BootMode::Uefi))));
        assert_eq!(Flags([0x80, 0x3C, 0, 0, 0]).read(), Err("floppy".into()));
        assert_eq!(read_flags(&[1, 0x85, 0xE0, 4, 0, 0, 0]).map(|f| f.read()), Ok(Ok(BootOverride::CLEARED)));
        assert_eq!(read_flags(&[1, 5, 0xE0]), Err(Short("boot flags")));
    }

    #[test]
    fn supermicros_disk_in_uefi_mode_has_a_selector_of_its_own() {
        let disk = |mode| BootOverride { target: BootTarget::Disk, lasts: OverrideFor::Persistent, mode: Some(mode) };
        let of = |mode, maker| Flags::wanted(disk(mode), NOTHING).unwrap().of_maker(maker);
        assert_eq!(of(BootMode::Uefi, Some("Supermicro")), Flags([0xE0, 0x24, 0, 0, 0]));
        assert_eq!(of(BootMode::Uefi, Some("Supermicro")).read(), Ok(disk(BootMode::Uefi)));
        assert_eq!(of(BootMode::Bios, Some("Supermicro")), Flags([0xC0, 0x08, 0, 0, 0]));
        assert_eq!(of(BootMode::Uefi, Some("Dell")), Flags([0xE0, 0x08, 0, 0, 0]));
        let pxe = Flags::wanted(pxe(OverrideFor::Once, Some(BootMode::Uefi)), NOTHING).unwrap();
        assert_eq!(pxe.of_maker(Some("Supermicro")), pxe);
    }

    #[test]
    fn every_override_is_read_as_written() {
        for target in [BootTarget::Pxe, BootTarget::Disk, BootTarget::Cd, BootTarget::Setup] {
            for lasts in [OverrideFor::Once, OverrideFor::Persistent] {
                for mode in [BootMode::Uefi, BootMode::Bios] {
                    let value = BootOverride { target, lasts, mode: Some(mode) };
                    assert_eq!(Flags::shown(value).read(), Ok(value));
                }
            }
        }
    }
}
