//! The one way to standard output.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;

use super::{Exit, Stop};
use crate::model::failure::{Cause, Failure};

/// Writes all of it and flushes. A closed pipe is success: the [`Stop`] it gives says [`Exit::Done`]
/// and nothing else, so `?` ends the command quietly. No loaded secret passes, in whatever form.
pub fn print(text: &str) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    judge(out.write_all(crate::secrets::redact(text).as_bytes()).and_then(|()| out.flush()))
}

/// What a write to standard output means for the command.
pub fn judge(written: io::Result<()>) -> Result<(), Stop> {
    match written {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Stop { exit: Exit::Done, failures: Vec::new() }),
        Err(e) => Err(Failure::new(Cause::Local, "write to standard output", e.to_string()).into()),
    }
}

/// Messages are JSON, one object a line (`--log-format json`).
static JSON: AtomicBool = AtomicBool::new(false);

/// Said once, before the first message.
pub fn messages_as_json() {
    JSON.store(true, Ordering::Relaxed);
}

pub fn messages_are_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Messages for people. Nobody reads a closed standard error, so its faults are dropped.
pub fn note(text: &str) {
    if messages_are_json() {
        let (level, text) = match text.strip_prefix("warning: ") {
            Some(text) => ("warning", text),
            None => ("info", text),
        };
        return line(
            &json!({ "time": super::age::stamp(super::age::now()), "level": level, "message": text }).to_string(),
        );
    }
    line(text);
}

/// A failure in the form that was asked for.
pub fn failure(failure: &Failure, color: bool) {
    let text = if messages_are_json() {
        json!({ "time": super::age::stamp(super::age::now()), "level": "error", "message": failure.to_string(), "failure": failure })
            .to_string()
    } else {
        super::failure::render(failure, color)
    };
    line(crate::secrets::redact(&text).trim_end());
}

/// What stands at the foot of the terminal: messages go above it.
static STATUS: Mutex<String> = Mutex::new(String::new());
/// To the beginning of the line, and nothing is left of it.
const ERASE: &str = "\r\x1b[K";

fn line(text: &str) {
    let status = STATUS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut err = io::stderr().lock();
    let _ = err.write_all(above(&status, text).as_bytes()).and_then(|()| err.flush());
}

/// A message, and the status line below it.
fn above(status: &str, text: &str) -> String {
    if status.is_empty() { format!("{text}\n") } else { format!("{ERASE}{text}\n{status}") }
}

/// One line at the foot of the terminal that this replaces each time; empty: it goes. Only for terminals: the caller asks.
pub fn status(text: &str) {
    if messages_are_json() {
        return;
    }
    let mut status = STATUS.lock().unwrap_or_else(PoisonError::into_inner);
    let text = cut(crate::secrets::redact(text).as_ref(), width());
    if *status != text {
        let mut err = io::stderr().lock();
        let _ = err.write_all(format!("{ERASE}{text}").as_bytes()).and_then(|()| err.flush());
        *status = text;
    }
}

/// A line that wraps could not be erased.
fn cut(text: &str, columns: Option<u16>) -> String {
    text.chars().take(columns.map_or(usize::MAX, |c| usize::from(c).saturating_sub(1))).collect()
}

pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Columns of the terminal behind standard output; `None` where there is no terminal.
pub fn width() -> Option<u16> {
    use std::os::fd::AsRawFd;
    if !is_terminal() {
        return None;
    }
    // SAFETY: winsize is four plain integers, for which zero is a value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open for the process's life and the kernel writes one winsize.
    let rc = unsafe { libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (rc == 0 && size.ws_col > 0).then_some(size.ws_col)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stand_above_the_status_and_it_never_wraps() {
        assert_eq!(above("", "hello"), "hello\n");
        assert_eq!(above("1 of 2", "hello"), "\r\x1b[Khello\n1 of 2");
        assert_eq!(cut("1 of 2 answered", Some(7)), "1 of 2");
        assert_eq!(cut("1 of 2 answered", None), "1 of 2 answered");
    }

    #[test]
    fn a_closed_pipe_is_success_and_a_full_disk_is_not() {
        let closed = judge(Err(io::ErrorKind::BrokenPipe.into())).unwrap_err();
        assert_eq!((closed.exit, closed.failures.len()), (Exit::Done, 0));
        let full = judge(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!((full.exit, full.failures.len()), (Exit::Failed, 1));
    }
}
