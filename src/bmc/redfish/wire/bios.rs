//! Firmware settings (DSP8010, Bios) and the state of secure boot (SecureBoot).

use serde_json::{Map, Value};

use super::{Action, Settings};

resource! {
    /// Of the current values, or of those that are pending: the settings resource has the same shape.
    Bios {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "AttributeRegistry" registry: String,
        "Attributes" attributes: Map<String, Value>,
        "@Redfish.Settings" settings: Settings,
        "Actions" actions: BiosActions,
    } lists {}
}
resource! {
    BiosActions {
        "#Bios.ResetBios" reset: Action,
        "Oem" oem: Map<String, Value>,
    } lists {}
}
resource! {
    SecureBoot {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "SecureBootEnable" enable: bool,
        "SecureBootCurrentBoot" current: String,
        "SecureBootMode" mode: String,
    } lists {}
}
