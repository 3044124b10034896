//! What a record costs. Figures are printed, and held to bounds so loose that only another order of growth breaks them.

#![allow(clippy::unwrap_used)] // A store that cannot be written fails the test.

use std::time::{Duration, Instant};

use rackctl::store::{self, Draft, Export, Fence, Holder, LEASE, MemoryStore, RecordKind, SqliteStore, Store};
use serde_json::json;

fn append(store: &dyn Store, fence: &Fence, records: u32) -> Duration {
    let since = Instant::now();
    for step in 0..records {
        let draft = Draft {
            subject: "n1".into(),
            step: format!("n1/step-{step}"),
            attempt: 1,
            kind: RecordKind::Intent,
            body: json!({ "lastReset": "2026-01-02T03:04:05Z", "disks": ["S1", "S2"], "text": "words ".repeat(30) }),
        };
        store.append("r-1", 5, fence, draft).unwrap();
    }
    since.elapsed()
}

fn told(what: &str, records: u32, took: Duration) {
    println!(
        "{what}: {:.0} appends/s ({:.3} ms each)",
        f64::from(records) / took.as_secs_f64(),
        took.as_secs_f64() * 1e3 / f64::from(records)
    );
}

fn measure(name: &str, store: &dyn Store, records: u32) {
    let names: Vec<String> = (0..1_000).map(|n| format!("node/n{n:04}")).collect();
    let (me, now) = (Holder::this(), store::clock::stamp());
    let one = store.lock(&names[..1], "r-1", &me, &now, LEASE).unwrap();
    told(&format!("{name}, one lock"), records, append(store, &one, records));
    let since = Instant::now();
    let all = store.lock(&names, "r-1", &me, &now, LEASE).unwrap();
    println!("{name}: 1000 locks taken in {:?}", since.elapsed());
    let few = append(store, &all, records);
    told(&format!("{name}, 1000 locks"), records, few);
    let since = Instant::now();
    store.renew(&all, &now).unwrap();
    println!("{name}: 1000 locks renewed in {:?}", since.elapsed());
    // The journal is long now: a record costs what it cost at the beginning.
    append(store, &all, records * 6);
    let many = append(store, &all, records);
    told(&format!("{name}, after {} records", records * 8), records, many);
    let since = Instant::now();
    for _ in 0..1_000 {
        store.head().unwrap();
    }
    println!("{name}: head() {:?}", since.elapsed() / 1_000);
    let since = Instant::now();
    assert_eq!(store.journal("r-1").unwrap().len() as u32, records * 9);
    println!("{name}: {} records read and verified in {:?}", records * 9, since.elapsed());
    assert!(many < few * 8 + Duration::from_secs(2), "appends grow dearer: {few:?}, then {many:?}");
}

#[test]
fn appends_cost_the_same_however_long_the_journal_is() {
    measure("memory", &MemoryStore::new(), 300);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    measure("sqlite", &SqliteStore::open(&path).unwrap(), 300);
    let since = Instant::now();
    drop(SqliteStore::open(&path).unwrap());
    println!("sqlite: opened with 2700 records in {:?}", since.elapsed());
}

/// A fleet of ten thousand nodes that was brought up and looked at.
fn large(records: u64, nodes: u64) -> Export {
    let memory = MemoryStore::new();
    let fence = Fence::of_nothing(&Holder::this());
    for n in 0..records {
        let node = format!("n{:05}", n % nodes);
        let draft = Draft {
            subject: node.clone(),
            step: format!("{node}/step-{}", n / nodes),
            attempt: 1,
            kind: RecordKind::Done,
            body: json!({ "lastReset": "2026-01-02T03:04:05Z", "disks": ["S1", "S2"], "text": "words ".repeat(60) }),
        };
        memory.append(&format!("r-{}", n % 40), 5, &fence, draft).unwrap();
    }
    for n in 0..nodes {
        let facts = json!({ "power": "on", "bmc": "words ".repeat(400), "n": n });
        memory.put_observed(&format!("n{n:05}"), n, &facts).unwrap();
    }
    memory.export().unwrap()
}

fn import(records: u64, nodes: u64) -> Duration {
    let export = large(records, nodes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(&path).unwrap();
    let since = Instant::now();
    export.check().unwrap();
    let checked = since.elapsed();
    let since = Instant::now();
    store.import(&export).unwrap();
    let took = since.elapsed();
    let since = Instant::now();
    assert_eq!(store.observed().unwrap().len() as u64, nodes);
    println!(
        "{records} records, {nodes} observations: imported in {took:?} (the chain's proof {checked:?} of it), \
         observations read in {:?}, file {} MB",
        since.elapsed(),
        std::fs::metadata(&path).unwrap().len() >> 20
    );
    took
}

#[test]
fn an_import_takes_as_long_as_its_records_are_many() {
    let (few, many) = (import(4_000, 400), import(16_000, 1_600));
    assert!(many < few * 10 + Duration::from_secs(2), "{few:?}, then {many:?}");
}

#[test]
#[ignore = "a measurement: cargo test --test store_speed -- --ignored --nocapture"]
fn an_import_of_320000_records() {
    import(320_000, 10_000);
}
