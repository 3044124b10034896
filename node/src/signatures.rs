//! What a disk or partition bears, by the marks at known places (those that libblkid knows, too).

use rackctl_wire::Signature;
use std::io;

/// Reads from a disk; fewer bytes only at its end.
pub trait Source {
    fn size(&self) -> u64;
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
}

/// A mark at a fixed place, with the places of label and UUID, if it has them.
struct Mark {
    kind: &'static str,
    at: u64,
    bytes: &'static [u8],
    label: Option<(u64, usize)>,
    uuid: Option<u64>,
}

const fn mark(kind: &'static str, at: u64, bytes: &'static [u8]) -> Mark {
    Mark { kind, at, bytes, label: None, uuid: None }
}

const fn named(kind: &'static str, at: u64, bytes: &'static [u8], label: (u64, usize), uuid: u64) -> Mark {
    Mark { kind, at, bytes, label: Some(label), uuid: Some(uuid) }
}

const fn swap(at: u64, bytes: &'static [u8]) -> Mark {
    named("swap", at, bytes, (0x41c, 16), 0x40c)
}

const MARKS: &[Mark] = &[
    named("xfs", 0, b"XFSB", (0x6c, 12), 0x20),
    named("btrfs", 0x1_0040, b"_BHRfS_M", (0x1_012b, 256), 0x1_0020),
    mark("squashfs", 0, b"hsqs"),
    mark("squashfs", 0, b"sqsh"),
    mark("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    mark("cramfs", 0, &[0x45, 0x3d, 0xcd, 0x28]),
    mark("luks", 0, b"LUKS\xba\xbe"),
    mark("luks", 0x4000, b"SKUL\xba\xbe"),
    mark("bitlocker", 3, b"-FVE-FS-"),
    mark("ntfs", 3, b"NTFS    "),
    mark("exfat", 3, b"EXFAT   "),
    named("mdraid", 0, &[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0], (32, 32), 16),
    named("mdraid", 4096, &[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0], (4096 + 32, 32), 4096 + 16),
    swap(4096 - 10, b"SWAPSPACE2"),
    swap(4096 - 10, b"SWAP-SPACE"),
    swap(8192 - 10, b"SWAPSPACE2"),
    swap(16384 - 10, b"SWAPSPACE2"),
    swap(65536 - 10, b"SWAPSPACE2"),
    named(
        "bcachefs",
        4096 + 24,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        (4096 + 72, 32),
        4096 + 56,
    ),
    mark("bcache", 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    Mark { kind: "iso9660", at: 0x8001, bytes: b"CD001", label: Some((0x8028, 32)), uuid: None },
    mark("udf", 0x8001, b"BEA01"),
    named("f2fs", 1024, &[0x10, 0x20, 0xf5, 0xf2], (0, 0), 1024 + 108),
    mark("nilfs2", 1024 + 6, &[0x34, 0x34, 0x02]),
    mark("reiserfs", 0x1_0034, b"ReIsEr"),
    mark("jfs", 0x8000, b"JFS1"),
    mark("apfs", 32, b"NXSB"),
    mark("hfsplus", 1024, b"H+\0\x04"),
    mark("hfsplus", 1024, b"HX\0\x05"),
    mark("gfs2", 0x1_0000, &[0x01, 0x16, 0x19, 0x70]),
    mark("ocfs2", 0x2000, b"OCFSV2"),
    mark("vmfs", 0x10_0000, &[0x0d, 0xd0, 0x01, 0xc0]),
    mark("bluestore", 0, b"bluestore block device"),
    mark("vdo", 0, b"dmvdo001"),
];

/// Farthest byte that any of the marks above needs from the start.
const HEAD_BYTES: usize = 0x1_0400;
const ZFS_MAGIC: u64 = 0x00ba_b10c;
const ZFS_LABEL_BYTES: u64 = 256 << 10;
const MD_MAGIC: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = crate::console::clean(String::from_utf8_lossy(&bytes[..end]).trim_end());
    (!text.is_empty()).then_some(text)
}

fn uuid(bytes: Option<&[u8]>) -> Option<String> {
    let uuid = uuid::Uuid::from_slice(bytes?).ok()?;
    (!uuid.is_nil()).then(|| uuid.to_string())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map(u32::from_le_bytes)
}

/// Everything that is recognised in the `size` bytes from `base` on. Offsets of the result count
/// from the start of the disk and name where the area begins, or where the mark is for those at the end.
pub fn probe(source: &dyn Source, base: u64, size: u64) -> io::Result<Vec<Signature>> {
    let size = size.min(source.size().saturating_sub(base));
    let mut found = Vec::new();
    let mut add = |kind: &str, offset_bytes: u64, label: Option<String>, uuid: Option<String>| {
        let signature = Signature { kind: kind.to_owned(), offset_bytes, label, uuid };
        if !found.iter().any(|known: &Signature| known.kind == kind && known.offset_bytes == offset_bytes) {
            found.push(signature);
        }
    };
    let read = |at: u64, length: usize| -> io::Result<Vec<u8>> {
        if at >= size {
            return Ok(Vec::new());
        }
        source.read(base + at, length.min((size - at) as usize))
    };
    let head = read(0, HEAD_BYTES)?;
    for mark in MARKS {
        let far;
        let bytes = if mark.at as usize + mark.bytes.len() <= HEAD_BYTES {
            head.get(mark.at as usize..).unwrap_or_default()
        } else {
            far = read(mark.at, mark.bytes.len())?;
            &far
        };
        if bytes.starts_with(mark.bytes) {
            let label = mark.label.and_then(|(at, length)| text(head.get(at as usize..at as usize + length)?));
            add(mark.kind, base, label, mark.uuid.and_then(|at| uuid(head.get(at as usize..at as usize + 16))));
        }
    }
    if head.get(0x438..0x43a) == Some(&[0x53, 0xef]) {
        // Extents, 64-bit and the like are ext4's; a journal without them is ext3's.
        let incompat = u32_at(&head, 0x460).unwrap_or(0);
        let kind = match (incompat & 0x02c0 != 0, u32_at(&head, 0x45c).unwrap_or(0) & 4 != 0) {
            (true, _) => "ext4",
            (false, true) => "ext3",
            (false, false) => "ext2",
        };
        add(kind, base, head.get(0x478..0x488).and_then(text), uuid(head.get(0x468..0x478)));
    }
    if head.get(510..512) == Some(&[0x55, 0xaa]) {
        if head.get(0x52..0x5a) == Some(b"FAT32   ") {
            add("vfat", base, head.get(0x47..0x52).and_then(text), None);
        } else if [b"FAT12   ", b"FAT16   ", b"FAT     "].iter().any(|mark| head.get(0x36..0x3e) == Some(&mark[..])) {
            add("vfat", base, head.get(0x2b..0x36).and_then(text), None);
        }
    }
    for sector in 0..4usize {
        let label = head.get(sector * 512..(sector + 1) * 512).unwrap_or_default();
        if label.starts_with(b"LABELONE") && label.get(24..32) == Some(b"LVM2 001") {
            add("lvm2", base, None, label.get(32..64).and_then(text));
        }
    }
    for (kind, at, label, id) in tail_marks(&read, size)? {
        add(kind, base + at, label, id);
    }
    Ok(found)
}

type TailMark = (&'static str, u64, Option<String>, Option<String>);

/// RAID and ZFS keep their marks (also) at the end.
fn tail_marks(read: &dyn Fn(u64, usize) -> io::Result<Vec<u8>>, size: u64) -> io::Result<Vec<TailMark>> {
    let mut found = Vec::new();
    let sectors = size / 512;
    if sectors > 16 {
        // Metadata 1.0: 8 KiB from the end, on a 4 KiB boundary.
        let at = ((sectors - 16) & !7) * 512;
        let block = read(at, 256)?;
        if block.starts_with(&MD_MAGIC) && block.get(4..8) == Some(&[1, 0, 0, 0]) {
            found.push(("mdraid", at, block.get(32..64).and_then(text), uuid(block.get(16..32))));
        }
    }
    if size >= 128 << 10 {
        // Metadata 0.90: the last whole 64 KiB; in the byte order of the machine that made it.
        let at = (size & !0xffff) - 0x1_0000;
        let block = read(at, 8)?;
        let swapped: Vec<u8> = MD_MAGIC.iter().rev().copied().collect();
        if block.starts_with(&MD_MAGIC) || block.starts_with(&swapped) {
            found.push(("mdraid", at, None, None));
        }
    }
    for (kind, back, mark) in [
        ("isw-raid", 1024u64, b"Intel Raid ISM Cfg Sig. ".as_slice()),
        ("ddf-raid", 512, &[0xde, 0x11, 0xde, 0x11]),
        ("ddf-raid", 512, &[0x11, 0xde, 0x11, 0xde]),
    ] {
        if size > back && read(size / 512 * 512 - back, mark.len())?.starts_with(mark) {
            found.push((kind, size / 512 * 512 - back, None, None));
        }
    }
    // ZFS: four labels, each with an array of uberblocks in its second half.
    let aligned = size / ZFS_LABEL_BYTES * ZFS_LABEL_BYTES;
    if aligned >= 4 * ZFS_LABEL_BYTES {
        for label in [0, ZFS_LABEL_BYTES, aligned - 2 * ZFS_LABEL_BYTES, aligned - ZFS_LABEL_BYTES] {
            let blocks = read(label + ZFS_LABEL_BYTES / 2, (ZFS_LABEL_BYTES / 2) as usize)?;
            let hit = blocks.chunks_exact(1024).any(|block| {
                block.starts_with(&ZFS_MAGIC.to_le_bytes()) || block.starts_with(&ZFS_MAGIC.to_be_bytes())
            });
            if hit {
                found.push(("zfs", label, None, None));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::process::Command;

    pub struct Image(pub std::fs::File);

    impl Source for Image {
        fn size(&self) -> u64 {
            self.0.metadata().unwrap().len()
        }

        fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
            let mut buffer = vec![0; length];
            let mut done = 0;
            while done < length {
                match self.0.read_at(&mut buffer[done..], offset + done as u64)? {
                    0 => break,
                    more => done += more,
                }
            }
            buffer.truncate(done);
            Ok(buffer)
        }
    }

    pub fn sparse(dir: &Path, size: u64) -> (std::path::PathBuf, Image) {
        let path = dir.join("image");
        let file = std::fs::OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        file.set_len(size).unwrap();
        (path, Image(file))
    }

    /// Runs a tool that makes a file system; false (loudly) where it is not installed.
    /// The image stands where `@` is among the arguments, or last.
    pub fn tool(name: &str, arguments: &[&str], image: &Path) -> bool {
        let image = image.to_str().unwrap();
        let mut arguments: Vec<&str> = arguments.iter().map(|word| if *word == "@" { image } else { word }).collect();
        if !arguments.contains(&image) {
            arguments.push(image);
        }
        for folder in ["/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
            let path = format!("{folder}/{name}");
            if Path::new(&path).exists() {
                let output = Command::new(path).args(&arguments).output().unwrap();
                assert!(output.status.success(), "{name}: {output:?}");
                return true;
            }
        }
        eprintln!("SKIPPED: {name} is not installed");
        false
    }

    #[test]
    fn real_file_systems() {
        let cases: &[(&str, &str, &[&str], Option<&str>)] = &[
            ("ext4", "mke2fs", &["-q", "-F", "-t", "ext4", "-L", "alpha"], Some("alpha")),
            ("ext3", "mke2fs", &["-q", "-F", "-t", "ext3", "-L", "beta"], Some("beta")),
            ("ext2", "mke2fs", &["-q", "-F", "-t", "ext2"], None),
            ("swap", "mkswap", &["-q", "-L", "gamma"], Some("gamma")),
            ("vfat", "mkfs.vfat", &["-F", "32", "-n", "DELTA"], Some("DELTA")),
            ("vfat", "mkfs.vfat", &["-F", "16", "-n", "EPS"], Some("EPS")),
            ("xfs", "mkfs.xfs", &["-q", "-f", "-L", "zeta"], Some("zeta")),
            ("btrfs", "mkfs.btrfs", &["-q", "-f", "-L", "eta"], Some("eta")),
        ];
        for (kind, name, arguments, label) in cases {
            let dir = tempfile::tempdir().unwrap();
            let (path, image) = sparse(dir.path(), 512 << 20);
            if tool(name, arguments, &path) {
                let found = probe(&image, 0, image.size()).unwrap();
                assert_eq!(found.len(), 1, "{kind}: {found:?}");
                assert_eq!((found[0].kind.as_str(), found[0].label.as_deref()), (*kind, *label));
                assert_eq!(found[0].uuid.is_some(), *kind != "vfat", "{kind}");
            }
        }
    }

    #[test]
    fn marks_at_their_places() {
        let size = 64u64 << 20;
        let cases: &[(&str, u64, &[u8])] = &[
            ("zfs", size - (512 << 10) + (128 << 10) + 7 * 1024, &ZFS_MAGIC.to_le_bytes()),
            ("mdraid", size - 8192, &[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]),
            ("mdraid", size - 65536, &[0xa9, 0x2b, 0x4e, 0xfc]),
            ("mdraid", 4096, &[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]),
            ("isw-raid", size - 1024, b"Intel Raid ISM Cfg Sig. "),
            ("ddf-raid", size - 512, &[0xde, 0x11, 0xde, 0x11]),
            ("vmfs", 0x10_0000, &[0x0d, 0xd0, 0x01, 0xc0]),
            ("luks", 0, b"LUKS\xba\xbe\0\x02"),
            ("iso9660", 0x8001, b"CD001"),
            ("bcachefs", 4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
        ];
        for (kind, at, bytes) in cases {
            for base in [0u64, 1 << 20] {
                let dir = tempfile::tempdir().unwrap();
                let (_, image) = sparse(dir.path(), size + 2 * base);
                image.0.write_all_at(bytes, base + at).unwrap();
                let found = probe(&image, base, size).unwrap();
                assert_eq!(found.iter().map(|s| s.kind.as_str()).collect::<Vec<_>>(), [*kind], "base {base}");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let (_, image) = sparse(dir.path(), size);
        let mut label = [0u8; 64];
        label[..8].copy_from_slice(b"LABELONE");
        label[24..32].copy_from_slice(b"LVM2 001");
        label[32..].fill(b'x');
        image.0.write_all_at(&label, 512).unwrap();
        let found = probe(&image, 0, size).unwrap();
        assert_eq!((found[0].kind.as_str(), found[0].uuid.as_deref().map(str::len)), ("lvm2", Some(32)));
    }

    #[test]
    fn small_and_empty_areas() {
        for size in [0u64, 1, 511, 512, 4096, 8192, 65536, 131072] {
            let dir = tempfile::tempdir().unwrap();
            let (_, image) = sparse(dir.path(), size);
            assert_eq!(probe(&image, 0, size).unwrap(), []);
            assert_eq!(probe(&image, 4096, size).unwrap(), []);
        }
    }
}
