//! The operator's own program. Pure: what it is told and what it may say.
//!
//! It gets one JSON object ([`Order`]) on standard input and says how it goes in lines of JSON ([`Said`]) on standard
//! output. Exit code 0 means that the system is on the disk and the machine may be restarted; anything else means
//! that it is not, and what the disk holds is unknown. Standard error is kept for failures.

use std::{ffi::OsString, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Failure, failure::Cause};

pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Order {
    /// [`VERSION`]; a program that knows another one must end with an error.
    pub version: u32,
    pub run: String,
    pub node: String,
    /// Address of the installer that runs on the machine.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Path of the private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
    /// The installer's host key, `ssh-ed25519 AAAA…`, and a known_hosts file with nothing but it.
    pub host_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<PathBuf>,
    /// The disk that may be written, by serial or WWN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_wwn: Option<String>,
    pub deadline_s: u64,
}

/// One line; every field may be left out, unknown ones are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A line that is no JSON object is a message: a program's stray `echo` is no reason to stop an installation.
pub fn said(line: &str) -> Said {
    match serde_json::from_str::<Said>(line) {
        Ok(said) if line.trim_start().starts_with('{') => said,
        _ => Said { message: Some(line.into()), ..Said::default() },
    }
}

/// The program must be named by an absolute path: what it is must not depend on somebody's `PATH` or folder.
pub fn argv(node: &str, command: &[String]) -> Result<Vec<OsString>, Failure> {
    let program = command.first().map(String::as_str).unwrap_or_default();
    if !program.starts_with('/') {
        let why = format!("`{program}` is no absolute path");
        return Err(Failure::new(Cause::Guard, format!("{node}: start the operator's install program"), why));
    }
    Ok(command.iter().map(OsString::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_progress_or_messages() {
        let line = r#"{"phase":"copy","done":3,"total":9,"new":true}"#;
        assert_eq!(said(line), Said { phase: Some("copy".into()), done: Some(3), total: Some(9), message: None });
        for other in ["plain", "[1]", r#"{"done":"x"}"#, "null"] {
            assert_eq!(said(other).message.as_deref(), Some(other), "{other}");
        }
    }

    #[test]
    fn only_absolute_programs() {
        assert!(argv("n1", &["/opt/x".into(), "--y".into()]).is_ok());
        assert!(argv("n1", &["x".into()]).is_err() && argv("n1", &[]).is_err());
    }
}
