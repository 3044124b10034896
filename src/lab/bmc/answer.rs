//! HTTP in, HTTP out: who asks, what for, may they; then the resource or the action.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Bmc, LogEntry,
    chassis::Chassis,
    power::{self, RESET_TYPES, ResetKind, Taken},
    resources::{self, SESSIONS, SYSTEM},
};
use crate::bmc::{
    read::boot_target,
    redfish::{
        json::read,
        wire::{self, BootPatch, EnabledWord, LogIn, ModeWord, ResetRequest},
    },
};

/// Bodies of requests.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Marks a response that is not to reach its client.
#[derive(Clone)]
pub struct Lost;

pub fn router<C: Chassis>(bmc: Arc<Bmc<C>>) -> Router {
    Router::new().fallback(handle::<C>).with_state(bmc)
}

async fn handle<C: Chassis>(State(bmc): State<Arc<Bmc<C>>>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let user = bmc.user(request.headers());
    let token = request.headers().get("x-auth-token").and_then(|v| v.to_str().ok());
    // Before the answer: a log-out ends the session that it came with.
    let session = token.and_then(|token| bmc.state().sessions.of(token).cloned());
    let (session, context) = session.map_or((None, None), |s| (Some(s.id), s.context));
    let response = answer(&bmc, request, user.as_deref()).await;
    bmc.record(LogEntry {
        at: SystemTime::now(),
        method: method.to_string(),
        path,
        status: response.status().as_u16(),
        user,
        session,
        context,
    });
    response
}

async fn answer<C: Chassis>(bmc: &Arc<Bmc<C>>, request: Request, user: Option<&str>) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_end_matches('/').to_owned();
    // For HEAD the server leaves the body out by itself.
    let get = matches!(parts.method, Method::GET | Method::HEAD);
    if path == "/redfish" || path == "/redfish/v1" {
        return if get { bmc.read(&path).await } else { not_allowed("GET, HEAD") };
    }
    let Ok(bytes) = to_bytes(body, MAX_REQUEST_BYTES).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "GeneralError", "The request is too large.");
    };
    if path == SESSIONS && parts.method == Method::POST && bmc.behaviour.sessions {
        return bmc.log_in(&bytes);
    }
    if user.is_none() {
        let mut response = refuse(
            StatusCode::UNAUTHORIZED,
            "NoValidSession",
            "There is no valid session established with the implementation.",
        );
        let challenge = HeaderValue::from_static("Basic realm=\"BMC\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return response;
    }
    let session = path.strip_prefix(SESSIONS).and_then(|p| p.strip_prefix('/'));
    match (&parts.method, path.as_str(), session) {
        _ if get => bmc.read(&path).await,
        (&Method::DELETE, _, Some(id)) => {
            if bmc.state().sessions.delete(id) {
                empty(StatusCode::NO_CONTENT)
            } else {
                missing(&path)
            }
        }
        (&Method::PATCH, SYSTEM, _) => bmc.patch_system(&parts.headers, &bytes).await,
        (&Method::POST, resources::RESET, _) => bmc.post_reset(&bytes).await,
        (_, SESSIONS, _) => not_allowed(methods(&path)),
        (_, SYSTEM, _) => not_allowed(methods(&path)),
        (_, resources::RESET, _) => not_allowed("POST"),
        (_, _, Some(_)) => not_allowed(methods(&path)),
        _ if bmc.resource(&path).await.is_some() => not_allowed(methods(&path)),
        _ => missing(&path),
    }
}

impl<C: Chassis> Bmc<C> {
    /// Who asks: by session token or by Basic auth.
    fn user(&self, headers: &HeaderMap) -> Option<String> {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        if let Some(token) = text("x-auth-token") {
            return self.state().sessions.user(OffsetDateTime::now_utc(), token);
        }
        let encoded = text("authorization")?.strip_prefix("Basic ")?;
        let pair = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = pair.split_once(':')?;
        self.knows(user, password).then(|| user.to_owned())
    }

    fn knows(&self, user: &str, password: &str) -> bool {
        user == self.account.user && password == self.account.password.expose()
    }

    fn log_in(&self, bytes: &[u8]) -> Response {
        let Ok(log_in) = serde_json::from_slice::<LogIn>(bytes) else { return malformed() };
        if !self.knows(&log_in.user, &log_in.password) {
            let text = "The authentication credentials included with this request are missing or invalid.";
            return refuse(StatusCode::UNAUTHORIZED, "ResourceAtUriUnauthorized", text);
        }
        let now = OffsetDateTime::now_utc();
        let opened = self.state().sessions.open(now, &log_in.user, log_in.context);
        let Some((id, token)) = opened else {
            let text = "The session establishment failed: the number of simultaneous sessions is at its limit.";
            let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, "SessionLimitExceeded", text);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        };
        let path = format!("{SESSIONS}/{id}");
        let listed = self.state().sessions.list(now).into_iter().find(|s| s.id == id);
        let body = listed.map(|s| resources::session(&s)).unwrap_or_default();
        let mut response = document(StatusCode::CREATED, &body);
        for (name, value) in [("x-auth-token", token), ("location", path)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    async fn read(&self, path: &str) -> Response {
        let Some(body) = self.resource(path).await else {
            return if path == resources::RESET { not_allowed("POST") } else { missing(path) };
        };
        let etag = body.get("@odata.etag").and_then(Value::as_str).map(str::to_owned);
        let mut response = document(StatusCode::OK, &body);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods(path)));
        if let Some(value) = etag.and_then(|e| HeaderValue::from_str(&e).ok()) {
            response.headers_mut().insert(header::ETAG, value);
        }
        response
    }

    async fn patch_system(&self, headers: &HeaderMap, bytes: &[u8]) -> Response {
        let wanted = headers.get(header::IF_MATCH).and_then(|v| v.to_str().ok());
        match wanted {
            None if self.behaviour.wants_if_match => {
                let text = "The request did not provide the required precondition header If-Match.";
                return refuse(StatusCode::PRECONDITION_REQUIRED, "PreconditionRequired", text);
            }
            Some(tag) if tag != "*" && tag != self.etag() => {
                let text = "The ETag supplied did not match the ETag required to change this resource.";
                return refuse(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", text);
            }
            _ => {}
        }
        let Ok(Value::Object(sent)) = read(bytes) else { return malformed() };
        if let Some(other) = sent.keys().find(|k| *k != "Boot") {
            let text = format!("The property {other} is a read only property and cannot be assigned a value.");
            return refuse(StatusCode::BAD_REQUEST, "PropertyNotWritable", &text);
        }
        let patch: BootPatch = wire::parse(Value::Object(sent.clone()));
        let unknown = sent.get("Boot").and_then(Value::as_object).and_then(|boot| {
            let known = ["BootSourceOverrideEnabled", "BootSourceOverrideTarget", "BootSourceOverrideMode"];
            boot.keys().find(|k| !known.contains(&k.as_str())).cloned()
        });
        let (Some(boot), None) = (patch.boot, &unknown) else {
            let text = format!("The property {} is not known.", unknown.unwrap_or("Boot".into()));
            return refuse(StatusCode::BAD_REQUEST, "PropertyUnknown", &text);
        };
        let offered = resources::boot_targets(self.description.uefi);
        let target = match boot.target.as_deref() {
            Some(word) if !offered.contains(&word) => return not_in_list("BootSourceOverrideTarget", word),
            Some(word) => boot_target(word),
            None => None,
        };
        if boot.enabled == Some(EnabledWord::Unknown) {
            return not_in_list("BootSourceOverrideEnabled", "the value given");
        }
        // The emulated machine has one firmware: its mode cannot be changed by an override.
        let own = if self.description.uefi { ModeWord::Uefi } else { ModeWord::Legacy };
        if boot.mode.is_some_and(|m| m != own) {
            return not_in_list("BootSourceOverrideMode", "the value given");
        }
        {
            let mut state = self.state();
            if !state.faults.ignore_boot_override {
                state.boot.target = target.unwrap_or(state.boot.target);
                state.boot.enabled = boot.enabled.unwrap_or(state.boot.enabled);
                state.version += 1;
            }
        }
        self.read(SYSTEM).await
    }

    async fn post_reset(self: &Arc<Self>, bytes: &[u8]) -> Response {
        let Ok(body @ Value::Object(_)) = read(bytes) else { return malformed() };
        let request: ResetRequest = wire::parse(body);
        let Some(word) = request.kind else {
            let text = "The action ComputerSystem.Reset requires the parameter ResetType to be present.";
            return refuse(StatusCode::BAD_REQUEST, "ActionParameterMissing", text);
        };
        let kind: Option<ResetKind> = power::kind(&word).filter(|_| RESET_TYPES.contains(&word.as_str()));
        let Some(kind) = kind else {
            let text = "The value given for the parameter ResetType of ComputerSystem.Reset is not in the list.";
            return refuse(StatusCode::BAD_REQUEST, "ActionParameterValueNotInList", text);
        };
        let mut response = match self.reset(kind).await {
            Taken::Yes => empty(StatusCode::NO_CONTENT),
            Taken::Conflict => {
                let text = "The parameter ResetType with the requested value does not meet the current power state.";
                refuse(StatusCode::CONFLICT, "ActionParameterValueConflict", text)
            }
            Taken::Busy => {
                let text = "A reset is under way; retry the operation later.";
                let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, "ServiceTemporarilyUnavailable", text);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        };
        if self.faults().lose_reset_answer {
            response.extensions_mut().insert(Lost);
        }
        response
    }
}

/// What a resource can be asked for (DSP0266 8.1, the Allow header).
fn methods(path: &str) -> &'static str {
    match path {
        SYSTEM => "GET, HEAD, PATCH",
        SESSIONS => "GET, HEAD, POST",
        session if session.starts_with(SESSIONS) => "GET, HEAD, DELETE",
        _ => "GET, HEAD",
    }
}

fn document(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("odata-version", HeaderValue::from_static("4.0"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A Redfish error response (DSP0266 8.6) with a message of the Base registry.
fn refuse(status: StatusCode, message_id: &str, text: &str) -> Response {
    let id = format!("Base.1.16.{message_id}");
    let info = json!([{"@odata.type": "#Message.v1_1_2.Message", "MessageId": id, "Message": text,
                       "MessageSeverity": "Critical", "Resolution": "None."}]);
    document(status, &json!({"error": {"code": id, "message": text, "@Message.ExtendedInfo": info}}))
}

fn missing(path: &str) -> Response {
    refuse(StatusCode::NOT_FOUND, "ResourceMissingAtURI", &format!("The resource at the URI {path} was not found."))
}

fn malformed() -> Response {
    refuse(StatusCode::BAD_REQUEST, "MalformedJSON", "The request body submitted was malformed JSON.")
}

fn not_in_list(property: &str, value: &str) -> Response {
    let text = format!("The value {value} for the property {property} is not in the list of acceptable values.");
    refuse(StatusCode::BAD_REQUEST, "PropertyValueNotInList", &text)
}

fn not_allowed(allow: &'static str) -> Response {
    let text = "The HTTP method is not allowed on this resource.";
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "OperationNotAllowed", text);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
