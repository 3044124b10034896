//! A program that is to run: started, started again when it ends, its output kept in a bounded log.

use crate::children;
use crate::console::{clean, say};
use crate::node_error::{NodeError, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(100);
/// A program that ran this long begins with the shortest wait again.
const STEADY: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Size at which a log is put aside; one older log is kept.
const LOG_BYTES: u64 = 4 << 20;
const LINE_BYTES: u64 = 4096;
pub const TAIL_LINES: usize = 40;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub running: bool,
    pub starts: u32,
    pub last_exit: Option<String>,
    /// How long the running process has been running.
    pub running_for: Option<Duration>,
    pub log_tail: Vec<String>,
}

#[derive(Default)]
struct State {
    unwanted: bool,
    pid: Option<i32>,
    since: Option<Instant>,
    starts: u32,
    last_exit: Option<String>,
    ended: bool,
    tail: VecDeque<String>,
}

#[derive(Clone)]
pub struct Service {
    name: &'static str,
    state: Arc<Mutex<State>>,
}

/// Wait before the next start after `failures` quick ends in a row.
fn wait_before(failures: u32) -> Duration {
    Duration::from_millis(500u64 << failures.min(10)).min(WAIT_MAX)
}

impl Service {
    /// `build` gives a fresh command for every start.
    pub fn start(name: &'static str, log: PathBuf, build: impl Fn() -> Command + Send + 'static) -> Result<Self> {
        let service = Self { name, state: Arc::default() };
        let runner = service.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runner.run(&log, build))
            .map_err(|error| NodeError::io(format_args!("starting {name}"), error))?;
        Ok(service)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> Status {
        let state = self.lock();
        Status {
            running: state.pid.is_some(),
            starts: state.starts,
            last_exit: state.last_exit.clone(),
            running_for: state.pid.and(state.since).map(|since| since.elapsed()),
            log_tail: state.tail.iter().cloned().collect(),
        }
    }

    /// Asks it to end, and kills it after `grace`. Gives back whether it has ended.
    pub fn stop(&self, grace: Duration) -> bool {
        self.signal(Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < grace {
            if self.lock().ended {
                return true;
            }
            std::thread::sleep(POLL / 2);
        }
        self.signal(Signal::SIGKILL);
        std::thread::sleep(POLL * 3);
        self.lock().ended
    }

    fn signal(&self, signal: Signal) {
        let mut state = self.lock();
        state.unwanted = true;
        // The process is waited for under the same lock: this is no other process' number.
        if let Some(pid) = state.pid {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    fn run(&self, log: &std::path::Path, build: impl Fn() -> Command) {
        let mut failures = 0u32;
        while let Some(mut child) = self.begin(&build) {
            if let Ok(child) = &mut child {
                self.follow(child, log);
            }
            let ran = match child {
                Ok(child) => self.watch(child),
                Err(()) => Duration::ZERO,
            };
            failures = if ran > STEADY { 0 } else { failures + 1 };
            let wait = wait_before(failures.saturating_sub(1));
            let began = Instant::now();
            while began.elapsed() < wait && !self.lock().unwanted {
                std::thread::sleep(POLL);
            }
        }
        self.lock().ended = true;
    }

    /// `None` when it is not wanted any more.
    fn begin(&self, build: &impl Fn() -> Command) -> Option<std::result::Result<Child, ()>> {
        let mut state = self.lock();
        if state.unwanted {
            return None;
        }
        let mut command = build();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        state.starts = state.starts.saturating_add(1);
        match children::spawn(&mut command) {
            Ok(child) => {
                state.pid = Some(child.id() as i32);
                state.since = Some(Instant::now());
                Some(Ok(child))
            }
            Err(error) => {
                state.last_exit = Some(format!("could not be started: {error}"));
                drop(state);
                say(format!("{} could not be started: {error}", self.name));
                Some(Err(()))
            }
        }
    }

    fn watch(&self, mut child: Child) -> Duration {
        let began = Instant::now();
        loop {
            {
                let mut state = self.lock();
                let exit = match children::poll(&mut child) {
                    Ok(None) => None,
                    Ok(Some(status)) => Some(status.to_string()),
                    Err(error) => Some(format!("lost: {error}")),
                };
                if let Some(exit) = exit {
                    state.pid = None;
                    state.last_exit = Some(exit.clone());
                    let unwanted = state.unwanted;
                    drop(state);
                    if !unwanted {
                        say(format!("{} ended: {exit}", self.name));
                    }
                    return began.elapsed();
                }
            }
            std::thread::sleep(POLL);
        }
    }

    /// Takes the output to the log, in threads of their own.
    fn follow(&self, child: &mut Child, log: &std::path::Path) {
        let log = Arc::new(Mutex::new(Log { path: log.to_owned(), file: None, written: 0 }));
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
            child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        ];
        for output in outputs.into_iter().flatten() {
            let (service, log) = (self.clone(), log.clone());
            let name = format!("{}-log", self.name);
            // Without a thread the pipe would fill and stop the program: closed, it gets an error instead.
            let _ = std::thread::Builder::new().name(name).spawn(move || {
                let mut reader = BufReader::new(output);
                let mut line = Vec::new();
                while matches!((&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line), Ok(1..)) {
                    let text = clean(String::from_utf8_lossy(&line).trim_end());
                    line.clear();
                    log.lock().unwrap_or_else(PoisonError::into_inner).line(&text);
                    let mut state = service.lock();
                    if state.tail.len() == TAIL_LINES {
                        state.tail.pop_front();
                    }
                    state.tail.push_back(text);
                }
            });
        }
    }
}

struct Log {
    path: PathBuf,
    file: Option<File>,
    written: u64,
}

impl Log {
    /// A log that cannot be written is no reason to stop what it is about.
    fn line(&mut self, text: &str) {
        if self.written > LOG_BYTES {
            self.file = None;
            let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
        }
        if self.file.is_none() {
            self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
            self.written = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(format!("{text}\n").as_bytes());
            self.written += text.len() as u64 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &'static str) -> impl Fn() -> Command + Send + 'static {
        move || {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        }
    }

    fn until(what: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if what() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    #[test]
    fn a_program_that_ends_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let service = Service::start("x", log.clone(), shell("echo one; echo two >&2; exit 3")).unwrap();
        assert!(until(|| service.status().starts >= 2));
        assert!(service.status().last_exit.unwrap().contains('3'));
        assert!(until(|| service.status().log_tail.iter().any(|line| line == "two")));
        assert!(std::fs::read_to_string(log).unwrap().contains("one"));
        assert!(service.stop(Duration::from_secs(5)));
        let starts = service.status().starts;
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(service.status().starts, starts);
    }

    #[test]
    fn one_that_does_not_listen_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let service =
            Service::start("y", dir.path().join("y.log"), shell("trap '' TERM; echo up; while :; do sleep 0.1; done"));
        let service = service.unwrap();
        assert!(until(|| service.status().log_tail == ["up"]));
        assert!(service.stop(Duration::from_millis(300)));
        assert!(!service.status().running);
        assert!(service.status().last_exit.unwrap().contains('9'));
    }

    #[test]
    fn a_missing_program_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::start("z", dir.path().join("z.log"), || Command::new("/nonexistent")).unwrap();
        assert!(until(|| service.status().last_exit.is_some_and(|exit| exit.contains("could not be started"))));
        assert!(service.stop(Duration::from_secs(5)));
    }

    #[test]
    fn waits_grow_and_are_capped() {
        assert_eq!(wait_before(0), Duration::from_millis(500));
        assert_eq!(wait_before(60), WAIT_MAX);
    }
}
