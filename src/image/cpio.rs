//! cpio archives in the `newc` form, which the kernel unpacks as initramfs
//! (Linux: Documentation/driver-api/early-userspace/buffer-format.rst).

use super::tree::{Entry, Kind, Tree};

const MAGIC: &[u8] = b"070701";
const TRAILER: &str = "TRAILER!!!";
/// The size field has 32 bits: a larger file would be cut without a word.
pub const FILE_MAX_BYTES: u64 = u32::MAX as u64;
/// Initrds beyond this do not load on all firmware.
pub const ARCHIVE_MAX_BYTES: u64 = 1 << 30;

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn record(out: &mut Vec<u8>, inode: u32, mode: u32, links: u32, name: &str, data: &[u8]) {
    out.extend_from_slice(MAGIC);
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    let fields = [inode, mode, 0, 0, links, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(data);
    pad(out);
}

/// The whole tree, directories before what is in them.
pub fn write(tree: &Tree) -> Result<Vec<u8>, String> {
    if tree.content_bytes() > ARCHIVE_MAX_BYTES {
        return Err(format!("initramfs of {} bytes: more than {ARCHIVE_MAX_BYTES}", tree.content_bytes()));
    }
    let mut out = Vec::new();
    for (index, (path, entry)) in tree.iter().enumerate() {
        let inode = index as u32 + 1;
        match &entry.kind {
            Kind::Dir => record(&mut out, inode, 0o040_000 | entry.mode, 2, path, &[]),
            Kind::Link(target) => record(&mut out, inode, 0o120_777, 1, path, target.as_bytes()),
            Kind::File(bytes) => {
                if bytes.len() as u64 > FILE_MAX_BYTES {
                    return Err(format!("/{path}: more than {FILE_MAX_BYTES} bytes"));
                }
                record(&mut out, inode, 0o100_000 | entry.mode, 1, path, bytes);
            }
        }
    }
    record(&mut out, 0, 0, 1, TRAILER, &[]);
    Ok(out)
}

/// Reads an archive back.
pub fn read(bytes: &[u8]) -> Result<Tree, String> {
    let mut tree = Tree::default();
    let mut at = 0usize;
    loop {
        let head = bytes.get(at..at + 110).ok_or_else(|| format!("cut at byte {at}"))?;
        if !head.starts_with(MAGIC) {
            return Err(format!("no newc header at byte {at}"));
        }
        let field = |index: usize| -> Result<usize, String> {
            std::str::from_utf8(&head[6 + index * 8..14 + index * 8])
                .ok()
                .and_then(|text| usize::from_str_radix(text, 16).ok())
                .ok_or_else(|| format!("bad field {index} at byte {at}"))
        };
        let (mode, size, name_size) = (field(1)?, field(6)?, field(11)?);
        let name = bytes
            .get(at + 110..at + 110 + name_size)
            .and_then(|name| name.strip_suffix(b"\0"))
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or_else(|| format!("bad name at byte {at}"))?;
        let from = (at + 110 + name_size).next_multiple_of(4);
        let data = bytes.get(from..from + size).ok_or_else(|| format!("{name}: cut"))?;
        at = (from + size).next_multiple_of(4);
        if name == TRAILER {
            return Ok(tree);
        }
        let kind = match mode & 0o170_000 {
            0o040_000 => Kind::Dir,
            0o120_000 => Kind::Link(String::from_utf8_lossy(data).into_owned()),
            0o100_000 => Kind::File(std::sync::Arc::new(data.to_vec())),
            other => return Err(format!("{name}: unexpected type {other:o}")),
        };
        let entry = Entry { mode: mode as u32 & 0o7777, kind };
        tree.put(name, entry.mode, entry.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_aligned() {
        let mut tree = Tree::default();
        tree.file("init", 0o755, *b"12345");
        tree.file("empty", 0o600, Vec::new());
        tree.dir("dev", 0o755);
        tree.link("bin", "usr/bin");
        let bytes = write(&tree).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(read(&bytes).unwrap(), tree);
        assert_eq!(write(&tree).unwrap(), bytes);
        for cut in [0, 50, 109, 113, bytes.len() - 60] {
            assert!(read(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
