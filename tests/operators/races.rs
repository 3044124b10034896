//! Two operators make the same cluster: there is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rackctl::store::{self, Store};

use super::{LONG, clusters, install, possible};
use crate::crash::{
    case::kept,
    lab::{Lab, Said},
    sweep::{Dice, setting},
};

/// `of`: for each operator the folder of their state.
fn race(lab: &Lab, of: [&str; 2], pause: Duration) -> Vec<Said> {
    let mut first = lab.start_as(of[0], &["apply", "-y"]);
    std::thread::sleep(pause);
    let mut second = lab.start_as(of[1], &["apply", "-y"]);
    [first.wait(LONG), second.wait(LONG)].into_iter().map(|said| said.expect("an apply hangs")).collect()
}

/// Ids that the operators' stores hold, and whether their chains hold.
fn recorded(lab: &Lab, of: &[&str]) -> (BTreeSet<String>, Vec<String>) {
    let mut ids = BTreeSet::new();
    let mut wrong = Vec::new();
    for state in of {
        let Some(store) = lab.store_of(state) else { continue };
        if let Ok(Some(record)) = store.cluster_record("lab") {
            ids.extend(record.cluster_id);
        }
        if let Err(broken) =
            store.chain().map_err(|e| e.to_string()).and_then(|c| store::verify(&c).map_err(|e| e.to_string()))
        {
            wrong.push(format!("{state}: the audit chain: {broken}"));
        }
    }
    (ids, wrong)
}

/// One race: the exit codes, and what was wrong.
fn one(slot: &str, shared: bool, dice: &mut Dice) -> (Vec<i32>, Vec<String>) {
    let made = Lab::create(slot, &["--nodes", "3"]).and_then(|lab| install(&lab).map(|()| lab));
    let lab = match made {
        Ok(lab) => lab,
        Err(why) => return (vec![], vec![why]),
    };
    let of = if shared { ["state", "state"] } else { ["state", "other"] };
    if !shared {
        lab.second_operator("other");
    }
    let pause = Duration::from_millis(dice.below(1200) as u64);
    let said = race(&lab, of, pause);
    let mut codes: Vec<i32> = said.iter().map(|s| s.code).collect();
    let (mut ids, mut wrong) = clusters(&lab, 3);
    let (theirs, broken) = recorded(&lab, &of);
    ids.extend(theirs);
    wrong.extend(broken);
    if ids.len() != 1 {
        wrong.push(format!("{} clusters: {ids:?}", ids.len()));
    }
    if !codes.contains(&0) {
        wrong.push("nobody succeeded".into());
    }
    // Who lost is refused, or told of the other one's lock or of their cluster, with what can be done next.
    let told = |s: &Said| match s.code {
        0 => true,
        5 => s.err.contains("is held by"),
        3 => {
            s.err.contains("Refused:") && s.err.contains("next: ")
                || s.err.contains("already") && s.err.contains("next: ")
        }
        _ => false,
    };
    if let Some(other) = said.iter().find(|s| !told(s)) {
        wrong.push(format!("the other one: {other}"));
    }
    if !wrong.is_empty() {
        wrong.push(format!("{} ms between them: {} / {}", pause.as_millis(), said[0], said[1]));
        lab.save(&kept().join(format!("race-{slot}")));
    }
    codes.sort_unstable();
    (codes, wrong)
}

fn races(kind: &str, shared: bool, times: usize) {
    if !possible() {
        return;
    }
    let seed: u64 = setting("SEED").unwrap_or(1);
    let at_a_time = setting("JOBS").unwrap_or(5).min(times);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(Vec::new());
    let ends = std::sync::Mutex::new(BTreeMap::<Vec<i32>, usize>::new());
    let since = Instant::now();
    std::thread::scope(|scope| {
        for slot in 0..at_a_time {
            let (next, failed, ends) = (&next, &failed, &ends);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if at >= times {
                        return;
                    }
                    let (codes, wrong) = one(&format!("{kind}{slot}"), shared, &mut Dice(seed + at as u64));
                    *ends.lock().unwrap().entry(codes).or_default() += 1;
                    if !wrong.is_empty() {
                        println!("race {at}: {}", wrong.join("\n  "));
                        failed.lock().unwrap().push(format!("race {at}: {}", wrong.join("\n  ")));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!(
        "{times} races in {:.0} s, {} failed; by the exit codes of the two: {:?}",
        since.elapsed().as_secs_f32(),
        failed.len(),
        ends.lock().unwrap()
    );
    assert!(failed.is_empty(), "{} of {times} races:\n{}", failed.len(), failed.join("\n"));
}

/// `RACKCTL_CRASH_TIMES`: how often; `RACKCTL_CRASH_SEED`: from where on.
// fault: F45 F54 invariant: I6 I11 I20 harness: P
#[test]
fn operators_race_for_the_bootstrap_with_one_store() {
    races("r", true, setting("TIMES").unwrap_or(5));
}

/// Each has what the other one recorded of the installation, and nothing of what it does now.
// fault: F45 invariant: I6 I11 I20 harness: P
#[test]
fn operators_race_for_the_bootstrap_with_stores_of_their_own() {
    races("q", false, setting("TIMES").unwrap_or(5));
}
