//! 200 combinations of lies on 100 simulated BMCs, driven by the program itself: each ends as a table says that is not
//! the product's, nothing happens twice, and nothing is left.
//!
//! An ordinary run takes the first hundred, which is a minute and a half of waiting; `cargo xtask heavy` takes all of them.
//! `RACKCTL_SWEEP_SEED` draws others; `RACKCTL_SWEEP_CASE` runs one alone, as a failure names it.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod draw;
mod floor;
mod judge;
mod table;

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use draw::{Case, Verb};
use floor::{Floor, Said};
use judge::Told;
use table::End;

const SEED: u64 = 20_261_122;
const MACHINES: usize = 100;
const CASES: usize = 200;
/// Of all cases.
const RECOVERABLE: f64 = 0.6;
/// What a real BMC takes up to 60 s for, in a tenth of the time.
const LAGS: [&str; 2] = ["power-lag=2s", "power-lag=6s"];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn combinations_of_lies_end_as_expected() {
    take(MACHINES);
}

#[test]
#[ignore = "three minutes; cargo xtask heavy"]
fn every_combination_of_lies_ends_as_expected() {
    take(CASES);
}

fn take(count: usize) {
    let seed = number("RACKCTL_SWEEP_SEED").unwrap_or(SEED);
    let mut cases: Vec<Case> = (0..CASES).map(|n| draw::case(seed, n, LAGS)).collect();
    let good = cases.iter().filter(|case| table::expected(case).0 == End::Recovered).count();
    assert!(good as f64 >= RECOVERABLE * CASES as f64, "{good} of {CASES} can be recovered from: too few to say much");
    match number("RACKCTL_SWEEP_CASE") {
        Some(one) => cases.retain(|case| case.number as u64 == one),
        None => cases.truncate(count),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(sweep(seed, &cases));
}

async fn sweep(seed: u64, cases: &[Case]) {
    let began = Instant::now();
    if let [one] = cases {
        eprintln!("{one}: expected {:?}", table::expected(one).0);
    }
    let mut floor = Floor::make(MACHINES.min(cases.len())).await;
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<End, usize> = BTreeMap::new();
    for round in cases.chunks(MACHINES) {
        for case in round {
            *counts.entry(table::expected(case).0).or_default() += 1;
        }
        wrong.extend(go_round(&mut floor, round).await);
    }
    for bystander in &floor.bystanders {
        if !bystander.bmc.log().0.is_empty() {
            wrong.push(format!("{}: nobody named it, and its BMC was asked", bystander.name));
        }
    }
    let strangers = floor.strangers.load(Ordering::SeqCst);
    if strangers > 0 {
        wrong.push(format!("{strangers} connections to where a BMC's redirect led"));
    }
    eprintln!("seed {seed}: {} cases in {:.1} s", cases.len(), began.elapsed().as_secs_f32());
    for (end, count) in &counts {
        eprintln!("{count:5} {end:?}");
    }
    let again = format!("RACKCTL_SWEEP_SEED={seed} RACKCTL_SWEEP_CASE=N");
    assert!(wrong.is_empty(), "{} wrong ({again}):\n{}", wrong.len(), wrong.join("\n"));
}

/// Every machine of the floor its case, all verbs at once.
async fn go_round(floor: &mut Floor, cases: &[Case]) -> Vec<String> {
    floor.write_inventory(cases);
    let stranger = floor.stranger.clone();
    for (machine, case) in floor.machines.iter_mut().zip(cases) {
        machine.prepare(case, &stranger).await;
    }
    let asked: Vec<Verb> = Verb::ALL.into_iter().filter(|v| cases.iter().any(|c| c.verb == *v)).collect();
    let said: Vec<Said> = futures_util::future::join_all(asked.iter().map(|verb| floor.rackctl(*verb))).await;
    settled(floor, cases).await;
    let mut wrong = Vec::new();
    for (verb, said) in asked.iter().zip(&said) {
        let own: Vec<(usize, &Case)> = cases.iter().enumerate().filter(|(_, c)| c.verb == *verb).collect();
        eprintln!("{} over {} machines: exit {}, {:.1} s", verb.word(), own.len(), said.code, said.took.as_secs_f32());
        let ends: Vec<End> = own.iter().map(|(_, case)| table::expected(case).0).collect();
        if said.code != judge::exit_code(&ends) {
            wrong.push(format!("{}: exit code {}, expected {}", verb.word(), said.code, judge::exit_code(&ends)));
        }
        let mut refused = 0;
        for (at, case) in &own {
            let machine = &floor.machines[*at];
            let told = said.items.iter().find(|i| i["metadata"]["name"] == machine.name.as_str()).map(Told::of);
            let after = machine.after().await;
            refused += if case.has("@old-password") { after.wrong } else { 0 };
            let faults = judge::wrong(case, told.as_ref(), &after, machine);
            if !faults.is_empty() && cases.len() == 1 {
                eprintln!("{}", said.err);
                after.log.iter().for_each(|l| eprintln!("{} {} {}", l.method, l.path, l.status));
            }
            wrong.extend(faults.iter().map(|fault| format!("{}, {case}: {fault}", machine.name)));
        }
        // One machine of a group tells that a password is wrong.
        if refused > 1 {
            wrong.push(format!("{}: a refused password was tried {refused} times", verb.word()));
        }
    }
    wrong
}

/// Effects come after the lag: what is under way when the program ends is not half of it.
async fn settled(floor: &Floor, cases: &[Case]) {
    if cases.iter().any(|c| c.has("power-lag")) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // A farewell over UDP is on its way when its sender is gone.
    for _ in 0..20 {
        if floor.machines.iter().all(|m| m.ipmi.open_sessions() == 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
