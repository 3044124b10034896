//! Runs `ipmitool`: a process a command, no shell, the password in its environment.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use tokio::process::Command as Process;

use super::{
    Suite, device,
    fault::Fault,
    message::{Command, Effect},
    tool,
};
use crate::model::Secret;

/// One run, log-in and log-out included.
const LIMIT: Duration = Duration::from_secs(30);
/// Of what it prints.
const MAX_TEXT: usize = 8192;

pub struct Tool {
    program: PathBuf,
    host: String,
    user: String,
    password: Arc<Secret>,
    suite: Suite,
}

impl Tool {
    /// Finds a suite that it gets in with: 17, else 3. `program`: [`tool::PROGRAM`], or a path.
    pub async fn open(program: PathBuf, host: &str, user: &str, password: Arc<Secret>) -> Result<Tool, Fault> {
        let mut tool = Tool { program, host: host.into(), user: user.into(), password, suite: Suite::Seventeen };
        match tool.log_in().await {
            Err(Fault::NoSuite(_)) => {
                tool.suite = Suite::Three;
                tool.log_in().await?;
            }
            other => other?,
        }
        Ok(tool)
    }

    async fn log_in(&self) -> Result<(), Fault> {
        match self.run(&device::get_id(), true).await? {
            (true, _, _) => Ok(()),
            (false, _, err) => Err(tool::log_in(&err)),
        }
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub async fn ask(&self, command: &Command) -> Result<Vec<u8>, Fault> {
        let (success, out, err) = self.run(command, false).await?;
        match tool::read(success, &out, &err) {
            // It may have been sent before the answer was lost.
            Err(Fault::NoWay(_)) if command.effect == Effect::Acts => Err(Fault::AnswerLost),
            other => other,
        }
    }

    /// Whether it went well, standard output and standard error.
    async fn run(&self, command: &Command, loud: bool) -> Result<(bool, String, String), Fault> {
        let arguments = tool::arguments(&self.host, &self.user, self.suite, command, loud)?;
        let mut process = Process::new(&self.program);
        process.args(arguments).env(tool::PASSWORD_VARIABLE, self.password.expose());
        process.stdin(Stdio::null()).kill_on_drop(true);
        let output = match tokio::time::timeout(LIMIT, process.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(Fault::Local(format!("{}: {error}", self.program.display()))),
            Err(_) if command.effect == Effect::Acts => return Err(Fault::AnswerLost),
            Err(_) => return Err(Fault::NoWay(format!("ipmitool did not end within {} s", LIMIT.as_secs()))),
        };
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes.get(..bytes.len().min(MAX_TEXT)).unwrap_or_default()).into_owned()
        };
        Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    }
}
