//! A member starts: as whom, or why not. The reasons are those with which etcd ends.

use std::collections::BTreeMap;

use rackctl_wire::EtcdMember;

use super::{
    ids::{cluster_id, member_id},
    state::{Info, State},
    world::{Disk, Running, World},
};

fn urls(text: &str) -> Vec<String> {
    text.split(',').filter(|url| !url.is_empty()).map(str::to_string).collect()
}

/// `name=URL,…`, several URLs of one name under one name.
fn initial(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').ok_or_else(|| format!("error setting up initial cluster: {part}"))?;
        members.entry(name.to_string()).or_default().push(url.to_string());
    }
    members.values_mut().for_each(|urls| urls.sort());
    Ok(members)
}

impl World {
    /// Starts the member of the node that is called as it is. An error is the reason with which etcd would end.
    pub fn start(&mut self, now: u64, member: &EtcdMember) -> Result<(), String> {
        self.tick(now);
        let node = member.name.clone();
        if self.running.contains_key(&node) {
            return Err(format!("{node}: its member runs already"));
        }
        let result = self.seat(now, member);
        if let Err(why) = &result {
            self.exit(&node, why.clone());
        }
        self.tick(now);
        // What the cluster says to it in its first moment.
        match (result, self.running.contains_key(&node)) {
            (Ok(()), false) => Err(self.last_exit(&node).unwrap_or("it ended").to_string()),
            (result, _) => result,
        }
    }

    fn seat(&mut self, now: u64, member: &EtcdMember) -> Result<(), String> {
        let at = (member.name.clone(), member.initial_cluster_token.clone());
        // With data, etcd reads neither the initial cluster nor its token.
        if !self.disks.contains_key(&at) {
            let initial = initial(&member.initial_cluster)?;
            let own = initial.get(&member.name).ok_or_else(|| {
                format!("couldn't find local name \"{}\" in the initial cluster configuration", member.name)
            })?;
            let mut advertised = urls(&member.initial_advertise_peer_urls);
            advertised.sort();
            if *own != advertised {
                return Err(format!(
                    "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
                    own.join(","),
                    advertised.join(",")
                ));
            }
            let disk = match member.initial_cluster_state.as_str() {
                "new" => self.founded(member, &initial)?,
                _ => self.joined(member, &initial)?,
            };
            self.disks.insert(at.clone(), disk);
        }
        let running =
            Running { at, name: member.name.clone(), client_urls: urls(&member.advertise_client_urls), since_ms: now };
        self.seated(&member.name, running);
        Ok(())
    }

    /// The members that somebody knows who listens at one of these URLs, with the cluster's id.
    fn remote(&self, initial: &BTreeMap<String, Vec<String>>, but: &str) -> Option<(u64, &State)> {
        let theirs: Vec<&String> = initial.iter().filter(|(name, _)| *name != but).flat_map(|(_, u)| u).collect();
        self.live().filter(|node| *node != but).find_map(|node| {
            let disk = self.disks.get(&self.running.get(node)?.at)?;
            let info = disk.state.members.get(&disk.id)?;
            info.peer_urls.iter().any(|url| theirs.contains(&url)).then_some((disk.cluster, &disk.state))
        })
    }

    fn founded(&self, member: &EtcdMember, initial: &BTreeMap<String, Vec<String>>) -> Result<Disk, String> {
        let id_of = |urls: &[String]| member_id(urls, &member.initial_cluster_token, None);
        let members: BTreeMap<u64, Info> = initial
            .iter()
            .map(|(name, urls)| (id_of(urls), Info { name: name.clone(), peer_urls: urls.clone(), ..Info::default() }))
            .collect();
        let id = initial.get(&member.name).map(|urls| id_of(urls)).unwrap_or_default();
        let there = self.remote(initial, &member.name).and_then(|(_, state)| state.members.get(&id));
        if there.is_some_and(|info| !info.client_urls.is_empty()) {
            return Err(format!("member {id:x} has already been bootstrapped"));
        }
        let cluster = cluster_id(members.keys().copied());
        Ok(Disk { id, cluster, state: State { members, ..State::default() } })
    }

    fn joined(&self, member: &EtcdMember, initial: &BTreeMap<String, Vec<String>>) -> Result<Disk, String> {
        let Some((cluster, state)) = self.remote(initial, &member.name) else {
            return Err("cannot fetch cluster info from peer urls: could not retrieve cluster information from the \
                        given URLs"
                .into());
        };
        let wrong = |why: &str| format!("error validating peerURLs {}: {why}", member.initial_cluster);
        if state.members.len() != initial.len() {
            return Err(wrong("member count is unequal"));
        }
        let mut own = None;
        for (name, urls) in initial {
            let mut same = state.members.iter().filter(|(_, info)| info.peer_urls == *urls);
            let (id, _) = same.next().ok_or_else(|| wrong("unmatched member while checking PeerURLs"))?;
            own = if *name == member.name { Some(*id) } else { own };
        }
        let id = own.ok_or_else(|| wrong("unmatched member while checking PeerURLs"))?;
        // It has the list of members and nothing of the log yet.
        Ok(Disk { id, cluster, state: State { members: state.members.clone(), ..State::default() } })
    }
}
