//! An image of ready files: nothing is built; each file is read and must be what the inventory says it is.

use std::{fs, path::Path};

use super::{Artifacts, Loader, Object, exec::sha256_hex};
use crate::model::{
    Failure,
    failure::Cause,
    fleet::{Image, ReadyFile},
};

/// The files stay where they are. `name` is the image's, for messages.
pub fn take(name: &str, image: &Image) -> Result<Artifacts, Failure> {
    let what = || format!("image {name}: take its files");
    let refuse = |why: &str| Failure::new(Cause::Refused, what(), why).next("rackctl explain image.files");
    let Image::Files { kernel, kernel_sha256, initrd, initrd_sha256, stage2, system, loaders, .. } = image else {
        return Err(refuse("it is no image of ready files"));
    };
    let (Some(stage2), Some(system)) = (stage2, system) else {
        return Err(refuse("it names no `stage2` and `system`: it boots, and our installer has nothing to write"));
    };
    let read = |file: &ReadyFile| object(&what(), &file.path, &file.sha256);
    let (kernel, initrd) = (object(&what(), kernel, kernel_sha256)?, object(&what(), initrd, initrd_sha256)?);
    let (stage2, system) = (read(stage2)?, read(system)?);
    let loaders = loaders
        .iter()
        .map(|(tftp_name, file)| Ok(Loader { tftp_name: tftp_name.clone(), object: read(file)? }))
        .collect::<Result<Vec<_>, Failure>>()?;
    let digests: Vec<&str> = [&kernel, &initrd, &stage2, &system]
        .into_iter()
        .chain(loaders.iter().map(|l| &l.object))
        .map(|o| o.sha256.as_str())
        .collect();
    let key = sha256_hex(digests.join("\n").as_bytes());
    Ok(Artifacts { key, kernel, initrd, stage2, system, loaders, manifest: None })
}

fn object(what: &str, path: &Path, sha256: &str) -> Result<Object, Failure> {
    let bytes = fs::read(path).map_err(|e| Failure::new(Cause::Local, what, format!("{}: {e}", path.display())))?;
    let seen = sha256_hex(&bytes);
    if seen != sha256 {
        let why = format!("{} has the SHA-256 {seen}, the inventory says {sha256}", path.display());
        return Err(Failure::new(Cause::Mismatch, what, why).next(format!("sha256sum {}", path.display())));
    }
    Ok(Object { sha256: seen, path: path.to_owned(), size_bytes: bytes.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_file_is_what_the_inventory_says_or_none_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            fs::write(&path, name).unwrap();
            ReadyFile { path, sha256: sha256_hex(name.as_bytes()) }
        };
        let (kernel, initrd) = (file("kernel"), file("initrd"));
        let image = |system: Option<ReadyFile>| Image::Files {
            kernel: kernel.path.clone(),
            kernel_sha256: kernel.sha256.clone(),
            initrd: initrd.path.clone(),
            initrd_sha256: initrd.sha256.clone(),
            cmdline: String::new(),
            stage2: Some(file("stage2")),
            system,
            loaders: BTreeMap::from([("snponly.efi".to_owned(), file("snponly.efi"))]),
        };
        let taken = take("x", &image(Some(file("system")))).unwrap();
        assert_eq!((taken.kernel.size_bytes, taken.loaders[0].tftp_name.as_str()), (6, "snponly.efi"));
        assert_eq!(take("x", &image(None)).unwrap_err().cause, Cause::Refused);
        let other = ReadyFile { sha256: "0".repeat(64), ..file("system") };
        assert_eq!(take("x", &image(Some(other))).unwrap_err().cause, Cause::Mismatch);
    }
}
