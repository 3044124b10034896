//! Accounts: who is known, who is locked, and what may be changed about them (AccountService, ManagerAccount, Role).

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Fault,
    paths::{ACCOUNT_SERVICE, ACCOUNTS},
    reply::{self, Reply, errors, message, refuse},
    state::State,
};
use crate::model::Secret;

/// Slots, as most BMCs have them.
const MAX_ACCOUNTS: usize = 16;
const PASSWORD_MIN: usize = 8;
const PASSWORD_MAX: u64 = 64;
pub const ROLES: [&str; 3] = ["Administrator", "Operator", "ReadOnly"];

pub(super) struct Known {
    pub id: String,
    pub user: String,
    pub password: Secret,
    pub role: String,
    pub enabled: bool,
    /// May log in over IPMI.
    pub ipmi: bool,
    /// Its password was changed: it is not expired any more.
    renewed: bool,
    wrong: u64,
    last_wrong: Option<OffsetDateTime>,
    locked_until: Option<OffsetDateTime>,
}

#[derive(Default)]
pub struct Accounts {
    pub(super) list: Vec<Known>,
    count: u64,
}

/// What a user name and a password are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Known,
    Wrong,
    Locked,
}

impl Accounts {
    pub fn locked(&self, now: OffsetDateTime) -> Vec<String> {
        self.list.iter().filter(|k| k.locked_until.is_some_and(|at| at > now)).map(|k| k.user.clone()).collect()
    }
    /// Wrong passwords in a row, of all accounts.
    pub fn wrong(&self) -> u64 {
        self.list.iter().map(|k| k.wrong).sum()
    }
    pub fn role(&self, user: &str) -> Option<&str> {
        self.list.iter().find(|k| k.user == user).map(|k| k.role.as_str())
    }
    pub fn renewed(&self, user: &str) -> bool {
        self.list.iter().any(|k| k.user == user && k.renewed)
    }
    fn taken(&self, user: &str) -> bool {
        self.list.iter().any(|k| k.user == user)
    }
}

impl State {
    pub fn add_account(&mut self, user: String, password: Secret, role: &str) -> String {
        self.add_account_at(self.accounts.count + 1, user, password, role)
    }

    /// Under a number that nobody has.
    pub(super) fn add_account_at(&mut self, number: u64, user: String, password: Secret, role: &str) -> String {
        self.accounts.count = self.accounts.count.max(number);
        let id = number.to_string();
        let path = format!("{ACCOUNTS}/{id}");
        let known = Known {
            id,
            user: user.clone(),
            password,
            role: role.to_owned(),
            enabled: true,
            ipmi: true,
            renewed: false,
            wrong: 0,
            last_wrong: None,
            locked_until: None,
        };
        self.accounts.list.push(known);
        if !self.places.recorded {
            let body = json!({
                "UserName": user, "Password": null, "RoleId": role, "Enabled": true, "Locked": false,
                "PasswordChangeRequired": false, "AccountTypes": ["Redfish"],
                "Links": { "Role": { "@odata.id": format!("{ACCOUNT_SERVICE}/Roles/{role}") } },
            });
            self.docs.resource(path.clone(), "ManagerAccount.v1_12_1", "User Account", body);
        }
        path
    }

    /// Threshold and time, by the fault or by what was set on the service.
    fn lockout(&self) -> Option<(u64, Duration)> {
        if let Some(rate) = self.effective.rate(Fault::AccountLockout) {
            return Some(rate);
        }
        let service = self.docs.body(ACCOUNT_SERVICE)?;
        let threshold = service["AccountLockoutThreshold"].as_u64().filter(|n| *n > 0)?;
        Some((threshold, Duration::from_secs(service["AccountLockoutDuration"].as_u64()?)))
    }

    /// Tries a password. A wrong one counts, and enough of them lock.
    pub fn try_password(&mut self, now: OffsetDateTime, user: &str, password: &str) -> Verdict {
        self.judge(now, user, |known| known.enabled && known.password.expose() == password)
    }

    /// What came of a log-in that was proven elsewhere (RAKP): it counts as any other.
    pub fn proven(&mut self, now: OffsetDateTime, user: &str, right: bool) -> Verdict {
        self.judge(now, user, |_| right)
    }

    fn judge(&mut self, now: OffsetDateTime, user: &str, right: impl FnOnce(&Known) -> bool) -> Verdict {
        let lockout = self.lockout();
        let service = self.docs.body(ACCOUNT_SERVICE);
        let forgets = service.and_then(|s| s["AccountLockoutCounterResetAfter"].as_u64()).filter(|s| *s > 0);
        let Some(known) = self.accounts.list.iter_mut().find(|k| k.user == user) else { return Verdict::Wrong };
        if known.locked_until.is_some_and(|at| at > now) {
            return Verdict::Locked;
        }
        if known.locked_until.take().is_some() {
            known.wrong = 0;
        }
        if right(known) {
            known.wrong = 0;
            return Verdict::Known;
        }
        let long_ago = |at: OffsetDateTime| forgets.is_some_and(|seconds| now - at >= Duration::from_secs(seconds));
        if known.last_wrong.replace(now).is_some_and(long_ago) {
            known.wrong = 0;
        }
        known.wrong += 1;
        let wrong = known.wrong;
        if let Some((threshold, time)) = lockout
            && wrong >= threshold
        {
            known.locked_until = Some(now + time);
        }
        self.log_event(now, "Warning", &format!("a wrong password was given for {user} ({wrong} in a row)"));
        Verdict::Wrong
    }

    fn password_fault(&self, password: &Value) -> Option<Value> {
        let most = self.effective.count(Fault::PasswordMax).unwrap_or(PASSWORD_MAX) as usize;
        match password.as_str() {
            None => Some(reply::wrong_type("Password", &Value::Null)),
            Some(text) if text.len() < PASSWORD_MIN || text.len() > most => {
                // The password itself is not said again.
                let text = format!("The password has not {PASSWORD_MIN} to {most} characters.");
                Some(message("PropertyValueFormatError", &text, &["******", "Password"]))
            }
            Some(_) => None,
        }
    }

    pub fn post_account(&mut self, sent: &Value) -> Reply {
        let mut faults = Vec::new();
        for (name, value) in sent.as_object().into_iter().flatten() {
            match name.as_str() {
                "UserName" => match value.as_str() {
                    Some(user) if self.accounts.taken(user) => {
                        let text = format!("The resource with the property UserName of the value '{user}' exists.");
                        faults.push(message("ResourceAlreadyExists", &text, &["ManagerAccount", "UserName", user]));
                    }
                    Some(user) if !user.is_empty() && user.len() <= 16 => {}
                    _ => faults.push(reply::wrong_type(name, value)),
                },
                "Password" => faults.extend(self.password_fault(value)),
                "RoleId" if value.as_str().is_some_and(|r| ROLES.contains(&r)) => {}
                "RoleId" => faults.push(reply::not_in_list(name, value.as_str().unwrap_or("null"))),
                "Enabled" | "AccountTypes" => {}
                _ => faults.push(reply::unknown_property(name)),
            }
        }
        faults.extend(
            ["UserName", "Password", "RoleId"]
                .iter()
                .filter(|n| sent.get(**n).is_none())
                .map(|n| reply::property_missing(n)),
        );
        if !faults.is_empty() {
            return errors(400, faults);
        }
        if self.accounts.list.len() >= MAX_ACCOUNTS {
            let text = "The create operation failed: the limit of accounts is reached.";
            return refuse(400, "CreateLimitReachedForResource", text, &[]);
        }
        let text = |name: &str| sent[name].as_str().unwrap_or_default().to_owned();
        let path = self.add_account(text("UserName"), Secret::new(text("Password")), &text("RoleId"));
        if sent["Enabled"] == json!(false) {
            self.patch_account(&path, &json!({ "Enabled": false }));
        }
        Reply::json(201, self.docs.body(&path).cloned().unwrap_or_default()).header("location", path)
    }

    /// Messages of what was refused; the rest is done.
    pub fn patch_account(&mut self, path: &str, sent: &Value) -> Vec<Value> {
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut faults = Vec::new();
        for (name, value) in sent.as_object().into_iter().flatten() {
            let fault = match (name.as_str(), value) {
                ("Password", value) => self.password_fault(value),
                ("UserName", Value::String(user)) if !user.is_empty() && user.len() <= 16 => None,
                ("RoleId", Value::String(role)) if ROLES.contains(&role.as_str()) => None,
                ("RoleId", Value::String(role)) => Some(reply::not_in_list(name, role)),
                ("Enabled", Value::Bool(_)) => None,
                // A lock is taken off, never put on.
                ("Locked", Value::Bool(false)) => None,
                ("UserName" | "RoleId" | "Enabled" | "Locked", value) => Some(reply::wrong_type(name, value)),
                (known, _) if self.docs.body(path).is_some_and(|b| b.get(known).is_some()) => {
                    Some(reply::read_only(known))
                }
                (other, _) => Some(reply::unknown_property(other)),
            };
            if let Some(fault) = fault {
                faults.push(fault);
                continue;
            }
            let Some(known) = self.accounts.list.iter_mut().find(|k| k.id == id) else { continue };
            let text = value.as_str().unwrap_or_default().to_owned();
            let mut shown = json!({ name.clone(): value });
            match name.as_str() {
                "Password" => {
                    known.password = Secret::new(text);
                    known.renewed = true;
                    shown = json!({ "PasswordChangeRequired": false });
                }
                "UserName" => known.user = text,
                "RoleId" => {
                    shown["Links"] = json!({ "Role": { "@odata.id": format!("{ACCOUNT_SERVICE}/Roles/{text}") } });
                    known.role = text;
                }
                "Enabled" => known.enabled = value == &json!(true),
                _ => (known.locked_until, known.wrong) = (None, 0),
            }
            self.docs.merge(path, &shown);
        }
        faults
    }

    pub fn delete_account(&mut self, path: &str, asker: &str) -> Reply {
        let id = path.rsplit('/').next().unwrap_or_default();
        let own = self.accounts.list.iter().any(|k| k.id == id && k.user == asker);
        if own || self.accounts.list.len() == 1 {
            let text = "The delete request failed: an account cannot delete itself.";
            return refuse(405, "ResourceCannotBeDeleted", text, &[]).header("allow", "GET, HEAD, PATCH");
        }
        self.accounts.list.retain(|k| k.id != id);
        self.docs.remove(path);
        Reply::empty(204)
    }
}
