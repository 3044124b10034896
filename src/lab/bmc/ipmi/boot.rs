//! The override of the Redfish side as IPMI's boot flags, and back. Pure.

use crate::{
    bmc::{
        ipmi::options::Flags,
        redfish::wire::{EnabledWord, ModeWord},
    },
    lab::bmc::BootState,
    model::{
        fleet::BootMode,
        power::{BootOverride, BootTarget, OverrideFor},
    },
};

/// Of the first byte (IPMI 2.0, table 28-14).
const VALID: u8 = 0x80;

pub fn flags(state: BootState) -> Flags {
    let lasts = match state.enabled {
        EnabledWord::Once => OverrideFor::Once,
        EnabledWord::Continuous => OverrideFor::Persistent,
        EnabledWord::Disabled | EnabledWord::Unknown => OverrideFor::Disabled,
    };
    let mode = if state.mode == ModeWord::Uefi { BootMode::Uefi } else { BootMode::Bios };
    Flags::shown(BootOverride { target: state.target, lasts, mode: Some(mode) })
}

/// `None`: a device that the machine does not have. Its firmware is one: the EFI bit changes nothing.
pub fn state(flags: Flags, now: BootState) -> Option<BootState> {
    let wanted = flags.read().ok()?;
    let (target, enabled) = match wanted.lasts {
        _ if wanted.is_cleared() => (BootTarget::None, EnabledWord::Disabled),
        OverrideFor::Persistent => (wanted.target, EnabledWord::Continuous),
        _ => (wanted.target, EnabledWord::Once),
    };
    Some(BootState { target, enabled, mode: now.mode })
}

/// The flags with their valid bit clear; `None`: they ask for nothing.
pub fn stale(flags: Flags) -> Option<Flags> {
    let Flags([first, rest @ ..]) = flags;
    let asks = flags.read().is_ok_and(|wanted| !wanted.is_cleared());
    let [a, b, c, d] = rest;
    asks.then_some(Flags([first & !VALID, a, b, c, d]))
}

pub fn none(now: BootState) -> BootState {
    BootState { target: BootTarget::None, enabled: EnabledWord::Disabled, mode: now.mode }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let now = BootState { target: BootTarget::None, enabled: EnabledWord::Disabled, mode: ModeWord::Uefi };
        let pxe = state(Flags([0xA0, 0x04, 0, 0, 0]), now).unwrap();
        assert_eq!((pxe.target, pxe.enabled), (BootTarget::Pxe, EnabledWord::Once));
        assert_eq!(flags(pxe), Flags([0xA0, 0x04, 0, 0, 0]));
        let legacy = state(Flags([0xC0, 0x08, 0, 0, 0]), now).unwrap();
        assert_eq!(flags(legacy), Flags([0xE0, 0x08, 0, 0, 0]), "the firmware stays what it is");
        assert_eq!(state(Flags([0x20, 0x04, 0, 0, 0]), pxe).unwrap().enabled, EnabledWord::Disabled);
        assert!(state(Flags([0x80, 0x3C, 0, 0, 0]), now).is_none());
    }
}
