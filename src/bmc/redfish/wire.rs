//! Redfish resources as they cross the wire (DSP0266 for the protocol, DSP8010 for the schemas).
//!
//! Shared by the client and by the laboratory's BMC, so that the two cannot drift apart. Tolerant by construction: each
//! property may be missing, null or of a wrong type, and is `None` then; an unknown word of an enum is `Unknown`.

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A property of a wrong type is a property that is not there: one bad field must not cost the resource.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// A list, of which the elements that make no sense are left out; null and non-lists are `None`.
fn lenient_list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Array(items) => Some(items.into_iter().filter_map(|i| serde_json::from_value(i).ok()).collect()),
        _ => None,
    })
}

/// Declares a resource: every property optional and read leniently. `lists` are arrays, read element by element.
macro_rules! resource {
    ($(#[$meta:meta])* $name:ident { $($wire:literal $field:ident : $type:ty,)* } lists { $($lwire:literal $list:ident : $element:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $(#[serde(rename = $wire, default, deserialize_with = "crate::bmc::redfish::wire::lenient", skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
            $(#[serde(rename = $lwire, default, deserialize_with = "crate::bmc::redfish::wire::lenient_list", skip_serializing_if = "Option::is_none")]
            pub $list: Option<Vec<$element>>,)*
        }
    };
}

pub mod account;
pub mod bios;
pub mod boot;
pub mod log;
pub mod media;
pub mod port;
pub mod security;
pub mod sensor;
pub mod task;
pub mod update;
pub mod volume;

resource! {
    /// A reference: `{"@odata.id": "/redfish/v1/…"}`.
    Link { "@odata.id" id: String, } lists {}
}

impl Link {
    pub fn to(path: impl Into<String>) -> Option<Link> {
        Some(Link { id: Some(path.into()) })
    }
    /// The path, if the link is there and not empty.
    pub fn path(link: &Option<Link>) -> Option<&str> {
        link.as_ref()?.id.as_deref().filter(|p| leads_somewhere(p))
    }
}

resource! {
    /// `/redfish/v1/`, the only resource that needs no credential.
    ServiceRoot {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "RedfishVersion" redfish_version: String,
        "UUID" uuid: String,
        "Vendor" vendor: String,
        "Product" product: String,
        "Systems" systems: Link,
        "Managers" managers: Link,
        "Chassis" chassis: Link,
        "SessionService" session_service: Link,
        "AccountService" account_service: Link,
        "UpdateService" update_service: Link,
        "CertificateService" certificate_service: Link,
        "EventService" event_service: Link,
        "Tasks" tasks: Link,
        "ProtocolFeaturesSupported" features: Features,
        "Links" links: RootLinks,
        "Oem" oem: Map<String, Value>,
    } lists {}
}

resource! { RootLinks { "Sessions" sessions: Link, } lists {} }

resource! { Features { "ExpandQuery" expand: ExpandQuery, "TopSkipQuery" skip: bool, } lists {} }
resource! {
    /// Which forms of `$expand` the BMC knows (DSP0266, 7.3).
    ExpandQuery { "NoLinks" no_links: bool, "Levels" levels: bool, } lists {}
}
resource! {
    /// `State`: `Enabled`, `Absent`, …; `Health`: `OK`, `Warning`, `Critical`.
    Status { "State" state: String, "Health" health: String, } lists {}
}
resource! { Action { "target" target: String, "@Redfish.ActionInfo" info: String, } lists {} }

/// An address has no control characters (RFC 3986 section 2), and parsers of addresses leave some of them out silently:
/// another resource would be asked than the one that is shown.
fn leads_somewhere(address: &str) -> bool {
    !address.is_empty() && !address.chars().any(char::is_control)
}

impl Action {
    /// Where it is asked for, if it is there at all.
    pub fn target(action: &Option<Action>) -> Option<&str> {
        action.as_ref()?.target.as_deref().filter(|t| leads_somewhere(t))
    }
}

resource! {
    /// Any collection; `next` is the page after this one.
    Collection {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Name" name: String,
        "Members@odata.count" count: u64,
        "Members@odata.nextLink" next: String,
    } lists { "Members" members: Link, }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerWord {
    On,
    Off,
    PoweringOn,
    PoweringOff,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnabledWord {
    Disabled,
    Once,
    Continuous,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModeWord {
    #[serde(rename = "UEFI")]
    Uefi,
    Legacy,
    #[serde(other)]
    Unknown,
}

resource! {
    /// `ComputerSystem.Boot`. The target stays a text: vendors have words of their own (`UsbCd`, `CD/DVD`).
    Boot {
        "BootSourceOverrideEnabled" enabled: EnabledWord,
        "BootSourceOverrideTarget" target: String,
        "BootSourceOverrideMode" mode: ModeWord,
        "HttpBootUri" http_boot_uri: String,
        "BootOptions" options: Link,
    } lists {
        "BootOrder" order: String,
        "BootSourceOverrideTarget@Redfish.AllowableValues" targets: String,
        "BootSourceOverrideEnabled@Redfish.AllowableValues" enabled_values: String,
        "BootSourceOverrideMode@Redfish.AllowableValues" mode_values: String,
    }
}

resource! {
    ComputerSystem {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "@odata.etag" etag: String,
        "Id" id: String,
        "Name" name: String,
        "SystemType" system_type: String,
        "Manufacturer" manufacturer: String,
        "Model" model: String,
        "SerialNumber" serial: String,
        "SKU" sku: String,
        "UUID" uuid: String,
        "BiosVersion" bios_version: String,
        "PowerState" power: PowerWord,
        "LastResetTime" last_reset: String,
        "Boot" boot: Boot,
        "ProcessorSummary" processors: ProcessorSummary,
        "MemorySummary" memory: MemorySummary,
        "Processors" processor_list: Link,
        "Storage" storage: Link,
        "EthernetInterfaces" interfaces: Link,
        "LogServices" logs: Link,
        "Bios" bios: Link,
        "SecureBoot" secure_boot: Link,
        "VirtualMedia" media: Link,
        "BootProgress" boot_progress: BootProgress,
        "Actions" actions: SystemActions,
        "Links" links: SystemLinks,
        "@Redfish.Settings" settings: Settings,
    } lists {}
}

resource! {
    /// How far the machine's start has come: `LastState` is one of Redfish's words, or `OEM` with a word of the vendor's.
    BootProgress { "LastState" state: String, "OemLastState" oem_state: String, "LastStateTime" at: String, } lists {}
}
resource! { ProcessorSummary { "Count" count: u32, "CoreCount" cores: u32, } lists {} }
resource! { MemorySummary { "TotalSystemMemoryGiB" gib: f64, } lists {} }
resource! { SystemActions { "#ComputerSystem.Reset" reset: ResetAction, } lists {} }
resource! { SystemLinks {} lists { "ManagedBy" managed_by: Link, "Chassis" chassis: Link, } }
resource! {
    /// Where a resource takes changes that come into force later (DSP0266, settings resource).
    Settings { "SettingsObject" object: Link, } lists { "SupportedApplyTimes" apply_times: String, }
}
resource! {
    ResetAction {
        "target" target: String,
        "@Redfish.ActionInfo" info: String,
    } lists { "ResetType@Redfish.AllowableValues" allowed: String, }
}
resource! { ActionInfo {} lists { "Parameters" parameters: Parameter, } }
resource! { Parameter { "Name" name: String, } lists { "AllowableValues" allowed: String, } }

resource! {
    Storage {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "Volumes" volumes: Link,
    } lists { "Drives" drives: Link, }
}
resource! {
    Drive {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "SerialNumber" serial: String,
        "Model" model: String,
        "CapacityBytes" capacity: u64,
        "Protocol" protocol: String,
        "MediaType" media: String,
    } lists { "Identifiers" identifiers: Identifier, }
}
resource! {
    /// `DurableNameFormat` is one of `NAA`, `EUI`, `NGUID`, `UUID`, …
    Identifier { "DurableName" name: String, "DurableNameFormat" format: String, } lists {}
}
resource! {
    EthernetInterface {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "MACAddress" mac: String,
        "PermanentMACAddress" permanent_mac: String,
        "LinkStatus" link_status: String,
    } lists {}
}
resource! {
    Processor {
        "ProcessorType" kind: String,
        "TotalCores" cores: u32,
    } lists {}
}

resource! {
    Manager {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "ManagerType" kind: String,
        "Model" model: String,
        "FirmwareVersion" firmware: String,
        "UUID" uuid: String,
        "DateTime" date_time: String,
        "LastResetTime" last_reset: String,
        "PowerState" power: PowerWord,
        "SerialConsole" serial_console: Console,
        "LogServices" logs: Link,
        "VirtualMedia" media: Link,
        "NetworkProtocol" network_protocol: Link,
        "Actions" actions: ManagerActions,
    } lists {}
}
resource! { ManagerActions { "#Manager.Reset" reset: ResetAction, } lists {} }
resource! {
    Console {
        "ServiceEnabled" enabled: bool,
        "MaxConcurrentSessions" sessions: u32,
    } lists { "ConnectTypesSupported" connect_types: String, }
}
resource! {
    Chassis {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "ChassisType" kind: String,
        "Manufacturer" manufacturer: String,
        "Model" model: String,
        "SerialNumber" serial: String,
        "PowerState" power: PowerWord,
        "LogServices" logs: Link,
        "Sensors" sensors: Link,
        "Thermal" classic_thermal: Link,
        "Power" classic_power: Link,
        "ThermalSubsystem" thermal: Link,
        "PowerSubsystem" power_subsystem: Link,
        "EnvironmentMetrics" environment: Link,
        "NetworkAdapters" adapters: Link,
        "Links" links: ChassisLinks,
    } lists {}
}
resource! { ChassisLinks {} lists { "ComputerSystems" systems: Link, "ManagedBy" managed_by: Link, } }

resource! {
    SessionService {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "ServiceEnabled" enabled: bool,
        "SessionTimeout" timeout_s: u64,
        "Sessions" sessions: Link,
    } lists {}
}
resource! {
    /// A session as it is listed. The log-in itself is [`LogIn`]: it carries the password and is never printed.
    Session {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "UserName" user: String,
        "Context" context: String,
        "CreatedTime" created: String,
    } lists {}
}

/// Body of `POST …/Sessions`. No `Debug`: it holds the password.
#[derive(Serialize, Deserialize)]
pub struct LogIn {
    #[serde(rename = "UserName")]
    pub user: String,
    #[serde(rename = "Password")]
    pub password: String,
    #[serde(rename = "Context", default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

resource! {
    EventService { "ServiceEnabled" enabled: bool, "ServerSentEventUri" stream: String, } lists {}
}

resource! { AccountService {
    "@odata.id" odata_id: String,
    "@odata.type" odata_type: String,
    "Id" id: String,
    "Name" name: String,
    "ServiceEnabled" enabled: bool,
    "MinPasswordLength" min_password: u32,
    "MaxPasswordLength" max_password: u32,
    "AccountLockoutThreshold" lockout_after: u32,
    "AccountLockoutDuration" lockout_s: u32,
    "Accounts" accounts: Link,
} lists {} }
resource! { Account {
    "@odata.id" odata_id: String,
    "@odata.type" odata_type: String,
    "Id" id: String,
    "Name" name: String,
    "UserName" user: String,
    "RoleId" role: String,
    "Enabled" enabled: bool,
    "Locked" locked: bool,
    "PasswordChangeRequired" must_change: bool,
} lists { "AccountTypes" kinds: String, } }

resource! { ResetRequest { "ResetType" kind: String, } lists {} }
resource! { BootPatch { "Boot" boot: Boot, } lists {} }

resource! {
    /// DSP0266, error responses.
    ErrorBody { "error" error: ErrorDetail, } lists {}
}
resource! {
    ErrorDetail { "code" code: String, "message" message: String, } lists {
        "@Message.ExtendedInfo" info: Message,
    }
}
resource! {
    Message {
        "MessageId" id: String,
        "Message" message: String,
        "MessageSeverity" severity: String,
        "Resolution" resolution: String,
    } lists { "MessageArgs" args: String, }
}

impl ErrorBody {
    /// What the BMC says, cleaned, most telling part first; `None` where it says nothing.
    pub fn summary(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        let info = error.info.as_deref().unwrap_or_default().iter();
        let told: Vec<String> = info
            .take(4)
            .filter_map(|m| match (&m.id, &m.message) {
                (Some(id), Some(text)) => Some(format!("{text} ({id})")),
                (one, other) => one.clone().or(other.clone()),
            })
            .collect();
        let text = if told.is_empty() { error.message.clone().or(error.code.clone())? } else { told.join("; ") };
        Some(super::json::clean(&text))
    }
    /// The arguments of messages whose id contains this word, as they came.
    pub fn args_of(&self, word: &str) -> Vec<String> {
        let info = self.error.iter().flat_map(|e| e.info.iter().flatten());
        let named = info.filter(|m| m.id.as_deref().is_some_and(|id| id.contains(word)));
        named.flat_map(|m| m.args.iter().flatten().cloned()).collect()
    }
    /// Whether a message id ends with (or contains) this word: `PropertyUnknown`, `ActionParameterValueConflict`.
    pub fn says(&self, word: &str) -> bool {
        let Some(error) = &self.error else { return false };
        let ids = error.info.iter().flatten().filter_map(|m| m.id.as_deref());
        ids.chain(error.code.as_deref()).any(|id| id.contains(word))
    }
}

/// Any part of a resource that we do not write ourselves.
pub fn parse<T: DeserializeOwned + Default>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // fault: F20 invariant: I19 harness: D
    #[test]
    fn wrong_types_nulls_and_unknown_words_cost_one_property_only() {
        let system: ComputerSystem = parse(json!({
            "Id": "1", "SerialNumber": null, "SKU": 7, "PowerState": "Paused", "UUID": ["x"],
            "Boot": {"BootSourceOverrideEnabled": null, "BootSourceOverrideMode": "Both", "BootSourceOverrideTarget": "Pxe",
                     "BootSourceOverrideTarget@Redfish.AllowableValues": ["Pxe", null, 3, "Hdd"]},
            "MemorySummary": {"TotalSystemMemoryGiB": "lots"}, "Actions": "none", "Links": {"ManagedBy": null}
        }));
        assert_eq!((system.id.as_deref(), &system.serial, &system.sku, &system.uuid), (Some("1"), &None, &None, &None));
        assert_eq!(system.power, Some(PowerWord::Unknown));
        let boot = system.boot.unwrap_or_default();
        assert_eq!((boot.enabled, boot.mode), (None, Some(ModeWord::Unknown)));
        assert_eq!(boot.targets, Some(vec!["Pxe".to_owned(), "Hdd".to_owned()]));
        assert_eq!(system.links, Some(SystemLinks::default()));
    }

    /// Found by the fuzzer in a log's `ClearLog`.
    #[test]
    fn an_address_with_control_characters_leads_nowhere() {
        let action = |target: &str| parse::<Action>(json!({"target": target}));
        assert_eq!(Action::target(&Some(action("/s/Actions/ClearLog"))), Some("/s/Actions/ClearLog"));
        for target in ["", "/s/LogS\rvice.ClearLog", "/s/\u{1b}[2J", "/s/a\tb"] {
            assert_eq!(Action::target(&Some(action(target))), None, "{target:?}");
            assert_eq!(Link::path(&Some(parse::<Link>(json!({"@odata.id": target})))), None, "{target:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read_and_holds_no_nulls() {
        let system =
            ComputerSystem { power: Some(PowerWord::PoweringOn), odata_id: Some("/x".into()), ..Default::default() };
        let text = serde_json::to_string(&system).unwrap();
        assert_eq!(text, r#"{"@odata.id":"/x","PowerState":"PoweringOn"}"#);
        assert_eq!(serde_json::from_str::<ComputerSystem>(&text).unwrap(), system);
    }

    #[test]
    fn errors_say_what_the_bmc_said() {
        let body: ErrorBody = parse(json!({"error": {"code": "Base.1.8.GeneralError", "message": "see below",
            "@Message.ExtendedInfo": [{"MessageId": "Base.1.8.PropertyUnknown", "Message": "No\u{7} such"}]}}));
        assert_eq!(body.summary().as_deref(), Some("No  such (Base.1.8.PropertyUnknown)"));
        assert!(body.says("PropertyUnknown") && !body.says("Busy"));
        assert_eq!(parse::<ErrorBody>(json!("text")).summary(), None);
    }
}
