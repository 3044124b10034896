//! Three machines from powered off to a healthy cluster, then everything that must change nothing.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod e2e;

use std::collections::BTreeSet;

use e2e::{BRING_UP, Bench, Findings, LOOK, Said, until};
use rackctl::{model::power::PowerState, store::Store};
use serde_json::Value;

// invariant: I5 I12 I20 harness: Q
#[test]
fn e2e_bringup() {
    let Some(lab) = e2e::bench("up", 3, 0) else { return };
    bring_up(&lab);
    let mut findings = Findings::new();
    findings.check(|| again_at_once(&lab));
    looks(&lab, &mut findings);
    read_only(&lab, &mut findings);
    findings.check(|| power_from_here(&lab));
    findings.none();
}

fn bring_up(lab: &Bench) {
    // By default nothing is destroyed: all three are refused, each with the disk that would be written.
    let refused = lab.look(&["apply"]).exits(3).tells(&["LAB-e2e-up", "DATA LOSS", "--allow reboot,data-loss"]);
    assert!(refused.all().contains("n1") && refused.all().contains("n3"), "{refused}");
    assert_eq!(lab.look(&["diff"]).exits(1).out.lines().filter(|l| l.starts_with('n')).count(), 3);

    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    assert_eq!(hash, lab.plan_hash(&["--allow", "data-loss"]), "the same world has the same plan");
    // Approval is asked for, and the hash is said.
    let unapproved = lab.look(&["apply", "--allow", "data-loss"]).exits(6).tells(&[&hash, "--approve"]);
    assert!(unapproved.err.contains("3 WIPE") && unapproved.err.contains("3 REBOOT"), "{unapproved}");
    lab.look(&["apply", "--allow", "data-loss", "--yes"]).exits(6);
    lab.look(&["apply", "--allow", "data-loss", "--approve", &"0".repeat(64)]).exits(6);
    lab.look(&["apply", "--allow", "data-loss", "--max-wipes", "2", "--approve", &hash]).exits(3);
    for machine in lab.status().machines {
        assert_eq!((machine.power, machine.writes), (PowerState::Off, 0), "{} before approval", machine.name);
        assert!(lab.disk_is_blank(&machine.name));
    }

    let done = lab.rackctl(&["apply", "--allow", "data-loss", "--approve", &hash, "-o", "json"], BRING_UP).exits(0);
    let report = done.json();
    healthy(&report);
    let timeline = &report["status"]["timeline"];
    let stages: BTreeSet<(&str, &str)> = timeline["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["subject"].as_str().unwrap(), s["stage"].as_str().unwrap()))
        .collect();
    for node in ["n1", "n2", "n3"] {
        for stage in ["boot-installer", "await-claim", "check-disks", "write-disk", "reboot-to-disk", "await-installed"]
        {
            assert!(stages.contains(&(node, stage)), "{node} {stage} is missing in {stages:?}");
        }
    }
    let promotions = stages.iter().filter(|(s, stage)| *s == "cluster/lab" && stage.starts_with("promote")).count();
    assert_eq!(promotions, 2, "{stages:?}");
    let (total, ours) = (timeline["totalMs"].as_u64().unwrap(), timeline["oursPercent"].as_f64().unwrap());
    eprintln!(
        "bring-up: {:.1} s from the first power-on to the last promotion, {ours:.2} % of it rackctl's",
        total as f64 / 1e3
    );
    for stage in timeline["stages"].as_array().unwrap() {
        let number = |field: &str| stage[field].as_u64().unwrap();
        eprintln!(
            "  {} {}: {} ms, rackctl {} ms",
            stage["subject"],
            stage["stage"],
            number("machineMs"),
            number("oursMs")
        );
    }
    assert!(ours <= 5.0, "machines waited for rackctl {ours} % of the time");

    let records: Vec<_> = lab.store().node_records().unwrap();
    for machine in lab.status().machines {
        let (_, record) = records.iter().find(|(name, _)| *name == machine.name).unwrap();
        assert_eq!(lab.disk_guid(&machine.name), Some(record.disk_guid), "{}'s table is the ticket's", machine.name);
        assert_eq!(record.generation, 1);
        assert!(machine.boot_override.is_cleared(), "{}: {:?}", machine.name, machine.boot_override);
        assert_eq!(machine.sessions, 0, "{} has open log-ins", machine.name);
        assert_eq!(machine.starts.power_on, 1, "{} was started once", machine.name);
    }
    assert_eq!((lab.strangers(), lab.listening()), (vec![], vec![]), "a run leaves nothing behind");
    assert!(lab.store().locks().unwrap().is_empty());
}

/// Three members, all healthy voters.
fn healthy(report: &Value) {
    let members = report["status"]["members"].as_array().unwrap();
    let names: BTreeSet<&str> = members.iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["n1", "n2", "n3"]), "{report}");
    assert!(members.iter().all(|m| m["healthy"] == true), "{report}");
    let mut roles: Vec<&str> = members.iter().map(|m| m["role"].as_str().unwrap()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["leader", "voter", "voter"], "{report}");
}

fn again_at_once(lab: &Bench) {
    let before = lab.all_requests();
    let again = lab.look(&["apply"]).exits(0).tells(&["every step was found done"]);
    eprintln!("apply again: {:.2} s", again.took.as_secs_f32());
    let json = lab.look(&["apply", "--allow", "data-loss", "-o", "json"]).exits(0);
    healthy(&json.json());
    assert_eq!(lab.writes_since(&before), Vec::<String>::new());
    assert!(lab.status().machines.iter().all(|m| m.sessions == 0), "a log-in was left open");
}

fn looks(lab: &Bench, findings: &mut Findings) {
    let run = lab.runs()[0].id.clone();
    let items = |words: &[&str]| lab.look(words).exits(0).json()["items"].as_array().unwrap().clone();
    findings.check(|| {
        let nodes = items(&["get", "nodes", "-o", "json", "--refresh"]);
        assert_eq!(nodes.len(), 3);
        assert!(nodes.iter().all(|n| n["status"]["power"] == "on"), "{nodes:?}");
        let table = lab.look(&["get", "nodes"]).exits(0);
        assert_eq!(table.out.lines().count(), 4, "{table}");
    });
    findings.check(|| {
        lab.look(&["diff"]).exits(0);
        let same = items(&["diff", "-o", "json"]);
        assert!(same.len() == 3 && same.iter().all(|i| i["status"]["differences"] == Value::Array(vec![])), "{same:?}");
    });
    findings.check(|| {
        lab.look(&["describe", "node", "n1"]).exits(0).tells(&["n1", &lab.lab().machines[0].identity.disk_serial]);
        lab.look(&["describe", "cluster", "lab"]).exits(0).tells(&["n1", "n2", "n3"]);
    });
    findings.check(|| {
        let status = lab.look(&["ssh", "n1", "--", "rackctl-node", "status"]).exits(0).json();
        let guid = lab.disk_guid("n1").unwrap().to_string();
        assert_eq!(status["rootDiskGuid"], guid.as_str(), "it runs from the disk that the host sees: {status}");
        assert_eq!(status["config"]["generation"], 1, "{status}");
    });
    findings.check(|| {
        lab.look(&["power", "status"]).exits(0).tells(&["n1", "n2", "n3", "on"]);
        assert_eq!(items(&["power", "status", "-o", "json"])[0]["status"]["power"], "on");
        lab.look(&["boot", "show"]).exits(0).tells(&["n1", "n2", "n3"]);
        assert_eq!(items(&["boot", "show", "-o", "json"]).len(), 3);
    });
    findings.check(|| {
        let said = lab.look(&["logs", &run]).exits(0);
        said.tells(&["n1/write-disk", "cluster/lab/promote", "run ended", "succeeded"]);
        let of_node = lab.look(&["logs", "n2"]).exits(0).tells(&["n2/write-disk", "claimed"]);
        assert!(!of_node.out.contains("n1/"), "{of_node}");
        lab.look(&["runs"]).exits(0).tells(&[&run, "Succeeded"]);
        lab.look(&["resume"]).exits(0).tells(&["nothing to resume"]);
    });
    for kind in
        ["nodes", "clusters", "networks", "images", "runs", "locks", "events", "members", "sites", "credentials"]
    {
        findings.check(|| {
            assert_eq!(lab.look(&["get", kind, "-o", "json"]).exits(0).json()["kind"], "List", "{kind}");
            for line in lab.look(&["get", kind, "-o", "jsonl"]).exits(0).out.lines() {
                let _: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{kind}: {e}: {line}"));
            }
        });
    }
    findings.check(|| assert_eq!(items(&["get", "members", "-o", "json"]).len(), 3));
}

/// Every verb with `--read-only`: no BMC sees a write, and what would write says no.
fn read_only(lab: &Bench, findings: &mut Findings) {
    let before = lab.all_requests();
    let run = lab.runs()[0].id.clone();
    let ro = |words: &[&str]| -> Said { lab.rackctl(&[&["--read-only"], words].concat(), LOOK) };
    for words in [
        ["get", "nodes", "--refresh"].as_slice(),
        &["describe", "node", "n1"],
        &["diff"],
        &["plan"],
        &["plan", "install", "n1", "--reinstall"],
        &["plan", "install", "n2", "--reinstall", "--requests"],
        &["apply"],
        &["install", "n1"],
        &["join", "--all"],
        &["power", "status"],
        &["boot", "show"],
        &["bmc", "info", "--all"],
        &["bmc", "trust", "n1"],
        &["logs", &run],
        &["logs", "n1"],
        &["runs"],
        &["resume"],
        &["lock", "list"],
        &["ssh", "n1", "--", "true"],
        &["image", "list"],
        &["validate"],
        &["get", "members"],
        &["config", "view"],
        &["power", "off", "n1", "--dry-run"],
        &["boot", "set", "pxe", "n1", "--dry-run"],
    ] {
        findings.check(|| drop(ro(words).exits(0)));
    }
    for words in [
        ["power", "on", "n1", "--yes"].as_slice(),
        &["power", "off", "n1", "n2", "--yes"],
        &["power", "off", "n1", "--force", "--yes"],
        &["power", "cycle", "--all", "--yes"],
        &["power", "reset", "n1", "--yes"],
        &["power", "reset", "n3", "--force", "--yes"],
        &["boot", "set", "pxe", "n1"],
        &["boot", "set", "disk", "n2", "--persistent"],
        &["install", "n1", "--reinstall", "--yes"],
    ] {
        findings.check(|| {
            let said = ro(words).exits(3);
            assert!(said.err.contains("read-only"), "the reason is missing: {said}");
        });
    }
    findings.check(|| {
        let hash = lab.plan_hash(&["install", "n1", "--reinstall"]);
        ro(&["install", "n1", "--reinstall", "--approve", &hash]).exits(3);
    });
    assert_eq!(lab.writes_since(&before), Vec::<String>::new(), "--read-only let a write through");
    let machines = lab.status().machines;
    assert!(machines.iter().all(|m| m.power == PowerState::On && m.boot_override.is_cleared() && m.sessions == 0));
    assert!(lab.store().locks().unwrap().is_empty());
    assert_eq!(lab.runs().len(), 1, "a refused verb is no run");
}

/// Without any server of ours alive, an installed machine comes back from its own disk and the cluster is whole.
fn power_from_here(lab: &Bench) {
    lab.look(&["boot", "set", "setup", "n3"]).exits(0).tells(&["n3"]);
    assert!(!lab.machine("n3").boot_override.is_cleared());
    lab.look(&["diff", "n3"]).exits(1).tells(&["boot"]);
    lab.look(&["boot", "set", "none", "n3"]).exits(0);
    assert!(lab.machine("n3").boot_override.is_cleared());
    let off = lab.rackctl(&["power", "off", "n3", "--force", "--yes"], BRING_UP).exits(0);
    assert!(off.out.contains("off"), "{off}");
    assert_eq!(lab.machine("n3").power, PowerState::Off);
    lab.look(&["diff", "n3"]).exits(1);
    let (guid, before) = (lab.disk_guid("n3"), lab.all_requests());
    lab.rackctl(&["power", "on", "n3", "--yes"], BRING_UP).exits(0).tells(&["on"]);
    let resets = lab.writes_since(&before);
    assert!(resets.iter().all(|w| w.contains("n3: POST") && w.contains("Reset")) && resets.len() == 1, "{resets:?}");
    let whole = until("the cluster is whole again", BRING_UP, || {
        let said = lab.look(&["apply", "-o", "json"]);
        (said.code == 0).then_some(said)
    });
    healthy(&whole.json());
    assert_eq!(lab.disk_guid("n3"), guid);
    assert_eq!(lab.runs().len(), 1, "coming back needed no run");
}
