//! What the resources are: state that changes as a client says, over the wire.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::bmc::tls::probe_pin;

const SYSTEM: &str = "/redfish/v1/Systems/1";
const INVENTORY: &str = "/redfish/v1/UpdateService/FirmwareInventory";

/// Speaks HTTP to a bench, as its only account.
struct Speaker<'a>(&'a Bench, reqwest::Client);

impl<'a> Speaker<'a> {
    fn new(bench: &'a Bench) -> Self {
        let config = crate::bmc::tls::config("n1", &Trust::Pin(bench.pin.clone())).unwrap().0;
        Speaker(bench, reqwest::Client::builder().use_preconfigured_tls(config).no_proxy().build().unwrap())
    }
    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.0.url());
        let request = self.1.request(method.parse().unwrap(), url).basic_auth("root", Some(PASSWORD));
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }
    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, body).await
    }
    /// Until a task is over; its state.
    async fn over(&self, task: &Value) -> String {
        let path = task["@odata.id"].as_str().unwrap();
        for _ in 0..200 {
            let state = self.get(path).await["TaskState"].as_str().unwrap().to_owned();
            if state != "Running" {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{path} does not end")
    }
    async fn restart(&self) {
        let boots = self.0.bmc.chassis().boots().len();
        let word = if boots == 0 { "On" } else { "PowerCycle" };
        let reset = format!("{SYSTEM}/Actions/ComputerSystem.Reset");
        assert_eq!(self.post(&reset, json!({ "ResetType": word })).await.0, 204);
        for _ in 0..200 {
            if self.0.bmc.chassis().boots().len() > boots && self.get(SYSTEM).await["PowerState"] == "On" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it does not start")
    }
}

fn fast() -> Faults {
    Faults::parse(["power-lag=20ms", "power-off-time=20ms", "task-time=100ms"]).unwrap()
}

#[tokio::test]
async fn firmware_changes_after_its_task_and_a_bios_at_the_next_start() {
    let bench = bench(fast()).await;
    let bmc = Speaker::new(&bench);
    let update = "/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate";
    let image =
        |name: &str, target: &str| json!({ "ImageURI": format!("http://192.0.2.1/{name}"), "Targets": [target] });
    let (status, task) = bmc.post(update, image("nic-2.5.1.bin", &format!("{INVENTORY}/NIC1"))).await;
    assert_eq!(status, 202, "{task}");
    assert_eq!(bmc.get(&format!("{INVENTORY}/NIC1")).await["Version"], "1.0.0", "not before its task is over");
    assert_eq!(bmc.over(&task).await, "Completed");
    assert_eq!(bmc.get(&format!("{INVENTORY}/NIC1")).await["Version"], "2.5.1");
    let (_, task) = bmc.post(update, image("bios-9.8.7.bin", SYSTEM)).await;
    assert_eq!(bmc.over(&task).await, "Completed");
    assert_eq!(bmc.get(SYSTEM).await["BiosVersion"], "edk2", "it is not started yet");
    bmc.restart().await;
    assert_eq!(bmc.get(SYSTEM).await["BiosVersion"], "9.8.7");
    assert_eq!(bmc.post(update, image("readme.txt", SYSTEM)).await.0, 400);
    // The same by a push.
    let form = "--X\r\nContent-Disposition: form-data; name=\"UpdateParameters\"\r\n\r\n{}\r\n--X\r\n\
        Content-Disposition: form-data; name=\"UpdateFile\"; filename=\"bmc-3.2.1.bin\"\r\n\r\nimage\r\n--X--\r\n";
    let uri = bmc.get("/redfish/v1/UpdateService").await["MultipartHttpPushUri"].as_str().unwrap().to_owned();
    let request = bmc.1.post(format!("{}{uri}", bench.url())).basic_auth("root", Some(PASSWORD));
    let request = request.header("content-type", "multipart/form-data; boundary=X").body(form);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let task: Value = answer.json().await.unwrap();
    assert_eq!(bmc.over(&task).await, "Completed");
    assert_eq!(bmc.get("/redfish/v1/Managers/1").await["FirmwareVersion"], "3.2.1");
}

#[tokio::test]
async fn bios_attributes_wait_for_the_next_start() {
    let bench = bench(fast()).await;
    let bmc = Speaker::new(&bench);
    let settings = bmc.get(&format!("{SYSTEM}/Bios")).await["@Redfish.Settings"]["SettingsObject"]["@odata.id"].clone();
    let patch = json!({ "Attributes": { "SriovGlobalEnable": "Enabled" }, "@Redfish.SettingsApplyTime": { "ApplyTime": "OnReset" } });
    assert_eq!(bmc.ask("PATCH", settings.as_str().unwrap(), patch).await.0, 200);
    let now = async || bmc.get(&format!("{SYSTEM}/Bios")).await["Attributes"]["SriovGlobalEnable"].clone();
    assert_eq!(now().await, "Disabled");
    bmc.restart().await;
    assert_eq!(now().await, "Enabled");
    assert_eq!(bmc.get(settings.as_str().unwrap()).await["Attributes"], json!({}), "nothing is pending any more");
    let wrong = json!({ "Attributes": { "SriovGlobalEnable": "Perhaps" } });
    assert_eq!(bmc.ask("PATCH", settings.as_str().unwrap(), wrong).await.0, 400);
}

#[tokio::test]
async fn volumes_are_made_of_drives_that_are_there() {
    let bench = bench(fast()).await;
    let bmc = Speaker::new(&bench);
    let volumes = format!("{SYSTEM}/Storage/1/Volumes");
    let (status, why) = bmc.post(&volumes, json!({ "RAIDType": "RAID1" })).await;
    assert_eq!(status, 400, "one drive is no mirror: {why}");
    let (status, task) = bmc.post(&volumes, json!({ "RAIDType": "RAID0", "Name": "boot" })).await;
    assert_eq!((status, bmc.over(&task).await.as_str()), (202, "Completed"));
    let volume = bmc.get(&format!("{volumes}/1")).await;
    assert_eq!((&volume["CapacityBytes"], &volume["Name"]), (&json!(8u64 << 30), &json!("boot")));
    assert_eq!(bmc.post(&volumes, json!({ "RAIDType": "RAID0" })).await.0, 400, "its drive is used");
    let (status, task) = bmc.ask("DELETE", &format!("{volumes}/1"), Value::Null).await;
    assert_eq!((status, bmc.over(&task).await.as_str()), (202, "Completed"));
    assert_eq!(bmc.get(&volumes).await["Members@odata.count"], 0);
}

#[tokio::test]
async fn a_replaced_certificate_serves() {
    let bench = bench(fast()).await;
    let bmc = Speaker::new(&bench);
    let service = "/redfish/v1/CertificateService/Actions/CertificateService";
    let list = "/redfish/v1/Managers/1/NetworkProtocol/HTTPS/Certificates";
    let csr = json!({ "CommonName": "bmc.example", "CertificateCollection": { "@odata.id": list } });
    let (status, answer) = bmc.post(&format!("{service}.GenerateCSR"), csr).await;
    assert!(status == 200 && answer["CSRString"].as_str().unwrap().contains("CERTIFICATE REQUEST"), "{answer}");
    let other = certificate("other", None).unwrap();
    let replace = |text: String| json!({ "CertificateString": text, "CertificateType": "PEM", "CertificateUri": { "@odata.id": format!("{list}/1") } });
    // One that does not belong to the key that was made for the request.
    assert_eq!(bmc.post(&format!("{service}.ReplaceCertificate"), replace(other.cert_pem.clone())).await.0, 400);
    let both = format!("{}{}", other.cert_pem, other.key_pem.expose());
    assert_eq!(bmc.post(&format!("{service}.ReplaceCertificate"), replace(both)).await.0, 204);
    assert_eq!(probe_pin(&bench.url()).await.unwrap(), other.pin);
    assert_eq!(bench.bmc.replaced_pin(), Some(other.pin));
    let shown = bench.bmc.state().docs.body(&format!("{list}/1")).unwrap()["CertificateString"].clone();
    assert!(!shown.to_string().contains("PRIVATE"), "its key is not shown");
}

#[tokio::test]
async fn accounts_lock_and_forget_and_passwords_change() {
    let bench = bench(fast()).await;
    let bmc = Speaker::new(&bench);
    let accounts = "/redfish/v1/AccountService/Accounts";
    let new = json!({ "UserName": "op", "Password": "first-pass-1", "RoleId": "ReadOnly" });
    let (status, made) = bmc.post(accounts, new).await;
    assert_eq!((status, &made["Password"]), (201, &Value::Null), "a password is never shown");
    let path = made["@odata.id"].as_str().unwrap();
    let status = async |password: &str, method: &str| {
        let request = bmc.1.request(method.parse().unwrap(), format!("{}{SYSTEM}", bench.url()));
        request
            .basic_auth("op", Some(password))
            .json(&json!({ "AssetTag": "x" }))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!((status("first-pass-1", "GET").await, status("first-pass-1", "PATCH").await), (200, 403));
    assert_eq!(bmc.ask("PATCH", path, json!({ "Password": "second-pass-1" })).await.0, 200);
    assert_eq!((status("first-pass-1", "GET").await, status("second-pass-1", "GET").await), (401, 200));
    let rules =
        json!({ "AccountLockoutThreshold": 2, "AccountLockoutDuration": 60, "AccountLockoutCounterResetAfter": 1 });
    assert_eq!(bmc.ask("PATCH", "/redfish/v1/AccountService", rules).await.0, 200);
    status("wrong", "GET").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    status("wrong", "GET").await;
    assert_eq!(bench.bmc.locked_accounts(), Vec::<String>::new(), "the first one is forgotten");
    status("wrong", "GET").await;
    assert_eq!((bench.bmc.locked_accounts(), status("second-pass-1", "GET").await), (vec!["op".to_owned()], 401));
    assert_eq!(bmc.get(path).await["Locked"], true);
    assert_eq!(bmc.ask("PATCH", path, json!({ "Locked": false })).await.0, 200);
    assert_eq!(status("second-pass-1", "GET").await, 200);
    assert_eq!(bmc.ask("DELETE", path, Value::Null).await.0, 204);
    assert_eq!(status("second-pass-1", "GET").await, 401);
}

#[tokio::test]
async fn events_reach_the_stream_and_a_subscriber() {
    let bench = bench(fast()).await;
    let bmc = Speaker::new(&bench);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/events", listener.local_addr().unwrap());
    let subscriptions = "/redfish/v1/EventService/Subscriptions";
    let (status, made) =
        bmc.post(subscriptions, json!({ "Destination": to, "Protocol": "Redfish", "Context": "ours" })).await;
    assert_eq!(status, 201, "{made}");
    let mut stream = bmc
        .1
        .get(format!("{}/redfish/v1/EventService/SSE", bench.url()))
        .basic_auth("root", Some(PASSWORD))
        .send()
        .await
        .unwrap();
    assert_eq!(bmc.get(subscriptions).await["Members@odata.count"], 2);
    let test = "/redfish/v1/EventService/Actions/EventService.SubmitTestEvent";
    assert_eq!(bmc.post(test, json!({ "MessageId": "Base.1.18.Success", "Message": "hello there" })).await.0, 204);
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut got = vec![0; 8192];
    let mut text = String::new();
    while !text.contains("hello there") {
        let read = socket.read(&mut got).await.unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&got[..read]));
    }
    socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert!(text.starts_with("POST /events") && text.contains(r#""Context":"ours""#), "{text}");
    let mut streamed = String::new();
    while !streamed.contains("hello there") {
        streamed.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
    }
    drop(stream);
    for _ in 0..100 {
        if bmc.get(subscriptions).await["Members@odata.count"] == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a stream that was closed is still a subscription");
}

#[tokio::test]
async fn logs_are_cleared_and_collections_are_expanded() {
    let bench = bench(fast()).await;
    let bmc = Speaker::new(&bench);
    let log = "/redfish/v1/Managers/1/LogServices/SEL";
    assert_eq!(bmc.get(&format!("{log}/Entries")).await["Members"].as_array().unwrap().len(), 3);
    assert_eq!(bmc.post(&format!("{log}/Actions/LogService.ClearLog"), json!({})).await.0, 204);
    let left = bmc.get(&format!("{log}/Entries")).await;
    assert_eq!(left["Members"][0]["Message"], "the log was cleared");
    let expanded = bmc.get(&format!("{SYSTEM}/EthernetInterfaces?$expand=.($levels=1)")).await;
    assert_eq!(expanded["Members"][1]["MACAddress"], "52:54:00:00:00:02");
    let chosen = bmc.get(&format!("{SYSTEM}?$select=PowerState")).await;
    assert!(chosen.get("PowerState").is_some() && chosen.get("Boot").is_none());
    assert_eq!(bmc.get("/redfish/v1/Systems?only").await["Id"], "1");
}
