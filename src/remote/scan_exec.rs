//! Asks a machine for its SSH host key. What comes back proves nothing: a person compares the fingerprint.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncReadExt, process::Command};

use super::{key::HostKey, spawn_exec::spawn};
use crate::model::{Failure, failure::Cause};

/// Of `ssh-keyscan`'s answer.
const ANSWER_MAX_BYTES: u64 = 16 << 10;
/// Between connection and key, given to `ssh-keyscan`, and the whole program.
const PATIENCE_S: u32 = 5;
const DEADLINE: Duration = Duration::from_secs(15);

/// `ssh-keyscan`'s argv, for an Ed25519 key alone: that is the kind that installed systems have.
pub fn argv(host: &str, port: u16) -> Vec<String> {
    ["ssh-keyscan", "-T", &PATIENCE_S.to_string(), "-t", "ed25519", "-p", &port.to_string(), "--", host]
        .map(str::to_owned)
        .into()
}

/// The key in `HOST ssh-ed25519 AAAA…`; comment lines are left out.
pub fn parse(answer: &str) -> Result<HostKey, String> {
    let line = answer
        .lines()
        .find(|l| !l.starts_with('#') && !l.trim().is_empty())
        .ok_or("it shows no Ed25519 host key, or nothing answers there")?;
    let (_, key) = line.split_once(' ').ok_or("ssh-keyscan's answer makes no sense")?;
    HostKey::parse(key).map_err(|f| f.why)
}

/// The Ed25519 host key that the machine shows now.
pub async fn host_key(host: &str, port: u16) -> Result<HostKey, Failure> {
    let what = || format!("{host}:{port}: ask for its SSH host key");
    let local = |e: std::io::Error| Failure::new(Cause::Local, what(), e.to_string()).next("rackctl doctor");
    if host.starts_with('-') {
        return Err(Failure::new(Cause::Malformed, what(), "that is no address"));
    }
    let argv = argv(host, port);
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let ask = async {
        let mut child = spawn(command).await.map_err(local)?;
        let mut answer = String::new();
        if let Some(out) = child.stdout.take() {
            out.take(ANSWER_MAX_BYTES).read_to_string(&mut answer).await.map_err(local)?;
        }
        child.wait().await.map_err(local)?;
        parse(&answer).map_err(|why| Failure::new(Cause::Unreachable, what(), why))
    };
    tokio::time::timeout(DEADLINE, ask).await.unwrap_or_else(|_| {
        Err(Failure::new(Cause::Deadline, what(), format!("no answer within {} s", DEADLINE.as_secs())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_one_key() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqRpWnkVtfsVvPxR7vPKvxqpjdR0oW6S6Tj1y5wJd8Q";
        let answer = format!("# 10.0.0.1:22 SSH-2.0-OpenSSH_9.2\n10.0.0.1 {key}\n");
        assert_eq!(parse(&answer).unwrap(), HostKey::parse(key).unwrap());
        for bad in ["", "# only a comment\n", "10.0.0.1\n", "10.0.0.1 ssh-ed25519 %%%\n", "h ssh-rsa AAAA\n"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(argv("10.0.0.1", 22).last().unwrap(), "10.0.0.1");
    }
}
