//! What an approval covers: every plan of the run must lie inside it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The most that an approved run may destroy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    pub nodes: BTreeSet<String>,
    /// Node → the disk as the approver saw it: its serial or WWN, else the words of the rule that chooses it.
    pub disks: BTreeMap<String, String>,
    /// Node → SHA-256 (hex) of what is written to it.
    pub artifacts: BTreeMap<String, String>,
    /// Kinds of the destructive steps, by their words (`write-disk`).
    pub kinds: BTreeSet<String>,
    /// How many disks at most.
    pub wipes: u32,
}
