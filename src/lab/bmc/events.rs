//! Events: the stream (SSE, DSP0266 13.6), subscriptions, and what is sent to them over plain HTTP.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::broadcast::error::RecvError;

use super::{
    Bmc, Fault,
    chassis::Chassis,
    paths::SUBSCRIPTIONS,
    reply::{self, Reply, errors, refuse},
    state::State,
};

/// Events that a slow reader of the stream may be behind.
pub const QUEUE: usize = 256;
const MAX_SUBSCRIPTIONS: usize = 20;
const DELIVERY: Duration = Duration::from_secs(5);
/// Between two signs of life of a stream without events.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

impl State {
    pub fn post_subscription(&mut self, sent: &Value) -> Reply {
        let known = [
            "Destination",
            "Protocol",
            "Context",
            "EventFormatType",
            "RegistryPrefixes",
            "ResourceTypes",
            "SubscriptionType",
            "DeliveryRetryPolicy",
            "EventTypes",
        ];
        if let Some(name) = sent.as_object().and_then(|m| m.keys().find(|k| !known.contains(&k.as_str()))) {
            return errors(400, vec![reply::unknown_property(name)]);
        }
        let Some(to) = sent["Destination"].as_str() else {
            return errors(400, vec![reply::property_missing("Destination")]);
        };
        // What could not be delivered is not promised.
        if !to.starts_with("http://") {
            return errors(400, vec![reply::not_in_list("Destination", to)]);
        }
        match sent["Protocol"].as_str() {
            Some("Redfish") => {}
            Some(word) => return errors(400, vec![reply::not_in_list("Protocol", word)]),
            None => return errors(400, vec![reply::property_missing("Protocol")]),
        }
        if self.docs.below(SUBSCRIPTIONS).len() >= MAX_SUBSCRIPTIONS {
            return refuse(400, "EventSubscriptionLimitExceeded", "There are as many subscriptions as can be.", &[]);
        }
        let mut body = json!({
            "Destination": to, "Protocol": "Redfish", "EventFormatType": "Event", "SubscriptionType": "RedfishEvent",
            "Context": sent["Context"], "Status": { "State": "Enabled", "Health": "OK" },
        });
        if body["Context"].is_null() {
            body["Context"] = json!("");
        }
        self.event_count += 1;
        let path = format!("{SUBSCRIPTIONS}/{}", self.event_count);
        self.docs.resource(path.clone(), "EventDestination.v1_14_1", "Subscription", body);
        Reply::json(201, self.docs.body(&path).cloned().unwrap_or_default()).header("location", path)
    }

    pub fn test_event(&mut self, now: OffsetDateTime, sent: &Value) -> Reply {
        if sent["MessageId"].as_str().is_none() {
            return reply::parameter_missing("EventService.SubmitTestEvent", "MessageId");
        }
        let text = sent["Message"].as_str().unwrap_or("a test event");
        self.log_event(now, "OK", text);
        Reply::empty(204)
    }
}

impl<C: Chassis> Bmc<C> {
    /// Hands on what happened since the last time.
    pub(super) fn send_events(&self) {
        let (fresh, to) = {
            let mut state = self.state();
            let fresh = std::mem::take(&mut state.fresh);
            if fresh.is_empty() || state.has(Fault::NoEvents) {
                return;
            }
            let to: Vec<(String, Value)> = state
                .docs
                .below(SUBSCRIPTIONS)
                .iter()
                .filter_map(|path| state.docs.body(path))
                .filter_map(|body| Some((body["Destination"].as_str()?.to_owned(), body["Context"].clone())))
                .filter(|(to, _)| to.starts_with("http://"))
                .collect();
            (fresh, to)
        };
        for event in fresh {
            for (to, context) in &to {
                let mut event = event.clone();
                event["Context"] = context.clone();
                tokio::spawn(deliver(to.clone(), event));
            }
            // Nobody listens: that is no fault.
            let _ = self.events.send(event);
        }
    }

    /// The stream: it has an id as its first line, then each event.
    pub(super) fn event_stream(self: &Arc<Self>) -> Response {
        let path = {
            let mut state = self.state();
            state.event_count += 1;
            let path = format!("{SUBSCRIPTIONS}/{}", state.event_count);
            let body = json!({
                "Protocol": "Redfish", "EventFormatType": "Event", "SubscriptionType": "SSE", "Context": "",
                "Status": { "State": "Enabled", "Health": "OK" },
            });
            state.docs.resource(path.clone(), "EventDestination.v1_14_1", "Event stream", body);
            path
        };
        let cut = self.now_faults().has(Fault::SseCut);
        let events = self.events.subscribe();
        let listener = Listener { bmc: self.clone(), path: path.clone() };
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let first = format!(": stream {id}\n\n");
        let begin = (events, listener, Some(first), false);
        let stream = futures_util::stream::unfold(begin, move |(mut events, listener, first, over)| async move {
            if over {
                return None;
            }
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(Bytes::from(first)), (events, listener, None, false)));
            }
            let text = match tokio::time::timeout(KEEP_ALIVE, events.recv()).await {
                Err(_) => ": alive\n\n".to_owned(),
                Ok(Ok(event)) => {
                    let text = format!("id: {}\ndata: {event}\n\n", event["Id"].as_str().unwrap_or("0"));
                    return Some((Ok(Bytes::from(text)), (events, listener, None, cut)));
                }
                Ok(Err(RecvError::Lagged(missed))) => format!(": {missed} events were missed\n\n"),
                Ok(Err(RecvError::Closed)) => return None,
            };
            Some((Ok(Bytes::from(text)), (events, listener, None, false)))
        });
        let mut response = Response::new(Body::from_stream(stream));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert("odata-version", HeaderValue::from_static("4.0"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(value) = HeaderValue::from_str(&path) {
            headers.insert(header::LOCATION, value);
        }
        response
    }
}

/// Somebody reads the stream; the subscription ends with the connection.
struct Listener<C: Chassis> {
    bmc: Arc<Bmc<C>>,
    path: String,
}

impl<C: Chassis> Drop for Listener<C> {
    fn drop(&mut self) {
        self.bmc.state().docs.remove(&self.path);
    }
}

/// Once: who is not there has missed it, as the service says (no retries).
async fn deliver(to: String, event: Value) {
    // Only plain HTTP is delivered to; the client wants a configuration of TLS all the same.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(tls) = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() else {
        return;
    };
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let client = reqwest::Client::builder().use_preconfigured_tls(tls).timeout(DELIVERY).no_proxy().build();
    let Ok(client) = client else { return };
    let _ = client.post(&to).json(&event).send().await;
}
