use proptest::prelude::*;

use super::*;
use crate::bmc::redfish::wire::parse;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| (*w).to_owned()).collect()
}

fn option(value: serde_json::Value) -> (String, BootOption) {
    ("/o/x".to_owned(), parse(value))
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

/// As AMI, HPE, Supermicro, Lenovo, NVIDIA and Cray write them in recorded trees.
#[test]
fn the_entry_of_an_interface_is_known_in_every_vendors_words() {
    let ami = entries(
        &words(&["Boot0002", "Boot0003", "Boot0006", "Boot0005"]),
        &[
            option(
                serde_json::json!({"Id": "0002", "BootOptionReference": "Boot0002", "DisplayName": "UEFI: HTTP IP4 Intel(R) I350",
                "UefiDevicePath": "PciRoot(0x3)/MAC(B42E99BADE15,0x0)/IPv4(0.0.0.0)/Uri()"}),
            ),
            option(
                serde_json::json!({"Id": "0006", "BootOptionReference": "Boot0006", "DisplayName": "UEFI: PXE IP6 Intel(R) I350",
                "UefiDevicePath": "PciRoot(0x3)/MAC(B42E99BADE15,0x0)/IPv6(::)"}),
            ),
            option(
                serde_json::json!({"Id": "0003", "BootOptionReference": "Boot0003", "DisplayName": "UEFI: PXE IP4 Intel(R) I350",
                "UefiDevicePath": "PciRoot(0x3)/MAC(B42E99BADE15,0x0)/IPv4(0.0.0.0)"}),
            ),
            option(
                serde_json::json!({"Id": "0005", "BootOptionReference": "Boot0005", "DisplayName": "UEFI: PXE IP4 Intel(R) I350",
                "UefiDevicePath": "PciRoot(0x3)/MAC(B42E99BADE16,0x0)/IPv4(0.0.0.0)"}),
            ),
        ],
    );
    let of = |mac_: &str, target| find(&ami, &[mac(mac_)], target).map(|e| e.reference.clone());
    assert_eq!(of("b4:2e:99:ba:de:15", BootTarget::Pxe), Ok("Boot0003".into()), "IPv4 before IPv6, PXE and no HTTP");
    assert_eq!(of("b4:2e:99:ba:de:16", BootTarget::Pxe), Ok("Boot0005".into()));
    assert_eq!(of("b4:2e:99:ba:de:15", BootTarget::Http), Ok("Boot0002".into()));
    let other = of("52:54:00:00:00:01", BootTarget::Pxe).unwrap_err();
    assert!(other.contains("52:54:00:00:00:01") && other.contains("Boot0003"), "{other}");

    let smc = entries(
        &words(&["Boot0019", "Boot001A"]),
        &[
            option(serde_json::json!({"BootOptionReference": "Boot0019", "UefiDevicePath": null,
                "DisplayName": "(B26/D0/F0) UEFI PXE IPv4 Nvidia Network Adapter - 94:6D:AE:91:FB:22 - 946DAE91FB22"})),
            option(serde_json::json!({"BootOptionReference": "Boot001A", "UefiDevicePath": null,
                "DisplayName": "(B220/D0/F0) UEFI PXE IPv4 Intel(R) Ethernet Controller X550 - 7CC255793F8E"})),
        ],
    );
    assert_eq!(find(&smc, &[mac("7c:c2:55:79:3f:8e")], BootTarget::Pxe).unwrap().reference, "Boot001A");

    let xcc = entries(
        &words(&["Boot0002", "Boot0003"]),
        &[
            option(
                serde_json::json!({"BootOptionReference": "Boot0002", "DisplayName": "HardDisk", "BootOptionEnabled": null}),
            ),
            option(
                serde_json::json!({"BootOptionReference": "Boot0003", "DisplayName": "Network", "BootOptionEnabled": null}),
            ),
        ],
    );
    assert_eq!(find(&xcc, &[mac("52:54:00:00:00:01")], BootTarget::Pxe).unwrap().reference, "Boot0003");

    // Nothing is said of the words of the order: they speak for themselves, and two are not told apart.
    let cray = entries(&words(&["ME0-PXE-IP4", "SATA0"]), &[]);
    assert_eq!(find(&cray, &[mac("52:54:00:00:00:01")], BootTarget::Pxe).unwrap().reference, "ME0-PXE-IP4");
    let two = entries(&words(&["ME0-PXE-IP4", "OB0-PXE-IP4"]), &[]);
    assert!(find(&two, &[mac("52:54:00:00:00:01")], BootTarget::Pxe).is_err_and(|e| e.contains("cannot be told")));

    let named = entries(
        &words(&["Boot0019: PXE", "Boot0001: Ubuntu"]),
        &[option(
            serde_json::json!({"BootOptionReference": "Boot0019", "DisplayName": "UEFI PXE IPv4", "BootOptionEnabled": false}),
        )],
    );
    assert_eq!(named[0].name, "UEFI PXE IPv4");
    assert!(find(&named, &[], BootTarget::Pxe).is_err_and(|e| e.contains("no entry for network boot")), "switched off");
}

/// As recorded of a Supermicro X13 and of Lenovo's XCC.
#[test]
fn vendors_own_orders_speak_in_words() {
    let body = serde_json::json!({"FixedBootOrder": ["UEFI Hard Disk", 7, "UEFI USB Lan",
        "UEFI Network:(B26/D0/F0) UEFI PXE IPv4 Nvidia Network Adapter - 94:6D:AE:91:FB:22 - 946DAE91FB22"]});
    let smc = Own { path: "/s/1/Oem/Supermicro/FixedBootOrder".into(), property: "FixedBootOrder".into() };
    let order = smc.read(&body);
    assert_eq!(order.len(), 3);
    let of = |order: &[String], mac_: &str| {
        let entries: Vec<Entry> = order.iter().map(|w| Entry::bare(w)).collect();
        find(&entries, &[mac(mac_)], BootTarget::Pxe).map(|e| e.reference.clone())
    };
    assert_eq!(of(&order, "94:6d:ae:91:fb:22"), Ok(order[2].clone()));
    assert!(of(&order, "52:54:00:00:00:01").is_err(), "another interface's");
    assert_eq!(smc.write(&front(&order, &order[2]), None).body["FixedBootOrder"][0], order[2].as_str());
    assert_eq!(of(&words(&["Hard Disk", "Network", "CD/DVD Rom"]), "52:54:00:00:00:01"), Ok("Network".into()));
    assert_eq!(smc.read(&serde_json::json!({"FixedBootOrder": null})), Vec::<String>::new());
}

#[test]
fn a_part_of_a_guid_is_no_address() {
    let guid = Entry {
        reference: "Boot0001".into(),
        name: "disk 344826DE-9945-47F1-915F-86C5AE43B0A2".into(),
        alias: None,
        path: Some("HD(1,GPT,344826DE-9945-47F1-915F-86C5AE43B0A2,0x800)/\\efi".into()),
        enabled: true,
    };
    assert_eq!(macs(&guid), []);
    assert_eq!(rank(&guid, BootTarget::Pxe), None);
}

#[test]
fn what_came_meanwhile_stays_where_it_is() {
    let old = words(&["disk", "cd", "net"]);
    assert_eq!(front(&old, "net"), words(&["net", "disk", "cd"]));
    assert_eq!(back(&old, &words(&["net", "disk", "cd"]), "net"), old);
    // The installer made an entry of its own and put it first; the disk's old one is gone.
    assert_eq!(back(&old, &words(&["debian", "net", "cd"]), "net"), words(&["debian", "cd", "net"]));
    assert_eq!(back(&old, &words(&["debian", "cd"]), "net"), words(&["debian", "cd"]));
    // Somebody put it last: it is left there.
    assert_eq!(back(&words(&["net", "disk"]), &words(&["disk", "net"]), "net"), words(&["disk", "net"]));
}

proptest! {
    #[test]
    fn there_and_back_is_where_it_was(order in prop::collection::hash_set("[a-e]{1,2}", 1..8), pick in 0usize..8) {
        let order: Vec<String> = order.into_iter().collect();
        let moved = order[pick % order.len()].clone();
        let there = front(&order, &moved);
        prop_assert_eq!(&there[0], &moved);
        prop_assert_eq!(there.len(), order.len());
        let again = back(&order, &there, &moved);
        prop_assert_eq!(&again, &order);
        prop_assert_eq!(back(&order, &again, &moved), order, "twice is once");
    }

    #[test]
    fn nothing_is_lost_and_nothing_invented(
        old in prop::collection::vec("[a-d]", 0..6), now in prop::collection::hash_set("[a-f]", 0..6), moved in "[a-f]"
    ) {
        let now: Vec<String> = now.into_iter().collect();
        let mut new = back(&old, &now, &moved);
        let mut before = now.clone();
        new.sort();
        before.sort();
        prop_assert_eq!(new, before);
    }
}
