use super::*;
use crate::{
    bmc::client::{Operation, requests_preview},
    model::{
        failure::Cause,
        fleet::BootMode,
        power::{BootOverride, OverrideFor, PowerAction, PowerState},
    },
};

const PXE_ONCE: BootOverride =
    BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: Some(BootMode::Uefi) };
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn facts_are_the_machine() {
    let bench = bench(with(&["action-info"])).await;
    let client = bench.client().await;
    let facts = client.facts().await.unwrap();
    assert_eq!(facts.endpoint, bench.url());
    assert_eq!((facts.serial.as_deref(), facts.sku.as_deref()), (Some("LAB-0001"), Some("R1-SKU")));
    assert_eq!(facts.uuid, Some(description().uuid));
    assert_eq!((facts.power, facts.cores, facts.memory_bytes), (PowerState::Off, Some(2), Some(512 << 20)));
    assert_eq!(facts.macs, description().macs);
    assert_eq!((facts.drives.len(), facts.drives[0].serial.as_deref()), (1, Some("DISK-1")));
    assert_eq!(facts.drives[0].size_bytes, Some(8 << 30));
    assert!(facts.boot_targets.contains(&BootTarget::Http) && facts.boot.is_some_and(|b| b.is_cleared()));
    assert_eq!(
        client.redfish("look").unwrap().system_view().await.unwrap().reset_types.len(),
        5,
        "from the ActionInfo resource"
    );
    assert!(client.bmc_info().await.unwrap().firmware.unwrap().starts_with("rackctl-lab"));
    client.close().await.unwrap();
}

#[tokio::test]
async fn power_on_with_pxe_once_then_off() {
    let bench = bench(quick()).await;
    let client = bench.client().await;
    client.set_boot(PXE_ONCE).await.unwrap();
    assert_eq!(client.boot().await.unwrap(), PXE_ONCE);
    let before = client.last_reset_time().await.unwrap();
    assert!(before.is_some());
    client.set_power(true, false, SOON).await.unwrap();
    assert_eq!(client.power().await.unwrap(), PowerState::On);
    assert_eq!(bench.bmc.chassis().boots(), [Some(BootTarget::Pxe)]);
    assert!(client.boot().await.unwrap().is_cleared(), "once means once");
    client.set_power(true, false, SOON).await.unwrap();
    assert_eq!(bench.count("POST", "ComputerSystem.Reset"), 1, "already on: nothing is sent");
    client.set_power(false, false, SOON).await.unwrap();
    assert_eq!((client.power().await.unwrap(), bench.bmc.chassis().cuts()), (PowerState::Off, 0));
    client.close().await.unwrap();
}

// fault: F20 harness: P
#[tokio::test]
async fn the_transition_is_seen_and_the_lag_is_real() {
    let bench = bench(quick()).await;
    let client = bench.client().await;
    let started = std::time::Instant::now();
    client.reset(PowerAction::On).await.unwrap();
    assert_eq!(client.power().await.unwrap(), PowerState::PoweringOn);
    client.set_power(true, false, SOON).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(bench.count("POST", "ComputerSystem.Reset"), 1, "set_power waited for the transition");
    client.reset(PowerAction::PowerCycle).await.unwrap();
    assert_eq!(client.power().await.unwrap(), PowerState::PoweringOff);
    client.set_power(true, false, SOON).await.unwrap();
    assert_eq!(bench.bmc.chassis().boots().len(), 2);
}

#[tokio::test]
async fn a_guest_that_restarts_by_itself_takes_the_override_once() {
    let bench = bench(quick()).await;
    let client = bench.client().await;
    client.set_boot(PXE_ONCE).await.unwrap();
    let kept = bench.bmc.snapshot();
    assert_eq!(bench.bmc.on_guest_reset(), Some(BootTarget::Pxe));
    assert_eq!(bench.bmc.on_guest_reset(), None);
    bench.bmc.restore(kept);
    assert_eq!(client.boot().await.unwrap(), PXE_ONCE);
    client
        .set_boot(BootOverride { target: BootTarget::Disk, lasts: OverrideFor::Persistent, mode: None })
        .await
        .unwrap();
    assert_eq!([bench.bmc.on_guest_reset(), bench.bmc.on_guest_reset()], [Some(BootTarget::Disk); 2]);
    client.set_boot(BootOverride::CLEARED).await.unwrap();
    assert_eq!(bench.bmc.on_guest_reset(), None);
}

// fault: F7 harness: P
#[tokio::test]
async fn accepted_but_ignored_is_an_error_with_both_values() {
    let bench = bench(quick()).await;
    bench.bmc.set_faults(Faults::parse(["ignore-boot-override"]).unwrap());
    let client = bench.client().await;
    let failure = client.set_boot(PXE_ONCE).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored);
    assert!(
        failure.why.contains("asked for pxe once (uefi)") && failure.why.contains("read back no override"),
        "{failure}"
    );
    assert!((1..=4).contains(&bench.count("PATCH", "/Systems/1")), "each variant once");
}

// fault: F3 invariant: I15 I18 harness: P
#[tokio::test]
async fn power_that_does_not_move_is_told_and_the_reset_is_sent_once() {
    let bench = bench(quick()).await;
    bench.bmc.set_faults(Faults::parse(["power-noop"]).unwrap());
    let client = bench.client().await;
    let failure = client.set_power(true, false, Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored);
    assert!(failure.why.contains("wanted on, read off"), "{failure}");
    assert_eq!(bench.count("POST", "ComputerSystem.Reset"), 1);
}

// fault: F4 invariant: I11 I15 harness: P
#[tokio::test]
async fn a_lost_answer_is_looked_at_and_not_sent_again() {
    let bench = bench(quick()).await;
    bench.bmc.set_faults(Faults::parse(["lose-reset-answer"]).unwrap());
    let client = bench.client().await;
    client.set_power(true, false, SOON).await.unwrap();
    assert_eq!(bench.count("POST", "ComputerSystem.Reset"), 1);
    let failure = client.reset(PowerAction::ForceRestart).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
    assert_eq!(bench.count("POST", "ComputerSystem.Reset"), 2);
}

// fault: F5 invariant: I12 harness: P
#[tokio::test]
async fn force_comes_only_where_it_is_allowed() {
    let bench = bench(quick()).await;
    let client = bench.client().await;
    client.set_power(true, false, SOON).await.unwrap();
    bench.bmc.chassis().set_deaf(true);
    let failure = client.set_power(false, false, Duration::from_secs(2)).await.unwrap_err();
    assert_eq!((failure.cause, bench.bmc.chassis().cuts()), (Cause::AcceptedButIgnored, 0), "{failure}");
    client.set_power(false, true, Duration::from_secs(4)).await.unwrap();
    assert_eq!(bench.bmc.chassis().cuts(), 1);
}

#[tokio::test]
async fn if_match_is_given_where_it_is_wanted_and_what_is_not_offered_is_not_sent() {
    let bench = bench(with(&["if-match-required"])).await;
    let client = bench.client().await;
    client.set_boot(PXE_ONCE).await.unwrap();
    let bios = BootOverride { mode: Some(BootMode::Bios), ..PXE_ONCE };
    // The machine has UEFI only: refused with the mode, taken without it, and that is not what was asked.
    let failure = client.set_boot(bios).await.unwrap_err();
    assert!(
        failure.why.contains("asked for pxe once (bios)") && failure.why.contains("read back pxe once (uefi)"),
        "{failure}"
    );
    assert!(failure.why.contains("PropertyValueNotInList"), "{failure}");
    let failure = client.reset(PowerAction::GracefulRestart).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Refused);
    assert!(failure.why.contains("GracefulRestart") && failure.why.contains("ForceOff"), "{failure}");
    assert_eq!(bench.count("POST", "ComputerSystem.Reset"), 0);
}

#[tokio::test]
async fn the_preview_is_what_is_sent() {
    let bench = bench(quick()).await;
    let client = bench.client().await;
    let view = client.redfish("look").unwrap().system_view().await.unwrap();
    let boot = requests_preview(&view, Operation::SetBoot(PXE_ONCE)).unwrap();
    let power = requests_preview(&view, Operation::Reset(PowerAction::On)).unwrap();
    client.set_boot(PXE_ONCE).await.unwrap();
    client.reset(PowerAction::On).await.unwrap();
    let sent: Vec<_> = bench.bmc.writes().into_iter().map(|l| (l.method, l.path)).collect();
    let shown: Vec<_> = [&boot[0], &power[0]].iter().map(|w| (w.method.to_owned(), w.path.clone())).collect();
    assert_eq!(sent, shown);
    assert_eq!(power[0].body, serde_json::json!({"ResetType": "On"}));
}

fn wish(action: PowerAction) -> crate::bmc::Wish {
    let force = matches!(action, PowerAction::ForceOff | PowerAction::ForceRestart);
    crate::bmc::Wish { action, force, wait: true }
}

// fault: F3 invariant: I15 harness: P
#[tokio::test]
async fn a_restart_that_is_taken_and_ignored_is_found() {
    for more in [&[][..], &["dates-zero"]] {
        let bench = bench(with(more)).await;
        let client = bench.client().await;
        client.set_power(true, false, SOON).await.unwrap();
        client.drive(wish(PowerAction::ForceRestart), SOON).await.unwrap();
        assert_eq!(bench.bmc.chassis().boots().len(), 2, "{more:?}");
        bench.bmc.set_faults(with(&[more, &["power-noop"]].concat()));
        let failure = client.drive(wish(PowerAction::ForceRestart), Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(failure.cause, Cause::AcceptedButIgnored, "{more:?}: {failure}");
        assert!(failure.next.is_some());
    }
}

#[tokio::test]
async fn the_resets_that_are_left_are_combined_and_the_preview_is_what_is_sent() {
    for (types, action, sent) in [
        (
            "reset-types=On,ForceOff,ForceRestart,GracefulShutdown",
            PowerAction::GracefulRestart,
            ["GracefulShutdown", "On"],
        ),
        ("reset-types=On,Off", PowerAction::ForceRestart, ["Off", "On"]),
        ("reset-types=ForceOff,PushPowerButton", PowerAction::PowerCycle, ["PushPowerButton", "PushPowerButton"]),
        ("reset-types=On,ForceOff,GracefulShutdown,PowerCycle", PowerAction::PowerCycle, ["GracefulShutdown", "On"]),
    ] {
        let bench = bench(with(&[types])).await;
        let client = bench.client().await;
        client.drive(wish(PowerAction::On), SOON).await.unwrap();
        let before = bench.bmc.writes().len();
        let shown = client.preview_drive(wish(action)).await.unwrap();
        assert_eq!(bench.bmc.writes().len(), before, "a preview sends nothing");
        assert_eq!(client.drive(wish(action), SOON).await.unwrap(), None);
        assert_eq!(bench.count("POST", "ComputerSystem.Reset"), 3, "{types}");
        for (line, word) in shown.iter().zip(sent) {
            assert!(line.starts_with("POST ") && line.contains(&format!("\"{word}\"")), "{types}: {line}");
        }
        assert_eq!((shown.len(), bench.bmc.chassis().boots().len()), (2, 2), "{types}");
    }
}

#[tokio::test]
async fn a_refusal_names_a_command_that_works() {
    let bench = bench(with(&["reset-types=On,ForceOff"])).await;
    let client = bench.client().await;
    client.drive(wish(PowerAction::On), SOON).await.unwrap();
    let failure = client.drive(wish(PowerAction::GracefulRestart), SOON).await.unwrap_err();
    assert_eq!((failure.cause, failure.next.as_deref()), (Cause::Refused, Some("rackctl power reset n1 --force")));
    client.drive(wish(PowerAction::ForceRestart), SOON).await.unwrap();
    assert_eq!(bench.bmc.chassis().boots().len(), 2);
}

// fault: F7 harness: P
#[tokio::test]
async fn a_mode_that_fell_back_unasked_is_found_and_put_right() {
    let bench = bench(with(&["boot-mode-reverts"])).await;
    let client = bench.client().await;
    let unasked = BootOverride { mode: None, ..PXE_ONCE };
    client.set_boot(unasked).await.unwrap();
    assert_eq!(client.boot().await.unwrap().mode, Some(BootMode::Uefi));
    client.set_boot(BootOverride::CLEARED).await.unwrap();
    let view = client.redfish("look").unwrap().system_view().await.unwrap();
    let mode = view.system.boot.and_then(|b| b.mode);
    assert_eq!(mode, Some(crate::bmc::redfish::wire::ModeWord::Uefi));
}
