//! The real program brings laboratory machines to a baseline: in waves, one of them failing half-way; killed while a BMC
//! works; with BMCs that say yes and do nothing. What is away is counted by the machines, not by rackctl.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod cluster_support;
mod e2e;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use e2e::{BRING_UP, Bench, Going, Said, until};
use rackctl::{
    lab::{Request, Response, simulated::machine::Phase},
    model::power::PowerState,
};
use serde_json::Value;

fn bench(test: &str, words: &[&str]) -> Option<Bench> {
    e2e::simulated(test, words, cluster_support::sshd::program())
}

/// What the class of all machines says from now on.
const BASELINE: &str = "  bios: { SriovGlobalEnable: Enabled, SysProfile: PerfOptimized }
  firmware: { BIOS: \"9.1.0\", BMC: \"8.2.0\" }
  firmwareImages:
    BIOS: { version: \"9.1.0\", url: \"https://images.example.net/bios-9.1.0.bin\" }
    BMC: { version: \"8.2.0\", url: \"https://images.example.net/bmc-8.2.0.bin\" }
";

fn ask_for(lab: &Bench, baseline: &str) {
    lab.edit("hardware.yaml", |text| format!("{}\n{baseline}", text.trim_end()));
}

/// A start that shows nothing new has not taken it after two seconds, not after minutes.
fn start(lab: &Bench, words: &[&str]) -> Going {
    let mut command = lab.command(&[&["--context", &format!("lab-{}", lab.name)], words].concat());
    command.env("RACKCTL_BASELINE_WAIT", "2s");
    lab.start_command(command)
}

fn rackctl(lab: &Bench, words: &[&str]) -> Said {
    start(lab, words).wait(BRING_UP)
}

fn set(lab: &Bench, node: &str, words: &[&str]) {
    lab.look(&[&["lab", "bmc", "set", node, "--lab", &lab.name], words].concat()).exits(0);
}

fn shown(lab: &Bench, verb: &str, node: &str) -> Value {
    lab.look(&["bmc", verb, node, "-o", "json"]).exits(0).json()["items"][0]["status"].clone()
}

/// As the BMC shows it now.
fn is_there(lab: &Bench, node: &str) -> bool {
    let firmware = shown(lab, "firmware", node).to_string();
    let bios = shown(lab, "bios", node).to_string();
    firmware.contains("9.1.0") && firmware.contains("8.2.0") && bios.contains("\"SysProfile\":\"PerfOptimized\"")
}

fn count(lab: &Bench, node: &str, part: &str) -> usize {
    lab.requests(node).iter().filter(|r| r.starts_with("POST") && r.contains(part)).count()
}

/// Which machines were seen without their system, and how many of each group at once at most.
#[derive(Default, Debug)]
struct Away {
    at_once: BTreeMap<&'static str, usize>,
    seen: BTreeSet<String>,
    looks: usize,
}

/// Looks as often as it can until it is told to stop; the machines themselves say what they do.
fn watch(lab: &Bench, groups: &[(&'static str, &[&str])], stop: &AtomicBool) -> Away {
    let mut away = Away::default();
    while !stop.load(Ordering::SeqCst) {
        let down: BTreeSet<String> = lab
            .status()
            .machines
            .into_iter()
            .filter(|m| m.simulated.as_ref().unwrap().phase != Phase::System)
            .map(|m| m.name)
            .collect();
        for (group, names) in groups {
            let now = names.iter().filter(|n| down.contains(**n)).count();
            let most = away.at_once.entry(group).or_default();
            *most = now.max(*most);
        }
        away.seen.extend(down);
        away.looks += 1;
        std::thread::sleep(Duration::from_millis(15));
    }
    away
}

/// Seconds of the first and the last reset that the node's BMC was asked for since `from`, by its own log.
fn resets(lab: &Bench, node: &str, from: f64) -> Option<(f64, f64)> {
    let Response::Requests { requests } = lab.ask(&Request::Requests { node: node.into() }) else { panic!("no log") };
    let at = |r: &Value| {
        r["at"]["secs_since_epoch"].as_f64().unwrap() + r["at"]["nanos_since_epoch"].as_f64().unwrap() / 1e9
    };
    let is_reset = |r: &&Value| r["method"] == "POST" && r["path"].as_str().unwrap().contains("ComputerSystem.Reset");
    let all: Vec<f64> = requests.iter().filter(is_reset).map(at).filter(|t| *t >= from).collect();
    Some((*all.first()?, *all.last()?))
}

const MEMBERS: &[&str] = &["n1", "n2", "n3", "n4", "n5"];
const WORKERS: &[&str] = &["n6", "n7", "n8", "n9", "n10", "n11", "n12"];

// invariant: I3 I4 I14 harness: P
#[test]
fn lab_baseline_of_twelve_in_waves_one_fails_half_way_and_the_rest_follows_after_a_resume() {
    let Some(lab) = bench("b12", &["--nodes", "12", "--cluster-size", "5"]) else { return };
    lab.edit("cluster.yaml", |text| format!("{}\n  rollout: {{ minHealthy: 1s }}\n", text.trim_end()));
    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    rackctl(&lab, &["apply", "--allow", "data-loss", "--approve", &hash]).exits(0);
    lab.look(&["diff"]).exits(0);
    lab.look(&["plan"]).exits(0).tells(&["installed as generation 1"]);

    ask_for(&lab, BASELINE);
    let differs = lab.look(&["diff", "n6"]).exits(1);
    assert!(differs.out.contains("+ firmware.BIOS: 9.1.0") && differs.out.contains("- bios.SysProfile: "), "{differs}");
    lab.look(&["plan", "n6"]).exits(3).tells(&["rackctl apply --allow reboot"]);
    set(&lab, "n6", &["--fault", "task-fails"]);
    let before = lab.all_requests();
    let upgrade = ["upgrade", "firmware", "--all", "--waves", "1,25%,50%", "--max-unavailable", "2"];
    lab.look(&[&upgrade[..], &["--dry-run"]].concat()).exits(0).tells(&["12 REBOOT"]);
    assert_eq!(lab.writes_since(&before), Vec::<String>::new());

    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let stop = AtomicBool::new(false);
    let groups: &[(&'static str, &[&str])] = &[("members", MEMBERS), ("workers", WORKERS)];
    let (halted, resumed, away) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&lab, groups, &stop));
        let halted = rackctl(&lab, &[&upgrade[..], &["--yes"]].concat());
        set(&lab, "n6", &["--clear"]);
        let there: Vec<&str> = WORKERS.iter().copied().filter(|n| is_there(&lab, n)).collect();
        let touched = lab.writes_since(&before).iter().filter_map(|w| Some(w.split_once(':')?.0.to_owned())).collect();
        let resumed = (halted.code == 4).then(|| rackctl(&lab, &["resume"]));
        stop.store(true, Ordering::SeqCst);
        ((halted, there, touched), resumed, watching.join().unwrap())
    });
    let (halted, there, before_resume): (Said, Vec<&str>, BTreeSet<String>) = halted;
    eprintln!("halted after {:.0} s with {there:?} done; {away:?}", halted.took.as_secs_f32());
    let halted = halted.exits(4);
    let halted =
        halted.tells(&["n6/bring-firmware-BIOS", "The task was aborted half-way", "halted", "rackctl resume r-"]);
    // The canary, the second wave, and who went beside the one that failed; the others never began.
    assert_eq!(there, ["n10", "n11", "n12"], "{halted}");
    assert!(["n7", "n8", "n9"].iter().all(|n| !before_resume.contains(*n)), "{before_resume:?}");
    let resumed = resumed.unwrap().exits(0);
    eprintln!("resumed: {:.0} s", resumed.took.as_secs_f32());

    // Never more away than allowed, by the machines' own account; and each was seen to be away at all.
    assert_eq!(away.at_once["members"], 1, "{away:?}");
    assert!((1..=2).contains(&away.at_once["workers"]), "{away:?}");
    assert_eq!(away.seen.len(), 12, "looked at too seldom to mean anything: {away:?}");
    // By the BMCs' own logs no two members' restarts lie within one another.
    let mut spans: Vec<(f64, f64)> = MEMBERS.iter().filter_map(|n| resets(&lab, n, began)).collect();
    assert_eq!(spans.len(), MEMBERS.len());
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(spans.windows(2).all(|w| w[0].1 < w[1].0), "{spans:?}");
    for node in MEMBERS.iter().chain(WORKERS) {
        assert!(is_there(&lab, node), "{node}");
        let images = if *node == "n6" { 3 } else { 2 };
        assert_eq!(count(&lab, node, "SimpleUpdate"), images, "{node}: each image once, and the one that failed again");
        assert_eq!(lab.machine(node).sessions, 0, "{node} has open log-ins");
    }
    assert!(lab.status().machines.iter().all(|m| m.simulated.as_ref().unwrap().wipes == 1), "nothing was written anew");

    // Once more: nothing.
    let before = lab.all_requests();
    rackctl(&lab, &["upgrade", "firmware", "--all", "--yes"]).exits(0).tells(&["every step was found done"]);
    rackctl(&lab, &["apply", "--allow", "reboot", "--yes"]).exits(0).tells(&["every step was found done"]);
    assert_eq!(lab.writes_since(&before), Vec::<String>::new());
    lab.look(&["diff"]).exits(0);
}

// fault: F52 invariant: I11 harness: P
#[test]
fn lab_baseline_killed_while_the_bmc_works_goes_on_without_a_second_image() {
    let Some(lab) = bench("bkill", &["--nodes", "1"]) else { return };
    ask_for(&lab, BASELINE);
    set(&lab, "n1", &["--fault", "task-time=6s"]);
    // A machine that is off stays off; it is started in between.
    let since = std::time::Instant::now();
    let mut going = start(&lab, &["upgrade", "firmware", "n1", "--yes"]);
    until("the BMC has the first image", BRING_UP, || {
        assert!(!going.ended(), "{}", going.so_far());
        (count(&lab, "n1", "SimpleUpdate") == 1).then_some(())
    });
    eprintln!("killed after {:.1} s", since.elapsed().as_secs_f32());
    going.kill();
    let mut going = start(&lab, &["resume"]);
    until("the machine starts", BRING_UP, || {
        assert!(!going.ended(), "{}", going.so_far());
        (lab.machine("n1").power == PowerState::On).then_some(())
    });
    assert_eq!(count(&lab, "n1", "SimpleUpdate"), 2, "the first image was not sent again: {}", going.so_far());
    let said = going.so_far();
    assert!(
        said.contains("bring-firmware-BMC") && said.contains("the BMC works at it"),
        "its progress is shown: {said}"
    );
    eprintln!("killed once more after {:.1} s", since.elapsed().as_secs_f32());
    going.kill();
    let last = rackctl(&lab, &["resume"]).exits(0);
    eprintln!("done after {:.1} s: {}", since.elapsed().as_secs_f32(), last.err);
    assert!(is_there(&lab, "n1"), "{last}");
    assert_eq!((count(&lab, "n1", "SimpleUpdate"), lab.machine("n1").power), (2, PowerState::Off), "{last}");
    assert_eq!(lab.machine("n1").sessions, 0);
}

#[test]
fn lab_baseline_that_is_accepted_and_not_applied_is_told_and_brought_about_later() {
    let Some(lab) = bench("blie", &["--nodes", "2"]) else { return };
    ask_for(&lab, BASELINE);
    // The canary's BMC ends its tasks well, and its versions stay.
    set(&lab, "n1", &["--fault", "update-ignored"]);
    let failed = rackctl(&lab, &["upgrade", "firmware", "n1", "n2", "--waves", "1", "--yes"]).exits(1);
    failed.tells(&[
        "n1/restart-into-firmware",
        "it is not applied: BIOS: is ",
        "must be 9.1.0",
        "rackctl bmc firmware n1",
        "halted",
    ]);
    assert_eq!((count(&lab, "n1", "SimpleUpdate"), count(&lab, "n2", "SimpleUpdate")), (2, 0));
    assert_eq!(lab.machine("n1").power, PowerState::On, "it is looked at as it is");
    // The images are sent anew. Now it drops attributes at its next start.
    set(&lab, "n1", &["--fault", "bios-ignored"]);
    let failed = rackctl(&lab, &["resume"]).exits(1);
    failed.tells(&["n1/restart-into-bios", "it is not applied: SriovGlobalEnable: is Disabled, must be Enabled"]);
    assert_eq!((count(&lab, "n1", "SimpleUpdate"), count(&lab, "n2", "SimpleUpdate")), (4, 0));
    set(&lab, "n1", &["--clear"]);
    rackctl(&lab, &["resume"]).exits(0);
    assert!(is_there(&lab, "n1") && is_there(&lab, "n2"));
    assert_eq!((count(&lab, "n1", "SimpleUpdate"), count(&lab, "n2", "SimpleUpdate")), (4, 2));
    // What a BMC cannot show is told apart from what differs.
    ask_for(&lab, "  raid: [{ name: data, level: raid1 }]\n");
    let differs = lab.look(&["diff", "n1", "-o", "json"]).exits(1).json();
    let field = |at: &str| differs["items"][0]["status"][at].to_string();
    assert!(field("differences").contains("raid.data") && field("unreadable") == "[]", "{differs}");
    set(&lab, "n1", &["--fault", "forbidden=/redfish/v1/Systems/1/Bios"]);
    let unread = lab.look(&["diff", "n1"]).exits(1);
    assert!(unread.out.contains("? bios: cannot be read: "), "{unread}");
}

// invariant: I5 harness: P
#[test]
fn lab_baseline_stands_before_the_installation_and_a_volume_needs_approval() {
    let Some(lab) = bench("bnew", &["--nodes", "1"]) else { return };
    ask_for(&lab, BASELINE);
    ask_for(&lab, "  raid: [{ name: boot, level: raid0 }]\n");
    let planned = lab.look(&["plan", "--allow", "data-loss", "--requests"]).exits(0);
    for part in
        ["bring-volume boot", "DATA LOSS", "SimpleUpdate", "\"RAIDType\":\"RAID0\"", "\"SysProfile\":\"PerfOptimized\""]
    {
        assert!(planned.out.contains(part), "{part}: {planned}");
    }
    rackctl(&lab, &["apply", "--allow", "data-loss", "--yes"]).exits(6);
    assert_eq!(count(&lab, "n1", "Volumes") + count(&lab, "n1", "SimpleUpdate"), 0);
    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    rackctl(&lab, &["apply", "--allow", "data-loss", "--approve", &hash]).exits(0);
    assert!(is_there(&lab, "n1"));
    assert!(shown(&lab, "raid", "n1").to_string().contains("\"name\":\"boot\""));
    let requests = lab.requests("n1");
    let at = |part: &str| requests.iter().position(|r| r.contains(part)).unwrap();
    let last_boot = requests.iter().rposition(|r| r.starts_with("PATCH /redfish/v1/Systems/1")).unwrap();
    assert!(at("SimpleUpdate") < last_boot && at("POST /redfish/v1/Systems/1/Storage/1/Volumes") < last_boot);
    assert_eq!(lab.machine("n1").simulated.unwrap().wipes, 1);
    lab.look(&["diff"]).exits(0);
    lab.look(&["apply", "--allow", "reboot"]).exits(0).tells(&["every step was found done"]);
}
