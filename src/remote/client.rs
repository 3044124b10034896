//! Runs commands on a node: one `ssh` process each, bounded in time and output.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::{
    argv::{self, Target, Terminal},
    diagnosis::{SSH_FAILED, failure},
    key::HostKey,
    spawn_exec::spawn,
};
use crate::model::{Failure, failure::Cause};

/// Of ssh's own messages.
const LOG_MAX_BYTES: u64 = 64 << 10;
/// How often a command is given whose ssh is killed each time.
const KILLED_TRIES: u32 = 3;

/// How a process of ssh came to its end.
enum Ended {
    With(Output),
    Killed(ExitStatus),
}

/// Writes the known_hosts file of a target to `path`, replacing it whole: for [`argv::ssh`] with
/// [`Terminal::Yes`], where this process becomes `ssh` and cannot remove the file afterwards.
pub fn pin(target: &Target, path: &Path) -> Result<HostKey, Failure> {
    let key = target.check()?;
    let local = |e: std::io::Error| {
        Failure::new(Cause::Local, format!("{}: pin the host key", target.host), format!("{}: {e}", path.display()))
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(local)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(local)?;
    file.write_all(key.known_hosts_line(argv::ALIAS).as_bytes()).map_err(local)?;
    file.persist(path).map_err(|e| local(e.error))?;
    Ok(key)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Of the remote command; by its shell 128 + n if signal n ended it.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// A node with its pin. Holds files, no connection: there is nothing that could outlive it.
#[derive(Debug)]
pub struct Ssh {
    target: Target,
    key: HostKey,
    folder: TempDir,
    known_hosts: PathBuf,
}

impl Ssh {
    /// Writes the pin under `folder` and speaks to nobody.
    pub fn prepare(target: Target, folder: &Path) -> Result<Ssh, Failure> {
        let key = target.check()?;
        let what = format!("{}@{}: write the pinned host key", target.user, target.host);
        let local = |e: std::io::Error| Failure::new(Cause::Local, &what, format!("{}: {e}", folder.display()));
        fs::create_dir_all(folder).map_err(local)?;
        let folder_of_ours = tempfile::Builder::new().prefix("ssh-").tempdir_in(folder).map_err(local)?;
        let known_hosts = folder_of_ours.path().join("known_hosts");
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&known_hosts).map_err(local)?;
        file.write_all(key.known_hosts_line(argv::ALIAS).as_bytes()).map_err(local)?;
        Ok(Ssh { target, key, folder: folder_of_ours, known_hosts })
    }

    /// [`Ssh::prepare`], and proof that the pinned host is there and lets us in.
    pub async fn connect(target: Target, folder: &Path) -> Result<Ssh, Failure> {
        let deadline = target.connect_timeout.max(Duration::from_secs(1)) * 2;
        let ssh = Ssh::prepare(target, folder)?;
        let out = ssh.run(&["true".into()], None, deadline, 4096).await?;
        if out.status != 0 {
            let why = format!("`true` ended with {}", out.status);
            return Err(Failure::new(Cause::Refused, ssh.what("log in"), why));
        }
        Ok(ssh)
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    fn what(&self, doing: &str) -> String {
        format!("{}@{}:{}: {doing}", self.target.user, self.target.host, self.target.port)
    }

    /// Runs `command` (argv, quoted for the remote shell). Any exit status of it is an `Ok`. More output than
    /// `max_output` bytes on either stream ends it, and so does the deadline; whether it did its work is then unknown.
    pub async fn run(
        &self,
        command: &[String],
        stdin: Option<Vec<u8>>,
        deadline: Duration,
        max_output: usize,
    ) -> Result<Output, Failure> {
        match self.once(command, stdin, deadline, max_output).await? {
            Ended::With(output) => Ok(output),
            Ended::Killed(status) => Err(self.killed(command, status)),
        }
    }

    /// As [`Ssh::run`], and once more where ssh itself was ended by a signal: for commands that may be given twice.
    pub async fn run_again(
        &self,
        command: &[String],
        stdin: Option<Vec<u8>>,
        deadline: Duration,
        max_output: usize,
    ) -> Result<Output, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(command, stdin.clone(), deadline, max_output).await? {
                Ended::With(output) => return Ok(output),
                Ended::Killed(_) if tries < KILLED_TRIES => {}
                Ended::Killed(status) => return Err(self.killed(command, status)),
            }
        }
    }

    fn what_runs(&self, command: &[String]) -> String {
        self.what(&format!("run {}", command.first().map(String::as_str).unwrap_or("a shell")))
    }

    /// The command may have come to its end all the same.
    fn killed(&self, command: &[String], status: ExitStatus) -> Failure {
        let why = format!("ssh was ended from outside ({status}); what the command did is unknown");
        Failure::new(Cause::Unreachable, self.what_runs(command), why)
    }

    async fn once(
        &self,
        command: &[String],
        stdin: Option<Vec<u8>>,
        deadline: Duration,
        max_output: usize,
    ) -> Result<Ended, Failure> {
        let what = self.what_runs(command);
        let local = |e: std::io::Error| Failure::new(Cause::Local, &what, e.to_string());
        let log = tempfile::Builder::new().prefix("log-").tempfile_in(self.folder.path()).map_err(local)?;
        let argv = argv::ssh(&self.target, &self.key, &self.known_hosts, Some(log.path()), Terminal::No, command)?;

        let whole = async {
            let mut child = spawn(process(&argv, stdin.is_some(), self.target.agent)).await.map_err(|e| {
                Failure::new(Cause::Local, &what, format!("ssh cannot be started: {e}")).next("rackctl doctor")
            })?;
            let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let write = async {
                if let (Some(mut pipe), Some(bytes)) = (input, stdin) {
                    // A command that does not read its input is no failure; its status says what it is.
                    let _ = pipe.write_all(&bytes).await;
                }
            };
            let (_, stdout, stderr) = tokio::join!(write, bounded(out, max_output), bounded(err, max_output));
            let (stdout, stderr) = match (stdout, stderr) {
                (Ok(stdout), Ok(stderr)) => (stdout, stderr),
                (Err(e), _) | (_, Err(e)) => {
                    let _ = child.kill().await;
                    return Err(Failure::new(Cause::Malformed, &what, e));
                }
            };
            let status = child.wait().await.map_err(local)?;
            Ok((status, stdout, stderr))
        };
        let (status, stdout, stderr) = match tokio::time::timeout(deadline, whole).await {
            Ok(done) => done?,
            // Dropping the child has killed it.
            Err(_) => {
                let why = format!("no end within {} ms; what it did is unknown", deadline.as_millis());
                return Err(Failure::new(Cause::Deadline, what, why));
            }
        };
        match status.code() {
            Some(SSH_FAILED) => {
                let said = read_log(log.path());
                // A remote command may end with 255 too; then ssh itself has nothing to say.
                if said.trim().is_empty() {
                    return Ok(Ended::With(Output { status: SSH_FAILED, stdout, stderr }));
                }
                Err(failure(&what, &self.key, &said))
            }
            Some(status) => Ok(Ended::With(Output { status, stdout, stderr })),
            None => Ok(Ended::Killed(status)),
        }
    }

    /// The argv of an interactive `ssh`, or of one command with the terminal passed on. The pin's file stays behind:
    /// the process that becomes `ssh` cannot remove it.
    pub fn interactive(self, command: &[String]) -> Result<Vec<std::ffi::OsString>, Failure> {
        let argv = argv::ssh(&self.target, &self.key, &self.known_hosts, None, Terminal::Yes, command)?;
        let _ = self.folder.keep();
        Ok(argv)
    }

    /// Removes the files. Dropping does the same and cannot say that it failed.
    pub fn close(self) -> Result<(), Failure> {
        let what = self.what("remove the files of the connection");
        self.folder.close().map_err(|e| Failure::new(Cause::Local, what, e.to_string()))
    }
}

fn process(argv: &[std::ffi::OsString], stdin: bool, agent: bool) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear().env("LC_ALL", "C");
    for name in ["PATH", "HOME"].iter().chain(agent.then_some(&"SSH_AUTH_SOCK")) {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(if stdin { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ends with an error as soon as there is too much, without waiting for the rest.
async fn bounded(pipe: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(most as u64 + 1).read_to_end(&mut all).await.map_err(|e| e.to_string())?;
    }
    if all.len() > most {
        return Err(format!("it printed more than {most} bytes"));
    }
    Ok(all)
}

fn read_log(path: &Path) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(LOG_MAX_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
