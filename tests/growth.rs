//! What ten times the machines cost is ten times the work, and not a hundred times: counted in allocations, which no
//! busy host changes.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../benches/scale/facts.rs"]
mod facts;
#[path = "../benches/scale/fleet.rs"]
mod fleet;
#[path = "../benches/scale/plans.rs"]
mod plans;
#[path = "../benches/scale/rollout.rs"]
mod rollout;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use fleet::Shape;
use rackctl::{
    inventory::{self, Source},
    model::Fleet,
};

/// Counts what is asked of the system's allocator.
struct Counted;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTED: Counted = Counted;

const WARM: usize = 200;
const FEW: usize = 1_000;
const MANY: usize = 4_000;

/// What `work` asks for; the tests of this file are one, so that nothing else is counted.
fn asked<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ASKED.load(Ordering::Relaxed);
    let done = work();
    (ASKED.load(Ordering::Relaxed) - before, done)
}

fn read(folder: &Path, nodes: usize) -> Fleet {
    let loaded = inventory::load_values(&[Source::Path(folder.to_owned())]);
    let fleet = loaded.unwrap_or_else(|faults| panic!("{faults}")).fleet;
    assert_eq!((fleet.nodes.len(), fleet.clusters.len()), (nodes, fleet::clusters_of(nodes)));
    fleet
}

/// What is done once for a fleet of so many machines, and what it asked for.
fn figures(folder: &Path, nodes: usize) -> Vec<(&'static str, usize)> {
    let mut figures = Vec::new();
    let mut fleet = Fleet::default();
    let shapes = [(Shape::Room, "to load rooms"), (Shape::Rack, "to load racks"), (Shape::Node, "to load a file each")];
    for (shape, what) in shapes {
        let folder = folder.join(format!("{nodes}-{shape:?}"));
        fleet::write(&folder, nodes, shape).unwrap();
        let (count, loaded) = asked(|| read(&folder, nodes));
        figures.push((what, count));
        fleet = loaded;
    }
    let (blank, serving) = (facts::blank(&fleet), facts::serving(&fleet));
    let (apply, new) = asked(|| plans::apply(&fleet, &blank));
    let (reinstall, again) = asked(|| plans::reinstall(&fleet, &serving));
    let (install_run, installed) = asked(|| rollout::run(&new, 64));
    let (rolling_run, rolled) = asked(|| rollout::run(&again, 64));
    figures.extend([
        ("to plan what is new", apply),
        ("to plan what serves", reinstall),
        ("to install", install_run),
        ("to install again", rolling_run),
        ("events to install", installed.events),
        ("events to install again", rolled.events),
        ("looks around", rolled.looks),
    ]);
    figures
}

#[test]
fn work_grows_with_the_machines_and_no_faster() {
    let folder = tempfile::tempdir().unwrap();
    // What is made once in a process is no part of either.
    figures(folder.path(), WARM);
    let (few, many) = (figures(folder.path(), FEW), figures(folder.path(), MANY));
    for ((what, few), (_, many)) in few.iter().zip(&many) {
        let (each, then) = (*few as f64 / FEW as f64, *many as f64 / MANY as f64);
        println!("{what}: {each:.1} a machine of {FEW}, {then:.1} of {MANY}");
        assert!(then < each * 1.25, "{what}: {each:.1} a machine of {FEW}, {then:.1} of {MANY}");
    }
}
