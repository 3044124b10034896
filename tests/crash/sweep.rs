//! Which points there are, all of them tried, several at a time, and a table of what came of it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    case::{self, NODES, Outcome, crash},
    lab::Lab,
    point::{Call, Point, Role},
    tracer::Traced,
};

/// A case and what came of it.
pub type Tried = (Vec<Point>, Outcome);

/// `RACKCTL_CRASH_NAME`, as `cargo xtask crash-points --name` sets them.
pub fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(format!("RACKCTL_CRASH_{name}")).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("RACKCTL_CRASH_{name}: `{text}` is not understood")))
}

/// Every point of one undisturbed run.
pub fn enumerate(slot: &str) -> (Vec<Point>, Traced) {
    let lab = Lab::create(slot, &["--nodes", NODES]).unwrap();
    let hash = lab.plan_hash(&["--allow", "data-loss"]).unwrap();
    let words = ["apply", "--allow", "data-loss", "--approve", &hash, "-o", "jsonl"];
    let (traced, said) = lab.traced(&words, None, Duration::from_secs(240));
    assert_eq!(traced.code, 0, "a run without a crash: {said}");
    let (wrong, _) = super::world::check(&lab, 1);
    assert!(wrong.is_empty(), "the world without a crash: {wrong:#?}");
    let points = traced
        .counts
        .iter()
        .flat_map(|((role, call), count)| (1..=*count).map(|number| Point { role: *role, call: *call, number }))
        .collect();
    (points, traced)
}

pub fn counts(traced: &Traced) -> String {
    let mut text = String::from("points of one run (4 nodes, installation and join)\n");
    let mut sum = 0;
    for ((role, call), count) in &traced.counts {
        sum += count;
        let _ = writeln!(text, "  {:<6}{:<11}{count:>5}", role.to_string(), call.to_string());
    }
    let _ = writeln!(text, "  {:<17}{sum:>5}", "all");
    let _ = write!(text, "  children: {:?}; {:.1} s", traced.children, traced.took.as_secs_f32());
    text
}

/// Tries them, `at_a_time` beside each other; after `limit` none is begun any more.
pub fn sweep(cases: Vec<Vec<Point>>, at_a_time: usize, limit: Option<Duration>) -> Vec<Tried> {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let outcomes: Mutex<BTreeMap<usize, Outcome>> = Mutex::default();
    let since = Instant::now();
    std::thread::scope(|scope| {
        for slot in 0..at_a_time.min(cases.len()) {
            let (cases, next, failed, outcomes) = (&cases, &next, &failed, &outcomes);
            scope.spawn(move || {
                while limit.is_none_or(|limit| since.elapsed() < limit) {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some(points) = cases.get(at) else { return };
                    let outcome = crash(&format!("{slot}"), points);
                    if !outcome.wrong.is_empty() {
                        failed.fetch_add(1, Ordering::SeqCst);
                        // To be read while the others go on.
                        println!("{}", replay(points, &outcome));
                    }
                    let mut outcomes = outcomes.lock().unwrap();
                    outcomes.insert(at, outcome);
                    if outcomes.len() % 25 == 0 {
                        let (done, failed) = (outcomes.len(), failed.load(Ordering::SeqCst));
                        println!(
                            "{done}/{} after {:.0} s, {failed} failed",
                            cases.len(),
                            since.elapsed().as_secs_f32()
                        );
                    }
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    outcomes.into_iter().map(|(at, outcome)| (cases[at].clone(), outcome)).collect()
}

/// Random order, so that a sweep that is cut short has seen something of everything.
pub fn shuffled(mut cases: Vec<Vec<Point>>, dice: &mut Dice) -> Vec<Vec<Point>> {
    for last in (1..cases.len()).rev() {
        cases.swap(last, dice.below(last + 1));
    }
    cases
}

/// What it was, and the line that does it again.
pub fn replay(points: &[Point], outcome: &Outcome) -> String {
    let name = case::name(points);
    let hits = if outcome.hits.is_empty() { "nothing".into() } else { outcome.hits.join(", ") };
    format!(
        "FAILED {name} (killed: {hits}): {}\n  again: cargo xtask crash-points --only {name}",
        outcome.wrong.join("; ")
    )
}

#[derive(Default)]
struct Row {
    tried: usize,
    killed: usize,
    failed: usize,
    new_runs: usize,
    extra_boots: u64,
    went_on: usize,
    longest: Duration,
}

/// A line a system call.
pub fn table(tried: &[Tried]) -> String {
    let mut rows: BTreeMap<(Role, Call), Row> = BTreeMap::new();
    let mut all = Row::default();
    for (points, outcome) in tried {
        let row = rows.entry((points[0].role, points[0].call)).or_default();
        for row in [row, &mut all] {
            row.tried += 1;
            row.killed += usize::from(!outcome.hits.is_empty());
            row.failed += usize::from(!outcome.wrong.is_empty());
            row.new_runs += usize::from(outcome.new_run);
            row.extra_boots += outcome.counts.extra_boots;
            row.went_on += outcome.went_on;
            row.longest = row.longest.max(outcome.took);
        }
    }
    let mut text = format!(
        "{:<6}{:<11}{:>6}{:>8}{:>8}{:>9}{:>12}{:>10}{:>10}\n",
        "role", "call", "tried", "killed", "failed", "resumes", "extra boots", "new runs", "longest"
    );
    let mut line = |role: String, call: String, row: &Row| {
        let _ = writeln!(
            text,
            "{role:<6}{call:<11}{:>6}{:>8}{:>8}{:>9}{:>12}{:>10}{:>9.0}s",
            row.tried,
            row.killed,
            row.failed,
            row.went_on,
            row.extra_boots,
            row.new_runs,
            row.longest.as_secs_f32()
        );
    };
    for ((role, call), row) in &rows {
        line(role.to_string(), call.to_string(), row);
    }
    line("all".into(), String::new(), &all);
    text
}

/// SplitMix64: a seed leads to the same cases everywhere.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }
}
