//! One crash, or several one after the other, and what came of it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rackctl::store::{RunState, Store};

use super::{
    lab::Lab,
    point::{Point, Role},
    world::{self, Counts},
};

pub const NODES: &str = "4";
/// Of a whole run: without a crash it takes 15 to 25 s, much longer beside many others.
const RUN: Duration = Duration::from_secs(240);
/// Commands after the last crash.
const GO_ON_MAX: usize = 3;

#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Processes that were killed, in the order of the points that were reached.
    pub hits: Vec<String>,
    pub wrong: Vec<String>,
    pub counts: Counts,
    /// Commands that were needed after the first.
    pub went_on: usize,
    /// The run had failed for good, and a new one did the rest: only after the death of a child.
    pub new_run: bool,
    pub took: Duration,
}

/// Where the laboratories of failed crashes are kept for reading.
pub fn kept() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("crash-failed")
}

pub fn name(points: &[Point]) -> String {
    points.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The first point is of the apply, the next ones are of what goes on.
pub fn crash(slot: &str, points: &[Point]) -> Outcome {
    let since = Instant::now();
    let mut outcome = Outcome::default();
    match Lab::create(slot, &["--nodes", NODES]) {
        Err(why) => outcome.wrong.push(why),
        Ok(lab) => {
            if let Err(why) = play(&lab, points, &mut outcome) {
                outcome.wrong.push(why);
            }
            if !outcome.wrong.is_empty() {
                lab.save(&kept().join(name(points).replace(':', "-")));
            }
        }
    }
    outcome.took = since.elapsed();
    outcome
}

fn play(lab: &Lab, points: &[Point], outcome: &mut Outcome) -> Result<(), String> {
    let mut points = points.iter().copied();
    let mut left = GO_ON_MAX;
    let mut runs = 1;
    let mut hash = lab.plan_hash(&["--allow", "data-loss"])?;
    loop {
        let open = lab.store().and_then(|s| s.runs().ok()).and_then(|r| r.first().map(|r| (r.state, r.id.clone())));
        let words: Vec<&str> = match &open {
            None => vec!["apply", "--allow", "data-loss", "--approve", &hash, "-o", "jsonl"],
            Some((RunState::Failed | RunState::Succeeded, _)) => {
                // Its run ended while only a child had died: what is left is planned anew.
                outcome.new_run = true;
                runs += 1;
                hash = lab.plan_hash(&["--allow", "data-loss"])?;
                vec!["apply", "--allow", "data-loss", "--approve", &hash, "-o", "jsonl"]
            }
            Some(_) => vec!["resume"],
        };
        let point = points.next();
        let (traced, said) = lab.traced(&words, point, RUN);
        if !traced.strays.is_empty() {
            outcome.wrong.push(format!("1 s after its death there still are: {:?}", traced.strays));
        }
        let main_died = point.is_some_and(|p| p.role == Role::Main) && traced.hit.is_some();
        outcome.hits.extend(traced.hit);
        if main_died && traced.code != -9 {
            outcome.wrong.push(format!("killed, and yet: {said}"));
        }
        if traced.code == 0 && points.len() == 0 {
            break;
        }
        if traced.code == 0 {
            // The point was not reached: nothing is left for the others.
            break;
        }
        if point.is_none() {
            left -= 1;
            outcome.wrong.push(format!("`{}` after the crash: {said}", words[0]));
        }
        if left == 0 {
            return Err(format!("{GO_ON_MAX} commands after the crash were not enough"));
        }
        outcome.went_on += 1;
    }
    let (wrong, counts) = world::check(lab, runs);
    outcome.wrong.extend(wrong);
    outcome.counts = counts;
    Ok(())
}
