//! A small BMC of a test's own: a tree of resources behind TLS and Basic auth, that can be told to lie.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request as Asked, Response, StatusCode},
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rackctl::{
    bmc::{Login, NoLedger, Options, client::Client},
    lab::bmc::certificate,
    model::{
        Failure, Secret,
        fleet::{Node, Trust},
    },
};
use serde_json::{Value, json};

pub const PASSWORD: &str = "correct horse";

fn node(url: &str, pin: &str) -> Node {
    let endpoint = json!({ "at": { "redfish": url }, "credential": "lab", "trust": { "pin": pin } });
    serde_json::from_value(json!({
        "name": "n1", "labels": {}, "site": null, "hardwareClass": null, "profile": null, "lifecycle": "active",
        "management": "full", "protect": false, "identity": {"serial": null, "uuid": null, "serialFrom": "serialNumber"},
        "bmc": {"endpoints": [endpoint], "system": null, "mac": null, "sharedNic": false},
        "interfaces": [], "disks": {}, "location": {}, "arch": "amd64", "bootMode": "uefi", "bootMethod": "pxe",
        "console": null, "minimum": {}, "image": null, "kernelParams": [], "install": null, "services": [],
        "ssh": {"user": null, "identity": null, "authorizedKeys": []}, "dns": []
    }))
    .unwrap()
}

pub type Tree = BTreeMap<String, Value>;
/// Status, body and Location of an answer; `None`: the tree answers by itself.
pub type Said = Option<(u16, Value, Option<String>)>;
type Hook = Box<dyn FnMut(&mut Tree, &str, &str, &Value) -> Said + Send>;

pub struct Small {
    pub tree: Tree,
    hook: Hook,
    /// Every write: method, path, body.
    pub writes: Vec<(String, String, Value)>,
}

/// A BMC of a few resources behind Basic auth.
pub struct Desk {
    pub small: Arc<Mutex<Small>>,
    pub node: Node,
    pub url: String,
    pub pin: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub const SYSTEM: &str = "/redfish/v1/Systems/1";
pub const MANAGER: &str = "/redfish/v1/Managers/1";

pub fn tree(more: Value) -> Tree {
    let mut tree: Tree = serde_json::from_value(json!({
        "/redfish/v1": {"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/redfish/v1/Systems"},
            "Managers": {"@odata.id": "/redfish/v1/Managers"}, "AccountService": {"@odata.id": "/redfish/v1/AccountService"},
            "UpdateService": {"@odata.id": "/redfish/v1/UpdateService"}},
        // That of `root`; hooks may change it.
        "/password": PASSWORD,
        "/redfish/v1/Systems": {"Members": [{"@odata.id": SYSTEM}]},
        "/redfish/v1/Managers": {"Members": [{"@odata.id": MANAGER}]},
        SYSTEM: {"Id": "1", "PowerState": "On", "Bios": {"@odata.id": format!("{SYSTEM}/Bios")},
            "Storage": {"@odata.id": format!("{SYSTEM}/Storage")}, "LogServices": {"@odata.id": format!("{SYSTEM}/LogServices")},
            "Links": {"ManagedBy": [{"@odata.id": MANAGER}]},
            "Actions": {"#ComputerSystem.Reset": {"target": "/reset", "ResetType@Redfish.AllowableValues": ["On", "Nmi"]}}},
        MANAGER: {"Id": "1", "VirtualMedia": {"@odata.id": format!("{MANAGER}/VirtualMedia")},
            "Actions": {"#Manager.Reset": {"target": "/restart", "ResetType@Redfish.AllowableValues": ["ForceRestart"]}}},
    }))
    .unwrap();
    tree.extend(serde_json::from_value::<Tree>(more).unwrap());
    tree
}

pub fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.iter().for_each(|(key, value)| merge(into.entry(key.clone()).or_insert(Value::Null), value));
        }
        (into, from) => *into = from.clone(),
    }
}

async fn answer(small: Arc<Mutex<Small>>, asked: Asked<Body>) -> Response<Body> {
    let (parts, body) = asked.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    // What is no JSON is a file on its way.
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!({"bytes": bytes.len()}));
    let (method, path) = (parts.method.to_string(), parts.uri.path().trim_end_matches('/').to_owned());
    let mut small = small.lock().unwrap();
    let reply = |status: u16, body: Value, location: Option<String>| {
        let mut reply = Response::builder().status(StatusCode::from_u16(status).unwrap());
        if let Some(location) = location {
            reply = reply.header("Location", location);
        }
        reply.body(Body::from(body.to_string())).unwrap()
    };
    let given = parts.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    use base64::Engine;
    let wanted =
        base64::engine::general_purpose::STANDARD.encode(format!("root:{}", small.tree["/password"].as_str().unwrap()));
    // One that has sessions says what its token is; its answer to a log-in says nothing else.
    let token = small.tree.get("/token").and_then(Value::as_str).map(str::to_owned);
    let shown = parts.headers.get("x-auth-token").and_then(|v| v.to_str().ok()).map(str::to_owned);
    if let (Some(token), "POST", "/redfish/v1/Sessions") = (&token, method.as_str(), path.as_str()) {
        small.writes.push((method, path, json!({"Context": body["Context"]})));
        return Response::builder().status(201).header("X-Auth-Token", token).body(Body::from("{}")).unwrap();
    }
    let known = given == format!("Basic {wanted}") || (token.is_some() && shown == token);
    if path != "/redfish/v1" && !known {
        return reply(401, json!({}), None);
    }
    if method != "GET" {
        if method == "PATCH" && small.tree.get(&path).is_some_and(|r| r.get("@odata.etag").is_some()) {
            let tag = small.tree[&path]["@odata.etag"].as_str().unwrap().to_owned();
            if parts.headers.get("if-match").and_then(|v| v.to_str().ok()) != Some(tag.as_str()) {
                return reply(428, json!({}), None);
            }
        }
        small.writes.push((method.clone(), path.clone(), body.clone()));
    }
    let Small { tree, hook, .. } = &mut *small;
    if let Some((status, body, location)) = hook(tree, &method, &path, &body) {
        return reply(status, body, location);
    }
    match (method.as_str(), tree.get_mut(&path)) {
        ("GET", Some(resource)) => reply(200, resource.clone(), None),
        ("PATCH", Some(resource)) => {
            merge(resource, &body);
            reply(200, resource.clone(), None)
        }
        _ => reply(404, json!({"error": {"message": "no such thing"}}), None),
    }
}

pub async fn desk(more: Value, hook: impl FnMut(&mut Tree, &str, &str, &Value) -> Said + Send + 'static) -> Desk {
    let small = Small { tree: tree(more), hook: Box::new(hook), writes: Vec::new() };
    let small = Arc::new(Mutex::new(small));
    let certificate = certificate("small", None).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(certificate.server_config().unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let shared = small.clone();
    let router = Router::new().fallback(move |asked: Asked<Body>| answer(shared.clone(), asked));
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Desk { small, node: node(&url, &certificate.pin), url, pin: certificate.pin, task }
}

impl Desk {
    pub async fn client(&self) -> Client {
        self.client_with(PASSWORD).await.unwrap()
    }
    pub async fn client_with(&self, password: &str) -> Result<Client, Failure> {
        let options = Options {
            read_only: false,
            deadline: Duration::from_secs(30),
            ledger: Arc::new(NoLedger),
            observer: None,
            gate: None,
        };
        let login = Login::new("root", Arc::new(Secret::new(password.into())));
        let trust = Trust::Pin(self.pin.clone());
        Client::open(&self.node, &self.url, &trust, &login, &options).await
    }
    pub fn writes(&self) -> Vec<(String, String, Value)> {
        self.small.lock().unwrap().writes.clone()
    }
}
