//! Sensor types, units and events in words (IPMI 2.0, tables 42-1 to 42-3 and 43-15).

/// Table 42-3.
pub fn sensor_type(number: u8) -> &'static str {
    const NAMES: [&str; 45] = [
        "reserved",
        "temperature",
        "voltage",
        "current",
        "fan",
        "chassis intrusion",
        "platform security",
        "processor",
        "power supply",
        "power unit",
        "cooling device",
        "other units",
        "memory",
        "drive slot",
        "POST memory resize",
        "system firmware",
        "event log",
        "watchdog 1",
        "system event",
        "critical interrupt",
        "button",
        "module",
        "microcontroller",
        "add-in card",
        "chassis",
        "chip set",
        "other FRU",
        "cable",
        "terminator",
        "system boot",
        "boot error",
        "operating system boot",
        "operating system stop",
        "slot",
        "ACPI power state",
        "watchdog 2",
        "platform alert",
        "entity presence",
        "monitor ASIC",
        "LAN",
        "management subsystem",
        "battery",
        "session audit",
        "version change",
        "FRU state",
    ];
    NAMES.get(usize::from(number)).copied().unwrap_or("OEM")
}

/// Table 43-15; those that machines have.
pub fn unit(number: u8) -> &'static str {
    match number {
        1 => "°C",
        2 => "°F",
        3 => "K",
        4 => "V",
        5 => "A",
        6 => "W",
        7 => "J",
        17 => "cfm",
        18 => "rpm",
        19 => "Hz",
        20 => "µs",
        21 => "ms",
        22 => "s",
        23 => "min",
        24 => "h",
        65 => "bit",
        70 => "byte",
        _ => "",
    }
}

/// Offsets of the threshold type (1) and of the generic discrete ones (table 42-2).
fn generic(kind: u8, offset: u8) -> Option<&'static str> {
    let words: &[&str] = match kind {
        0x01 => &[
            "below lower non-critical",
            "rising above lower non-critical",
            "below lower critical",
            "rising above lower critical",
            "below lower non-recoverable",
            "rising above lower non-recoverable",
            "falling below upper non-critical",
            "above upper non-critical",
            "falling below upper critical",
            "above upper critical",
            "falling below upper non-recoverable",
            "above upper non-recoverable",
        ],
        0x02 => &["idle", "active", "busy"],
        0x03 => &["state deasserted", "state asserted"],
        0x04 => &["predictive failure deasserted", "predictive failure asserted"],
        0x05 => &["limit not exceeded", "limit exceeded"],
        0x06 => &["performance met", "performance lags"],
        0x07 => &[
            "ok",
            "non-critical from ok",
            "critical from less severe",
            "non-recoverable from less severe",
            "non-critical from more severe",
            "critical from non-recoverable",
            "non-recoverable",
            "monitor",
            "informational",
        ],
        0x08 => &["device absent", "device present"],
        0x09 => &["device disabled", "device enabled"],
        0x0A => &[
            "running",
            "in test",
            "power off",
            "on line",
            "off line",
            "off duty",
            "degraded",
            "power save",
            "install error",
        ],
        0x0B => &["fully redundant", "redundancy lost", "redundancy degraded"],
        0x0C => &["D0", "D1", "D2", "D3"],
        _ => return None,
    };
    words.get(usize::from(offset)).copied()
}

/// Offsets of a sensor's own type (0x6F; table 42-3), for the types that logs are full of.
fn specific(sensor: u8, offset: u8) -> Option<&'static str> {
    let words: &[&str] = match sensor {
        0x05 => &[
            "chassis intrusion",
            "drive bay intrusion",
            "card area intrusion",
            "processor area intrusion",
            "LAN leash lost",
        ],
        0x07 => &[
            "IERR",
            "thermal trip",
            "BIST failure",
            "hang in POST",
            "startup failure",
            "configuration error",
            "uncorrectable error",
            "presence detected",
            "disabled",
            "terminator presence",
            "throttled",
            "uncorrectable machine check",
            "correctable machine check",
        ],
        0x08 => &[
            "presence detected",
            "failure",
            "predictive failure",
            "input lost",
            "input lost or out of range",
            "input out of range",
            "configuration error",
        ],
        0x09 => &[
            "power off",
            "power cycle",
            "240 VA power down",
            "interlock power down",
            "AC lost",
            "soft power control failure",
            "failure",
            "predictive failure",
        ],
        0x0C => &[
            "correctable ECC",
            "uncorrectable ECC",
            "parity",
            "scrub failed",
            "device disabled",
            "ECC logging limit reached",
            "presence detected",
            "configuration error",
            "spare",
            "throttled",
            "critical overtemperature",
        ],
        0x0D => &[
            "drive present",
            "drive fault",
            "predictive failure",
            "hot spare",
            "consistency check",
            "in critical array",
            "in failed array",
            "rebuild",
            "rebuild aborted",
        ],
        0x0F => &["firmware error", "firmware hang", "firmware progress"],
        0x10 => &[
            "correctable memory logging disabled",
            "event logging disabled",
            "log cleared",
            "all logging disabled",
            "log full",
            "log almost full",
            "machine check logging disabled",
        ],
        0x12 => &[
            "reconfigured",
            "OEM boot event",
            "undetermined hardware failure",
            "auxiliary log entry",
            "PEF action",
            "clock synchronized",
        ],
        0x13 => &[
            "front panel NMI",
            "bus timeout",
            "I/O channel check NMI",
            "software NMI",
            "PCI PERR",
            "PCI SERR",
            "EISA failsafe timeout",
            "bus correctable",
            "bus uncorrectable",
            "fatal NMI",
            "bus fatal",
            "bus degraded",
        ],
        0x14 => &[
            "power button pressed",
            "sleep button pressed",
            "reset button pressed",
            "FRU latch open",
            "service button pressed",
        ],
        0x1D => &[
            "power up",
            "hard reset",
            "warm reset",
            "PXE boot by user",
            "automatic boot to diagnostics",
            "run-time hard reset",
            "run-time warm reset",
            "system restart",
        ],
        0x1E => &[
            "no bootable media",
            "non-bootable disk",
            "PXE server not found",
            "invalid boot sector",
            "timeout waiting for boot source",
        ],
        0x22 => &[
            "S0",
            "S1",
            "S2",
            "S3",
            "S4",
            "S5",
            "S4/S5",
            "G3",
            "sleeping",
            "G1 sleeping",
            "S5 by override",
            "legacy on",
            "legacy off",
        ],
        0x23 => &["timer expired", "hard reset", "power down", "power cycle"],
        0x29 => &["battery low", "battery failed", "battery present"],
        _ => return None,
    };
    words.get(usize::from(offset)).copied()
}

/// What an event says. `kind` is the event type (7 bits), `offset` the lower half of the first event byte.
pub fn event(sensor: u8, kind: u8, offset: u8) -> String {
    let known = if kind == 0x6F { specific(sensor, offset) } else { generic(kind, offset) };
    known.map_or_else(|| format!("event 0x{kind:02x} offset {offset}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stand_where_they_should() {
        assert_eq!((sensor_type(0x01), sensor_type(0x2C), sensor_type(0xC0)), ("temperature", "FRU state", "OEM"));
        assert_eq!(sensor_type(0x23), "watchdog 2");
        assert_eq!(event(0x01, 0x01, 9), "above upper critical");
        assert_eq!(event(0x10, 0x6F, 2), "log cleared");
        assert_eq!(event(0xC1, 0x6F, 3), "event 0x6f offset 3");
        assert_eq!((unit(1), unit(18), unit(200)), ("°C", "rpm", ""));
    }
}
