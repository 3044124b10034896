//! The system root as squashfs, and its reader.

use std::io::{Cursor, Read};

use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::{FilesystemCompressor, FilesystemReader, FilesystemWriter, InnerNode, NodeHeader};

use super::tree::{Kind, Tree};

/// Larger blocks pack better; smaller ones cost less for a page that is missing.
pub const BLOCK_BYTES: u32 = 128 << 10;
const LEVEL: u32 = 15;

pub fn write(tree: &Tree) -> Result<Vec<u8>, String> {
    let fail = |e: backhand::BackhandError| format!("squashfs: {e}");
    let mut fs = FilesystemWriter::default();
    fs.set_block_size(BLOCK_BYTES);
    fs.set_time(0);
    fs.set_only_root_id();
    fs.set_root_mode(0o755);
    let options = CompressionOptions::Zstd(Zstd { compression_level: LEVEL });
    fs.set_compressor(FilesystemCompressor::new(Compressor::Zstd, Some(options)).map_err(fail)?);
    for (path, entry) in tree.iter() {
        let header = NodeHeader { permissions: entry.mode as u16, uid: 0, gid: 0, mtime: 0 };
        match &entry.kind {
            Kind::Dir => fs.push_dir(path, header),
            Kind::Link(target) => fs.push_symlink(target.as_str(), path, header),
            Kind::File(bytes) => fs.push_file(Cursor::new(bytes.as_slice()), path, header),
        }
        .map_err(|e| format!("squashfs: {path}: {e}"))?;
    }
    let mut out = Cursor::new(Vec::new());
    fs.write(&mut out).map_err(fail)?;
    Ok(out.into_inner())
}

pub fn read(bytes: &[u8]) -> Result<Tree, String> {
    let fail = |e: backhand::BackhandError| format!("squashfs: {e}");
    let fs = FilesystemReader::from_reader(Cursor::new(bytes)).map_err(fail)?;
    let mut tree = Tree::default();
    for node in fs.files() {
        let path = node.fullpath.to_string_lossy();
        let path = path.trim_start_matches('/');
        if path.is_empty() {
            continue;
        }
        let kind = match &node.inner {
            InnerNode::Dir(_) => Kind::Dir,
            InnerNode::Symlink(link) => Kind::Link(link.link.to_string_lossy().into_owned()),
            InnerNode::File(file) => {
                let mut data = Vec::new();
                fs.file(file).reader().read_to_end(&mut data).map_err(|e| format!("squashfs: {path}: {e}"))?;
                Kind::File(std::sync::Arc::new(data))
            }
            _ => return Err(format!("squashfs: {path}: unexpected kind of node")),
        };
        tree.put(path, u32::from(node.header.permissions), kind);
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tree_gives_the_same_bytes_and_comes_back() {
        let mut tree = Tree::default();
        tree.file("usr/bin/a", 0o755, (0..400_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect::<Vec<u8>>());
        tree.file("etc/shadow", 0o600, *b"root:*::::::::\n");
        tree.file("etc/none", 0o644, Vec::new());
        tree.dir("data", 0o755);
        tree.link("bin", "usr/bin");
        let bytes = write(&tree).unwrap();
        assert_eq!(write(&tree).unwrap(), bytes);
        assert_eq!(read(&bytes).unwrap(), tree);
    }
}
