//! What simulated machines boot and install: small files, fetched and checked as real ones are, and run by nobody. Pure.

use sha2::{Digest, Sha256};

use crate::netboot::cpio;

/// A file of the folder `images`.
pub struct ImageFile {
    /// As the manifest of the image calls it; loaders have the name under which TFTP serves them.
    pub name: &'static str,
    pub loader: bool,
    pub content: Vec<u8>,
}

impl ImageFile {
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.content))
    }
}

/// Enough for a transfer of more than one packet.
const LINES: usize = 100;

pub fn files() -> Vec<ImageFile> {
    let text = |name: &str| format!("a laboratory's {name} for simulated machines; nothing runs it\n").repeat(LINES);
    let file = |name: &'static str, loader: bool| ImageFile { name, loader, content: text(name).into_bytes() };
    vec![
        file("kernel", false),
        ImageFile {
            name: "initrd",
            loader: false,
            content: cpio::one_file("rackctl", "about", text("initrd").as_bytes()),
        },
        file("stage2", false),
        file("system", false),
        file("snponly.efi", true),
        file("undionly.kpxe", true),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_differ_and_both_firmwares_have_their_loader() {
        let files = files();
        let digests: std::collections::BTreeSet<String> = files.iter().map(ImageFile::sha256).collect();
        assert_eq!(digests.len(), files.len());
        let loaders: Vec<&str> = files.iter().filter(|f| f.loader).map(|f| f.name).collect();
        assert_eq!(loaders, crate::image::LOADERS);
    }
}
