//! `inspect --boot` with the real program on simulated machines: what is seen, what is left behind, and that no disk is
//! ever written.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod cluster_support;
mod e2e;

use std::{fs, time::Duration};

use e2e::{BRING_UP, Bench, until};
use rackctl::{
    lab::simulated::{Account, disk::DiskState, machine::Phase},
    model::power::PowerState,
    store::{RecordKind, Store},
};
use serde_json::{Value, json};

fn bench(test: &str, words: &[&str]) -> Option<Bench> {
    e2e::simulated(test, words, cluster_support::sshd::program())
}

fn account(lab: &Bench, node: &str) -> Account {
    lab.machine(node).simulated.unwrap()
}

/// Nothing is left of a look: no override, no log-in, no lock, and the disk as it was.
fn untouched(lab: &Bench, node: &str, power: PowerState, disk: DiskState) {
    let machine = lab.machine(node);
    let counts = machine.simulated.as_ref().unwrap();
    assert_eq!((machine.power, counts.disk), (power, disk), "{node}");
    assert!(machine.boot_override.is_cleared(), "{node}: {:?}", machine.boot_override);
    assert_eq!(machine.sessions, 0, "{node} has open log-ins");
    assert!(lab.store().locks().unwrap().is_empty());
}

/// On racking day nobody knows the disks.
fn without_disks(lab: &Bench) {
    let lines = |text: String, drop: &dyn Fn(&str) -> bool| {
        let mut kept = String::new();
        let mut inside: Option<usize> = None;
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            if inside.is_some_and(|at| indent > at) {
                continue;
            }
            inside = drop(line).then_some(indent);
            if inside.is_none() {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        kept
    };
    let is_disks = |line: &str| line.trim_start().starts_with("disks:");
    lab.edit("hardware.yaml", |text| lines(text, &is_disks));
    lab.edit("nodes.yaml", |text| lines(text, &is_disks).replace("kind: Node", "kind: Node # racked on Tuesday"));
}

#[test]
fn lab_inspect_a_machine_that_is_off_is_seen_written_down_and_off_again() {
    let Some(lab) = bench("look", &["--nodes", "2"]) else { return };
    without_disks(&lab);
    let nodes = || fs::read_to_string(lab.layout.inventory().join("nodes.yaml")).unwrap();
    let before = nodes();
    let planned = lab.look(&["inspect", "n1", "--boot", "--dry-run"]).exits(0);
    assert!(planned.out.contains("read-hardware") && planned.out.contains("leave-installer"), "{planned}");
    assert!(planned.out.contains("0 WIPE"), "{planned}");
    lab.look(&["inspect", "n1", "--boot"]).exits(6).tells(&["--boot --yes"]);
    lab.look(&["--read-only", "inspect", "n1", "--boot"]).exits(3);
    assert_eq!(account(&lab, "n1").boots, 0);

    let seen = lab.rackctl(&["inspect", "n1", "--boot", "--yes", "--write", "-o", "json"], BRING_UP).exits(0);
    let item = &seen.json()["items"][0];
    let hardware = &item["status"]["hardware"];
    let disk = lab.lab().machine("n1").unwrap().identity.disk_serial.clone();
    assert_eq!(hardware["disks"][0]["serial"], disk.as_str(), "{seen}");
    assert_eq!(hardware["hardware"]["interfaces"][0]["link"], true, "{seen}");
    assert_eq!(item["spec"]["disks"]["root"]["match"], json!({ "serial": disk }), "{seen}");
    untouched(&lab, "n1", PowerState::Off, DiskState::Blank);
    assert_eq!((account(&lab, "n1").boots, account(&lab, "n1").wipes), (1, 0));
    assert_eq!(account(&lab, "n2").boots, 0, "nobody else was asked to boot");

    // The manifest has one field more, and its comments.
    let after = nodes();
    let fresh: Vec<&str> = after.lines().filter(|l| !before.lines().any(|b| b == *l)).collect();
    assert_eq!(fresh.len(), 1, "{fresh:?}");
    assert!(fresh[0].contains(&disk) && after.matches("# racked on Tuesday").count() == 2, "{after}");
    let run = lab.runs().remove(0);
    assert_eq!(run.goal.word(), "inspect");
    let journal = lab.journal(&run.id);
    assert!(journal.iter().any(|r| r.kind == RecordKind::Done && r.step == "n1/leave-installer"));
    // What was written is what an installation goes by.
    lab.look(&["validate"]).exits(0);
    let again = lab.rackctl(&["inspect", "n1", "--boot", "--yes"], BRING_UP).exits(0);
    assert!(again.err.contains("the inventory has all that its installer saw"), "{again}");
}

#[test]
fn lab_inspect_killed_in_the_installer_is_made_good_by_abort_and_by_resume() {
    let Some(lab) = bench("lookdie", &["--nodes", "2"]) else { return };
    let killed = || {
        let going = lab.start(&["inspect", "n1", "--boot", "--yes"]);
        until("n1 is in the installer", BRING_UP, || {
            matches!(account(&lab, "n1").phase, Phase::Installer { .. }).then_some(())
        });
        going.kill();
    };
    killed();
    lab.rackctl(&["inspect", "n1", "--boot", "--yes"], BRING_UP).exits(3).tells(&["rackctl resume", "rackctl abort"]);
    lab.rackctl(&["abort", "--yes"], BRING_UP).exits(0);
    untouched(&lab, "n1", PowerState::Off, DiskState::Blank);
    killed();
    let resumed = lab.rackctl(&["resume", "-o", "json"], BRING_UP).exits(0);
    assert!(resumed.json()["items"][0]["status"]["hardware"]["disks"][0]["serial"].is_string(), "{resumed}");
    untouched(&lab, "n1", PowerState::Off, DiskState::Blank);
    assert_eq!(account(&lab, "n1").wipes, 0);
}

#[test]
fn lab_inspect_a_member_is_left_alone_or_comes_back() {
    let Some(lab) = bench("lookm", &["--nodes", "3"]) else { return };
    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    lab.rackctl(&["apply", "--allow", "data-loss", "--approve", &hash], BRING_UP).exits(0);
    let before = lab.all_requests();
    let refused = lab.rackctl(&["inspect", "n2", "--boot", "--yes"], BRING_UP).exits(3);
    assert!(refused.all().contains("it is installed") && refused.all().contains("--installed"), "{refused}");
    assert_eq!(lab.writes_since(&before), Vec::<String>::new());

    let seen = lab.rackctl(&["inspect", "n2", "--boot", "--installed", "--yes", "-o", "json"], BRING_UP).exits(0);
    assert!(seen.json()["items"][0]["status"]["hardware"]["disks"][0]["content"]["diskGuid"].is_string(), "{seen}");
    untouched(&lab, "n2", PowerState::On, DiskState::Written);
    let counts = account(&lab, "n2");
    assert_eq!((counts.phase, counts.wipes, counts.boots), (Phase::System, 1, 4));
    let whole = until("the cluster is whole again", Duration::from_secs(120), || {
        let said = lab.look(&["apply", "-o", "json"]);
        (said.code == 0).then_some(said)
    });
    let members: Value = whole.json()["status"]["members"].clone();
    assert!(members.as_array().unwrap().iter().all(|m| m["healthy"] == true), "{members}");
}
