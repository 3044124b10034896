//! Playbooks by the real program, on simulated machines: approved, killed, resumed, settled, paused, given up.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod cluster_support;
mod e2e;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{BRING_UP, Bench, Said, until};
use rackctl::{
    lab::simulated::disk::DiskState,
    store::{Record, RecordKind, RunState, Store},
};
use serde_json::Value;

const PLAYBOOKS: &str = r#"
apiVersion: rackctl.dev/v1alpha1
kind: Playbook
metadata: { name: bringup }
spec:
  parameters:
    who: { type: selector, default: lifecycle=active }
    log: { type: text, description: A file that grows by a line for each program }
    soak: { type: duration, default: 2s }
  steps:
    - name: Put the system on the machines
      install: { selector: "{{ who }}" }
    - exec: { command: [/bin/sh, -c, 'echo first >> "$0"; cat', "{{ log }}"] }
    - join: { selector: "{{ who }}" }
    - gate: { cluster: lab, healthy: "{{ soak }}", deadline: 2m }
    - pause: { message: look at it }
    - power: { node: n1, action: cycle }
    - wait: { for: { node: n1, power: "on" }, deadline: 1m }
    - exec: { command: [/bin/sh, -c, 'echo last >> "$0"', "{{ log }}"] }
    - gate: { cluster: lab, healthy: 1s, deadline: 2m }
---
apiVersion: rackctl.dev/v1alpha1
kind: Playbook
metadata: { name: slow }
spec:
  parameters: { log: { type: text } }
  steps:
    - exec: { command: [/bin/sh, -c, 'echo begun >> "$0"; sleep 60; echo ended >> "$0"', "{{ log }}"] }
    - wait: { duration: 10m }
    - exec: { command: [/bin/sh, -c, 'echo behind >> "$0"', "{{ log }}"] }
---
apiVersion: rackctl.dev/v1alpha1
kind: Playbook
metadata: { name: failing }
spec:
  parameters: { log: { type: text }, go: { type: bool, default: false } }
  steps:
    - exec: { command: [/bin/sh, -c, 'echo tried >> "$0"; exit 3', "{{ log }}"] }
      onFailure:
        retry: 2
        delay: 100ms
        steps:
          - notify: { message: it failed, command: [/bin/sh, -c, 'cat >> "$0"; echo >> "$0"', "{{ log }}"] }
        then: continue
    - when: "{{ go }}"
      power: { node: n1, action: "off" }
    - exec: { command: [/bin/false] }
    - exec: { command: [/bin/sh, -c, 'echo never >> "$0"', "{{ log }}"] }
---
apiVersion: rackctl.dev/v1alpha1
kind: Playbook
metadata: { name: asking }
spec:
  parameters: { log: { type: text } }
  steps:
    - approve: { message: may I, deadline: 2m }
    - exec: { command: [/bin/sh, -c, 'echo allowed >> "$0"', "{{ log }}"] }
"#;

fn bench(test: &str) -> Option<Bench> {
    let lab = e2e::simulated(test, &["--nodes", "3", "--write-time", "1s"], cluster_support::sshd::program())?;
    fs::write(lab.layout.inventory().join("playbooks.yaml"), PLAYBOOKS).unwrap();
    Some(lab)
}

fn log(lab: &Bench) -> (PathBuf, String) {
    let path = lab.root.join("programs.log");
    let set = format!("log={}", path.display());
    (path, set)
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The playbook's run: the newest whose id names no step.
fn run_of(lab: &Bench) -> String {
    lab.runs().into_iter().map(|r| r.id).find(|id| !id.contains('.')).unwrap()
}

fn standing(said: &Said) -> Vec<String> {
    let steps = said.json();
    let steps = steps["status"]["steps"].as_array().unwrap();
    steps.iter().map(|s| format!("{} {}", s["step"].as_str().unwrap(), s["standing"].as_str().unwrap())).collect()
}

fn state(lab: &Bench, run: &str) -> RunState {
    lab.store().run(run).unwrap().unwrap().state
}

/// Steps of the journal that ended, in order.
fn ended(records: &[Record]) -> Vec<&str> {
    records.iter().filter(|r| r.subject == "playbook" && r.kind == RecordKind::Done).map(|r| r.step.as_str()).collect()
}

#[test]
fn playbook_brings_a_cluster_up_through_crashes_and_approvals() {
    let Some(lab) = bench("pbup") else { return };
    let (path, set) = log(&lab);

    // A look changes nothing, and shows the hash that is asked for.
    let before = lab.all_requests();
    let dry = lab.look(&["run", "bringup", "--set", &set, "--dry-run", "-o", "json"]).exits(0).json();
    let hash = dry["status"]["steps"][0]["plan"]["metadata"]["hash"].as_str().unwrap().to_owned();
    assert_eq!(lab.writes_since(&before), Vec::<String>::new());
    assert!(lab.store().runs().unwrap().is_empty() && !path.exists());

    // Without a terminal it stops where data would be lost, and says how it goes on.
    let asked = lab.rackctl(&["run", "bringup", "--set", &set, "--yes"], BRING_UP).exits(6);
    let run = run_of(&lab);
    let next = format!("next: rackctl resume {run} --approve {}", &hash[..12]);
    let asked = asked.tells(&[&next, "it destroys data"]);
    assert_eq!(asked.all().matches("play/01-install").count(), 2, "{asked}");
    assert_eq!(state(&lab, &run), RunState::Paused);
    assert_eq!(lab.writes_since(&before), Vec::<String>::new());

    // Killed while disks are written, killed again while members join: each machine is wiped once.
    let mut going = lab.start(&["resume", &run, "--approve", &hash]);
    until("a disk is being written", BRING_UP, || {
        let dirty = |d: DiskState| d == DiskState::Dirty;
        let written = lab.status().machines.iter().any(|m| dirty(m.simulated.as_ref().unwrap().disk));
        (going.ended() || written).then_some(())
    });
    assert!(!going.ended(), "{}", going.so_far());
    going.kill();
    lab.look(&["runs"]).exits(0).tells(&["playbook bringup", "Crashed", &format!("{run}.01")]);
    let refused = lab.rackctl(&["install", "n1", "--yes"], BRING_UP).exits(3);
    refused.tells(&[&format!("next: rackctl resume {run}, or")]);
    let mut going = lab.start(&["resume"]);
    until("a member is added", BRING_UP, || {
        let joins = lab.journal(&format!("{run}.03"));
        let adds = joins.iter().any(|r| r.step.contains("add-learner") && r.kind == RecordKind::Intent);
        (going.ended() || adds).then_some(())
    });
    assert!(!going.ended(), "{}", going.so_far());
    going.kill();
    assert_eq!(lines(&path), ["first"]);

    // To the person, and past it.
    let parked = lab.rackctl(&["resume", "-o", "json"], BRING_UP).exits(6);
    let parked = parked.tells(&["look at it", &format!("next: rackctl resume {run}")]);
    let wanted =
        ["01-install done", "02-exec done", "03-join done", "04-gate done", "05-pause parked", "06-power waiting"];
    assert_eq!(standing(&parked)[..6], wanted.map(|w| format!("play/{w}")));
    let whole = lab.rackctl(&["resume", &run, "-o", "json"], BRING_UP).exits(0);
    assert!(standing(&whole).iter().all(|s| s.ends_with(" done")), "{whole}");
    assert_eq!(lines(&path), ["first", "last"], "no program was run twice");

    for machine in lab.status().machines {
        let counts = machine.simulated.unwrap();
        assert_eq!(counts.wipes, 1, "{}", machine.name);
    }
    // One run a step, whatever was killed.
    let mut runs: Vec<String> = lab.store().runs().unwrap().into_iter().map(|r| r.id).collect();
    runs.sort();
    let all = ["", ".01", ".03", ".06"].map(|end| format!("{run}{end}"));
    assert_eq!(runs, all);
    let records = lab.journal(&run);
    let steps = ended(&records);
    let mut once = steps.clone();
    once.dedup();
    assert_eq!((steps.len(), &once), (9, &steps), "no step ended twice");
    let described = lab.look(&["describe", "run", &run]).exits(0);
    described.tells(&["goal: playbook bringup", "step: play/06-power", "standing: done"]);
    assert!(lab.store().locks().unwrap().is_empty());
    rackctl::store::verify(&lab.store().chain().unwrap()).unwrap();
    lab.rackctl(&["resume", &run], BRING_UP).exits(3).tells(&["it has ended"]);
}

#[test]
fn playbook_program_that_was_cut_off_is_settled_and_waits_are_paused_and_given_up() {
    let Some(lab) = bench("pbcut") else { return };
    let (path, set) = log(&lab);
    let mut going = lab.start(&["run", "slow", "--set", &set]);
    until("the program runs", BRING_UP, || (going.ended() || lines(&path) == ["begun"]).then_some(()));
    let run = run_of(&lab);
    lab.look(&["resume", &run]).exits(5).tells(&[&format!("playbook/{run}")]);
    let program = program_of(going.pid());
    assert!(!program.is_empty());
    going.kill();
    until("the program ends with rackctl", Duration::from_secs(10), || {
        program.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });

    // Nobody can tell whether it did its work.
    let asks = lab.rackctl(&["resume", &run], BRING_UP).exits(7);
    asks.tells(&["cannot be seen from here", &format!("rackctl resume {run} --settle done")]);
    assert_eq!(lines(&path), ["begun"]);
    let mut going = lab.start(&["resume", &run, "--settle", "done"]);
    until("it waits", BRING_UP, || (going.ended() || going.so_far().contains("[2/3]")).then_some(()));
    assert!(!going.ended(), "{}", going.so_far());

    // A wait is paused from elsewhere, and goes on where it was.
    lab.rackctl(&["pause", &run], BRING_UP).exits(0);
    going.wait(BRING_UP).exits(130).tells(&["it was paused and can be resumed"]);
    assert_eq!(state(&lab, &run), RunState::Paused);
    lab.rackctl(&["resume", &run, "--settle", "again"], BRING_UP).exits(2).tells(&["no step of this run is one"]);
    let mut going = lab.start(&["resume", &run]);
    until("it waits again", BRING_UP, || (going.ended() || state(&lab, &run) == RunState::Running).then_some(()));
    assert!(!going.ended(), "{}", going.so_far());
    // ^C: a wait is not waited for.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(going.pid()), nix::sys::signal::Signal::SIGINT).unwrap();
    going.wait(Duration::from_secs(20)).exits(130).tells(&[&format!("rackctl resume {run}, or rackctl abort")]);
    assert_eq!(state(&lab, &run), RunState::Interrupted);
    lab.rackctl(&["abort", &run, "--yes"], BRING_UP).exits(0);
    assert_eq!(state(&lab, &run), RunState::Aborted);
    lab.rackctl(&["resume", &run], BRING_UP).exits(3);
    assert_eq!(lines(&path), ["begun"], "what stood behind was never begun");
    let waits = lab.journal(&run).iter().filter(|r| r.step == "play/02-wait" && r.kind == RecordKind::Intent).count();
    assert_eq!(waits, 1, "one wait, begun once");
}

/// Processes below this one that are `sleep` or a shell.
fn program_of(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|c| c.parse::<i32>().ok()) {
                next.push(child);
                found.push(child);
            }
        }
    }
    found
}

#[test]
fn playbook_failures_and_a_second_operator() {
    let Some(lab) = bench("pbfail") else { return };
    let (path, set) = log(&lab);
    let failed = lab.rackctl(&["run", "failing", "--set", &set, "-o", "json"], BRING_UP).exits(1);
    let wanted = [
        "play/01-exec failed",
        "play/01-exec/01-notify done",
        "play/02-power passedOver",
        "play/03-exec failed",
        "play/04-exec waiting",
    ];
    assert_eq!(standing(&failed), wanted);
    let said = lines(&path);
    assert_eq!(said[..3], ["tried", "tried", "tried"]);
    let told: Value = serde_json::from_str(&said[3]).unwrap();
    assert_eq!((told["message"].as_str(), told["playbook"].as_str()), (Some("it failed"), Some("failing")));
    assert_eq!(said.len(), 4);
    let failed = failed.tells(&["play/01-exec: run /bin/sh", "exit code 3", "play/03-exec: run /bin/false"]);
    assert_eq!(failed.json()["status"]["failures"].as_array().unwrap().len(), 2);
    fs::remove_file(&path).unwrap();

    // What is wrong is said at once, before anything is begun.
    let runs = lab.store().runs().unwrap().len();
    let usage = lab.look(&["run", "failing", "--set", "logg=x", "--set", "go=maybe"]).exits(2);
    usage.tells(&["did you mean `log`?", "parameter log: it has no value", "`maybe` is neither `true` nor `false`"]);
    lab.look(&["run", "bringupp"]).exits(2).tells(&["did you mean `bringup`?"]);
    assert_eq!(lab.store().runs().unwrap().len(), runs);

    // An approval is somebody else's.
    let as_user = |user: &str, words: &[&str]| {
        let context = format!("lab-{}", lab.name);
        let mut command = lab.command(&[&["--context", context.as_str()], words].concat());
        command.env("SUDO_USER", user);
        lab.start_command(command)
    };
    let mut going = as_user("ann", &["run", "asking", "--set", &set]);
    let hash = until("it asks", BRING_UP, || {
        assert!(!going.ended(), "{}", going.so_far());
        let text = going.so_far();
        let rest = text.split_once("rackctl approve ")?.1.to_owned();
        rest.split_once('\n').map(|(hash, _)| hash.to_owned())
    });
    as_user("ann", &["approve", &hash, "--yes"]).wait(BRING_UP).exits(3).tells(&["somebody else"]);
    assert!(!path.exists(), "not begun yet");
    as_user("bob", &["approve", &hash, "--yes"]).wait(BRING_UP).exits(0).tells(&["may I"]);
    going.wait(BRING_UP).exits(0).tells(&["approved by bob@"]);
    assert_eq!(lines(&path), ["allowed"]);
}
