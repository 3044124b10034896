//! A document as it is shown: what lives is laid over it, then the faults that lie about resources. Pure.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Fault,
    boot::SETTINGS,
    build::stamp,
    documents::{each_object, each_text},
    paths::{ACCOUNTS, ROOT, SYSTEM, bare},
    power,
    state::State,
};
use crate::bmc::redfish::wire::PowerWord;

/// Properties whose words a schema lists.
const ENUMS: [&str; 12] = [
    "Health",
    "HealthRollup",
    "State",
    "SystemType",
    "ChassisType",
    "ManagerType",
    "MediaType",
    "Protocol",
    "LinkStatus",
    "ProcessorType",
    "MemoryType",
    "RAIDType",
];
const DATES: [&str; 6] = ["DateTime", "LastResetTime", "Created", "CreatedTime", "StartTime", "EndTime"];
const NEW_SENSORS: [&str; 4] = ["Sensors", "ThermalSubsystem", "PowerSubsystem", "EnvironmentMetrics"];

impl State {
    /// The resource at an inner path, with its ETag; `None`: there is none.
    pub fn shown(&self, path: &str, power: PowerWord, now: OffsetDateTime) -> Option<Value> {
        if self.hidden(path) {
            return None;
        }
        let mut body = match path {
            SETTINGS if !self.places.recorded => self.show_settings()?,
            _ => self.collected(path)?,
        };
        self.live(path, &mut body, power, now);
        self.lies(path, &mut body);
        self.lies_of_links(path, &mut body);
        if !self.has(Fault::EtagMissing) && path != "/redfish" && body.is_object() {
            body["@odata.etag"] = json!(self.shown_etag(path));
        } else if let Some(map) = body.as_object_mut() {
            map.shift_remove("@odata.etag");
        }
        Some(body)
    }

    /// As it stands in headers and bodies.
    pub fn shown_etag(&self, path: &str) -> String {
        let etag = self.etag(path);
        if self.has(Fault::EtagWeak) {
            format!("W/{etag}")
        } else if self.has(Fault::EtagGzip) {
            format!("{}-gzip\"", etag.trim_end_matches('"'))
        } else {
            etag
        }
    }

    fn collected(&self, path: &str) -> Option<Value> {
        let document = self.docs.get(path)?;
        let mut body = document.body.clone();
        let sessions = self.places.recorded && path == self.places.sessions;
        if document.collects || sessions {
            let mut members: Vec<String> = self.docs.below(path).into_iter().filter(|p| !self.hidden(p)).collect();
            if sessions {
                // Those that were recorded are not ours.
                members.retain(|p| self.sessions.list().iter().any(|s| p.ends_with(&format!("/{}", s.id))));
            }
            if path == "/redfish/v1/Systems" && self.has(Fault::SecondSystem) {
                members.sort_by_key(|p| p == SYSTEM);
            }
            body["Members@odata.count"] = json!(members.len());
            // A collection of log entries holds them whole (DSP0266 9.6.4: the schema says so).
            let whole = path.ends_with("/Entries");
            let member = |p: &String| match self.docs.body(p) {
                Some(body) if whole => body.clone(),
                _ => json!({ "@odata.id": p }),
            };
            body["Members"] = members.iter().map(member).collect();
        }
        Some(body)
    }

    /// What a fault takes away as a whole.
    fn hidden(&self, path: &str) -> bool {
        let below =
            |prefix: &str| path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        let sensors = self.effective.text(Fault::Sensors);
        let new = || NEW_SENSORS.iter().any(|n| below(&format!("{ROOT}/Chassis/1/{n}")));
        let classic = || below(&format!("{ROOT}/Chassis/1/Thermal")) || below(&format!("{ROOT}/Chassis/1/Power"));
        (self.has(Fault::NoSessions) && below("/redfish/v1/SessionService"))
            || (self.has(Fault::NoEvents) && below("/redfish/v1/EventService"))
            || (sensors == Some("classic") && new())
            || (sensors == Some("new") && classic())
            || (!self.has(Fault::SecondSystem) && !self.places.recorded && below("/redfish/v1/Systems/HGX_Baseboard_0"))
            || (!self.has(Fault::ActionInfo) && !self.places.recorded && path == format!("{SYSTEM}/ResetActionInfo"))
            || (self.has(Fault::HideDrives) && path.contains("/Drives/"))
    }

    fn live(&self, path: &str, body: &mut Value, power: PowerWord, now: OffsetDateTime) {
        let places = &self.places;
        if path == places.system {
            self.live_system(body, power);
        } else if path == places.chassis {
            body["PowerState"] = self.power_value(power);
        } else if path == places.manager && body.get("DateTime").is_some() {
            body["DateTime"] = json!(stamp(now));
        } else if path.starts_with(ACCOUNTS) && body.get("UserName").is_some() && !places.recorded {
            let user = body["UserName"].as_str().unwrap_or_default();
            body["Locked"] = json!(self.accounts.locked(now).iter().any(|l| l == user));
        }
        if places.recorded {
            return;
        }
        if path == format!("{SYSTEM}/ResetActionInfo") {
            body["Parameters"][0]["AllowableValues"] = json!(power::offered(&self.effective));
        }
        if path == "/redfish/v1/SessionService" {
            body["SessionTimeout"] = json!(self.session_timeout().as_secs().max(30));
        }
        if let (true, Some((threshold, time))) =
            (path == "/redfish/v1/AccountService", self.effective.rate(Fault::AccountLockout))
        {
            body["AccountLockoutThreshold"] = json!(threshold);
            body["AccountLockoutDuration"] = json!(time.as_secs());
        }
    }

    fn power_value(&self, power: PowerWord) -> Value {
        match power {
            _ if self.has(Fault::PowerNull) => Value::Null,
            _ if self.has(Fault::PowerUnknown) => json!("Hibernating"),
            word => json!(word),
        }
    }

    fn live_system(&self, body: &mut Value, power: PowerWord) {
        body["PowerState"] = self.power_value(power);
        if let Some(mut boot) = body.get_mut("Boot").and_then(Value::as_object_mut).map(std::mem::take) {
            self.show_boot(self.boot, &self.boot_words, &mut boot);
            body["Boot"] = Value::Object(boot);
        }
        if self.places.recorded {
            return;
        }
        body["LastResetTime"] = json!(stamp(self.last_reset));
        let offered = power::offered(&self.effective);
        let action = &mut body["Actions"]["#ComputerSystem.Reset"];
        if self.has(Fault::ActionInfo) {
            action["@Redfish.ActionInfo"] = json!(format!("{SYSTEM}/ResetActionInfo"));
        } else if !self.has(Fault::ResetUnlisted) {
            action["ResetType@Redfish.AllowableValues"] = json!(offered);
        }
        if self.has(Fault::BootSettings) {
            body["@Redfish.Settings"] =
                json!({ "@odata.type": "#Settings.v1_3_5.Settings", "SettingsObject": { "@odata.id": SETTINGS } });
        }
    }

    /// Faults of whole resources, by name of the property.
    fn lies(&self, path: &str, body: &mut Value) {
        let faults = &self.effective;
        if faults.is_empty() {
            return;
        }
        let Some(map) = body.as_object_mut() else { return };
        if path == ROOT {
            if faults.has(Fault::RootNoVendor) {
                map.shift_remove("Vendor");
                map.shift_remove("Product");
            } else if let Some(vendor) = faults.text(Fault::RootVendor) {
                map.insert("Vendor".into(), json!(vendor));
            }
            for (fault, names) in
                [(Fault::NoSessions, ["SessionService", "Links"]), (Fault::NoEvents, ["EventService", ""])]
            {
                if faults.has(fault) {
                    names.iter().for_each(|n| drop(map.shift_remove(*n)));
                }
            }
            if faults.has(Fault::RootNoLinks) && self.bmc_resets == 0 {
                map.retain(|name, value| !value.is_object() || name == "SessionService" || name == "Links");
            }
        } else if path == self.places.system {
            if let Some(maker) = faults.text(Fault::Maker) {
                map.insert("Manufacturer".into(), json!(maker));
            }
            if faults.has(Fault::SerialInSku) {
                let serial = map.get("SerialNumber").cloned().unwrap_or_default();
                map.insert("SKU".into(), serial);
                map.insert("SerialNumber".into(), json!("CNIVC0000A1B2C"));
            }
            if faults.has(Fault::SerialPlaceholder) {
                map.insert("SerialNumber".into(), json!("Default string"));
            }
            if faults.has(Fault::UuidEmpty) {
                map.insert("UUID".into(), json!(""));
            }
            if faults.has(Fault::UuidSwapped) {
                let swapped = map.get("UUID").and_then(Value::as_str).and_then(swapped);
                map.insert("UUID".into(), json!(swapped));
            }
            if let Some(id) = faults.text(Fault::SystemId) {
                map.insert("Id".into(), json!(id));
            }
        } else if path == self.places.manager {
            if let Some((model, version)) = faults.text(Fault::BmcModel).and_then(|t| t.split_once('/')) {
                map.insert("Model".into(), json!(model));
                map.insert("FirmwareVersion".into(), json!(version));
            }
            if let Some(id) = faults.text(Fault::ManagerId) {
                map.insert("Id".into(), json!(id));
            }
        } else if let (true, Some(id)) = (path == self.places.chassis, faults.text(Fault::ChassisId)) {
            map.insert("Id".into(), json!(id));
        }
        self.lies_of_parts(path, body);
    }

    fn lies_of_parts(&self, path: &str, body: &mut Value) {
        let faults = &self.effective;
        if faults.has(Fault::HideDrives) && body.get("Drives").is_some() {
            body["Drives"] = json!([]);
            if body.get("Drives@odata.count").is_some() {
                body["Drives@odata.count"] = json!(0);
            }
        }
        if faults.has(Fault::BootOptionNull) && path.contains("/BootOptions/") {
            body["BootOptionEnabled"] = Value::Null;
            body["UefiDevicePath"] = Value::Null;
        }
        if faults.has(Fault::DrivesNoSerial) && path.contains("/Drives/") {
            body["SerialNumber"] = Value::Null;
            body["Identifiers"] = json!([]);
        }
        if let (true, Some(name)) = (path.ends_with("/Chassis/1"), faults.text(Fault::Sensors)) {
            let gone: &[&str] = if name == "new" { &["Thermal", "Power"] } else { &NEW_SENSORS };
            if let Some(map) = body.as_object_mut() {
                gone.iter().for_each(|n| drop(map.shift_remove(*n)));
            }
        }
        let nested = path.split('/').count() > 4;
        if faults.has(Fault::MembersNull) && nested && body.get("Members").is_some() {
            body["Members"] = Value::Null;
        }
        if faults.has(Fault::FieldsMissing)
            && let Some(map) = body.as_object_mut()
        {
            map.shift_remove("Id");
            map.shift_remove("Name");
        }
        let (null, unknown, dates) =
            (faults.has(Fault::EnumsNull), faults.has(Fault::EnumsUnknown), faults.has(Fault::DatesZero));
        if null || unknown || dates {
            each_object(body, &mut |map| {
                for (name, value) in map.iter_mut().filter(|(_, v)| v.is_string()) {
                    if ENUMS.contains(&name.as_str()) {
                        if null {
                            *value = Value::Null;
                        } else if unknown {
                            *value = json!("Quantum");
                        }
                    } else if dates && DATES.contains(&name.as_str()) {
                        *value = json!("0000-00-00T00:00:00Z");
                    }
                }
            });
        }
    }

    fn lies_of_links(&self, path: &str, body: &mut Value) {
        let (slash, lower) = (self.has(Fault::LinksSlash), self.has(Fault::LinksLowerCase));
        if slash || lower {
            each_object(body, &mut |map| {
                for (name, value) in map.iter_mut() {
                    let Value::String(text) = value else { continue };
                    if name != "@odata.id" || !text.starts_with(ROOT) {
                        continue;
                    }
                    // Below a system alone: as HPE has `/redfish/v1/systems/1/bios/settings/`.
                    if lower && text.starts_with(SYSTEM) {
                        *text = text.to_ascii_lowercase();
                    }
                    if slash {
                        *text = format!("{}/", bare(text));
                    }
                }
            });
        }
        if self.has(Fault::LinksAway) && path == ROOT {
            each_text(body, &mut |text| {
                if text.starts_with("/redfish/") && bare(text) != ROOT {
                    *text = format!("https://192.0.2.1{text}");
                }
            });
        }
    }
}

/// The first three fields of a UUID with their bytes in the other order.
fn swapped(text: &str) -> Option<String> {
    let uuid: uuid::Uuid = text.parse().ok()?;
    Some(uuid::Uuid::from_bytes(uuid.to_bytes_le()).to_string())
}
