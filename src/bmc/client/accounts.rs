//! Accounts of a BMC: listed, and given another password.

use serde_json::Value;

use super::{
    Client,
    ground::Ground,
    send::Request,
    walk::{self, Source},
};
use crate::{
    bmc::{
        accounts::{self, Account, Rules},
        boot::Write,
        quirks, read,
        redfish::{
            json::clean,
            wire::{self, AccountService, Collection, Link, account::PasswordPatch},
        },
    },
    model::{Failure, Secret, failure::Cause},
};

pub(super) const MAX_ACCOUNTS: usize = 64;
/// Places where a BMC says that an account is, that are looked at.
const MAX_NAMED: usize = 4;

/// The accounts, and what the BMC says of passwords.
pub async fn gather_accounts<S: Source>(ground: &Ground<'_, S>) -> Result<(Vec<Account>, Rules), Failure> {
    const DOING: &str = "read its accounts";
    let Some(path) = Link::path(&ground.root.account_service) else {
        return Err(ground.lacks(DOING, "account service", &["AccountService of its service root"]));
    };
    let Some((service, _)) = walk::optional(walk::get::<S, AccountService>(ground.source, path)).await? else {
        return Err(ground.lacks(DOING, "account service that can be read", &[path]));
    };
    let Some(list) = Link::path(&service.accounts) else {
        return Err(ground.lacks(DOING, "list of accounts", &[path]));
    };
    let Some(found) = ground.members::<wire::Account>(list, MAX_ACCOUNTS).await? else {
        return Err(ground.lacks(DOING, "list of accounts that can be read", &[list]));
    };
    let found = found.iter().filter_map(|(path, account)| accounts::account(path, account)).collect();
    Ok((found, accounts::rules(&service)))
}

impl Client {
    pub async fn accounts(&self) -> Result<(Vec<Account>, Rules), Failure> {
        self.limited("read its accounts", async {
            let view = self.fresh_view(false).await?;
            gather_accounts(&self.ground(&view)).await
        })
        .await
    }

    /// Gives an account another password. That it works is seen by whoever logs in with it.
    pub async fn set_password(&self, user: &str, password: &Secret) -> Result<(), Failure> {
        let doing = format!("set the password of its user `{user}`");
        self.limited(&doing, async {
            let read = async {
                let view = self.fresh_view(false).await?;
                let (found, rules) = gather_accounts(&self.ground(&view)).await?;
                Ok::<_, Failure>((found, rules, view.quirks.vendor))
            };
            let (found, rules, vendor) = match (read.await, self.wire.must_change()) {
                (Ok(all), _) => all,
                // Until the password is another one, nothing but the account itself can be read.
                (Err(_), Some(named)) => {
                    let vendor = quirks::classify(&self.root, &wire::ComputerSystem::default()).vendor;
                    (vec![self.own_account(user, &named, &doing).await?], Rules::default(), vendor)
                }
                (Err(failure), None) => return Err(failure),
            };
            let refuse = |why: String| Failure::new(Cause::Refused, self.what(&doing), why);
            let Some(account) = found.iter().find(|a| a.user == user) else {
                let users: Vec<&str> = found.iter().map(|a| a.user.as_str()).collect();
                return Err(refuse(format!("it has no such user; it has {}", users.join(", ")))
                    .next(format!("rackctl bmc users {}", self.wire.node)));
            };
            accounts::fits(password.expose(), &rules, vendor).map_err(refuse)?;
            let body = serde_json::to_value(PasswordPatch { password: password.expose() }).unwrap_or_default();
            let write = Write { method: "PATCH", path: account.path.clone(), body, if_match: None };
            let answer = self.patch(&write).await?;
            if answer.ok() {
                return Ok(());
            }
            let mut failure = self.wire.refusal(&super::act::request(&write), &answer);
            failure.what = self.what(&doing);
            // Redfish's own messages quote the value that they refuse.
            failure.why = failure.why.replace(password.expose(), "[secret]");
            Err(failure)
        })
        .await
    }

    /// The account of whoever must change a password, where the rest of the BMC is closed: at the paths that its refusal
    /// names, else where accounts are kept.
    async fn own_account(&self, user: &str, named: &[String], doing: &str) -> Result<Account, Failure> {
        let mut looked: Vec<String> = named.iter().filter(|path| path.starts_with('/')).cloned().collect();
        if let Some(service) = Link::path(&self.root.account_service) {
            looked.push(format!("{}/Accounts", service.trim_end_matches('/')));
        }
        looked.truncate(MAX_NAMED);
        for path in &looked {
            let Some(body) = self.given(path).await? else { continue };
            let list: Vec<String> = read::paths(&super::parsed::<Collection>(body.clone()).members);
            if let Some(own) = accounts::account(path, &super::parsed(body)).filter(|account| account.user == user) {
                return Ok(own);
            }
            for member in list.into_iter().take(MAX_ACCOUNTS) {
                let Some(body) = self.given(&member).await? else { continue };
                let found = accounts::account(&member, &super::parsed(body));
                if let Some(own) = found.filter(|account| account.user == user) {
                    return Ok(own);
                }
            }
        }
        let looked: Vec<String> = looked.iter().map(|path| clean(path)).collect();
        let why = format!(
            "its password must be changed first, and the BMC does not show the account `{}` (looked at {})",
            clean(user),
            looked.join(", ")
        );
        Err(Failure::new(Cause::Refused, self.what(doing), why))
    }

    /// What is there for this account; `None`: it is closed, or not there.
    async fn given(&self, path: &str) -> Result<Option<Value>, Failure> {
        let request = Request::get(path);
        let answer = self.wire.send(&request).await?;
        match answer.status {
            200..300 => Ok(Some(answer.body)),
            401 => Err(self.wire.refusal(&request, &answer)),
            _ => Ok(None),
        }
    }
}
