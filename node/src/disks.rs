//! The disks of the machine, from sysfs.

use crate::files;
use crate::prober;
use crate::signatures::Source;
use rackctl_wire::{Content, Disk};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Block devices that are not disks of the machine.
const VIRTUAL: [&str; 8] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd"];
/// Sysfs counts in sectors of 512 bytes, whatever the disk's own are.
const SYSFS_SECTOR: u64 = 512;

struct Device {
    file: File,
    size: u64,
}

impl Source for Device {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let length = length.min(self.size.saturating_sub(offset) as usize);
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }
}

/// Serial in the unit-serial page of SCSI (SPC-4, 7.8.20): four bytes of header.
fn vpd_serial(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text: String = String::from_utf8_lossy(bytes.get(4..)?).trim_matches(['\0', ' ']).to_owned();
    (!text.is_empty()).then_some(text)
}

/// Only names that are unique in the world; `t10.` is vendor, model and serial again.
fn wwn(text: String) -> Option<String> {
    ["naa.", "eui.", "uuid.", "nvme.", "0x"].iter().any(|prefix| text.starts_with(prefix)).then_some(text)
}

/// One disk without its content; `None` for what is no disk, or has no size (an empty card reader).
pub fn identity(block: &Path, name: &str) -> Option<Disk> {
    if VIRTUAL.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let dir = block.join(name);
    let size_bytes = files::line(dir.join("size"))?.parse::<u64>().ok()?.checked_mul(SYSFS_SECTOR)?;
    if size_bytes == 0 {
        return None;
    }
    let clean = |text: String| crate::console::clean(&text);
    Some(Disk {
        name: name.to_owned(),
        serial: files::line(dir.join("serial"))
            .or_else(|| files::line(dir.join("device/serial")))
            .or_else(|| vpd_serial(&dir.join("device/vpd_pg80")))
            .map(clean),
        wwn: files::line(dir.join("wwid")).or_else(|| files::line(dir.join("device/wwid"))).and_then(wwn).map(clean),
        model: files::line(dir.join("device/model")).map(clean),
        size_bytes,
        content: Content::default(),
    })
}

pub fn identities(block: &Path) -> Vec<Disk> {
    let mut names: Vec<String> = std::fs::read_dir(block)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names.iter().filter_map(|name| identity(block, name)).collect()
}

pub fn here() -> Vec<Disk> {
    identities(Path::new("/sys/block"))
}

/// Everything, with content. A disk that cannot be read is reported as not blank.
pub fn examine() -> Vec<Disk> {
    let mut disks = here();
    for disk in &mut disks {
        disk.content = match look(disk) {
            Ok(content) => content,
            Err(error) => {
                crate::console::say(format!("{} cannot be read: {error}", disk.name));
                unreadable()
            }
        };
    }
    disks
}

fn look(disk: &Disk) -> io::Result<Content> {
    let file = File::open(Path::new("/dev").join(&disk.name))?;
    prober::content(&Device { file, size: disk.size_bytes })
}

fn unreadable() -> Content {
    let signature = rackctl_wire::Signature { kind: "unreadable".into(), offset_bytes: 0, label: None, uuid: None };
    Content { signatures: vec![signature], ..Content::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_from_sysfs() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &[u8]| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("vda/size", b"2097152\n");
        put("vda/serial", b"DISK-01");
        put("sda/size", b"100\n");
        put("sda/device/vpd_pg80", b"\0\x80\0\x0cWD-1234     ");
        put("sda/device/wwid", b"naa.5000c500a1b2c3d4\n");
        put("sda/device/model", b"WDC WD40EFRX    \n");
        put("sdb/size", b"0\n");
        put("nvme0n1/size", b"8\n");
        put("nvme0n1/device/serial", b"S4EV  \n");
        put("nvme0n1/wwid", b"eui.0025385b71b0a6c1\n");
        put("loop0/size", b"8\n");
        put("sdc/size", b"8\n");
        put("sdc/device/wwid", b"t10.ATA     QEMU HARDDISK    QM00001\n");
        let found = identities(dir.path());
        let short: Vec<_> =
            found.iter().map(|d| (d.name.as_str(), d.serial.as_deref(), d.wwn.as_deref(), d.size_bytes)).collect();
        assert_eq!(
            short,
            [
                ("nvme0n1", Some("S4EV"), Some("eui.0025385b71b0a6c1"), 4096),
                ("sda", Some("WD-1234"), Some("naa.5000c500a1b2c3d4"), 51_200),
                ("sdc", None, None, 4096),
                ("vda", Some("DISK-01"), None, 1 << 30),
            ]
        );
        assert_eq!(found[1].model.as_deref(), Some("WDC WD40EFRX"));
    }

    #[test]
    fn what_cannot_be_read_is_not_blank() {
        assert!(!unreadable().is_blank());
    }
}
