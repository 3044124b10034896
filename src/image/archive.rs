//! Tar archives, compressed with zstd, written and read: the second stage and the system bundle.

use std::io::{Cursor, Read};

use super::tree::{Entry, Kind, Tree, clean_path};

/// Largest content of one archive that is read.
pub const CONTENT_MAX_BYTES: u64 = 2 << 30;

fn io(what: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |e| format!("{what}: {e}")
}

pub fn compress(bytes: &[u8], level: i32) -> Result<Vec<u8>, String> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).map_err(io("zstd"))?;
    encoder.include_checksum(true).and_then(|()| encoder.include_contentsize(true)).map_err(io("zstd"))?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64)).map_err(io("zstd"))?;
    std::io::copy(&mut Cursor::new(bytes), &mut encoder).map_err(io("zstd"))?;
    encoder.finish().map_err(io("zstd"))
}

/// Reads one zstd frame; what follows it (padding) is left alone.
pub fn decompress(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let decoder = zstd::Decoder::with_buffer(Cursor::new(bytes)).map_err(io("zstd"))?.single_frame();
    let mut out = Vec::new();
    decoder.take(CONTENT_MAX_BYTES + 1).read_to_end(&mut out).map_err(io("zstd"))?;
    if out.len() as u64 > CONTENT_MAX_BYTES {
        return Err(format!("more than {CONTENT_MAX_BYTES} bytes in an archive"));
    }
    Ok(out)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// A tree as a tar archive: sorted, root's, without times.
pub fn write_tree(tree: &Tree) -> Result<Vec<u8>, String> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, entry) in tree.iter() {
        match &entry.kind {
            Kind::Dir => {
                let path = format!("{path}/");
                tar.append_data(&mut header(tar::EntryType::Directory, entry.mode, 0), &path, std::io::empty())
            }
            Kind::Link(target) => tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, target),
            Kind::File(bytes) => {
                let mut header = header(tar::EntryType::Regular, entry.mode, bytes.len() as u64);
                tar.append_data(&mut header, path, bytes.as_slice())
            }
        }
        .map_err(io(path))?;
    }
    tar.into_inner().map_err(io("tar"))
}

/// Named parts, in the order given.
pub fn write_parts(parts: &[(&str, &[u8])]) -> Result<Vec<u8>, String> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in parts {
        let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).map_err(io(name))?;
    }
    tar.into_inner().map_err(io("tar"))
}

pub fn read_parts(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut parts = Vec::new();
    for entry in tar::Archive::new(bytes).entries().map_err(io("tar"))? {
        let mut entry = entry.map_err(io("tar"))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).map_err(io(&name))?;
        parts.push((name, data));
    }
    Ok(parts)
}

/// Reads a tar archive of files, directories and links; `keep` says which cleaned paths are wanted.
///
/// Absolute paths and `..` are refused, and so is any other kind of entry. Hard links become copies.
pub fn read_tree(bytes: &[u8], keep: &dyn Fn(&str) -> bool) -> Result<Tree, String> {
    let mut tree = Tree::default();
    for entry in tar::Archive::new(bytes).entries().map_err(io("tar"))? {
        let mut entry = entry.map_err(io("tar"))?;
        let raw = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| "path is no UTF-8".to_string())?;
        let path = clean_path(&raw)?;
        if path.is_empty() || !keep(&path) {
            continue;
        }
        let mode = entry.header().mode().map_err(io(&path))? & 0o7777;
        let target = || -> Result<String, String> {
            let name = entry.link_name_bytes().ok_or_else(|| format!("{path}: link without a target"))?;
            String::from_utf8(name.into_owned()).map_err(|_| format!("{path}: target is no UTF-8"))
        };
        let kind = match entry.header().entry_type() {
            tar::EntryType::Directory => Kind::Dir,
            tar::EntryType::Symlink => Kind::Link(target()?),
            tar::EntryType::Link => {
                let target = clean_path(&target()?)?;
                match tree.get(&target) {
                    Some(Entry { kind: Kind::File(bytes), .. }) => Kind::File(std::sync::Arc::clone(bytes)),
                    _ => return Err(format!("{path}: hard link to {target}, which did not come before it")),
                }
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let mut data = Vec::new();
                entry.read_to_end(&mut data).map_err(io(&path))?;
                Kind::File(std::sync::Arc::new(data))
            }
            other => return Err(format!("{path}: unexpected entry of type {other:?}")),
        };
        // A merged `/usr` spells some directories twice.
        if kind == Kind::Dir && tree.get(&path).is_some_and(|known| known.kind == Kind::Dir) {
            continue;
        }
        tree.put(&path, mode, kind);
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_survives_tar_and_zstd_byte_by_byte() {
        let mut tree = Tree::default();
        tree.file("etc/passwd", 0o644, *b"root\n");
        tree.dir("tmp", 0o1777);
        tree.file(&format!("usr/share/{}end", "long/".repeat(40)), 0o755, vec![7; 3000]);
        tree.link("sbin", "usr/sbin");
        let tar = write_tree(&tree).unwrap();
        let packed = compress(&tar, 3).unwrap();
        assert_eq!(packed, compress(&write_tree(&tree).unwrap(), 3).unwrap());
        let mut padded = packed.clone();
        padded.resize(padded.len().next_multiple_of(512), 0);
        let again = decompress(&padded).unwrap();
        assert_eq!(again, tar);
        let read = read_tree(&again, &|path| path != "sbin").unwrap();
        for (path, entry) in tree.iter().filter(|(path, _)| *path != "sbin") {
            assert_eq!(read.get(path), Some(entry), "{path}");
        }
    }

    #[test]
    fn hostile_archives_are_refused() {
        for (name, kind) in
            [("../x", tar::EntryType::Regular), ("/etc/x", tar::EntryType::Regular), ("dev", tar::EntryType::Char)]
        {
            let mut header = header(kind, 0o644, 0);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            let mut bytes = header.as_bytes().to_vec();
            bytes.resize(1536, 0);
            assert!(read_tree(&bytes, &|_| true).is_err(), "{name}");
        }
    }
}
