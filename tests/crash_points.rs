//! Killed at any point, resumed: the same world.
//!
//! An ordinary test run tries a stride through the points. `cargo xtask crash-points` tries all of them, and then crashes
//! of two.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod cluster_support;
#[allow(dead_code)] // what the tests of several operators alone need
mod crash;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rackctl::store::Store;

use crash::{
    case::name,
    lab::{self, Lab},
    point::{Call, Point, Role},
    sweep::{Dice, Tried, counts, enumerate, replay, setting, shuffled, sweep, table},
};

/// Of an ordinary test run: so many points, evenly spread, from one that the seed says.
const SAMPLE: usize = 8;
/// Fewer points than this would mean that the enumeration has lost its sight.
const POINTS_MIN: usize = 400;

/// False, loudly, where this host cannot have such laboratories.
fn possible() -> bool {
    let Some(why) = lab::missing() else { return true };
    assert!(std::env::var("RACKCTL_E2E").as_deref() != Ok("required"), "RACKCTL_E2E=required, and {why}");
    eprintln!("SKIPPED: {why}");
    false
}

fn seed() -> u64 {
    setting("SEED").unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

/// Seconds of processor time of this process and the children that it waited for; the laboratories' own are not in it.
fn cost() -> f32 {
    let of = |who| {
        // SAFETY: the kernel fills the structure, for which all zeroes is a value.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &raw mut usage);
            usage
        };
        [usage.ru_utime, usage.ru_stime].map(|t| t.tv_sec as f32 + t.tv_usec as f32 / 1e6).iter().sum::<f32>()
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

fn judge(tried: &[Tried]) {
    let of = |number: usize| tried.iter().filter(move |(points, _)| points.len() == number).cloned();
    for (number, kind) in [(1, "single crashes"), (2, "double crashes")] {
        let these: Vec<Tried> = of(number).collect();
        if !these.is_empty() {
            println!("{kind}, by the first point\n{}", table(&these));
        }
    }
    let failed: Vec<String> =
        tried.iter().filter(|(_, o)| !o.wrong.is_empty()).map(|(points, o)| replay(points, o)).collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), tried.len(), failed.join("\n"));
    assert!(tried.iter().any(|(_, o)| !o.hits.is_empty()), "nothing was killed");
}

// fault: F46 F52 invariant: I6 I8 I11 I13 harness: K
#[test]
fn crash_points_sampled() {
    if !possible() {
        return;
    }
    let (points, traced) = enumerate("s");
    println!("{}", counts(&traced));
    assert!(points.len() >= POINTS_MIN, "only {} points", points.len());
    let seed = seed();
    println!("RACKCTL_CRASH_SEED={seed}");
    let stride = points.len() / SAMPLE;
    let from = Dice(seed).below(stride);
    let cases: Vec<Vec<Point>> = points.iter().skip(from).step_by(stride).take(SAMPLE).map(|p| vec![*p]).collect();
    let mut tried = sweep(cases, SAMPLE, None);
    // An ssh that is killed where members are started costs the run nothing: it is asked once more.
    let started = traced.counts.get(&(Role::Child, Call::Execve)).copied().unwrap_or_default();
    let point = Point { role: Role::Child, call: Call::Execve, number: started * 3 / 4 };
    let asked_again = sweep(vec![vec![point]], 1, None);
    assert!(asked_again.iter().all(|(_, o)| o.went_on == 0), "{}", table(&asked_again));
    tried.extend(asked_again);
    judge(&tried);
}

/// Whoever logs in next closes what a dead process left in that BMC, and nothing else.
// fault: F1 F52 invariant: I8 harness: K P
#[test]
fn crash_points_of_looks_leave_no_log_in_behind() {
    if !possible() {
        return;
    }
    let lab = Lab::create("look", &["--nodes", "2"]).unwrap();
    let look = |node: &'static str| ["bmc", "info", node];
    let open = |at: usize| lab.machines().unwrap()[at].sessions;
    let noted = || lab.store().unwrap().bmc_sessions().unwrap();
    // Makes the state file, which takes more calls than a look.
    assert_eq!(lab.rackctl(&look("n2")).code, 0);
    // The first point at which a look dies between its log-in and its log-out.
    let died = (1..=80).find(|number| {
        let point = Point { role: Role::Main, call: Call::Pwrite64, number: *number };
        lab.traced(&look("n1"), Some(point), Duration::from_secs(60));
        open(0) > 0
    });
    assert!(died.is_some() && open(0) == 1, "no look died with a log-in in hand");
    assert!(noted().iter().any(|s| s.node == "n1"));
    // A look at another machine leaves the note where it is.
    assert_eq!(lab.rackctl(&look("n2")).code, 0);
    assert!(open(0) == 1 && noted().iter().any(|s| s.node == "n1"));
    assert_eq!(lab.rackctl(&look("n1")).code, 0);
    assert_eq!((open(0), open(1), noted()), (0, 0, vec![]));
}

/// `cargo xtask crash-points`: see there for what the settings say.
// fault: F46 F52 invariant: I6 I8 I11 I13 harness: K
#[test]
#[ignore = "hundreds of runs: cargo xtask crash-points"]
fn crash_points_all() {
    assert!(possible(), "this host cannot");
    let at_a_time = setting("JOBS").unwrap_or(8);
    let since = Instant::now();
    if let Some(only) = setting::<String>("ONLY") {
        let points: Vec<Point> = only.split(',').map(|p| p.parse().unwrap()).collect();
        let cases = vec![points; setting("TIMES").unwrap_or(1)];
        return judge(&sweep(cases, at_a_time, None));
    }
    let (points, traced) = enumerate("s");
    println!("{}", counts(&traced));
    assert!(points.len() >= POINTS_MIN, "only {} points", points.len());
    let (from, stride) = (setting("FROM").unwrap_or(0), setting("STRIDE").unwrap_or(1));
    let mut cases: Vec<Vec<Point>> = points.iter().skip(from).step_by(stride).map(|p| vec![*p]).collect();
    let single = cases.len();
    let seed = seed();
    println!("RACKCTL_CRASH_SEED={seed}");
    let mut dice = Dice(seed);
    for _ in 0..setting("DOUBLE").unwrap_or(0) {
        let first = points[dice.below(points.len())];
        // What goes on makes fewer calls than a whole run.
        let mut second = points[dice.below(points.len())];
        second.number = second.number.div_ceil(2);
        cases.push(vec![first, second]);
    }
    println!("{single} single and {} double crashes, {at_a_time} at a time", cases.len() - single);
    let limit = setting("MINUTES").map(|minutes: u64| Duration::from_secs(minutes * 60));
    let tried = sweep(shuffled(cases, &mut dice), at_a_time, limit);
    let unreached: Vec<String> =
        tried.iter().filter(|(_, o)| o.hits.is_empty()).map(|(points, _)| name(points)).collect();
    let took = since.elapsed().as_secs_f32();
    println!("{} tried in {took:.0} s; not reached: {unreached:?}", tried.len());
    println!("a crash took {:.2} s, of processor time {:.2} s", took / tried.len() as f32, cost() / tried.len() as f32);
    judge(&tried);
}
