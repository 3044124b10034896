//! Which members run, who leads, who follows. Pure: time is an argument, milliseconds since the world began.
//!
//! There are no messages: at every look ([`World::tick`]) each cluster's leader is settled and whoever follows it gets
//! its state. A member is live while it runs; members of one cluster id reach each other, others do not.

use std::collections::{BTreeMap, BTreeSet};

use super::{refusal::Refusal, state::State};

/// How long things take, in milliseconds; etcd's own defaults are in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Without a leader until there is one (1000 to 2000).
    pub election_ms: u64,
    /// A learner from its start until it has the log.
    pub sync_ms: u64,
    /// Voters must have been connected for so long before the membership may change (5000).
    pub settle_ms: u64,
    /// Until a call that finds no quorum is answered (7000).
    pub request_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Timing { election_ms: 150, sync_ms: 250, settle_ms: 300, request_ms: 1500 }
    }
}

/// A data directory: one for each node and token.
pub(super) type At = (String, String);

#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub id: u64,
    pub cluster: u64,
    pub state: State,
}

#[derive(Clone, Debug)]
pub(super) struct Running {
    pub at: At,
    pub name: String,
    pub client_urls: Vec<String>,
    pub since_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    leader: Option<u64>,
    leaderless_since: Option<u64>,
}

/// A member that runs: what calls need to know of it.
#[derive(Clone, Debug)]
pub(super) struct Me {
    pub node: String,
    pub at: At,
    pub id: u64,
    pub cluster: u64,
}

#[derive(Debug)]
pub struct World {
    pub(super) timing: Timing,
    /// Wall clock when the world began: ids of added members depend on it.
    began_unix_ms: u64,
    pub(super) disks: BTreeMap<At, Disk>,
    pub(super) running: BTreeMap<String, Running>,
    exits: BTreeMap<String, String>,
    clusters: BTreeMap<u64, Seen>,
    origins: u64,
}

impl World {
    pub fn new(timing: Timing, began_unix_ms: u64) -> World {
        World {
            timing,
            began_unix_ms,
            disks: BTreeMap::new(),
            running: BTreeMap::new(),
            exits: BTreeMap::new(),
            clusters: BTreeMap::new(),
            origins: 0,
        }
    }

    pub(super) fn unix_s(&self, now: u64) -> u64 {
        (self.began_unix_ms + now) / 1000
    }

    /// The process ends; its data stays. Nothing happens to a node where none runs.
    pub fn stop(&mut self, now: u64, node: &str) {
        self.tick(now);
        self.running.remove(node);
        self.tick(now);
    }

    /// Ends the process and forgets all data directories of the node.
    pub fn wipe(&mut self, now: u64, node: &str) {
        self.stop(now, node);
        self.disks.retain(|(of, _), _| of != node);
    }

    pub fn running(&mut self, now: u64, node: &str) -> bool {
        self.tick(now);
        self.running.contains_key(node)
    }

    /// Why its last process ended by itself; `None` while one runs or when it was stopped.
    pub fn last_exit(&self, node: &str) -> Option<&str> {
        self.exits.get(node).map(String::as_str)
    }

    pub fn has_data(&self, node: &str, token: &str) -> bool {
        self.disks.contains_key(&(node.to_string(), token.to_string()))
    }

    /// Nodes whose member runs.
    pub fn live(&self) -> impl Iterator<Item = &str> {
        self.running.keys().map(String::as_str)
    }

    pub(super) fn seated(&mut self, node: &str, running: Running) {
        self.exits.remove(node);
        self.running.insert(node.to_string(), running);
    }

    pub(super) fn exit(&mut self, node: &str, why: String) {
        self.running.remove(node);
        self.exits.insert(node.to_string(), why);
    }

    pub(super) fn me(&self, node: &str) -> Option<Me> {
        let at = self.running.get(node)?.at.clone();
        let disk = self.disks.get(&at)?;
        Some(Me { node: node.to_string(), id: disk.id, cluster: disk.cluster, at })
    }

    pub(super) fn live_of(&self, cluster: u64) -> Vec<Me> {
        self.running.keys().filter_map(|node| self.me(node)).filter(|me| me.cluster == cluster).collect()
    }

    pub(super) fn state(&self, at: &At) -> Option<&State> {
        self.disks.get(at).map(|disk| &disk.state)
    }

    /// The leader that this member knows of: none before it has a log, and none without a quorum.
    pub(super) fn leader_of(&self, me: &Me) -> Option<u64> {
        let follows = self.state(&me.at).is_some_and(|s| s.origin != 0);
        self.clusters.get(&me.cluster).and_then(|seen| seen.leader).filter(|_| follows)
    }

    pub(super) fn lead(&mut self, cluster: u64, id: u64) {
        self.clusters.entry(cluster).or_default().leader = Some(id);
    }

    pub(super) fn leader_at(&self, cluster: u64) -> Option<Me> {
        let leader = self.clusters.get(&cluster)?.leader?;
        self.live_of(cluster).into_iter().find(|me| me.id == leader)
    }

    /// Changes the replicated state through the leader of the member's cluster; the members that follow it have the
    /// change at once.
    pub(super) fn commit<T>(
        &mut self,
        now: u64,
        cluster: u64,
        change: impl Fn(&mut State) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let leader = self.leader_at(cluster).ok_or_else(Refusal::deadline)?;
        let apply = |state: &mut State| {
            state.index += 1;
            change(state)
        };
        let result = match self.disks.get_mut(&leader.at) {
            Some(disk) => apply(&mut disk.state),
            None => Err(Refusal::deadline()),
        };
        // Of another origin: the same change comes to other data.
        let origin = self.state(&leader.at).map_or(0, |s| s.origin);
        for me in self.live_of(cluster) {
            if let Some(disk) = self.disks.get_mut(&me.at)
                && disk.state.origin != 0
                && disk.state.origin != origin
            {
                let _ = apply(&mut disk.state);
            }
        }
        self.follow(now, &leader);
        result
    }

    /// Brings every cluster to this moment.
    pub fn tick(&mut self, now: u64) {
        let clusters: BTreeSet<u64> = self.running.keys().filter_map(|n| self.me(n)).map(|me| me.cluster).collect();
        let gone: Vec<u64> = self.clusters.keys().filter(|id| !clusters.contains(id)).copied().collect();
        for id in gone {
            self.clusters.remove(&id);
        }
        for cluster in clusters {
            // A member that leaves can take the quorum with it: look again, at most once a member.
            for _ in 0..=self.running.len() {
                if !self.settle(now, cluster) {
                    break;
                }
            }
        }
    }

    /// One look at one cluster; true if some member left it.
    fn settle(&mut self, now: u64, cluster: u64) -> bool {
        let before = self.running.len();
        self.elect(now, cluster);
        if let Some(leader) = self.leader_at(cluster) {
            self.follow(now, &leader);
            self.publish(now, cluster);
            self.expire(now, cluster);
        }
        self.running.len() < before
    }

    fn elect(&mut self, now: u64, cluster: u64) {
        let live = self.live_of(cluster);
        // Who has the longest log knows who may vote.
        let rank = |me: &&Me| self.state(&me.at).map(|s| (s.term, s.index));
        let voters: BTreeSet<u64> = live
            .iter()
            .max_by_key(rank)
            .and_then(|me| self.state(&me.at))
            .map(|s| s.voters().collect())
            .unwrap_or_default();
        let there: Vec<&Me> = live.iter().filter(|me| voters.contains(&me.id)).collect();
        let quorum = there.len() * 2 > voters.len();
        let best = there.iter().filter_map(|me| self.state(&me.at)).map(|s| (s.term, s.index)).max();
        let candidate = there
            .iter()
            .filter(|me| self.state(&me.at).map(|s| (s.term, s.index)) == best)
            .min_by_key(|me| me.id)
            .map(|me| (*me).clone());
        let seen = self.clusters.entry(cluster).or_default();
        if !quorum {
            *seen = Seen::default();
            return;
        }
        if seen.leader.is_some_and(|leader| there.iter().any(|me| me.id == leader)) {
            return;
        }
        seen.leader = None;
        let since = *seen.leaderless_since.get_or_insert(now);
        let Some(candidate) = candidate.filter(|_| now >= since + self.timing.election_ms) else { return };
        *seen = Seen { leader: Some(candidate.id), leaderless_since: None };
        if let Some(disk) = self.disks.get_mut(&candidate.at) {
            if disk.state.origin == 0 {
                self.origins += 1;
                disk.state.origin = self.origins;
                disk.state.index = disk.state.members.len() as u64;
            }
            disk.state.term = disk.state.term.max(1) + 1;
            disk.state.index += 1;
        }
    }

    /// Gives the leader's state to whoever can have it by now.
    fn follow(&mut self, now: u64, leader: &Me) {
        let Some(mut state) = self.state(&leader.at).cloned() else { return };
        let mut gets = Vec::new();
        for me in self.live_of(leader.cluster) {
            let Some(own) = self.state(&me.at).cloned() else { continue };
            if state.removed.contains(&me.id) {
                self.exit(&me.node, "the member has been permanently removed from the cluster".into());
                continue;
            }
            if own.origin == 0 && state.had_log.contains(&me.id) {
                let why = format!(
                    "tocommit({}) is out of range [lastIndex({})]. Was the raft log corrupted, truncated, or lost?",
                    state.index, own.index
                );
                self.exit(&me.node, why);
                continue;
            }
            let started = self.running.get(&me.node).map_or(now, |r| r.since_ms);
            let late = state.is_learner(me.id) && own.origin == 0 && now < started + self.timing.sync_ms;
            if late || !state.members.contains_key(&me.id) {
                continue;
            }
            if own.origin == 0 || own.origin == state.origin {
                state.had_log.insert(me.id);
                gets.push(me.at);
            }
        }
        for at in gets {
            if let Some(disk) = self.disks.get_mut(&at) {
                disk.state = state.clone();
            }
        }
    }

    /// A member makes its name and its client URLs known.
    fn publish(&mut self, now: u64, cluster: u64) {
        for me in self.live_of(cluster) {
            let Some((running, state)) = self.running.get(&me.node).zip(self.state(&me.at)) else { continue };
            let known = state.members.get(&me.id);
            if state.origin == 0 || known.is_none_or(|i| i.name == running.name && i.client_urls == running.client_urls)
            {
                continue;
            }
            let (name, urls) = (running.name.clone(), running.client_urls.clone());
            let _ = self.commit(now, cluster, |state| {
                if let Some(info) = state.members.get_mut(&me.id) {
                    info.name = name.clone();
                    info.client_urls = urls.clone();
                }
                Ok(())
            });
        }
    }

    fn expire(&mut self, now: u64, cluster: u64) {
        let Some(leader) = self.leader_at(cluster) else { return };
        let over = self.state(&leader.at).map(|s| s.keys.expired(now)).unwrap_or_default();
        for lease in over {
            let _ = self.commit(now, cluster, |state| state.keys.revoke(lease));
        }
    }
}
