//! How a node or a cluster stands, folded from the journal, the store and what was last seen. Pure.

use std::collections::{BTreeMap, HashMap};

use super::logs;
use crate::{
    model::{
        Failure, Fleet, clock,
        facts::{InstallPhase, NodeRecord, UnixMs},
        fleet::ClusterDriver,
        power::{BootTarget, PowerState},
    },
    output::resource::{ClusterView, NodeView},
    plan::{Class, Plan, Step, StepKind, Subject},
    store::{Record, RecordKind, RunHead, RunState, Standings},
};

/// What is remembered of a fleet.
pub struct Memory<'a> {
    fleet: &'a Fleet,
    /// Newest first.
    runs: &'a [RunHead],
    open: BTreeMap<&'a str, &'a OpenRun>,
    standings: &'a Standings,
    /// Whether a process that may still act holds the run: the one that began it, or one that resumed it.
    alive: &'a dyn Fn(&str) -> bool,
    /// Node → its newest run.
    run_of: HashMap<&'a str, &'a RunHead>,
    /// Node → clusters that it is a member of.
    clusters_of: HashMap<&'a str, Vec<&'a str>>,
}

/// A run that has something to do yet, with its plan and what its journal says of each step.
pub struct OpenRun {
    pub id: String,
    /// By subject: `n1`, `cluster/core`.
    tracks: HashMap<String, Vec<Step>>,
    /// Member → clusters that have steps for it, in the plan's order.
    joins: HashMap<String, Vec<String>>,
    steps: HashMap<String, Past>,
}

/// What a run's journal says of one step.
struct Past {
    /// The last of intent, done and failed.
    last: RecordKind,
    begun: Option<UnixMs>,
    done: Option<UnixMs>,
}

impl OpenRun {
    pub fn new(id: &str, plan: Plan, journal: &[Record]) -> OpenRun {
        let mut steps: HashMap<String, Past> = HashMap::new();
        for record in journal {
            if !matches!(record.kind, RecordKind::Intent | RecordKind::Done | RecordKind::Failed) {
                continue;
            }
            let past = steps.entry(record.step.clone()).or_insert(Past { last: record.kind, begun: None, done: None });
            past.last = record.kind;
            match record.kind {
                RecordKind::Intent => past.begun = Some(record.at_ms),
                RecordKind::Done => past.done = Some(record.at_ms),
                _ => {}
            }
        }
        let mut joins: HashMap<String, Vec<String>> = HashMap::new();
        for track in &plan.tracks {
            let Subject::Cluster(cluster) = &track.subject else { continue };
            for member in track.steps.iter().filter_map(|s| s.kind.member()) {
                let clusters = joins.entry(member.to_owned()).or_default();
                if clusters.last() != Some(cluster) {
                    clusters.push(cluster.clone());
                }
            }
        }
        let tracks = plan.tracks.into_iter().map(|t| (t.subject.to_string(), t.steps)).collect();
        OpenRun { id: id.to_owned(), tracks, joins, steps }
    }
}

/// What was last seen of a node, as far as its standing depends on it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When it was last seen, if ever.
    pub at: Option<UnixMs>,
    /// When its BMC was asked, and the power that it told.
    pub bmc: Option<(UnixMs, Result<PowerState, Failure>)>,
    /// The first identity that is not the inventory's.
    pub mismatch: Option<String>,
    /// Why the installed system did not answer.
    pub silence: Option<Failure>,
    pub record: Option<NodeRecord>,
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
        let word = match self.step.kind.about() {
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

impl<'a> Memory<'a> {
    pub fn new(
        fleet: &'a Fleet,
        runs: &'a [RunHead],
        open: &'a [OpenRun],
        standings: &'a Standings,
        alive: &'a dyn Fn(&str) -> bool,
    ) -> Memory<'a> {
        let mut run_of = HashMap::new();
        // A playbook's own run does nothing to a machine: the runs of its steps do.
        for run in runs.iter().filter(|r| !r.goal.is_playbook()) {
            for node in &run.goal.scope().0 {
                run_of.entry(node.as_str()).or_insert(run);
            }
        }
        let mut clusters_of: HashMap<&str, Vec<&str>> = HashMap::new();
        for cluster in fleet.clusters.values() {
            for member in &cluster.members {
                clusters_of.entry(member).or_default().push(&cluster.name);
            }
        }
        let open = open.iter().map(|run| (run.id.as_str(), run)).collect();
        Memory { fleet, runs, open, standings, alive, run_of, clusters_of }
    }

    /// The last run that names this node.
    pub fn run_of(&self, node: &str) -> Option<&RunHead> {
        self.run_of.get(node).copied()
    }

    /// The first step that is not done, of those that `mine` picks.
    fn pending(&self, run: &RunHead, subject: &str, mine: impl Fn(&Step) -> bool) -> Option<Pending> {
        let open = self.open.get(run.id.as_str())?;
        let mut before: Option<UnixMs> = None;
        for step in open.tracks.get(subject)? {
            let past = open.steps.get(&step.id);
            if let Some(done) = past.filter(|p| p.last == RecordKind::Done) {
                before = done.done;
                continue;
            }
            if !mine(step) {
                continue;
            }
            let begun = past.and_then(|p| p.begun);
            // A step that only looks leaves no intent: it began when the one before it was done.
            let looks = (step.kind.class() == Class::Observe && step.awaits.is_empty()).then_some(before).flatten();
            let stopped = match run.state {
                RunState::Interrupted => Some("was interrupted"),
                RunState::Paused => Some("is paused"),
                RunState::Halted => Some("halted"),
                _ if !(self.alive)(&run.id) => Some("crashed"),
                _ => None,
            };
            return Some(Pending { run: run.id.clone(), step: step.clone(), since: begun.or(looks), stopped });
        }
        None
    }

    /// What an open run has yet to do for a node: on the machine, or else in its cluster.
    pub fn pending_of_node(&self, node: &str) -> Option<Pending> {
        let run = self.run_of(node)?;
        self.pending(run, node, |_| true).or_else(|| {
            let clusters = self.open.get(run.id.as_str())?.joins.get(node)?.iter();
            clusters
                .filter(|c| self.fleet.clusters.contains_key(*c))
                .find_map(|c| self.pending(run, &format!("cluster/{c}"), |step| step.kind.member() == Some(node)))
        })
    }

    pub fn pending_of_cluster(&self, cluster: &str) -> Option<Pending> {
        let subject = format!("cluster/{cluster}");
        self.runs.iter().find_map(|run| self.pending(run, &subject, |_| true))
    }

    /// When a step of a subject was last done.
    fn done(&self, subject: &str, word: &str) -> Option<UnixMs> {
        self.standings.get(subject).and_then(|s| s.done.get(word)).copied()
    }

    /// When a run last verified this node as a member, since it was installed.
    fn verified(&self, node: &str, installed: UnixMs) -> Option<UnixMs> {
        let clusters = self.clusters_of.get(node)?.iter();
        let verified = clusters.filter_map(|c| self.done(&format!("cluster/{c}"), &format!("verify-member-{node}")));
        verified.filter(|at| *at >= installed).max()
    }

    /// A failure of the last run that nothing came after.
    fn failed(&self, run: &RunHead, subject: &str) -> Option<Failure> {
        let last = self.standings.get(subject)?.last.as_ref()?;
        let failure = last.failure.as_ref().filter(|_| last.run == run.id && last.kind == RecordKind::Failed)?;
        serde_json::from_value(failure.clone()).ok()
    }

    /// A step that leaves the machine on, later than the BMC was asked.
    fn switched_on(&self, node: &str, asked: UnixMs) -> Option<UnixMs> {
        const ON: [&str; 5] = ["boot-installer", "await-claim", "reboot-to-disk", "await-installed", "power-on"];
        ON.iter().filter_map(|word| self.done(node, word)).max().filter(|at| *at > asked)
    }

    pub fn node(&self, name: &str, seen: &Seen) -> NodeView {
        let run = self.run_of(name);
        let failed = run.and_then(|r| self.failed(r, name));
        let pending = self.pending_of_node(name);
        let installed = seen.record.as_ref().filter(|r| r.phase == InstallPhase::Installed);
        let member = installed.and_then(|r| self.verified(name, r.at));
        let installing =
            pending.as_ref().is_some_and(|p| p.step.kind.member().is_none() && !p.step.kind.leaves_the_system());
        let joining = pending.as_ref().is_some_and(|p| p.step.kind.member().is_some());
        let phase = match (installed.is_some(), member) {
            (false, _) if failed.is_some() => "Failed",
            _ if installing => "Installing",
            (true, Some(_)) => "Member",
            (true, None) if joining => "Joining",
            (true, None) => "Installed",
            (false, _) if seen.record.as_ref().is_some_and(|r| r.phase == InstallPhase::Unknown) => "Unknown",
            (false, _) if seen.record.is_some() => "Installing",
            (false, _) if seen.at.is_some() => "Registered",
            (false, _) => "Unknown",
        };
        let bmc = seen.bmc.as_ref();
        let seen_on = self.switched_on(name, bmc.map_or(0, |(at, _)| *at));
        let reason = failed
            .map(|f| f.to_string())
            .or_else(|| bmc.and_then(|(_, power)| power.as_ref().err()).map(ToString::to_string))
            .or_else(|| seen.mismatch.clone())
            .or_else(|| seen.silence.as_ref().map(ToString::to_string))
            .or_else(|| pending.as_ref().filter(|p| p.stopped.is_some()).map(Pending::words));
        NodeView {
            phase: Some(phase.to_owned()),
            power: match seen_on {
                Some(_) => Some(PowerState::On),
                None => bmc.and_then(|(_, power)| power.as_ref().ok()).copied(),
            },
            generation: seen.record.as_ref().map(|r| r.generation),
            run: run.map(|r| r.id.clone()),
            observed: seen.at.max(seen_on).max(member),
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
            StepKind::RemoveMember { .. } => vec![status, list, etcdctl("member remove ID".into())],
            StepKind::Promote { .. } => vec![list, etcdctl("member promote ID".into())],
            StepKind::AwaitSynced { .. } | StepKind::VerifyMember { .. } => {
                vec![status, etcdctl("endpoint status --cluster -w table".into())]
            }
            _ => vec![status, format!("rackctl console {member}")],
        }
    }
}

/// Records as `describe` tells them.
pub fn events(records: &[Record]) -> Vec<(UnixMs, String)> {
    records.iter().map(|r| (r.at_ms, format!("{:<14} {}", logs::kind_word(r.kind), logs::said(r)))).collect()
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
        StepKind::LeaveInstaller { on: true } => {
            vec![boot("none"), format!("rackctl power cycle {node} --force"), console]
        }
        StepKind::LeaveInstaller { on: false } => vec![boot("none"), format!("rackctl power off {node} --force")],
        _ => vec![format!("rackctl power status {node}"), console],
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
