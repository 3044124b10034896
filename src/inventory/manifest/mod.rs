//! The shapes of the manifests, one file a kind. Their documentation feeds `explain` and the JSON Schema.

pub mod cluster;
pub mod credential;
pub mod hardware_class;
pub mod image;
pub mod network;
pub mod node;
pub mod playbook;
pub mod profile;
pub mod site;
pub mod text;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use cluster::ClusterSpec;
pub use credential::CredentialSpec;
pub use hardware_class::HardwareClassSpec;
pub use image::ImageSpec;
pub use network::NetworkSpec;
pub use node::NodeSpec;
pub use playbook::PlaybookSpec;
pub use profile::ProfileSpec;
pub use site::SiteSpec;

/// The one version of the manifests that this rackctl reads.
pub const API_VERSION: &str = "rackctl.dev/v1alpha1";

/// Name and labels of an object.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique among the objects of its kind. Lower-case letters, digits, `-` and `.`; at most 63 characters.
    pub name: text::Name,
    /// Words that selectors choose by: `role: control-plane`. Values: letters, digits, `-`, `_`, `.`; at most 63.
    #[serde(default)]
    pub labels: BTreeMap<String, text::LabelValue>,
    /// Notes for people and other programs; rackctl does not act on them.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}
