//! `kill -9` at random moments of a bring-up, `resume` until it is done; and no secret in anything that was said meanwhile.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod e2e;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use e2e::{
    BRING_UP, Bench,
    eyes::{self, Process, Seen, Watch},
};
use rackctl::{
    model::power::PowerState,
    store::{self, Record, RecordKind, Store},
};

const KILLS: usize = 3;
/// After a kill nothing of ours may be left for longer.
const GONE: Duration = Duration::from_secs(1);
/// Seconds into a command at which it may be killed: a whole bring-up takes one to three minutes.
const MOMENTS: [(f64, f64); KILLS] = [(4.0, 45.0), (3.0, 40.0), (3.0, 40.0)];

/// SplitMix64: a seed leads to the same moments everywhere.
struct Dice(u64);

impl Dice {
    fn between(&mut self, (low, high): (f64, f64)) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (high - low) * ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

// fault: F52 invariant: I6 I8 I9 I10 I11 I13 harness: K Q
#[test]
fn e2e_crash_resume_and_secrets() {
    let Some(lab) = e2e::bench("die", 3, 0) else { return };
    let seed = match std::env::var("RACKCTL_E2E_SEED") {
        Ok(text) => text.parse().expect("RACKCTL_E2E_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64,
    };
    let mut dice = Dice(seed);
    let moments = MOMENTS.map(|range| dice.between(range));
    eprintln!("RACKCTL_E2E_SEED={seed}: to be killed after {moments:.1?} s");

    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    let mut watched: Vec<BTreeMap<Process, Seen>> = Vec::new();
    let mut kills = 0;
    let last = loop {
        let mut words = match kills {
            0 => vec!["-vvv", "apply", "--allow", "data-loss", "--approve", &hash, "-o", "jsonl"],
            _ => vec!["-vvv", "resume"],
        };
        // JSON in the log of one of them.
        if kills == 1 {
            words.extend(["--log-format", "json"]);
        }
        let mut going = lab.start(&words);
        let (watch, since) = (Watch::begin(going.pid()), Instant::now());
        let Some(after) = moments.get(kills).map(|s| Duration::from_secs_f64(*s)) else {
            let said = going.wait(BRING_UP);
            watched.push(watch.end());
            break said;
        };
        while since.elapsed() < after && !going.ended() {
            std::thread::sleep(Duration::from_millis(10));
        }
        if going.ended() {
            eprintln!("it ended before the moment of kill {}", kills + 1);
            watched.push(watch.end());
            break going.wait(BRING_UP);
        }
        let family = eyes::family(going.pid());
        let said = going.kill();
        nothing_left(&lab, &family);
        watched.push(watch.end());
        kills += 1;
        let journal = lab.runs().first().map(|r| lab.journal(&r.id)).unwrap_or_default();
        let newest: Vec<&str> = newest(&journal);
        eprintln!(
            "killed {kills} after {:.1} s with {} processes, {} records, in hand: {newest:?}",
            said.took.as_secs_f32(),
            family.len(),
            journal.len()
        );
        if journal.is_empty() {
            // It died before it was a run: there is nothing to go on with, and nothing was begun.
            assert!(lab.status().machines.iter().all(|m| m.power == PowerState::Off && m.writes == 0));
            panic!("the first moment is too early for this machine; begin with a later one");
        }
    };
    assert!(kills > 0, "nothing was killed: the moments are too late");
    assert_eq!(last.code, 0, "{last}");
    ended_healthy(&lab, kills);
    secrets(&lab, &watched);
}

/// Steps with an intent and no end.
fn newest(journal: &[Record]) -> Vec<&str> {
    let mut open: Vec<&str> = Vec::new();
    for record in journal {
        open.retain(|step| *step != record.step);
        if record.kind == RecordKind::Intent {
            open.push(&record.step);
        }
    }
    open
}

fn nothing_left(lab: &Bench, family: &BTreeMap<Process, String>) {
    let since = Instant::now();
    let mut left;
    loop {
        left = Vec::new();
        left.extend(family.iter().filter(|(p, _)| eyes::is_alive(p)).map(|(p, name)| format!("{} {name}", p.pid)));
        left.extend(lab.strangers());
        left.extend(lab.listening());
        if left.is_empty() || since.elapsed() > GONE {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(left.is_empty(), "{} ms after the kill there is still: {left:?}", since.elapsed().as_millis());
}

fn ended_healthy(lab: &Bench, kills: usize) {
    let runs = lab.runs();
    assert_eq!(runs.len(), 1, "one run, gone on with");
    let journal = lab.journal(&runs[0].id);
    let count = |kind: RecordKind| journal.iter().filter(|r| r.kind == kind).count();
    assert_eq!((count(RecordKind::RunStarted), count(RecordKind::RunEnded)), (1, 1));
    assert_eq!(count(RecordKind::RunResumed), kills);
    let chain = lab.store().chain().unwrap();
    store::verify(&chain).unwrap_or_else(|broken| panic!("{broken}"));

    let members = lab.look(&["get", "members", "-o", "json"]).exits(0).json();
    assert_eq!(members["items"].as_array().unwrap().len(), 3, "{members}");
    let again = lab.look(&["apply", "-o", "json"]).exits(0).json();
    let members = again["status"]["members"].as_array().unwrap();
    assert_eq!(members.len(), 3, "{again}");
    assert!(members.iter().all(|m| m["healthy"] == true && m["role"] != "learner"), "{again}");
    assert_eq!(lab.store().cluster_record("lab").unwrap().unwrap().generation, 1, "the cluster was made once");

    let records: BTreeMap<_, _> = lab.store().node_records().unwrap().into_iter().collect();
    for machine in lab.status().machines {
        let node = &machine.name;
        assert_eq!(machine.sessions, 0, "{node}: a log-in is left in its BMC");
        assert!(machine.boot_override.is_cleared(), "{node}: {:?}", machine.boot_override);
        assert_eq!(records[node].generation, 1, "{node} was installed once");
        assert_eq!(lab.disk_guid(node), Some(records[node].disk_guid), "{node}: its table is the ticket's");
        written_once(lab, node, &journal);
        joined_once(node, &journal);
    }
    assert!(lab.store().bmc_sessions().unwrap().iter().all(|s| s.uri.is_none()), "the store notes open log-ins");
    assert!(lab.store().locks().unwrap().is_empty());
    assert_eq!((lab.strangers(), lab.listening()), (vec![], vec![]));
}

/// One ticket, ended once; a write that was begun again had not ended before.
fn written_once(lab: &Bench, node: &str, journal: &[Record]) {
    let step = format!("{node}/write-disk");
    let of_step: Vec<&Record> = journal.iter().filter(|r| r.step == step).collect();
    let done: Vec<usize> =
        of_step.iter().enumerate().filter(|(_, r)| r.kind == RecordKind::Done).map(|(at, _)| at).collect();
    assert_eq!(done.len(), 1, "{node}: {of_step:?}");
    assert!(of_step[done[0]..].iter().all(|r| r.kind != RecordKind::Intent), "{node} was written again: {of_step:?}");
    let guids: std::collections::BTreeSet<String> = journal
        .iter()
        .filter(|r| r.subject == node)
        .filter_map(|r| r.body.pointer("/target/diskGuid").map(ToString::to_string))
        .collect();
    assert_eq!(guids.len(), 1, "{node}: one ticket: {guids:?}");
    // The machine's own word: each boot of the installer, and each time the system was there to be written.
    let console = lab.console(node);
    let (boots, writes) =
        (console.matches("installer of node").count(), console.matches("the system bundle is here").count());
    eprintln!("{node}: the installer booted {boots} times and began {writes} writes");
    assert!(writes >= 1 && writes <= boots, "{node}: {writes} writes in {boots} boots of the installer");
}

fn joined_once(node: &str, journal: &[Record]) {
    for word in ["bootstrap", "add-learner", "promote"] {
        let ends: Vec<&Record> = journal
            .iter()
            .filter(|r| r.step == format!("cluster/lab/{word}-{node}") && r.kind == RecordKind::Done)
            .collect();
        assert!(ends.len() <= 1, "{node} {word}: {ends:?}");
    }
    let entered = journal
        .iter()
        .filter(|r| r.kind == RecordKind::Done)
        .filter(|r| ["bootstrap", "add-learner"].iter().any(|w| r.step == format!("cluster/lab/{w}-{node}")))
        .count();
    assert_eq!(entered, 1, "{node} entered the cluster once");
}

fn secrets(lab: &Bench, watched: &[BTreeMap<Process, Seen>]) {
    // What else prints much.
    let run = lab.runs()[0].id.clone();
    for words in [
        ["-vvv", "get", "nodes", "-o", "yaml", "--refresh"].as_slice(),
        &["-vvv", "get", "credentials", "-o", "json"],
        &["-vvv", "describe", "node", "n1"],
        &["-vvv", "plan", "install", "n1", "--reinstall", "--requests"],
        &["plan", "install", "n1", "--reinstall", "-o", "json"],
        &["-vvv", "bmc", "info", "n1", "-o", "json"],
        &["logs", &run, "-o", "json"],
        &["get", "events", "-o", "json"],
        &["doctor"],
        &["config", "view", "-o", "json"],
    ] {
        let going = lab.start(&[&["--read-only"], words].concat());
        let _ = going.wait(e2e::LOOK);
    }
    let canaries = lab.canaries();
    let names: Vec<&str> = canaries.iter().map(|c| c.name.as_str()).collect();
    assert!(names.iter().any(|n| n.starts_with("report bearer")), "no claim was seen: {names:?}");
    let processes: usize = watched.iter().map(BTreeMap::len).sum();
    let kinds: std::collections::BTreeSet<&str> =
        watched.iter().flat_map(BTreeMap::values).map(|s| s.name.as_str()).collect();
    eprintln!(
        "{} secrets looked for in what {processes} processes ({kinds:?}) said and were started with",
        canaries.len()
    );
    assert!(processes > 3, "the children were not seen");
    let leaks = lab.leaks(&canaries, watched);
    assert!(leaks.is_empty(), "secrets in the open:\n{}", leaks.join("\n"));
    // The net has no hole: each canary is found where it was planted.
    let planted = lab.root.join("said/planted.out");
    for canary in &canaries {
        std::fs::write(&planted, [b"\x00some ".as_slice(), canary.form(), b" text"].concat()).unwrap();
        assert!(
            !lab.leaks(std::slice::from_ref(canary), &[]).is_empty(),
            "{} is not found even where it is",
            canary.name
        );
    }
    std::fs::remove_file(planted).unwrap();
}
