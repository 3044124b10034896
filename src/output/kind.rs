//! The kinds of objects, by plural, singular and short name.

use crate::model::{Failure, Fleet, failure::Cause};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Node,
    Network,
    HardwareClass,
    Profile,
    Cluster,
    Image,
    Site,
    Credential,
    Playbook,
    Run,
    Lock,
    Lease,
    Event,
    Member,
}

impl Kind {
    pub const ALL: [Kind; 14] = [
        Kind::Node,
        Kind::Network,
        Kind::HardwareClass,
        Kind::Profile,
        Kind::Cluster,
        Kind::Image,
        Kind::Site,
        Kind::Credential,
        Kind::Playbook,
        Kind::Run,
        Kind::Lock,
        Kind::Lease,
        Kind::Event,
        Kind::Member,
    ];

    /// Plural and short name.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Kind::Node => ("nodes", "no"),
            Kind::Network => ("networks", "net"),
            Kind::HardwareClass => ("hardwareclasses", "hc"),
            Kind::Profile => ("profiles", "profile"),
            Kind::Cluster => ("clusters", "cl"),
            Kind::Image => ("images", "img"),
            Kind::Site => ("sites", "site"),
            Kind::Credential => ("credentials", "credential"),
            Kind::Playbook => ("playbooks", "pb"),
            Kind::Run => ("runs", "run"),
            Kind::Lock => ("locks", "lock"),
            Kind::Lease => ("leases", "lease"),
            Kind::Event => ("events", "ev"),
            Kind::Member => ("members", "member"),
        }
    }

    pub const fn plural(self) -> &'static str {
        self.words().0
    }

    /// `1 node`, `2 nodes`: the word behind a number.
    pub fn counted(self, count: usize) -> String {
        if count == 1 { self.singular() } else { self.plural().to_owned() }
    }

    pub fn singular(self) -> String {
        self.title().to_ascii_lowercase()
    }

    /// As manifests write it.
    pub const fn title(self) -> &'static str {
        match self {
            Kind::Node => "Node",
            Kind::Network => "Network",
            Kind::HardwareClass => "HardwareClass",
            Kind::Profile => "Profile",
            Kind::Cluster => "Cluster",
            Kind::Image => "Image",
            Kind::Site => "Site",
            Kind::Credential => "Credential",
            Kind::Playbook => "Playbook",
            Kind::Run => "Run",
            Kind::Lock => "Lock",
            Kind::Lease => "Lease",
            Kind::Event => "Event",
            Kind::Member => "Member",
        }
    }

    /// Stands in manifests; the others are found in the store or in a cluster.
    pub const fn is_desired(self) -> bool {
        !matches!(self, Kind::Run | Kind::Lock | Kind::Lease | Kind::Event | Kind::Member)
    }

    pub fn parse(word: &str) -> Result<Kind, Failure> {
        let wanted = word.to_ascii_lowercase();
        let found = Kind::ALL.into_iter().find(|kind| {
            let (plural, short) = kind.words();
            wanted == plural || wanted == short || wanted == kind.title().to_ascii_lowercase()
        });
        found.ok_or_else(|| {
            let near =
                Kind::ALL.map(Kind::plural).into_iter().map(|w| (strsim::damerau_levenshtein(&wanted, w), w)).min();
            let why = match near {
                Some((distance, word)) if distance <= 3 => format!("did you mean `{word}`?"),
                _ => format!("there are {}", Kind::ALL.map(Kind::plural).join(", ")),
            };
            Failure::new(Cause::Refused, format!("no kind is called `{word}`"), why)
        })
    }

    /// All names of this kind in the inventory, in order.
    pub fn names(self, fleet: &Fleet) -> Vec<String> {
        match self {
            Kind::Node => fleet.nodes.keys().cloned().collect(),
            Kind::Network => fleet.networks.keys().cloned().collect(),
            Kind::HardwareClass => fleet.hardware_classes.keys().cloned().collect(),
            Kind::Profile => fleet.profiles.keys().cloned().collect(),
            Kind::Cluster => fleet.clusters.keys().cloned().collect(),
            Kind::Image => fleet.images.keys().cloned().collect(),
            Kind::Site => fleet.sites.keys().cloned().collect(),
            Kind::Credential => fleet.credentials.keys().cloned().collect(),
            Kind::Playbook => fleet.playbooks.keys().cloned().collect(),
            Kind::Run | Kind::Lock | Kind::Lease | Kind::Event | Kind::Member => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plural_singular_and_short() {
        for (words, kind) in [
            (["nodes", "Node", "no"], Kind::Node),
            (["hardwareclasses", "HardwareClass", "hc"], Kind::HardwareClass),
            (["clusters", "cluster", "cl"], Kind::Cluster),
            (["playbooks", "playbook", "pb"], Kind::Playbook),
            (["events", "event", "ev"], Kind::Event),
        ] {
            for word in words {
                assert_eq!(Kind::parse(word), Ok(kind), "{word}");
            }
        }
        assert_eq!(Kind::parse("nodse").unwrap_err().why, "did you mean `nodes`?");
        assert!(Kind::parse("things-of-all-sorts").unwrap_err().why.starts_with("there are nodes, networks"));
    }
}
