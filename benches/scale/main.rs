//! `cargo xtask bench scale`: ten thousand machines. Figures against their targets; not a test, for a busy host
//! would fail it. Beside the time by the clock stands what the processors worked, which a busy host changes less.
//!
//! Each figure is taken in a process of its own, so that its memory is its own too.

// A benchmark that cannot go on has nothing to measure.
#![allow(clippy::unwrap_used, clippy::panic)]

mod facts;
mod fleet;
mod plans;
mod rollout;
mod store;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fleet::Shape;
use rackctl::{
    inventory::{self, Source},
    model::Fleet,
    plan::Plan,
    store::{SqliteStore, Store},
};

pub const NODES: usize = 10_000;
const TRIES: usize = 9;
/// Nodes under way at once in the rollouts.
const CONCURRENCY: usize = 256;
/// A fleet is kept when its files have not been touched for so long, and a little more.
const SETTLE: Duration = Duration::from_secs(4);
const SHAPES: [(Shape, &str); 3] = [(Shape::Room, "room"), (Shape::Rack, "rack"), (Shape::Node, "node")];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => all(),
        ["load", folder] => load(Path::new(folder)),
        ["plan", folder] => plan(Path::new(folder)),
        ["rollout", folder] => rollouts(Path::new(folder)),
        ["fill", folder, state] => drop(store::fill(Path::new(state), &read(Path::new(folder)))),
        ["fold", state] => fold(Path::new(state)),
        other => panic!("not understood: {other:?}"),
    }
}

fn all() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scale");
    let _ = std::fs::remove_dir_all(&folder);
    let state = folder.join("state/state.db");
    println!("{NODES} machines, {} clusters of 5, racks of {}", fleet::clusters_of(NODES), fleet::PER_RACK);
    for (shape, name) in SHAPES {
        fleet::write(&folder.join(name), NODES, shape).unwrap();
    }
    let again = |words: &[&Path]| {
        let began = (Instant::now(), processors(libc::RUSAGE_CHILDREN));
        let status = Command::new(std::env::current_exe().unwrap()).args(words).status();
        assert!(status.unwrap().success(), "{words:?}");
        since(began)
    };
    for (_, name) in SHAPES {
        println!("-- a file for each {name}");
        again(&[Path::new("load"), &folder.join(name)]);
        let whole = again(&[Path::new("plan"), &folder.join(name)]);
        println!("   the whole process: {whole}; targets 1000 ms, 500 MB");
    }
    let inventory = folder.join("rack");
    println!("-- rollouts, {CONCURRENCY} nodes at once; target 1 ms a step");
    again(&[Path::new("rollout"), &inventory]);
    println!("-- a state of {NODES} installed machines");
    again(&[Path::new("fill"), &inventory, &state]);
    again(&[Path::new("fold"), &state]);
    std::thread::sleep(SETTLE);
    for (_, name) in SHAPES {
        println!("-- rackctl, a file for each {name}; target of `get nodes` 200 ms");
        let (inventory, cache) = (folder.join(name), folder.join("cache").join(name));
        command("get nodes, first", &inventory, &state, &cache, &["get", "nodes"], 1);
        command("get nodes", &inventory, &state, &cache, &["get", "nodes"], TRIES);
    }
    let cache = folder.join("cache/rack");
    command("get nodes -l role=gpu", &inventory, &state, &cache, &["get", "nodes", "-l", "role=gpu"], TRIES);
    command("get node NAME", &inventory, &state, &cache, &["get", "node", "n05000"], TRIES);
    command("get nodes -o json", &inventory, &state, &cache, &["get", "nodes", "-o", "json"], TRIES);
    command("runs", &inventory, &state, &cache, &["runs"], TRIES);
    command("audit verify", &inventory, &state, &cache, &["audit", "verify"], 3);
}

fn read(folder: &Path) -> Fleet {
    let sources = [Source::Path(folder.to_owned())];
    let loaded = inventory::load_values(&sources).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((loaded.fleet.nodes.len(), loaded.warnings.len()), (NODES, 0));
    assert_eq!(loaded.fleet.clusters.len(), fleet::clusters_of(NODES));
    assert!(loaded.fleet.clusters.values().all(|c| c.members.len() == 5));
    loaded.fleet
}

fn load(folder: &Path) {
    let mut took = Vec::new();
    let mut peak = 0;
    for turn in 0..TRIES {
        let began = (Instant::now(), processors(libc::RUSAGE_SELF));
        drop(read(folder));
        took.push((began.0.elapsed(), processors(libc::RUSAGE_SELF) - began.1));
        if turn == 0 {
            peak = peak_mb();
        }
    }
    println!("   load, resolve, check: {}, {peak} MB", median(&mut took));
}

fn plan(folder: &Path) {
    let fleet = read(folder);
    let facts = facts::blank(&fleet);
    let began = (Instant::now(), processors(libc::RUSAGE_SELF));
    let plan = plans::apply(&fleet, &facts);
    assert_eq!(plan.hash().len(), 64);
    let took = (began.0.elapsed(), processors(libc::RUSAGE_SELF) - began.1);
    let steps = plan.steps().count();
    println!("   plan of {steps} steps with its hash: {}; {} MB with fleet and facts", median(&mut [took]), peak_mb());
}

fn rollouts(folder: &Path) {
    let fleet = read(folder);
    let show = |what: &str, plan: Plan| {
        let ran = rollout::run(&plan, CONCURRENCY);
        println!(
            "   {what}: {} steps, {} events, {} looks around; {:.4} ms a step, the slowest event {:.1} ms",
            ran.steps,
            ran.events,
            ran.looks,
            ran.took.as_secs_f64() * 1e3 / ran.steps as f64,
            ran.slowest.as_secs_f64() * 1e3
        );
    };
    show("everything new", plans::apply(&fleet, &facts::blank(&fleet)));
    show("everything in service, made anew within budgets", plans::reinstall(&fleet, &facts::serving(&fleet)));
}

/// The first look after very many records.
fn fold(state: &Path) {
    let store = SqliteStore::open(state).unwrap();
    let began = (Instant::now(), processors(libc::RUSAGE_SELF));
    let standings = store.standings().unwrap();
    assert!(standings.len() >= NODES - 50, "{}", standings.len());
    let took = (began.0.elapsed(), processors(libc::RUSAGE_SELF) - began.1);
    println!("   outline of a journal that nobody looked at before: {}", median(&mut [took]));
}

/// The whole command, as its caller sees it.
fn command(what: &str, inventory: &Path, state: &Path, cache: &Path, words: &[&str], tries: usize) {
    let mut took = Vec::new();
    let mut lines = 0;
    for _ in 0..tries {
        let began = (Instant::now(), processors(libc::RUSAGE_CHILDREN));
        let out = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_rackctl")))
            .arg("-f")
            .arg(inventory)
            .arg("--store")
            .arg(format!("sqlite:{}", state.display()))
            .args(words)
            .env("XDG_CACHE_HOME", cache)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        took.push((began.0.elapsed(), processors(libc::RUSAGE_CHILDREN) - began.1));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        lines = out.stdout.iter().filter(|b| **b == b'\n').count();
    }
    println!("   {what}: {} ({lines} lines)", median(&mut took));
}

/// The middle one by the clock, with the least and the most; and the middle one of what the processors worked.
fn median(took: &mut [(Duration, Duration)]) -> String {
    let mut worked: Vec<Duration> = took.iter().map(|(_, worked)| *worked).collect();
    worked.sort();
    took.sort();
    let ms = |d: Duration| d.as_millis();
    let worked = ms(worked[worked.len() / 2]);
    match took {
        [(one, _)] => format!("{} ms ({worked} ms of processors)", ms(*one)),
        all => format!(
            "{} ms, {} to {} of {} ({worked} ms of processors)",
            ms(all[all.len() / 2].0),
            ms(all[0].0),
            ms(all[all.len() - 1].0),
            all.len()
        ),
    }
}

fn since((began, worked): (Instant, Duration)) -> String {
    median(&mut [(began.elapsed(), processors(libc::RUSAGE_CHILDREN) - worked)])
}

/// User and system time.
fn processors(who: libc::c_int) -> Duration {
    // SAFETY: rusage is plain numbers, for which zero is a value, and the kernel writes one of them.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(who, &mut usage), 0);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Most memory that this process ever had.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}
