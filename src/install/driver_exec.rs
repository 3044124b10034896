//! Runs the drivers. One call of [`phase`] is one phase; what comes next is decided elsewhere.

use std::{
    env, fs, io,
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    nixos_anywhere::{Phase, Spec, argv, environment, progress, wrapped},
    operator::{self, Order, Said, said},
    process::{Ended, Job, Stream, run},
    ssh_wrapper::{ALIAS, Pins, VERSION},
};
use crate::model::{Failure, failure::Cause};

/// What a driver says while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A step of the program began.
    Step(String),
    Bytes {
        done: u64,
        total: Option<u64>,
    },
    /// Any other line of output.
    Line(String),
}

/// Where `nixos-anywhere` is, and the program that becomes `ssh` and `scp` (rackctl itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// `nixos-anywhere`, or a path to it.
    pub nixos_anywhere: PathBuf,
    pub wrapper: PathBuf,
    /// Folder for the files of a call; they are removed at its end.
    pub scratch: PathBuf,
}

/// One phase of `nixos-anywhere` on one node, to exit code 0 within `deadline`.
pub async fn phase(
    tools: &Tools,
    spec: &Spec,
    phase: Phase,
    deadline: Duration,
    mut report: impl FnMut(Report),
) -> Result<Ended, Failure> {
    let what = format!("{}: nixos-anywhere, phase {}", spec.node, phase.name());
    let mut argv = argv(spec, phase)?;
    argv[0] = tools.nixos_anywhere.clone().into();
    let local = |e: io::Error| Failure::new(Cause::Local, &what, e.to_string());
    let pinned = Pinned::write(tools, &spec.host_key).map_err(local)?;
    let env = wrapped(environment(env::vars_os()), &pinned.wrappers, &pinned.pins);
    let job = Job { what: what.clone(), argv, env, folder: None, stdin: vec![], deadline };
    let ended = run(&job, |_, line| {
        report(match progress(line) {
            Some(step) => Report::Step(step.into()),
            None => Report::Line(line.into()),
        });
    })
    .await?;
    good(&what, ended)
}

/// The operator's own program, to exit code 0 within the order's deadline.
pub async fn operators_program(
    command: &[String],
    order: &Order,
    mut report: impl FnMut(Report),
) -> Result<Ended, Failure> {
    let what = format!("{}: install with {}", order.node, command.first().map(String::as_str).unwrap_or("nothing"));
    let job = Job {
        argv: operator::argv(&order.node, command)?,
        env: environment(env::vars_os()),
        folder: None,
        stdin: serde_json::to_vec(order).map_err(|e| Failure::new(Cause::Local, &what, e.to_string()))?,
        deadline: Duration::from_secs(order.deadline_s),
        what: what.clone(),
    };
    let ended = run(&job, |stream, line| match stream {
        Stream::Out => tell(said(line), &mut report),
        Stream::Err => report(Report::Line(line.into())),
    })
    .await?;
    good(&what, ended)
}

fn tell(said: Said, report: &mut impl FnMut(Report)) {
    if let Some(phase) = said.phase {
        report(Report::Step(phase));
    }
    if let Some(done) = said.done {
        report(Report::Bytes { done, total: said.total });
    }
    if let Some(message) = said.message {
        report(Report::Line(message));
    }
}

fn good(what: &str, ended: Ended) -> Result<Ended, Failure> {
    if ended.exit.ok() {
        return Ok(ended);
    }
    let last = ended.tail.iter().rev().find(|l| !l.trim().is_empty()).map(String::as_str).unwrap_or("nothing");
    Err(Failure::new(Cause::Refused, what, format!("{}; its last words: {last}", ended.exit.text())))
}

/// The files by which the wrapper knows the pin: removed when dropped.
struct Pinned {
    _folder: TempDir,
    wrappers: PathBuf,
    pins: PathBuf,
}

impl Pinned {
    fn write(tools: &Tools, host_key: &str) -> io::Result<Pinned> {
        let mut words = host_key.split_ascii_whitespace();
        let (algorithm, blob) = match (words.next(), words.next()) {
            (Some(a), Some(b)) if !host_key.trim().contains(['\n', '\r']) => (a, b),
            _ => return Err(io::Error::other("the host key to pin is not of the form `ssh-ed25519 AAAA…`")),
        };
        fs::create_dir_all(&tools.scratch)?;
        let folder = tempfile::Builder::new().prefix("install-").tempdir_in(&tools.scratch)?;
        let wrappers = folder.path().join("bin");
        fs::create_dir(&wrappers)?;
        let wrapper = fs::canonicalize(&tools.wrapper)?;
        for name in ["ssh", "scp"] {
            symlink(&wrapper, wrappers.join(name))?;
        }
        let known_hosts = folder.path().join("known_hosts");
        private(&known_hosts, format!("{ALIAS} {algorithm} {blob}\n").as_bytes())?;
        let pins = Pins {
            version: VERSION,
            known_hosts,
            host_key_algorithms: if algorithm == "ssh-rsa" { "rsa-sha2-512,rsa-sha2-256" } else { algorithm }.into(),
            ssh: find("ssh")?,
            scp: find("scp")?,
        };
        let file = folder.path().join("pins.json");
        private(&file, &serde_json::to_vec(&pins)?)?;
        Ok(Pinned { wrappers, pins: file, _folder: folder })
    }
}

fn private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// The real program in our own `PATH`.
fn find(name: &str) -> io::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| io::Error::other(format!("{name} is not in PATH")))
}
