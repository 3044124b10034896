//! Several operators at once: one cluster, one writer a machine.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod cluster_support;
#[allow(dead_code)] // what the crash points alone need
mod crash;

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use crash::{
    case::kept,
    lab::{self, Lab, Said},
    sweep::{Dice, setting},
};
use rackctl::store::{self, Store};

const LONG: Duration = Duration::from_secs(240);

/// False, loudly, where this host cannot have such laboratories.
fn possible() -> bool {
    let Some(why) = lab::missing() else { return true };
    assert!(std::env::var("RACKCTL_E2E").as_deref() != Ok("required"), "RACKCTL_E2E=required, and {why}");
    eprintln!("SKIPPED: {why}");
    false
}

/// Machines that are installed and have no cluster.
fn installed(slot: &str, nodes: &str) -> Result<Lab, String> {
    let lab = Lab::create(slot, &["--nodes", nodes])?;
    let hash = lab.plan_hash(&["install", "--all"])?;
    let said = lab.rackctl(&["install", "--all", "--approve", &hash]);
    if said.code == 0 { Ok(lab) } else { Err(format!("install: {said}")) }
}

/// `of`: for each operator the folder of their state.
fn race(lab: &Lab, of: [&str; 2], pause: Duration) -> Vec<Said> {
    let mut first = lab.start_as(of[0], &["apply", "-y"]);
    std::thread::sleep(pause);
    let mut second = lab.start_as(of[1], &["apply", "-y"]);
    [first.wait(LONG), second.wait(LONG)].into_iter().map(|said| said.expect("an apply hangs")).collect()
}

/// Cluster ids: what the live members say, and what each operator's store holds.
fn clusters(lab: &Lab, of: &[&str], nodes: u8) -> (BTreeSet<String>, Vec<String>) {
    let mut ids = BTreeSet::new();
    let mut wrong = Vec::new();
    for n in 1..=nodes {
        match lab.etcd(Ipv4Addr::new(10, 77, 0, 10 + n), "/v3/cluster/member/list") {
            Ok(list) => {
                let id: u64 = list["header"]["cluster_id"].as_str().and_then(|t| t.parse().ok()).unwrap_or(0);
                ids.insert(format!("{id:x}"));
                let members = list["members"].as_array().map_or(0, Vec::len);
                if members != usize::from(nodes) {
                    wrong.push(format!("n{n} lists {members} members: {list}"));
                }
            }
            Err(why) => wrong.push(format!("n{n}: {why}")),
        }
        let starts = lab.node(&format!("n{n}"), &["rackctl-node", "etcd", "status"]);
        if starts.as_ref().is_ok_and(|s| s["starts"] != 1) {
            wrong.push(format!("n{n}: its member was started {} times", starts.unwrap()["starts"]));
        }
    }
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

/// One race; what was wrong.
fn one(slot: &str, shared: bool, dice: &mut Dice) -> Vec<String> {
    let lab = match installed(slot, "3") {
        Ok(lab) => lab,
        Err(why) => return vec![why],
    };
    let of = if shared { ["state", "state"] } else { ["state", "other"] };
    if !shared {
        lab.second_operator("other");
    }
    let pause = Duration::from_millis(dice.below(1200) as u64);
    let said = race(&lab, of, pause);
    let codes: Vec<i32> = said.iter().map(|s| s.code).collect();
    let (ids, mut wrong) = clusters(&lab, &of, 3);
    if ids.len() != 1 {
        wrong.push(format!("{} clusters: {ids:?}", ids.len()));
    }
    if !codes.contains(&0) {
        wrong.push("nobody succeeded".into());
    }
    // Who lost is told of the other one's lock or of their cluster, or the plan already shows it and refuses.
    let told = |s: &Said| s.code == 0 || s.code == 5 || s.err.contains("already") || s.out.contains("Refused:");
    if let Some(other) = said.iter().find(|s| !told(s)) {
        wrong.push(format!("the other one: {other}"));
    }
    if !wrong.is_empty() {
        wrong.push(format!("{} ms between them: {} / {}", pause.as_millis(), said[0], said[1]));
        lab.save(&kept().join(format!("race-{slot}")));
    }
    wrong
}

fn races(kind: &str, shared: bool, times: usize) {
    if !possible() {
        return;
    }
    let seed: u64 = setting("SEED").unwrap_or(1);
    let at_a_time = setting("JOBS").unwrap_or(5).min(times);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for slot in 0..at_a_time {
            let (next, failed) = (&next, &failed);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if at >= times {
                        return;
                    }
                    let wrong = one(&format!("{kind}{slot}"), shared, &mut Dice(seed + at as u64));
                    if !wrong.is_empty() {
                        println!("race {at}: {}", wrong.join("\n  "));
                        failed.lock().unwrap().push(format!("race {at}: {}", wrong.join("\n  ")));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{times} races, {} failed", failed.len());
    assert!(failed.is_empty(), "{} of {times} races:\n{}", failed.len(), failed.join("\n"));
}

/// `RACKCTL_CRASH_TIMES`: how often; `RACKCTL_CRASH_SEED`: from where on.
#[test]
fn operators_race_for_the_bootstrap_with_one_store() {
    races("r", true, setting("TIMES").unwrap_or(5));
}

/// Each has what the other one recorded of the installation, and nothing of what it does now.
#[test]
fn operators_race_for_the_bootstrap_with_stores_of_their_own() {
    races("q", false, setting("TIMES").unwrap_or(5));
}

/// The provisioning network is one run's: the second is told who has it, before it did anything.
#[test]
fn operators_on_one_provisioning_network_take_turns() {
    if !possible() {
        return;
    }
    let lab = Lab::create("turn", &["--nodes", "4", "--write-time", "3s"]).unwrap();
    let [of_first, of_second] = [["n1", "n2"], ["n3", "n4"]];
    let hash = |of: [&str; 2]| lab.plan_hash(&["install", of[0], of[1]]).unwrap();
    let (approved, other) = (hash(of_first), hash(of_second));
    let install = |of: [&str; 2], hash: &str| lab.start_as("state", &["install", of[0], of[1], "--approve", hash]);
    let mut first = install(of_first, &approved);
    let begun = std::time::Instant::now();
    while lab.machines().unwrap().iter().all(|m| m.simulated.as_ref().is_none_or(|a| a.boots == 0)) {
        assert!(begun.elapsed() < LONG, "the first install does not begin");
        assert!(first.wait(Duration::ZERO).is_none(), "the first install has ended");
        std::thread::sleep(Duration::from_millis(50));
    }
    let second = install(of_second, &other).wait(LONG).unwrap();
    assert_eq!(second.code, 5, "{second}");
    let holder = format!("pid {}", first.pid());
    assert!(second.err.contains(&holder), "who has it is not said ({holder}): {second}");
    let untouched = lab.machines().unwrap().into_iter().filter(|m| m.name == "n3" || m.name == "n4");
    assert!(untouched.into_iter().all(|m| m.writes == 0 && m.sessions == 0));
    let first = first.wait(LONG).unwrap();
    assert_eq!(first.code, 0, "{first}");
    let second = install(of_second, &other).wait(LONG).unwrap();
    assert_eq!(second.code, 0, "{second}");
    assert!(lab.machines().unwrap().iter().all(|m| m.simulated.as_ref().unwrap().wipes == 1));
}

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
