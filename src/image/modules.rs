//! Kernel modules of the first stage: which, and in which order.
//!
//! A kernel package has no `modules.dep` (depmod makes it on the installed machine), so the
//! dependencies come from where depmod takes them: each module's `.modinfo` section.

use std::collections::{BTreeMap, BTreeSet};

use super::elf;
use super::tree::{Kind, Tree};

/// What machines need to reach their network and disks, in loading order. One that the kernel has
/// neither as a module nor built in is left out: kernels for clouds lack SATA, say.
pub const WANTED: [&str; 16] = [
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio_rng",
    "nvme",
    "ahci",
    "sd_mod",
    "ext4",
    "squashfs",
    "loop",
    "overlay",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "vfat",
];

/// Storage and network of servers, for images that name a kernel of their own (`linux-image-amd64`).
/// Kernels for clouds have a few of these too, and no machine that needs them.
pub const HARDWARE: [&str; 22] = [
    "megaraid_sas",
    "mpt3sas",
    "smartpqi",
    "hpsa",
    "aacraid",
    "mptsas",
    "ata_piix",
    "usb_storage",
    "uas",
    "xhci_pci",
    "e1000",
    "e1000e",
    "igb",
    "igc",
    "ixgbe",
    "i40e",
    "ice",
    "tg3",
    "bnxt_en",
    "r8169",
    "mlx4_en",
    "mlx5_core",
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub depends: Vec<String>,
    /// `softdep=pre: a b`: loaded first where they exist.
    pub before: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Paths of the kernel package, in loading order: each after what it depends on.
    pub paths: Vec<String>,
    /// Wanted ones that this kernel has built in.
    pub built_in: Vec<String>,
    /// Wanted ones that this kernel does not have.
    pub absent: Vec<String>,
}

/// Modules are written with `-` in file names and `_` elsewhere.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    file.strip_suffix(".ko").map(|stem| stem.replace('-', "_"))
}

/// Reads `key=value` strings separated by NULs.
pub fn info(module: &[u8]) -> Result<Info, String> {
    let section = elf::section(module, ".modinfo")?.ok_or("no .modinfo section: no kernel module")?;
    let mut info = Info::default();
    for field in section.split(|b| *b == 0) {
        let field = String::from_utf8_lossy(field);
        if let Some(list) = field.strip_prefix("depends=") {
            info.depends.extend(list.split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")));
        } else if let Some(list) = field.strip_prefix("softdep=pre:") {
            let list = list.split("post:").next().unwrap_or_default();
            info.before.extend(list.split_whitespace().map(|n| n.replace('-', "_")));
        }
    }
    Ok(info)
}

/// The wanted modules of an unpacked kernel package with all that they depend on.
pub fn choose(kernel: &Tree, wanted: &[&str]) -> Result<Chosen, String> {
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    let mut built_in: BTreeSet<String> = BTreeSet::new();
    for (path, entry) in kernel.iter().filter(|(path, _)| path.starts_with("usr/lib/modules/")) {
        let Kind::File(bytes) = &entry.kind else { continue };
        if let Some(name) = name_of(path) {
            paths.insert(name, path.to_string());
        } else if path.ends_with("/modules.builtin") {
            built_in.extend(String::from_utf8_lossy(bytes).lines().filter_map(name_of));
        }
    }
    let mut chosen = Chosen { paths: Vec::new(), built_in: Vec::new(), absent: Vec::new() };
    for name in wanted {
        if paths.contains_key(*name) {
            visit(name, kernel, &paths, &built_in, &mut chosen.paths, &mut Vec::new())?;
        } else if built_in.contains(*name) {
            chosen.built_in.push(name.to_string());
        } else {
            chosen.absent.push(name.to_string());
        }
    }
    Ok(chosen)
}

fn visit(
    name: &str,
    kernel: &Tree,
    paths: &BTreeMap<String, String>,
    built_in: &BTreeSet<String>,
    out: &mut Vec<String>,
    above: &mut Vec<String>,
) -> Result<(), String> {
    let Some(path) = paths.get(name) else {
        return if built_in.contains(name) {
            Ok(())
        } else {
            Err(format!("module {name}, which {} needs, is not in the kernel package", above.join(" → ")))
        };
    };
    if out.contains(path) {
        return Ok(());
    }
    if above.iter().any(|n| n == name) {
        return Err(format!("modules depend on each other: {} → {name}", above.join(" → ")));
    }
    above.push(name.to_string());
    let bytes = kernel.bytes(path).ok_or_else(|| format!("{path} is no file"))?;
    let info = info(&bytes).map_err(|why| format!("{path}: {why}"))?;
    for other in info.before.iter().filter(|n| paths.contains_key(*n)) {
        visit(other, kernel, paths, built_in, out, above)?;
    }
    for other in &info.depends {
        visit(other, kernel, paths, built_in, out, above)?;
    }
    above.pop();
    out.push(path.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest ELF with a `.modinfo`: header, section contents, names, three section headers.
    fn module(modinfo: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut bytes = vec![0u8; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let info_at = bytes.len() as u64;
        bytes.extend_from_slice(modinfo);
        let names_at = bytes.len() as u64;
        bytes.extend_from_slice(names);
        let table = bytes.len() as u64;
        for (label, at, length) in
            [(0u32, 0, 0), (1, info_at, modinfo.len() as u64), (10, names_at, names.len() as u64)]
        {
            let mut header = [0u8; 64];
            header[..4].copy_from_slice(&label.to_le_bytes());
            header[24..32].copy_from_slice(&at.to_le_bytes());
            header[32..40].copy_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&header);
        }
        bytes[40..48].copy_from_slice(&table.to_le_bytes());
        bytes[58..60].copy_from_slice(&64u16.to_le_bytes());
        bytes[60..62].copy_from_slice(&3u16.to_le_bytes());
        bytes[62..64].copy_from_slice(&2u16.to_le_bytes());
        bytes
    }

    fn kernel(modules: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (name, info) in modules {
            tree.file(&format!("usr/lib/modules/6.1/kernel/{name}.ko"), 0o644, module(info.as_bytes()));
        }
        tree.file("usr/lib/modules/6.1/modules.builtin", 0o644, *b"kernel/fs/ext4/ext4.ko\nkernel/x/crc-base.ko\n");
        tree
    }

    #[test]
    fn each_module_comes_after_what_it_needs_and_once() {
        let kernel = kernel(&[
            ("virtio-blk", "license=GPL\0depends=virtio,virtio_ring\0"),
            ("virtio_net", "depends=virtio_ring,crc-base\0softdep=pre: soft gone post: later\0"),
            ("virtio", "depends=\0"),
            ("virtio_ring", "depends=virtio\0"),
            ("soft", "depends=\0"),
        ]);
        let chosen = choose(&kernel, &["virtio_blk", "virtio_net", "ext4", "ahci"]).unwrap();
        let names: Vec<_> = chosen.paths.iter().filter_map(|p| name_of(p)).collect();
        assert_eq!(names, ["virtio", "virtio_ring", "virtio_blk", "soft", "virtio_net"]);
        assert_eq!(chosen.built_in, ["ext4"]);
        assert_eq!(chosen.absent, ["ahci"]);
    }

    #[test]
    fn a_missing_dependency_and_a_circle_are_named() {
        let message = choose(&kernel(&[("a", "depends=b\0"), ("b", "depends=c\0")]), &["a"]).unwrap_err();
        assert!(message.contains("module c") && message.contains("a → b"), "{message}");
        let message = choose(&kernel(&[("a", "depends=b\0"), ("b", "depends=a\0")]), &["a"]).unwrap_err();
        assert!(message.contains("a → b → a"), "{message}");
    }
}
