//! The resources as this BMC shows them, in the shared wire types.

use serde::Serialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Bmc, DriveDescription, chassis::Chassis as Machine, power::RESET_TYPES, sessions};
use crate::{
    bmc::redfish::wire::{
        Account, AccountService, ActionInfo, Boot, Chassis, ChassisLinks, Collection, ComputerSystem, Console, Drive,
        EthernetInterface, Link, Manager, MemorySummary, Parameter, ProcessorSummary, ResetAction, RootLinks,
        ServiceRoot, Session, SessionService, Storage, SystemActions, SystemLinks,
    },
    model::power::BootTarget,
};

pub const ROOT: &str = "/redfish/v1";
pub const SYSTEM: &str = "/redfish/v1/Systems/1";
pub const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";
const RESET_INFO: &str = "/redfish/v1/Systems/1/ResetActionInfo";
pub const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const MANAGER: &str = "/redfish/v1/Managers/1";
const CHASSIS: &str = "/redfish/v1/Chassis/1";
/// The firmware of the BMC itself: this program.
const FIRMWARE: &str = concat!("rackctl-lab ", env!("CARGO_PKG_VERSION"));

/// Words of `BootSourceOverrideTarget` that the firmware can do.
pub fn boot_targets(uefi: bool) -> &'static [&'static str] {
    if uefi {
        &["None", "Pxe", "UefiHttp", "Hdd", "Cd", "BiosSetup"]
    } else {
        &["None", "Pxe", "Hdd", "Cd", "BiosSetup"]
    }
}

fn word(target: BootTarget) -> &'static str {
    match target {
        BootTarget::None => "None",
        BootTarget::Pxe => "Pxe",
        BootTarget::Http => "UefiHttp",
        BootTarget::Disk => "Hdd",
        BootTarget::Cd => "Cd",
        BootTarget::Setup => "BiosSetup",
    }
}

fn words(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|w| (*w).to_owned()).collect())
}

fn stamp(at: OffsetDateTime) -> Option<String> {
    at.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
}

fn links(paths: impl IntoIterator<Item = String>) -> Option<Vec<Link>> {
    Some(paths.into_iter().filter_map(Link::to).collect())
}

fn collection(path: &str, kind: &str, members: Vec<String>) -> Collection {
    Collection {
        odata_id: Some(path.to_owned()),
        odata_type: Some(format!("#{kind}Collection.{kind}Collection")),
        name: Some(format!("{kind} Collection")),
        count: Some(members.len() as u64),
        next: None,
        members: links(members),
    }
}

/// `@odata.id`, `@odata.type`, `Id` and `Name` of a resource; the rest follows.
macro_rules! headed {
    ($kind:ident, $path:expr, $version:literal, $id:expr, $name:expr, { $($field:ident : $value:expr),* $(,)? }) => {
        {
            // Some types have no other property left.
            #[allow(clippy::needless_update)]
            let resource = $kind {
                odata_id: Some($path.to_owned()),
                odata_type: Some(format!(concat!("#", stringify!($kind), ".", $version, ".", stringify!($kind)))),
                id: Some($id.to_owned()),
                name: Some($name.to_owned()),
                $($field: $value,)*
                ..Default::default()
            };
            resource
        }
    };
}

pub fn session(session: &sessions::Session) -> Session {
    let path = format!("{SESSIONS}/{}", session.id);
    headed!(Session, path, "v1_7_1", session.id, "User Session", {
        user: Some(session.user.clone()),
        context: session.context.clone(),
        created: stamp(session.created),
    })
}

/// A document, if it can be written.
fn shown(value: impl Serialize) -> Option<Value> {
    serde_json::to_value(value).ok()
}

impl<C: Machine> Bmc<C> {
    pub(super) fn etag(&self) -> String {
        format!("\"{:x}\"", self.state().version)
    }

    /// The resource at a path without its trailing slash.
    pub(super) async fn resource(&self, path: &str) -> Option<Value> {
        if path == "/redfish" {
            return Some(json!({"v1": "/redfish/v1/"}));
        }
        let below = path.strip_prefix(ROOT)?;
        let segments: Vec<&str> = below.split('/').skip(1).collect();
        match segments.as_slice() {
            [] => shown(self.root()),
            ["Systems"] => shown(collection(path, "ComputerSystem", vec![SYSTEM.into()])),
            ["Systems", "1"] => shown(self.system().await),
            ["Systems", "1", "ResetActionInfo"] if self.behaviour.action_info => shown(self.reset_info()),
            ["Systems", "1", "EthernetInterfaces"] => {
                let members = (1..=self.description.macs.len()).map(|n| format!("{path}/{n}")).collect();
                shown(collection(path, "EthernetInterface", members))
            }
            ["Systems", "1", "EthernetInterfaces", n] => shown(self.interface(path, n)?),
            ["Systems", "1", "Storage"] => shown(collection(path, "Storage", vec![format!("{path}/1")])),
            ["Systems", "1", "Storage", "1"] => shown(headed!(Storage, path, "v1_17_1", "1", "Storage", {
                drives: links((1..=self.shown_drives().len()).map(|n| format!("{path}/Drives/{n}"))),
            })),
            ["Systems", "1", "Storage", "1", "Drives", n] => shown(self.drive(path, n)?),
            ["Managers"] => shown(collection(path, "Manager", vec![MANAGER.into()])),
            ["Managers", "1"] => shown(self.manager()),
            ["Chassis"] => shown(collection(path, "Chassis", vec![CHASSIS.into()])),
            ["Chassis", "1"] => shown(self.chassis_resource().await),
            ["SessionService"] if self.behaviour.sessions => shown(self.session_service(path)),
            ["SessionService", "Sessions"] if self.behaviour.sessions => {
                let open = self.state().sessions.list(OffsetDateTime::now_utc());
                let members = open.iter().map(|s| format!("{path}/{}", s.id)).collect();
                shown(collection(path, "Session", members))
            }
            ["SessionService", "Sessions", id] if self.behaviour.sessions => {
                let open = self.state().sessions.list(OffsetDateTime::now_utc());
                shown(session(open.iter().find(|s| s.id == **id)?))
            }
            ["AccountService"] => {
                shown(headed!(AccountService, path, "v1_15_1", "AccountService", "Account Service", {
                    enabled: Some(true),
                    accounts: Link::to(format!("{path}/Accounts")),
                }))
            }
            ["AccountService", "Accounts"] => shown(collection(path, "ManagerAccount", vec![format!("{path}/1")])),
            ["AccountService", "Accounts", "1"] => {
                let mut account = headed!(Account, path, "v1_12_1", "1", "User Account", {
                    user: Some(self.account.user.clone()),
                    role: Some("Administrator".into()),
                    enabled: Some(true),
                });
                account.odata_type = Some("#ManagerAccount.v1_12_1.ManagerAccount".into());
                shown(account)
            }
            _ => None,
        }
    }

    fn root(&self) -> ServiceRoot {
        let sessions = self.behaviour.sessions;
        headed!(ServiceRoot, format!("{ROOT}/"), "v1_16_1", "RootService", "Root Service", {
            redfish_version: Some("1.18.0".into()),
            uuid: Some(self.description.uuid.to_string()),
            vendor: Some("rackctl".into()),
            product: Some("Laboratory BMC".into()),
            systems: Link::to(format!("{ROOT}/Systems")),
            managers: Link::to(format!("{ROOT}/Managers")),
            chassis: Link::to(format!("{ROOT}/Chassis")),
            account_service: Link::to(format!("{ROOT}/AccountService")),
            session_service: sessions.then(|| Link::to(format!("{ROOT}/SessionService"))).flatten(),
            links: sessions.then(|| RootLinks { sessions: Link::to(SESSIONS) }),
        })
    }

    async fn system(&self) -> ComputerSystem {
        let power = self.power_word().await;
        let (boot, last_reset, etag) = {
            let state = self.state();
            (state.boot, state.last_reset, format!("\"{:x}\"", state.version))
        };
        let about = &self.description;
        let boot = Boot {
            enabled: Some(boot.enabled),
            target: Some(word(boot.target).to_owned()),
            mode: Some(boot.mode),
            targets: words(boot_targets(about.uefi)),
            enabled_values: words(&["Disabled", "Once", "Continuous"]),
            mode_values: words(if about.uefi { &["UEFI"] } else { &["Legacy"] }),
            http_boot_uri: None,
        };
        let on_info = self.behaviour.action_info;
        let reset = ResetAction {
            target: Some(RESET.into()),
            info: on_info.then(|| RESET_INFO.to_owned()),
            allowed: if on_info { None } else { words(&RESET_TYPES) },
        };
        headed!(ComputerSystem, SYSTEM, "v1_22_0", "1", about.model, {
            etag: Some(etag),
            system_type: Some("Physical".into()),
            manufacturer: Some(about.manufacturer.clone()),
            model: Some(about.model.clone()),
            serial: Some(about.serial.clone()),
            sku: about.sku.clone(),
            uuid: Some(about.uuid.to_string()),
            bios_version: Some(about.bios_version.clone()),
            power: Some(power),
            last_reset: stamp(last_reset),
            boot: Some(boot),
            processors: Some(ProcessorSummary { count: Some(1), cores: Some(about.cores) }),
            memory: Some(MemorySummary { gib: Some(about.memory_bytes as f64 / (1u64 << 30) as f64) }),
            storage: Link::to(format!("{SYSTEM}/Storage")),
            interfaces: Link::to(format!("{SYSTEM}/EthernetInterfaces")),
            actions: Some(SystemActions { reset: Some(reset) }),
            links: Some(SystemLinks { managed_by: links([MANAGER.to_owned()]), chassis: links([CHASSIS.to_owned()]) }),
        })
    }

    fn reset_info(&self) -> Value {
        let parameter = Parameter { name: Some("ResetType".into()), allowed: words(&RESET_TYPES) };
        let info = shown(ActionInfo { parameters: Some(vec![parameter]) }).unwrap_or_default();
        json!({"@odata.id": RESET_INFO, "@odata.type": "#ActionInfo.v1_4_2.ActionInfo", "Id": "ResetActionInfo",
               "Name": "Reset Action Info", "Parameters": info.get("Parameters")})
    }

    fn interface(&self, path: &str, n: &str) -> Option<EthernetInterface> {
        let mac = self.description.macs.get(n.parse::<usize>().ok()?.checked_sub(1)?)?;
        Some(headed!(EthernetInterface, path, "v1_12_1", n, format!("NIC {n}"), {
            mac: Some(mac.to_string()),
            permanent_mac: Some(mac.to_string()),
            link_status: Some("LinkUp".into()),
        }))
    }

    fn shown_drives(&self) -> &[DriveDescription] {
        if self.faults().hide_drives { &[] } else { &self.description.drives }
    }

    fn drive(&self, path: &str, n: &str) -> Option<Drive> {
        let drive = self.shown_drives().get(n.parse::<usize>().ok()?.checked_sub(1)?)?;
        Some(headed!(Drive, path, "v1_20_0", n, format!("Disk {n}"), {
            serial: Some(drive.serial.clone()),
            model: Some(drive.model.clone()),
            capacity: Some(drive.size_bytes),
            media: Some("SSD".into()),
        }))
    }

    fn manager(&self) -> Manager {
        headed!(Manager, MANAGER, "v1_19_1", "1", "Laboratory BMC", {
            kind: Some("BMC".into()),
            model: Some("Laboratory BMC".into()),
            firmware: Some(FIRMWARE.into()),
            date_time: stamp(OffsetDateTime::now_utc()),
            serial_console: Some(Console { enabled: Some(true), sessions: Some(1), connect_types: words(&["Oem"]) }),
        })
    }

    async fn chassis_resource(&self) -> Chassis {
        let about = &self.description;
        headed!(Chassis, CHASSIS, "v1_25_0", "1", "Chassis", {
            kind: Some("RackMount".into()),
            manufacturer: Some(about.manufacturer.clone()),
            model: Some(about.model.clone()),
            serial: Some(about.serial.clone()),
            power: Some(self.power_word().await),
            links: Some(ChassisLinks { systems: links([SYSTEM.to_owned()]), managed_by: links([MANAGER.to_owned()]) }),
        })
    }

    fn session_service(&self, path: &str) -> SessionService {
        headed!(SessionService, path, "v1_1_9", "SessionService", "Session Service", {
            enabled: Some(true),
            timeout_s: Some(self.behaviour.session_timeout.as_secs()),
            sessions: Link::to(SESSIONS),
        })
    }
}
