//! Runs foreign programs: argv only, shown before they run.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use crate::trouble::Trouble;

/// A command to be: program, arguments, and what differs in its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argv {
    pub words: Vec<String>,
    pub env: Vec<(String, String)>,
}

impl Argv {
    pub fn new(words: &[&str]) -> Argv {
        Argv { words: words.iter().map(|w| (*w).to_owned()).collect(), env: Vec::new() }
    }
    pub fn args(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Argv {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Argv {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    fn command(&self) -> Command {
        let (program, arguments) = self.words.split_first().map_or(("false", [].as_slice()), |(p, a)| (p.as_str(), a));
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root()).envs(self.env.iter().map(|(n, v)| (n, v)));
        command
    }

    fn failed(&self, why: String) -> Trouble {
        Trouble::new(self.words.first().cloned().unwrap_or_default(), why)
    }

    fn show(&self) {
        let env: String = self.env.iter().map(|(n, v)| format!("{n}='{v}' ")).collect();
        eprintln!("+ {env}{}", shown(&self.words));
    }

    /// Runs it in the foreground, with our streams.
    pub fn status(&self) -> Result<ExitStatus, Trouble> {
        self.show();
        self.command().status().map_err(|e| self.failed(e.to_string()))
    }

    /// As [`Argv::status`]; anything but success is trouble.
    pub fn run(&self) -> Result<(), Trouble> {
        match self.status()? {
            status if status.success() => Ok(()),
            status => Err(self.failed(format!("`{}` ended with {status}", shown(&self.words)))),
        }
    }

    /// Standard output of it; standard error stays ours.
    pub fn output(&self) -> Result<String, Trouble> {
        self.show();
        let output = self.command().stderr(Stdio::inherit()).output().map_err(|e| self.failed(e.to_string()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(self.failed(format!("`{}` ended with {}", shown(&self.words), output.status))),
        }
    }

    /// What it says on both streams, quietly; `None`: it cannot be run.
    pub fn ask(&self) -> Option<(bool, String)> {
        let output = self.command().env("LC_ALL", "C").stdin(Stdio::null()).output().ok()?;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Some((output.status.success(), said.concat()))
    }

    /// Standard error goes on to ours, and each line to `look` as well.
    pub fn watch(&self, mut look: impl FnMut(&str)) -> Result<ExitStatus, Trouble> {
        self.show();
        let mut child = self.command().stderr(Stdio::piped()).spawn().map_err(|e| self.failed(e.to_string()))?;
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                eprintln!("{line}");
                look(&line);
            }
        }
        child.wait().map_err(|e| self.failed(e.to_string()))
    }
}

/// The words as a person would type them.
fn shown(words: &[String]) -> String {
    let plain = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,+@%~".contains(c));
    words.iter().map(|w| if plain(w) { w.clone() } else { format!("'{w}'") }).collect::<Vec<_>>().join(" ")
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A program on PATH, or among the system's own, which a person's PATH may leave out.
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_ends_with_is_told() {
        assert_eq!(Argv::new(&["echo", "a b"]).output().unwrap(), "a b\n");
        let trouble = Argv::new(&["false", "a b"]).run().unwrap_err();
        assert!(trouble.why.contains("`false 'a b'` ended with exit status: 1"), "{trouble}");
        assert_eq!(Argv::new(&["no-such-program-of-ours"]).ask(), None);
        let mut lines = Vec::new();
        let status = Argv::new(&["ls", "/no/such/place"]).watch(|l| lines.push(l.to_owned())).unwrap();
        assert!(!status.success() && lines.len() == 1, "{lines:?}");
    }
}
