//! etcd as the design saw the real one behave: member lists that a majority agrees on, learners that catch up, a
//! member that is added once, a wiped one that never comes back under its old id.

use std::rc::Rc;

use rackctl_wire::EtcdMember;

use super::{
    exec::{Ctx, Owner, Topic, sleep},
    log::{Cause as By, What},
    machine::{Member as Running, Running as Os},
    world::World,
};
use crate::{
    cluster::etcd::{
        error::{Fault, Kind},
        observed::Answer,
        wire::{Alarm, Header, Member as WireMember, Status},
    },
    model::Failure,
};

/// `member add` is refused while a voter has not been connected for so long.
const CONNECTED_MS: u64 = 5_000;

#[derive(Clone, Debug)]
pub struct Member {
    pub id: u64,
    /// Empty until it has started.
    pub name: String,
    pub peer_url: String,
    pub learner: bool,
    /// It has had data once: started without, it crashes for ever.
    pub had_data: bool,
    /// Number of its machine, once it has started.
    pub machine: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Cluster {
    pub id: u64,
    pub name: String,
    pub members: Vec<Member>,
    pub index: u64,
    /// When a voter last began to be away.
    pub disturbed_at: u64,
    /// Since when it has a quorum, if it has one.
    pub quorum_since: u64,
    /// Member that raised one, and since when.
    pub alarm: Option<(u64, u64)>,
}

impl Cluster {
    fn runs(&self, world: &World, member: &Member) -> bool {
        member
            .machine
            .and_then(|m| world.machines.get(m))
            .and_then(|m| m.etcd)
            .is_some_and(|e| e.cluster == self.id && e.member == member.id)
    }

    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| !m.learner)
    }

    /// Voters that run or went away by themselves after `since`: what nobody could have known of.
    pub fn known_standing(&self, world: &World, except: usize, since: u64) -> usize {
        let lately = |m: &Member| {
            m.machine
                .and_then(|i| world.machines.get(i))
                .is_some_and(|x| x.etcd.is_none() && !x.away.1 && x.away.0 >= since)
        };
        self.voters().filter(|m| m.machine != Some(except) && (self.runs(world, m) || lately(m))).count()
    }

    /// Voters that run, without machine `except`.
    pub fn standing(&self, world: &World, except: Option<usize>) -> usize {
        self.voters().filter(|m| (except.is_none() || m.machine != except) && self.runs(world, m)).count()
    }

    pub fn has_quorum(&self, world: &World, except: Option<usize>) -> bool {
        self.standing(world, except) > self.voters().count() / 2
    }

    /// Id of the leader; `None`: no quorum.
    pub fn leader(&self, world: &World) -> Option<u64> {
        self.has_quorum(world, None).then(|| self.voters().find(|m| self.runs(world, m)).map(|m| m.id)).flatten()
    }
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)) | 1
}

/// Starts it as configured, or says why it ended at once.
pub fn start(ctx: &Ctx, machine: usize, config: &EtcdMember) -> Result<(), String> {
    let by = None;
    start_by(ctx, by, machine, config)
}

pub fn start_by(ctx: &Ctx, by: Option<&By>, machine: usize, config: &EtcdMember) -> Result<(), String> {
    let joined = {
        let mut world = ctx.world();
        let node = world.name(machine);
        let (healed, now, anything) = (world.healed, world.now, world.starts_anything);
        let catch_up = world.rng.range(500, 15_000);
        let Some(m) = world.machines.get_mut(machine) else { return Err("no machine".into()) };
        if m.running != Os::System {
            return Err("the system is not up".into());
        }
        let never_syncs = m.faults.never_syncs && !healed;
        let Some(system) = m.system_mut() else { return Err("no system".into()) };
        if config.generation != system.config.generation && !anything {
            return Err(format!("generation {} is not this installation's", config.generation));
        }
        // Each token has a data directory of its own.
        if system.etcd.as_ref().is_some_and(|old| old.initial_cluster_token != config.initial_cluster_token) {
            system.data = None;
        }
        system.etcd = Some(config.clone());
        let data = system.data;
        if m.etcd.is_some() {
            return Ok(());
        }
        let (cluster, member) = match data {
            Some(known) => known,
            None if config.initial_cluster_state == "new" => bootstrap(&mut world, by, machine, config)?,
            None => join(&mut world, machine, config)?,
        };
        let known = world.clusters.get_mut(&cluster).and_then(|c| c.members.iter_mut().find(|m| m.id == member));
        let (listed, had_data, learner) = match known {
            Some(known) => {
                let had_data = std::mem::replace(&mut known.had_data, true);
                known.name = config.name.clone();
                known.machine = Some(machine);
                (true, had_data, known.learner)
            }
            None if anything => (false, true, false),
            None => return Err("the member ID was removed".into()),
        };
        let synced_at = (!(never_syncs && learner)).then_some(now + if learner { catch_up } else { 0 });
        let Some(m) = world.machines.get_mut(machine) else { return Err("no machine".into()) };
        if let Some(system) = m.system_mut() {
            system.data = Some((cluster, member));
        }
        let had_one = world.clusters.get(&cluster).is_some_and(|c| c.has_quorum(&world, None));
        if let Some(m) = world.machines.get_mut(machine) {
            m.etcd = Some(Running { cluster, member, synced_at });
            m.serving_since = now;
        }
        if !had_one && let Some(regained) = world.clusters.get_mut(&cluster) {
            regained.quorum_since = now;
        }
        let name = world.clusters.get(&cluster).map(|c| c.name.clone()).unwrap_or_default();
        let generation = config.generation;
        super::watch::member_up(&mut world, &node, generation, listed, had_data, data.is_some());
        world.happened(What::MemberUp { cluster: name, node, generation });
        true
    };
    if joined {
        ctx.notify(Topic::Machine(machine));
        dies_later(ctx, machine);
    }
    Ok(())
}

fn bootstrap(world: &mut World, by: Option<&By>, machine: usize, config: &EtcdMember) -> Result<(u64, u64), String> {
    let id = hash(&format!("{} {}", config.initial_cluster_token, config.initial_cluster));
    let member = hash(&format!("{id} {}", config.initial_advertise_peer_urls));
    let node = world.name(machine);
    let fresh = Member {
        id: member,
        name: config.name.clone(),
        peer_url: config.initial_advertise_peer_urls.clone(),
        learner: false,
        had_data: false,
        machine: Some(machine),
    };
    let cluster = Cluster {
        id,
        name: config.cluster.clone(),
        members: vec![fresh],
        index: 10,
        disturbed_at: 0,
        quorum_since: 0,
        alarm: None,
    };
    world.clusters.entry(id).or_insert(cluster);
    let what = What::Bootstrap { cluster: config.cluster.clone(), id, node };
    match by {
        Some(by) => world.effect(by, what),
        None => world.happened(what),
    }
    Ok((id, member))
}

fn join(world: &mut World, machine: usize, config: &EtcdMember) -> Result<(u64, u64), String> {
    let url = &config.initial_advertise_peer_urls;
    let found = world.clusters.values().find_map(|c| {
        let member = c.members.iter().find(|m| m.peer_url == *url)?;
        (c.name == config.cluster && c.has_quorum(world, None)).then_some((c.id, member.id, member.had_data))
    });
    let _ = machine;
    if let Some((cluster, member, true)) = found.filter(|_| world.starts_anything) {
        return Ok((cluster, member));
    }
    match found {
        None => Err("error validating peerURLs: no member of that URL, or nobody to ask".into()),
        Some((_, _, true)) => Err("tocommit is out of range: it had data once".into()),
        Some((cluster, member, false)) => Ok((cluster, member)),
    }
}

/// Whatever stopped it: the process, the system, the power.
pub fn stop(ctx: &Ctx, machine: usize) {
    let mut world = ctx.world();
    let (now, node) = (world.now, world.name(machine));
    let Some(running) = world.machines.get(machine).and_then(|m| m.etcd) else { return };
    let before = world.clusters.get(&running.cluster).is_some_and(|c| c.has_quorum(&world, None));
    if let Some(m) = world.machines.get_mut(machine) {
        m.etcd = None;
        m.away = (now, m.cut_by_us);
    }
    let after = world.clusters.get(&running.cluster).is_some_and(|c| c.has_quorum(&world, None));
    let mut name = String::new();
    if let Some(cluster) = world.clusters.get_mut(&running.cluster) {
        cluster.disturbed_at = now;
        name.clone_from(&cluster.name);
    }
    world.happened(What::MemberDown { cluster: name, node, before, after });
    drop(world);
    ctx.kill(Owner::Etcd(machine));
    ctx.notify(Topic::Machine(machine));
}

/// F40: a member that dies by itself, and is started again by its system after a while.
fn dies_later(ctx: &Ctx, machine: usize) {
    let fault = {
        let mut world = ctx.world();
        if world.healed {
            return;
        }
        world.machines.get_mut(machine).and_then(|m| m.faults.member_dies.take())
    };
    let Some((after, back)) = fault else { return };
    let sim = Rc::clone(ctx);
    ctx.spawn(Owner::Machine(machine), async move {
        sleep(&sim, after).await;
        stop(&sim, machine);
        sleep(&sim, back).await;
        let config = sim.world().machines.get(machine).and_then(|m| m.system().and_then(|(_, s)| s.etcd.clone()));
        if let Some(config) = config {
            let _ = start(&sim, machine, &config);
        }
    });
}

/// What the endpoint of this machine says of itself and the cluster.
pub fn answer(world: &World, machine: usize) -> Result<Answer, Fault> {
    let unreachable = || Fault::Unreachable("no route".into());
    let m = world.machines.get(machine).ok_or_else(unreachable)?;
    let Some(running) = m.etcd else {
        return Err(if m.running == Os::System { Fault::NotListening("refused".into()) } else { unreachable() });
    };
    let cluster = world.clusters.get(&running.cluster).ok_or_else(unreachable)?;
    let own = cluster.members.iter().find(|m| m.id == running.member).ok_or_else(unreachable)?;
    let leader = cluster.leader(world);
    let applied = applied(world, cluster, &running);
    let members = cluster.members.iter().map(|m| WireMember {
        id: m.id,
        name: m.name.clone(),
        peer_urls: vec![m.peer_url.clone()],
        client_urls: Vec::new(),
        learner: m.learner,
    });
    Ok(Answer {
        status: Status {
            header: Header { cluster_id: cluster.id, member_id: own.id, revision: cluster.index, raft_term: 2 },
            version: (*world.versions.get(&cluster.name).unwrap_or(&super::fleet::VERSION)).into(),
            leader: leader.unwrap_or(0),
            raft_index: cluster.index,
            raft_term: 2,
            raft_applied_index: applied,
            learner: own.learner,
            ..Status::default()
        },
        members: if own.learner { Vec::new() } else { members.collect() },
        linearizable: leader.is_some() && !own.learner,
        healthy: leader.is_some(),
        alarms: cluster.alarm.iter().map(|(id, _)| Alarm { member_id: *id, alarm: "NOSPACE".into() }).collect(),
    })
}

fn applied(world: &World, cluster: &Cluster, running: &Running) -> u64 {
    match running.synced_at {
        Some(at) if at <= world.now => cluster.index,
        _ => 1,
    }
}

pub fn is_synced(world: &World, machine: usize) -> bool {
    world.machines.get(machine).and_then(|m| m.etcd).and_then(|e| e.synced_at).is_some_and(|at| at <= world.now)
}

/// A call through the member on machine `through`, which must lead to the leader.
fn writable(world: &World, through: usize) -> Result<u64, Fault> {
    let answer = answer(world, through)?;
    if answer.status.leader == 0 {
        return Err(Fault::Etcd(Kind::NoQuorum, "etcdserver: no leader".into()));
    }
    Ok(answer.status.header.cluster_id)
}

pub fn add_learner(world: &mut World, by: &By, through: usize, peer_url: &str) -> Result<(), Fault> {
    let id = writable(world, through)?;
    let now = world.now;
    let refused = |kind, text: &str| Err(Fault::Etcd(kind, format!("etcdserver: {text}")));
    let Some(cluster) = world.clusters.get(&id) else { return Err(Fault::Unreachable("gone".into())) };
    if cluster.members.iter().any(|m| m.peer_url == peer_url) {
        return refused(Kind::PeerUrlExists, "Peer URLs already exists");
    }
    if cluster.members.iter().any(|m| m.learner) {
        return refused(Kind::TooManyLearners, "too many learner members in cluster");
    }
    let all = cluster.standing(world, None) == cluster.voters().count();
    if !all || now < cluster.disturbed_at + CONNECTED_MS && cluster.disturbed_at > 0 {
        return refused(Kind::UnhealthyCluster, "unhealthy cluster");
    }
    let (name, member) = (cluster.name.clone(), hash(&format!("{id} {peer_url} {now}")));
    let fresh = Member {
        id: member,
        name: String::new(),
        peer_url: peer_url.to_owned(),
        learner: true,
        had_data: false,
        machine: None,
    };
    if let Some(cluster) = world.clusters.get_mut(&id) {
        cluster.members.push(fresh);
        cluster.index += 1;
    }
    world.effect(by, What::MemberAdded { cluster: name, peer_url: peer_url.to_owned() });
    Ok(())
}

pub fn remove(world: &mut World, by: &By, through: usize, peer_url: &str) -> Result<(), Fault> {
    let id = writable(world, through)?;
    let known = |c: &Cluster| c.members.iter().find(|m| m.peer_url == peer_url).cloned();
    let Some((name, member)) = world.clusters.get(&id).and_then(|c| Some((c.name.clone(), known(c)?))) else {
        return Err(Fault::Etcd(Kind::MemberNotFound, "etcdserver: member not found".into()));
    };
    // etcd takes out whom it is told to take out; whether that was right is for the checks to say.
    let machine = member.machine.and_then(|m| world.machines.get(m));
    let wiped = machine.is_some_and(|m| m.etcd.is_none() && m.system().is_none_or(|(_, s)| s.data.is_none()));
    if let Some(cluster) = world.clusters.get_mut(&id) {
        cluster.members.retain(|m| m.peer_url != peer_url);
        cluster.index += 1;
    }
    // One that is no member any more ends by itself.
    if let Some(m) = member.machine.and_then(|m| world.machines.get_mut(m))
        && m.etcd.is_some_and(|e| e.cluster == id && e.member == member.id)
    {
        m.etcd = None;
    }
    let node = member.machine.map(|m| world.name(m)).unwrap_or_default();
    world.effect(by, What::MemberRemoved { cluster: name, node, wiped, learner: member.learner });
    Ok(())
}

pub fn promote(world: &mut World, by: &By, through: usize, peer_url: &str) -> Result<(), Fault> {
    let id = writable(world, through)?;
    let refused = |kind, text: &str| Err(Fault::Etcd(kind, format!("etcdserver: {text}")));
    let found = world
        .clusters
        .get(&id)
        .and_then(|c| c.members.iter().find(|m| m.peer_url == peer_url).map(|m| (c.name.clone(), m.clone())));
    let Some((name, member)) = found else { return refused(Kind::MemberNotFound, "member not found") };
    if !member.learner {
        return refused(Kind::NotALearner, "can only promote a learner member");
    }
    let synced = member.machine.is_some_and(|m| is_synced(world, m));
    // Ninety percent of the leader's log is enough for etcd itself: an unsynced one may pass here by chance.
    if !synced {
        return refused(Kind::LearnerNotReady, "can only promote a learner member which is in sync with leader");
    }
    if let Some(cluster) = world.clusters.get_mut(&id) {
        cluster.index += 1;
        if let Some(m) = cluster.members.iter_mut().find(|m| m.peer_url == peer_url) {
            m.learner = false;
        }
    }
    let node = member.machine.map(|m| world.name(m)).unwrap_or_default();
    world.effect(by, What::Promoted { cluster: name, node, synced });
    Ok(())
}

/// Writes a key through one and reads it, linearizably, through the other.
pub fn write_and_read(world: &mut World, through: usize, read: usize) -> Result<u64, Fault> {
    let id = writable(world, through)?;
    let other = writable(world, read)?;
    if let Some(cluster) = world.clusters.get_mut(&id) {
        cluster.index += 3;
    }
    if id != other {
        return Err(Fault::Malformed(format!("clusters {id:x} and {other:x}")));
    }
    Ok(id)
}

/// A fault as the drivers tell it.
pub fn failure(fault: &Fault, what: &str) -> Failure {
    fault.failure(what)
}
