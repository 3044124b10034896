//! Two installations on one provisioning network.

use std::time::Duration;

use super::{LONG, possible};
use crate::crash::lab::Lab;

/// The provisioning network is one run's: the second is told who has it, before it did anything.
// fault: F21 F54 invariant: I2 I8 harness: P N
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
    assert!(!second.err.contains("DHCP server"), "the other run's servers are taken for a stranger's: {second}");
    let untouched = lab.machines().unwrap().into_iter().filter(|m| m.name == "n3" || m.name == "n4");
    assert!(untouched.into_iter().all(|m| m.writes == 0 && m.sessions == 0));
    let first = first.wait(LONG).unwrap();
    assert_eq!(first.code, 0, "{first}");
    assert!(!first.err.contains("DHCP server"), "{first}");
    let second = install(of_second, &other).wait(LONG).unwrap();
    assert_eq!(second.code, 0, "{second}");
    assert!(lab.machines().unwrap().iter().all(|m| m.simulated.as_ref().unwrap().wipes == 1));
}
