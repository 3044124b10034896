//! What can go wrong, in the shape in which it is reported: a kind for programs, a sentence for people.

use rackctl_wire::{Stage, StageError};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeError {
    /// As in [`StageError::kind`].
    pub kind: &'static str,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, NodeError>;

impl NodeError {
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub fn io(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::new("io", format!("{what}: {error}"))
    }

    pub fn at(&self, stage: Stage) -> StageError {
        StageError { stage, kind: self.kind.into(), message: self.message.clone() }
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.message, self.kind)
    }
}

/// Says what was being done when an operating system call failed.
pub trait Doing<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| NodeError::io(what, error))
    }
}
