//! What the steps of a playbook do beside making runs: wait for a cluster, start programs, tell somebody, and stand in
//! the journal. What comes when is decided by [`crate::engine::play`].

pub mod exec;
pub mod gate;
pub mod gate_client;
mod journal;
pub mod notify_client;

use std::collections::BTreeMap;

use serde::Serialize;

pub use journal::{SUBJECT, draft, marks};

/// Longest note that is kept of a step, in bytes: the last lines of a program.
pub const NOTE_MAX: usize = 4_096;

/// What programs and webhooks are told, as one JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told<'a> {
    /// [`Told::VERSION`].
    pub version: u32,
    pub run: &'a str,
    pub playbook: &'a str,
    pub step: &'a str,
    pub title: &'a str,
    pub attempt: u32,
    pub parameters: &'a BTreeMap<String, String>,
    /// Of a `notify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
}

impl Told<'_> {
    pub const VERSION: u32 = 1;
}

/// The end of a text, cut at a character: what was said last says most.
pub fn tail(text: &str, max: usize) -> &str {
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests;
