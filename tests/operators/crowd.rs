//! Eight operators, forty machines.

use std::time::Duration;

use rackctl::store::{self, Store};

use super::{LONG, possible};
use crate::crash::{
    lab::Lab,
    sweep::{Dice, setting},
};

/// Of the eight who work on forty machines.
const OPERATORS: usize = 8;
const MACHINES: usize = 40;

#[test]
fn operators_never_write_to_one_bmc_at_once() {
    if !possible() {
        return;
    }
    let rounds: usize = setting("TIMES").unwrap_or(5);
    let seed: u64 = setting("SEED").unwrap_or(1);
    let lab = Lab::create("eight", &["--nodes", &MACHINES.to_string(), "--cluster-size", "3"]).unwrap();
    let codes = std::sync::Mutex::new(std::collections::BTreeMap::<i32, usize>::new());
    std::thread::scope(|scope| {
        for operator in 0..OPERATORS {
            let (lab, codes) = (&lab, &codes);
            scope.spawn(move || {
                let mut dice = Dice(seed * 100 + operator as u64);
                for _ in 0..rounds {
                    // Few machines and many operators: they are in each other's way.
                    let first = 1 + dice.below(MACHINES - 8);
                    let range = format!("n[{first}-{}]", first + dice.below(8));
                    let verb = ["on", "off", "cycle", "reset"][dice.below(4)];
                    let mut going = lab.start_as("state", &["power", verb, &range, "--force", "-y"]);
                    // SIGKILL at any moment, or to the end.
                    let (killed, patience) = match dice.below(3) {
                        0 => (true, Duration::from_millis(dice.below(3_000) as u64)),
                        _ => (false, LONG),
                    };
                    let said = going.wait(patience);
                    drop(going);
                    assert!(killed || said.is_some(), "power {verb} {range} hangs");
                    if let Some(said) = said.as_ref().filter(|s| ![0, 5].contains(&s.code)) {
                        println!("power {verb} {range}: {said}");
                    }
                    let code = said.map_or(-9, |s| s.code);
                    *codes.lock().unwrap().entry(code).or_default() += 1;
                }
            });
        }
    });
    println!("exit codes of {} commands: {:?}", OPERATORS * rounds, codes.lock().unwrap());
    let mut writers = 0;
    for machine in lab.machines().unwrap() {
        let log = lab.requests(&machine.name).unwrap();
        let mut seen: Vec<String> = Vec::new();
        for entry in log.iter().filter(|e| e["method"] != "GET" && e["method"] != "HEAD") {
            let path = entry["path"].as_str().unwrap_or_default();
            if path.starts_with("/redfish/v1/SessionService/Sessions") {
                continue;
            }
            let session = entry["session"].as_str().unwrap_or_else(|| panic!("{}: {entry}", machine.name)).to_owned();
            if seen.last() != Some(&session) {
                assert!(!seen.contains(&session), "{}: log-in {session} writes again after another one", machine.name);
                seen.push(session);
            }
        }
        writers += seen.len();
    }
    println!("{writers} log-ins wrote to {MACHINES} BMCs, one after the other on each");
    assert!(writers > rounds, "too little happened");
    // Whoever comes next finds no lock of the dead, and clears their log-ins away.
    let said = lab.rackctl(&["power", "off", "--all", "--force", "-y"]);
    assert_eq!(said.code, 0, "{said}");
    let store = lab.store().unwrap();
    assert!(store.locks().unwrap().is_empty() && store.bmc_sessions().unwrap().is_empty());
    store::verify(&store.chain().unwrap()).unwrap();
    for machine in lab.machines().unwrap() {
        assert_eq!(machine.sessions, 0, "{}", machine.name);
    }
}
