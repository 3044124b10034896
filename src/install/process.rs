//! Runs a foreign program: argv and environment given whole, output in bounded lines, a deadline at which the
//! program and all that it started are killed.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    io,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    sync::mpsc,
};

use super::supervisor_exec;
use crate::model::{Failure, failure::Cause};

/// A longer line is cut; the rest of it is dropped.
pub const LINE_MAX_BYTES: usize = 4096;
/// Last lines that a failure can show.
pub const TAIL_LINES: usize = 40;
/// Lines waiting for whoever is told of them; a slower listener makes the program wait.
const QUEUE_LINES: usize = 64;
/// After the program has ended: how long its pipes may stay open.
const DRAIN: Duration = Duration::from_secs(2);
/// After the supervisor was asked to kill everything.
const KILL: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// For failures: `n1: nixos-anywhere, phase disko`.
    pub what: String,
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: BTreeMap<OsString, OsString>,
    pub folder: Option<PathBuf>,
    pub stdin: Vec<u8>,
    pub deadline: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// How it ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub exit: Exit,
    pub took: Duration,
    /// Last lines of both streams, cleaned.
    pub tail: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// A signal ended it (or a program below it, as shells report that: 128 + signal).
    Signal(i32),
}

impl Exit {
    pub fn ok(self) -> bool {
        self == Exit::Code(0)
    }
    /// As a failure says it.
    pub fn text(self) -> String {
        match self {
            Exit::Code(code) => format!("it ended with exit code {code}"),
            Exit::Signal(signal) => format!("signal {signal} ended it"),
        }
    }
}

/// Runs it to its end. `line` hears each line of output, without control characters. At the deadline, and when
/// the returned future is dropped, the program and its descendants are killed.
pub async fn run(job: &Job, mut line: impl FnMut(Stream, &str)) -> Result<Ended, Failure> {
    let began = Instant::now();
    let failure = |cause, why: String| Failure::new(cause, &job.what, why);
    let mut child = Guarded(Some(spawn(job).map_err(|e| {
        let program = job.argv.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        failure(Cause::Local, format!("{program} cannot be started: {e}"))
    })?));
    let (stdin, stdout, stderr) = child.pipes();
    let (send, mut lines) = mpsc::channel(QUEUE_LINES);
    let mut tail = VecDeque::with_capacity(TAIL_LINES);
    let mut hear = |(stream, text): (Stream, String)| {
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        line(stream, &text);
        tail.push_back(text);
    };

    let status = {
        let input = job.stdin.clone();
        // Feeding must not wait for reading: the program may write first. A program that does not read is none of ours.
        let mut feed = tokio::spawn(async move {
            if let Some(mut pipe) = stdin {
                let _ = pipe.write_all(&input).await;
            }
        });
        let readers = [
            tokio::spawn(read_lines(Stream::Out, stdout, send.clone())),
            tokio::spawn(read_lines(Stream::Err, stderr, send)),
        ];
        let end = tokio::time::sleep_until((began + job.deadline).into());
        tokio::pin!(end);
        let mut open = true;
        let status = loop {
            tokio::select! {
                biased;
                got = lines.recv(), if open => match got {
                    Some(got) => hear(got),
                    None => open = false,
                },
                status = child.wait() => break Some(status),
                () = &mut end => break None,
            }
        };
        if status.is_none() {
            child.kill_all().await;
        }
        // What it had printed before it ended is still in the pipes.
        let drain = async {
            while let Some(got) = lines.recv().await {
                hear(got);
            }
        };
        let _ = tokio::time::timeout(DRAIN, drain).await;
        readers.iter().for_each(|r| r.abort());
        feed.abort();
        let _ = (&mut feed).await;
        status
    };
    let tail: Vec<String> = tail.into();
    match status {
        None => {
            let last = tail.last().map(String::as_str).unwrap_or("nothing");
            let why = format!(
                "no end within {} s; killed with all its children; its last words: {last}",
                job.deadline.as_secs_f32()
            );
            Err(failure(Cause::Deadline, why))
        }
        Some(Err(e)) => Err(failure(Cause::Local, e.to_string())),
        Some(Ok(status)) => Ok(Ended { exit: exit_of(status), took: began.elapsed(), tail }),
    }
}

fn exit_of(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) if code > 128 && code <= 128 + 64 => Exit::Signal(code - 128),
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}

fn spawn(job: &Job) -> io::Result<Child> {
    let (program, arguments) = job.argv.split_first().ok_or_else(|| io::Error::other("argv is empty"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&job.env);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(folder) = &job.folder {
        command.current_dir(folder);
    }
    let parent = std::process::id();
    // SAFETY: between fork and exec, system calls only; see there.
    unsafe {
        command.pre_exec(move || supervisor_exec::interpose(parent));
    }
    command.spawn()
}

/// Asks the supervisor to kill everything when it is dropped before the end.
struct Guarded(Option<Child>);

impl Guarded {
    fn pipes(
        &mut self,
    ) -> (Option<tokio::process::ChildStdin>, Option<tokio::process::ChildStdout>, Option<tokio::process::ChildStderr>)
    {
        match &mut self.0 {
            Some(child) => (child.stdin.take(), child.stdout.take(), child.stderr.take()),
            None => (None, None, None),
        }
    }

    async fn wait(&mut self) -> io::Result<std::process::ExitStatus> {
        let Some(child) = &mut self.0 else { return Err(io::Error::other("it was waited for already")) };
        let status = child.wait().await;
        self.0 = None;
        status
    }

    fn ask(&self) {
        if let Some(pid) = self.0.as_ref().and_then(Child::id) {
            // SAFETY: a signal to our own child, which has not been waited for.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
        }
    }

    async fn kill_all(&mut self) {
        self.ask();
        let _ = tokio::time::timeout(KILL, self.wait()).await;
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.ask();
    }
}

async fn read_lines(stream: Stream, pipe: Option<impl AsyncRead + Unpin>, send: mpsc::Sender<(Stream, String)>) {
    let Some(mut pipe) = pipe else { return };
    let mut split = Lines::default();
    let mut buffer = [0u8; 8192];
    while let Ok(got @ 1..) = pipe.read(&mut buffer).await {
        for text in split.take(&buffer[..got]) {
            if send.send((stream, text)).await.is_err() {
                return;
            }
        }
    }
    if let Some(text) = split.rest() {
        let _ = send.send((stream, text)).await;
    }
}

/// Bytes to lines: cut at [`LINE_MAX_BYTES`], control characters (colours, carriage returns) taken out. Pure.
#[derive(Debug, Default)]
struct Lines {
    open: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = LINE_MAX_BYTES - self.open.len();
            self.open.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                out.push(clean(&std::mem::take(&mut self.open)));
            }
        }
        out
    }

    fn rest(self) -> Option<String> {
        (!self.open.is_empty()).then(|| clean(&self.open))
    }
}

/// Without control characters and without the escape sequences that terminals know (`ESC [ … letter`).
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            chars.next();
            while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
            chars.next();
        } else if c == '\t' {
            out.push(' ');
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_cleaned_and_joined_over_reads() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"### Par"), [""; 0]);
        assert_eq!(
            lines.take(b"titioning ###\nsecond\r\n\x1b[1;31mred\x1b[0m\tend"),
            ["### Partitioning ###", "second"]
        );
        assert_eq!(lines.rest().as_deref(), Some("red end"));
        let mut long = Lines::default();
        assert_eq!(long.take(&vec![b'x'; 3 * LINE_MAX_BYTES]), [""; 0]);
        assert_eq!(long.take(b"\nnext\n")[..], ["x".repeat(LINE_MAX_BYTES), "next".into()]);
    }

    #[test]
    fn an_exit_is_a_code_or_a_signal() {
        use std::os::unix::process::ExitStatusExt as _;
        let of = |raw| exit_of(std::process::ExitStatus::from_raw(raw));
        assert_eq!(
            [of(0), of(3 << 8), of(9), of(143 << 8)],
            [Exit::Code(0), Exit::Code(3), Exit::Signal(9), Exit::Signal(15)]
        );
    }
}
