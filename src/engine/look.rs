//! What is concluded from what a driver saw: is the step done already, has it come to hold? Pure.
//!
//! The drivers of real machines and those of the simulation ask these functions, so that both judge alike; how the
//! values are come by (BMC, installer's reports, member lists) is the driver's business.

use std::time::Duration;

use rackctl_wire::{Claim, Disk, Hardware, NodeStatus, Report, Stage};

use super::Found;
use crate::{
    model::{
        Failure,
        facts::{ClusterFacts, MemberFacts, NodeRecord},
        failure::Cause,
        fleet::Node,
        power::{BootOverride, PowerAction, PowerState},
    },
    plan::{
        quorum::{self, Change},
        wipe_guard::{self, Target},
    },
};

/// `boot-installer` after a crash. `before`: the last reset time that stands in the intent.
/// The reset is the mark: a machine that is on and was reset since the intent has had its boot.
pub fn installer_booted(power: PowerState, last_reset: Option<&str>, before: Option<&str>) -> Found {
    let done = power == PowerState::On && last_reset.is_some() && last_reset != before;
    if done { Found::Done } else { Found::NotDone }
}

/// `await-claim`: `None` while there is nothing to say yet.
pub fn claimed(claim: Option<&Claim>, refused: Option<&Failure>) -> Option<Result<(), Failure>> {
    match claim {
        Some(_) => Some(Ok(())),
        None => refused.cloned().map(Err),
    }
}

/// `check-disks`: the disks, once the installer has looked at them; `None`: not yet.
pub fn disks_seen(report: Option<&Report>, failed: Option<Failure>) -> Option<Result<Vec<Disk>, Failure>> {
    if let Some(failure) = failed {
        return Some(Err(failure));
    }
    report.filter(|r| r.stage >= Stage::Ready).and_then(|r| r.disks.clone()).map(Ok)
}

/// Its disks, and the machine beside them where the installer tells.
pub type Looked = (Vec<Disk>, Option<Hardware>);

/// What the installer sees of its machine, once it has looked.
pub fn hardware_seen(report: Option<&Report>, failed: Option<Failure>) -> Option<Result<Looked, Failure>> {
    let disks = disks_seen(report, failed)?;
    Some(disks.map(|disks| (disks, report.and_then(|r| r.hardware.clone()))))
}

/// The disk that may be written on the machine that made `claim`: hardware minimum and wipe guard.
pub fn target(
    node: &Node,
    run: &str,
    claim: &Claim,
    disks: &[Disk],
    record: Option<&NodeRecord>,
    reinstall: bool,
) -> Result<Target, Failure> {
    minimum(node, claim.cores, claim.memory_bytes)?;
    wipe_guard::disk(node, run, disks, record, reinstall)
}

/// The class's or profile's minimum, before anything is wiped.
fn minimum(node: &Node, cores: u32, memory_bytes: u64) -> Result<(), Failure> {
    let short = |why: String| Err(Failure::new(Cause::Guard, format!("{}: hardware minimum", node.name), why));
    match (node.minimum.cores, node.minimum.memory_bytes) {
        (Some(want), _) if cores < want => short(format!("it has {cores} cores, the inventory asks for {want}")),
        (_, Some(want)) if memory_bytes < want => {
            short(format!("it has {memory_bytes} bytes of memory, the inventory asks for {want}"))
        }
        _ => Ok(()),
    }
}

/// Where a disk write stands that was begun before a crash, by the installer's last report.
#[derive(Clone, Debug, PartialEq)]
pub enum Writing {
    /// Written and read back under this very ticket.
    Written,
    /// The ticket never reached the installer.
    NotBegun,
    /// The order has to stand until it is carried out: the machine may have lost the answer.
    UnderWay,
    /// The installer stopped, or it is silent.
    Ended(Found),
}

/// `write-disk` after a crash. `heard`: a report of this process's time; `ticket`: id of the step's ticket.
pub fn write_begun(node: &str, ticket: &str, heard: Option<&Report>, failed: Option<Failure>) -> Writing {
    let Some(report) = heard else {
        let why = "a disk write was begun before the crash and the installer does not report any more";
        let failure = Failure::new(Cause::Unreachable, format!("{node}: write its disk"), why);
        return Writing::Ended(Found::Unknown(failure.next(format!("rackctl console {node}"))));
    };
    if let Some(failure) = failed {
        return Writing::Ended(Found::Contradiction(failure));
    }
    match report.stage {
        Stage::Written if report.ticket.as_deref() == Some(ticket) => Writing::Written,
        Stage::Ready => Writing::NotBegun,
        _ => Writing::UnderWay,
    }
}

/// `write-disk`: the time that each stage took, once it is written and read back; `None`: not yet.
pub fn written(
    report: Option<&Report>,
    failed: Option<Failure>,
    ticket: &str,
) -> Option<Result<Vec<(Stage, u64)>, Failure>> {
    if let Some(failure) = failed {
        return Some(Err(failure));
    }
    let report = report?;
    let written = report.stage == Stage::Written && report.ticket.as_deref() == Some(ticket);
    written.then(|| Ok(report.stage_started_ms.clone()))
}

/// `withdraw-netboot`: what the servers offer and what the BMC shows.
pub fn withdrawn(node: &str, offered: bool) -> Result<(), Failure> {
    if offered {
        return Err(Failure::new(Cause::Local, format!("{node}: withdraw network boot"), "it is still offered"));
    }
    Ok(())
}

/// `words`: the override as the BMC driver says it.
pub fn cleared(node: &str, boot: BootOverride, words: &str) -> Result<(), Failure> {
    if boot.is_cleared() {
        return Ok(());
    }
    Err(Failure::new(
        Cause::AcceptedButIgnored,
        format!("{node}: clear the boot override"),
        format!("the BMC still shows {words}"),
    )
    .next(format!("rackctl boot show {node}")))
}

/// `reboot-to-disk` after a crash: a machine that still reports has not restarted; a silent one, or one whose last word
/// is that it restarts, has left the installer.
pub fn rebooted(heard: Option<&Report>) -> Found {
    if heard.is_some_and(|report| report.stage != Stage::Restarting) { Found::NotDone } else { Found::Done }
}

/// `reboot-to-disk`: it said that it restarts, or is `silent` for longer than `silence`: since its last report, or since
/// it was told, where it never reported to this process.
pub fn has_left(report: Option<&Report>, silent: Duration, silence: Duration) -> bool {
    report.is_some_and(|r| r.stage == Stage::Restarting) || silent > silence
}

/// `power-on`
pub fn powered(power: PowerState) -> Found {
    if power == PowerState::On { Found::Done } else { Found::NotDone }
}

/// `set-power`: of a restart that was begun before a crash, the last reset time is the mark. `before` is the intent's.
pub fn power_changed(
    node: &str,
    action: PowerAction,
    power: PowerState,
    last_reset: Option<&str>,
    resumed: bool,
    before: Option<&str>,
) -> Found {
    match action {
        PowerAction::On if power == PowerState::On => Found::Done,
        PowerAction::GracefulShutdown | PowerAction::ForceOff if power == PowerState::Off => Found::Done,
        PowerAction::On | PowerAction::GracefulShutdown | PowerAction::ForceOff => Found::NotDone,
        _ if !resumed => Found::NotDone,
        // Off: the first half of a cycle was done.
        _ if power == PowerState::Off => Found::NotDone,
        _ if last_reset.is_some() && last_reset != before => Found::Done,
        _ if last_reset.is_some() => Found::NotDone,
        _ => Found::Contradiction(
            Failure::new(
                Cause::NeedsPerson,
                format!("{node}: restart"),
                "it was asked for before a crash, and its BMC keeps no time of the last reset: whether it happened cannot be seen",
            )
            .next(format!("rackctl console {node}, and rackctl abort")),
        ),
    }
}

/// It came up from the disk that was written, as what was written.
pub fn is_the_installed_one(
    node: &str,
    record: &NodeRecord,
    generation: u64,
    status: &NodeStatus,
) -> Result<(), Failure> {
    let differs = |what: &str, seen: String, want: String| {
        Err(Failure::new(
            Cause::Mismatch,
            format!("{node}: installed system"),
            format!("its {what} is {seen}, expected {want}"),
        )
        .next(format!("rackctl ssh {node} -- rackctl-node status")))
    };
    if status.config.node != node {
        return differs("name", status.config.node.clone(), node.to_owned());
    }
    if status.config.generation != generation {
        return differs("generation", status.config.generation.to_string(), generation.to_string());
    }
    if status.root_disk_guid != record.disk_guid {
        return differs("root disk's GUID", status.root_disk_guid.to_string(), record.disk_guid.to_string());
    }
    if status.system_sha256 != record.system_sha256 {
        return differs("system", status.system_sha256.clone(), record.system_sha256.clone());
    }
    Ok(())
}

/// Of a pool's nodes, those whose unavailability counts: voters of the list that are not healthy. What never joined, or
/// is on its way in, serves nothing that could be missed. Nobody answers: every one that is installed counts.
///
/// A voter that answers in a cluster without a leader is not away: the others are, and it is needed when they return.
pub fn away<'a>(nodes: &'a [String], installed: &[&'a String], facts: Option<&ClusterFacts>) -> Vec<&'a String> {
    let Some(facts) = facts else { return installed.to_vec() };
    let waits = |m: &MemberFacts| facts.leader.is_none() && m.raft_index.is_some();
    let away = |n: &&String| facts.members.iter().any(|m| m.name == **n && !m.learner && !m.healthy && !waits(m));
    nodes.iter().filter(away).collect()
}

/// The member of the list that has this peer URL.
pub fn member<'a>(facts: &'a ClusterFacts, peer_url: &str) -> Option<&'a MemberFacts> {
    facts.members.iter().find(|m| m.peer_urls.iter().any(|u| u == peer_url))
}

fn what(cluster: &str, member: &str, doing: &str) -> String {
    format!("cluster {cluster}: {doing} {member}")
}

/// `bootstrap`, before a look at the machine. `made`: run and generation of the recorded ticket.
/// `None`: our own ticket, given before a crash; whether it was used is for the machine to say.
pub fn bootstrap(cluster: &str, name: &str, run: &str, made: Option<(&str, u64)>, resumed: bool) -> Option<Found> {
    match made {
        Some((by, generation)) if by != run => Some(Found::Contradiction(
            Failure::new(
                Cause::Guard,
                what(cluster, name, "bootstrap"),
                format!("run {by} made it before (generation {generation}): a cluster is never made twice by itself"),
            )
            .next(format!("rackctl describe cluster {cluster}")),
        )),
        _ if !resumed => Some(Found::NotDone),
        // The same token leads to the same cluster.
        _ => None,
    }
}

/// `remove-member`. `status`: of its machine, asked just now: one that was told to run a member has data, whatever it
/// looks like from outside, and is not taken out by itself.
pub fn removed(cluster: &str, name: &str, facts: &ClusterFacts, peer_url: &str, status: &NodeStatus) -> Found {
    match (member(facts, peer_url), &status.etcd) {
        (None, _) => Found::Done,
        (Some(_), None) => Found::NotDone,
        (Some(m), Some(_)) => Found::Contradiction(
            Failure::new(
                Cause::Guard,
                what(cluster, name, "remove"),
                format!("its machine has the data of a member, so that {} may come back", m.id),
            )
            .next(format!("rackctl describe node {name}")),
        ),
    }
}

/// `remove-member`, afterwards.
pub fn is_removed(cluster: &str, name: &str, facts: &ClusterFacts, peer_url: &str) -> Result<(), Failure> {
    match member(facts, peer_url) {
        None => Ok(()),
        Some(m) => {
            let why = format!("{} is in the member list still", m.id);
            Err(Failure::new(Cause::AcceptedButIgnored, what(cluster, name, "remove"), why))
        }
    }
}

/// `add-learner`
pub fn added(facts: &ClusterFacts, peer_url: &str) -> Found {
    if member(facts, peer_url).is_some() { Found::Done } else { Found::NotDone }
}

/// `add-learner`, afterwards.
pub fn is_added(cluster: &str, name: &str, facts: &ClusterFacts, peer_url: &str) -> Result<(), Failure> {
    match member(facts, peer_url) {
        Some(_) => Ok(()),
        None => {
            Err(Failure::new(Cause::AcceptedButIgnored, what(cluster, name, "add"), "it is not in the member list"))
        }
    }
}

/// `bootstrap` after a crash, with our own ticket: whether the machine runs with its token. Verified and not taken for
/// done: this process has yet to learn the cluster's id and whom it can ask.
pub fn bootstrapped(token: &str, status: &NodeStatus) -> Found {
    let ours = status.etcd.as_ref().is_some_and(|e| e.running && e.configured.initial_cluster_token == token);
    if ours { Found::UnderWay } else { Found::NotDone }
}

/// `start-member` after a crash. `generation`: of the machine's installation. Running is not yet joined: it is verified.
pub fn started(cluster: &str, generation: u64, status: &NodeStatus) -> Found {
    let running = status
        .etcd
        .as_ref()
        .is_some_and(|e| e.running && e.configured.cluster == cluster && e.configured.generation == generation);
    if running { Found::UnderWay } else { Found::NotDone }
}

/// `promote`. What was promoted before a crash is verified, so that this process asks it too from now on.
pub fn promoted(cluster: &str, name: &str, facts: &ClusterFacts, peer_url: &str) -> Found {
    match member(facts, peer_url) {
        Some(m) if !m.learner => Found::UnderWay,
        Some(_) => Found::NotDone,
        None => Found::Contradiction(Failure::new(
            Cause::Mismatch,
            what(cluster, name, "promote"),
            "it is not in the member list any more",
        )),
    }
}

/// The quorum guard before a change, on facts read just now: what time may mend is waited for, the rest is a
/// contradiction.
pub fn quorum_allows(cluster: &str, name: &str, seen: &quorum::World<'_>, change: &Change) -> Found {
    let refusals = quorum::refusals(seen, change);
    if refusals.is_empty() {
        return Found::NotDone;
    }
    let why: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    let failure = Failure::new(Cause::Guard, what(cluster, name, "quorum guard for"), why.join("; "))
        .next(format!("rackctl describe cluster {cluster}"));
    if refusals.iter().all(quorum::Refusal::may_pass) { Found::Held(failure) } else { Found::Contradiction(failure) }
}

/// `promote`, afterwards.
pub fn is_promoted(cluster: &str, name: &str, facts: &ClusterFacts, peer_url: &str) -> Result<(), Failure> {
    match member(facts, peer_url) {
        Some(m) if !m.learner => Ok(()),
        _ => Err(Failure::new(Cause::AcceptedButIgnored, what(cluster, name, "promote"), "it is still a learner")),
    }
}

/// `verify-member`: the cluster that answers is the one that was made. `made`: its recorded id, if it is known.
pub fn same_cluster(cluster: &str, name: &str, seen: &str, made: Option<&str>) -> Result<(), Failure> {
    match made {
        Some(id) if id != seen => Err(Failure::new(
            Cause::Mismatch,
            what(cluster, name, "verify"),
            format!("its cluster id is {seen}, the one that was made is {id}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
