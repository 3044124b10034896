//! An operator's process that is stopped for longer than its lease, while another one takes its run over: awake again, it
//! sends nothing and says who took it.

use std::{path::PathBuf, sync::Arc, time::Duration, time::Instant};

use rackctl::store::{EtcdStore, Record, RecordKind, Store};
use serde_json::Value;

use super::{LONG, clusters, install, possible};
use crate::{
    cluster_support::{etcd_351_binary, etcd_binary, signal},
    crash::lab::{Going, Lab, Said},
    store_support::Server,
};

const LEASE: Duration = Duration::from_secs(6);
const REASON: &str = "its laptop sleeps";
const NODES: [&str; 3] = ["n1", "n2", "n3"];
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

/// A laboratory, and where its operators keep their state.
struct Bench {
    lab: Lab,
    etcd: Option<Server>,
}

impl Bench {
    fn new(slot: &str, binary: Option<PathBuf>) -> Bench {
        let mut lab = Lab::create(slot, &["--nodes", "3"]).unwrap();
        lab.variables.push(("RACKCTL_LEASE", format!("{}s", LEASE.as_secs())));
        let etcd = binary.map(|binary| Server::start(&binary));
        if let Some(server) = &etcd {
            // It answers when the first store can be opened.
            drop(server.store("lab"));
            lab.variables.push(("RACKCTL_STORE", format!("etcd://127.0.0.1:{}/lab", server.port)));
        }
        Bench { lab, etcd }
    }

    fn store(&self) -> Option<Arc<dyn Store>> {
        match &self.etcd {
            None => Some(Arc::new(self.lab.store()?)),
            Some(server) => Some(Arc::new(EtcdStore::open(&server.url("lab")).unwrap())),
        }
    }

    /// Of the newest run.
    fn journal(&self) -> (String, Vec<Record>) {
        let Some(store) = self.store() else { return Default::default() };
        let Some(run) = store.run_heads().unwrap().into_iter().max_by_key(|r| r.started_ms) else {
            return Default::default();
        };
        let journal = store.journal(&run.id).unwrap();
        (run.id, journal)
    }

    /// Entries of all BMCs' logs that are no reading.
    fn changes(&self) -> Vec<(String, Value)> {
        let of = |node: &&str| -> Vec<(String, Value)> {
            let log = self.lab.requests(node).unwrap();
            let writes = log.into_iter().filter(|e| e["method"] != "GET" && e["method"] != "HEAD");
            writes.map(|e| ((*node).to_owned(), e)).collect()
        };
        NODES.iter().flat_map(of).collect()
    }

    /// Effects alone, without log-ins and log-outs.
    fn effects(&self) -> usize {
        self.changes().iter().filter(|(_, e)| !e["path"].as_str().unwrap_or_default().starts_with(SESSIONS)).count()
    }
}

fn until(what: &str, going: &mut Going, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < LONG, "{what}: not in time");
        if let Some(said) = going.wait(Duration::ZERO) {
            panic!("{what}: it ended before: {said}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stops it, sees that it is taken for alive, waits for three leases and takes its locks.
fn stolen(bench: &Bench, first: &Going, run: &str) -> Instant {
    signal(first.pid(), "-STOP");
    let since = Instant::now();
    let holder = format!("pid {}", first.pid());
    let steal = ["lock", "steal", "--run", run, "--reason", REASON, "-y"];
    // Its lease is good for a while yet, and a process that is stopped is no dead one.
    let early = bench.lab.rackctl_as("bob", &steal);
    assert!(early.code == 5 && early.err.contains(&holder), "{early}");
    let refused = |said: Said| assert!(said.code == 5 && said.err.contains(&holder), "who has it: {said}");
    refused(bench.lab.rackctl_as("bob", &["power", "off", "n1", "--force", "-y"]));
    std::thread::sleep((LEASE * 3).saturating_sub(since.elapsed()));
    // Nor after its lease: it may only sleep. A person must say so.
    let said = bench.lab.rackctl_as("bob", &["power", "off", "n1", "--force", "-y"]);
    assert!(said.err.contains("rackctl lock steal"), "{said}");
    refused(said);
    let said = bench.lab.rackctl_as("bob", &steal);
    assert_eq!(said.code, 0, "{said}");
    since
}

/// Wakes it: it must end by itself, say who took its run, and have sent nothing.
fn woken(bench: &Bench, mut first: Going) {
    let before = bench.changes();
    signal(first.pid(), "-CONT");
    let said = first.wait(Duration::from_secs(60)).expect("it goes on for ever");
    assert_eq!(said.code, 5, "{said}");
    assert!(said.err.contains("bob@") && said.err.contains(REASON), "it does not say who took its run: {said}");
    let mut since = bench.changes();
    since.retain(|change| !before.contains(change));
    // It closes the log-ins that it had open, and has to log in for that.
    let of_sessions = |e: &Value| e["path"].as_str().is_some_and(|p| p.starts_with(SESSIONS));
    assert!(since.iter().all(|(_, e)| of_sessions(e)), "awake again, it did: {since:?}");
}

fn a_stopped_holder(slot: &str, binary: Option<PathBuf>) {
    let bench = Bench::new(slot, binary);
    let lab = &bench.lab;

    // Between the first machine's reset and the next one's.
    let mut first = lab.start_as("state", &["power", "on", "--all", "-y", "--stagger", "4s"]);
    until("the first reset", &mut first, || bench.effects() > 0);
    let (run, _) = bench.journal();
    stolen(&bench, &first, &run);
    let said = lab.rackctl_as("bob", &["power", "off", "--all", "--force", "-y"]);
    assert_eq!(said.code, 0, "{said}");
    woken(&bench, first);
    assert!(lab.machines().unwrap().iter().all(|m| m.power == rackctl::model::power::PowerState::Off));

    // In the middle of making a cluster: one member runs, the others are still to come.
    install(lab).unwrap();
    let mut first = lab.start_as("state", &["apply", "-y"]);
    let begun = |journal: &[Record]| {
        journal.iter().any(|r| r.kind == RecordKind::Intent && r.step == "cluster/lab/start-member-n2")
    };
    until("the second member", &mut first, || begun(&bench.journal().1));
    let (run, _) = bench.journal();
    stolen(&bench, &first, &run);
    let said = lab.rackctl_as("bob", &["resume", &run]);
    assert_eq!(said.code, 0, "{said}");
    let made = clusters(lab, 3);
    assert!(made.0.len() == 1 && made.1.is_empty(), "{made:?}");
    woken(&bench, first);
    assert_eq!(clusters(lab, 3), made, "awake again, it changed the cluster");

    let store = bench.store().unwrap();
    assert!(store.locks().unwrap().is_empty() && store.bmc_sessions().unwrap().is_empty());
    rackctl::store::verify(&store.chain().unwrap()).unwrap();
    assert!(lab.machines().unwrap().iter().all(|m| m.sessions == 0), "a log-in is left");
}

// fault: F53 F54 invariant: I1 I2 I13 I16 I20 harness: P
#[test]
fn operators_stopped_for_three_leases_send_nothing_sqlite() {
    if possible() {
        a_stopped_holder("zs", None);
    }
}

// fault: F53 F54 invariant: I1 I2 I13 I16 I20 harness: P E
#[test]
fn operators_stopped_for_three_leases_send_nothing_etcd() {
    if possible()
        && let Some(binary) = etcd_binary().or_else(etcd_351_binary)
    {
        a_stopped_holder("ze", Some(binary));
    }
}
