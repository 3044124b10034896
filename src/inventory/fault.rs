//! One thing that is wrong with the inventory, and all of them together.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Where a value stands: index into the files of the load, line and column from 1. Line 0: the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub file: u32,
    pub line: u32,
    pub column: u32,
}

/// A fault of the inventory, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// As the operator named it, or `stdin`.
    pub file: PathBuf,
    /// From 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// From 1; 0 where the file as a whole is meant.
    pub column: u32,
    /// `spec.bmc.endpoints[0].redfish`; empty where the document as a whole is meant.
    pub path: String,
    pub message: String,
    /// What would mend it.
    pub suggestion: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        match self.path.as_str() {
            "" => write!(f, ": {}", clean(&self.message))?,
            path => write!(f, ": {}: {}", clean(path), clean(&self.message))?,
        }
        match &self.suggestion {
            Some(text) => write!(f, "\n  help: {}", clean(text)),
            None => Ok(()),
        }
    }
}

/// What a manifest says may be quoted in a message; control characters must not reach a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Faults that are collected at most: a file of garbage has no end of them.
pub const MAX_FAULTS: usize = 10_000;
/// Faults that are shown at most; the rest is counted.
pub const MAX_FAULTS_SHOWN: usize = 200;

/// Everything that is wrong, sorted by place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(pub Vec<Fault>);

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().take(MAX_FAULTS_SHOWN).enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "\n" })?;
        }
        match self.0.len().saturating_sub(MAX_FAULTS_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more faults"),
        }
    }
}

/// Collects while the inventory is read; places become files and lines at the end.
#[derive(Debug, Default)]
pub(crate) struct Report {
    faults: Vec<(At, String, String, Option<String>)>,
}

impl Report {
    pub(crate) fn add(&mut self, at: At, path: impl Into<String>, message: impl Into<String>, help: Option<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push((at, path.into(), message.into(), help));
        }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }
    /// Those of another report behind these.
    pub(crate) fn join(&mut self, other: Report) {
        let room = MAX_FAULTS.saturating_sub(self.faults.len());
        self.faults.extend(other.faults.into_iter().take(room));
    }
    /// Sorted by place, without repetitions.
    pub(crate) fn into_faults(self, files: &[PathBuf]) -> Vec<Fault> {
        let mut faults: Vec<_> = self.faults;
        faults.sort();
        faults.dedup();
        faults
            .into_iter()
            .map(|(at, path, message, suggestion)| Fault {
                file: files.get(at.file as usize).cloned().unwrap_or_default(),
                line: at.line,
                column: at.column,
                path,
                message,
                suggestion,
            })
            .collect()
    }
}

/// The known word that was probably meant, if one is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = word.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&wanted, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= 1 + k.len().max(word.len()) / 4 && *distance < k.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// `did you mean `x`?`, where a word is near enough.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|k| format!("did you mean `{k}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("hardwareClas", ["site", "hardwareClass", "profile"]), Some("hardwareClass"));
        assert_eq!(nearest("hardwareclass", ["site", "hardwareClass"]), Some("hardwareClass"));
        assert_eq!(nearest("zebra", ["site", "hardwareClass", "profile"]), None);
        assert_eq!(nearest("", ["a"]), None);
    }

    #[test]
    fn a_fault_names_place_and_help_and_no_control_characters() {
        let fault = Fault {
            file: "a.yaml".into(),
            line: 3,
            column: 5,
            path: "spec.x".into(),
            message: "unknown \u{1b}[31m".into(),
            suggestion: Some("y".into()),
        };
        assert_eq!(fault.to_string(), "a.yaml:3:5: spec.x: unknown \u{fffd}[31m\n  help: y");
    }
}
