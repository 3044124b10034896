//! Accounts, made, deleted, switched and unlocked, by either way. Over IPMI an account is a number with a name, a password
//! and a privilege.

use super::{
    accounts,
    driver::{Client, Way},
    ipmi::{self, rakp::Privilege, shown, user::User},
    quirks::Vendor,
};
use crate::model::{Failure, Secret, failure::Cause};

/// User 1 is nobody's (IPMI 2.0, 22.26).
const FIRST_NUMBER: u8 = 2;

impl Client {
    /// Makes an account. `role` as Redfish calls it.
    pub async fn create_user(&self, user: &str, role: &str, password: &Secret) -> Result<(), Failure> {
        let client = match self.way() {
            Way::Redfish(client) => return client.create_user(user, role, password).await,
            Way::Ipmi(client) => client,
        };
        let doing = format!("make its user `{user}`");
        let refuse = |why: String| Failure::new(Cause::Refused, what(client, &doing), why);
        let Some(privilege) = privilege(role) else {
            return Err(refuse(format!("IPMI has no role {role}")));
        };
        let users = client.users().await?;
        if users.iter().any(|u| u.name == user) {
            return Err(refuse("it has such a user already".to_owned())
                .next(format!("rackctl bmc users {} --set-password {user}", client.node())));
        }
        accounts::fits(password.expose(), &shown::rules(), Vendor::Other).map_err(refuse)?;
        let Some(number) = free(&users) else {
            return Err(refuse("all its places for users are taken".to_owned())
                .next(format!("rackctl bmc users {}", client.node())));
        };
        client.set_user_name(number, user).await?;
        client.set_password(number, password).await?;
        client.set_user_access(number, Some(privilege), true).await?;
        let now = client.users().await?;
        let wrong = match now.iter().find(|u| u.name == user) {
            None => "does not show the user",
            Some(now) if now.access.enabled == Some(false) => "shows the user as disabled",
            Some(now) if now.access.privilege != Some(privilege) => "shows the user with another role",
            Some(_) => return Ok(()),
        };
        Err(ignored(client, &doing, wrong))
    }

    /// Deletes an account.
    pub async fn delete_user(&self, user: &str) -> Result<(), Failure> {
        let client = match self.way() {
            Way::Redfish(client) => return client.delete_user(user).await,
            Way::Ipmi(client) => client,
        };
        let doing = format!("delete its user `{user}`");
        let found = known(client, &doing, user).await?;
        // Without rights first: a name that stays does no harm then.
        client.set_user_access(found.number, None, false).await?;
        client.set_user_name(found.number, "").await?;
        match client.users().await?.iter().any(|u| u.name == user) {
            true => Err(ignored(client, &doing, "shows the user as before")),
            false => Ok(()),
        }
    }

    pub async fn enable_user(&self, user: &str, on: bool) -> Result<(), Failure> {
        let client = match self.way() {
            Way::Redfish(client) => return client.enable_user(user, on).await,
            Way::Ipmi(client) => client,
        };
        let doing = format!("{} its user `{user}`", if on { "enable" } else { "disable" });
        let found = known(client, &doing, user).await?;
        client.set_user_access(found.number, found.access.privilege, on).await?;
        let now = known(client, &doing, user).await?;
        match now.access.enabled {
            Some(seen) if seen != on => Err(ignored(client, &doing, "shows the user as it was")),
            _ => Ok(()),
        }
    }

    /// Takes off the lock that wrong passwords put on.
    pub async fn unlock_user(&self, user: &str) -> Result<(), Failure> {
        match self.way() {
            Way::Redfish(client) => client.unlock_user(user).await,
            Way::Ipmi(client) => {
                let why = "it is driven over IPMI, which has no word for locks";
                Err(Failure::new(Cause::Guard, what(client, &format!("unlock its user `{user}`")), why))
            }
        }
    }
}

fn what(client: &ipmi::Client, doing: &str) -> String {
    format!("{}: {doing}", client.node())
}

fn ignored(client: &ipmi::Client, doing: &str, shows: &str) -> Failure {
    Failure::new(Cause::AcceptedButIgnored, what(client, doing), format!("the BMC took the commands, and {shows}"))
        .next(format!("rackctl bmc users {}", client.node()))
}

async fn known(client: &ipmi::Client, doing: &str, user: &str) -> Result<User, Failure> {
    let mut users = client.users().await?;
    match users.iter().position(|u| u.name == user) {
        Some(at) => Ok(users.swap_remove(at)),
        None => {
            let names: Vec<&str> = users.iter().map(|u| u.name.as_str()).collect();
            let why = format!("it has no such user; it has {}", names.join(", "));
            Err(Failure::new(Cause::Refused, what(client, doing), why)
                .next(format!("rackctl bmc users {}", client.node())))
        }
    }
}

fn privilege(role: &str) -> Option<Privilege> {
    Some(match role {
        "Administrator" => Privilege::Administrator,
        "Operator" => Privilege::Operator,
        "ReadOnly" => Privilege::User,
        _ => return None,
    })
}

/// The first number that no user with a name has.
fn free(users: &[User]) -> Option<u8> {
    let most = users.first()?.access.most;
    (FIRST_NUMBER..=most).find(|number| users.iter().all(|u| u.number != *number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::ipmi::user::Access;

    #[test]
    fn the_first_free_number_is_taken_and_never_nobodys() {
        let access = Access { most: 4, enabled_users: 1, privilege: None, ipmi_messaging: true, enabled: Some(true) };
        let user = |number| User { number, name: format!("u{number}"), access: access.clone() };
        assert_eq!(free(&[user(2)]), Some(3));
        assert_eq!(free(&[user(3)]), Some(2));
        assert_eq!(free(&[user(2), user(3), user(4)]), None);
    }
}
