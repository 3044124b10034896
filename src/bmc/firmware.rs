//! Firmware of a machine: what is there, and which requests bring another. Pure.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    link,
    read::text,
    redfish::{
        json::clean,
        wire::{
            task::Task,
            update::{SimpleUpdate, Software, UpdateService},
        },
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub id: String,
    pub name: String,
    pub version: Option<String>,
    /// `None`: the BMC does not say.
    pub updateable: Option<bool>,
    pub manufacturer: Option<String>,
    pub path: String,
}

/// `None`: neither a version nor anything that could be one: an empty slot.
pub fn item(path: &str, software: &Software) -> Option<Item> {
    let id = text(&software.id).unwrap_or_else(|| clean(link::last_segment(path)));
    let version = text(&software.version).filter(|v| !v.eq_ignore_ascii_case("not present"));
    let absent = software.status.as_ref().and_then(|s| s.state.as_deref()) == Some("Absent");
    if version.is_none() && (absent || software.updateable != Some(true)) {
        return None;
    }
    Some(Item {
        name: text(&software.name).unwrap_or_else(|| id.clone()),
        id,
        version,
        updateable: software.updateable,
        manufacturer: text(&software.manufacturer),
        path: path.to_owned(),
    })
}

/// What an update changed: `BMC: 1.0 -> 1.1`, also what came and went.
pub fn changes(before: &[Item], after: &[Item]) -> Vec<String> {
    let version = |i: &Item| i.version.clone().unwrap_or_else(|| "-".to_owned());
    let mut told: Vec<String> = Vec::new();
    for now in after {
        match before.iter().find(|b| b.id == now.id) {
            Some(old) if old.version != now.version => {
                told.push(format!("{}: {} -> {}", now.name, version(old), version(now)));
            }
            Some(_) => {}
            // Dell puts the version into the id: the old entry is gone then, the new one has another id.
            None => match before.iter().find(|b| b.name == now.name && !after.iter().any(|a| a.id == b.id)) {
                Some(old) if old.version != now.version => {
                    told.push(format!("{}: {} -> {}", now.name, version(old), version(now)));
                }
                Some(_) => {}
                None => told.push(format!("{}: - -> {}", now.name, version(now))),
            },
        }
    }
    told.truncate(16);
    told
}

/// Body of SimpleUpdate. The protocol is sent where the BMC lists it in the form that the address has.
///
/// # Errors
/// The BMC lists protocols, and this address has none of them.
pub fn simple_update(action: &SimpleUpdate, image: &str, target: Option<&str>) -> Result<Value, String> {
    let scheme = image.split("://").next().unwrap_or_default().to_uppercase();
    let mut body = json!({ "ImageURI": image });
    if let Some(allowed) = action.protocols.as_deref().filter(|p| !p.is_empty()) {
        if !allowed.iter().any(|p| p.eq_ignore_ascii_case(&scheme)) {
            return Err(format!("the BMC fetches over {}, not {}", clean(&allowed.join(", ")), clean(&scheme)));
        }
        body["TransferProtocol"] = json!(scheme);
    }
    if let Some(target) = target {
        body["Targets"] = json!([target]);
    }
    Ok(body)
}

/// Where a file is pushed to, with the UpdateParameters of a multipart push; the older way takes the bare file and knows
/// no targets. `None`: this BMC takes no files.
pub fn push(service: &UpdateService, target: Option<&str>) -> Option<(String, Option<Value>)> {
    let told = |uri: &Option<String>| uri.clone().filter(|u| !u.is_empty());
    if let Some(uri) = told(&service.multipart) {
        let targets: Vec<&str> = target.into_iter().collect();
        return Some((uri, Some(json!({ "Targets": targets }))));
    }
    told(&service.push).filter(|_| target.is_none()).map(|uri| (uri, None))
}

/// The Task resource that an answer means: never its monitor, for reading that deletes a finished task (XCC; bmclib
/// lenovo.go). `None`: the answer names none, the work is done or cannot be followed.
pub fn task_of(location: Option<&str>, body: &Value) -> Option<String> {
    let kind = body.get("@odata.type").and_then(Value::as_str).unwrap_or_default();
    if kind.starts_with("#Task.") || kind.starts_with("#Job.") || kind.contains("DellJob") {
        let id = body.get("@odata.id").and_then(Value::as_str).filter(|id| !id.is_empty());
        if let Some(id) = id {
            return Some(id.to_owned());
        }
    }
    let location = location?.trim_end_matches('/');
    let bare = ["/Monitor", "/monitor", "/TaskMonitor"].iter().find_map(|end| location.strip_suffix(end));
    let path = bare.unwrap_or(location);
    if let Some((before, id)) = path.rsplit_once("/TaskMonitors/") {
        return Some(format!("{before}/Tasks/{id}"));
    }
    let known = ["/Tasks/", "/Jobs/", "/TaskService/"].iter().any(|part| path.contains(part));
    known.then(|| path.to_owned())
}

/// How a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// With the percentage, if told.
    Runs(Option<u32>),
    Done,
    /// What the BMC says of it.
    Failed(String),
}

pub fn standing(task: &Task) -> Standing {
    let word = task.state.as_deref().or(task.job_state.as_deref()).unwrap_or_default();
    let told = || {
        let messages = task.messages.iter().flatten().rev();
        let last = messages.filter_map(|m| text(&m.message).or(text(&m.id))).next();
        last.or(text(&task.message)).unwrap_or_else(|| format!("state {}", clean(word)))
    };
    match word {
        "Completed" if task.status.as_deref() == Some("Critical") => Standing::Failed(told()),
        "Completed" => Standing::Done,
        "Exception" | "Killed" | "Cancelled" | "Interrupted" | "Failed" | "CompletedWithErrors" | "RebootFailed" => {
            Standing::Failed(told())
        }
        _ => Standing::Runs(task.percent.filter(|p| *p <= 100)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::redfish::wire::parse;

    fn one(id: &str, name: &str, version: &str) -> Item {
        let raw = parse(json!({"Id": id, "Name": name, "Version": version, "Updateable": true}));
        item("/f/x", &raw).unwrap()
    }

    #[test]
    fn empty_slots_are_no_firmware() {
        let raw = parse(json!({"Id": "Backup", "Version": "Not Present", "Status": {"State": "Absent"}}));
        assert_eq!(item("/f/Backup", &raw), None);
        let raw = parse(json!({"Version": "1.2\u{7}"}));
        let read = item("/f/BMC/", &raw).unwrap();
        assert_eq!((read.id.as_str(), read.version.as_deref(), read.updateable), ("BMC", Some("1.2"), None));
    }

    #[test]
    fn what_changed_is_said_also_where_ids_carry_versions() {
        let before = [one("bmc", "BMC", "1"), one("Installed-1-2.0", "BIOS", "2.0"), one("x", "NIC", "3")];
        let after = [one("bmc", "BMC", "2"), one("Installed-1-2.1", "BIOS", "2.1"), one("x", "NIC", "3")];
        assert_eq!(changes(&before, &after), ["BMC: 1 -> 2", "BIOS: 2.0 -> 2.1"]);
        assert_eq!(changes(&after, &after), Vec::<String>::new());
    }

    #[test]
    fn the_protocol_is_one_that_is_offered() {
        let offers: SimpleUpdate = parse(json!({"TransferProtocol@Redfish.AllowableValues": ["HTTP", "TFTP"]}));
        let body = simple_update(&offers, "http://h/f.bin", Some("/f/BMC")).unwrap();
        assert_eq!(body, json!({"ImageURI": "http://h/f.bin", "TransferProtocol": "HTTP", "Targets": ["/f/BMC"]}));
        assert!(simple_update(&offers, "https://h/f", None).unwrap_err().contains("HTTP, TFTP, not HTTPS"));
        let silent = simple_update(&SimpleUpdate::default(), "https://h/f", None).unwrap();
        assert_eq!(silent, json!({"ImageURI": "https://h/f"}));
    }

    #[test]
    fn a_file_goes_where_the_bmc_takes_files() {
        let both: UpdateService = parse(json!({"HttpPushUri": "/old", "MultipartHttpPushUri": "/new"}));
        assert_eq!(push(&both, Some("/f/BMC")), Some(("/new".into(), Some(json!({"Targets": ["/f/BMC"]})))));
        let old: UpdateService = parse(json!({"HttpPushUri": "/old", "MultipartHttpPushUri": null}));
        assert_eq!(push(&old, None), Some(("/old".into(), None)));
        assert_eq!(push(&old, Some("/f/BMC")), None, "the old way cannot be told what it is for");
        assert_eq!(push(&UpdateService::default(), None), None);
    }

    #[test]
    fn tasks_are_found_and_monitors_are_not_read() {
        let none = Value::Null;
        for (location, task) in [
            ("/redfish/v1/TaskService/Tasks/545/Monitor", "/redfish/v1/TaskService/Tasks/545"),
            ("/redfish/v1/TaskService/TaskMonitors/oem3e0f", "/redfish/v1/TaskService/Tasks/oem3e0f"),
            ("/redfish/v1/TaskService/Tasks/JID_1", "/redfish/v1/TaskService/Tasks/JID_1"),
            ("/redfish/v1/Managers/iDRAC.Embedded.1/Jobs/JID_1", "/redfish/v1/Managers/iDRAC.Embedded.1/Jobs/JID_1"),
        ] {
            assert_eq!(task_of(Some(location), &none).as_deref(), Some(task));
        }
        let body = json!({"@odata.id": "/redfish/v1/TaskService/Tasks/3", "@odata.type": "#Task.v1_4_3.Task"});
        assert_eq!(task_of(Some("/taskmon/3"), &body).as_deref(), Some("/redfish/v1/TaskService/Tasks/3"));
        assert_eq!(task_of(Some("/elsewhere/3"), &none), None);
        assert_eq!(task_of(None, &none), None);
    }

    #[test]
    fn tasks_end_one_way_or_the_other() {
        let of = |v| standing(&parse::<Task>(v));
        assert_eq!(of(json!({"TaskState": "Running", "PercentComplete": 40})), Standing::Runs(Some(40)));
        assert_eq!(of(json!({"TaskState": "Pending", "PercentComplete": 4000})), Standing::Runs(None));
        assert_eq!(of(json!({"TaskState": "Completed", "TaskStatus": "OK"})), Standing::Done);
        let failed = json!({"TaskState": "Exception", "Messages": [{"Message": "a"}, {"Message": "wrong image"}]});
        assert_eq!(of(failed), Standing::Failed("wrong image".into()));
        assert_eq!(of(json!({"JobState": "Failed", "Message": "RED001"})), Standing::Failed("RED001".into()));
        assert_eq!(of(json!({"TaskState": "Killed"})), Standing::Failed("state Killed".into()));
    }
}
