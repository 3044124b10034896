//! HTTP in, HTTP out: who asks, what for, may they; then the resource or the action.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, header, request::Parts},
    response::Response,
};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    Bmc, Fault, LogEntry,
    auth::{Asker, asker, delay, log_in_reply},
    chassis::Chassis,
    names,
    paths::{ACCOUNTS, ROOT, SSE, bare},
    query,
    reply::{self, Reply, refuse},
    spoil::{self, Lost},
    update,
};
use crate::bmc::redfish::{json::read, wire::PowerWord};

/// Bodies of requests, but for pushed firmware.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

pub fn router<C: Chassis>(bmc: Arc<Bmc<C>>) -> Router {
    Router::new().fallback(handle::<C>).with_state(bmc)
}

async fn handle<C: Chassis>(State(bmc): State<Arc<Bmc<C>>>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let token = request.headers().get("x-auth-token").and_then(|v| v.to_str().ok());
    // Before the answer: a log-out ends the session that it came with.
    let session = token.and_then(|token| bmc.state().sessions.of(token).cloned());
    let (session, context) = session.map_or((None, None), |s| (Some(s.id), s.context));
    let mut user = None;
    let response = answer(&bmc, request, &mut user).await;
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

async fn answer<C: Chassis>(bmc: &Arc<Bmc<C>>, request: Request, user: &mut Option<String>) -> Response {
    let faults = bmc.now_faults();
    let now = OffsetDateTime::now_utc();
    if let Some(time) = faults.time(Fault::Slow) {
        tokio::time::sleep(time).await;
    }
    let (parts, body) = request.into_parts();
    let asked = bare(parts.uri.path());
    let mut path = names::inward(&asked, &faults);
    // A collection's Members take what the collection takes (DSP0266 7.9).
    if let (&Method::POST, Some(collection)) = (&parts.method, path.strip_suffix("/Members")) {
        path = collection.to_owned();
    }
    {
        let mut state = bmc.state();
        state.advance(now);
        if let Some(reply) = state.gate(&path) {
            drop(state);
            return spoil::response(reply, &faults, false);
        }
        if faults.has(Fault::LinksLowerCase) || state.places.recorded {
            path = state.docs.find_any_case(&path).unwrap_or(path);
        }
    }
    let get = matches!(parts.method, Method::GET | Method::HEAD);
    let open = ["/redfish", ROOT, "/redfish/v1/odata", "/redfish/v1/$metadata"].contains(&path.as_str());
    let limit = if path == update::PUSH { update::PUSH_MAX } else { MAX_REQUEST_BYTES };
    let bytes = to_bytes(body, limit).await;
    let reply = match bytes {
        _ if odata_version(&parts.headers).is_some_and(|v| v != "4.0") => {
            refuse(412, "HeaderInvalid", "Header 'OData-Version' is invalid.", &["OData-Version"])
        }
        Err(_) => refuse(413, "PayloadTooLarge", "The request is too large.", &[]),
        Ok(bytes) => {
            let log_in = parts.method == Method::POST && path == bmc.state().places.sessions;
            if log_in && !faults.has(Fault::NoSessions) {
                log_in_reply(bmc, now, &bytes).await
            } else {
                match asker(bmc, now, &parts.headers) {
                    // The root is for all, also for those who say wrongly who they are.
                    _ if open && get => dispatch(bmc, now, &parts, &path, &bytes, "").await,
                    Asker::Refused(reply) => {
                        delay(bmc).await;
                        reply
                    }
                    Asker::Nobody => reply::unauthorized(),
                    Asker::Known(name) => {
                        *user = Some(name.clone());
                        if get && path == SSE && bmc.resource(super::paths::EVENT_SERVICE).await.is_some() {
                            return bmc.event_stream();
                        }
                        let stopped = bmc.state().gate_user(&path, &name);
                        match stopped {
                            Some(reply) => reply,
                            None => dispatch(bmc, now, &parts, &path, &bytes, &name).await,
                        }
                    }
                }
            }
        }
    };
    bmc.send_events();
    let (target, reset) = {
        let state = bmc.state();
        (path == state.places.system, path == state.places.reset && parts.method == Method::POST)
    };
    let done = reply.status < 300;
    let mut response = spoil::response(outward(reply, &faults), &faults, target);
    if faults.has(Fault::LoseResetAnswer) && reset && done {
        response.extensions_mut().insert(Lost);
    }
    response
}

/// Paths as they are called outside.
fn outward(mut reply: Reply, faults: &super::Faults) -> Reply {
    if let Some(body) = &mut reply.body {
        names::rename(body, faults);
    }
    for (name, value) in &mut reply.headers {
        if *name == "location" {
            *value = names::renamed(value, faults);
        }
    }
    reply
}

fn odata_version(headers: &HeaderMap) -> Option<&str> {
    headers.get("odata-version")?.to_str().ok()
}

/// The request of a known user.
async fn dispatch<C: Chassis>(
    bmc: &Arc<Bmc<C>>,
    now: OffsetDateTime,
    parts: &Parts,
    path: &str,
    bytes: &Bytes,
    user: &str,
) -> Reply {
    let method = &parts.method;
    if matches!(*method, Method::GET | Method::HEAD) {
        let reply = bmc.read(path, parts.uri.query().unwrap_or_default(), now).await;
        let known = parts.headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
        let same = known.is_some_and(|tag| reply.headers.iter().any(|(name, etag)| *name == "etag" && etag == tag));
        // What the client has is what there is (RFC 9110 13.1.2).
        return if same && reply.status == 200 { Reply { body: None, status: 304, ..reply } } else { reply };
    }
    if ![Method::POST, Method::PATCH, Method::DELETE].contains(method) {
        return reply::not_allowed(&bmc.allow(path));
    }
    let known = bmc.resource(path).await.is_some();
    let role = bmc.state().accounts.role(user).map(str::to_owned);
    let own = path.starts_with(ACCOUNTS) && bmc.state().docs.body(path).is_some_and(|b| b["UserName"] == user);
    if role.as_deref() != Some("Administrator")
        && !own
        && !(role.as_deref() == Some("Operator") && path.contains("/Actions/"))
    {
        return if known || path.contains("/Actions/") { reply::forbidden() } else { reply::missing(path) };
    }
    match *method {
        Method::DELETE => bmc.delete(now, path, user, known),
        Method::PATCH if !known => reply::missing(path),
        Method::PATCH => {
            let sent = parts.headers.get(header::IF_MATCH).and_then(|v| v.to_str().ok());
            let Some(map) = object(bytes) else { return reply::malformed() };
            let reply = {
                let mut state = bmc.state();
                let stopped = state.precondition(path, sent);
                stopped.unwrap_or_else(|| state.patch(now, path, &map))
            };
            if reply == Reply::empty(200) { bmc.read(path, "", now).await } else { reply }
        }
        _ => {
            let reset = path == bmc.state().places.reset;
            if path == update::PUSH && !bmc.state().places.recorded {
                return bmc.state().push(now, &parts.headers, bytes);
            }
            let Some(map) = object(bytes) else { return reply::malformed() };
            if reset {
                return bmc.post_reset(Value::Object(map)).await;
            }
            let done = bmc.state().post(now, path, &Value::Object(map));
            match done {
                Some(reply) => reply,
                None if known => reply::not_allowed(&bmc.allow(path)),
                None => reply::missing(path),
            }
        }
    }
}

/// An empty body is an empty object: actions without parameters are posted so.
fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match read(bytes) {
        Ok(Value::Object(map)) => Some(map),
        Ok(Value::Null) if bytes.iter().all(u8::is_ascii_whitespace) => Some(Map::new()),
        _ => None,
    }
}

impl<C: Chassis> Bmc<C> {
    /// The resource at an inner path, as it is shown.
    pub(super) async fn resource(&self, path: &str) -> Option<Value> {
        let power = self.power_word().await;
        self.state().shown(path, power, OffsetDateTime::now_utc())
    }

    async fn read(&self, path: &str, query: &str, now: OffsetDateTime) -> Reply {
        if path == "/redfish/v1/$metadata" && !self.state().places.recorded {
            return Reply::text("application/xml", super::build::metadata(&self.state().docs));
        }
        let power = self.power_word().await;
        let mut state = self.state();
        if let Some(reply) = state.monitor(path) {
            return reply;
        }
        self.document(&state, path, query, power, now).unwrap_or_else(|reply| reply)
    }

    fn document(
        &self,
        state: &super::State,
        path: &str,
        query: &str,
        power: PowerWord,
        now: OffsetDateTime,
    ) -> Result<Reply, Reply> {
        let faults = &state.effective;
        let Some(mut body) = state.shown(path, power, now) else {
            let action = path == state.places.reset || path.contains("/Actions/");
            return Err(if action { reply::not_allowed("POST") } else { reply::missing(path) });
        };
        let query = query::parse(query, faults)?;
        if let Some(one) = query.only(&body)? {
            body = state.shown(&one, power, now).unwrap_or(body);
        }
        query.page(path, &mut body, faults)?;
        query.expand(&state.docs, path, &mut body, &|target| {
            let mut shown = state.shown(target, power, now)?;
            if let (true, Some(map)) = (faults.has(Fault::ExpandBare), shown.as_object_mut()) {
                map.shift_remove("Id");
                map.shift_remove("Name");
            }
            Some(shown)
        });
        query.select(&mut body);
        let reply = if faults.has(Fault::EtagMissing) || faults.has(Fault::EtagBodyOnly) || path == "/redfish" {
            if faults.has(Fault::EtagMissing) {
                remove_etags(&mut body)
            }
            Reply::json(200, body)
        } else {
            Reply::json(200, body).header("etag", state.shown_etag(path))
        };
        let link = body_schema(&reply);
        let reply = reply.header("allow", state.allow(path));
        Ok(match link {
            Some(link) => reply.header("link", link),
            None => reply,
        })
    }

    fn allow(&self, path: &str) -> String {
        self.state().allow(path)
    }

    fn delete(&self, now: OffsetDateTime, path: &str, user: &str, known: bool) -> Reply {
        let mut state = self.state();
        let session = path.strip_prefix(&state.places.sessions).and_then(|rest| rest.strip_prefix('/'));
        if let Some(id) = session.map(str::to_owned) {
            return match state.end_session(&id) {
                true if state.has(Fault::SessionDelete401) => reply::unauthorized(),
                true => Reply::empty(204),
                false => reply::missing(path),
            };
        }
        if !known {
            return reply::missing(path);
        }
        let deleted = state.delete(now, path, user);
        deleted.unwrap_or_else(|| reply::not_allowed(&state.allow(path)))
    }
}

fn remove_etags(body: &mut Value) {
    super::documents::each_object(body, &mut |map| {
        map.shift_remove("@odata.etag");
    });
}

/// `Link: <…>; rel=describedby` (DSP0266 8.2).
fn body_schema(reply: &Reply) -> Option<String> {
    let kind = reply.body.as_ref()?.get("@odata.type")?.as_str()?;
    let file = kind.trim_start_matches('#').rsplit_once('.')?.0;
    Some(format!("<https://redfish.dmtf.org/schemas/v1/{file}.json>; rel=describedby"))
}
