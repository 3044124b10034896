//! Virtual media: slots that take an image by InsertMedia or by a PATCH, and let it go again.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{
    Fault,
    reply::{self, Reply, refuse},
    state::State,
};

const ACTION: &str = "VirtualMedia.InsertMedia";
const PARAMETERS: [&str; 8] = [
    "Image",
    "Inserted",
    "WriteProtected",
    "TransferProtocolType",
    "TransferMethod",
    "UserName",
    "Password",
    "MediaType",
];

impl State {
    /// Whether it is the first slot, by the order in which they came.
    fn first_slot(&self, path: &str) -> bool {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.docs.below(parent).first().is_some_and(|first| first == path)
    }

    /// What the first slot answers, where it takes no image.
    fn refused_slot(&self, path: &str) -> Option<Reply> {
        let word = self.effective.text(Fault::MediaFirstRefuses).filter(|_| self.first_slot(path))?;
        Some(match word {
            "400" => refuse(400, "ActionNotSupported", "The slot takes no remote image.", &[ACTION]),
            _ => reply::not_allowed("GET, HEAD"),
        })
    }

    /// `None`: there is no such action.
    pub fn insert_medium(&mut self, now: OffsetDateTime, slot: &str, sent: &Value) -> Option<Reply> {
        if !self.is_slot(slot) || self.has(Fault::MediaPatchOnly) {
            return None;
        }
        if let Some(reply) = self.refused_slot(slot) {
            return Some(reply);
        }
        let has = |name: &str| sent.get(name).is_some_and(|v| !v.is_null());
        if let Some(name) = sent.as_object().and_then(|map| map.keys().find(|k| !PARAMETERS.contains(&k.as_str()))) {
            return Some(reply::parameter_unknown(ACTION, name));
        }
        for (fault, names) in [
            (Fault::MediaNeedsProtocol, &["TransferProtocolType"][..]),
            (Fault::MediaNeedsMethod, &["TransferMethod"][..]),
            (Fault::MediaNeedsUser, &["UserName", "Password"][..]),
        ] {
            if let Some(name) = names.iter().find(|n| self.has(fault) && !has(n)) {
                return Some(reply::parameter_missing(ACTION, name));
            }
        }
        if self.has(Fault::MediaNoInserted)
            && let Some(name) = ["Inserted", "WriteProtected"].into_iter().find(|n| sent.get(*n).is_some())
        {
            return Some(reply::parameter_unknown(ACTION, name));
        }
        Some(self.put_medium(now, slot, sent).unwrap_or_else(|reply| reply))
    }

    fn is_slot(&self, path: &str) -> bool {
        path.contains("/VirtualMedia/") && self.docs.get(path).is_some()
    }

    fn put_medium(&mut self, now: OffsetDateTime, slot: &str, sent: &Value) -> Result<Reply, Reply> {
        let Some(image) = sent["Image"].as_str().filter(|i| !i.is_empty()) else {
            return Err(reply::parameter_missing(ACTION, "Image"));
        };
        if self.ejecting.contains_key(slot) {
            return Err(refuse(500, "InternalError", "The request failed due to an internal service error.", &[]));
        }
        let scheme = image.split_once("://").map(|(scheme, _)| scheme.to_ascii_uppercase());
        let protocol = sent["TransferProtocolType"].as_str().map(str::to_owned).or(scheme);
        let Some(protocol) = protocol.filter(|p| ["HTTP", "HTTPS", "NFS", "CIFS"].contains(&p.as_str())) else {
            return Err(reply::parameter_value(ACTION, "Image", image));
        };
        if self.docs.body(slot).is_some_and(|b| b["Inserted"] == json!(true)) {
            return Err(refuse(400, "ResourceInUse", "A medium is inserted already.", &[]));
        }
        let name = image.rsplit('/').next().unwrap_or(image);
        self.docs.merge(
            slot,
            &json!({
                "Image": image, "ImageName": name, "Inserted": sent["Inserted"] != json!(false),
                "WriteProtected": sent["WriteProtected"] != json!(false), "ConnectedVia": "URI",
                "TransferProtocolType": protocol, "UserName": sent["UserName"],
            }),
        );
        self.log_event(now, "OK", &format!("the medium {name} was inserted"));
        Ok(Reply::empty(204))
    }

    pub fn eject_medium(&mut self, now: OffsetDateTime, slot: &str) -> Option<Reply> {
        if !self.is_slot(slot) || self.has(Fault::MediaPatchOnly) {
            return None;
        }
        Some(self.take_medium(now, slot))
    }

    fn take_medium(&mut self, now: OffsetDateTime, slot: &str) -> Reply {
        if self.docs.body(slot).is_none_or(|b| b["Inserted"] != json!(true)) {
            return Reply::empty(204);
        }
        match self.effective.time(Fault::MediaEjectLag) {
            Some(lag) => drop(self.ejecting.insert(slot.to_owned(), now + lag)),
            None => self.medium_gone(slot),
        }
        Reply::empty(204)
    }

    pub fn medium_gone(&mut self, slot: &str) {
        let mut gone = json!({
            "Image": null, "Inserted": false, "ConnectedVia": "NotConnected", "TransferProtocolType": null,
            "UserName": null,
        });
        if !self.has(Fault::MediaNameStays) {
            gone["ImageName"] = Value::Null;
        }
        self.docs.merge(slot, &gone);
    }

    /// By PATCH: the only way of some slots, none of the others.
    pub fn patch_medium(
        &mut self,
        now: OffsetDateTime,
        slot: &str,
        sent: &Map<String, Value>,
    ) -> Result<Vec<Value>, Reply> {
        if !self.has(Fault::MediaPatchOnly) {
            return Ok(sent.keys().map(|name| reply::read_only(name)).collect());
        }
        if let Some(reply) = self.refused_slot(slot) {
            return Err(reply);
        }
        if let Some(name) = sent.keys().find(|k| !PARAMETERS.contains(&k.as_str())) {
            return Ok(vec![reply::unknown_property(name)]);
        }
        let none = sent.get("Image").is_some_and(|image| image.is_null() || image == "");
        if none || sent.get("Inserted") == Some(&json!(false)) {
            self.take_medium(now, slot);
            return Ok(Vec::new());
        }
        self.put_medium(now, slot, &Value::Object(sent.clone())).map(|_| Vec::new())
    }
}
