//! `kind: Image`

use schemars::JsonSchema;
use serde::Deserialize;

use super::text::Sha256;
use crate::model::fleet::Arch;

/// What boots, or what is installed: built by rackctl or by Nix, or ready files.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: Image
/// metadata: { name: netboot-control-plane }
/// spec: { build: { distro: debian-12, arch: amd64, packages: [etcd-server, nvme-cli] } }
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["build"]}, {"required": ["files"]}]))]
pub struct ImageSpec {
    /// How it is built. Exactly one of `distro` and `nix`.
    pub build: Option<BuildSpec>,
    /// Ready files.
    pub files: Option<FilesSpec>,
}

/// How an image is built.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["distro"]}, {"required": ["nix"]}]))]
pub struct BuildSpec {
    /// Distribution and release: `debian-12`.
    pub distro: Option<String>,
    /// Packages beside the base system; with `distro` only.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Processor architecture; with `distro` only. Default `amd64`.
    pub arch: Option<Arch>,
    /// `FLAKE#ATTRIBUTE`; a flake that begins with `.` or `~` is relative to this manifest.
    pub nix: Option<String>,
}

/// Ready files to boot.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesSpec {
    /// The kernel.
    pub kernel: FileSpec,
    /// The initial RAM file system.
    pub initrd: FileSpec,
    /// Kernel arguments. Default none.
    #[serde(default)]
    pub cmdline: String,
    /// The second stage of rackctl's installer. Default none: the image boots and installs nothing.
    pub stage2: Option<FileSpec>,
    /// The system bundle that the installer writes. Default none, as above.
    pub system: Option<FileSpec>,
    /// Network loaders. Default none.
    #[serde(default)]
    pub loaders: Vec<LoaderSpec>,
}

/// A network loader.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoaderSpec {
    /// The name under which TFTP serves it: `snponly.efi` for UEFI, `undionly.kpxe` for BIOS.
    pub name: String,
    /// Relative to this manifest.
    pub path: String,
    /// SHA-256 in hex; checked before it is served.
    pub sha256: Sha256,
}

/// A file and its digest.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSpec {
    /// Relative to this manifest.
    pub path: String,
    /// SHA-256 in hex; checked before it is served.
    pub sha256: Sha256,
}
