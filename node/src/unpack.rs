//! Archives: tar under zstd.

use crate::node_error::{Doing, Result};
use std::fs::File;
use std::path::Path;

/// Unpacks `archive` into `root`. The caller has checked the digest; paths that would leave `root`
/// are refused by the reader all the same.
pub fn into(archive: &Path, root: &Path) -> Result<()> {
    let file = File::open(archive).doing("opening the second stage")?;
    let decoder = zstd::stream::read::Decoder::new(file).doing("reading the second stage")?;
    let mut tar = tar::Archive::new(decoder);
    tar.set_preserve_permissions(true);
    tar.set_preserve_mtime(false);
    tar.set_unpack_xattrs(false);
    tar.unpack(root).doing("unpacking the second stage")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn modes_are_kept_and_escapes_refused() {
        let dir = tempfile::tempdir().unwrap();
        let archive = |name: &str, raw_path: &str| {
            let path = dir.path().join(name);
            let mut builder = tar::Builder::new(zstd::Encoder::new(std::fs::File::create(&path).unwrap(), 1).unwrap());
            let mut header = tar::Header::new_gnu();
            header.set_size(2);
            header.set_mode(0o755);
            header.as_gnu_mut().unwrap().name[..raw_path.len()].copy_from_slice(raw_path.as_bytes());
            header.set_cksum();
            builder.append(&header, b"hi".as_slice()).unwrap();
            builder.into_inner().unwrap().finish().unwrap();
            path
        };
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        super::into(&archive("good", "bin/sh"), &root).unwrap();
        let mode = std::fs::metadata(root.join("bin/sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let _ = super::into(&archive("bad", "../escaped"), &root);
        assert!(!dir.path().join("escaped").exists());
    }
}
