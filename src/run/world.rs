//! What the drivers of a run share. Values of the run's start are immutable; the rest stands behind locks
//! that are never held across a wait.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::{Notify, mpsc, watch};

use super::{
    baselines::{SENT, Sent},
    board::{self, Offers},
    boots::{self, Left},
    clock,
    desk::Desk,
    keys::Keys,
    permits::Permits,
    sessions::{self, LogIn},
};
use crate::{
    bmc::{self, ladder::Undo},
    model::{
        Failure, Fleet,
        approval::Envelope,
        boot::{BootObject, BootTable},
        facts::NodeRecord,
        failure::Cause,
        fleet::Node,
        lease::Gate,
    },
    plan::{Plan, StepKind, wipe_guard::Target},
    remote,
    store::{Draft, Fence, Record, RecordKind, Store, StoreError},
};

/// For one log-in, look or change at a BMC.
const BMC_DEADLINE: Duration = Duration::from_secs(60);
/// How long the servers may take to take a new table over.
const TABLE_DEADLINE: Duration = Duration::from_secs(10);
/// The end of the servers reaches the loop within so long.
const NOTICE: Duration = Duration::from_secs(1);

/// What a world is made of.
pub struct WorldParts {
    pub fleet: Fleet,
    pub plan: Plan,
    pub run: String,
    pub store: Arc<dyn Store>,
    pub fence: Fence,
    pub keys: Arc<Keys>,
    pub api_pin: String,
    pub passwords: Arc<bmc::Passwords>,
    pub read_only: bool,
    pub objects: Vec<BootObject>,
    /// Our address on each network where DHCP will answer.
    pub servers: BTreeMap<String, std::net::Ipv4Addr>,
    /// Tables to the servers; none where the plan boots nothing.
    pub tables: Option<mpsc::UnboundedSender<BootTable>>,
    /// Version of the table in force.
    pub taken: watch::Receiver<u64>,
    pub first_table: u64,
    pub scratch: PathBuf,
    pub observer: Option<bmc::client::Observer>,
    /// How long a machine may take to change its power, where the operator said so.
    pub patience: Duration,
    pub lease: Duration,
    /// How long a machine that is on may take to show what its start brings into force, where the operator said so.
    pub settles: Option<Duration>,
    /// What was approved, and until when (milliseconds since 1970).
    pub approval: Option<(Envelope, u64)>,
}

pub struct World {
    pub fleet: Fleet,
    pub plan: Plan,
    pub run: String,
    pub store: Arc<dyn Store>,
    pub keys: Arc<Keys>,
    pub desk_changed: Notify,
    /// Where drivers ask before they take a machine away.
    pub permits: Arc<Permits>,
    pub patience: Duration,
    /// Until when effects may leave.
    pub gate: Arc<Gate>,
    pub lease: Duration,
    pub settles: Option<Duration>,
    pub approval: Option<(Envelope, u64)>,
    fence: Fence,
    api_pin: String,
    passwords: Arc<bmc::Passwords>,
    read_only: bool,
    objects: Vec<BootObject>,
    servers: BTreeMap<String, std::net::Ipv4Addr>,
    tables: Option<mpsc::UnboundedSender<BootTable>>,
    taken: watch::Receiver<u64>,
    scratch: PathBuf,
    observer: Option<bmc::client::Observer>,
    desk: Mutex<Desk>,
    offers: Mutex<Offers>,
    targets: Mutex<BTreeMap<String, Target>>,
    /// Last reset time that the identity check read, per node: the mark by which a reset is known later.
    last_reset: Mutex<BTreeMap<String, Option<String>>>,
    voters: Mutex<BTreeMap<String, Vec<String>>>,
    /// Since when a node's BMC could not be looked at, since boot; none: the last look went well.
    unseen: Mutex<BTreeMap<String, Duration>>,
    /// When this process last restarted a voter of a cluster, since boot.
    restarted: Mutex<BTreeMap<String, Duration>>,
    /// What has become of firmware images, by step.
    sent: Mutex<BTreeMap<String, Sent>>,
    /// How far the work of a BMC has come, by node: the step's name and percent.
    progress: Mutex<BTreeMap<String, (String, u32)>>,
    /// When this process last saw a learner (`cluster/member`) in sync, since boot.
    synced: Mutex<BTreeMap<String, Duration>>,
    /// What is to be undone when machines shall boot as ever; read when it is first asked for.
    boot_left: Mutex<Option<Left>>,
    /// What each machine was last set to boot from, in words.
    booted: Mutex<BTreeMap<String, String>>,
    /// What could not be seen of what was done to a machine.
    untold: Mutex<BTreeMap<String, String>>,
}

fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl World {
    pub fn new(parts: WorldParts) -> World {
        let desk = Mutex::new(Desk::new(&parts.run, &parts.fleet));
        let voters = parts.plan.tracks.iter().map(|t| (t.subject.name().to_owned(), t.voters.clone())).collect();
        World {
            desk,
            offers: Mutex::new(Offers { version: parts.first_table, attempts: BTreeMap::new() }),
            targets: Mutex::default(),
            last_reset: Mutex::default(),
            voters: Mutex::new(voters),
            unseen: Mutex::default(),
            desk_changed: Notify::new(),
            permits: Arc::default(),
            fleet: parts.fleet,
            plan: parts.plan,
            run: parts.run,
            store: parts.store,
            fence: parts.fence,
            keys: parts.keys,
            api_pin: parts.api_pin,
            passwords: parts.passwords,
            read_only: parts.read_only,
            objects: parts.objects,
            servers: parts.servers,
            tables: parts.tables,
            taken: parts.taken,
            scratch: parts.scratch,
            observer: parts.observer,
            patience: parts.patience,
            gate: Arc::new(Gate::new(clock::boot_ms)),
            lease: parts.lease,
            settles: parts.settles,
            sent: Mutex::default(),
            progress: Mutex::default(),
            approval: parts.approval,
            restarted: Mutex::default(),
            synced: Mutex::default(),
            boot_left: Mutex::default(),
            booted: Mutex::default(),
            untold: Mutex::default(),
        }
    }

    pub fn desk(&self) -> MutexGuard<'_, Desk> {
        unpoisoned(&self.desk)
    }

    /// What cannot be recorded is kept beside the store, or where there is room; the failure says where.
    pub fn append(&self, draft: Draft) -> Result<Record, StoreError> {
        let appended = self.store.append(&self.run, clock::unix_ms(), &self.fence, draft);
        appended.map_err(|error| error.rescued(&[&self.scratch]))
    }

    /// Renews the lease, and with it the right to send anything. `Fenced` names who took it.
    pub fn renew(&self) -> Result<(), StoreError> {
        let now = clock::stamp();
        match self.store.renew(&self.fence, &now) {
            Ok(()) => {
                self.gate.renewed(now.boot_ms, self.lease.as_millis() as u64);
                Ok(())
            }
            Err(error) => {
                if matches!(error, StoreError::Fenced { .. }) {
                    self.gate.shut();
                }
                Err(error)
            }
        }
    }

    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    pub fn scratch(&self) -> &std::path::Path {
        &self.scratch
    }

    /// The learner is in sync now.
    pub fn note_synced(&self, cluster: &str, member: &str) {
        unpoisoned(&self.synced).insert(format!("{cluster}/{member}"), clock::since_boot());
    }
    pub fn since_synced(&self, cluster: &str, member: &str) -> Option<Duration> {
        let at = unpoisoned(&self.synced).get(&format!("{cluster}/{member}")).copied()?;
        Some(clock::since_boot().saturating_sub(at))
    }

    /// A voter of the cluster was restarted now.
    pub fn note_restart(&self, cluster: &str) {
        unpoisoned(&self.restarted).insert(cluster.to_owned(), clock::since_boot());
    }
    pub fn since_restart(&self, cluster: &str) -> Option<Duration> {
        unpoisoned(&self.restarted).get(cluster).map(|at| clock::since_boot().saturating_sub(*at))
    }

    /// What has become of the image of this step.
    pub fn sent(&self, step: &str) -> Option<Sent> {
        unpoisoned(&self.sent).get(step).cloned()
    }
    /// As the journal says it.
    pub fn restore_sent(&self, step: &str, sent: Sent) {
        unpoisoned(&self.sent).insert(step.to_owned(), sent);
    }
    /// Durable before anything is concluded from it.
    pub fn note_sent(&self, node: &str, step: &str, sent: Sent) -> Result<(), Failure> {
        let draft = Draft {
            subject: node.to_owned(),
            step: step.to_owned(),
            attempt: 1,
            kind: RecordKind::Fact,
            body: serde_json::json!({ SENT: sent }),
        };
        self.append(draft).map_err(|e| store_failure(&e))?;
        self.restore_sent(step, sent);
        Ok(())
    }

    /// Shown with the next pulse; lost, it costs nothing.
    pub fn show_progress(&self, node: &str, kind: &StepKind, percent: u32) {
        unpoisoned(&self.progress).insert(node.to_owned(), (kind.name(), percent));
    }
    pub fn end_progress(&self, node: &str) {
        unpoisoned(&self.progress).remove(node);
    }
    /// Node, step and percent of all that is under way.
    pub fn progress(&self) -> Vec<(String, String, u32)> {
        let all = unpoisoned(&self.progress);
        all.iter().map(|(node, (step, percent))| (node.clone(), step.clone(), *percent)).collect()
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
    pub fn observer(&self) -> Option<bmc::client::Observer> {
        self.observer.clone()
    }

    pub fn passwords(&self) -> Arc<bmc::Passwords> {
        Arc::clone(&self.passwords)
    }

    /// The table with which the servers open their sockets: addresses alone, nothing to boot.
    pub fn table(&self) -> Result<BootTable, Failure> {
        let (network, server) = self.servers.iter().next().ok_or_else(|| {
            Failure::new(Cause::Local, "network-boot servers", "this host has no address on the plan's network")
        })?;
        let offers = Offers { version: unpoisoned(&self.offers).version + 1, attempts: BTreeMap::new() };
        self.table_of(network, *server, &offers)
    }

    fn table_of(&self, network: &str, server: std::net::Ipv4Addr, offers: &Offers) -> Result<BootTable, Failure> {
        let frame = board::Frame {
            fleet: &self.fleet,
            plan: &self.plan,
            run: &self.run,
            server,
            api_pin: &self.api_pin,
            objects: &self.objects,
        };
        board::table(&frame, network, offers, &self.keys)
    }

    pub fn node(&self, name: &str) -> Result<&Node, Failure> {
        self.fleet.nodes.get(name).ok_or_else(|| Failure::new(Cause::Guard, name, "it is not in the fleet of this run"))
    }

    pub fn record(&self, node: &str) -> Result<Option<NodeRecord>, Failure> {
        let records = self.store.node_records().map_err(|e| store_failure(&e))?;
        Ok(records.into_iter().find(|(n, _)| n == node).map(|(_, r)| r))
    }

    pub fn target(&self, node: &str) -> Option<Target> {
        unpoisoned(&self.targets).get(node).cloned()
    }
    pub fn set_target(&self, node: &str, target: Target) {
        unpoisoned(&self.targets).insert(node.to_owned(), target);
    }
    pub fn last_reset(&self, node: &str) -> Option<String> {
        unpoisoned(&self.last_reset).get(node).cloned().flatten()
    }
    pub fn set_last_reset(&self, node: &str, at: Option<String>) {
        unpoisoned(&self.last_reset).insert(node.to_owned(), at);
    }
    /// Members that vote, in the order in which they were seen to.
    pub fn voters(&self, cluster: &str) -> Vec<String> {
        unpoisoned(&self.voters).get(cluster).cloned().unwrap_or_default()
    }
    pub fn add_voter(&self, cluster: &str, member: &str) {
        let mut voters = unpoisoned(&self.voters);
        let list = voters.entry(cluster.to_owned()).or_default();
        if !list.iter().any(|m| m == member) {
            list.push(member.to_owned());
        }
    }

    /// A look at the node's BMC went well, or did not: for how long it could not be looked at by now.
    pub fn note_look(&self, node: &str, went_well: bool) -> Duration {
        let (mut unseen, now) = (unpoisoned(&self.unseen), clock::since_boot());
        if went_well {
            unseen.remove(node);
            return Duration::ZERO;
        }
        now.saturating_sub(*unseen.entry(node.to_owned()).or_insert(now))
    }

    /// What this run and earlier ones changed of what the node boots from, beside its override, and did not undo.
    pub(super) fn boot_left(&self, node: &str) -> Result<Vec<Undo>, StoreError> {
        let known = |left: &Left| left.get(node).cloned().unwrap_or_default();
        if let Some(left) = unpoisoned(&self.boot_left).as_ref() {
            return Ok(known(left));
        }
        let nodes: Vec<String> = self.fleet.nodes.keys().cloned().collect();
        let read = boots::left(self.store.as_ref(), &self.run, &nodes)?;
        Ok(known(unpoisoned(&self.boot_left).get_or_insert(read)))
    }
    /// Written down already: where nothing was read yet, it will be read with the rest.
    pub(super) fn note_boot_left(&self, node: &str, undo: &Undo) {
        if let Some(left) = unpoisoned(&self.boot_left).as_mut() {
            boots::note(left, node, undo.clone());
        }
    }
    pub(super) fn forget_boot_left(&self, node: &str) {
        if let Some(left) = unpoisoned(&self.boot_left).as_mut() {
            left.remove(node);
        }
    }
    pub(super) fn note_booted(&self, node: &str, words: String) {
        unpoisoned(&self.booted).insert(node.to_owned(), words);
    }
    pub(super) fn note_untold(&self, node: &str, words: String) {
        unpoisoned(&self.untold).insert(node.to_owned(), words);
    }
    pub(super) fn untold(&self, node: &str) -> Option<String> {
        unpoisoned(&self.untold).get(node).cloned()
    }
    pub(super) fn booted(&self, node: &str) -> Option<String> {
        unpoisoned(&self.booted).get(node).cloned()
    }

    /// A log-in at the node's BMC. Close it on every way out.
    pub async fn bmc(&self, node: &str) -> Result<bmc::Client, Failure> {
        let how = LogIn {
            read_only: self.read_only,
            deadline: BMC_DEADLINE,
            observer: self.observer.clone(),
            gate: Some(Arc::clone(&self.gate)),
        };
        sessions::open(&self.store, self.node(node)?, &self.passwords, how).await
    }

    /// A log-in for a step that takes the machine away: every request that does so waits for the engine's word first.
    pub async fn bmc_taking(&self, node: &str, kind: &StepKind) -> Result<bmc::Client, Failure> {
        let (permits, step) = (Arc::clone(&self.permits), format!("{node}/{}", kind.name()));
        let leave: bmc::Leave = Arc::new(move || {
            let (permits, step) = (Arc::clone(&permits), step.clone());
            Box::pin(async move { permits.ask(&step).await })
        });
        Ok(self.bmc(node).await?.asking_first(leave))
    }

    /// SSH to the installed system, with the host key that its claim brought.
    pub fn ssh(&self, node: &str, host_key: &str) -> Result<remote::client::Ssh, Failure> {
        let target = super::observe::ssh_target(self.node(node)?, host_key)?;
        remote::client::Ssh::prepare(target, &self.scratch)
    }

    pub fn offer_in_memory(&self, node: &str, attempt: u32) {
        unpoisoned(&self.offers).attempts.insert(node.to_owned(), attempt);
    }
    pub fn is_offered(&self, node: &str) -> bool {
        unpoisoned(&self.offers).attempts.contains_key(node)
    }

    /// Offers network boot to the node, or withdraws it, and waits until the servers have taken that over.
    pub async fn set_offer(&self, node: &str, attempt: Option<u32>) -> Result<(), Failure> {
        let changed = {
            let mut offers = unpoisoned(&self.offers);
            let before = offers.attempts.get(node).copied();
            match attempt {
                Some(a) => offers.attempts.insert(node.to_owned(), a),
                None => offers.attempts.remove(node),
            };
            before != attempt
        };
        if !changed {
            return Ok(());
        }
        match self.publish().await {
            // Servers that are gone offer nothing to anybody: what is left to make safe is the BMC's.
            Err(failure) if attempt.is_none() && failure.why == ENDED => Ok(()),
            result => result,
        }
    }

    /// Sends the table as it is now and waits until it is in force.
    pub async fn publish(&self) -> Result<(), Failure> {
        let Some(tables) = &self.tables else { return Ok(()) };
        let offers = {
            let mut offers = unpoisoned(&self.offers);
            offers.version += 1;
            offers.clone()
        };
        for (network, server) in &self.servers {
            let table = self.table_of(network, *server, &offers)?;
            if tables.send(table).is_err() {
                return Err(after_notice().await);
            }
        }
        let mut taken = self.taken.clone();
        let version = offers.version;
        let waited = tokio::time::timeout(TABLE_DEADLINE, taken.wait_for(|v| *v >= version)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(after_notice().await),
            // They may be slow: another attempt asks them again.
            Err(_) => Err(Failure::new(
                Cause::Deadline,
                "network-boot servers",
                format!("table {version} was not taken over within {} s", TABLE_DEADLINE.as_secs()),
            )),
        }
    }

    /// Waits until `look` says something, woken by every claim and report, and at least every `pulse`.
    pub async fn until_desk<T>(&self, pulse: Duration, mut look: impl FnMut(&Desk) -> Option<T>) -> T {
        loop {
            let woken = self.desk_changed.notified();
            tokio::pin!(woken);
            // Registered before the look: nothing between the two is missed.
            woken.as_mut().enable();
            if let Some(value) = look(&self.desk()) {
                return value;
            }
            let _ = tokio::time::timeout(pulse, woken).await;
        }
    }
}

const ENDED: &str = "their process has ended";

/// The loop hears of it by itself and ends the run, which cuts this step off: told here at once, the step might be first,
/// and its node would have failed for good.
async fn after_notice() -> Failure {
    tokio::time::sleep(NOTICE).await;
    servers_ended()
}

/// The run's own fault, and no node's: what it left is resumed.
pub fn servers_ended() -> Failure {
    Failure::new(Cause::Local, "network-boot servers", ENDED).next("rackctl resume")
}

pub fn store_failure(error: &StoreError) -> Failure {
    error.to_failure()
}
