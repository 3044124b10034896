//! Boot artifacts: the first form, `debian-12` for amd64.
//!
//! Packages pinned by SHA-256 ([`packages`]) come through apt's signed index ([`apt`], [`exec`]), are
//! unpacked in memory ([`tree`], [`archive`]) and become roots ([`roots`], [`modules`], [`elf`]); those
//! become an initramfs ([`cpio`]), a squashfs ([`squash`]), an ESP ([`esp`]) with GRUB ([`grub`]) and
//! the bundle that the installer writes ([`bundle`]). Nothing needs root, a loop device or a mount.
//! The same inputs give the same bytes; results are [`objects`] named by their SHA-256.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::fleet::{Arch, Image};

pub mod apt;
pub mod archive;
mod build;
pub mod bundle;
pub mod cpio;
pub mod elf;
pub mod esp;
pub mod exec;
pub mod files;
pub mod grub;
pub mod modules;
pub mod objects;
pub mod packages;
pub mod roots;
pub mod squash;
pub mod tree;

pub use build::build;
pub use objects::{Object, list, verify};
use packages::Pin;

/// Network loaders by the name under which TFTP serves them: UEFI and BIOS.
pub const LOADERS: [&str; 2] = ["snponly.efi", "undionly.kpxe"];

pub struct BuildSpec<'a> {
    pub image: &'a Image,
    pub arch: Arch,
    /// Packages by digest and the lock in use; may be shared and deleted.
    pub cache_dir: &'a Path,
    pub objects_dir: &'a Path,
    /// The node program, static.
    pub node_program: &'a Path,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// Nothing to do: a build from the same inputs is there.
    Unchanged {
        key: String,
    },
    /// The index no longer has the pinned version (`from`), or there was no pin.
    Renewed {
        wanted: String,
        from: Option<String>,
        to: String,
    },
    Downloading {
        packages: usize,
        size_bytes: u64,
    },
    Unpacked {
        packages: usize,
    },
    Stored {
        name: &'static str,
        size_bytes: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Loader {
    pub tftp_name: String,
    pub object: Object,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Artifacts {
    /// Digest over everything that the build was made from.
    pub key: String,
    pub kernel: Object,
    /// First stage, padded to 512 bytes so that the seed's archive can follow.
    pub initrd: Object,
    /// Second stage of the installer.
    pub stage2: Object,
    /// What is written to disks.
    pub system: Object,
    pub loaders: Vec<Loader>,
    /// What it was built of; `None`: of ready files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<BuildManifest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BuildManifest {
    pub distro: String,
    pub arch: Arch,
    pub packages: Vec<Pin>,
    pub extra_packages: Vec<String>,
    pub node_program_sha256: String,
    /// Kernel modules of the first stage in loading order; those wanted that the kernel has built in, or lacks.
    pub modules: Vec<String>,
    pub modules_built_in: Vec<String>,
    pub modules_absent: Vec<String>,
    /// The manifest inside the system bundle.
    pub disk: rackctl_wire::image::Manifest,
}

impl Artifacts {
    pub fn objects(&self) -> Vec<&Object> {
        let mut all = vec![&self.kernel, &self.initrd, &self.stage2, &self.system];
        all.extend(self.loaders.iter().map(|loader| &loader.object));
        all
    }

    /// Bytes that a machine reads to be installed, and the rest.
    pub fn total_bytes(&self) -> u64 {
        self.objects().iter().map(|object| object.size_bytes).sum()
    }

    /// Paths as they are in this directory: records may be moved with it.
    fn move_to(&mut self, objects_dir: &Path) {
        let place = |object: &mut Object| object.path = PathBuf::from(objects_dir).join(&object.sha256);
        let main = [&mut self.kernel, &mut self.initrd, &mut self.stage2, &mut self.system];
        main.into_iter().for_each(place);
        self.loaders.iter_mut().for_each(|loader| place(&mut loader.object));
    }
}
