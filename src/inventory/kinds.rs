//! The kinds of manifests, and the words that people use for them.

use schemars::SchemaGenerator;

use super::manifest;

/// A kind of manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Credential,
    Site,
    Network,
    HardwareClass,
    Profile,
    Node,
    Cluster,
    Image,
    Playbook,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Credential,
        Kind::Site,
        Kind::Network,
        Kind::HardwareClass,
        Kind::Profile,
        Kind::Node,
        Kind::Cluster,
        Kind::Image,
        Kind::Playbook,
    ];

    /// As `kind:` says it: `HardwareClass`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Credential => "Credential",
            Kind::Site => "Site",
            Kind::Network => "Network",
            Kind::HardwareClass => "HardwareClass",
            Kind::Profile => "Profile",
            Kind::Node => "Node",
            Kind::Cluster => "Cluster",
            Kind::Image => "Image",
            Kind::Playbook => "Playbook",
        }
    }

    /// Words of the command line: singular, plural, short.
    pub const fn words(self) -> &'static [&'static str] {
        match self {
            Kind::Credential => &["credential", "credentials", "cred"],
            Kind::Site => &["site", "sites"],
            Kind::Network => &["network", "networks", "net"],
            Kind::HardwareClass => &["hardwareclass", "hardwareclasses", "hc"],
            Kind::Profile => &["profile", "profiles"],
            Kind::Node => &["node", "nodes", "no"],
            Kind::Cluster => &["cluster", "clusters", "cl"],
            Kind::Image => &["image", "images", "img"],
            Kind::Playbook => &["playbook", "playbooks", "pb"],
        }
    }

    /// The kind that a word of the command line means, whatever its case.
    pub fn from_word(word: &str) -> Option<Kind> {
        let word = word.to_ascii_lowercase();
        Kind::ALL.into_iter().find(|k| k.words().contains(&word.as_str()))
    }

    /// The kind that `kind:` names, exactly.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.name() == name)
    }

    pub(crate) fn spec_schema(self, generator: &mut SchemaGenerator) -> schemars::Schema {
        match self {
            Kind::Credential => generator.subschema_for::<manifest::CredentialSpec>(),
            Kind::Site => generator.subschema_for::<manifest::SiteSpec>(),
            Kind::Network => generator.subschema_for::<manifest::NetworkSpec>(),
            Kind::HardwareClass => generator.subschema_for::<manifest::HardwareClassSpec>(),
            Kind::Profile => generator.subschema_for::<manifest::ProfileSpec>(),
            Kind::Node => generator.subschema_for::<manifest::NodeSpec>(),
            Kind::Cluster => generator.subschema_for::<manifest::ClusterSpec>(),
            Kind::Image => generator.subschema_for::<manifest::ImageSpec>(),
            Kind::Playbook => generator.subschema_for::<manifest::PlaybookSpec>(),
        }
    }
}
