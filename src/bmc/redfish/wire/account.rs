//! What is written to an account (DSP8010, ManagerAccount).

use serde::Serialize;

/// Body of the PATCH that changes a password. No `Debug`: it holds the password.
#[derive(Serialize)]
pub struct PasswordPatch<'a> {
    #[serde(rename = "Password")]
    pub password: &'a str,
}
