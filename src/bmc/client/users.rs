//! Accounts of a BMC, made, deleted, switched and unlocked; each is read back. Where there are slots and nothing to make
//! (Dell), an empty one is filled.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Client,
    accounts::{MAX_ACCOUNTS, gather_accounts},
    send::Request,
    walk,
};
use crate::{
    bmc::{
        accounts::{self, Account},
        boot::Write,
        quirks::Vendor,
        redfish::wire::{self, AccountService, Link, account::NewAccount},
    },
    model::{Failure, Secret, failure::Cause},
};

/// The first slot of BMCs with slots is nobody's.
const NOBODYS: &str = "1";

impl Client {
    /// Makes an account. That its password works is seen by whoever logs in with it.
    pub async fn create_user(&self, user: &str, role: &str, password: &Secret) -> Result<(), Failure> {
        let doing = format!("make its user `{user}`");
        self.limited(&doing, async {
            let view = self.fresh_view(false).await?;
            let ground = self.ground(&view);
            let (found, rules) = gather_accounts(&ground).await?;
            let refuse = |why: String| Failure::new(Cause::Refused, self.what(&doing), why);
            if found.iter().any(|a| a.user == user) {
                let next = format!("rackctl bmc users {} --set-password {user}", self.wire.node);
                return Err(refuse("it has such a user already".to_owned()).next(next));
            }
            accounts::fits(password.expose(), &rules, view.quirks.vendor).map_err(refuse)?;
            // Both were there a moment ago.
            let service = Link::path(&self.root.account_service).unwrap_or_default();
            let (service, _): (AccountService, _) = walk::get(&self.wire, service).await?;
            let list = Link::path(&service.accounts).unwrap_or_default().to_owned();
            let new = NewAccount { user, password: password.expose(), role, enabled: true };
            let body = serde_json::to_value(new).unwrap_or_default();
            let post = Request { method: Method::POST, body: Some(body.clone()), ..Request::get(&list) };
            let answer = self.wire.send(&post).await?;
            let answered = match answer.status {
                // There is nothing to make: an empty place is filled.
                404 | 405 | 501 => {
                    let slots = ground.members::<wire::Account>(&list, MAX_ACCOUNTS).await?.unwrap_or_default();
                    let free = slots.iter().find(|(path, slot)| {
                        accounts::account(path, slot).is_none() && slot.id.as_deref() != Some(NOBODYS)
                    });
                    let Some((slot, _)) = free else {
                        return Err(self.lacks(&doing, "free place for an account", &[&list]));
                    };
                    let write = Write { method: "PATCH", path: slot.clone(), body, if_match: None };
                    let answer = self.patch(&write).await?;
                    if answer.ok() { Ok(()) } else { Err(self.wire.refusal(&super::act::request(&write), &answer)) }
                }
                _ if answer.ok() => Ok(()),
                _ => Err(self.wire.refusal(&post, &answer)),
            };
            answered.map_err(|failure| Failure {
                what: self.what(&doing),
                // Redfish's own messages quote the value that they refuse.
                why: failure.why.replace(password.expose(), "[secret]"),
                ..failure
            })?;
            self.reads_back(&doing, user, |now| match now {
                Some(now) if now.role.as_deref() != Some(role) => {
                    Some(format!("its role is {}", now.role.as_deref().unwrap_or("not shown")))
                }
                Some(now) if now.enabled == Some(false) => Some("it is disabled".to_owned()),
                Some(_) => None,
                None => Some("it is not there".to_owned()),
            })
            .await
        })
        .await
    }

    /// Deletes an account, or empties its place.
    pub async fn delete_user(&self, user: &str) -> Result<(), Failure> {
        let doing = format!("delete its user `{user}`");
        self.limited(&doing, async {
            let (account, vendor) = self.user(&doing, user).await?;
            let delete = Request { method: Method::DELETE, ..Request::get(&account.path) };
            let answer = self.wire.send(&delete).await?;
            if matches!(answer.status, 404 | 405 | 501) && vendor == Vendor::Dell {
                // A slot that has a role cannot lose its name (iDRAC-Redfish-Scripting, CreateDeleteUsers).
                self.write_account(&doing, &account, json!({ "Enabled": false, "RoleId": "None" })).await?;
                self.write_account(&doing, &account, json!({ "UserName": "" })).await?;
            } else if !answer.ok() {
                let refusal = self.wire.refusal(&delete, &answer);
                return Err(Failure { what: self.what(&doing), ..refusal });
            }
            self.reads_back(&doing, user, |now| now.map(|_| "it is still there".to_owned())).await
        })
        .await
    }

    pub async fn enable_user(&self, user: &str, on: bool) -> Result<(), Failure> {
        let doing = format!("{} its user `{user}`", if on { "enable" } else { "disable" });
        self.limited(&doing, async {
            let (account, _) = self.user(&doing, user).await?;
            if account.enabled == Some(on) {
                return Ok(());
            }
            self.write_account(&doing, &account, json!({ "Enabled": on })).await?;
            let wrong = |now: Option<&Account>| {
                let as_wished = now.is_some_and(|now| now.enabled == Some(on));
                (!as_wished).then(|| format!("it is not {}", if on { "enabled" } else { "disabled" }))
            };
            self.reads_back(&doing, user, wrong).await
        })
        .await
    }

    /// Takes off the lock that wrong passwords put on.
    pub async fn unlock_user(&self, user: &str) -> Result<(), Failure> {
        let doing = format!("unlock its user `{user}`");
        self.limited(&doing, async {
            let (account, _) = self.user(&doing, user).await?;
            match account.locked {
                Some(false) => return Ok(()),
                None => return Err(self.lacks(&doing, "word for locks", &[&account.path])),
                Some(true) => {}
            }
            self.write_account(&doing, &account, json!({ "Locked": false })).await?;
            let wrong = |now: Option<&Account>| {
                (now.and_then(|now| now.locked) != Some(false)).then(|| "it is still locked".to_owned())
            };
            self.reads_back(&doing, user, wrong).await
        })
        .await
    }

    async fn user(&self, doing: &str, user: &str) -> Result<(Account, Vendor), Failure> {
        let view = self.fresh_view(false).await?;
        let (mut found, _) = gather_accounts(&self.ground(&view)).await?;
        match found.iter().position(|a| a.user == user) {
            Some(at) => Ok((found.swap_remove(at), view.quirks.vendor)),
            None => {
                let users: Vec<&str> = found.iter().map(|a| a.user.as_str()).collect();
                let why = format!("it has no such user; it has {}", users.join(", "));
                Err(Failure::new(Cause::Refused, self.what(doing), why)
                    .next(format!("rackctl bmc users {}", self.wire.node)))
            }
        }
    }

    async fn write_account(&self, doing: &str, account: &Account, body: Value) -> Result<(), Failure> {
        let write = Write { method: "PATCH", path: account.path.clone(), body, if_match: None };
        let answer = self.patch(&write).await?;
        if answer.ok() {
            return Ok(());
        }
        let refusal = self.wire.refusal(&super::act::request(&write), &answer);
        Err(Failure { what: self.what(doing), ..refusal })
    }

    /// `wrong`: why what is there now is not what was wished.
    async fn reads_back(
        &self,
        doing: &str,
        user: &str,
        wrong: impl Fn(Option<&Account>) -> Option<String>,
    ) -> Result<(), Failure> {
        let view = self.fresh_view(false).await?;
        let (found, _) = gather_accounts(&self.ground(&view)).await?;
        let Some(why) = wrong(found.iter().find(|a| a.user == user)) else { return Ok(()) };
        let why = format!("the BMC took the request, and {why}");
        Err(Failure::new(Cause::AcceptedButIgnored, self.what(doing), why)
            .next(format!("rackctl bmc users {}", self.wire.node)))
    }
}
