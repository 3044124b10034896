//! A password from the person at the terminal: never a flag, never shown.

use std::io::{self, BufRead, Read};

use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices, Termios};

use crate::{
    model::{Failure, Secret, failure::Cause},
    output::stdout,
};

/// Bytes of a line that is read as a password.
const MOST: u64 = 4096;

/// ^C
const INTERRUPT: u8 = 3;

/// Gives the terminal back as it was, whatever happens in between.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> nix::Result<Quiet> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        // ^C ends the line and not the process, which would leave the terminal mute.
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        if let Some(end) = quiet.control_chars.get_mut(SpecialCharacterIndices::VEOL as usize) {
            *end = INTERRUPT;
        }
        termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

/// Whether a person may be asked instead of a source that failed so: there is one, at both ends of the terminal, and no
/// pipeline whose runner has a terminal for show.
pub fn may_ask(cause: Cause) -> bool {
    let absent = matches!(cause, Cause::Local | Cause::Deadline);
    let automatic = std::env::var_os("CI").is_some_and(|v| !v.is_empty() && v != "false");
    absent && !automatic && stdout::stdin_is_terminal() && stdout::stderr_is_terminal()
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
    let mut line = Vec::new();
    let mut input = io::stdin().lock().take(MOST);
    let read = match &quiet {
        // Until ^C as well, which a line of text would not end at.
        Some(_) => loop {
            let (used, ended) = match input.fill_buf() {
                Ok(bytes) => {
                    let end = bytes.iter().position(|b| matches!(*b, b'\n' | INTERRUPT));
                    line.extend_from_slice(&bytes[..end.map_or(bytes.len(), |at| at + 1)]);
                    (end.map_or(bytes.len(), |at| at + 1), end.is_some() || bytes.is_empty())
                }
                Err(e) => break Err(e),
            };
            input.consume(used);
            if ended {
                break Ok(());
            }
        },
        None => input.read_until(b'\n', &mut line).map(drop),
    };
    drop(quiet);
    let interrupted = line.ends_with(&[INTERRUPT]);
    let secret = Secret::new(String::from_utf8(line).map_err(|e| {
        zeroize::Zeroize::zeroize(&mut e.into_bytes());
        local("it is no text".into())
    })?);
    read.map_err(|e| local(e.to_string()))?;
    if interrupted {
        return Err(Failure::new(Cause::Interrupted, what(), "nothing was kept"));
    }
    let text = Secret::new(secret.expose().trim_end_matches(['\r', '\n']).to_owned());
    crate::secrets::remember(&text);
    if text.expose().is_empty() { Err(local("nothing was said".into())) } else { Ok(text) }
}
