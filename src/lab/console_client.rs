//! A serial console on this terminal.

use std::{
    fs,
    io::{self, IsTerminal, Read, Seek, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{self, SetArg, Termios},
};

use super::{
    client,
    escape::Escape,
    layout::MachineLayout,
    process_exec::{self, local},
};
use crate::model::{Failure, failure::Cause};

/// A guest that does not read its serial port for so long is told nothing more.
const SEND: Duration = Duration::from_secs(5);
/// How soon a machine that was switched on is noticed.
const RETRY_MS: u16 = 300;
/// How soon new text in a log is noticed.
const FOLLOW: Duration = Duration::from_millis(200);
const CHUNK: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `~.` was typed, or there is nobody to type or to read any more.
    Left,
    /// The other side closed: the machine went off or starts anew.
    Closed,
}

/// Puts this terminal on a stream, raw, until either side ends. The terminal is as before afterwards. Standard input that
/// is no terminal is sent as it is; its end leaves.
pub fn attach(stream: &UnixStream) -> Result<Ended, Failure> {
    let raw = io::stdin().is_terminal().then(Raw::enter).transpose()?;
    let ended = pump(Some(stream), &mut Escape::default(), None);
    drop(raw);
    ended
}

/// The console of one machine of a laboratory, over its reboots, until `~.`.
///
/// Where standard input is no terminal it only reads: the log from now on, until the laboratory ends.
pub fn console(lab: &str, node: &str) -> Result<(), Failure> {
    let layout = client::layout(lab)?;
    client::load(&layout)?.machine(node)?;
    let files = layout.machine(node);
    if !io::stdin().is_terminal() {
        return follow(&files, || {
            process_exec::recorded(&layout.pid()).is_some_and(|process| process_exec::is_alive(&process))
        });
    }
    let what = || format!("lab {lab}: console of {node}");
    let _mine = lock(&files, what())?;
    eprintln!("[{node}: ~. at the start of a line leaves]");
    let raw = Raw::enter()?;
    let mut escape = Escape::default();
    let mut said = false;
    let ended = loop {
        match UnixStream::connect(files.serial_socket()) {
            Ok(stream) => {
                if std::mem::take(&mut said) {
                    eprint!("[{node} is on]\r\n");
                }
                if pump(Some(&stream), &mut escape, None)? == Ended::Left {
                    break Ok(());
                }
            }
            Err(_) => {
                if !said {
                    eprint!("\r\n[{node} is off; waiting]\r\n");
                    said = true;
                }
                if pump(None, &mut escape, Some(RETRY_MS))? == Ended::Left {
                    break Ok(());
                }
            }
        }
    };
    drop(raw);
    eprintln!("\n[left {node}]");
    ended
}

/// QEMU serves one client; a second would wait in silence.
fn lock(files: &MachineLayout, what: String) -> Result<Flock<fs::File>, Failure> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(files.console_lock())
        .map_err(|e| local(what.as_str(), e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => Failure::new(Cause::Busy, what.as_str(), "someone is attached to it already")
            .next(format!("tail -f {}", files.serial_log().display())),
        other => local(what.as_str(), other),
    })
}

/// Terminal to stream and back. Without a stream it only listens for the escape, for `wait_ms`.
fn pump(stream: Option<&UnixStream>, escape: &mut Escape, wait_ms: Option<u16>) -> Result<Ended, Failure> {
    let fault = |error: io::Error| local("console", error);
    if let Some(stream) = stream {
        stream.set_write_timeout(Some(SEND)).map_err(fault)?;
    }
    let stdin = io::stdin();
    let mut buffer = [0u8; CHUNK];
    loop {
        let interest = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let fds: Vec<BorrowedFd<'_>> = std::iter::once(stdin.as_fd()).chain(stream.map(AsFd::as_fd)).collect();
        let mut polled: Vec<PollFd<'_>> = fds.into_iter().map(interest).collect();
        let timeout = wait_ms.map_or(PollTimeout::NONE, PollTimeout::from);
        match poll(&mut polled, timeout) {
            Ok(0) => return Ok(Ended::Closed),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(fault(error.into())),
        }
        let is_ready = |i: usize| polled.get(i).and_then(PollFd::revents).is_some_and(|r| !r.is_empty());
        if is_ready(0) {
            let read = nix::unistd::read(stdin.as_fd(), &mut buffer).map_err(|e| fault(e.into()))?;
            let typed = escape.typed(&buffer[..read]);
            if let Some(mut stream) = stream
                && stream.write_all(&typed.send).is_err()
            {
                return Ok(Ended::Closed);
            }
            if typed.leave || read == 0 {
                return Ok(Ended::Left);
            }
        }
        if is_ready(1)
            && let Some(mut stream) = stream
        {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return Ok(Ended::Closed),
                Ok(read) => {
                    let mut out = io::stdout().lock();
                    if out.write_all(&buffer[..read]).and_then(|()| out.flush()).is_err() {
                        return Ok(Ended::Left);
                    }
                }
            }
        }
    }
}

/// Prints what is added to the serial log. A closed pipe ends it and is no fault.
fn follow(files: &MachineLayout, is_alive: impl Fn() -> bool) -> Result<(), Failure> {
    let path = files.serial_log();
    let fault = |error: io::Error| local(format!("follow {}", path.display()), error);
    // It is there from the machine's first start on.
    let mut file = None;
    let mut buffer = [0u8; CHUNK];
    loop {
        if file.is_none() {
            file = match fs::File::open(&path) {
                Ok(mut opened) => {
                    opened.seek(io::SeekFrom::End(0)).map_err(fault)?;
                    Some(opened)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(fault(error)),
            };
        }
        let read = match &mut file {
            Some(file) => file.read(&mut buffer).map_err(fault)?,
            None => 0,
        };
        if read == 0 {
            if !is_alive() {
                return Ok(());
            }
            std::thread::sleep(FOLLOW);
            continue;
        }
        let mut out = io::stdout().lock();
        match out.write_all(&buffer[..read]).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(fault)?,
        }
    }
}

/// The terminal without echo, line editing and signals; put back when dropped.
struct Raw {
    before: Termios,
}

impl Raw {
    fn enter() -> Result<Raw, Failure> {
        let fault = |error: nix::errno::Errno| local("console: set up the terminal", error);
        let before = termios::tcgetattr(io::stdin()).map_err(fault)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).map_err(fault)?;
        Ok(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}
