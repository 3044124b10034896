//! The world of a simulation: machines, BMCs, clusters and what is durable, as they truly are. Time and tasks are in
//! [`super::exec`]; what is checked of it stands in [`super::check`].

use std::{collections::BTreeMap, rc::Rc};

use super::{
    check::Watcher,
    durable::Durable,
    etcd::Cluster,
    log::{Cause, Log, What},
    machine::Machine,
    rng::Rng,
};
use crate::model::Fleet;

/// A process of the tool, as the network and the store see it.
#[derive(Clone, Debug, Default)]
pub struct Process {
    pub run: String,
}

pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub log: Log,
    pub machines: Vec<Machine>,
    pub number: BTreeMap<String, usize>,
    /// By cluster id.
    pub clusters: BTreeMap<u64, Cluster>,
    pub processes: BTreeMap<u32, Process>,
    pub durable: Rc<Durable>,
    /// The inventory, which the checks hold the world against.
    pub fleet: Rc<Fleet>,
    pub watch: Watcher,
    /// What the members of a cluster run, where it is not what the inventory says.
    pub versions: BTreeMap<String, &'static str>,
    /// Another DHCP server answers on the network from then to then.
    pub rogue: Option<(u64, u64)>,
    /// Systems start etcd whatever their generation and the list of members say (a planted bug).
    pub starts_anything: bool,
    /// No fault happens any more: machines that were to fail are well.
    pub healed: bool,
}

impl World {
    pub fn new(seed: u64, fleet: &Rc<Fleet>, machines: Vec<Machine>) -> World {
        let number = machines.iter().enumerate().map(|(i, m)| (m.name.clone(), i)).collect();
        World {
            now: 0,
            rng: Rng::new(seed).fork("world"),
            log: Log::default(),
            machines,
            number,
            clusters: BTreeMap::new(),
            processes: BTreeMap::new(),
            durable: Rc::default(),
            fleet: Rc::clone(fleet),
            watch: Watcher::default(),
            versions: BTreeMap::new(),
            rogue: None,
            starts_anything: false,
            healed: false,
        }
    }

    #[cfg(test)]
    pub fn empty(seed: u64) -> World {
        World::new(seed, &Rc::default(), Vec::new())
    }

    pub fn name(&self, machine: usize) -> String {
        self.machines.get(machine).map(|m| m.name.clone()).unwrap_or_default()
    }

    /// Something happened that nobody of ours did.
    pub fn happened(&mut self, what: What) {
        self.log.push(self.now, None, what);
    }

    /// Something happened because a process of the tool did it: logged, and checked at once.
    pub fn effect(&mut self, cause: &Cause, what: What) {
        super::check::on_effect(self, cause, &what);
        self.log.push(self.now, Some(cause), what);
    }

    pub fn rogue_answers(&self) -> bool {
        self.rogue.is_some_and(|(from, until)| (from..until).contains(&self.now))
    }

    /// The machine, and with it its cluster, where its etcd is a voter that serves now.
    pub fn serves(&self, machine: usize) -> bool {
        let Some(m) = self.machines.get(machine) else { return false };
        let Some(member) = &m.etcd else { return false };
        let Some(cluster) = self.clusters.get(&member.cluster) else { return false };
        cluster.leader(self).is_some() && cluster.members.iter().any(|x| x.id == member.member && !x.learner)
    }
}
