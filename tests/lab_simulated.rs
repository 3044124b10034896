//! The real program on simulated machines: bring-ups of four and of forty, crashes, and what the machines count.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod cluster_support;
mod e2e;

use std::{collections::BTreeSet, fs, time::Duration};

use e2e::{BRING_UP, Bench, Said, machines::is_write, until};
use rackctl::{
    lab::{
        Request,
        simulated::{Account, disk::DiskState, machine::Phase},
    },
    model::power::PowerState,
    store::Store,
};
use serde_json::Value;

fn bench(test: &str, words: &[&str]) -> Option<Bench> {
    e2e::simulated(test, words, cluster_support::sshd::program())
}

fn account(lab: &Bench, node: &str) -> Account {
    lab.machine(node).simulated.unwrap()
}

fn apply(lab: &Bench) -> Said {
    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    lab.rackctl(&["apply", "--allow", "data-loss", "--approve", &hash, "-o", "json"], BRING_UP)
}

/// Each of them votes and is well.
fn healthy(report: &Value, nodes: &[&str]) {
    let members = report["status"]["members"].as_array().unwrap();
    let names: BTreeSet<&str> = members.iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, nodes.iter().copied().collect(), "{report}");
    assert!(members.iter().all(|m| m["healthy"] == true), "{report}");
    let role = |role: &str| members.iter().filter(|m| m["role"] == role).count();
    assert_eq!((role("leader"), role("voter")), (1, nodes.len() - 1), "{report}");
}

/// What the machines themselves count and hold agrees with what rackctl keeps of them.
fn counted(lab: &Bench, power_ons: u64) {
    let records = lab.store().node_records().unwrap();
    for machine in lab.status().machines {
        let (name, counts) = (&machine.name, machine.simulated.unwrap());
        let (_, record) = records.iter().find(|(n, _)| n == name).unwrap();
        assert_eq!((counts.wipes, counts.disk), (1, DiskState::Written), "{name}");
        assert!((1..=power_ons).contains(&machine.starts.power_on), "{name} was started {:?}", machine.starts);
        assert_eq!((counts.phase, machine.power), (Phase::System, PowerState::On), "{name}");
        assert_eq!(counts.disk_guid, Some(record.disk_guid), "{name}");
        assert_eq!((counts.generation, counts.run), (Some(1), Some(record.run.clone())), "{name}");
        assert_eq!(counts.system_sha256, Some(record.system_sha256.clone()), "{name}");
        assert!(machine.boot_override.is_cleared(), "{name}: {:?}", machine.boot_override);
        assert_eq!(machine.sessions, 0, "{name} has open log-ins");
    }
    assert!(lab.store().locks().unwrap().is_empty());
    assert_eq!(inside(lab), Vec::<String>::new(), "a run leaves nothing behind");
}

/// Processes in the namespace where runs serve; the machines have one of their own.
fn inside(lab: &Bench) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let space = fs::metadata(format!("/run/netns/{}", lab.lab().netns())).unwrap().ino();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().into_string().ok());
    processes
        .filter(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| m.ino() == space))
        .map(|pid| format!("{pid} {}", fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim()))
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect()
}

#[test]
fn lab_simulated_four_nodes_become_a_cluster_and_come_back() {
    let Some(lab) = bench("s4", &["--nodes", "4"]) else { return };
    for machine in lab.status().machines {
        let counts = machine.simulated.unwrap();
        assert_eq!((counts.phase, counts.disk, counts.wipes, counts.boots), (Phase::Off, DiskState::Blank, 0, 0));
    }
    let done = apply(&lab).exits(0);
    eprintln!("four nodes: {:.1} s", done.took.as_secs_f32());
    healthy(&done.json(), &["n1", "n2", "n3", "n4"]);
    counted(&lab, 1);
    for machine in lab.status().machines {
        let counts = machine.simulated.unwrap();
        assert_eq!((counts.boots, counts.power_cuts, counts.etcd), (2, 0, true), "{}", machine.name);
    }

    let before = lab.all_requests();
    lab.look(&["apply"]).exits(0).tells(&["every step was found done"]);
    assert_eq!(lab.writes_since(&before), Vec::<String>::new());
    let status = lab.look(&["ssh", "n2", "--", "rackctl-node", "status"]).exits(0).json();
    assert_eq!(status["etcd"]["running"], true, "{status}");
    let guid = account(&lab, "n2").disk_guid.unwrap().to_string();
    assert_eq!(status["rootDiskGuid"], guid.as_str(), "{status}");
    lab.look(&["ssh", "n2", "--", "uname"]).exits(127);

    // Gone and back: its disk and its member's data are still there.
    lab.rackctl(&["power", "off", "n3", "--force", "--yes"], BRING_UP).exits(0);
    assert_eq!((account(&lab, "n3").phase, account(&lab, "n3").power_cuts), (Phase::Off, 1));
    lab.rackctl(&["power", "on", "n3", "--yes"], BRING_UP).exits(0);
    let whole = until("the cluster is whole again", BRING_UP, || {
        let said = lab.look(&["apply", "-o", "json"]);
        (said.code == 0).then_some(said)
    });
    healthy(&whole.json(), &["n1", "n2", "n3", "n4"]);
    assert_eq!((account(&lab, "n3").wipes, account(&lab, "n3").boots), (1, 3));
    // The power button is listened to.
    lab.rackctl(&["power", "off", "n4", "--yes"], BRING_UP).exits(0);
    assert_eq!((account(&lab, "n4").phase, account(&lab, "n4").power_cuts), (Phase::Off, 0));
}

// fault: F42 invariant: I7 harness: P
#[test]
fn lab_simulated_a_leaders_machine_is_installed_anew_and_joins_under_a_new_id() {
    let Some(lab) = bench("snew", &["--nodes", "3"]) else { return };
    let done = apply(&lab).exits(0).json();
    let leader = |report: &Value| {
        let members = report["status"]["members"].as_array().unwrap().clone();
        let found = members.into_iter().find(|m| m["role"] == "leader").unwrap();
        (found["name"].as_str().unwrap().to_owned(), found["id"].as_str().unwrap().to_owned())
    };
    let (victim, old_id) = leader(&done);
    let words = ["install", victim.as_str(), "--reinstall"];
    let planned = lab.look(&[&words[..], &["--dry-run", "-o", "json"]].concat()).json();
    let hash = planned["metadata"]["hash"].as_str().unwrap().to_owned();
    lab.rackctl(&[&words[..], &["--approve", &hash]].concat(), BRING_UP).exits(0);
    assert_eq!((account(&lab, &victim).wipes, account(&lab, &victim).generation), (2, Some(2)));
    assert!(!account(&lab, &victim).etcd, "it runs no member until it is one again");

    let planned = lab.look(&["plan", "-o", "json"]).json().to_string();
    assert!(planned.contains(&format!("remove-member-{victim}")), "{planned}");
    let joined = lab.rackctl(&["apply", "--yes", "-o", "json"], BRING_UP).exits(0).json();
    healthy(&joined, &["n1", "n2", "n3"]);
    let members = joined["status"]["members"].as_array().unwrap();
    assert!(members.iter().all(|m| m["id"] != old_id.as_str()), "{joined}");
    // The others stayed up all the while.
    for machine in lab.status().machines.iter().filter(|m| m.name != victim) {
        assert_eq!(machine.simulated.as_ref().unwrap().boots, 2, "{}", machine.name);
    }
}

#[test]
fn lab_simulated_forty_nodes_one_cluster_of_five() {
    let Some(lab) = bench("s40", &["--nodes", "40", "--cluster-size", "5"]) else { return };
    let done = apply(&lab).exits(0);
    eprintln!("forty nodes: {:.1} s", done.took.as_secs_f32());
    healthy(&done.json(), &["n1", "n2", "n3", "n4", "n5"]);
    counted(&lab, 1);
    assert_eq!(lab.status().machines.iter().filter(|m| m.simulated.as_ref().unwrap().etcd).count(), 5);
}

#[test]
fn lab_simulated_killed_in_the_middle_and_resumed() {
    let Some(lab) = bench("sdie", &["--nodes", "4", "--write-time", "1s"]) else { return };
    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    // By what the machines are doing, not by the clock: the same moments on every host.
    type Moment = fn(&Bench) -> bool;
    let moments: [(&str, Moment); 3] = [
        ("a machine is on", |lab| lab.status().machines.iter().any(|m| m.power == PowerState::On)),
        ("a disk is being written", |lab| {
            lab.status().machines.iter().any(|m| m.simulated.as_ref().unwrap().disk == DiskState::Dirty)
        }),
        ("an installed system is up", |lab| {
            lab.status().machines.iter().any(|m| m.simulated.as_ref().unwrap().phase == Phase::System)
        }),
    ];
    for (index, (what, moment)) in moments.into_iter().enumerate() {
        let mut going = match index {
            0 => lab.start(&["apply", "--allow", "data-loss", "--approve", &hash]),
            _ => lab.start(&["resume"]),
        };
        until(what, BRING_UP, || (going.ended() || moment(&lab)).then_some(()));
        assert!(!going.ended(), "it ended before this: {what}: {}", going.so_far());
        going.kill();
    }
    // A resume that needs a person says so; none of these crashes does.
    let last = lab.rackctl(&["resume"], BRING_UP).exits(0);
    eprintln!("resumed for the last time: {:.1} s", last.took.as_secs_f32());
    let whole = lab.look(&["apply", "-o", "json"]).exits(0);
    healthy(&whole.json(), &["n1", "n2", "n3", "n4"]);
    counted(&lab, 2);
}

/// One BMC has no override, one ignores Redfish, one makes every override a lasting one: each machine is installed by the
/// way that holds, and boots as ever afterwards, also where the run was killed between the change and the way back.
// fault: F7 F52 invariant: I11 harness: K P
#[test]
fn lab_simulated_boots_by_the_way_that_holds_and_as_ever_afterwards() {
    let faults = ["n1:cray-ex", "n2:ignore-boot-override=redfish", "n3:boot-once-lasts"];
    let mut words = vec!["--nodes", "3", "--write-time", "1s"];
    faults.iter().for_each(|fault| words.extend(["--bmc-fault", fault]));
    let Some(lab) = bench("slad", &words) else { return };
    let shown = |node: &str| lab.look(&["boot", "show", node]).exits(0).out;
    assert!(shown("n1").contains("Boot0000 (Disk) first in the boot order"), "{}", shown("n1"));
    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    let mut going = lab.start(&["apply", "--allow", "data-loss", "--approve", &hash]);
    until("a disk is being written", BRING_UP, || {
        let machines = lab.status().machines;
        (going.ended() || machines.iter().any(|m| m.simulated.as_ref().unwrap().disk == DiskState::Dirty)).then_some(())
    });
    assert!(!going.ended(), "it ended before: {}", going.so_far());
    going.kill();
    // Nobody has put it back; what it was stands in the journal.
    assert!(shown("n1").contains("PXE IPv4"), "{}", shown("n1"));
    lab.rackctl(&["resume"], BRING_UP).exits(0);
    let whole = lab.look(&["apply", "-o", "json"]).exits(0);
    healthy(&whole.json(), &["n1", "n2", "n3"]);
    counted(&lab, 2);
    assert!(shown("n1").contains("Boot0000 (Disk) first in the boot order"), "{}", shown("n1"));
    assert!(
        shown("n2").contains("no override") && shown("n3").contains("no override"),
        "{}{}",
        shown("n2"),
        shown("n3")
    );
    let run = lab.runs().into_iter().last().unwrap();
    let facts: Vec<String> = lab.journal(&run.id).iter().map(|r| r.body.to_string()).collect();
    for part in
        [r#""bootLeft":{"what":"order""#, r#""bootLeft":{"what":"flags"}"#, r#""by":"IPMI boot flags""#, "bootUndone"]
    {
        assert!(facts.iter().any(|f| f.contains(part)), "{part}: {facts:#?}");
    }
}

#[test]
fn lab_simulated_without_a_run_nothing_boots_and_another_machine_is_not_wiped() {
    let Some(lab) = bench("snone", &["--nodes", "2", "--cluster-size", "1"]) else { return };
    lab.rackctl(&["power", "on", "n2", "--yes"], BRING_UP).exits(0);
    until("n2 finds nothing to boot", Duration::from_secs(30), || {
        (account(&lab, "n2").phase == Phase::NoBootDevice).then_some(())
    });
    assert!(lab.console("n2").contains("DHCP: no answer"), "{}", lab.console("n2"));

    // Behind n1's BMC is another board from its next start on; the BMC still shows the one that was ordered.
    let uuid = Some(uuid::Uuid::new_v4());
    lab.ask(&Request::SetIdentity { node: "n1".into(), bmc_serial: None, uuid, disk_serial: None });
    let refused = lab.look(&["apply", "--allow", "data-loss"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.all().contains("n1"), "{refused}");
    assert_eq!(account(&lab, "n1").wipes, 0);
    assert!(!lab.requests("n1").iter().any(|r| is_write(r)), "{:?}", lab.requests("n1"));

    // Somebody else's data stays as it is, whatever is approved.
    lab.rackctl(&["power", "off", "n2", "--force", "--yes"], BRING_UP).exits(0);
    lab.ask(&Request::ForeignDisk { node: "n2".into() });
    let hash = lab.plan_hash(&["install", "n2"]);
    let stopped = lab.rackctl(&["install", "n2", "--approve", &hash], BRING_UP);
    assert_ne!(stopped.code, 0, "{stopped}");
    assert!(stopped.all().contains("foreign data") && stopped.all().contains("payroll"), "{stopped}");
    let counts = account(&lab, "n2");
    assert_eq!((counts.disk, counts.wipes), (DiskState::Foreign, 0));
    assert!(lab.machine("n2").boot_override.is_cleared());
}
