//! A password from the person at the terminal: never a flag, never shown.

use std::io::{self, BufRead, Read};

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

use crate::{
    model::{Failure, Secret, failure::Cause},
    output::stdout,
};

/// Bytes of a line that is read as a password.
const MOST: u64 = 4096;

/// Gives the terminal back as it was, whatever happens in between.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> nix::Result<Quiet> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

/// Asked at the terminal, else one line of standard input where that is what was said (`--password-stdin`).
///
/// # Errors
/// There is no terminal, or nothing was said.
pub fn password(prompt: &str, from_stdin: bool) -> Result<Secret, Failure> {
    let what = || format!("read the password ({prompt})");
    let local = |why: String| Failure::new(Cause::Local, what(), why);
    let quiet = match (from_stdin, stdout::stdin_is_terminal()) {
        (true, _) => None,
        (false, true) => {
            stdout::note(&format!("{prompt}:"));
            Some(Quiet::begin().map_err(|e| local(e.to_string()))?)
        }
        (false, false) => {
            return Err(local("there is no terminal to ask at".into()).next("… --password-stdin < FILE"));
        }
    };
    let mut line = String::new();
    let read = io::stdin().lock().take(MOST).read_line(&mut line);
    drop(quiet);
    let secret = Secret::new(line);
    read.map_err(|e| local(e.to_string()))?;
    let text = Secret::new(secret.expose().trim_end_matches(['\r', '\n']).to_owned());
    crate::secrets::remember(&text);
    if text.expose().is_empty() { Err(local("nothing was said".into())) } else { Ok(text) }
}
