//! What a person asks for.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "goal", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Goal {
    /// Bring the inventory to its desired state, within the ceiling.
    Apply { nodes: Scope, allow: Ceiling },
    /// Put the operating system on machines. `reinstall`: also on those that have it.
    Install { nodes: Scope, reinstall: bool },
    /// Make installed nodes members of their clusters.
    Join { nodes: Scope },
}

/// Names in the inventory's order; resolved before planning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope(pub Vec<String>);

/// How destructive a run may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ceiling {
    #[default]
    Reversible,
    Reboot,
    DataLoss,
}
