//! `kind: Profile`

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    credential::SecretFrom,
    hardware_class::{DiskSpec, MinimumSpec},
    text::{Duration, FileMode, Name},
};

/// What belongs to a role: what is installed, and how. Its values flow to its nodes.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: Profile
/// metadata: { name: control-plane }
/// spec:
///   image: { name: netboot-control-plane }
///   kernelParams: ["loglevel=4"]
///   install:
///     driver: { nixosAnywhere: { flake: "./nix#{{ node.name }}" } }
///     secrets: [{ from: { age: "secrets/{{ node.name }}.age" }, to: /etc/nixos/secrets/tls-key.pem, mode: "0400", owner: root }]
///   services: [chainfire, flaredb, iam]
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileSpec {
    /// What boots for the installation.
    pub image: Option<ImageRef>,
    /// Kernel arguments, one word each: `loglevel=4`. No white space, quotes or `$`.
    pub kernel_params: Option<Vec<String>>,
    /// How the operating system comes onto the disk.
    pub install: Option<InstallSpec>,
    /// Names of services that must run on the installed machine.
    pub services: Option<Vec<String>>,
    /// Rules that choose disks, by name.
    #[serde(default)]
    pub disks: BTreeMap<String, DiskSpec>,
    /// What a machine must have at least.
    pub minimum: Option<MinimumSpec>,
}

/// An Image, by name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRef {
    /// Name of an Image.
    pub name: Name,
}

/// How the operating system comes onto the disk.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallSpec {
    /// Who writes the disk. Exactly one.
    pub driver: Option<InstallDriver>,
    /// Files that are delivered encrypted to the machine.
    #[serde(default)]
    pub secrets: Vec<InstallSecret>,
}

/// Who writes the disk. Exactly one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["nixosAnywhere"]}, {"required": ["image"]}, {"required": ["exec"]}]))]
pub struct InstallDriver {
    /// `nixos-anywhere`, from the installer.
    pub nixos_anywhere: Option<NixosAnywhere>,
    /// rackctl's own installer writes a system image.
    pub image: Option<ImageDriver>,
    /// A program of yours: JSON on its standard input, events on its standard output.
    pub exec: Option<ExecDriver>,
}

/// `nixos-anywhere`, from the installer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NixosAnywhere {
    /// `FLAKE#ATTRIBUTE`; a flake that begins with `.` or `~` is relative to this manifest.
    pub flake: String,
    /// More arguments, one word each.
    #[serde(default)]
    pub extra_args: Vec<String>,
}

/// rackctl's own installer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageDriver {
    /// Name of an Image whose build has a system.
    pub system: Name,
}

/// A program of yours.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecDriver {
    /// Program and arguments; no shell. A program that begins with `./`, `../` or `~/` is relative to this manifest.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// How long it may take. Default `30m`.
    pub deadline: Option<Duration>,
}

/// A file that is delivered encrypted to the machine.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallSecret {
    /// Where its contents come from. Exactly one source.
    pub from: SecretFrom,
    /// Absolute path on the installed machine.
    pub to: String,
    /// File mode, octal, in quotes. Default `"0400"`.
    pub mode: Option<FileMode>,
    /// Owner on the installed machine. Default `root`.
    pub owner: Option<String>,
}
