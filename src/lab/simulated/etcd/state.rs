//! What one member has in its data directory.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::KeySpace;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Empty until the member has started for the first time.
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub learner: bool,
}

/// The replicated state as far as this member has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// 0: an empty log. Otherwise names the bootstrap that the log began with: two logs of different origin under one
    /// cluster id do not mix.
    pub origin: u64,
    pub term: u64,
    pub index: u64,
    pub members: BTreeMap<u64, Info>,
    pub removed: BTreeSet<u64>,
    /// Members that had the log at some time: one that comes back without it is broken.
    pub had_log: BTreeSet<u64>,
    pub keys: KeySpace,
    /// Member (0 for the whole cluster) and kind.
    pub alarms: BTreeSet<(u64, String)>,
}

impl State {
    pub fn voters(&self) -> impl Iterator<Item = u64> + '_ {
        self.members.iter().filter(|(_, info)| !info.learner).map(|(id, _)| *id)
    }

    pub fn is_learner(&self, id: u64) -> bool {
        self.members.get(&id).is_some_and(|info| info.learner)
    }
}
