//! How a node or a cluster stands, folded from the journal, the store and what was last seen. Pure.

use super::logs;
use crate::{
    model::{
        Failure, Fleet, clock,
        facts::{InstallPhase, NodeFacts, UnixMs},
        fleet::ClusterDriver,
        power::{BootTarget, PowerState},
    },
    output::resource::{ClusterView, NodeView},
    plan::{Class, Plan, Step, StepKind},
    store::{Record, RecordKind, RunRecord, RunState},
};

/// What is remembered of a fleet.
pub struct Memory<'a> {
    pub fleet: &'a Fleet,
    /// Newest first.
    pub runs: &'a [RunRecord],
    /// Oldest first, all runs.
    pub chain: &'a [Record],
    /// Whether a process that may still act holds the run: the one that began it, or one that resumed it.
    pub alive: &'a dyn Fn(&RunRecord) -> bool,
}

/// The step that an open run has in hand for a subject.
pub struct Pending {
    pub run: String,
    pub step: Step,
    /// `None`: not begun.
    since: Option<UnixMs>,
    /// Why nobody works on it now.
    stopped: Option<&'static str>,
}

impl Pending {
    fn words(&self) -> String {
        let word = match self.step.kind.member() {
            Some(member) => format!("{} {member}", self.step.kind.word()),
            None => self.step.kind.word().to_owned(),
        };
        match (self.stopped, self.since, self.step.awaits.first()) {
            (Some(how), ..) => format!("run {} {how} at {word}; rackctl resume {}", self.run, self.run),
            (None, Some(at), _) => {
                format!("{word} since {}, at most {} s", clock::utc(at), self.step.kind.deadline_s())
            }
            (None, None, Some(awaited)) => format!("{word} waits for {awaited}"),
            (None, None, None) => format!("{word} is next"),
        }
    }
}

pub fn is_open(run: &RunRecord) -> bool {
    matches!(run.state, RunState::Running | RunState::Interrupted)
}

impl Memory<'_> {
    /// The last run that names this node.
    pub fn run_of(&self, node: &str) -> Option<&RunRecord> {
        // A playbook's own run does nothing to a machine: the runs of its steps do.
        let names = |r: &&RunRecord| !r.goal.is_playbook() && r.goal.scope().0.iter().any(|n| n == node);
        self.runs.iter().find(names)
    }

    fn last(&self, run: &str, step: &str, of: &[RecordKind]) -> Option<&Record> {
        self.chain.iter().rev().find(|r| r.run == run && r.step == step && of.contains(&r.kind))
    }

    fn is_done(&self, run: &str, step: &str) -> bool {
        let last = self.last(run, step, &[RecordKind::Intent, RecordKind::Done, RecordKind::Failed]);
        last.is_some_and(|r| r.kind == RecordKind::Done)
    }

    /// The first step that is not done, of those that `mine` picks.
    fn pending(&self, run: &RunRecord, subject: &str, mine: impl Fn(&Step) -> bool) -> Option<Pending> {
        let plan = serde_json::from_value::<Plan>(run.plan.clone()).ok().filter(|_| is_open(run))?;
        let track = plan.tracks.into_iter().find(|t| t.subject.to_string() == subject)?;
        let mut before: Option<UnixMs> = None;
        for step in track.steps {
            if self.is_done(&run.id, &step.id) {
                before = self.last(&run.id, &step.id, &[RecordKind::Done]).map(|r| r.at_ms);
                continue;
            }
            if !mine(&step) {
                continue;
            }
            let begun = self.last(&run.id, &step.id, &[RecordKind::Intent]).map(|r| r.at_ms);
            // A step that only looks leaves no intent: it began when the one before it was done.
            let looks = (step.kind.class() == Class::Observe && step.awaits.is_empty()).then_some(before).flatten();
            let stopped = match run.state {
                RunState::Interrupted => Some("was interrupted"),
                _ if !(self.alive)(run) => Some("crashed"),
                _ => None,
            };
            return Some(Pending { run: run.id.clone(), step, since: begun.or(looks), stopped });
        }
        None
    }

    /// What an open run has yet to do for a node: on the machine, or else in its cluster.
    pub fn pending_of_node(&self, node: &str) -> Option<Pending> {
        let run = self.run_of(node)?;
        self.pending(run, node, |_| true).or_else(|| {
            self.fleet
                .clusters
                .keys()
                .find_map(|c| self.pending(run, &format!("cluster/{c}"), |step| step.kind.member() == Some(node)))
        })
    }

    pub fn pending_of_cluster(&self, cluster: &str) -> Option<Pending> {
        let subject = format!("cluster/{cluster}");
        self.runs.iter().find_map(|run| self.pending(run, &subject, |_| true))
    }

    /// When a run last verified this node as a member, since it was installed.
    fn verified(&self, node: &str, installed: UnixMs) -> Option<UnixMs> {
        let ours = |c: &str| format!("cluster/{c}/verify-member-{node}");
        let steps: Vec<String> = self
            .fleet
            .clusters
            .values()
            .filter(|c| c.members.iter().any(|m| m == node))
            .map(|c| ours(&c.name))
            .collect();
        let mut records = self.chain.iter().rev().filter(|r| r.kind == RecordKind::Done && r.at_ms >= installed);
        records.find(|r| steps.contains(&r.step)).map(|r| r.at_ms)
    }

    /// A failure of the last run that nothing came after.
    fn failed(&self, run: &RunRecord, subject: &str) -> Option<Failure> {
        let mine = |r: &&Record| {
            r.run == run.id
                && r.subject == subject
                && matches!(r.kind, RecordKind::Failed | RecordKind::Done | RecordKind::Intent)
        };
        let last = self.chain.iter().rev().find(mine).filter(|r| r.kind == RecordKind::Failed)?;
        serde_json::from_value(last.body.get("failure")?.clone()).ok()
    }

    /// A step that leaves the machine on, later than the BMC was asked.
    fn switched_on(&self, node: &str, asked: UnixMs) -> Option<UnixMs> {
        let on = |r: &&Record| {
            let word = r.step.rsplit('/').next().unwrap_or_default();
            r.kind == RecordKind::Done
                && matches!(word, "boot-installer" | "await-claim" | "reboot-to-disk" | "await-installed" | "power-on")
        };
        self.chain.iter().rev().filter(|r| r.subject == node).find(on).map(|r| r.at_ms).filter(|at| *at > asked)
    }

    /// `at`: when the node was last seen, if ever.
    pub fn node(&self, name: &str, at: Option<UnixMs>, facts: &NodeFacts) -> NodeView {
        let run = self.run_of(name);
        let failed = run.and_then(|r| self.failed(r, name));
        let pending = self.pending_of_node(name);
        let installed = facts.record.as_ref().filter(|r| r.phase == InstallPhase::Installed);
        let member = installed.and_then(|r| self.verified(name, r.at));
        let installing =
            pending.as_ref().is_some_and(|p| p.step.kind.member().is_none() && p.step.kind != StepKind::PowerOn);
        let joining = pending.as_ref().is_some_and(|p| p.step.kind.member().is_some());
        let phase = match (installed.is_some(), member) {
            (false, _) if failed.is_some() => "Failed",
            _ if installing => "Installing",
            (true, Some(_)) => "Member",
            (true, None) if joining => "Joining",
            (true, None) => "Installed",
            (false, _) if facts.record.as_ref().is_some_and(|r| r.phase == InstallPhase::Unknown) => "Unknown",
            (false, _) if facts.record.is_some() => "Installing",
            (false, _) if at.is_some() => "Registered",
            (false, _) => "Unknown",
        };
        let bmc = facts.bmc.as_ref();
        let seen_on = self.switched_on(name, bmc.map_or(0, |b| b.at));
        let reason = failed
            .map(|f| f.to_string())
            .or_else(|| bmc.and_then(|b| b.value.as_ref().err()).map(ToString::to_string))
            .or_else(|| facts.identity_mismatches.first().cloned())
            .or_else(|| facts.system.as_ref().and_then(|s| s.value.as_ref().err()).map(ToString::to_string))
            .or_else(|| pending.as_ref().filter(|p| p.stopped.is_some()).map(Pending::words));
        NodeView {
            phase: Some(phase.to_owned()),
            power: match seen_on {
                Some(_) => Some(PowerState::On),
                None => bmc.and_then(|b| b.value.as_ref().ok()).map(|b| b.power),
            },
            generation: facts.record.as_ref().map(|r| r.generation),
            run: run.map(|r| r.id.clone()),
            observed: at.max(seen_on).max(member),
            reason,
            waiting: pending.filter(|p| p.stopped.is_none()).map(|p| p.words()),
        }
    }

    /// As runs left it: which of its members were verified, and when the last of them was.
    pub fn cluster(&self, name: &str, installed: impl Fn(&str) -> Option<UnixMs>) -> ClusterView {
        let Some(cluster) = self.fleet.clusters.get(name) else { return ClusterView::default() };
        let verified: Vec<UnixMs> = cluster.members.iter().filter_map(|m| self.verified(m, installed(m)?)).collect();
        let pending = self.pending_of_cluster(name).map(|p| p.words());
        if verified.is_empty() {
            return ClusterView { reason: pending, ..ClusterView::default() };
        }
        ClusterView {
            members: u32::try_from(verified.len()).ok(),
            observed: verified.into_iter().max(),
            reason: pending.or_else(|| Some("as runs verified it; --refresh asks the members".to_owned())),
            ..ClusterView::default()
        }
    }

    /// The last `most` things that happened to a subject, newest last.
    pub fn events(&self, subject: &str, most: usize) -> Vec<(UnixMs, String)> {
        let mine: Vec<&Record> = self.chain.iter().filter(|r| r.subject == subject).collect();
        let told = |r: &&Record| (r.at_ms, format!("{:<14} {}", logs::kind_word(r.kind), logs::said(r)));
        mine[mine.len().saturating_sub(most)..].iter().map(told).collect()
    }

    /// Commands with which a person finishes a step; none when nothing is pending.
    pub fn by_hand(&self, pending: &Pending, node: Option<&str>) -> Vec<String> {
        let mut commands = match pending.step.kind.member() {
            Some(member) => self.cluster_by_hand(&pending.step.kind, member),
            None => node.map(|n| machine_by_hand(&pending.step.kind, n)).unwrap_or_default(),
        };
        match pending.stopped {
            Some(_) => commands.push(format!("rackctl resume {}", pending.run)),
            None => commands.push(format!("rackctl logs {} --follow", pending.run)),
        }
        commands
    }

    /// `etcdctl` runs on a member that has been verified, else on the one that the step is about.
    fn cluster_by_hand(&self, kind: &StepKind, member: &str) -> Vec<String> {
        let Some(cluster) = self.fleet.clusters.values().find(|c| c.members.iter().any(|m| m == member)) else {
            return Vec::new();
        };
        let ClusterDriver::Etcd { client_port, peer_port, .. } = cluster.driver else { return Vec::new() };
        let voter = cluster.members.iter().find(|m| self.verified(m, 0).is_some()).map_or(member, String::as_str);
        let Some(address) = self.fleet.member_address(voter, client_port) else { return Vec::new() };
        let etcdctl = |words: String| format!("rackctl ssh {voter} -- etcdctl --endpoints http://{address} {words}");
        let list = etcdctl("member list -w table".into());
        let status = format!("rackctl ssh {member} -- rackctl-node status");
        match kind {
            StepKind::AddLearner { .. } => {
                let peer = self.fleet.member_address(member, peer_port);
                let add = peer.map(|p| etcdctl(format!("member add {member} --learner --peer-urls http://{p}")));
                std::iter::once(list).chain(add).collect()
            }
            StepKind::Promote { .. } => vec![list, etcdctl("member promote ID".into())],
            StepKind::AwaitSynced { .. } | StepKind::VerifyMember { .. } => {
                vec![status, etcdctl("endpoint status --cluster -w table".into())]
            }
            _ => vec![status, format!("rackctl console {member}")],
        }
    }
}

fn machine_by_hand(kind: &StepKind, node: &str) -> Vec<String> {
    let boot = |target: &str| format!("rackctl boot set {target} {node}");
    let console = format!("rackctl console {node}");
    match kind {
        StepKind::CheckIdentity => vec![format!("rackctl bmc info {node} -o wide")],
        StepKind::BootInstaller { target, .. } => {
            let word = match target {
                BootTarget::Http => "http",
                BootTarget::Cd => "cd",
                _ => "pxe",
            };
            vec![boot(word), format!("rackctl power cycle {node} --force"), console]
        }
        StepKind::WithdrawNetboot => vec![boot("none"), format!("rackctl boot show {node}")],
        StepKind::RebootToDisk => vec![boot("none"), format!("rackctl power reset {node} --force"), console],
        StepKind::AwaitInstalled { .. } => vec![console, format!("rackctl ssh {node} -- rackctl-node status")],
        StepKind::PowerOn => vec![format!("rackctl power on {node}"), console],
        _ => vec![format!("rackctl power status {node}"), console],
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
