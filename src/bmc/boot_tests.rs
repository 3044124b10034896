use serde_json::json;

use super::*;
use crate::bmc::{quirks, read::SettingsView, redfish::wire::parse};

fn view(vendor: &str, boot: serde_json::Value) -> SystemView {
    let system = parse(json!({"Manufacturer": vendor, "Boot": boot}));
    let quirks = quirks::classify(&Default::default(), &system);
    SystemView { path: "/s/1".into(), system, etag: Some("\"a\"".into()), settings: None, reset_types: vec![], quirks }
}
fn pxe(lasts: OverrideFor) -> BootOverride {
    BootOverride { target: BootTarget::Pxe, lasts, mode: Some(BootMode::Uefi) }
}

#[test]
fn target_and_enabled_go_together_and_mode_only_where_it_exists() {
    let list =
        writes(&view("Contoso", json!({"BootSourceOverrideMode": "Legacy"})), pxe(OverrideFor::Once), None).unwrap();
    let full = json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI"}});
    let bare = json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}});
    assert_eq!(list.iter().map(|w| &w.body).collect::<Vec<_>>(), [&full, &bare]);
    assert_eq!(list[0].if_match.as_deref(), Some("\"a\""));
    assert_eq!(writes(&view("Contoso", json!({})), pxe(OverrideFor::Once), None).unwrap()[0].body, bare);
    assert_eq!(
        writes(&view("HPE", json!({"BootSourceOverrideMode": "UEFI"})), pxe(OverrideFor::Once), None).unwrap()[0].body,
        bare
    );
}

#[test]
fn supermicro_gets_its_mode_every_time() {
    let want = BootOverride { mode: None, ..pxe(OverrideFor::Once) };
    let list = writes(&view("Supermicro", json!({"BootSourceOverrideMode": "UEFI"})), want, None).unwrap();
    assert_eq!(list[0].body["Boot"]["BootSourceOverrideMode"], "UEFI");
}

#[test]
fn ami_takes_it_in_the_settings_resource_first() {
    let mut ami = view("AMI", json!({}));
    let system = parse(json!({"Boot": {"BootSourceOverrideTarget@Redfish.AllowableValues": ["Pxe"]}}));
    ami.settings = Some(SettingsView { path: "/s/1/SD".into(), system, etag: None });
    let paths: Vec<_> = writes(&ami, pxe(OverrideFor::Once), None).unwrap().into_iter().map(|w| w.path).collect();
    assert_eq!(paths, ["/s/1/SD", "/s/1"]);
    assert!(writes(&ami, BootOverride { target: BootTarget::Http, ..pxe(OverrideFor::Once) }, None).is_err());
}

#[test]
fn what_is_not_offered_is_refused_before_it_is_sent() {
    let xcc = view("Lenovo", json!({"BootSourceOverrideEnabled@Redfish.AllowableValues": ["Once", "Disabled"]}));
    assert!(
        writes(&xcc, pxe(OverrideFor::Persistent), None)
            .is_err_and(|e| e.contains("Continuous") && e.contains("Once, Disabled"))
    );
    let old = view("X", json!({"BootSourceOverrideTarget@Redfish.AllowableValues": ["Hdd", "CD/DVD"]}));
    assert!(writes(&old, pxe(OverrideFor::Once), None).is_err_and(|e| e.contains("Pxe") && e.contains("CD/DVD")));
    let cd = BootOverride { target: BootTarget::Cd, ..pxe(OverrideFor::Once) };
    assert_eq!(writes(&old, cd, None).unwrap()[0].body["Boot"]["BootSourceOverrideTarget"], "CD/DVD");
}

#[test]
fn clearing_sends_disabled_and_is_read_leniently() {
    let list = writes(&view("X", json!({})), BootOverride::CLEARED, None).unwrap();
    assert_eq!(
        list[0].body,
        json!({"Boot": {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}})
    );
    assert!(as_asked(BootOverride::CLEARED, BootOverride { lasts: OverrideFor::Disabled, ..pxe(OverrideFor::Once) }));
    assert!(!as_asked(BootOverride::CLEARED, pxe(OverrideFor::Once)));
}

// fault: F7 harness: D
#[test]
fn read_back_must_agree_in_target_duration_and_mode() {
    let want = pxe(OverrideFor::Once);
    assert!(as_asked(want, want));
    assert!(!as_asked(want, pxe(OverrideFor::Persistent)));
    assert!(!as_asked(want, BootOverride { mode: Some(BootMode::Bios), ..want }));
    assert!(as_asked(want, BootOverride { mode: None, ..want }));
    assert!(!as_asked(want, BootOverride { target: BootTarget::Disk, ..want }));
}

#[test]
fn all_three_go_where_the_full_set_is_wanted_and_enabled_stays_out_where_it_is_unchanged() {
    let want = BootOverride { mode: None, ..pxe(OverrideFor::Once) };
    let now = json!({"BootSourceOverrideMode": "UEFI", "BootSourceOverrideEnabled": "Once"});
    let bodies = |vendor| -> Vec<serde_json::Value> {
        writes(&view(vendor, now.clone()), want, None).unwrap().into_iter().map(|w| w.body["Boot"].clone()).collect()
    };
    let bare = json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"});
    let whole = json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI"});
    let alone = json!({"BootSourceOverrideTarget": "Pxe"});
    assert_eq!(bodies("Contoso"), [bare.clone(), whole.clone(), alone.clone()]);
    assert_eq!(bodies("AMI"), [whole, bare.clone(), alone.clone()], "ironic management.py:96");
    assert_eq!(bodies("HPE"), [bare, alone], "its mode cannot be written");
}

#[test]
fn a_lasting_override_and_pxe_come_last_and_only_where_somebody_clears_them() {
    let offered = json!({"BootSourceOverrideTarget@Redfish.AllowableValues": ["Pxe", "Hdd"], "BootSourceOverrideEnabled": "Disabled"});
    let view = view("Contoso", offered);
    let http = BootOverride { target: BootTarget::Http, ..pxe(OverrideFor::Once) };
    assert!(variants(&view, http, false, None).is_err_and(|e| e.contains("UefiHttp")));
    let asks: Vec<_> =
        variants(&view, http, true, None).unwrap().into_iter().map(|v| (v.asks.target, v.asks.lasts)).collect();
    assert!(asks.iter().all(|(target, _)| *target == BootTarget::Pxe));
    assert_eq!((asks[0].1, asks.last().map(|a| a.1)), (OverrideFor::Once, Some(OverrideFor::Persistent)));
    // To an address there is no other way.
    assert!(variants(&view, http, true, Some("http://h/x.efi")).is_err());
    let strict = variants(&view, pxe(OverrideFor::Once), false, None).unwrap();
    assert!(strict.iter().all(|v| v.asks == pxe(OverrideFor::Once)));
}

#[test]
fn a_bmc_with_an_order_alone_has_no_override_and_none_set() {
    let cray = view("Cray", json!({"BootOrder": ["ME0-PXE-IP4"]}));
    assert!(writes(&cray, pxe(OverrideFor::Once), None).is_err_and(|e| e.contains("no boot override")));
    assert!(is_cleared(&cray));
    assert!(!is_cleared(&view("X", json!({"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": null}))));
    assert!(!is_cleared(&view(
        "X",
        json!({"BootSourceOverrideTarget": "UefiTarget", "BootSourceOverrideEnabled": "Once"})
    )));
}

#[test]
fn what_is_pending_is_seen_and_is_not_cleared() {
    let mut ami = view("AMI", json!({"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}));
    let pending = json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI"}});
    ami.settings = Some(SettingsView { path: "/s/1/SD".into(), system: parse(pending), etag: None });
    assert!(!is_cleared(&ami));
    assert_eq!(seen(&ami, pxe(OverrideFor::Once), None), Ok("pxe once (uefi)".into()));
    let other = seen(&ami, pxe(OverrideFor::Persistent), None).unwrap_err();
    assert!(other.contains("no override") && other.contains("pxe once (uefi) pending"), "{other}");
}

#[test]
fn an_address_is_read_back_too() {
    let of = |uri: &str| {
        view(
            "X",
            json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "UefiHttp", "HttpBootUri": uri}),
        )
    };
    let http = BootOverride { target: BootTarget::Http, mode: None, ..pxe(OverrideFor::Once) };
    assert!(seen(&of("http://h/x.efi"), http, Some("http://h/x.efi")).is_ok());
    assert!(seen(&of("http://h/old.efi"), http, Some("http://h/x.efi")).is_err_and(|e| e.contains("old.efi")));
    let sent = &writes(&of(""), http, Some("http://h/x.efi")).unwrap()[0];
    assert_eq!(sent.body["Boot"]["HttpBootUri"], "http://h/x.efi");
    assert!(super::sent(sent).contains("Target UefiHttp") && !super::sent(sent).contains('{'));
}

mod bounds {
    use proptest::prelude::*;

    use super::*;

    fn a_boot() -> impl Strategy<Value = serde_json::Value> {
        let word = |words: &'static [&'static str]| prop::option::of(prop::sample::select(words));
        (
            word(&["Disabled", "Once", "Continuous"]),
            word(&["None", "Pxe", "UefiHttp"]),
            word(&["UEFI", "Legacy"]),
            any::<bool>(),
        )
            .prop_map(|(enabled, target, mode, order)| {
                let order = if order { json!(["Boot0000"]) } else { json!(null) };
                json!({"BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": target,
                    "BootSourceOverrideMode": mode, "BootOrder": order})
            })
    }

    proptest! {
        // Whatever a BMC shows: few requests, none twice, what is wished before what merely does.
        #[test]
        fn variants_are_few_and_different(
            boot in a_boot(), settings in prop::option::of(a_boot()), lasting: bool, persistent: bool, http: bool,
            vendor in prop::sample::select(&["AMI", "HPE", "Supermicro", "Dell", "Contoso"][..])
        ) {
            let mut view = view(vendor, boot);
            view.settings = settings.map(|boot| {
                SettingsView { path: "/s/1/SD".into(), system: parse(json!({ "Boot": boot })), etag: None }
            });
            let lasts = if persistent { OverrideFor::Persistent } else { OverrideFor::Once };
            let target = if http { BootTarget::Http } else { BootTarget::Pxe };
            let want = BootOverride { target, ..pxe(lasts) };
            if let Ok(list) = variants(&view, want, lasting, None) {
                prop_assert!(!list.is_empty() && list.len() <= MAX_VARIANTS);
                for (at, variant) in list.iter().enumerate() {
                    prop_assert!(list.iter().skip(at + 1).all(|other| other.write != variant.write));
                    prop_assert!(variant.write.path == "/s/1" || variant.write.path == "/s/1/SD");
                    prop_assert!(lasting || variant.asks == want);
                }
                let as_wished = list.iter().rposition(|v| v.asks == want);
                let other = list.iter().position(|v| v.asks != want);
                prop_assert!(as_wished.zip(other).is_none_or(|(wished, other)| wished < other));
            }
        }
    }
}
