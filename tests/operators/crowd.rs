//! Eight operators, forty machines.

use std::{collections::BTreeMap, time::Duration};

use rackctl::store::{self, Store};
use serde_json::Value;

use super::{LONG, possible};
use crate::crash::{
    lab::Lab,
    sweep::{Dice, setting},
};

/// Of the eight who work on forty machines.
const OPERATORS: usize = 8;
const MACHINES: usize = 40;
/// At most so many, side by side, in one command.
const SPAN: usize = 8;

/// What one operator does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Power,
    Install,
    Apply,
    /// The newest run that did not end, whoever began it.
    Resume,
}

impl Deed {
    fn choose(dice: &mut Dice) -> Deed {
        [Deed::Power, Deed::Power, Deed::Install, Deed::Apply, Deed::Resume, Deed::Resume][dice.below(6)]
    }

    /// The command; `None`: there is nothing to do.
    fn words(self, lab: &Lab, dice: &mut Dice) -> Option<Vec<String>> {
        // Members of the cluster are among the first.
        let first = 1 + if self == Deed::Apply { dice.below(SPAN) } else { dice.below(MACHINES - SPAN) };
        let range = format!("n[{first}-{}]", first + dice.below(SPAN));
        let words = match self {
            Deed::Power => {
                let verb = ["on", "off", "cycle", "reset"][dice.below(4)];
                vec!["power", verb, &range, "--force", "-y"]
            }
            Deed::Install => {
                let hash = lab.plan_hash(&["install", &range]).ok()?;
                return Some(["install", &range, "--approve", &hash].map(str::to_owned).to_vec());
            }
            Deed::Apply => {
                let hash = lab.plan_hash(&[&range, "--allow", "data-loss"]).ok()?;
                return Some(["apply", &range, "--allow", "data-loss", "--approve", &hash].map(str::to_owned).to_vec());
            }
            Deed::Resume => {
                let run = open_runs(lab).into_iter().next()?;
                return Some(vec!["resume".into(), run]);
            }
        };
        Some(words.into_iter().map(str::to_owned).collect())
    }
}

/// Runs that did not end, and that leave something in hand.
fn open_runs(lab: &Lab) -> Vec<String> {
    let heads = lab.store().map(|s| s.run_heads().unwrap()).unwrap_or_default();
    heads.into_iter().filter(|r| r.state.is_open() && !r.goal.is_short()).map(|r| r.id).collect()
}

/// Which process wrote, as its log-ins call it.
fn writer(entry: &Value) -> Option<String> {
    let mark = entry["context"].as_str()?.strip_prefix("rackctl ")?;
    Some(mark.split('-').next().unwrap_or_default().to_owned())
}

/// Every process's changes stand together: none came between those of another one.
fn one_at_a_time(lab: &Lab) -> usize {
    let mut writers = 0;
    for machine in lab.machines().unwrap() {
        let log = lab.requests(&machine.name).unwrap();
        let mut seen: Vec<String> = Vec::new();
        for entry in log.iter().filter(|e| e["method"] != "GET" && e["method"] != "HEAD") {
            if entry["path"].as_str().is_some_and(|p| p.starts_with("/redfish/v1/SessionService/Sessions")) {
                continue;
            }
            let process = writer(entry).unwrap_or_else(|| panic!("{}: {entry}", machine.name));
            if seen.last() != Some(&process) {
                assert!(!seen.contains(&process), "{}: {process} writes again after another one", machine.name);
                seen.push(process);
            }
        }
        writers += seen.len();
    }
    writers
}

// fault: F52 F54 invariant: I2 I6 I8 I13 harness: P K
#[test]
fn operators_never_work_on_one_machine_at_once() {
    if !possible() {
        return;
    }
    let rounds: usize = setting("TIMES").unwrap_or(5);
    let seed: u64 = setting("SEED").unwrap_or(1);
    let lab = Lab::create("eight", &["--nodes", &MACHINES.to_string(), "--cluster-size", "3"]).unwrap();
    let codes = std::sync::Mutex::new(BTreeMap::<(Deed, i32), usize>::new());
    std::thread::scope(|scope| {
        for operator in 0..OPERATORS {
            let (lab, codes) = (&lab, &codes);
            scope.spawn(move || {
                let mut dice = Dice(seed * 100 + operator as u64);
                for _ in 0..rounds {
                    // Few machines and many operators: they are in each other's way.
                    let deed = Deed::choose(&mut dice);
                    let Some(words) = deed.words(lab, &mut dice) else { continue };
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let mut going = lab.start_as("state", &words);
                    // SIGKILL at any moment, or to the end.
                    let (killed, patience) = match dice.below(3) {
                        0 => (true, Duration::from_millis(dice.below(4_000) as u64)),
                        _ => (false, LONG),
                    };
                    let said = going.wait(patience);
                    drop(going);
                    assert!(killed || said.is_some(), "{words:?} hangs");
                    // Done, refused (by a run that did not end, by the quorum), locked, or a plan that is old by now.
                    if let Some(said) = said.as_ref().filter(|s| ![0, 3, 4, 5, 6].contains(&s.code)) {
                        println!("{words:?}: {said}");
                    }
                    let code = said.map_or(-9, |s| s.code);
                    *codes.lock().unwrap().entry((deed, code)).or_default() += 1;
                }
            });
        }
    });
    println!("exit codes: {:?}", codes.lock().unwrap());
    let writers = one_at_a_time(&lab);
    println!("{writers} times a process had one of {MACHINES} machines, one after the other");
    assert!(writers > rounds, "too little happened");
    // What the dead left in hand is gone on with.
    for run in open_runs(&lab) {
        let said = lab.rackctl(&["resume", &run]);
        println!("resume {run}: exit {}", said.code);
        assert!([0, 1, 3, 4].contains(&said.code), "{said}");
    }
    assert!(open_runs(&lab).is_empty());
    one_at_a_time(&lab);
    // Whoever comes next finds no lock of the dead, and clears their log-ins away.
    let said = lab.rackctl(&["power", "on", "--all", "-y"]);
    assert_eq!(said.code, 0, "{said}");
    let store = lab.store().unwrap();
    assert!(store.locks().unwrap().is_empty() && store.bmc_sessions().unwrap().iter().all(|s| s.uri.is_none()));
    store::verify(&store.chain().unwrap()).unwrap();
    if let Some(record) = store.cluster_record("lab").unwrap() {
        assert_eq!(record.generation, 1, "the cluster was made once");
    }
    for machine in lab.machines().unwrap() {
        assert_eq!(machine.sessions, 0, "{}", machine.name);
    }
}
