//! The chassis: is it on, and what its power button does (IPMI 2.0, 28.2 and 28.3).

use super::{
    bytes::{Reader, Short},
    message::{Command, Effect, function},
};
use crate::model::power::{PowerAction, PowerState};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChassisStatus {
    pub on: bool,
    /// Shut off because of an overload.
    pub overload: bool,
    pub interlock: bool,
    pub power_fault: bool,
    /// The last power-on was by this protocol.
    pub last_on_by_command: bool,
    pub intrusion: bool,
    pub drive_fault: bool,
    pub cooling_fault: bool,
}

/// Chassis 0x01.
pub fn status() -> Command {
    Command::new(function::CHASSIS, 0x01, "chassis status", Effect::Reads, [])
}

pub fn read_status(data: &[u8]) -> Result<ChassisStatus, Short> {
    let [power, last, misc] = Reader::new(data).array("chassis status")?;
    Ok(ChassisStatus {
        on: power & 0x01 != 0,
        overload: power & 0x02 != 0,
        interlock: power & 0x04 != 0,
        power_fault: power & 0x18 != 0,
        last_on_by_command: last & 0x10 != 0,
        intrusion: misc & 0x01 != 0,
        drive_fault: misc & 0x04 != 0,
        cooling_fault: misc & 0x08 != 0,
    })
}

impl ChassisStatus {
    pub fn encode(&self) -> [u8; 3] {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        [
            bit(self.on, 0x01) | bit(self.overload, 0x02) | bit(self.interlock, 0x04) | bit(self.power_fault, 0x08),
            bit(self.last_on_by_command, 0x10),
            bit(self.intrusion, 0x01) | bit(self.drive_fault, 0x04) | bit(self.cooling_fault, 0x08),
        ]
    }
    pub fn power(&self) -> PowerState {
        if self.on { PowerState::On } else { PowerState::Off }
    }
}

/// Chassis Control (table 28-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    Down,
    Up,
    Cycle,
    HardReset,
    /// A diagnostic interrupt: NMI.
    Diagnostic,
    /// Asks the operating system, as the power button does.
    Soft,
}

impl Control {
    const ALL: [Control; 6] =
        [Control::Down, Control::Up, Control::Cycle, Control::HardReset, Control::Diagnostic, Control::Soft];

    pub fn number(self) -> u8 {
        match self {
            Control::Down => 0,
            Control::Up => 1,
            Control::Cycle => 2,
            Control::HardReset => 3,
            Control::Diagnostic => 4,
            Control::Soft => 5,
        }
    }
    pub fn of(number: u8) -> Option<Control> {
        Control::ALL.into_iter().find(|control| control.number() == number & 0x0F)
    }

    /// IPMI has no word for asking the operating system to restart.
    pub fn for_action(action: PowerAction) -> Option<Control> {
        Some(match action {
            PowerAction::On => Control::Up,
            PowerAction::GracefulShutdown => Control::Soft,
            PowerAction::ForceOff => Control::Down,
            PowerAction::ForceRestart => Control::HardReset,
            PowerAction::PowerCycle => Control::Cycle,
            PowerAction::GracefulRestart => return None,
        })
    }

    /// Chassis 0x02. Up and down arrive as one however often they come; the others happen each time.
    pub fn command(self) -> Command {
        let (effect, name) = match self {
            Control::Down => (Effect::Sets, "chassis power down"),
            Control::Up => (Effect::Sets, "chassis power up"),
            Control::Cycle => (Effect::Acts, "chassis power cycle"),
            Control::HardReset => (Effect::Acts, "chassis hard reset"),
            Control::Diagnostic => (Effect::Acts, "chassis diagnostic interrupt"),
            Control::Soft => (Effect::Acts, "chassis soft shutdown"),
        };
        Command::new(function::CHASSIS, 0x02, name, effect, [self.number()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_as_written() {
        let status = read_status(&[0x61, 0x10, 0x48, 0x00]).unwrap();
        assert!(status.on && status.last_on_by_command && status.cooling_fault && !status.overload);
        assert_eq!(status.encode(), [0x01, 0x10, 0x08]);
        assert_eq!(read_status(&[1, 2]), Err(Short("chassis status")));
    }

    #[test]
    fn what_restarts_a_machine_is_never_sent_twice() {
        for action in [PowerAction::ForceRestart, PowerAction::PowerCycle, PowerAction::GracefulShutdown] {
            assert_eq!(Control::for_action(action).unwrap().command().effect, Effect::Acts);
        }
        assert_eq!(Control::for_action(PowerAction::GracefulRestart), None);
        for control in Control::ALL {
            assert_eq!(Control::of(control.number()), Some(control));
        }
    }
}
