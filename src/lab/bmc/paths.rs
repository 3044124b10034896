//! Where things stand: the laboratory's own paths, and those found in a recorded tree.

use serde_json::Value;

use super::documents::Documents;

pub const ROOT: &str = "/redfish/v1";
pub const SYSTEM: &str = "/redfish/v1/Systems/1";
pub const MANAGER: &str = "/redfish/v1/Managers/1";
pub const CHASSIS: &str = "/redfish/v1/Chassis/1";
pub const SESSION_SERVICE: &str = "/redfish/v1/SessionService";
pub const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
pub const ACCOUNT_SERVICE: &str = "/redfish/v1/AccountService";
pub const ACCOUNTS: &str = "/redfish/v1/AccountService/Accounts";
pub const UPDATE_SERVICE: &str = "/redfish/v1/UpdateService";
pub const INVENTORY: &str = "/redfish/v1/UpdateService/FirmwareInventory";
pub const TASKS: &str = "/redfish/v1/TaskService/Tasks";
pub const MONITORS: &str = "/redfish/v1/TaskService/TaskMonitors";
pub const EVENT_SERVICE: &str = "/redfish/v1/EventService";
pub const SUBSCRIPTIONS: &str = "/redfish/v1/EventService/Subscriptions";
pub const SSE: &str = "/redfish/v1/EventService/SSE";
pub const CERTIFICATES: &str = "/redfish/v1/Managers/1/NetworkProtocol/HTTPS/Certificates";

/// The resources that live: power, overrides, sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub system: String,
    pub chassis: String,
    pub manager: String,
    pub sessions: String,
    /// Target of the Reset action.
    pub reset: String,
    pub reset_info: Option<String>,
    /// Where Boot is changed, if the system announces another place.
    pub settings: Option<String>,
    /// A recorded tree: nothing but these lives.
    pub recorded: bool,
}

impl Places {
    pub fn own() -> Places {
        Places {
            system: SYSTEM.into(),
            chassis: CHASSIS.into(),
            manager: MANAGER.into(),
            sessions: SESSIONS.into(),
            reset: format!("{SYSTEM}/Actions/ComputerSystem.Reset"),
            reset_info: Some(format!("{SYSTEM}/ResetActionInfo")),
            settings: None,
            recorded: false,
        }
    }

    /// The first system that can be reset, and what belongs to it.
    pub fn of(docs: &Documents) -> Option<Places> {
        let root = docs.body(ROOT)?;
        let members = |of: &str| -> Vec<String> {
            let list = target(root, of).and_then(|path| docs.body(&path).cloned()).unwrap_or_default();
            let members = list["Members"].as_array().cloned().unwrap_or_default();
            members.iter().filter_map(|m| m["@odata.id"].as_str().map(bare)).collect()
        };
        let action = |path: &String| -> Option<Value> {
            Some(docs.body(path)?.get("Actions")?.get("#ComputerSystem.Reset")?.clone())
        };
        let system = members("Systems").into_iter().find(|path| action(path).is_some())?;
        let reset = action(&system)?;
        let body = docs.body(&system)?;
        let first = |list: &Value| list.get(0).and_then(|m| m["@odata.id"].as_str()).map(bare);
        let sessions = root["Links"]["Sessions"]["@odata.id"].as_str().map(bare);
        Some(Places {
            chassis: first(&body["Links"]["Chassis"]).or(members("Chassis").into_iter().next())?,
            manager: first(&body["Links"]["ManagedBy"]).or(members("Managers").into_iter().next())?,
            sessions: sessions.unwrap_or_else(|| SESSIONS.into()),
            reset: reset["target"].as_str().map(bare)?,
            reset_info: reset["@Redfish.ActionInfo"].as_str().map(bare),
            settings: target(&body["@Redfish.Settings"], "SettingsObject").filter(|path| docs.get(path).is_some()),
            system,
            recorded: true,
        })
    }
}

fn target(of: &Value, property: &str) -> Option<String> {
    of[property]["@odata.id"].as_str().map(bare)
}

/// Without the slashes at its end.
pub fn bare(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}
