//! Accounts of a BMC, and which passwords it takes. Pure.

use serde::Serialize;

use super::{
    link,
    quirks::Vendor,
    read::text,
    redfish::{
        json::clean,
        wire::{Account as Wire, AccountService},
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    pub id: String,
    pub user: String,
    pub role: Option<String>,
    pub enabled: Option<bool>,
    pub locked: Option<bool>,
    /// The BMC wants another password before it does anything else.
    pub must_change: Option<bool>,
    pub path: String,
}

/// What the account service says of passwords.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    pub min_password: Option<u32>,
    pub max_password: Option<u32>,
    /// Wrong passwords until an account is locked; 0: never.
    pub lockout_after: Option<u32>,
    pub lockout_seconds: Option<u32>,
}

/// `None`: a free place (Dell shows sixteen).
pub fn account(path: &str, account: &Wire) -> Option<Account> {
    let user = account.user.as_deref().map(clean).filter(|u| !u.is_empty())?;
    Some(Account {
        id: text(&account.id).unwrap_or_else(|| clean(link::last_segment(path))),
        user,
        role: text(&account.role),
        enabled: account.enabled,
        locked: account.locked,
        must_change: account.must_change,
        path: path.to_owned(),
    })
}

pub fn rules(service: &AccountService) -> Rules {
    Rules {
        min_password: service.min_password.filter(|n| *n > 0),
        max_password: service.max_password.filter(|n| *n > 0),
        lockout_after: service.lockout_after,
        lockout_seconds: service.lockout_s,
    }
}

/// Characters that the longest password of a maker's BMCs has, where the BMC itself does not say: OpenBMC and Supermicro
/// 20 (IPMI's limit), AMI 25, Lenovo 32, Dell 40, HPE 39.
fn longest(vendor: Vendor) -> u32 {
    match vendor {
        Vendor::Dell => 40,
        Vendor::Hpe => 39,
        Vendor::Lenovo => 32,
        Vendor::Ami => 25,
        Vendor::Supermicro | Vendor::Other => 20,
    }
}

/// Whether this BMC can take a password. The text itself is never part of the answer.
///
/// # Errors
/// Says what is wrong with it.
pub fn fits(password: &str, rules: &Rules, vendor: Vendor) -> Result<(), String> {
    let length = u32::try_from(password.chars().count()).unwrap_or(u32::MAX);
    let most = rules.max_password.unwrap_or_else(|| longest(vendor));
    let least = rules.min_password.unwrap_or(1);
    if length < least {
        return Err(format!("the new password has {length} characters; this BMC wants {least} or more"));
    }
    if length > most {
        return Err(format!("the new password has {length} characters; this BMC takes {most} at most"));
    }
    if password.chars().any(|c| !(' '..='~').contains(&c)) {
        return Err("the new password has characters outside of printable ASCII: IPMI could not send it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::redfish::wire::parse;

    #[test]
    fn free_places_are_no_accounts() {
        assert_eq!(account("/a/3", &parse(json!({"Id": "3", "UserName": "", "Enabled": false}))), None);
        let read =
            account("/a/2", &parse(json!({"UserName": "root", "RoleId": "Administrator", "Locked": false}))).unwrap();
        assert_eq!((read.id.as_str(), read.role.as_deref(), read.locked), ("2", Some("Administrator"), Some(false)));
    }

    #[test]
    fn passwords_are_judged_without_being_shown() {
        let told = rules(&parse(json!({"MinPasswordLength": 8, "MaxPasswordLength": 20})));
        assert_eq!(fits("correct horse", &told, Vendor::Other), Ok(()));
        assert!(fits("short", &told, Vendor::Other).is_err_and(|e| e.contains("8 or more") && !e.contains("short")));
        assert!(fits(&"x".repeat(21), &told, Vendor::Dell).is_err_and(|e| e.contains("20 at most")));
        let silent = rules(&parse(json!({"MaxPasswordLength": 0})));
        assert_eq!(fits(&"x".repeat(32), &silent, Vendor::Lenovo), Ok(()));
        assert!(fits(&"x".repeat(21), &silent, Vendor::Supermicro).is_err());
        assert!(fits("pässword", &silent, Vendor::Dell).is_err_and(|e| e.contains("ASCII")));
    }
}
