//! Killed at any point, resumed: the same world.
//!
//! An ordinary test run tries a stride through the points. `cargo xtask crash-points` tries all of them, and then crashes
//! of two.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod cluster_support;
#[allow(dead_code)] // what the tests of several operators alone need
mod crash;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crash::{
    case::name,
    lab,
    point::Point,
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
    judge(&sweep(cases, SAMPLE, None));
}

/// `cargo xtask crash-points`: see there for what the settings say.
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
    println!("{} tried in {:.0} s; not reached: {unreached:?}", tried.len(), since.elapsed().as_secs_f32());
    judge(&tried);
}
