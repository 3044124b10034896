//! `cargo xtask bench scale`: ten thousand machines. Figures against their targets; not a test, for a busy host
//! would fail it.
//!
//! Each figure is taken in a process of its own, so that its memory is its own too.

// A benchmark that cannot go on has nothing to measure.
#![allow(clippy::unwrap_used, clippy::panic)]

mod fleet;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rackctl::inventory::{self, Source};

pub const NODES: usize = 10_000;
/// The whole command, warm: the best of so many.
const TRIES: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => all(),
        ["generate", folder] => fleet::write(Path::new(folder), NODES).unwrap(),
        ["load", folder] => load(Path::new(folder)),
        other => panic!("not understood: {other:?}"),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("scale")
}

fn all() {
    let folder = folder();
    let _ = std::fs::remove_dir_all(&folder);
    let inventory = folder.join("inventory");
    fleet::write(&inventory, NODES).unwrap();
    println!("{NODES} machines, {} clusters, a file per rack, {}", fleet::CLUSTERS, inventory.display());
    let me = std::env::current_exe().unwrap();
    let status = Command::new(me).args(["load", &inventory.to_string_lossy()]).status();
    assert!(status.unwrap().success(), "load");
}

fn load(folder: &Path) {
    let sources = [Source::Path(folder.to_owned())];
    let mut best = Duration::MAX;
    let mut peak = 0;
    for turn in 0..TRIES {
        let began = Instant::now();
        let loaded = inventory::load_values(&sources).unwrap_or_else(|faults| panic!("{faults}"));
        best = best.min(began.elapsed());
        assert_eq!((loaded.fleet.nodes.len(), loaded.warnings.len()), (NODES, 0));
        assert_eq!(loaded.fleet.clusters.len(), fleet::CLUSTERS);
        assert!(loaded.fleet.clusters.values().all(|c| c.members.len() == 5));
        if turn == 0 {
            peak = peak_kib();
            println!("load, resolve and check, first: {} ms", began.elapsed().as_millis());
        }
    }
    println!("load, resolve and check, best of {TRIES}: {} ms, at most {} MB resident", best.as_millis(), peak >> 10);
}

/// Most memory that this process ever had, KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
