//! Storage: one controller, the machine's drives, and the volumes made of them.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ok;
use crate::lab::bmc::{
    Description,
    documents::{Documents, link},
    paths::SYSTEM,
    volumes,
};

pub fn put(docs: &mut Documents, about: &Description) {
    let storage = format!("{SYSTEM}/Storage/1");
    docs.collection(format!("{SYSTEM}/Storage"), "Storage", "Storage");
    let drives: Vec<Value> = (1..=about.drives.len()).map(|n| link(format!("{storage}/Drives/{n}"))).collect();
    let body = json!({
        "Drives": drives, "Drives@odata.count": about.drives.len(), "Status": ok(),
        "Controllers": link(format!("{storage}/Controllers")), "Volumes": link(volumes::VOLUMES),
    });
    docs.resource(storage.clone(), "Storage.v1_17_1", "Storage", body);
    docs.collection(format!("{storage}/Controllers"), "StorageController", "Controllers");
    let types: Vec<&str> = volumes::TYPES.iter().map(|(name, _)| *name).filter(|name| *name != "None").collect();
    let body = json!({
        "Manufacturer": "rackctl", "Model": "Laboratory controller", "FirmwareVersion": "1.0.0",
        "SerialNumber": "CTRL-0001", "SpeedGbps": 12, "SupportedControllerProtocols": ["PCIe"],
        "SupportedDeviceProtocols": ["SATA"], "SupportedRAIDTypes": types, "Status": ok(),
    });
    docs.resource(format!("{storage}/Controllers/1"), "StorageController.v1_8_0", "Controller 1", body);
    docs.collection(volumes::VOLUMES, "Volume", "Volumes");
    for (number, drive) in (1..).zip(&about.drives) {
        let body = json!({
            "SerialNumber": drive.serial, "Model": drive.model, "Manufacturer": "QEMU",
            "CapacityBytes": drive.size_bytes, "MediaType": "SSD", "Protocol": "SATA", "Revision": "1.0",
            "BlockSizeBytes": 512, "FailurePredicted": false, "PredictedMediaLifeLeftPercent": 100,
            "Identifiers": [{ "DurableNameFormat": "NAA", "DurableName": naa(&drive.serial) }],
            "PhysicalLocation": { "PartLocation": { "LocationType": "Bay", "LocationOrdinalValue": number, "ServiceLabel": format!("Bay {number}") } },
            "Status": ok(),
        });
        docs.resource(format!("{storage}/Drives/{number}"), "Drive.v1_20_0", &format!("Disk {number}"), body);
    }
}

/// A locally assigned NAA identifier (SPC-5, NAA 3), the same for the same serial.
fn naa(serial: &str) -> String {
    let digest = hex::encode(Sha256::digest(serial.as_bytes()));
    format!("3{}", &digest[..15])
}
