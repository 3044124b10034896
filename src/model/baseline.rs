//! What a machine's own settings are to be (BIOS attributes, firmware, volumes), what is seen of them, and the parts of
//! which bringing them about consists. Values and their plain arithmetic.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Failure, fleet::DiskRule};

/// Of one machine, after its site, class and profile are laid below its own values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Baseline {
    /// BIOS attributes by their Redfish names; numbers and truth values as their words.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bios: BTreeMap<String, String>,
    /// Component → version, both as the BMC writes them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub firmware: BTreeMap<String, String>,
    /// Component → what brings its version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, FirmwareImage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeRule>,
}

impl Baseline {
    /// Nothing at all stands in it.
    pub fn is_unsaid(&self) -> bool {
        *self == Baseline::default()
    }

    /// Nothing is asked for; images alone ask for nothing.
    pub fn is_empty(&self) -> bool {
        self.bios.is_empty() && self.firmware.is_empty() && self.volumes.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareImage {
    /// The version that it brings.
    pub version: String,
    #[serde(flatten)]
    pub at: ImageAt,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ImageAt {
    /// The BMC fetches it.
    Url(String),
    /// Sent from this host, once its digest (hex) has been seen to be this one.
    File { path: PathBuf, sha256: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRule {
    pub name: String,
    /// `RAID1`, as Redfish writes it.
    pub raid: String,
    /// Which drives; empty: whatever is free. A model may be the controller's.
    pub drives: DiskRule,
}

/// What a BMC shows of what its machine's baseline asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BaselineFacts {
    /// `None`: nothing is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios: Option<Result<BiosFacts, Failure>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Result<Vec<FirmwareItem>, Failure>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Result<Vec<StorageFacts>, Failure>>,
}

/// The attributes that are asked for, as words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BiosFacts {
    pub in_force: BTreeMap<String, String>,
    /// In force from the machine's next start on.
    pub pending: BTreeMap<String, String>,
    /// Why what is asked for cannot be: a name or a type that this machine does not have.
    pub unfit: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirmwareItem {
    pub id: String,
    pub name: String,
    pub version: Option<String>,
    /// `None`: the BMC does not say.
    pub updateable: Option<bool>,
}

/// A storage controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageFacts {
    pub id: String,
    pub name: Option<String>,
    /// It has a place for volumes.
    pub makes_volumes: bool,
    pub volumes: Vec<VolumeFacts>,
    pub drives: Vec<BayFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeFacts {
    pub id: String,
    pub name: String,
    /// `None`: a bare disk that is shown as a volume, or the BMC does not say.
    pub raid: Option<String>,
    /// Ids of its drives.
    pub drives: Vec<String>,
}

/// A drive of a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BayFacts {
    pub id: String,
    pub serial: Option<String>,
    pub wwn: Option<String>,
    pub model: Option<String>,
    pub size_bytes: Option<u64>,
}

/// Versions that are kept beside the one in force (Dell lists them under the same name).
const NOT_IN_FORCE: [&str; 4] = ["previous-", "available-", "rollback-", "backup-"];

/// The item that a component of the inventory means: by its id, else by its name, else the only one whose id or name has
/// it as a word.
///
/// # Errors
/// Says which there are.
pub fn component<'a>(items: &'a [FirmwareItem], wanted: &str) -> Result<&'a FirmwareItem, String> {
    let aside = |i: &&FirmwareItem| !NOT_IN_FORCE.iter().any(|p| i.id.to_lowercase().starts_with(p));
    let all: Vec<&FirmwareItem> = items.iter().filter(aside).collect();
    let has_word = |text: &str| text.split(|c: char| !c.is_alphanumeric()).any(|w| w.eq_ignore_ascii_case(wanted));
    let ways: [&dyn Fn(&FirmwareItem) -> bool; 4] =
        [&|i| i.id == wanted, &|i| i.id.eq_ignore_ascii_case(wanted), &|i| i.name.eq_ignore_ascii_case(wanted), &|i| {
            has_word(&i.id) || has_word(&i.name)
        }];
    for way in ways {
        let found: Vec<&&FirmwareItem> = all.iter().filter(|i| way(i)).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => {
                let ids: Vec<&str> = several.iter().map(|i| i.id.as_str()).collect();
                return Err(format!("`{wanted}` may be any of {}: name the id", ids.join(", ")));
            }
        }
    }
    let ids: Vec<String> = all.iter().take(32).map(|i| format!("{} ({})", i.id, i.name)).collect();
    Err(format!("it has no firmware `{wanted}`; it has {}", ids.join(", ")))
}

/// Those of `wanted` that this inventory does not show, as `BIOS: is 1.0, must be 2.0`.
pub fn versions_missing(items: &[FirmwareItem], wanted: &BTreeMap<String, String>) -> Vec<String> {
    let missing = |(name, version): (&String, &String)| {
        let shown = component(items, name).map(|i| i.version.clone().unwrap_or_else(|| "nothing".to_owned()));
        match shown {
            Ok(shown) if shown == *version => None,
            Ok(shown) => Some(format!("{name}: is {shown}, must be {version}")),
            Err(why) => Some(why),
        }
    };
    wanted.iter().filter_map(missing).collect()
}

/// One thing that is done to bring a machine to its baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BaselinePart {
    /// The BMC takes the image and installs it: in force at once, or from the machine's next start on.
    Firmware { component: String, version: String, image: ImageAt },
    /// What is on the drives (ids) is lost.
    Volume { name: String, raid: String, drives: Vec<String> },
    /// Pending until the machine's next start.
    Bios { attributes: BTreeMap<String, String> },
    /// The machine is started anew, unless all of it is in force already, and it is seen to be. `stays_off`: it was off,
    /// and is again afterwards.
    Restart { into: InForce, stays_off: bool },
    /// The installed system answers again, and the clusters that it votes in count it.
    AwaitService { generation: u64 },
}

/// What a restart is to bring into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InForce {
    Firmware(BTreeMap<String, String>),
    Bios(BTreeMap<String, String>),
}

impl BaselinePart {
    /// In step ids, logs and messages.
    pub const fn word(&self) -> &'static str {
        match self {
            BaselinePart::Firmware { .. } => "bring-firmware",
            BaselinePart::Volume { .. } => "bring-volume",
            BaselinePart::Bios { .. } => "bring-bios",
            BaselinePart::Restart { into: InForce::Firmware(_), .. } => "restart-into-firmware",
            BaselinePart::Restart { into: InForce::Bios(_), .. } => "restart-into-bios",
            BaselinePart::AwaitService { .. } => "await-service",
        }
    }

    /// What it is about, where a machine may have several of its kind.
    pub fn about(&self) -> Option<&str> {
        match self {
            BaselinePart::Firmware { component, .. } => Some(component),
            BaselinePart::Volume { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The machine stops by it, or may: its clusters are asked first.
    pub const fn takes_away(&self) -> bool {
        matches!(self, BaselinePart::Firmware { .. } | BaselinePart::Volume { .. } | BaselinePart::Restart { .. })
    }

    /// Data is lost.
    pub const fn destroys(&self) -> bool {
        matches!(self, BaselinePart::Volume { .. })
    }

    /// Named limit of one attempt, in seconds: of an image with its task, and of a start that writes firmware.
    pub const fn deadline_s(&self) -> u64 {
        match self {
            BaselinePart::Firmware { .. } => 3_600,
            BaselinePart::Restart { .. } => 1_800,
            BaselinePart::Volume { .. } | BaselinePart::AwaitService { .. } => 900,
            BaselinePart::Bios { .. } => 300,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, name: &str, version: &str) -> FirmwareItem {
        FirmwareItem { id: id.into(), name: name.into(), version: Some(version.into()), updateable: Some(true) }
    }

    #[test]
    fn a_component_is_one_item_or_a_sentence() {
        let items = [
            item("Previous-159-2.18.1", "BIOS", "2.18.1"),
            item("Installed-159-2.19.1", "BIOS", "2.19.1"),
            item("Installed-25227-7.10", "Integrated Remote Access Controller (iDRAC)", "7.10"),
            item("NIC.1", "Network card", "1"),
            item("NIC.2", "Network card", "1"),
        ];
        assert_eq!(component(&items, "BIOS").unwrap().version.as_deref(), Some("2.19.1"));
        assert_eq!(component(&items, "idrac").unwrap().id, "Installed-25227-7.10");
        assert_eq!(component(&items, "NIC.2").unwrap().id, "NIC.2");
        assert!(component(&items, "Network card").unwrap_err().contains("NIC.1, NIC.2: name the id"));
        assert!(
            component(&items, "PSU").unwrap_err().contains("no firmware `PSU`; it has Installed-159-2.19.1 (BIOS)")
        );
        let wanted = [("BIOS".to_owned(), "2.20".to_owned()), ("NIC.1".to_owned(), "1".to_owned())].into();
        assert_eq!(versions_missing(&items, &wanted), ["BIOS: is 2.19.1, must be 2.20"]);
    }
}
