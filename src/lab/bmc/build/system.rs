//! The system: what it is, what it boots, its BIOS, its parts.

use serde_json::{Value, json};

use super::ok;
use crate::lab::bmc::{
    Description, Fault, Faults, bios, boot,
    documents::{Documents, link},
    paths::{CHASSIS, MANAGER, ROOT, SYSTEM},
};

pub fn put(docs: &mut Documents, about: &Description, faults: &Faults) {
    let orders: Vec<String> = options(about).iter().map(|(name, ..)| name.clone()).collect();
    let modes = if about.uefi { json!(["UEFI"]) } else { json!(["Legacy"]) };
    let body = json!({
        "SystemType": "Physical",
        "Manufacturer": about.manufacturer,
        "Model": about.model,
        "SerialNumber": about.serial,
        "UUID": about.uuid,
        "BiosVersion": about.bios_version,
        "HostName": "",
        "AssetTag": "",
        "LocationIndicatorActive": false,
        "PowerState": "Off",
        "LastResetTime": null,
        "Status": ok(),
        "ProcessorSummary": { "Count": 1, "CoreCount": about.cores, "Status": ok() },
        "MemorySummary": { "TotalSystemMemoryGiB": about.memory_bytes as f64 / (1u64 << 30) as f64, "Status": ok() },
        "Boot": {
            "BootSourceOverrideEnabled": "Disabled",
            "BootSourceOverrideEnabled@Redfish.AllowableValues": ["Disabled", "Once", "Continuous"],
            "BootSourceOverrideTarget": "None",
            "BootSourceOverrideTarget@Redfish.AllowableValues": boot::targets(about.uefi, faults),
            "BootSourceOverrideMode": if about.uefi { "UEFI" } else { "Legacy" },
            // The emulated machine has one firmware: its mode cannot be changed by an override.
            "BootSourceOverrideMode@Redfish.AllowableValues": modes,
            "HttpBootUri": null,
            "BootOrder": orders,
            "BootOptions": link(format!("{SYSTEM}/BootOptions")),
        },
        "Bios": link(bios::BIOS),
        "SecureBoot": link(format!("{SYSTEM}/SecureBoot")),
        "Processors": link(format!("{SYSTEM}/Processors")),
        "Memory": link(format!("{SYSTEM}/Memory")),
        "EthernetInterfaces": link(format!("{SYSTEM}/EthernetInterfaces")),
        "Storage": link(format!("{SYSTEM}/Storage")),
        "LogServices": link(format!("{SYSTEM}/LogServices")),
        "Links": {
            "ManagedBy": [link(MANAGER)], "ManagedBy@odata.count": 1,
            "Chassis": [link(CHASSIS)], "Chassis@odata.count": 1,
        },
        "Actions": { "#ComputerSystem.Reset": { "target": format!("{SYSTEM}/Actions/ComputerSystem.Reset") } },
    });
    let system = docs.resource(SYSTEM, "ComputerSystem.v1_22_0", &about.model, body);
    system.writable = &["AssetTag", "HostName", "LocationIndicatorActive"];
    if let Some(sku) = &about.sku {
        system.body["SKU"] = json!(sku);
    }
    docs.resource(
        format!("{SYSTEM}/ResetActionInfo"),
        "ActionInfo.v1_4_2",
        "Parameters of ComputerSystem.Reset",
        json!({ "Parameters": [{ "Name": "ResetType", "Required": true, "DataType": "String" }] }),
    );
    baseboard(docs);
    boot_options(docs, about);
    bios(docs);
    parts(docs, about);
    docs.collection(format!("{SYSTEM}/LogServices"), "LogService", "Log services");
    shape(docs, faults);
}

/// What faults give its shape: also at run time.
pub fn shape(docs: &mut Documents, faults: &Faults) {
    let announced = !faults.has(Fault::BiosUnannounced);
    docs.change(bios::BIOS, |body| {
        if !announced {
            body.as_object_mut().map(|map| map.shift_remove("@Redfish.Settings"));
        } else if body.get("@Redfish.Settings").is_none() {
            body["@Redfish.Settings"] = settings();
        }
    });
    own_order(docs, faults);
    let bare = faults.has(Fault::BiosNoAttributes);
    docs.change(bios::SETTINGS, |body| {
        let empty = body["Attributes"].as_object().is_none_or(serde_json::Map::is_empty);
        match body.as_object_mut() {
            Some(map) if bare && empty => drop(map.shift_remove("Attributes")),
            Some(map) if !bare && empty => drop(map.insert("Attributes".into(), json!({}))),
            _ => {}
        }
    });
}

/// The disk first, as in the standard order; the network by the name of the first interface's entry.
fn own_order(docs: &mut Documents, faults: &Faults) {
    let wanted = faults.text(Fault::BootOwnOrder);
    for vendor in ["supermicro", "lenovo"] {
        let (path, _) = boot::own_order(vendor);
        if wanted != Some(vendor) {
            docs.remove(&path);
        } else if docs.get(&path).is_none() {
            let options = docs.below(&format!("{SYSTEM}/BootOptions"));
            let bodies = options.iter().filter_map(|path| docs.body(path));
            let pxe = bodies.filter(|b| b["Alias"] == "Pxe").find_map(|b| b["DisplayName"].as_str());
            let pxe = format!("UEFI Network:(B0/D3/F0) UEFI {}", pxe.unwrap_or("PXE IPv4"));
            match vendor {
                "lenovo" => {
                    let list = ["Hard Disk", "Network", "CD/DVD Rom"];
                    let body = json!({ "BootOrderCurrent": list, "BootOrderNext": list, "BootOrderSupported": list });
                    docs.resource(path, "LenovoBootManager.v1_0_0", "Boot order", body).writable = &["BootOrderNext"];
                }
                _ => {
                    let body =
                        json!({ "BootModeSelected": "UEFI", "FixedBootOrder": ["UEFI Hard Disk", "UEFI CD/DVD", pxe] });
                    docs.resource(path, "SmcFixedBootOrder.v1_0_0", "Fixed boot order", body).writable =
                        &["FixedBootOrder"];
                }
            }
        }
    }
}

fn settings() -> Value {
    json!({ "@odata.type": "#Settings.v1_3_5.Settings", "SettingsObject": link(bios::SETTINGS),
            "SupportedApplyTimes": ["OnReset"], "Time": null, "Messages": [] })
}

/// A system that cannot be reset; it is listed only under a fault.
fn baseboard(docs: &mut Documents) {
    let body = json!({
        "SystemType": "Physical", "Manufacturer": "rackctl", "Model": "Baseboard", "SerialNumber": "BASEBOARD-1",
        "PowerState": "On", "Status": ok(), "Links": { "Chassis": [link(CHASSIS)] },
    });
    docs.resource(format!("{ROOT}/Systems/HGX_Baseboard_0"), "ComputerSystem.v1_22_0", "Baseboard", body);
}

/// Reference, alias and device path of each.
fn options(about: &Description) -> Vec<(String, &'static str, String, String)> {
    let mut all =
        vec![("Boot0000".to_owned(), "Hdd", "Disk".to_owned(), "PciRoot(0x0)/Pci(0x5,0x0)/HD(1,GPT)".to_owned())];
    for (number, mac) in about.macs.iter().enumerate() {
        let plain = mac.to_string().replace(':', "").to_uppercase();
        for (at, (alias, end)) in
            [("Pxe", "IPv4(0.0.0.0)"), ("UefiHttp", "IPv4(0.0.0.0)/Uri()")].into_iter().enumerate()
        {
            let path = format!("PciRoot(0x0)/Pci(0x3,0x{number:x})/MAC({plain},0x1)/{end}");
            let name = format!("{} {mac}", if at == 0 { "PXE IPv4" } else { "HTTP IPv4" });
            all.push((format!("Boot{:04X}", all.len()), alias, name, path));
        }
    }
    all
}

fn boot_options(docs: &mut Documents, about: &Description) {
    docs.collection(format!("{SYSTEM}/BootOptions"), "BootOption", "Boot options");
    for (reference, alias, name, path) in options(about) {
        let body = json!({
            "BootOptionReference": reference, "BootOptionEnabled": true, "Alias": alias, "DisplayName": name,
            "UefiDevicePath": path,
        });
        let option = docs.resource(format!("{SYSTEM}/BootOptions/{reference}"), "BootOption.v1_0_6", &name, body);
        option.writable = &["BootOptionEnabled"];
    }
}

fn bios(docs: &mut Documents) {
    let body = json!({
        "AttributeRegistry": "BiosAttributeRegistryLab.v1_0_0", "Attributes": bios::defaults(),
        "ResetBiosToDefaultsPending": false,
        "Actions": { "#Bios.ResetBios": { "target": format!("{}/Actions/Bios.ResetBios", bios::BIOS) } },
    });
    docs.resource(bios::BIOS, "Bios.v1_2_3", "BIOS", body);
    let body = json!({ "AttributeRegistry": "BiosAttributeRegistryLab.v1_0_0", "Attributes": {} });
    docs.resource(bios::SETTINGS, "Bios.v1_2_3", "Pending BIOS settings", body).writable = &["Attributes"];
    let body = json!({
        "SecureBootCurrentBoot": "Disabled", "SecureBootEnable": false, "SecureBootMode": "SetupMode",
        "Actions": { "#SecureBoot.ResetKeys": {
            "target": format!("{SYSTEM}/SecureBoot/Actions/SecureBoot.ResetKeys"),
            "ResetKeysType@Redfish.AllowableValues": ["ResetAllKeysToDefault", "DeleteAllKeys", "DeletePK"],
        } },
    });
    docs.resource(format!("{SYSTEM}/SecureBoot"), "SecureBoot.v1_1_2", "UEFI Secure Boot", body).writable =
        &["SecureBootEnable"];
}

fn parts(docs: &mut Documents, about: &Description) {
    docs.collection(format!("{SYSTEM}/Processors"), "Processor", "Processors");
    let body = json!({
        "ProcessorType": "CPU", "ProcessorArchitecture": "x86", "InstructionSet": "x86-64", "Socket": "CPU 1",
        "Manufacturer": "QEMU", "Model": "qemu64", "TotalCores": about.cores, "TotalThreads": about.cores,
        "TotalEnabledCores": about.cores, "MaxSpeedMHz": 2000, "Status": ok(),
    });
    docs.resource(format!("{SYSTEM}/Processors/1"), "Processor.v1_20_0", "Processor 1", body);
    docs.collection(format!("{SYSTEM}/Memory"), "Memory", "Memory");
    let body = json!({
        "MemoryType": "DRAM", "MemoryDeviceType": "DDR5", "CapacityMiB": about.memory_bytes >> 20,
        "DeviceLocator": "DIMM A1", "Manufacturer": "QEMU", "PartNumber": "RAM-1", "SerialNumber": "RAM-0001",
        "OperatingSpeedMhz": 4800, "Status": ok(),
    });
    docs.resource(format!("{SYSTEM}/Memory/1"), "Memory.v1_20_0", "DIMM A1", body);
    docs.collection(format!("{SYSTEM}/EthernetInterfaces"), "EthernetInterface", "Network interfaces");
    for (number, mac) in (1..).zip(&about.macs) {
        let body = json!({
            "MACAddress": mac.to_string(), "PermanentMACAddress": mac.to_string(), "LinkStatus": "LinkUp",
            "InterfaceEnabled": true, "SpeedMbps": 10_000, "FullDuplex": true, "Status": ok(),
        });
        let name = format!("NIC {number}");
        docs.resource(format!("{SYSTEM}/EthernetInterfaces/{number}"), "EthernetInterface.v1_12_1", &name, body);
    }
}
