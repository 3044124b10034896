//! The store in a real etcd that stops, loses answers, and is used by several processes.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster_support;
mod store_support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cluster_support::{Etcd, etcd_binary, signal};
use rackctl::{
    cluster::etcd::member::bootstrap,
    model::{Stamp, failure::Cause},
    store::{
        self, ClusterRecord, EtcdStore, EtcdUrl, Export, Holder, RecordKind, Store, StoreError, clock,
        etcd::OPERATION_DEADLINE,
    },
};
use store_support::{
    Server, append, elsewhere, lock, names,
    proxy::{ALL, Proxy},
    seat, times, url,
};
use uuid::Uuid;

/// More than a call's deadline by this is a call that does not keep it.
const SLACK: Duration = Duration::from_secs(3);

fn cause(error: &StoreError) -> Cause {
    error.to_failure().cause
}

fn cluster_record(generation: u64, token: &str) -> ClusterRecord {
    ClusterRecord {
        generation,
        run: "r".into(),
        bootstrap_member: "n1".into(),
        token: token.into(),
        cluster_id: None,
        found: false,
    }
}

// fault: F59 invariant: I2 I18 harness: E
#[test]
fn a_store_that_stops_answering_fails_in_time_and_goes_on_afterwards() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let store = server.store("stops");
    let ttl = Duration::from_secs(6);
    let me = Holder::this();
    let fence = store.lock(&names(&["node/n1"]), "r", &me, &clock::stamp(), ttl).unwrap();
    append(&store, "r", &fence, "before").unwrap();

    server.etcd.freeze();
    let began = Instant::now();
    let late = store.renew(&fence, &clock::stamp()).unwrap_err();
    assert!(began.elapsed() < ttl, "a renewal must be known to have failed before the lease is over");
    assert!(matches!(cause(&late), Cause::Deadline | Cause::Unreachable), "{late}");
    let began = Instant::now();
    let unwritten = append(&store, "r", &fence, "lost").unwrap_err();
    assert!(began.elapsed() < OPERATION_DEADLINE + SLACK, "{:?}", began.elapsed());
    assert!(unwritten.to_string().contains("not known"), "{unwritten}");
    assert!(unwritten.dump().is_some_and(|line| line.contains("lost")), "the draft comes back");

    server.etcd.thaw();
    // The lease is long over, and nobody took the lock: it is ours again, and so is the journal.
    store.renew(&fence, &clock::stamp()).unwrap();
    append(&store, "r", &fence, "after").unwrap();
    assert_eq!((times(&store, "before"), times(&store, "after")), (1, 1));
    assert!(times(&store, "lost") <= 1, "its requests lay in the server's buffers, and one of them may count");
    assert!(!store.locks().unwrap()[0].expired);
}

/// Also from inside a runtime, and when the runtime's only thread is the one that waits.
#[tokio::test(flavor = "current_thread")]
async fn calls_end_inside_a_runtime() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let store = server.store("runtime");
    let fence = lock(&store, &["node/n1"], "r", &Holder::this()).unwrap();
    append(&store, "r", &fence, "a").unwrap();
    assert_eq!(times(&store, "a"), 1);
    drop(store);
    let gone = EtcdStore::open(&url(&[1], "x")).err().unwrap();
    assert_eq!(cause(&gone), Cause::Unreachable, "{gone}");
}

// fault: F59 invariant: I11 harness: E
#[test]
fn what_is_written_although_its_answer_was_lost_is_written_once() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let proxy = Proxy::to(server.port);
    let store = EtcdStore::open(&url(&[proxy.port], "answers")).unwrap();
    let direct = server.store("answers");
    let (me, she) = (Holder::this(), elsewhere("eve"));
    let lost = |what: &str| assert_eq!(proxy.lost(), 1, "no answer was lost: {what}");

    // The lease's answer, then the lock's.
    for pass in [0, 1] {
        proxy.lose(pass, 1);
        let fence = lock(&store, &["node/n1", "node/n2"], "r", &me).unwrap();
        lost("lock");
        assert!(fence.locks.iter().all(|(_, number)| *number == u64::from(pass) + 1), "{fence:?}");
    }
    let fence = lock(&store, &["node/n1", "node/n2"], "r", &me).unwrap();
    for step in ["a", "b", "c"] {
        proxy.lose(0, 1);
        let record = append(&store, "r", &fence, step).unwrap();
        lost(step);
        assert_eq!(direct.head().unwrap().hash, record.hash);
        assert_eq!(times(&direct, step), 1);
    }
    proxy.lose(0, 1);
    store.put_cluster_record("c", 0, &cluster_record(1, "t")).unwrap();
    lost("a cluster's record");
    proxy.lose(0, 1);
    store.renew(&fence, &clock::stamp()).unwrap();
    lost("renewal");

    let serial = direct.lineage().unwrap().serial;
    proxy.lose(1, 1);
    let stolen = store.steal(&names(&["node/n2"]), "r-2", &she, &clock::stamp(), store::LEASE, true, "x").unwrap();
    lost("steal");
    assert_eq!(direct.lineage().unwrap().serial, serial + 1, "one write that matters");
    let journal = direct.journal("r-2").unwrap();
    assert_eq!(journal.iter().map(|r| r.kind).collect::<Vec<_>>(), [RecordKind::LockStolen]);
    assert!(matches!(append(&store, "r", &fence, "d"), Err(StoreError::Fenced { .. })));
    proxy.lose(0, 1);
    store.unlock(&stolen).unwrap();
    lost("unlock");
    assert_eq!(direct.locks().unwrap().len(), 1);

    // No answer at all: it fails in time, says so, and there is one record at most.
    let fence = lock(&store, &["node/n1"], "r", &me).unwrap();
    proxy.lose(0, ALL);
    let began = Instant::now();
    let unwritten = append(&store, "r", &fence, "never answered").unwrap_err();
    assert!(began.elapsed() < OPERATION_DEADLINE + SLACK);
    assert!(matches!(unwritten, StoreError::Unwritten { .. }) && unwritten.to_string().contains("not known"));
    assert!(proxy.lost() > 1);
    proxy.lose(0, 0);
    assert_eq!(times(&direct, "never answered"), 1, "the first request came through, its repetitions did not");
    append(&store, "r", &fence, "next").unwrap();
    assert_eq!(times(&direct, "next"), 1);
}

#[test]
fn a_request_that_comes_late_changes_nothing() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let proxy = Proxy::to(server.port);
    let store = EtcdStore::open(&url(&[proxy.port], "late")).unwrap();
    let (me, seen) = (Holder::this(), |text: &str| serde_json::json!({ "seen": text }));
    let fence = lock(&store, &["node/n1"], "r", &me).unwrap();
    append(&store, "r", &fence, "first").unwrap();
    let late = |what: &str| assert_eq!(proxy.bring_late(), 1, "nothing was kept: {what}");

    proxy.hold_back(1);
    store.put_observed("n1", 1, &seen("old")).unwrap();
    store.put_observed("n1", 2, &seen("new")).unwrap();
    late("observation");
    assert_eq!(store.observed().unwrap(), [("n1".to_owned(), 2, seen("new"))]);

    proxy.hold_back(1);
    append(&store, "r", &fence, "again").unwrap();
    late("append");
    assert_eq!(times(&store, "again"), 1);

    proxy.hold_back(1);
    store.renew(&fence, &clock::stamp()).unwrap();
    let now = clock::stamp();
    store.renew(&fence, &now).unwrap();
    late("renewal");
    assert_eq!(store.locks().unwrap()[0].renewed, now);

    // What was released is taken again before the release comes a second time.
    let kept = names(&["node/n2"]);
    let fence = store.lock(&kept, "r", &me, &clock::stamp(), store::LEASE).unwrap();
    proxy.hold_back(1);
    store.unlock(&fence).unwrap();
    let taken = store.lock(&kept, "r", &me, &clock::stamp(), store::LEASE).unwrap();
    late("unlock");
    append(&store, "r", &taken, "still held").unwrap();
}

#[test]
fn a_member_that_stops_is_gone_around_and_what_it_does_late_changes_nothing() {
    let Some(binary) = etcd_binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let seats = ["s1", "s2", "s3"].map(seat);
    let all: Vec<String> = seats.iter().map(|s| format!("{}={}", s.name, s.peer_url())).collect();
    let token = Uuid::new_v4();
    let running: Vec<Etcd> = seats
        .iter()
        .map(|s| {
            let member = rackctl_wire::EtcdMember { initial_cluster: all.join(","), ..bootstrap(s, token) };
            Etcd::start(&binary, folder.path(), &member)
        })
        .collect();
    let store = EtcdStore::open(&url(&seats.each_ref().map(|s| s.client_port), "three")).unwrap();
    let fence = lock(&store, &["node/n1"], "r", &Holder::this()).unwrap();
    for round in 0..3 {
        let record = |phase: &str| cluster_record(round * 2 + if phase == "old" { 1 } else { 2 }, phase);
        // Requests to it lie in its buffers and come through when it goes on.
        running[round as usize].freeze();
        append(&store, "r", &fence, &format!("frozen {round}")).unwrap();
        store.put_observed("n1", round, &serde_json::json!("old")).unwrap();
        store.put_cluster_record("c", round * 2, &record("old")).unwrap();
        store.put_observed("n1", round, &serde_json::json!("new")).unwrap();
        store.put_cluster_record("c", round * 2 + 1, &record("new")).unwrap();
        running[round as usize].thaw();
        thread::sleep(Duration::from_secs(2));
        assert_eq!(times(&store, &format!("frozen {round}")), 1);
        assert_eq!(store.observed().unwrap()[0].2, "new");
        assert_eq!(store.cluster_record("c").unwrap(), Some(record("new")));
    }
    store.renew(&fence, &clock::stamp()).unwrap();
    assert_eq!(store.chain().unwrap().len(), 3);
}

// Other processes: this program again, told by its environment what to be.

const ROLE: &str = "RACKCTL_TEST_STORE_ROLE";
const URL: &str = "RACKCTL_TEST_STORE_URL";
const STEPS: usize = 40;
const SHORT: Duration = Duration::from_secs(2);

fn child(role: &str, url: &EtcdUrl) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env(URL, url.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn another_process() {
    let (role, url) = (std::env::var(ROLE).unwrap(), std::env::var(URL).unwrap());
    let store = EtcdStore::open(&EtcdUrl::parse(&url).unwrap()).unwrap();
    let me = Holder::this();
    let mut line = String::new();
    match role.as_str() {
        "hold" => {
            // As if on another host, whose clocks nobody here can judge by: etcd's lease alone tells that it is over.
            let me = elsewhere("ann");
            let stamp = || Stamp { boot_id: "of another host".into(), boot_ms: 1, ..clock::stamp() };
            let fence = store.lock(&names(&["node/n1"]), "r-1", &me, &stamp(), SHORT).unwrap();
            append(&store, "r-1", &fence, "held").unwrap();
            println!("\nholding");
            // Renews as a run would, until it is told to do something with its lock.
            let (tell, told) = std::sync::mpsc::channel();
            thread::spawn(move || tell.send(std::io::stdin().read_line(&mut line).is_ok()));
            while told.recv_timeout(SHORT / 4).is_err() {
                if let Err(refused) = store.renew(&fence, &stamp()) {
                    println!("\nrenewal: {refused}");
                    break;
                }
            }
            println!("\nappend: {}", append(&store, "r-1", &fence, "stale").unwrap_err());
        }
        run => {
            let fence = lock(&store, &[&format!("node/{run}")], run, &me).unwrap();
            println!("\nready");
            std::io::stdin().read_line(&mut line).unwrap();
            for step in 0..STEPS {
                append(&store, run, &fence, &format!("{run} {step}")).unwrap();
            }
            println!("\ndone");
        }
    }
}

/// Reads until a line begins so.
fn line_of(output: &mut impl BufRead, start: &str) -> String {
    for _ in 0..200 {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "it ended before it said `{start}`");
        if line.starts_with(start) {
            return line;
        }
    }
    panic!("it never said `{start}`");
}

#[test]
fn two_processes_make_one_chain() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let url = server.url("chain");
    let mut children = ["r-a", "r-b"].map(|run| child(run, &url));
    let mut outputs = children.each_mut().map(|c| BufReader::new(c.stdout.take().unwrap()));
    outputs.iter_mut().for_each(|o| drop(line_of(o, "ready")));
    children.iter_mut().for_each(|c| c.stdin.as_mut().unwrap().write_all(b"go\n").unwrap());
    outputs.iter_mut().for_each(|o| drop(line_of(o, "done")));
    children.iter_mut().for_each(|c| assert!(c.wait().unwrap().success()));
    let store = server.store("chain");
    assert_eq!(store.head().unwrap().seq, 2 * STEPS as u64);
    for run in ["r-a", "r-b"] {
        assert_eq!(times(&store, &format!("{run} {}", STEPS - 1)), 1);
        assert_eq!(store.journal(run).unwrap().len(), STEPS);
    }
}

// fault: F53 F54 invariant: I2 harness: E
#[test]
fn a_holder_that_slept_too_long_finds_its_lock_stolen() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let store = server.store("sleeps");
    let mut first = child("hold", &server.url("sleeps"));
    let mut output = BufReader::new(first.stdout.take().unwrap());
    line_of(&mut output, "holding");
    // Longer than the lease: it renews.
    thread::sleep(SHORT * 2);
    let bob = elsewhere("bob");
    let node = names(&["node/n1"]);
    let steal = || store.steal(&node, "r-2", &bob, &clock::stamp(), store::LEASE, false, "it sleeps");
    assert!(matches!(steal(), Err(StoreError::Locked(held)) if !held.expired), "a living lease is not stolen");

    signal(first.id(), "-STOP");
    thread::sleep(SHORT * 3);
    let refused = lock(&store, &["node/n1"], "r-2", &bob).unwrap_err();
    assert!(matches!(&refused, StoreError::Locked(held) if held.expired && held.run == "r-1"), "{refused}");
    assert!(refused.to_string().contains("rackctl lock steal"), "{refused}");
    let fence = steal().unwrap();
    append(&store, "r-2", &fence, "mine").unwrap();
    signal(first.id(), "-CONT");

    let said = line_of(&mut output, "renewal: ");
    assert!(said.contains(&bob.to_string()) && said.contains("no longer ours"), "{said}");
    let said = line_of(&mut output, "append: ");
    assert!(said.contains(&bob.to_string()), "{said}");
    assert!(first.wait().unwrap().success());
    append(&store, "r-2", &fence, "still mine").unwrap();
    assert_eq!((times(&store, "stale"), times(&store, "held"), times(&store, "still mine")), (0, 1, 1));
}

#[test]
fn an_import_that_was_broken_off_is_done_again_and_nothing_else_is_done_before() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let from = server.store("from");
    let fence = lock(&from, &["node/n1"], "r", &Holder::this()).unwrap();
    for step in 0..300 {
        append(&from, "r", &fence, &step.to_string()).unwrap();
    }
    from.unlock(&fence).unwrap();
    let export: Export = from.export().unwrap();

    let proxy = Proxy::to(server.port);
    let through = EtcdStore::open(&url(&[proxy.port], "to")).unwrap();
    let waiting = server.store("to");
    proxy.lose(1, ALL);
    through.import(&export).unwrap_err();
    // Every single answer may be lost, also the last one's.
    for pass in 0..10 {
        proxy.lose(0, 0);
        let whole = EtcdStore::open(&url(&[proxy.port], &format!("whole-{pass}"))).unwrap();
        proxy.lost();
        proxy.lose(pass, 1);
        whole.import(&export).unwrap();
        assert_eq!(whole.export().unwrap().records, export.records);
        if proxy.lost() == 0 {
            assert!(pass > 2, "an import is several writes");
            break;
        }
    }
    drop(proxy);
    let refused = append(&waiting, "r", &store::Fence::of_nothing(&Holder::this()), "early").unwrap_err();
    assert!(refused.to_string().contains("import"), "{refused}");
    let to = server.store("to");
    let refused = to.runs().unwrap_err();
    assert!(refused.to_string().contains("import"), "{refused}");
    to.import(&export).unwrap();
    let again = server.store("to").export().unwrap();
    assert_eq!((&again.records, &again.fences, again.head), (&export.records, &export.fences, export.head.clone()));
    assert_eq!(again.lineage.id, export.lineage.id);
    assert!(matches!(to.import(&export), Err(StoreError::Conflict(_))));
}

#[test]
#[ignore = "a measurement: cargo test --release --test store_etcd -- --ignored --nocapture appends_per_second"]
fn appends_per_second() {
    let Some(binary) = etcd_binary() else { return };
    let server = Server::start(&binary);
    let store = server.store("speed");
    let fence = lock(&store, &["node/n1"], "r", &Holder::this()).unwrap();
    append(&store, "r", &fence, "warm").unwrap();
    let began = Instant::now();
    const N: u32 = 1000;
    for step in 0..N {
        append(&store, "r", &fence, &step.to_string()).unwrap();
    }
    let each = began.elapsed() / N;
    let began = Instant::now();
    let chain = store.chain().unwrap();
    println!(
        "{N} appends: {:.0} a second, {each:?} each; {} records read in {:?}",
        1.0 / each.as_secs_f64(),
        chain.len(),
        began.elapsed()
    );
}
