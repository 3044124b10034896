//! A program of a step: argv, a small environment, JSON on standard input, a deadline.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use super::{NOTE_MAX, Told, tail};
use crate::{
    install::process::{self, Job},
    model::{Failure, failure::Cause},
    secrets::redact,
};

/// What a program inherits of our environment: nothing that could hold a secret.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// The program's whole environment, of ours.
pub fn environment(ours: impl IntoIterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    ours.into_iter().filter(|(name, _)| INHERITED.iter().any(|known| name == known)).collect()
}

/// Runs it to its end. `line` hears what it prints, cleaned and without secrets. The note that is given back are its
/// last lines.
///
/// # Errors
/// It cannot be started, ended with another exit code than 0, or was killed with all that it started at the deadline.
pub async fn program(
    command: &[String],
    told: &Told<'_>,
    deadline: Duration,
    mut line: impl FnMut(&str),
) -> Result<Option<String>, Failure> {
    let what = format!("{}: run {}", told.step, command.first().map(String::as_str).unwrap_or("nothing"));
    let stdin = serde_json::to_vec(told).map_err(|e| Failure::new(Cause::Local, &what, e.to_string()))?;
    let job = Job {
        what: what.clone(),
        argv: command.iter().map(OsString::from).collect(),
        env: environment(std::env::vars_os()),
        folder: None,
        stdin,
        deadline,
    };
    let shown = |f: Failure| Failure { why: redact(&f.why).into_owned(), ..f };
    let ended = process::run(&job, |_, text| line(&redact(text))).await.map_err(shown)?;
    let said = redact(&ended.tail.join("\n")).into_owned();
    let last = tail(said.trim(), NOTE_MAX);
    if ended.exit.ok() {
        return Ok((!last.is_empty()).then(|| last.to_owned()));
    }
    let words = last.lines().next_back().unwrap_or("nothing");
    Err(Failure::new(Cause::Refused, what, format!("{}; its last words: {words}", ended.exit.text())))
}
