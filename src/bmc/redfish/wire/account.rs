//! What is written to an account (DSP8010, ManagerAccount).

use serde::Serialize;

/// Body of the POST that makes an account, and of the PATCH that fills a slot. No `Debug`: it holds the password.
#[derive(Serialize)]
pub struct NewAccount<'a> {
    #[serde(rename = "UserName")]
    pub user: &'a str,
    #[serde(rename = "Password")]
    pub password: &'a str,
    #[serde(rename = "RoleId")]
    pub role: &'a str,
    #[serde(rename = "Enabled")]
    pub enabled: bool,
}

/// Body of the PATCH that changes a password. No `Debug`: it holds the password.
#[derive(Serialize)]
pub struct PasswordPatch<'a> {
    #[serde(rename = "Password")]
    pub password: &'a str,
}
