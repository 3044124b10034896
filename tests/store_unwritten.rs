//! A disk that fills up in the middle of a run: the run stops before the next effect, what it could not record is told
//! and kept, and `resume` looks at the step.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod cluster_support;
mod e2e;

use std::{fs, process::Command};

use e2e::{BRING_UP, Bench, Said};
use rackctl::{
    lab::simulated::disk::DiskState,
    store::{RecordKind, RunState, Store},
};
use serde_json::Value;

/// `apply` or `resume` of which every write to the log of the state file fails from the `when`-th on.
fn starved(lab: &Bench, when: u32, words: &[&str]) -> Said {
    let log = lab.fleet_folder().join("state.db-wal");
    let context = format!("lab-{}", lab.name);
    let plain = lab.command(&[&["--context", &context], words].concat());
    let mut command = Command::new("strace");
    command
        .args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-P"])
        .arg(log)
        .args(["-e", "trace=pwrite64", "-e", &format!("inject=pwrite64:error=ENOSPC:when={when}+")])
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir(&lab.root)
        .stdin(std::process::Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    lab.start_command(command).wait(BRING_UP)
}

#[test]
fn a_disk_that_fills_up_stops_a_run_and_what_was_done_is_told_kept_and_looked_at() {
    let traces = Command::new("strace").args(["-f", "-qq", "--seccomp-bpf", "-e", "trace=none", "true"]).status();
    if !traces.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: no strace, or it may not trace");
        return;
    }
    let Some(lab) = e2e::simulated("full", &["--nodes", "1"], cluster_support::sshd::program()) else { return };
    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    let apply = ["apply", "--allow", "data-loss", "--approve", &hash];
    let (mut told, mut stops) = (Vec::new(), 0);
    // Each process gets a little further than the one before.
    for round in 0..12 {
        let open = lab.store().run_heads().unwrap().into_iter().find(|r| r.state.is_open());
        let words = if open.is_some() { &["resume"][..] } else { &apply[..] };
        let said = starved(&lab, 60 + 30 * round, words);
        if said.code == 0 {
            break;
        }
        stops += 1;
        let store = lab.store();
        let chain = store.chain().unwrap();
        let Some(line) = said.err.lines().find_map(|l| l.strip_prefix("not recorded: ")) else {
            // Before the run, between two records (a lock, a node's record), or at its end.
            assert!(said.err.contains("state file") && said.err.contains("full"), "{said}");
            continue;
        };
        let lost: Value = serde_json::from_str(line).unwrap();
        let run = lost["run"].as_str().unwrap();
        let file = lab.fleet_folder().join(format!("scratch/unwritten-{run}.jsonl"));
        assert!(said.err.contains(&format!("is in {}", file.display())), "{said}");
        let kept = fs::read_to_string(&file).unwrap();
        assert!(kept.lines().any(|l| serde_json::from_str::<Value>(l).unwrap() == lost), "{kept}");
        assert!(said.err.contains(&format!("rackctl resume {run}")), "{said}");
        assert_eq!(store.run(run).unwrap().unwrap().state, RunState::Running, "nothing more was written: {said}");
        let step = lost["unwritten"]["step"].as_str().unwrap();
        let kind: RecordKind = serde_json::from_value(lost["unwritten"]["kind"].clone()).unwrap();
        let last = chain.iter().rfind(|r| r.step == step).map(|r| r.kind);
        assert_ne!(last, Some(kind), "{step}: it was recorded all the same");
        told.push((step.to_owned(), kind));
    }
    eprintln!("{stops} stops, not recorded: {told:?}");
    assert!(!told.is_empty(), "no record of a step was lost");
    let last = lab.rackctl(&["resume"], BRING_UP);
    if !last.err.contains("no run") {
        assert_eq!(last.code, 0, "{last}");
    }
    lab.look(&["apply"]).exits(0).tells(&["every step was found done"]);
    let machine = lab.machine("n1");
    let counts = machine.simulated.unwrap();
    assert_eq!((counts.wipes, counts.disk), (1, DiskState::Written), "what may be done once was done once");
    assert_eq!(machine.sessions, 0, "no log-in is left open");
    assert!(lab.store().locks().unwrap().is_empty());
}
