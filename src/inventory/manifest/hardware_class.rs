//! `kind: HardwareClass`

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    node::IdentitySpec,
    text::{Sha256, Size},
};
use crate::model::fleet::{Arch, BootMethod, BootMode, DiskUse};

/// What belongs to a model of machine, not to its role. Its values flow to its nodes.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: HardwareClass
/// metadata: { name: r750 }
/// spec:
///   arch: amd64
///   bootMode: uefi
///   boot: { method: pxe }
///   console: ttyS0,115200
///   identity: { serialFrom: sku }
///   bios: { SriovGlobalEnable: Enabled }
///   firmware: { BIOS: "2.19.1", iDRAC: "7.10.30" }
///   firmwareImages:
///     BIOS: { version: "2.19.1", url: "https://images.example.net/bios-2.19.1.exe" }
///   raid: [{ name: boot, level: raid1, match: { model: BOSS }, use: root }]
///   disks: { root: { match: { model: "SAMSUNG MZ*", minSize: 400Gi }, use: root } }
///   minimum: { cores: 8, memory: 32Gi }
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HardwareClassSpec {
    /// Processor architecture. Default `amd64`.
    pub arch: Option<Arch>,
    /// Firmware interface it boots with. Default `uefi`.
    pub boot_mode: Option<BootMode>,
    /// How it is made to boot the installer.
    pub boot: Option<BootSpec>,
    /// Serial console of the kernel: `ttyS0,115200`.
    pub console: Option<String>,
    /// How it says who it is.
    pub identity: Option<IdentitySpec>,
    /// BIOS attributes by Redfish name, and their values.
    #[serde(default)]
    pub bios: BTreeMap<String, serde_json::Value>,
    /// Firmware versions by component (id or name in `rackctl bmc firmware`). Text: write them in quotes.
    #[serde(default)]
    pub firmware: BTreeMap<String, String>,
    /// What brings those versions, by component. Without one a version that differs is shown and refused.
    #[serde(default)]
    pub firmware_images: BTreeMap<String, FirmwareImageSpec>,
    /// Volumes of the RAID controller.
    #[serde(default)]
    pub raid: Vec<RaidSpec>,
    /// Rules that choose disks, by name. Exactly one may be for `root`.
    #[serde(default)]
    pub disks: BTreeMap<String, DiskSpec>,
    /// What a machine must have at least.
    pub minimum: Option<MinimumSpec>,
    /// Kernel arguments, one word each: `loglevel=4`. No white space, quotes or `$`.
    pub kernel_params: Option<Vec<String>>,
}

/// How a machine is made to boot the installer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootSpec {
    /// `pxe`, `uefi-http` or `virtual-media`. Default `pxe`.
    #[serde(default)]
    pub method: BootMethod,
}

/// A firmware image: exactly one of `url` and `file`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["url"]}, {"required": ["file"]}]))]
pub struct FirmwareImageSpec {
    /// The version that it brings. Text: write it in quotes.
    pub version: String,
    /// Where the BMC fetches it: http, https, nfs, cifs, tftp, … Without a password in it.
    pub url: Option<String>,
    /// A file that is sent to the BMC; relative to this manifest.
    pub file: Option<String>,
    /// SHA-256 of the file in hex; checked before it is sent.
    pub sha256: Option<Sha256>,
}

/// A volume of the RAID controller.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RaidSpec {
    /// Name of the volume.
    pub name: String,
    /// `raid0`, `raid1`, `raid5`, `raid6`, `raid10`.
    pub level: RaidLevel,
    /// Which controller or drives.
    #[serde(rename = "match")]
    pub matching: Option<DiskMatch>,
    /// What the volume is for. Default `keep`.
    #[serde(rename = "use")]
    pub use_for: Option<DiskUse>,
}

/// RAID level.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RaidLevel {
    Raid0,
    Raid1,
    Raid5,
    Raid6,
    Raid10,
}

/// A rule that chooses a disk.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskSpec {
    /// What the disk must be. The rule for `root` must match exactly one disk of the machine.
    #[serde(rename = "match")]
    pub matching: Option<DiskMatch>,
    /// `root` (wiped by an installation) or `keep` (never touched). Default `keep`.
    #[serde(rename = "use")]
    pub use_for: Option<DiskUse>,
}

/// What a disk must be; all that is said must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskMatch {
    /// Serial number, as the disk says it.
    pub serial: Option<String>,
    /// World-wide name.
    pub wwn: Option<String>,
    /// Model; `*` stands for any text: `SAMSUNG MZ*`.
    pub model: Option<String>,
    /// Smallest size: `400Gi`.
    pub min_size: Option<Size>,
    /// Largest size: `2Ti`.
    pub max_size: Option<Size>,
}

/// What a machine must have at least.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MinimumSpec {
    /// Processor cores.
    pub cores: Option<u32>,
    /// Memory: `32Gi`.
    pub memory: Option<Size>,
}
