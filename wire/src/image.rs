//! The system bundle: what stands in the object that [`crate::cmdline::SYSTEM`] names.
//!
//! A zstd-compressed tar archive whose first entry is `manifest.json` ([`Manifest`]); the other
//! entries are the parts that it names, in its order. The digest of the bundle is checked before
//! the first byte is written to a disk; the digest of each part is checked again by reading back.

use serde::{Deserialize, Serialize};

pub const MANIFEST_NAME: &str = "manifest.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Manifest {
    pub protocol: u32,
    pub name: String,
    pub arch: String,
    /// First 440 bytes of the disk: the BIOS loader's boot sector. The partition table stays ours.
    pub boot_code: Option<Part>,
    /// In the order in which they stand on the disk. The last one takes the rest of it.
    pub partitions: Vec<PartitionSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PartitionSpec {
    /// GPT name: `bios`, `esp`, `root-a`, `root-b`, `data`.
    pub name: String,
    pub kind: uuid::Uuid,
    /// Where it must begin, when a loader counts on it (LBA of 512 bytes); else aligned to 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_lba: Option<u64>,
    /// Zero: what is left.
    pub size_bytes: u64,
    pub fill: Fill,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Fill {
    /// An entry of the archive, written from the partition's first byte.
    Part(Part),
    /// Zeros at both ends, so that no old signature survives.
    Empty,
    /// A new ext4 with this label, made on the machine.
    Ext4 { label: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Part {
    pub entry: String,
    pub size_bytes: u64,
    pub sha256: String,
}

/// What the images hold where, and what boots them: the agreement between the image code, which
/// writes these files, and the node program, which uses them.
///
/// **First stage** (installer and installed system alike): kernel and an initramfs with the node
/// program as `/init`, kernel modules and [`MODULES`]. No device nodes (devtmpfs), no shell.
///
/// **Second stage** (installer): a zstd tar, to be unpacked into a directory of its own or over `/` of the
/// initramfs; its directories and symlinks (`bin` → `usr/bin`, `lib` → `usr/lib`, …) replace nothing of the first stage.
///
/// **Installed system**: read-only squashfs on `root-a` (later `root-b`), run as [`NODE_PROGRAM`] (also `/usr/bin/rackctl-node`); empty
/// mount points `/dev /proc /sys /run /tmp /var /data /boot`. `/etc/resolv.conf` is a link to `/run/resolv.conf`.
///
/// **Which disk?** GRUB knows the ESP that the firmware started it from, and says its partition GUID
/// in [`ESP`]. The installer makes partition GUIDs from the disk's, so they are unique
/// ([`partition_guid`]): the system disk is the one whose GPT holds that partition. Without the key, or with no
/// such disk, the node program stops and says so; it never takes "some disk with a `root-a`".
///
/// **Slots.** The ESP holds `/slot-a/{vmlinuz,initrd}` and the same for `b`, `/grub/grub.cfg` and
/// `/grub/grubenv` (GRUB environment block, 1024 bytes, see [`grubenv`]): `default_slot` is the good slot (absent: `a`); `try_slot` with
/// `try_left` in 1..=3 is one on trial. GRUB takes one off `try_left` before each trial boot and passes
/// `rackctl.try=1`; with none left, or no kernel there, it boots `default_slot` again. Who finds a trial good
/// writes `default_slot=<it>` and removes the other two.
pub mod layout {
    use uuid::Uuid;

    /// Also `/init` of the first stage.
    pub const NODE_PROGRAM: &str = "/rackctl-node";
    /// Modules to load, in this order: absolute paths in the initramfs, one a line. One that fails is reported, the next is tried.
    pub const MODULES: &str = "/rackctl/modules.txt";
    /// Command line key, `system`: an installed system boots. The installer has [`crate::cmdline::NODE`] instead.
    pub const BOOT: &str = "rackctl.boot";
    /// Command line key: `a` or `b`.
    pub const SLOT: &str = "rackctl.slot";
    /// Command line key: partition GUID (lower case) of the ESP that this boot came from.
    pub const ESP: &str = "rackctl.esp";
    /// Command line key, `1`: the slot is on trial.
    pub const TRY: &str = "rackctl.try";

    /// Needs [`PRIVSEP_DIR`] (root, 0755). The node program gives it its options on the command line; [`SSHD_CONFIG`] says
    /// the same (root by key only) for whoever starts it by hand, with keys at [`HOST_KEY`] and [`AUTHORIZED_KEYS`].
    pub const SSHD: &str = "/usr/sbin/sshd";
    pub const SSHD_CONFIG: &str = "/etc/ssh/sshd_config";
    pub const HOST_KEY: &str = "/run/rackctl/ssh_host_ed25519_key";
    /// Directory 0755, file 0644 or 0600, all root's.
    pub const AUTHORIZED_KEYS: &str = "/run/rackctl/authorized_keys";
    pub const PRIVSEP_DIR: &str = "/run/sshd";
    pub const MKE2FS: &str = "/usr/sbin/mke2fs";
    pub const E2FSCK: &str = "/usr/sbin/e2fsck";
    pub const ETCD: &str = "/usr/bin/etcd";
    pub const ETCDCTL: &str = "/usr/bin/etcdctl";
    /// With its applets linked beside it.
    pub const BUSYBOX: &str = "/usr/bin/busybox";

    /// GUID of a partition of the disk with this GUID.
    pub fn partition_guid(disk: Uuid, name: &str) -> Uuid {
        Uuid::new_v5(&disk, name.as_bytes())
    }

    /// Reads and writes GRUB's environment block.
    pub mod grubenv {
        use std::collections::BTreeMap;

        pub const BYTES: usize = 1024;
        const HEADER: &str = "# GRUB Environment Block\n";

        /// `None` when the values do not fit or hold a line break.
        pub fn render(values: &BTreeMap<String, String>) -> Option<Vec<u8>> {
            let mut text = String::from(HEADER);
            for (key, value) in values {
                if key.contains(['\n', '=']) || value.contains(['\n', '\\']) {
                    return None;
                }
                text.push_str(&format!("{key}={value}\n"));
            }
            let mut bytes = text.into_bytes();
            if bytes.len() > BYTES {
                return None;
            }
            bytes.resize(BYTES, b'#');
            Some(bytes)
        }

        /// `None` when this is no environment block.
        pub fn parse(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
            let body = std::str::from_utf8(bytes).ok()?.strip_prefix(HEADER)?;
            (bytes.len() == BYTES).then(|| {
                body.lines()
                    .filter(|line| !line.starts_with('#'))
                    .filter_map(|line| line.split_once('='))
                    .map(|(key, value)| (key.to_string(), value.to_string()))
                    .collect()
            })
        }
    }
}
