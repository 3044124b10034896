//! `cargo xtask bench scale`: ten thousand machines. Figures against their targets; not a test, for a busy host
//! would fail it. Beside the time by the clock stands what the processors worked, which a busy host changes less.
//!
//! Each figure is taken in a process of its own, so that its memory is its own too.

// A benchmark that cannot go on has nothing to measure.
#![allow(clippy::unwrap_used, clippy::panic)]

mod facts;
mod fleet;
mod store;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rackctl::{
    inventory::{self, Source},
    model::{
        Fleet,
        goal::{Ceiling, Goal, Scope},
    },
    plan::{self, Artifacts, Known},
    store::{SqliteStore, Store},
};

pub const NODES: usize = 10_000;
/// The best of so many: what the others took longer, other processes took.
const TRIES: usize = 10;
const PLAN_MS: u128 = 1_000;
const PLAN_MB: u64 = 500;
const GET_MS: u128 = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => all(),
        ["load", folder] => load(Path::new(folder)),
        ["plan", folder] => plan(Path::new(folder)),
        ["fill", folder, state] => drop(store::fill(Path::new(state), &read(Path::new(folder)))),
        ["fold", state] => fold(Path::new(state)),
        other => panic!("not understood: {other:?}"),
    }
}

fn all() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scale");
    let _ = std::fs::remove_dir_all(&folder);
    let (inventory, state) = (folder.join("inventory"), folder.join("state/state.db"));
    fleet::write(&inventory, NODES).unwrap();
    println!("{NODES} machines, {} clusters, a file per rack of {}", fleet::CLUSTERS, fleet::PER_RACK);
    let again = |words: &[&Path]| {
        let status = Command::new(std::env::current_exe().unwrap()).args(words).status();
        assert!(status.unwrap().success(), "{words:?}");
    };
    again(&[Path::new("load"), &inventory]);
    again(&[Path::new("plan"), &inventory]);
    again(&[Path::new("fill"), &inventory, &state]);
    again(&[Path::new("fold"), &state]);
    get(&inventory, &state);
}

fn read(folder: &Path) -> Fleet {
    let sources = [Source::Path(folder.to_owned())];
    let loaded = inventory::load_values(&sources).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((loaded.fleet.nodes.len(), loaded.warnings.len()), (NODES, 0));
    assert_eq!(loaded.fleet.clusters.len(), fleet::CLUSTERS);
    assert!(loaded.fleet.clusters.values().all(|c| c.members.len() == 5));
    loaded.fleet
}

fn load(folder: &Path) {
    let (mut best, mut least, mut peak) = (Duration::MAX, Duration::MAX, 0);
    for turn in 0..TRIES {
        let (began, worked) = (Instant::now(), processors(libc::RUSAGE_SELF));
        drop(read(folder));
        best = best.min(began.elapsed());
        least = least.min(processors(libc::RUSAGE_SELF) - worked);
        if turn == 0 {
            peak = peak_mb();
        }
    }
    println!("load, resolve, check: {} ms ({} ms of processors), {peak} MB", best.as_millis(), least.as_millis());
}

fn plan(folder: &Path) {
    let fleet = read(folder);
    let facts = facts::all(&fleet);
    let digest = || "ab".repeat(32);
    let made = Artifacts {
        kernel_sha256: digest(),
        initrd_sha256: digest(),
        stage2_sha256: digest(),
        system_sha256: digest(),
    };
    let artifacts = BTreeMap::from([("debian-12".to_owned(), made)]);
    let goal = Goal::Apply { nodes: Scope(fleet.nodes.keys().cloned().collect()), allow: Ceiling::DataLoss };
    let (mut best, mut least, mut steps) = (Duration::MAX, Duration::MAX, 0);
    for _ in 0..TRIES {
        let (began, worked) = (Instant::now(), processors(libc::RUSAGE_SELF));
        let known = Known { artifacts: &artifacts, cluster_generations: &BTreeMap::new() };
        let plan = plan::plan(&fleet, &facts, &goal, &known);
        assert_eq!(plan.hash().len(), 64);
        best = best.min(began.elapsed());
        least = least.min(processors(libc::RUSAGE_SELF) - worked);
        assert_eq!(plan.refusals, []);
        steps = plan.steps().count();
    }
    println!(
        "plan of {steps} steps with its hash: {} ms ({} ms of processors), {} MB with fleet and facts; targets {PLAN_MS} ms, {PLAN_MB} MB",
        best.as_millis(),
        least.as_millis(),
        peak_mb(),
    );
}

/// The first look after very many records.
fn fold(state: &Path) {
    let store = SqliteStore::open(state).unwrap();
    let began = Instant::now();
    let standings = store.standings().unwrap();
    assert!(standings.len() >= NODES - 50, "{}", standings.len());
    println!("outline of a journal that nobody looked at before: {} ms", began.elapsed().as_millis());
}

fn get(inventory: &Path, state: &Path) {
    let (mut best, mut least) = (Duration::MAX, Duration::MAX);
    for _ in 0..TRIES {
        let (began, worked) = (Instant::now(), processors(libc::RUSAGE_CHILDREN));
        let out = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_rackctl")))
            .arg("-f")
            .arg(inventory)
            .arg("--store")
            .arg(format!("sqlite:{}", state.display()))
            .args(["get", "nodes"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        best = best.min(began.elapsed());
        least = least.min(processors(libc::RUSAGE_CHILDREN) - worked);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.stdout.iter().filter(|b| **b == b'\n').count(), NODES + 1);
    }
    println!(
        "rackctl get nodes, the whole command: {} ms ({} ms of processors); target {GET_MS} ms",
        best.as_millis(),
        least.as_millis()
    );
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
