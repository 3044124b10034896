//! `inspect --boot` on an emulated machine: real firmware, the real installer, and a disk that stays as it was.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod e2e;

use e2e::BRING_UP;
use rackctl::model::power::PowerState;

#[test]
fn e2e_inspect() {
    let Some(lab) = e2e::bench("look", 1, 0) else { return };
    let machine = lab.lab().machine("n1").unwrap().clone();
    let disk = lab.disk_digest("n1");
    let seen = lab.rackctl(&["inspect", "n1", "--boot", "--yes", "-o", "json"], BRING_UP).exits(0);
    eprintln!("seen after {:.1} s", seen.took.as_secs_f32());
    let status = &seen.json()["items"][0]["status"];
    let hardware = &status["hardware"];
    assert_eq!(hardware["machine"]["serial"], machine.identity.serial.as_str(), "{seen}");
    assert_eq!(hardware["disks"][0]["serial"], machine.identity.disk_serial.as_str(), "{seen}");
    assert!(hardware["memoryBytes"].as_u64().is_some_and(|bytes| bytes > 200 << 20), "{seen}");
    let nic = &hardware["hardware"]["interfaces"][0];
    assert_eq!((&nic["mac"], &nic["link"]), (&machine.mac.to_string().into(), &true.into()), "{seen}");
    assert_eq!(nic["driver"], "virtio_net", "{seen}");
    assert_eq!(hardware["hardware"]["uefi"], true, "the first machine of a laboratory has UEFI: {seen}");
    assert!(hardware["hardware"]["cpu"].as_str().is_some_and(|cpu| !cpu.is_empty()), "{seen}");
    assert_eq!(status["differs"], serde_json::json!([]), "{seen}");

    let now = lab.machine("n1");
    assert_eq!(now.power, PowerState::Off);
    assert!(now.boot_override.is_cleared(), "{:?}", now.boot_override);
    assert_eq!(now.sessions, 0);
    assert_eq!(lab.disk_digest("n1"), disk, "its disk is as it was, byte for byte");
}
