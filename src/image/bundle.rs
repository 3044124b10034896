//! The system bundle: disk layout and parts, as the node program writes them ([`rackctl_wire::image`]).

use rackctl_wire::gpt;
use rackctl_wire::image::layout::grubenv;
use rackctl_wire::image::{Fill, MANIFEST_NAME, Manifest, Part, PartitionSpec};

use super::exec::sha256_hex;
use super::tree::Tree;
use super::{archive, esp, grub, squash};

/// Room for one root; the second slot has the same.
pub const ROOT_BYTES: u64 = 256 << 20;
/// Parts are compressed already; this packs the rest of the ESP.
const LEVEL: i32 = 3;

const BOOT_CODE: &str = "boot.img";
const CORE: &str = "core.img";
const ESP: &str = "esp.img";
const ROOT: &str = "root.squashfs";

pub struct Parts<'a> {
    pub name: &'a str,
    pub arch: &'a str,
    /// `None` for an architecture without BIOS.
    pub bios: Option<Bios>,
    pub efi_program: &'a [u8],
    pub efi_path: &'a str,
    pub kernel: &'a [u8],
    pub initrd: &'a [u8],
    pub root: &'a Tree,
}

pub struct Bios {
    pub boot_code: Vec<u8>,
    pub core: Vec<u8>,
}

fn part(entry: &str, bytes: &[u8]) -> Part {
    Part { entry: entry.to_string(), size_bytes: bytes.len() as u64, sha256: sha256_hex(bytes) }
}

fn spec(name: &str, kind: uuid::Uuid, first_lba: Option<u64>, size_bytes: u64, fill: Fill) -> PartitionSpec {
    PartitionSpec { name: name.to_string(), kind, first_lba, size_bytes, fill }
}

fn esp_tree(parts: &Parts) -> Result<Tree, String> {
    let values =
        [("default_slot", "a"), ("try_left", "0"), ("try_slot", "")].map(|(k, v)| (k.to_string(), v.to_string()));
    let environment = grubenv::render(&values.into()).ok_or("environment block does not fit")?;
    let mut tree = Tree::default();
    tree.file(parts.efi_path, 0o644, parts.efi_program);
    tree.file("grub/grub.cfg", 0o644, grub::config());
    tree.file("grub/grubenv", 0o644, environment);
    tree.file("slot-a/initrd", 0o644, parts.initrd);
    tree.file("slot-a/vmlinuz", 0o644, parts.kernel);
    tree.dir("slot-b", 0o755);
    Ok(tree)
}

/// The bundle, and the sizes of its parts.
pub fn write(parts: &Parts) -> Result<(Vec<u8>, Manifest), String> {
    let esp = esp::write(&esp_tree(parts)?)?;
    let root = squash::write(parts.root)?;
    if root.len() as u64 > ROOT_BYTES {
        return Err(format!("the root has {} bytes, its slot {ROOT_BYTES}", root.len()));
    }
    let mut partitions = Vec::new();
    if let Some(bios) = &parts.bios {
        let fill = Fill::Part(part(CORE, &bios.core));
        partitions.push(spec("bios", gpt::TYPE_BIOS_BOOT, Some(grub::CORE_LBA), grub::CORE_MAX_BYTES, fill));
    }
    partitions.extend([
        spec("esp", gpt::TYPE_ESP, None, esp::SIZE_BYTES, Fill::Part(part(ESP, &esp))),
        spec("root-a", gpt::TYPE_LINUX, None, ROOT_BYTES, Fill::Part(part(ROOT, &root))),
        spec("root-b", gpt::TYPE_LINUX, None, ROOT_BYTES, Fill::Empty),
        spec("data", gpt::TYPE_LINUX, None, 0, Fill::Ext4 { label: "data".to_string() }),
    ]);
    let manifest = Manifest {
        protocol: rackctl_wire::PROTOCOL,
        name: parts.name.to_string(),
        arch: parts.arch.to_string(),
        boot_code: parts.bios.as_ref().map(|bios| part(BOOT_CODE, &bios.boot_code)),
        partitions,
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| format!("manifest: {e}"))?;
    let mut entries: Vec<(&str, &[u8])> = vec![(MANIFEST_NAME, &text)];
    if let Some(bios) = &parts.bios {
        entries.extend([(BOOT_CODE, bios.boot_code.as_slice()), (CORE, bios.core.as_slice())]);
    }
    entries.extend([(ESP, esp.as_slice()), (ROOT, root.as_slice())]);
    let bundle = archive::compress(&archive::write_parts(&entries)?, LEVEL)?;
    check(&bundle, &manifest, parts)?;
    Ok((bundle, manifest))
}

/// Opens the bundle again: manifest first, every part as the manifest says, ESP and root as they were meant.
fn check(bundle: &[u8], manifest: &Manifest, parts: &Parts) -> Result<(), String> {
    let entries = archive::read_parts(&archive::decompress(bundle)?)?;
    let mut entries = entries.into_iter();
    let (name, text) = entries.next().ok_or("empty bundle")?;
    let read: Manifest = serde_json::from_slice(&text).map_err(|e| format!("{name}: {e}"))?;
    if name != MANIFEST_NAME || read != *manifest {
        return Err(format!("bundle begins with {name}, which is not its manifest"));
    }
    let fills = read.partitions.iter().filter_map(|p| match &p.fill {
        Fill::Part(part) => Some((part, p.size_bytes)),
        _ => None,
    });
    let boot = read.boot_code.iter().map(|part| (part, grub::BOOT_CODE_BYTES as u64));
    for (part, room) in boot.chain(fills) {
        let (name, bytes) = entries.next().ok_or_else(|| format!("{} is not in the bundle", part.entry))?;
        if name != part.entry || bytes.len() as u64 != part.size_bytes || sha256_hex(&bytes) != part.sha256 {
            return Err(format!("{name} in the bundle is not the {} of its manifest", part.entry));
        }
        if part.size_bytes > room {
            return Err(format!("{name} has {} bytes, its place {room}", part.size_bytes));
        }
        let wrong = match name.as_str() {
            ESP => esp::read(&bytes)? != esp_tree(parts)?,
            ROOT => squash::read(&bytes)? != *parts.root,
            _ => false,
        };
        if wrong {
            return Err(format!("{name} does not read back as what was written"));
        }
    }
    match entries.next() {
        None => Ok(()),
        Some((name, _)) => Err(format!("{name} in the bundle is not in its manifest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_reads_back_and_a_changed_one_does_not() {
        let mut root = Tree::default();
        root.file("rackctl-node", 0o755, vec![3; 5000]);
        let parts = Parts {
            name: "test",
            arch: "amd64",
            bios: Some(Bios { boot_code: vec![1; 440], core: vec![2; 1024] }),
            efi_program: b"MZ",
            efi_path: "EFI/BOOT/BOOTX64.EFI",
            kernel: &[4; 9000],
            initrd: &[5; 512],
            root: &root,
        };
        let (bundle, manifest) = write(&parts).unwrap();
        assert_eq!(write(&parts).unwrap().0, bundle);
        let names: Vec<_> = manifest.partitions.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["bios", "esp", "root-a", "root-b", "data"]);
        assert_eq!(names.iter().position(|n| *n == "esp"), Some(grub::ESP_NUMBER as usize - 1));
        let mut other = manifest.clone();
        other.arch = "arm64".into();
        assert!(check(&bundle, &other, &parts).is_err());
        root_differs(&bundle, &manifest, &parts);
    }

    fn root_differs(bundle: &[u8], manifest: &Manifest, parts: &Parts) {
        let mut root = parts.root.clone();
        root.file("more", 0o644, *b"x");
        let changed = Parts { root: &root, bios: None, ..*parts };
        assert!(check(bundle, manifest, &changed).unwrap_err().contains("root.squashfs"));
    }
}
