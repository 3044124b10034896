//! Why a chore stopped, and what to type next.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub what: String,
    pub why: String,
    pub next: Option<String>,
    /// Exit code of xtask.
    pub code: u8,
}

impl Trouble {
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Trouble {
        Trouble { what: what.into(), why: why.into(), next: None, code: 1 }
    }
    pub fn usage(why: impl Into<String>) -> Trouble {
        Trouble { code: 2, ..Trouble::new("cargo xtask", why).next("cargo xtask --help") }
    }
    pub fn next(self, command: impl Into<String>) -> Trouble {
        Trouble { next: Some(command.into()), ..self }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xtask: {}: {}", self.what, self.why)?;
        if let Some(next) = &self.next {
            write!(f, "\n  next: {next}")?;
        }
        Ok(())
    }
}
