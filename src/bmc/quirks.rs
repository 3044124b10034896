//! What differs between vendors, classified once from the service root and the system. Only what is used stands here.

use super::redfish::wire::{ComputerSystem, ServiceRoot};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Dell,
    Hpe,
    Lenovo,
    Supermicro,
    /// AMI MegaRAC, also under other makers' badges.
    Ami,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    pub vendor: Vendor,
    /// The boot mode cannot be written (iLO; ansible community.general#3509).
    pub mode_read_only: bool,
    /// The mode falls back to Legacy unless each PATCH carries it (Supermicro; DMTF/Redfishtool PR#106).
    pub always_send_mode: bool,
    /// Boot changes are taken by the settings resource and want If-Match (AMI; Redfish-Tacklebox#111).
    pub settings_first: bool,
    /// `Pxe` in UEFI mode is read back as `UefiBootNext` (Supermicro; libredfish supermicro.rs:1256).
    pub pxe_reads_as_boot_next: bool,
}

/// The root's Vendor and Oem keys come first; old Supermicro roots have neither, then the system's manufacturer counts.
pub fn classify(root: &ServiceRoot, system: &ComputerSystem) -> Quirks {
    let mut words: Vec<String> = root.vendor.iter().chain(&root.product).map(|w| w.to_lowercase()).collect();
    words.extend(root.oem.iter().flat_map(|o| o.keys()).map(|k| k.to_lowercase()));
    let named = |words: &[String]| {
        let any = |needles: &[&str]| words.iter().any(|w| needles.iter().any(|n| w.contains(n)));
        if any(&["dell", "idrac"]) {
            Vendor::Dell
        } else if any(&["hpe", "hewlett", "proliant", "ilo"]) {
            Vendor::Hpe
        } else if any(&["lenovo", "xclarity"]) {
            Vendor::Lenovo
        } else if any(&["supermicro", "smci"]) {
            Vendor::Supermicro
        } else if words
            .iter()
            .any(|w| w == "ami" || w.starts_with("ami ") || w.contains("megarac") || w.contains("american megatrends"))
        {
            Vendor::Ami
        } else {
            Vendor::Other
        }
    };
    let vendor = match named(&words) {
        Vendor::Other => named(&system.manufacturer.iter().map(|m| m.to_lowercase()).collect::<Vec<_>>()),
        known => known,
    };
    Quirks {
        vendor,
        mode_read_only: vendor == Vendor::Hpe,
        always_send_mode: vendor == Vendor::Supermicro,
        settings_first: vendor == Vendor::Ami,
        pxe_reads_as_boot_next: vendor == Vendor::Supermicro,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::redfish::wire::parse;

    #[test]
    fn vendors_are_known_by_root_or_system() {
        let of = |root, system| classify(&parse(root), &parse(system)).vendor;
        assert_eq!(of(json!({"Oem": {"Dell": {}}}), json!({})), Vendor::Dell);
        assert_eq!(of(json!({"Vendor": "HPE"}), json!({})), Vendor::Hpe);
        assert_eq!(of(json!({"Vendor": "AMI"}), json!({"Manufacturer": "GIGABYTE"})), Vendor::Ami);
        assert_eq!(of(json!({}), json!({"Manufacturer": "Supermicro"})), Vendor::Supermicro);
        assert_eq!(of(json!({"Vendor": "Contoso"}), json!({"Manufacturer": "Contoso"})), Vendor::Other);
        assert_eq!(of(json!({"Vendor": "Miami Servers"}), json!({})), Vendor::Other);
    }
}
