//! The kernel command line, as values.

pub use rackctl_wire::installer_line::{InstallerLine, Network, Sha256Hex, value, words};

use crate::node_error::{NodeError, Result};
use rackctl_wire::cmdline as keys;
use rackctl_wire::image::layout;
use rackctl_wire::installer_line::LineError;
use uuid::Uuid;

impl From<LineError> for NodeError {
    fn from(error: LineError) -> Self {
        NodeError::new("cmdline", error.0)
    }
}

/// Keys of the installed system's command line, set by the boot loader (see [`layout`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemLine {
    /// `a` or `b`.
    pub slot: String,
    /// Partition GUID of the ESP that this boot came from.
    pub esp: Uuid,
    /// The slot is on trial.
    pub trial: bool,
}

impl SystemLine {
    pub fn parse(line: &str) -> Result<Self> {
        let words = words(line);
        let slot = match value(&words, layout::SLOT) {
            Some(slot @ ("a" | "b")) => slot.to_owned(),
            other => return Err(NodeError::new("cmdline", format!("{} is {other:?}, must be a or b", layout::SLOT))),
        };
        let esp = value(&words, layout::ESP).and_then(|text| text.parse().ok()).ok_or_else(|| {
            let message = format!("{} is missing or no GUID: which disk is this system's?", layout::ESP);
            NodeError::new("cmdline", message)
        })?;
        Ok(Self { slot, esp, trial: value(&words, layout::TRY) == Some("1") })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Installer,
    System,
}

pub fn role(line: &str) -> Option<Role> {
    let words = words(line);
    match (value(&words, layout::BOOT), value(&words, keys::NODE)) {
        (Some("system"), _) => Some(Role::System),
        (None, Some(_)) => Some(Role::Installer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installer_is_told_by_the_name_of_its_node() {
        assert_eq!(role("console=ttyS0 rackctl.node=n1"), Some(Role::Installer));
        assert_eq!(NodeError::from(InstallerLine::parse("quiet").unwrap_err()).kind, "cmdline");
    }

    #[test]
    fn system_line() {
        let guid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        let parsed = SystemLine::parse(&format!("rackctl.boot=system rackctl.slot=b rackctl.esp={guid}")).unwrap();
        assert_eq!(parsed, SystemLine { slot: "b".into(), esp: guid.parse().unwrap(), trial: false });
        assert!(SystemLine::parse(&format!("rackctl.slot=a rackctl.try=1 rackctl.esp={guid}")).unwrap().trial);
        assert!(SystemLine::parse(&format!("rackctl.slot=../x rackctl.esp={guid}")).is_err());
        assert!(SystemLine::parse("rackctl.slot=a").is_err());
        assert_eq!(role("rackctl.boot=system rackctl.node=x"), Some(Role::System));
        assert_eq!(role("quiet"), None);
    }
}
