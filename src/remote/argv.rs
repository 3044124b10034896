//! argv of `ssh`, and the command line that the remote shell gets. Pure.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use super::key::HostKey;
use crate::model::{Failure, failure::Cause};

/// Whom to speak to, and how to know that it is they.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address or name; never an option.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Private key file. `None`: the user's own default keys.
    pub identity: Option<PathBuf>,
    /// `ssh-ed25519 AAAA…`
    pub host_key: String,
    pub connect_timeout: Duration,
    /// Whether the user's agent may be asked. It is never forwarded.
    pub agent: bool,
}

/// The name under which the pinned key stands in our known_hosts file.
pub const ALIAS: &str = "rackctl-pinned";

impl Target {
    pub fn check(&self) -> Result<HostKey, Failure> {
        let what = format!("{}@{}: prepare SSH", self.user, self.host);
        let word = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c))
        };
        if !word(&self.host) || !word(&self.user) {
            return Err(Failure::new(Cause::Malformed, what, "host or user holds what no host or user can hold"));
        }
        HostKey::parse(&self.host_key)
    }
}

/// Whether a terminal is handed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    No,
    Yes,
}

/// The whole argv, `ssh` first. `log` takes what ssh itself has to say, so that standard error is the remote
/// command's alone; `None` leaves it on standard error. No configuration file of the user or the system is read.
pub fn ssh(
    target: &Target,
    key: &HostKey,
    known_hosts: &Path,
    log: Option<&Path>,
    terminal: Terminal,
    command: &[String],
) -> Result<Vec<OsString>, Failure> {
    let mut argv: Vec<OsString> = ["ssh", "-F", "none"].map(OsString::from).into();
    if let Some(log) = log {
        argv.extend(["-E".into(), log.into()]);
    }
    for option in options(target, key, known_hosts, terminal) {
        argv.extend(["-o".into(), option]);
    }
    if let Some(identity) = &target.identity {
        argv.extend(["-i".into(), identity.into()]);
    }
    argv.extend(["-p".into(), target.port.to_string().into(), "-l".into(), OsString::from(&target.user)]);
    argv.extend(["--".into(), OsString::from(&target.host)]);
    if !command.is_empty() {
        argv.push(command_line(command)?.into());
    }
    Ok(argv)
}

fn options(target: &Target, key: &HostKey, known_hosts: &Path, terminal: Terminal) -> Vec<OsString> {
    let seconds = target.connect_timeout.as_secs().max(1);
    let mut file = OsString::from("UserKnownHostsFile=");
    file.push(config_path(known_hosts));
    let mut options = vec![
        "StrictHostKeyChecking=yes".into(),
        file,
        "GlobalKnownHostsFile=/dev/null".into(),
        format!("HostKeyAlias={ALIAS}").into(),
        format!("HostKeyAlgorithms={}", key.signature_algorithms()).into(),
        "UpdateHostKeys=no".into(),
        "VerifyHostKeyDNS=no".into(),
        "CheckHostIP=no".into(),
        "PreferredAuthentications=publickey".into(),
        "ForwardAgent=no".into(),
        "ForwardX11=no".into(),
        "ClearAllForwardings=yes".into(),
        "PermitLocalCommand=no".into(),
        "ControlMaster=no".into(),
        "ControlPath=none".into(),
        "ProxyCommand=none".into(),
        "ConnectionAttempts=1".into(),
        format!("ConnectTimeout={seconds}").into(),
        "ServerAliveInterval=5".into(),
        "ServerAliveCountMax=3".into(),
        "LogLevel=ERROR".into(),
    ];
    if target.identity.is_some() {
        options.push("IdentitiesOnly=yes".into());
    }
    if !target.agent {
        options.push("IdentityAgent=none".into());
    }
    match terminal {
        Terminal::No => options.extend(["BatchMode=yes".into(), "RequestTTY=no".into(), "EscapeChar=none".into()]),
        // A person may be asked for the passphrase of a key; there is nothing else that could be asked.
        Terminal::Yes => options.push("RequestTTY=auto".into()),
    }
    options
}

/// A path as the value of an option: quoted, because the value is a list of paths, and with `%` doubled, because
/// it would begin a token.
pub fn config_path(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut out = vec![b'"'];
    for b in path.as_os_str().as_bytes() {
        match b {
            b'%' => out.extend(b"%%"),
            b'"' | b'\\' => out.extend([b'\\', *b]),
            other => out.push(*other),
        }
    }
    out.push(b'"');
    OsString::from_vec(out)
}

/// `ssh` joins its arguments with spaces and a shell reads them: each word is quoted for a POSIX shell.
pub fn command_line(command: &[String]) -> Result<String, Failure> {
    let words: Vec<String> = command.iter().map(|w| quote(w)).collect::<Result<_, _>>()?;
    Ok(words.join(" "))
}

fn quote(word: &str) -> Result<String, Failure> {
    if word.contains('\0') {
        return Err(Failure::new(Cause::Malformed, "quote a remote command", "a word holds a NUL byte"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Ok(word.into());
    }
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            host: "10.0.0.1".into(),
            port: 2222,
            user: "root".into(),
            identity: Some("/keys/id".into()),
            host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqRpWnkVtfsVvPxR7vPKvxqpjdR0oW6S6Tj1y5wJd8Q".into(),
            connect_timeout: Duration::from_millis(300),
            agent: false,
        }
    }

    #[test]
    fn pins_come_and_nothing_of_the_user_does() {
        let t = target();
        let key = t.check().unwrap();
        let argv =
            ssh(&t, &key, Path::new("/run/a b%/kh"), None, Terminal::No, &["echo".into(), "a b".into()]).unwrap();
        let argv: Vec<&str> = argv.iter().map(|a| a.to_str().unwrap()).collect();
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "UserKnownHostsFile=\"/run/a b%%/kh\"",
            "GlobalKnownHostsFile=/dev/null",
            "HostKeyAlgorithms=ssh-ed25519",
            "IdentityAgent=none",
            "IdentitiesOnly=yes",
            "ConnectTimeout=1",
            "ControlPath=none",
        ] {
            let at = argv.iter().position(|a| *a == option).unwrap_or_else(|| panic!("{option} in {argv:?}"));
            assert_eq!(argv[at - 1], "-o");
        }
        assert_eq!(argv[..3], ["ssh", "-F", "none"]);
        assert_eq!(
            argv[argv.len() - 9..],
            ["-i", "/keys/id", "-p", "2222", "-l", "root", "--", "10.0.0.1", "echo 'a b'"]
        );
    }

    #[test]
    fn interactive_has_a_terminal_and_may_have_no_command() {
        let t = Target { agent: true, identity: None, ..target() };
        let argv = ssh(&t, &t.check().unwrap(), Path::new("/kh"), None, Terminal::Yes, &[]).unwrap();
        let text = format!("{argv:?}");
        assert!(
            text.contains("RequestTTY=auto")
                && !text.contains("EscapeChar")
                && !text.contains("BatchMode")
                && !text.contains("IdentityAgent")
        );
        assert_eq!(argv.last().unwrap(), "10.0.0.1");
    }

    #[test]
    fn options_do_not_pass_as_hosts() {
        for bad in ["-oProxyCommand=x", "", "a b", "$(x)"] {
            assert!(Target { host: bad.into(), ..target() }.check().is_err(), "{bad}");
            assert!(Target { user: bad.into(), ..target() }.check().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(command_line(&["a\0b".into()]).is_err());
    }
}
