//! What the firmware says of the machine.

use crate::files;
use rackctl_wire::MachineIds;
use std::path::Path;

/// Values that makers leave in when they have nothing to say.
const EMPTY: [&str; 9] = [
    "not specified",
    "none",
    "n/a",
    "to be filled by o.e.m.",
    "default string",
    "system serial number",
    "0",
    "unknown",
    "not available",
];

fn meant(text: String) -> Option<String> {
    (!EMPTY.contains(&text.to_ascii_lowercase().as_str())).then_some(text)
}

/// `dmi`: `/sys/class/dmi/id`; `net`: `/sys/class/net`.
pub fn read(dmi: &Path, net: &Path) -> MachineIds {
    let get = |name: &str| files::line(dmi.join(name)).and_then(meant);
    let mut macs: Vec<String> = std::fs::read_dir(net)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok())
        // Virtual interfaces have no device behind them.
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| files::line(entry.path().join("address")))
        .collect();
    macs.sort();
    MachineIds {
        uuid: files::line(dmi.join("product_uuid"))
            .and_then(|text| text.parse().ok())
            .filter(|uuid: &uuid::Uuid| !uuid.is_nil() && !uuid.is_max()),
        serial: get("product_serial"),
        board_serial: get("board_serial"),
        sku: get("product_sku"),
        macs,
    }
}

pub fn machine() -> MachineIds {
    read(Path::new("/sys/class/dmi/id"), Path::new("/sys/class/net"))
}

pub fn boot_id() -> String {
    files::line("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

pub fn cores() -> u32 {
    std::thread::available_parallelism().map(|count| count.get() as u32).unwrap_or(1)
}

/// A line of `/proc/meminfo` in bytes.
pub fn memory(key: &str) -> Option<u64> {
    meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?, key)
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_no_serials() {
        let dir = tempfile::tempdir().unwrap();
        let dmi = dir.path().join("dmi");
        std::fs::create_dir_all(&dmi).unwrap();
        std::fs::write(dmi.join("product_uuid"), "4C4C4544-0051-3610-8052-B4C04F4A3132\n").unwrap();
        std::fs::write(dmi.join("product_serial"), "  QX1234 \n").unwrap();
        std::fs::write(dmi.join("board_serial"), "To Be Filled By O.E.M.\n").unwrap();
        let net = dir.path().join("net/eth0");
        std::fs::create_dir_all(net.join("device")).unwrap();
        std::fs::write(net.join("address"), "52:54:00:00:00:01\n").unwrap();
        std::fs::create_dir_all(dir.path().join("net/lo")).unwrap();
        std::fs::write(dir.path().join("net/lo/address"), "00:00:00:00:00:00\n").unwrap();
        let ids = read(&dmi, &dir.path().join("net"));
        assert_eq!(ids.serial.as_deref(), Some("QX1234"));
        assert_eq!(ids.board_serial, None);
        assert_eq!(ids.uuid.unwrap().to_string(), "4c4c4544-0051-3610-8052-b4c04f4a3132");
        assert_eq!(ids.macs, ["52:54:00:00:00:01"]);
    }

    #[test]
    fn meminfo_lines() {
        let text = "MemTotal:         493240 kB\nMemAvailable:     400000 kB\n";
        assert_eq!(meminfo(text, "MemTotal"), Some(493_240 * 1024));
        assert_eq!(meminfo(text, "Mem"), None);
    }
}
