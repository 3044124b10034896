//! Cargo's helpers, installed from the registry where they are missing.

use crate::{exec::Argv, trouble::Trouble};

pub struct Tool {
    /// `cargo SUBCOMMAND --version` answers where it is installed.
    pub subcommand: &'static str,
    pub package: &'static str,
    pub version: &'static str,
}

pub const NEXTEST: Tool = Tool { subcommand: "nextest", package: "cargo-nextest", version: "0.9.143" };
pub const DENY: Tool = Tool { subcommand: "deny", package: "cargo-deny", version: "0.20.2" };

impl Tool {
    pub fn is_there(&self) -> bool {
        Argv::new(&["cargo", self.subcommand, "--version"]).ask().is_some_and(|(done, _)| done)
    }

    /// Any version that is there is taken; otherwise the one that this project was tried with.
    pub fn ensure(&self) -> Result<(), Trouble> {
        if self.is_there() {
            return Ok(());
        }
        eprintln!("{} is not installed; building it takes about five minutes, once", self.package);
        Argv::new(&["cargo", "install", "--locked", "--version", self.version, self.package])
            .run()
            .map_err(|t| t.next(format!("cargo install --locked --version {} {}", self.version, self.package)))
    }
}
