//! The ladder of ways to boot, against BMCs that take none, some or only the last of them.

use std::sync::Mutex as Kept;

use super::*;
use crate::{
    bmc::{
        Keep,
        client::Operation,
        ladder::{Booted, Rung, Undo, Wish},
    },
    lab::bmc::ipmi,
    model::{
        Mac,
        failure::Cause,
        fleet::BootMode,
        power::{BootOverride, OverrideFor},
    },
};

pub(super) const PXE: BootOverride =
    BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: Some(BootMode::Uefi) };

/// What was told before it was done.
#[derive(Default)]
pub(super) struct Notes(Kept<Vec<Undo>>);

impl Notes {
    pub(super) fn all(&self) -> Vec<Undo> {
        self.0.lock().unwrap().clone()
    }
    fn keep(&self) -> impl Fn(&Undo) -> Result<(), Failure> + Send + Sync + '_ {
        |undo: &Undo| {
            self.0.lock().unwrap().push(undo.clone());
            Ok(())
        }
    }
}

/// The machine's first interface, as the inventory would name it.
fn macs() -> Vec<Mac> {
    description().macs.into_iter().take(1).collect()
}

pub(super) async fn climb(
    client: &Client,
    want: BootOverride,
    url: Option<&str>,
    notes: &Notes,
) -> Result<Booted, Failure> {
    let (macs, keep) = (macs(), notes.keep());
    let keep: &Keep<'_> = &keep;
    client.boot_from(&Wish { want, macs: &macs, url, keeps: true, surer: false }, Some(keep)).await
}

/// The same BMC over IPMI too, named second.
async fn with_ipmi(bench: &mut Bench) -> tokio::task::JoinHandle<()> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = EndpointAt::Ipmi(socket.local_addr().unwrap().to_string());
    let endpoint = Endpoint { at, credential: "lab".into(), trust: Trust::None };
    bench.node.bmc.as_mut().unwrap().endpoints.push(endpoint);
    let service = ipmi::Service::new(bench.bmc.clone()).unwrap();
    tokio::spawn(ipmi::serve(socket, service, None, std::future::pending()))
}

async fn order(bench: &Bench) -> Vec<String> {
    let client = bench.client().await;
    let view = client.redfish("look").unwrap().system_view().await.unwrap();
    client.close().await.unwrap();
    view.system.boot.unwrap().order.unwrap()
}

/// As sushy-tools does: whatever is asked for lasts.
#[tokio::test]
async fn an_override_that_lasts_is_taken_knowingly_and_cleared() {
    let bench = bench(with(&["boot-once-lasts"])).await;
    let client = bench.client().await;
    let failure = client.set_boot(PXE).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored, "nobody said that it would be cleared");
    let notes = Notes::default();
    let booted = climb(&client, PXE, None, &notes).await.unwrap();
    assert_eq!(booted.by, Rung::Override);
    assert!(
        booted.words.starts_with("pxe persistent (uefi)") && booted.words.contains("rackctl boot set none"),
        "{booted:?}"
    );
    assert_eq!(notes.all(), [], "clearing the override is all");
    client.boot_as_ever(&[]).await.unwrap();
    assert!(client.boot().await.unwrap().is_cleared());
    client.close().await.unwrap();
}

// fault: F7 invariant: I11 harness: P
#[tokio::test]
async fn without_an_override_the_order_leads_to_the_network_and_back() {
    for faults in [&["cray-ex"][..], &["ignore-boot-override=override"], &["boot-disabled-after-200"]] {
        let bench = bench(with(faults)).await;
        let before = order(&bench).await;
        let client = bench.client().await;
        let notes = Notes::default();
        let booted = climb(&client, PXE, None, &notes).await.unwrap_or_else(|f| panic!("{faults:?}: {f}"));
        assert_eq!(booted.by, Rung::Order, "{booted:?}");
        assert!(
            booted.words.starts_with("Boot0001 (PXE IPv4 52:54:00:00:00:01) first in the boot order"),
            "{booted:?}"
        );
        assert!(booted.before[0].starts_with("boot override: "), "{booted:?}");
        assert_eq!(notes.all(), [Undo::Order { old: before.clone(), moved: "Boot0001".into() }]);
        assert_eq!(client.boot_shown().await.unwrap(), "Boot0001 (PXE IPv4 52:54:00:00:00:01) first in the boot order");
        client.set_power(true, false, Duration::from_secs(15)).await.unwrap();
        assert_eq!(bench.bmc.chassis().boots(), [Some(BootTarget::Pxe)]);
        // Begun again after a crash: it is so already, and what was noted first stays the truth.
        assert_eq!(climb(&client, PXE, None, &notes).await.unwrap().by, Rung::Order);
        assert_eq!(notes.all().len(), 1);
        client.boot_as_ever(&notes.all()).await.unwrap();
        assert_eq!(order(&bench).await, before, "{faults:?}");
        let patches = bench.count("PATCH", "");
        client.boot_as_ever(&notes.all()).await.unwrap();
        assert_eq!(bench.count("PATCH", ""), patches, "what is undone is left alone");
        client.close().await.unwrap();
        assert_eq!(bench.bmc.open_sessions(), 0);
    }
}

/// Supermicro's FixedBootOrder and Lenovo's BootSettings, where the standard order is not shown.
#[tokio::test]
async fn a_vendors_own_order_leads_to_the_network_and_back() {
    for (vendor, fault, moved) in [
        ("Supermicro", "boot-own-order", "UEFI Network:(B0/D3/F0) UEFI PXE IPv4 52:54:00:00:00:01"),
        ("Lenovo", "boot-own-order=lenovo", "Network"),
    ] {
        let maker = format!("maker={vendor}");
        let bench = bench(with(&[fault, maker.as_str(), "root-no-vendor", "boot-no-override"])).await;
        let client = bench.client().await;
        let first = client.boot_shown().await.unwrap();
        assert!(first.contains("no override; ") && first.contains("Hard Disk"), "{first}");
        let notes = Notes::default();
        let booted = climb(&client, PXE, None, &notes).await.unwrap_or_else(|f| panic!("{vendor}: {f}"));
        assert_eq!(booted.by, Rung::Order);
        assert!(booted.words.starts_with(&format!("{moved} first in the boot order")), "{booted:?}");
        assert!(matches!(&notes.all()[..], [Undo::Own { moved: m, .. }] if m == moved), "{:?}", notes.all());
        client.set_power(true, false, Duration::from_secs(15)).await.unwrap();
        assert_eq!(bench.bmc.chassis().boots(), [Some(BootTarget::Pxe)], "{vendor}");
        client.boot_as_ever(&notes.all()).await.unwrap();
        assert_eq!(client.boot_shown().await.unwrap(), first);
        client.close().await.unwrap();
    }
}

/// The override is shown and the machine does not start from it: the last attempt of a run changes the order too.
#[tokio::test]
async fn what_is_not_honoured_is_made_surer_by_the_order() {
    let bench = bench(with(&["boot-not-honoured"])).await;
    let client = bench.client().await;
    let before = order(&bench).await;
    let (macs, notes) = (macs(), Notes::default());
    let keep = notes.keep();
    let wish = Wish { want: PXE, macs: &macs, url: None, keeps: true, surer: true };
    let booted = client.boot_from(&wish, Some(&keep)).await.unwrap();
    assert_eq!(booted.by, Rung::Override);
    assert!(booted.words.contains("pxe once (uefi); Boot0001"), "{booted:?}");
    client.set_power(true, false, Duration::from_secs(15)).await.unwrap();
    assert_eq!(bench.bmc.chassis().boots(), [Some(BootTarget::Pxe)]);
    client.boot_as_ever(&notes.all()).await.unwrap();
    assert_eq!(order(&bench).await, before);
    client.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_changed() {
    let bench = bench(with(&["cray-ex"])).await;
    let client = bench.client().await;
    let macs = macs();
    let keep = |_: &Undo| Err(Failure::new(Cause::Local, "journal", "the disk is full"));
    let wish = Wish { want: PXE, macs: &macs, url: None, keeps: true, surer: false };
    let failure = client.boot_from(&wish, Some(&keep)).await.unwrap_err();
    assert_eq!(failure.why, "the disk is full");
    assert_eq!(bench.bmc.writes(), []);
    let failure = client.boot_from(&wish, None).await.unwrap_err();
    assert!(failure.why.contains("boot order: not tried (nobody would put it back)"), "{failure}");
    assert_eq!(bench.bmc.writes(), []);
    client.close().await.unwrap();
}

#[tokio::test]
async fn the_flags_of_ipmi_come_third_and_are_cleared_too() {
    let mut bench = bench(with(&["ignore-boot-override=redfish"])).await;
    let _ipmi = with_ipmi(&mut bench).await;
    let client = bench.client().await;
    let notes = Notes::default();
    let booted = climb(&client, PXE, None, &notes).await.unwrap();
    assert_eq!((booted.by, booted.words.as_str()), (Rung::Ipmi, "pxe once (uefi) by IPMI"), "{booted:?}");
    assert_eq!(booted.before.len(), 2);
    assert!(booted.before[1].contains("boot order: the BMC took the request and did not apply it"), "{booted:?}");
    assert_eq!(notes.all().last(), Some(&Undo::Flags));
    client.set_power(true, false, Duration::from_secs(15)).await.unwrap();
    assert_eq!(bench.bmc.chassis().boots(), [Some(BootTarget::Pxe)]);
    let lasting = BootOverride { lasts: OverrideFor::Persistent, ..PXE };
    assert_eq!(climb(&client, lasting, None, &notes).await.unwrap().by, Rung::Ipmi);
    // Redfish ignores being told to clear it as well: the flags do it.
    let _ = client.boot_as_ever(&[Undo::Flags]).await;
    assert!(client.boot().await.unwrap().is_cleared());
    client.close().await.unwrap();
}

// fault: F7 harness: P
#[tokio::test]
async fn a_bmc_that_ignores_every_way_is_told_with_all_that_was_read_back() {
    let mut bench = bench(with(&["ignore-boot-override"])).await;
    let _ipmi = with_ipmi(&mut bench).await;
    let client = bench.client().await;
    let notes = Notes::default();
    let failure = climb(&client, PXE, None, &notes).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored);
    for part in [
        "asked for pxe once (uefi)",
        "boot override: the BMC took the request and did not apply it",
        "sent Enabled Once, Target Pxe, Mode UEFI to /redfish/v1/Systems/1",
        "read back no override",
        "boot order: the BMC took",
        "IPMI boot flags: the BMC took",
        "virtual media: not tried (no image is given)",
    ] {
        assert!(failure.why.contains(part), "{part}: {failure}");
    }
    assert!(!failure.why.contains('{'), "raw JSON: {failure}");
    assert!(bench.count("PATCH", "") <= 20, "the ladder is bounded: {}", bench.count("PATCH", ""));
    client.close().await.unwrap();
    assert_eq!(bench.bmc.open_sessions(), 0);
}

#[tokio::test]
async fn an_ipmi_endpoint_that_is_away_is_a_sentence_and_not_the_end() {
    let mut bench = bench(with(&["ignore-boot-override"])).await;
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = EndpointAt::Ipmi(silent.local_addr().unwrap().to_string());
    bench.node.bmc.as_mut().unwrap().endpoints.push(Endpoint { at, credential: "lab".into(), trust: Trust::None });
    let client = bench.client().await;
    let failure = climb(&client, PXE, None, &Notes::default()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored);
    assert!(failure.why.contains("IPMI boot flags: ipmi://127.0.0.1:"), "{failure}");
    client.close().await.unwrap();
}

#[tokio::test]
async fn what_lasts_goes_by_the_order_where_overrides_do_not_last() {
    let bench = bench(with(&["lenovo-xcc"])).await;
    let client = bench.client().await;
    let notes = Notes::default();
    let lasting = BootOverride { lasts: OverrideFor::Persistent, mode: None, ..PXE };
    let booted = climb(&client, lasting, None, &notes).await.unwrap();
    assert_eq!(booted.by, Rung::Order);
    assert!(booted.before[0].contains("Continuous") && !booted.words.contains("it lasts"), "{booted:?}");
    // No UEFI HTTP boot either: PXE does, and that is said.
    let http = BootOverride { target: BootTarget::Http, ..PXE };
    client.boot_as_ever(&notes.all()).await.unwrap();
    let booted = climb(&client, http, None, &notes).await.unwrap();
    assert!(booted.words.contains("pxe once") && booted.words.contains("no UEFI HTTP boot"), "{booted:?}");
    client.close().await.unwrap();
}

#[tokio::test]
async fn an_address_for_http_boot_is_written_and_read_back_or_refused() {
    let http = BootOverride { target: BootTarget::Http, ..PXE };
    let url = Some("http://192.0.2.1/boot.efi");
    let good = bench(quick()).await;
    let client = good.client().await;
    let booted = climb(&client, http, url, &Notes::default()).await.unwrap();
    assert_eq!(booted.words, "http once (uefi) from http://192.0.2.1/boot.efi");
    client.close().await.unwrap();
    for fault in ["boot-uri-read-only", "boot-uri-missing"] {
        let bad = bench(with(&[fault])).await;
        let client = bad.client().await;
        let failure = climb(&client, http, url, &Notes::default()).await.unwrap_err();
        assert!(failure.why.contains("HttpBootUri"), "{fault}: {failure}");
        assert!(failure.why.contains("boot order: not tried (it holds no address to boot from)"), "{failure}");
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_image_is_put_in_booted_from_and_taken_out() {
    let bench = bench(quick()).await;
    let client = bench.client().await;
    let notes = Notes::default();
    let cd = BootOverride { target: BootTarget::Cd, ..PXE };
    let image = "http://192.0.2.1/rescue.iso";
    let booted = climb(&client, cd, Some(image), &notes).await.unwrap();
    assert_eq!(booted.by, Rung::Media);
    assert!(booted.words.contains("cd once (uefi) with http://192.0.2.1/rescue.iso in slot"), "{booted:?}");
    assert_eq!(notes.all(), [Undo::Media { image: image.into() }]);
    client.boot_as_ever(&notes.all()).await.unwrap();
    let slots = client.redfish("look").unwrap().media().await.unwrap();
    assert!(slots.iter().all(|s| s.image.is_none()), "{slots:?}");
    client.close().await.unwrap();
}

#[tokio::test]
async fn if_match_that_is_refused_is_left_out_from_then_on() {
    let bench = bench(with(&["openbmc"])).await;
    let client = bench.client().await;
    client.set_boot(PXE).await.unwrap();
    let first = bench.count("PATCH", "");
    assert!((2..=4).contains(&first), "{first}");
    client.set_boot(BootOverride::CLEARED).await.unwrap();
    assert_eq!(bench.count("PATCH", "") - first, 1, "it is known now");
    client.close().await.unwrap();
}

#[tokio::test]
async fn what_is_pending_on_a_settings_resource_is_seen_and_cleared() {
    let bench = bench(with(&["ami-megarac"])).await;
    let client = bench.client().await;
    client.set_boot(PXE).await.unwrap();
    assert_eq!(client.boot().await.unwrap(), PXE);
    assert_eq!(client.boot_shown().await.unwrap(), "pxe once (uefi)");
    client.set_boot(BootOverride::CLEARED).await.unwrap();
    assert!(client.boot().await.unwrap().is_cleared());
    client.set_power(true, false, Duration::from_secs(15)).await.unwrap();
    assert_eq!(bench.bmc.chassis().boots(), [None]);
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_preview_sends_nothing() {
    let bench = bench(with(&["cray-ex"])).await;
    let client = bench.client().await;
    let said = client.preview(&[Operation::SetBoot(PXE)]).await.unwrap();
    assert!(said[0].as_ref().is_err_and(|why| why.contains("no boot override")), "{said:?}");
    assert_eq!(bench.bmc.writes(), []);
    client.close().await.unwrap();
}
