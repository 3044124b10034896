//! POST and DELETE of everything but resets: which resource takes what, and what it says that it takes.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Fault,
    paths::{ACCOUNTS, CERTIFICATES, EVENT_SERVICE, MANAGER, MONITORS, SUBSCRIPTIONS, SYSTEM, TASKS, UPDATE_SERVICE},
    reply::{self, Reply},
    state::State,
};

impl State {
    /// `None`: nothing here takes a POST.
    pub fn post(&mut self, now: OffsetDateTime, path: &str, sent: &Value) -> Option<Reply> {
        if self.places.recorded {
            return None;
        }
        if let Some((resource, action)) = path.split_once("/Actions/") {
            return self.action(now, resource, action, sent);
        }
        Some(match path {
            ACCOUNTS => self.post_account(sent),
            SUBSCRIPTIONS => self.post_subscription(sent),
            _ if path == super::volumes::VOLUMES => self.post_volume(now, sent),
            _ => return None,
        })
    }

    pub fn takes_post(&self, path: &str) -> bool {
        [ACCOUNTS, SUBSCRIPTIONS, super::volumes::VOLUMES].contains(&path)
    }
    pub fn takes_delete(&self, path: &str) -> bool {
        let below = |of: &str| path.strip_prefix(of).is_some_and(|rest| rest.starts_with('/') && rest.len() > 1);
        below(ACCOUNTS) || below(SUBSCRIPTIONS) || below(super::volumes::VOLUMES) || below(TASKS)
    }

    /// `None`: there is nothing to delete.
    pub fn delete(&mut self, now: OffsetDateTime, path: &str, user: &str) -> Option<Reply> {
        if self.places.recorded || !self.takes_delete(path) {
            return None;
        }
        if path.starts_with(ACCOUNTS) {
            return Some(self.delete_account(path, user));
        }
        if path.starts_with(super::volumes::VOLUMES) {
            return Some(self.delete_volume(now, path));
        }
        if path.starts_with(TASKS) {
            self.jobs.forget(path);
        }
        self.docs.remove(path);
        Some(Reply::empty(204))
    }

    fn action(&mut self, now: OffsetDateTime, resource: &str, action: &str, sent: &Value) -> Option<Reply> {
        // Actions that a resource does not show are not there.
        self.docs.get(resource)?;
        match action {
            "Manager.Reset" if resource == MANAGER => Some(self.reset_manager(now, sent)),
            "LogService.ClearLog" if !self.has(Fault::LogNoClear) => Some(self.clear_log(now, resource)),
            "Bios.ResetBios" => Some(self.reset_bios()),
            "Bios.ChangePassword" => None,
            "SecureBoot.ResetKeys" => Some(self.reset_keys(sent)),
            "UpdateService.SimpleUpdate" if resource == UPDATE_SERVICE => Some(self.simple_update(now, sent)),
            "VirtualMedia.InsertMedia" => self.insert_medium(now, resource, sent),
            "VirtualMedia.EjectMedia" => self.eject_medium(now, resource),
            "EventService.SubmitTestEvent" if resource == EVENT_SERVICE => Some(self.test_event(now, sent)),
            "CertificateService.ReplaceCertificate" => Some(self.replace_certificate(sent)),
            "CertificateService.GenerateCSR" => Some(self.generate_csr(sent)),
            _ => None,
        }
    }

    fn reset_manager(&mut self, now: OffsetDateTime, sent: &Value) -> Reply {
        const ACTION: &str = "Manager.Reset";
        let word = match &sent["ResetType"] {
            Value::Null => "GracefulRestart",
            Value::String(word) => word,
            other => return reply::parameter_value(ACTION, "ResetType", &other.to_string()),
        };
        if !["GracefulRestart", "ForceRestart"].contains(&word) {
            return reply::parameter_value(ACTION, "ResetType", word);
        }
        self.log_event(now, "OK", "the BMC was reset");
        self.bmc_restarts();
        self.docs.merge(MANAGER, &json!({ "LastResetTime": super::build::stamp(now) }));
        Reply::empty(204)
    }

    fn reset_keys(&mut self, sent: &Value) -> Reply {
        const ACTION: &str = "SecureBoot.ResetKeys";
        let mode = match sent["ResetKeysType"].as_str() {
            None => return reply::parameter_missing(ACTION, "ResetKeysType"),
            Some("ResetAllKeysToDefault") => "UserMode",
            Some("DeleteAllKeys" | "DeletePK") => "SetupMode",
            Some(word) => return reply::parameter_value(ACTION, "ResetKeysType", word),
        };
        let path = format!("{SYSTEM}/SecureBoot");
        self.docs.merge(&path, &json!({ "SecureBootMode": mode }));
        Reply::empty(204)
    }
}

/// Whether this is the one certificate that can be replaced.
pub fn certificate_path(uri: &str) -> bool {
    uri.trim_end_matches('/') == format!("{CERTIFICATES}/1")
}

impl State {
    /// What a resource can be asked for (DSP0266 8.1, the Allow header).
    pub fn allow(&self, path: &str) -> String {
        let places = &self.places;
        let (post, patch, delete) = if path == places.sessions {
            (true, false, false)
        } else if path.strip_prefix(&places.sessions).is_some_and(|rest| rest.starts_with('/')) {
            (false, false, true)
        } else if path == places.system || places.settings.as_deref() == Some(path) {
            (false, true, false)
        } else if places.recorded {
            (false, false, false)
        } else {
            let (post, delete) = (self.takes_post(path), self.takes_delete(path));
            let patch = self.docs.get(path).is_some_and(|d| !d.writable.is_empty())
                || path.starts_with(&format!("{ACCOUNTS}/"))
                || [super::bios::SETTINGS, super::boot::SETTINGS].contains(&path)
                || (path.contains("/VirtualMedia/") && self.docs.get(path).is_some());
            (post, patch, delete)
        };
        let named = [(post, "POST"), (patch, "PATCH"), (delete, "DELETE")];
        let more = named.iter().filter(|(there, _)| *there).map(|(_, name)| *name);
        ["GET", "HEAD"].into_iter().chain(more).collect::<Vec<_>>().join(", ")
    }

    /// The answer for a monitor of a task (DSP0266 12.2); `None`: the path is none.
    pub fn monitor(&mut self, path: &str) -> Option<Reply> {
        let id = path.strip_prefix(MONITORS)?.strip_prefix('/')?.to_owned();
        let task = format!("{}/{id}", TASKS);
        let Some(body) = self.docs.body(&task).cloned() else { return Some(reply::missing(path)) };
        if !self.jobs.is_over(&id) {
            return Some(Reply::json(202, body).header("location", path).header("retry-after", "1"));
        }
        if self.has(Fault::TaskVanishes) {
            self.docs.remove(&task);
        }
        Some(Reply::json(200, body))
    }
}
