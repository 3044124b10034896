//! What works: power, boot, facts, log, sensors, inventory, accounts.

use super::*;
use crate::{
    bmc::ipmi::{Suite, rakp::Privilege, sensor::Health},
    model::{
        failure::Cause,
        fleet::BootMode,
        lease::Gate,
        power::{BootOverride, BootTarget, OverrideFor, PowerAction, PowerState},
    },
};

fn pxe() -> BootOverride {
    BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: Some(BootMode::Uefi) }
}

#[tokio::test]
async fn power_and_boot_as_over_redfish() {
    let bench = bench(None).await;
    let client = bench.client().await;
    assert_eq!(client.endpoint(), format!("ipmi://{}", bench.at));
    let session = client.ipmi("x").unwrap().session().await;
    assert_eq!(session, Some((Suite::Seventeen, Privilege::Administrator)));
    assert_eq!(client.power().await.unwrap(), PowerState::Off);
    assert!(client.boot().await.unwrap().is_cleared());
    client.set_boot(pxe()).await.unwrap();
    assert_eq!(client.boot().await.unwrap(), pxe());
    let sent = bench.sent();
    let flags = ["get boot flags", "set boot option 3", "set boot flags", "get boot flags"];
    assert!(sent.windows(4).any(|four| four == flags), "{sent:?}");
    client.set_power(true, false, Duration::from_secs(10)).await.unwrap();
    assert_eq!(bench.chassis().boots(), [Some(BootTarget::Pxe)]);
    assert!(client.boot().await.unwrap().is_cleared(), "once is once");
    client.set_boot(BootOverride { lasts: OverrideFor::Persistent, ..pxe() }).await.unwrap();
    client.set_boot(BootOverride::CLEARED).await.unwrap();
    assert!(client.boot().await.unwrap().is_cleared());
    client.set_power(false, false, Duration::from_secs(10)).await.unwrap();
    client.set_power(true, false, Duration::from_secs(10)).await.unwrap();
    bench.chassis().set_deaf(true);
    client.set_power(false, true, Duration::from_secs(4)).await.unwrap();
    assert_eq!(bench.chassis().cuts(), 1, "force after the operating system did not listen");
    client.close().await.unwrap();
    assert_eq!(bench.service.open_sessions(), 0);
    let log = bench.service.bmc().writes();
    assert!(log.iter().all(|l| l.method == "IPMI"), "{log:?}");
    assert!(log.iter().any(|l| l.path == "ipmi 0x00 0x02 01"), "{log:?}");
}

#[tokio::test]
async fn facts_and_who_the_bmc_is() {
    let bench = bench(None).await;
    let client = bench.client().await;
    let facts = client.facts().await.unwrap();
    assert_eq!((facts.manufacturer.as_deref(), facts.model.as_deref()), (Some("Contoso"), Some("R1")));
    assert_eq!((facts.serial.as_deref(), facts.uuid), (Some("LAB-0001"), Some(description().uuid)));
    assert_eq!((facts.power, facts.bmc_version.as_deref()), (PowerState::Off, Some("1.00")));
    let identity = fleet::Identity {
        serial: Some("LAB-0001".into()),
        uuid: Some(description().uuid),
        serial_from: fleet::SerialFrom::SerialNumber,
    };
    assert!(crate::bmc::identity::compare(&identity, &facts).is_ok());
    assert_eq!(client.bmc_info().await.unwrap().firmware.as_deref(), Some("1.00"));
    assert_eq!(client.last_reset_time().await.unwrap(), None);
    let none = client.redfish("read BIOS attributes").unwrap_err();
    assert!(none.why.contains("IPMI does not have this"), "{none}");
    client.close().await.unwrap();
    assert!(bench.service.bmc().writes().is_empty(), "looking writes nothing");
}

#[tokio::test]
async fn log_sensors_and_inventory_also_in_small_pieces() {
    let bench = bench(None).await;
    let client = bench.client().await;
    client.set_power(true, false, Duration::from_secs(10)).await.unwrap();
    let ipmi = client.ipmi("look").unwrap();
    for small_reads in [false, true] {
        bench.lie(if small_reads { &["ipmi-small-reads"] } else { &[] });
        let sensors = ipmi.sensors().await.unwrap();
        let shown: Vec<_> = sensors.iter().map(|s| (s.sensor.name.as_str(), s.value)).collect();
        let expected =
            [("CPU Temp", Some(42.0)), ("Fan 1", Some(4200.0)), ("Power Draw", Some(120.0)), ("PSU 1", None)];
        assert_eq!(shown, expected);
        assert_eq!(sensors[0].thresholds.upper_critical, Some(95.0));
        assert_eq!(sensors[3].states, ["presence detected"]);
        assert!(sensors.iter().all(|s| s.health == Health::Ok));
        let fru = ipmi.fru().await.unwrap();
        assert_eq!((fru.serial.as_deref(), fru.part.as_deref()), (Some("LAB-0001"), Some("R1-SKU")));
        assert!(fru.broken.is_empty());
    }
    let log = ipmi.sel().await.unwrap();
    assert_eq!(log.iter().map(|e| (e.source(), e.text())).collect::<Vec<_>>(), [("system boot", "power up".into())]);
    assert!(log[0].at.is_some());
    ipmi.sel_clear().await.unwrap();
    assert_eq!(ipmi.sel().await.unwrap()[0].text(), "log cleared");
    assert_eq!(ipmi.sel_info().await.unwrap().entries, 1);
    client.set_power(false, true, Duration::from_secs(10)).await.unwrap();
    let off = ipmi.sensors().await.unwrap();
    assert!(!off[0].available && off[0].value.is_none(), "a machine that is off has no temperature");
    client.close().await.unwrap();
}

#[tokio::test]
async fn accounts_are_written_and_read_back() {
    let bench = bench(None).await;
    let client = bench.client().await;
    let ipmi = client.ipmi("users").unwrap();
    ipmi.set_user_name(3, "ops").await.unwrap();
    ipmi.set_password(3, &Secret::new("twenty bytes long!!!".into())).await.unwrap();
    ipmi.set_user_access(3, Some(Privilege::Operator), true).await.unwrap();
    let users = ipmi.users().await.unwrap();
    let shown: Vec<_> = users.iter().map(|u| (u.number, u.name.as_str(), u.access.privilege)).collect();
    assert_eq!(shown, [(2, "root", Some(Privilege::Administrator)), (3, "ops", Some(Privilege::Operator))]);
    client.close().await.unwrap();
    let mut passwords = Passwords::new();
    passwords.insert("lab", "ops", Arc::new(Secret::new("twenty bytes long!!!".into())));
    let ops = bench.open(&passwords).await.unwrap();
    assert_eq!(ops.ipmi("x").unwrap().session().await.map(|s| s.1), Some(Privilege::Operator), "ADMINISTRATOR first");
    let refused = ops.ipmi("x").unwrap().set_user_name(4, "more").await.unwrap_err();
    assert_eq!(refused.cause, Cause::Unauthorized, "{refused}");
    ops.close().await.unwrap();
    let log = format!("{:?}", bench.service.bmc().log());
    assert!(!log.contains(&hex::encode("twenty")) && !log.contains("twenty"), "{log}");
}

#[tokio::test]
async fn read_only_gate_and_leave_are_asked() {
    let bench = bench(None).await;
    let reading = Options { read_only: true, ..bench.options() };
    let client = Client::open(&bench.node, &passwords(PASSWORD), reading).await.unwrap();
    client.power().await.unwrap();
    for failure in [client.set_boot(pxe()).await.unwrap_err(), client.reset(PowerAction::On).await.unwrap_err()] {
        assert_eq!(failure.cause, Cause::Guard, "{failure}");
    }
    client.close().await.unwrap();

    let shut = Options { gate: Some(Arc::new(Gate::new(|| 0))), ..bench.options() };
    let client = Client::open(&bench.node, &passwords(PASSWORD), shut).await.unwrap();
    client.power().await.unwrap();
    assert_eq!(client.set_boot(pxe()).await.unwrap_err().cause, Cause::Interrupted);
    client.close().await.unwrap();

    let asked = Arc::new(Mutex::new(0));
    let counter = asked.clone();
    let client = bench.client().await.asking_first(Arc::new(move || {
        *counter.lock().unwrap() += 1;
        Box::pin(async { Err(crate::model::Failure::new(Cause::Guard, "x", "its cluster says no")) })
    }));
    client.reset(PowerAction::On).await.unwrap();
    assert_eq!(client.reset(PowerAction::ForceOff).await.unwrap_err().why, "its cluster says no");
    assert_eq!(*asked.lock().unwrap(), 1, "switching on takes nothing away");
    client.close().await.unwrap();
    let writes: Vec<_> = bench.service.bmc().writes().into_iter().map(|l| l.path).collect();
    assert_eq!(writes, ["ipmi 0x00 0x02 01"]);
}

#[tokio::test]
async fn what_would_be_sent_is_shown_and_not_sent() {
    use crate::bmc::client::Operation;
    let bench = bench(None).await;
    let client = bench.client().await;
    let operations =
        [Operation::SetBoot(pxe()), Operation::Reset(PowerAction::On), Operation::Reset(PowerAction::GracefulRestart)];
    let lines = client.preview(&operations).await.unwrap();
    let flags = "IPMI set boot option 3 0x00 0x08 0308, then IPMI set boot flags 0x00 0x08 05a004000000".to_owned();
    assert_eq!(lines[0], Ok(vec![flags]));
    assert_eq!(lines[1], Ok(vec!["IPMI chassis power up 0x00 0x02 01".to_owned()]));
    assert!(lines[2].as_ref().is_err_and(|why| why.contains("shut down")));
    client.close().await.unwrap();
    assert!(bench.service.bmc().writes().is_empty());
}

/// Supermicro's firmware goes on as ever with the specification's selector of the disk.
#[tokio::test]
async fn the_disk_of_a_supermicro_in_uefi_mode_is_asked_for_by_its_own_selector() {
    let bench = bench(None).await;
    let disk = BootOverride { target: BootTarget::Disk, lasts: OverrideFor::Once, ..pxe() };
    for (faults, flags) in [(["maker=Supermicro"], "05a024000000"), (["maker=Contoso"], "05a008000000")] {
        bench.lie(&faults);
        let client = bench.client().await;
        client.set_boot(BootOverride::CLEARED).await.unwrap();
        client.set_boot(disk).await.unwrap();
        let writes: Vec<_> = bench.service.bmc().writes().into_iter().map(|l| l.path).collect();
        assert_eq!(writes.last().map(String::as_str), Some(format!("ipmi 0x00 0x08 {flags}").as_str()), "{writes:?}");
        client.close().await.unwrap();
    }
}

// fault: F3 invariant: I15 harness: P
#[tokio::test]
async fn a_restart_is_made_of_parts_that_can_be_seen() {
    let bench = bench(None).await;
    let client = bench.client().await;
    let soon = Duration::from_secs(20);
    client.set_power(true, false, soon).await.unwrap();
    for (action, force) in [(PowerAction::ForceRestart, true), (PowerAction::GracefulRestart, false)] {
        let wish = crate::bmc::Wish { action, force, wait: true };
        let boots = bench.chassis().boots().len();
        assert_eq!(client.preview_drive(wish).await.unwrap().len(), 2);
        assert_eq!(client.drive(wish, soon).await.unwrap(), None);
        assert_eq!(bench.chassis().boots().len(), boots + 1, "{action:?}");
    }
    bench.lie(&["power-noop"]);
    let wish = crate::bmc::Wish { action: PowerAction::ForceRestart, force: true, wait: true };
    let failure = client.drive(wish, Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored, "{failure}");
    client.close().await.unwrap();
}

/// Chassis control 4 (table 28-4).
#[tokio::test]
async fn a_diagnostic_interrupt_is_sent_once_and_asked_first() {
    let bench = bench(None).await;
    let client = bench.client().await;
    let failure = client.nmi().await.unwrap_err();
    assert!(failure.cause == Cause::Refused && failure.next.is_some(), "{failure}");
    client.set_power(true, false, Duration::from_secs(10)).await.unwrap();
    client.nmi().await.unwrap();
    let sent: Vec<_> = bench.service.bmc().writes().into_iter().map(|l| l.path).collect();
    assert_eq!(sent.iter().filter(|p| *p == "ipmi 0x00 0x02 04").count(), 1, "{sent:?}");
    let log = client.ipmi("look").unwrap().sel().await.unwrap();
    assert!(
        log.iter().any(|e| e.source() == "critical interrupt"),
        "{:?}",
        log.iter().map(|e| e.source()).collect::<Vec<_>>()
    );
    let no: crate::bmc::Leave = std::sync::Arc::new(|| {
        Box::pin(async { Err(crate::model::Failure::new(Cause::Guard, "n1", "its cluster says no")) })
    });
    let client = client.asking_first(no);
    assert_eq!(client.nmi().await.unwrap_err().why, "its cluster says no");
    client.close().await.unwrap();
}
