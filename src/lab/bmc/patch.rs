//! PATCH (DSP0266 7.8): preconditions, then each property is applied or refused by itself.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{
    Fault,
    boot::SETTINGS,
    documents::merge,
    paths::{ACCOUNTS, SYSTEM},
    reply::{self, Reply, errors, refuse},
    state::State,
};

impl State {
    /// If-Match against the ETag, as this BMC understands it.
    pub fn precondition(&self, path: &str, sent: Option<&str>) -> Option<Reply> {
        let failed = || {
            let text = "The ETag supplied did not match the ETag required to change this resource.";
            Some(refuse(412, "PreconditionFailed", text, &[]))
        };
        let Some(tag) = sent else {
            let id = match self.effective.text(Fault::IfMatchRequired)? {
                "ami" => "Ami.1.0.PreconditionHeaderMissing",
                _ => "PreconditionRequired",
            };
            let text = "A precondition header or annotation is required to change this resource.";
            return Some(refuse(428, id, text, &[]));
        };
        if self.has(Fault::IfMatchRefused) {
            return failed();
        }
        let etag = self.etag(path);
        let good = match tag {
            "*" => true,
            tag if self.has(Fault::EtagUnquoted) => tag == etag.trim_matches('"'),
            tag => tag == etag,
        };
        if good { None } else { failed() }
    }

    /// `Reply::empty(200)`: the resource as it is then is to be answered.
    pub fn patch(&mut self, now: OffsetDateTime, path: &str, sent: &Map<String, Value>) -> Reply {
        if self.places.recorded {
            return self.patch_recorded(now, path, sent);
        }
        let allowed = self.allow(path);
        if !allowed.contains("PATCH") {
            return reply::not_allowed(&allowed);
        }
        let boot = sent.get("Boot").and_then(Value::as_object);
        match path {
            SETTINGS => match boot {
                Some(boot) if sent.len() == 1 => return self.patch_boot(now, boot, true),
                _ => return errors(400, vec![reply::property_missing("Boot")]),
            },
            SYSTEM => {
                if let (Some(boot), 1) = (boot, sent.len()) {
                    return self.patch_boot(now, boot, false);
                }
            }
            _ => {}
        }
        if path == super::bios::SETTINGS {
            return self.patch_bios(sent);
        }
        // Annotations are no properties (DSP0266 7.8).
        let sent: Map<String, Value> =
            sent.iter().filter(|(name, _)| !name.starts_with('@')).map(|(n, v)| (n.clone(), v.clone())).collect();
        let sent = &sent;
        let faults = if path.starts_with(ACCOUNTS) && path.len() > ACCOUNTS.len() {
            self.patch_account(path, &Value::Object(sent.clone()))
        } else if path.contains("/VirtualMedia/") {
            match self.patch_medium(now, path, sent) {
                Ok(faults) => faults,
                Err(reply) => return reply,
            }
        } else {
            let mut rest = sent.clone();
            if let (SYSTEM, Some(boot)) = (path, boot) {
                let reply = self.patch_boot(now, boot, false);
                if reply.status >= 400 {
                    return reply;
                }
                rest.shift_remove("Boot");
            }
            self.patch_plain(path, &rest)
        };
        let count = sent.len();
        if faults.is_empty() && count > 0 {
            return Reply::empty(200);
        }
        if faults.is_empty() {
            let text = "The request contained no property to change.";
            return refuse(400, "NoOperation", text, &[]);
        }
        if faults.len() >= count { errors(400, faults) } else { self.partly(path, faults) }
    }

    /// Some of it was done: 200, the resource, and why the rest was not.
    fn partly(&self, path: &str, faults: Vec<Value>) -> Reply {
        let mut body = self.docs.body(path).cloned().unwrap_or_default();
        body["@Message.ExtendedInfo"] = json!(faults);
        Reply::json(200, body)
    }

    fn patch_plain(&mut self, path: &str, sent: &Map<String, Value>) -> Vec<Value> {
        let Some(document) = self.docs.get(path) else { return Vec::new() };
        let (mut faults, mut good) = (Vec::new(), json!({}));
        let mut leaves = Vec::new();
        flatten(sent, "", &mut leaves);
        for (name, value) in leaves.iter().filter(|(name, _)| !name.starts_with('@')) {
            let known = name.split('.').try_fold(&document.body, |at, part| at.get(part));
            let last = name.rsplit('.').next().unwrap_or(name);
            match known {
                None => faults.push(reply::unknown_property(last)),
                Some(_) if !document.writable.contains(&name.as_str()) => faults.push(reply::read_only(last)),
                Some(known) if !known.is_null() && kind(known) != kind(value) => {
                    faults.push(reply::wrong_type(last, value));
                }
                Some(known) => merge(&mut good, &nested(name, &elements(known, value))),
            }
        }
        if good.as_object().is_some_and(|map| !map.is_empty()) {
            self.docs.merge(path, &good);
        }
        faults
    }

    /// Of a recorded tree: Boot of the system, here or on the settings resource that it announces.
    fn patch_recorded(&mut self, now: OffsetDateTime, path: &str, sent: &Map<String, Value>) -> Reply {
        let settings = self.places.settings.as_deref() == Some(path);
        let boot = sent.get("Boot").and_then(Value::as_object).filter(|_| sent.len() == 1);
        match boot {
            Some(boot) if settings || path == self.places.system => self.patch_boot(now, boot, settings),
            _ if settings || path == self.places.system => {
                let name = sent.keys().find(|k| *k != "Boot").map_or("Boot", String::as_str);
                errors(400, vec![reply::read_only(name)])
            }
            _ => reply::not_allowed("GET, HEAD"),
        }
    }
}

/// An array as a PATCH means it: `{}` leaves an element as it was, null takes it away (DSP0266 7.8.3).
fn elements(known: &Value, sent: &Value) -> Value {
    let (Value::Array(known), Value::Array(sent)) = (known, sent) else { return sent.clone() };
    let one = |(at, value): (usize, &Value)| match value {
        Value::Null => None,
        Value::Object(map) if map.is_empty() => known.get(at).cloned(),
        value => Some(value.clone()),
    };
    sent.iter().enumerate().filter_map(one).collect()
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

fn flatten(map: &Map<String, Value>, prefix: &str, into: &mut Vec<(String, Value)>) {
    for (name, value) in map {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Object(inner) if !inner.is_empty() => flatten(inner, &path, into),
            value => into.push((path, value.clone())),
        }
    }
}

fn nested(name: &str, value: &Value) -> Value {
    name.rsplit('.').fold(value.clone(), |inner, part| json!({ part: inner }))
}
