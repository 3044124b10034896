//! Accounts of a BMC: listed, and given another password.

use super::{
    Client,
    ground::Ground,
    walk::{self, Source},
};
use crate::{
    bmc::{
        accounts::{self, Account, Rules},
        boot::Write,
        redfish::wire::{self, AccountService, Link, account::PasswordPatch},
    },
    model::{Failure, Secret, failure::Cause},
};

pub(super) const MAX_ACCOUNTS: usize = 64;

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
            let view = self.fresh_view(false).await?;
            let (found, rules) = gather_accounts(&self.ground(&view)).await?;
            let refuse = |why: String| Failure::new(Cause::Refused, self.what(&doing), why);
            let Some(account) = found.iter().find(|a| a.user == user) else {
                let users: Vec<&str> = found.iter().map(|a| a.user.as_str()).collect();
                return Err(refuse(format!("it has no such user; it has {}", users.join(", ")))
                    .next(format!("rackctl bmc users {}", self.wire.node)));
            };
            accounts::fits(password.expose(), &rules, view.quirks.vendor).map_err(refuse)?;
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
}
