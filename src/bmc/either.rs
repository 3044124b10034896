//! What both ways to a BMC know, in the same words: logs, sensors, accounts, and the BMC's own restart.

use std::time::Duration;

use super::{
    accounts::{self, Account, Rules},
    client,
    driver::{Client, Way},
    ipmi::{self, shown},
    logs::Log,
    quirks::Vendor,
    redfish::json::clean,
    sensors::Readings,
};
use crate::model::{Failure, Secret, failure::Cause};

/// What clearing leaves behind: most BMCs note that they were told to.
const AFTER_CLEAR: usize = 3;

impl Client {
    /// The logs of machine and BMC, newest entries last; over IPMI there is one, `SEL`. `wanted` names one.
    pub async fn logs(&self, wanted: Option<&str>) -> Result<Vec<Log>, Failure> {
        match self.way() {
            Way::Redfish(client) => client.logs(wanted).await,
            Way::Ipmi(client) => {
                has(client, wanted, "read its logs")?;
                Ok(vec![shown::log(&client.sel().await?)])
            }
        }
    }

    /// Something that changes with every entry: while it stays, [`Client::logs`] would say the same. `None`: this BMC
    /// keeps nothing of the kind.
    pub async fn log_mark(&self) -> Result<Option<String>, Failure> {
        let Way::Ipmi(client) = self.way() else { return Ok(None) };
        let info = client.sel_info().await?;
        // Without a clock a log that goes round in circles looks the same after an entry as before.
        Ok(info.last_addition.map(|at| format!("{}/{at}/{:?}", info.entries, info.last_erase)))
    }

    /// Opens the BMC's stream of events. `None`: this one has none, and is asked now and then instead.
    ///
    /// # Errors
    /// It names one and does not give it.
    pub async fn events(&self) -> Result<Option<client::Events>, Failure> {
        match self.way() {
            Way::Redfish(client) => client.events().await,
            Way::Ipmi(_) => Ok(None),
        }
    }

    /// Clears the named log, or all that can be cleared, and sees that they are empty. Says which.
    pub async fn clear_logs(&self, wanted: Option<&str>) -> Result<Vec<String>, Failure> {
        const DOING: &str = "clear its logs";
        let client = match self.way() {
            Way::Redfish(client) => return client.clear_logs(wanted).await,
            Way::Ipmi(client) => client,
        };
        has(client, wanted, DOING)?;
        let before = client.sel().await?;
        client.sel_clear().await?;
        let now = client.sel().await?;
        // What is there now and was not before is news, not a remnant.
        let remnants = now.iter().filter(|entry| before.contains(entry)).count();
        if remnants == 0 || (now.len() <= AFTER_CLEAR && now.len() < before.len()) {
            return Ok(vec![shown::LOG.to_owned()]);
        }
        let why = format!("the BMC took the command and its log still has {} entries of {}", now.len(), before.len());
        Err(Failure::new(Cause::AcceptedButIgnored, what(client, DOING), why)
            .next(format!("rackctl bmc log {}", client.node())))
    }

    /// What the machine measures.
    pub async fn sensors(&self) -> Result<Readings, Failure> {
        let client = match self.way() {
            Way::Redfish(client) => return client.sensors().await,
            Way::Ipmi(client) => client,
        };
        let all = shown::readings(client.sensors().await?);
        if all.sensors.is_empty() && all.states.is_empty() {
            let lacking = if all.silent > 0 { "sensor with a reading" } else { "sensor" };
            return Err(lacks(client, "read its sensors", lacking, "its sensor records"));
        }
        Ok(all)
    }

    /// The accounts, and what the BMC says of passwords.
    pub async fn accounts(&self) -> Result<(Vec<Account>, Rules), Failure> {
        match self.way() {
            Way::Redfish(client) => client.accounts().await,
            Way::Ipmi(client) => Ok((client.users().await?.iter().map(shown::account).collect(), shown::rules())),
        }
    }

    /// Gives an account another password. That it works is seen by whoever logs in with it.
    pub async fn set_password(&self, user: &str, password: &Secret) -> Result<(), Failure> {
        let client = match self.way() {
            Way::Redfish(client) => return client.set_password(user, password).await,
            Way::Ipmi(client) => client,
        };
        let doing = format!("set the password of its user `{user}`");
        let refuse = |why: String| Failure::new(Cause::Refused, what(client, &doing), why);
        let users = client.users().await?;
        let Some(found) = users.iter().find(|u| u.name == user) else {
            let names: Vec<&str> = users.iter().map(|u| u.name.as_str()).collect();
            return Err(refuse(format!("it has no such user; it has {}", names.join(", ")))
                .next(format!("rackctl bmc users {}", client.node())));
        };
        accounts::fits(password.expose(), &shown::rules(), Vendor::Other).map_err(refuse)?;
        client.set_password(found.number, password).await
    }

    /// Restarts the BMC, not the machine, and waits until it has gone and answers again. The session ends with it.
    pub async fn restart_bmc(&self, limit: Duration) -> Result<(), Failure> {
        match self.way() {
            Way::Redfish(client) => client.restart_bmc(limit).await,
            Way::Ipmi(client) => client.restart_bmc(limit).await,
        }
    }
}

fn what(client: &ipmi::Client, doing: &str) -> String {
    format!("{}: {doing}", client.node())
}

fn lacks(client: &ipmi::Client, doing: &str, lacking: &str, looked: &str) -> Failure {
    let why = format!("this BMC offers no {lacking} (looked at {looked}, over IPMI)");
    Failure::new(Cause::Guard, what(client, doing), why)
}

/// IPMI has one log.
fn has(client: &ipmi::Client, wanted: Option<&str>, doing: &str) -> Result<(), Failure> {
    match wanted {
        Some(other) if !other.eq_ignore_ascii_case(shown::LOG) => {
            let lacking = format!("log `{}`; over IPMI it has {}", clean(other), shown::LOG);
            Err(Failure::new(Cause::Guard, what(client, doing), format!("this BMC offers no {lacking}")))
        }
        _ => Ok(()),
    }
}
