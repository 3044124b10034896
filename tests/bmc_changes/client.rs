//! What the client changes beyond power and boot, and how it reads that back.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use rackctl::{
    bmc::{client::Image, volumes::Wish},
    lab::bmc::certificate,
    model::{Secret, failure::Cause},
};
use serde_json::{Value, json};

use crate::small::{Desk, MANAGER, PASSWORD, SYSTEM, desk, merge, tree};

fn bios() -> Value {
    json!({
        format!("{SYSTEM}/Bios"): {"Attributes": {"BootMode": "Uefi", "Cores": 4},
            "@Redfish.Settings": {"SettingsObject": {"@odata.id": format!("{SYSTEM}/Bios/SD")}, "SupportedApplyTimes": ["OnReset"]}},
        format!("{SYSTEM}/Bios/SD"): {"@odata.etag": "\"7\"", "Attributes": {}},
    })
}

fn wish(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[tokio::test]
async fn bios_attributes_become_pending_and_are_read_back() {
    let desk = desk(bios(), |_, _, _, _| None).await;
    let client = desk.client().await;
    let read = client.set_bios(&wish(&[("Cores", "8"), ("BootMode", "Uefi")])).await.unwrap();
    assert_eq!(read.pending, BTreeMap::from([("Cores".to_owned(), json!(8))]));
    let writes = desk.writes();
    assert_eq!(writes.len(), 1, "one PATCH for all, with the tag that was asked for: {writes:?}");
    assert_eq!(writes[0].2["@Redfish.SettingsApplyTime"]["ApplyTime"], "OnReset");
    // Asked for again it is there already: nothing is sent.
    client.set_bios(&wish(&[("Cores", "8")])).await.unwrap();
    assert_eq!(desk.writes().len(), 1);
    let unknown = client.set_bios(&wish(&[("Bootmode", "x")])).await.unwrap_err();
    assert!(unknown.why.contains("is it `BootMode`?"), "{unknown}");
    let none = client.clear_pending_bios().await.unwrap_err();
    assert!(none.cause == Cause::Guard && none.why.contains("/Bios/SD"), "{none}");
}

#[tokio::test]
async fn attributes_that_are_taken_and_forgotten_are_told_with_their_values() {
    let desk = desk(bios(), |_, method, _, _| (method == "PATCH").then(|| (200, json!({}), None))).await;
    let failure = desk.client().await.set_bios(&wish(&[("Cores", "8")])).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored);
    assert!(failure.why.contains("Cores: is 4, pending nothing, asked for 8"), "{failure}");
}

fn slots() -> Value {
    json!({
        format!("{MANAGER}/VirtualMedia"): {"Members": [{"@odata.id": format!("{MANAGER}/VirtualMedia/Cd")}, {"@odata.id": format!("{MANAGER}/VirtualMedia/RDOC1")}]},
        format!("{MANAGER}/VirtualMedia/Cd"): {"Id": "Cd", "MediaTypes": ["CD"], "Inserted": false, "Image": null,
            "Actions": {"#VirtualMedia.InsertMedia": {"target": "/insert"}, "#VirtualMedia.EjectMedia": {"target": "/eject"}}},
        format!("{MANAGER}/VirtualMedia/RDOC1"): {"Id": "RDOC1"},
    })
}

#[tokio::test]
async fn media_climb_the_ladder_and_come_out_again() {
    let slot = format!("{MANAGER}/VirtualMedia/Cd");
    let desk = desk(slots(), move |tree, _, path, body| match path {
        "/insert" if body.get("TransferProtocolType").is_none() => {
            Some((400, json!({"error": {"message": "TransferProtocolType is required"}}), None))
        }
        "/insert" => {
            merge(tree.get_mut(&slot).unwrap(), &json!({"Inserted": true, "Image": body["Image"]}));
            Some((204, Value::Null, None))
        }
        "/eject" => {
            merge(tree.get_mut(&slot).unwrap(), &json!({"Inserted": false, "Image": null}));
            Some((204, Value::Null, None))
        }
        _ => None,
    })
    .await;
    let client = desk.client().await;
    let limit = Duration::from_secs(20);
    let slot = client.insert_media(None, "http://h/x.iso", limit).await.unwrap();
    assert_eq!((slot.id.as_str(), slot.image.as_deref()), ("Cd", Some("http://h/x.iso")));
    assert_eq!(desk.writes().len(), 3);
    // There already: nothing more is sent. Another image needs an empty slot.
    client.insert_media(None, "http://h/x.iso", limit).await.unwrap();
    assert_eq!(desk.writes().len(), 3);
    let full = client.insert_media(Some("cd"), "http://h/y.iso", limit).await.unwrap_err();
    assert!(full.next.as_deref().is_some_and(|n| n.contains("--eject --slot Cd")), "{full:?}");
    // The same file of another place is another image: neither taken for the first nor put out for it.
    let other = client.insert_media(Some("cd"), "http://b/x.iso", limit).await.unwrap_err();
    assert!(other.why.contains("its slot Cd holds http://h/x.iso"), "{other}");
    assert!(client.insert_media(None, "http://b/x.iso", limit).await.is_err());
    client.take_media_out("http://b/x.iso").await.unwrap();
    assert_eq!(client.media().await.unwrap()[0].image.as_deref(), Some("http://h/x.iso"));
    assert_eq!(client.eject_media(None, limit).await, Ok(vec!["Cd".to_owned()]));
    assert_eq!(client.eject_media(None, limit).await, Ok(vec![]));
    let none = client.eject_media(Some("RDOC1"), limit).await.unwrap_err();
    assert!(none.why.contains("no slot `RDOC1`"), "{none}");
}

#[tokio::test]
async fn a_ladder_that_leads_nowhere_ends_with_what_was_said() {
    let desk = desk(slots(), |_, _, path, _| {
        (path == "/insert").then(|| (400, json!({"error": {"message": "no licence"}}), None))
    })
    .await;
    let client = desk.client().await;
    let failure = client.insert_media(None, "http://h/x.iso", Duration::from_secs(20)).await.unwrap_err();
    assert!(failure.cause == Cause::Refused && failure.why.contains("no licence"), "{failure}");
    assert_eq!(desk.writes().len(), 5);
}

fn log() -> Value {
    let entry = |id: &str, at: &str| json!({"@odata.id": format!("/e/{id}"), "Id": id, "Created": at, "Message": "m"});
    json!({
        format!("{SYSTEM}/LogServices"): {"Members": [{"@odata.id": "/log"}]},
        "/log": {"Id": "Sel", "Entries": {"@odata.id": "/log/Entries"}, "Actions": {"#LogService.ClearLog": {"target": "/clear"}}},
        "/log/Entries": {"Members": [entry("4", "2026-01-04T00:00:00Z"), entry("3", "2026-01-03T00:00:00Z")], "Members@odata.nextLink": "/log/More"},
        "/log/More": {"Members": [entry("2", "2026-01-02T00:00:00Z"), {"@odata.id": "/e/1"}]},
        "/e/1": entry("1", "2026-01-01T00:00:00Z"),
    })
}

#[tokio::test]
async fn a_log_is_paged_turned_and_cleared() {
    let desk = desk(log(), |tree, _, path, _| {
        (path == "/clear").then(|| {
            tree.insert(
                "/log/Entries".into(),
                json!({"Members": [{"@odata.id": "/e/9", "Id": "9", "Message": "log cleared"}]}),
            );
            (204, Value::Null, None)
        })
    })
    .await;
    let client = desk.client().await;
    let logs = client.logs(None).await.unwrap();
    let ids: Vec<&str> = logs[0].entries.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(ids, ["1", "2", "3", "4"]);
    let none = client.logs(Some("IML")).await.unwrap_err();
    assert!(none.cause == Cause::Guard && none.why.contains("log `IML`; it has Sel"), "{none}");
    assert_eq!(client.clear_logs(None).await, Ok(vec!["Sel".to_owned()]));
    assert_eq!(client.logs(None).await.unwrap()[0].entries.len(), 1);
}

#[tokio::test]
async fn a_log_that_is_not_cleared_is_told() {
    let desk = desk(log(), |_, _, path, _| (path == "/clear").then(|| (204, Value::Null, None))).await;
    let failure = desk.client().await.clear_logs(Some("Sel")).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored, "{failure}");
    assert!(failure.why.contains("4 entries of 4"), "{failure}");
}

fn users() -> Value {
    json!({
        "/redfish/v1/AccountService": {"MinPasswordLength": 8, "MaxPasswordLength": 20, "Accounts": {"@odata.id": "/accounts"}},
        "/accounts": {"Members": [{"@odata.id": "/accounts/1"}, {"@odata.id": "/accounts/2"}]},
        "/accounts/1": {"Id": "1", "UserName": "", "Enabled": false},
        "/accounts/2": {"Id": "2", "UserName": "root", "RoleId": "Administrator"},
    })
}

#[tokio::test]
async fn a_password_is_judged_sent_and_works() {
    let desk = desk(users(), |_, _, _, _| None).await;
    let client = desk.client().await;
    let (found, rules) = client.accounts().await.unwrap();
    assert_eq!((found.len(), rules.max_password), (1, Some(20)));
    let new = |text: &str| Secret::new(text.to_owned());
    let long = client.set_password("root", &new("a-password-of-many-characters")).await.unwrap_err();
    assert!(long.why.contains("20 at most") && desk.writes().is_empty(), "{long}");
    let nobody = client.set_password("admin", &new("battery staple")).await.unwrap_err();
    assert!(nobody.why.contains("it has root"), "{nobody}");
    client.set_password("root", &new("battery staple")).await.unwrap();
    assert_eq!(desk.writes()[0].1, "/accounts/2");
    desk.small.lock().unwrap().tree.insert("/password".into(), json!("battery staple"));
    let again = desk.client_with("battery staple").await.unwrap();
    assert!(again.power().await.is_ok());
    assert_eq!(desk.client_with(PASSWORD).await.unwrap_err().cause, Cause::Unauthorized);
}

#[tokio::test]
async fn a_refusal_that_quotes_the_password_does_not_tell_it() {
    let desk = desk(users(), |_, method, _, body| {
        let told = format!("the value {} is not good", body["Password"]);
        (method == "PATCH").then(|| (400, json!({"error": {"message": told}}), None))
    })
    .await;
    let failure = desk.client().await.set_password("root", &Secret::new("battery staple".into())).await.unwrap_err();
    assert!(failure.why.contains("[secret]") && !failure.to_string().contains("staple"), "{failure}");
}

fn firmware() -> Value {
    json!({
        "/redfish/v1/UpdateService": {"FirmwareInventory": {"@odata.id": "/fw"},
            "Actions": {"#UpdateService.SimpleUpdate": {"target": "/update", "TransferProtocol@Redfish.AllowableValues": ["HTTP"]}}},
        "/fw": {"Members": [{"@odata.id": "/fw/bmc"}]},
        "/fw/bmc": {"Id": "bmc", "Name": "BMC", "Version": "1.0", "Updateable": true},
    })
}

fn web(scheme: &str) -> Image {
    Image::Address(format!("{scheme}://h/f.bin"))
}

/// The Task is asked for three times; then it ends as `end` says, or is gone.
async fn updating(end: Option<Value>, monitor: &'static str) -> Desk {
    let mut polls = 0;
    desk(firmware(), move |tree, method, path, _| match path {
        "/update" => Some((202, json!({}), Some(monitor.to_owned()))),
        "/redfish/v1/TaskService/Tasks/3" => {
            polls += 1;
            if polls < 3 {
                return Some((200, json!({"TaskState": "Running", "PercentComplete": polls * 30}), None));
            }
            tree.insert("/fw/bmc".into(), json!({"Id": "bmc", "Name": "BMC", "Version": "1.1", "Updateable": true}));
            Some(end.clone().map_or((404, json!({}), None), |end| (200, end, None)))
        }
        _ if path.contains("Monitor") => panic!("{method} {path}: reading a monitor deletes its task"),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn an_update_is_followed_by_its_task_or_by_the_inventory() {
    let limit = Duration::from_secs(60);
    for (end, seen) in [(Some(json!({"TaskState": "Completed", "TaskStatus": "OK"})), true), (None, false)] {
        let desk = updating(end, "/redfish/v1/TaskService/TaskMonitors/3").await;
        let told = Mutex::new(Vec::new());
        let client = desk.client().await;
        let progress = |percent| told.lock().unwrap().push(percent);
        let updated = client.update_firmware(&web("http"), Some("bmc"), limit, &progress).await.unwrap();
        assert_eq!(updated.changes, ["BMC: 1.0 -> 1.1"]);
        assert_eq!((updated.task_seen_to_end, told.into_inner().unwrap()), (seen, vec![30, 60]));
        let expected = json!({"ImageURI": "http://h/f.bin", "TransferProtocol": "HTTP", "Targets": ["/fw/bmc"]});
        assert_eq!(desk.writes()[0].2, expected);
    }
}

/// Its web server is there before its services are: a good update ends well all the same.
#[tokio::test]
async fn a_bmc_that_starts_with_its_new_firmware_is_waited_for() {
    let mut starting: Option<u32> = None;
    let desk = desk(firmware(), move |tree, method, path, _| match path {
        "/update" => Some((202, json!({}), Some("/redfish/v1/TaskService/Tasks/3".to_owned()))),
        "/redfish/v1/TaskService/Tasks/3" => {
            starting = Some(0);
            tree.insert("/fw/bmc".into(), json!({"Id": "bmc", "Name": "BMC", "Version": "1.1", "Updateable": true}));
            Some((200, json!({"TaskState": "Completed", "TaskStatus": "OK"}), None))
        }
        "/redfish/v1/UpdateService" if method == "GET" => {
            let asked = starting.as_mut()?;
            *asked += 1;
            match *asked {
                1 => Some((404, json!({}), None)),
                2 => Some((500, json!({}), None)),
                _ => None,
            }
        }
        _ => None,
    })
    .await;
    let client = desk.client().await;
    let updated = client.update_firmware(&web("http"), Some("bmc"), Duration::from_secs(60), &|_| {}).await.unwrap();
    assert_eq!(updated.changes, ["BMC: 1.0 -> 1.1"]);
}

#[tokio::test]
async fn an_update_that_fails_says_what_the_bmc_said() {
    let end = json!({"TaskState": "Exception", "Messages": [{"Message": "signature is wrong"}]});
    let desk = updating(Some(end), "/redfish/v1/TaskService/Tasks/3/Monitor").await;
    let client = desk.client().await;
    let failure = client.update_firmware(&web("http"), None, Duration::from_secs(60), &|_| {}).await.unwrap_err();
    assert!(failure.why.contains("signature is wrong"), "{failure}");
    let scheme = client.update_firmware(&web("https"), None, Duration::from_secs(60), &|_| {}).await.unwrap_err();
    assert!(scheme.why.contains("fetches over HTTP, not HTTPS"), "{scheme}");
}

#[tokio::test]
async fn a_file_is_sent_whole_and_within_the_limit() {
    let mut tree = firmware();
    let service = json!({"MultipartHttpPushUri": "/push", "MaxImageSizeBytes": 300_000, "FirmwareInventory": {"@odata.id": "/fw"}});
    tree["/redfish/v1/UpdateService"] = service;
    let desk = desk(tree, |tree, method, path, body| {
        (path == "/push" && method == "POST").then(|| {
            let version = format!("of {} bytes", body["bytes"]);
            tree.insert("/fw/bmc".into(), json!({"Id": "bmc", "Name": "BMC", "Version": version, "Updateable": true}));
            (200, json!({}), None)
        })
    })
    .await;
    let client = desk.client().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bmc.bin");
    std::fs::write(&file, vec![1; 200_000]).unwrap();
    let limit = Duration::from_secs(30);
    let updated = client.update_firmware(&Image::File(file.clone()), Some("bmc"), limit, &|_| {}).await.unwrap();
    let length = desk.writes()[0].2["bytes"].as_u64().unwrap();
    assert!(length > 200_000 && length < 201_000, "{length}");
    assert_eq!(updated.changes, [format!("BMC: 1.0 -> of {length} bytes")]);
    std::fs::write(&file, vec![1; 300_001]).unwrap();
    let large = client.update_firmware(&Image::File(file), None, limit, &|_| {}).await.unwrap_err();
    assert!(large.why.contains("has 300001 bytes; this BMC takes 1 to 300000"), "{large}");
    assert_eq!(desk.writes().len(), 1);
}

fn storage() -> Value {
    json!({
        format!("{SYSTEM}/Storage"): {"Members": [{"@odata.id": "/st"}]},
        "/st": {"Id": "R1", "Volumes": {"@odata.id": "/st/Volumes"}, "Drives": [{"@odata.id": "/d/a"}, {"@odata.id": "/d/b"}]},
        "/st/Volumes": {"Members": []},
        "/d/a": {"Id": "a", "SerialNumber": "SA", "CapacityBytes": 1000},
        "/d/b": {"Id": "b", "SerialNumber": "SB", "CapacityBytes": 1000},
    })
}

#[tokio::test]
async fn a_volume_is_made_listed_and_deleted() {
    let desk = desk(storage(), |tree, method, path, body| match (method, path) {
        ("POST", "/st/Volumes") => {
            let mut volume = body.clone();
            merge(&mut volume, &json!({"Id": "v1", "CapacityBytes": 1000}));
            tree.insert("/st/Volumes/v1".into(), volume);
            tree.insert("/st/Volumes".into(), json!({"Members": [{"@odata.id": "/st/Volumes/v1"}]}));
            Some((201, json!({}), Some("/st/Volumes/v1".into())))
        }
        ("DELETE", "/st/Volumes/v1") => {
            tree.remove("/st/Volumes/v1");
            tree.insert("/st/Volumes".into(), json!({"Members": []}));
            Some((204, Value::Null, None))
        }
        _ => None,
    })
    .await;
    let client = desk.client().await;
    let limit = Duration::from_secs(20);
    let wish = Wish { raid: "RAID1".into(), drives: vec!["SA".into(), "b".into()], name: Some("os".into()) };
    let made = client.create_volume(&wish, limit).await.unwrap();
    assert_eq!((made.id.as_str(), made.raid.as_deref(), made.drives.len()), ("v1", Some("RAID1"), 2));
    let again = client.create_volume(&wish, limit).await.unwrap_err();
    assert!(again.why.contains("in use by volume v1"), "{again}");
    assert!(client.delete_volume("os2", limit).await.unwrap_err().why.contains("it has: v1"));
    client.delete_volume("os", limit).await.unwrap();
    assert_eq!(desk.writes().iter().map(|w| w.0.as_str()).collect::<Vec<_>>(), ["POST", "DELETE"]);
}

#[tokio::test]
async fn the_bmc_restarts_or_is_told_not_to_have() {
    let mut away = 0;
    let restarting = desk(json!({}), move |_, _, path, _| match path {
        "/restart" => {
            away = 3;
            Some((204, Value::Null, None))
        }
        _ if away > 0 => {
            away -= 1;
            Some((503, json!({}), None))
        }
        _ => None,
    })
    .await;
    restarting.client().await.restart_bmc(Duration::from_secs(30)).await.unwrap();
    assert_eq!(restarting.writes()[0].2, json!({"ResetType": "ForceRestart"}));
    // Back before anybody looks: its own mark tells.
    let quick = desk(json!({}), |tree, _, path, _| {
        (path == "/restart").then(|| {
            merge(tree.get_mut(MANAGER).unwrap(), &json!({"LastResetTime": "2026-01-02T00:00:00Z"}));
            (204, Value::Null, None)
        })
    })
    .await;
    merge(
        quick.small.lock().unwrap().tree.get_mut(MANAGER).unwrap(),
        &json!({"LastResetTime": "2026-01-01T00:00:00Z"}),
    );
    quick.client().await.restart_bmc(Duration::from_secs(5)).await.unwrap();
    let lying = desk(json!({}), |_, _, path, _| (path == "/restart").then(|| (204, Value::Null, None))).await;
    let failure = lying.client().await.restart_bmc(Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored, "{failure}");
}

/// A busy answer is no absence.
#[tokio::test]
async fn a_restart_that_was_ignored_is_not_told_from_one_busy_answer() {
    let mut busy = 0;
    let desk = desk(json!({}), move |_, _, path, _| match path {
        "/restart" => {
            busy = 1;
            Some((204, Value::Null, None))
        }
        MANAGER if busy > 0 => {
            busy -= 1;
            Some((503, json!({}), None))
        }
        _ => None,
    })
    .await;
    let failure = desk.client().await.restart_bmc(Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored, "{failure}");
    assert!(failure.why.contains("took `ForceRestart` and has answered all the time"), "{failure}");
}

#[tokio::test]
async fn the_word_of_a_restart_is_one_that_is_offered_or_the_next_where_it_is_refused() {
    let restarting = |tree: &mut crate::small::Tree| {
        merge(tree.get_mut(MANAGER).unwrap(), &json!({"LastResetTime": "2026-01-02T00:00:00Z"}));
        Some((204, Value::Null, None))
    };
    // Said in a resource of its own.
    let info = json!({"/info": {"Parameters": [{"Name": "ResetType", "AllowableValues": ["ForceRestart"]}]}});
    let told = desk(info, move |tree, _, path, _| if path == "/restart" { restarting(tree) } else { None }).await;
    // Said nowhere: the milder word is refused.
    let silent = desk(json!({}), move |tree, _, path, body| match (path, body["ResetType"].as_str()) {
        ("/restart", Some("GracefulRestart")) => Some((400, json!({"error": {"message": "no such word"}}), None)),
        ("/restart", _) => restarting(tree),
        _ => None,
    })
    .await;
    let action = |info| json!({"target": "/restart", "@Redfish.ActionInfo": info});
    for (desk, action, words) in [
        (told, action(json!("/info")), &["ForceRestart"][..]),
        (silent, action(Value::Null), &["GracefulRestart", "ForceRestart"]),
    ] {
        {
            let mut small = desk.small.lock().unwrap();
            let manager = small.tree.get_mut(MANAGER).unwrap();
            manager["Actions"]["#Manager.Reset"] = action;
            manager["LastResetTime"] = json!("2026-01-01T00:00:00Z");
        }
        desk.client().await.restart_bmc(Duration::from_secs(5)).await.unwrap();
        let sent: Vec<_> = desk.writes().iter().map(|w| w.2["ResetType"].as_str().unwrap().to_owned()).collect();
        assert_eq!(sent, words);
    }
}

/// Neither Location nor a body: the session is looked for, and ended only where it cannot be another's.
#[tokio::test]
async fn a_session_without_an_address_is_ended_all_the_same() {
    const SESSIONS: &str = "/redfish/v1/Sessions";
    for others in [false, true] {
        let tree = json!({
            "/token": "t0ken",
            SESSIONS: {"Members": if others {
                json!([{"@odata.id": format!("{SESSIONS}/7")}, {"@odata.id": format!("{SESSIONS}/8")}])
            } else {
                json!([{"@odata.id": format!("{SESSIONS}/7")}])
            }},
            format!("{SESSIONS}/7"): {"Id": "7", "UserName": "root"},
            format!("{SESSIONS}/8"): {"Id": "8", "UserName": "root"},
        });
        let desk = desk(tree, |_, method, _, _| (method == "DELETE").then(|| (204, Value::Null, None))).await;
        desk.small.lock().unwrap().tree.get_mut("/redfish/v1").unwrap()["Links"] =
            json!({"Sessions": {"@odata.id": SESSIONS}});
        let closed = desk.client().await.close().await;
        let deleted: Vec<_> = desk.writes().into_iter().filter(|w| w.0 == "DELETE").map(|w| w.1).collect();
        match others {
            false => assert_eq!((closed, deleted), (Ok(()), vec![format!("{SESSIONS}/7")])),
            true => {
                assert!(closed.unwrap_err().why.contains("cannot be told from others"));
                assert_eq!(deleted, Vec::<String>::new());
            }
        }
    }
}

/// What a BMC could not give is not the same as what it has not.
#[tokio::test]
async fn drives_that_could_not_be_read_are_told() {
    let broken = desk(storage(), |_, _, path, _| (path == "/d/b").then(|| (500, json!({}), None))).await;
    let facts = broken.client().await.facts().await.unwrap();
    assert_eq!(facts.drives.len(), 1);
    assert_eq!(facts.unread, ["/d/b: HTTP 500"]);
    let storage = format!("{SYSTEM}/Storage");
    let closed = desk(json!({}), move |_, _, path, _| (path == storage).then(|| (403, json!({}), None))).await;
    let client = closed.client().await;
    let facts = client.facts().await.unwrap();
    assert!(facts.drives_unread() && facts.drives.is_empty());
    assert_eq!(facts.unread, [format!("{SYSTEM}/Storage: user `root` may not do this (HTTP 403)")]);
    // A 404 is an answer: there is none.
    let none = desk(json!({}), |_, _, _, _| None).await;
    assert_eq!(none.client().await.facts().await.unwrap().unread, Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupt_is_sent_once_and_only_where_it_is_offered() {
    let desk = desk(json!({}), |_, _, path, _| (path == "/reset").then(|| (204, Value::Null, None))).await;
    desk.client().await.nmi().await.unwrap();
    assert_eq!(desk.writes(), [("POST".to_owned(), "/reset".to_owned(), json!({"ResetType": "Nmi"}))]);
    let without = json!({"target": "/reset", "ResetType@Redfish.AllowableValues": ["On", "ForceOff"]});
    desk.small.lock().unwrap().tree.get_mut(SYSTEM).unwrap()["Actions"]["#ComputerSystem.Reset"] = without;
    let failure = desk.client().await.nmi().await.unwrap_err();
    assert!(failure.cause == Cause::Guard && failure.why.contains("it has On, ForceOff"), "{failure}");
    let shot = desk.client().await.screenshot().await.err().map(|f| f.why);
    assert_eq!(shot.as_deref(), Some("this BMC offers no screenshot over Redfish (looked at /redfish/v1/Managers/1)"));
}

#[tokio::test]
async fn a_certificate_goes_where_the_https_servers_is() {
    let https = format!("{MANAGER}/NetworkProtocol/HTTPS/Certificates");
    let mut resources = json!({
        "/redfish/v1/CertificateService": {"Actions": {"#CertificateService.ReplaceCertificate": {"target": "/replace"}}},
        https.clone(): {"Members": [{"@odata.id": format!("{https}/1")}]},
        format!("{https}/1"): {"Id": "1", "Subject": {"CommonName": "bmc"}, "ValidNotAfter": "2030-01-01T00:00:00Z"},
        format!("{MANAGER}/NetworkProtocol"): {"HTTPS": {"Certificates": {"@odata.id": https}}},
    });
    let mut whole = tree(json!({}));
    whole.get_mut("/redfish/v1").unwrap()["CertificateService"] =
        json!({"@odata.id": "/redfish/v1/CertificateService"});
    whole.get_mut(MANAGER).unwrap()["NetworkProtocol"] = json!({"@odata.id": format!("{MANAGER}/NetworkProtocol")});
    merge(&mut resources, &serde_json::to_value(whole).unwrap());
    let mut refuses = true;
    let desk = desk(resources, move |_, _, path, body| {
        (path == "/replace").then(|| {
            if std::mem::take(&mut refuses) {
                return (400, json!({"error": {"message": format!("not good: {}", body["CertificateString"])}}), None);
            }
            (204, Value::Null, None)
        })
    })
    .await;
    let client = desk.client().await;
    let found = client.certificates().await.unwrap();
    assert_eq!((found[0].subject.as_deref(), found[0].https), (Some("bmc"), true));
    let pem = Secret::new("-----BEGIN PRIVATE KEY-----".into());
    let refused = client.replace_certificate(&pem).await.unwrap_err();
    assert!(refused.why.contains("HTTP 400") && !refused.to_string().contains("PRIVATE"), "{refused}");
    client.replace_certificate(&pem).await.unwrap();
    assert!(desk.writes()[1].2["CertificateUri"]["@odata.id"].as_str().unwrap().ends_with("/HTTPS/Certificates/1"));
    let made = certificate("other", None).unwrap();
    assert_eq!(rackctl::bmc::certificates::pin_of_pem(&made.cert_pem), Ok(made.pin));
}

/// iDRAC: sixteen places, of which the first is nobody's, and nothing is made or deleted.
#[tokio::test(flavor = "multi_thread")]
async fn where_accounts_are_places_an_empty_one_is_filled_and_emptied() {
    let place = |user: &str, role: &str| json!({"UserName": user, "RoleId": role, "Enabled": !user.is_empty()});
    let with_id = |id: &str, mut place: Value| {
        place["Id"] = json!(id);
        place
    };
    let dell = json!({
        "/redfish/v1": {"RedfishVersion": "1.15.0", "Vendor": "Dell", "Systems": {"@odata.id": "/redfish/v1/Systems"},
            "AccountService": {"@odata.id": "/redfish/v1/AccountService"}},
        "/redfish/v1/AccountService": {"Accounts": {"@odata.id": "/accounts"}},
        "/accounts": {"Members": [{"@odata.id": "/accounts/1"}, {"@odata.id": "/accounts/2"}, {"@odata.id": "/accounts/3"}]},
        "/accounts/1": with_id("1", place("", "None")),
        "/accounts/2": with_id("2", place("root", "Administrator")),
        "/accounts/3": with_id("3", place("", "None")),
    });
    let desk = desk(dell, |_, method, _, _| matches!(method, "POST" | "DELETE").then(|| (405, json!({}), None))).await;
    let client = desk.client().await;
    let password = Secret::new("battery staple 7".into());
    client.create_user("ops", "Operator", &password).await.unwrap();
    {
        let tree = &desk.small.lock().unwrap().tree;
        assert_eq!(tree["/accounts/3"]["UserName"], "ops");
        assert_eq!(tree["/accounts/3"]["RoleId"], "Operator");
        assert_eq!(tree["/accounts/1"]["UserName"], "", "nobody's stays nobody's");
    }
    let full = client.create_user("more", "ReadOnly", &password).await.unwrap_err();
    assert_eq!(full.cause, Cause::Guard);
    assert!(full.why.contains("free place for an account"), "{full}");
    client.delete_user("ops").await.unwrap();
    assert_eq!(desk.small.lock().unwrap().tree["/accounts/3"]["UserName"], "");
    let gone = client.delete_user("ops").await.unwrap_err();
    assert!(gone.why.contains("no such user; it has root"), "{gone}");
}

/// Taken with 200 and not done: found by reading back.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_do_not_change_are_told() {
    let users = json!({
        "/redfish/v1/AccountService": {"Accounts": {"@odata.id": "/accounts"}},
        "/accounts": {"Members": [{"@odata.id": "/accounts/2"}]},
        "/accounts/2": {"Id": "2", "UserName": "ops", "RoleId": "Operator", "Enabled": true, "Locked": true},
    });
    let desk = desk(users, |_, method, _, _| (method != "GET").then(|| (200, json!({}), None))).await;
    let client = desk.client().await;
    let password = Secret::new("battery staple 7".into());
    let failures = [
        client.create_user("new", "Operator", &password).await.unwrap_err(),
        client.delete_user("ops").await.unwrap_err(),
        client.enable_user("ops", false).await.unwrap_err(),
        client.unlock_user("ops").await.unwrap_err(),
    ];
    for failure in failures {
        assert_eq!(failure.cause, Cause::AcceptedButIgnored, "{failure}");
    }
    let before = desk.writes().len();
    client.enable_user("ops", true).await.unwrap();
    assert_eq!(desk.writes().len(), before, "it is so already");
}
