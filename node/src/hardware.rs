//! The machine beside its disks, from sysfs and procfs.

use crate::console::{clean, say};
use crate::files;
use crate::net;
use rackctl_wire::{Hardware, Nic};
use std::path::Path;

/// Interfaces of one machine that are told of; the largest have some dozens.
const NICS_MAX: usize = 128;

/// Names of the interfaces that have a device behind them, in order.
fn physical(net: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(net)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names.truncate(NICS_MAX);
    names
}

/// Brings every interface up, without an address: only then does it tell whether it has a carrier. One that cannot be
/// brought up is told as such.
pub fn raise() {
    for name in physical(Path::new("/sys/class/net")) {
        if let Err(error) = net::configure(&name, &[], None) {
            say(format!("{error}"));
        }
    }
}

/// `net`: `/sys/class/net`; `efi`: `/sys/firmware/efi`; `cpuinfo`: text of `/proc/cpuinfo`.
pub fn read(net: &Path, efi: &Path, cpuinfo: &str) -> Hardware {
    let interfaces = physical(net).into_iter().filter_map(|name| nic(net, name)).collect();
    let model = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| clean(value.trim()))
    };
    let cpu = cpuinfo.lines().find_map(model).filter(|text| !text.is_empty());
    Hardware { uefi: efi.exists(), cpu, interfaces }
}

fn nic(net: &Path, name: String) -> Option<Nic> {
    let dir = net.join(&name);
    let mac = files::line(dir.join("address"))?.to_ascii_lowercase();
    let link = match files::line(dir.join("carrier")).as_deref() {
        Some("1") => Some(true),
        Some("0") => Some(false),
        _ => None,
    };
    let driver = std::fs::read_link(dir.join("device/driver")).ok();
    let driver = driver.and_then(|path| Some(clean(path.file_name()?.to_str()?)));
    // -1 and 0 are what drivers say that do not know.
    let speed = files::line(dir.join("speed")).and_then(|text| text.parse::<i64>().ok()).filter(|speed| *speed > 0);
    Some(Nic { name, mac, driver, link, speed_mbps: speed.and_then(|speed| u32::try_from(speed).ok()) })
}

pub fn here() -> Hardware {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    read(Path::new("/sys/class/net"), Path::new("/sys/firmware/efi"), &cpuinfo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_with_a_device_and_what_they_tell() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (name, mac, carrier, speed) in
            [("eth1", "52:54:00:00:00:AB", "0", "-1"), ("eth0", "52:54:00:00:00:01", "1", "10000")]
        {
            std::fs::create_dir_all(dir.path().join("net").join(name).join("device")).unwrap();
            put(&format!("net/{name}/address"), &format!("{mac}\n"));
            put(&format!("net/{name}/carrier"), &format!("{carrier}\n"));
            put(&format!("net/{name}/speed"), &format!("{speed}\n"));
        }
        std::os::unix::fs::symlink("/sys/bus/virtio/drivers/virtio_net", dir.path().join("net/eth0/device/driver"))
            .unwrap();
        put("net/lo/address", "00:00:00:00:00:00\n");
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nprocessor\t: 1\nmodel name\t: Another\n";
        let seen = read(&dir.path().join("net"), &dir.path().join("efi"), text);
        assert_eq!((seen.uefi, seen.cpu.as_deref()), (false, Some("Some CPU @ 2.0GHz")));
        let short: Vec<_> =
            seen.interfaces.iter().map(|n| (n.name.as_str(), n.mac.as_str(), n.link, n.speed_mbps)).collect();
        assert_eq!(
            short,
            [("eth0", "52:54:00:00:00:01", Some(true), Some(10_000)), ("eth1", "52:54:00:00:00:ab", Some(false), None)]
        );
        assert_eq!(seen.interfaces[0].driver.as_deref(), Some("virtio_net"));
        std::fs::create_dir(dir.path().join("efi")).unwrap();
        assert!(read(&dir.path().join("net"), &dir.path().join("efi"), "").uefi);
    }
}
