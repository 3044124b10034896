//! What a foreign program finds as `ssh` and `scp`: links to rackctl in a folder that is first in its `PATH`.
//!
//! `nixos-anywhere` says `StrictHostKeyChecking=no` and `UserKnownHostsFile=/dev/null` first, and OpenSSH takes
//! the first value of an option, so nothing that is passed to it can help. The wrapper drops those options, says
//! ours first, and becomes the real program. The pins are in a file that [`PINS_ENV`] names; no secret is in it.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::model::{Failure, failure::Cause};

/// Names the file of the [`Pins`]. A program called `ssh` or `scp` that has it in its environment is the wrapper.
pub const PINS_ENV: &str = "RACKCTL_SSH_PINS";
pub const VERSION: u32 = 1;
/// In the known_hosts file, whatever name or address the program calls.
pub const ALIAS: &str = "rackctl-pinned";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pins {
    pub version: u32,
    /// Holds [`ALIAS`] and the one key that every host reached by this program must show.
    pub known_hosts: PathBuf,
    /// `ssh-ed25519`
    pub host_key_algorithms: String,
    /// The real programs.
    pub ssh: PathBuf,
    pub scp: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Ssh,
    Scp,
}

impl Program {
    /// By the name that it was called by.
    pub fn of(argv0: &OsStr) -> Option<Program> {
        match Path::new(argv0).file_name()?.to_str()? {
            "ssh" => Some(Program::Ssh),
            "scp" => Some(Program::Scp),
            _ => None,
        }
    }

    /// Options that take a value (OpenSSH 9.2 `ssh.c`, `scp.c`).
    fn with_value(self) -> &'static [u8] {
        match self {
            Program::Ssh => b"BDEFIJLOPQRSWbceilmopw",
            Program::Scp => b"DFJPSXcilo",
        }
    }

    /// Options with a value that would lead around the pins: configuration, jump hosts, scp's choice of ssh.
    fn refused(self) -> &'static [u8] {
        match self {
            Program::Ssh => b"FJ",
            Program::Scp => b"FJS",
        }
    }
}

/// Keys of `-o` that are ours alone, in lower case.
const OURS: [&str; 14] = [
    "stricthostkeychecking",
    "userknownhostsfile",
    "globalknownhostsfile",
    "knownhostscommand",
    "hostkeyalias",
    "hostkeyalgorithms",
    "updatehostkeys",
    "verifyhostkeydns",
    "checkhostip",
    "nohostauthenticationforlocalhost",
    "revokedhostkeys",
    "proxycommand",
    "proxyjump",
    "include",
];

/// The arguments (without the program's name) with the pins put back.
pub fn rewrite(program: Program, pins: &Pins, arguments: &[OsString]) -> Vec<OsString> {
    let mut out = first(pins);
    let mut rest = arguments.iter();
    let mut hosts = 0;
    while let Some(argument) = rest.next() {
        let bytes = argument.as_bytes();
        if bytes == b"--" {
            out.push(argument.clone());
            break;
        }
        if bytes.len() < 2 || bytes[0] != b'-' {
            out.push(argument.clone());
            hosts += 1;
            // ssh takes options after its host too; what follows the second word is the remote command.
            if program == Program::Scp || hosts == 2 {
                break;
            }
            continue;
        }
        options(program, &bytes[1..], &mut rest, &mut out);
    }
    out.extend(rest.cloned());
    out
}

/// One argument of short options: flags, and perhaps one at the end that takes a value.
fn options<'a>(
    program: Program,
    letters: &[u8],
    rest: &mut impl Iterator<Item = &'a OsString>,
    out: &mut Vec<OsString>,
) {
    let Some(at) = letters.iter().position(|l| program.with_value().contains(l)) else {
        out.push(short(letters));
        return;
    };
    let letter = letters[at];
    let value: Option<OsString> = match &letters[at + 1..] {
        [] => rest.next().cloned(),
        joined => Some(OsString::from_vec(joined.to_vec())),
    };
    if at > 0 {
        out.push(short(&letters[..at]));
    }
    let dropped = program.refused().contains(&letter) || (letter == b'o' && value.as_deref().is_some_and(is_ours));
    if !dropped {
        out.push(short(&[letter]));
        out.extend(value);
    }
}

fn short(letters: &[u8]) -> OsString {
    let mut bytes = vec![b'-'];
    bytes.extend_from_slice(letters);
    OsString::from_vec(bytes)
}

/// `KEY=VALUE`, `KEY VALUE`, in any case, with blanks where OpenSSH allows them.
fn is_ours(option: &OsStr) -> bool {
    let text = option.to_string_lossy().to_ascii_lowercase();
    let key = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '"');
    let key = key.split(|c: char| c == '=' || c == '"' || c.is_ascii_whitespace()).next().unwrap_or_default();
    OURS.contains(&key)
}

fn first(pins: &Pins) -> Vec<OsString> {
    let mut known_hosts = b"UserKnownHostsFile=\"".to_vec();
    for b in pins.known_hosts.as_os_str().as_bytes() {
        match b {
            b'%' => known_hosts.extend(b"%%"),
            b'"' | b'\\' => known_hosts.extend([b'\\', *b]),
            other => known_hosts.push(*other),
        }
    }
    known_hosts.push(b'"');
    let mut out: Vec<OsString> = vec!["-F".into(), "none".into()];
    for option in [
        "StrictHostKeyChecking=yes".into(),
        OsString::from_vec(known_hosts),
        "GlobalKnownHostsFile=/dev/null".into(),
        format!("HostKeyAlias={ALIAS}").into(),
        format!("HostKeyAlgorithms={}", pins.host_key_algorithms).into(),
        "UpdateHostKeys=no".into(),
        "CheckHostIP=no".into(),
        "ProxyCommand=none".into(),
        "ForwardAgent=no".into(),
        "BatchMode=yes".into(),
        "ConnectTimeout=15".into(),
        "ServerAliveInterval=10".into(),
        "ServerAliveCountMax=6".into(),
    ] {
        out.extend(["-o".into(), option]);
    }
    out
}

/// The wrapper's whole life: `argv` is the process's own. Returns only what kept it from becoming the real program;
/// the caller prints it and ends with 255, as ssh does.
pub fn main(argv: &[OsString]) -> Failure {
    let Some((name, arguments)) = argv.split_first() else {
        return Failure::new(Cause::Local, "run as ssh", "argv is empty");
    };
    let what = format!("run as {}", name.to_string_lossy());
    let local = |why: String| Failure::new(Cause::Local, &what, why);
    let Some(program) = Program::of(name) else { return local("called by a name that is not ssh or scp".into()) };
    let Some(file) = std::env::var_os(PINS_ENV) else { return local(format!("{PINS_ENV} is not set")) };
    let pins = match fs::read(&file).map_err(|e| e.to_string()).and_then(|b| parse(&b)) {
        Ok(pins) => pins,
        Err(why) => return local(format!("{}: {why}", file.to_string_lossy())),
    };
    let real = match program {
        Program::Ssh => &pins.ssh,
        Program::Scp => &pins.scp,
    };
    let error = Command::new(real).arg0(name).args(rewrite(program, &pins, arguments)).exec();
    local(format!("{}: {error}", real.display()))
}

fn parse(bytes: &[u8]) -> Result<Pins, String> {
    let pins: Pins = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if pins.version != VERSION {
        return Err(format!("version {}, expected {VERSION}", pins.version));
    }
    Ok(pins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins() -> Pins {
        Pins {
            version: VERSION,
            known_hosts: "/run/k h".into(),
            host_key_algorithms: "ssh-ed25519".into(),
            ssh: "/usr/bin/ssh".into(),
            scp: "/usr/bin/scp".into(),
        }
    }

    /// What follows our own options.
    fn after(program: Program, arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let all = rewrite(program, &pins(), &arguments);
        let ours = first(&pins());
        assert_eq!(all[..ours.len()], ours[..]);
        all[ours.len()..].iter().map(|a| a.to_str().unwrap().to_string()).collect()
    }

    #[test]
    fn what_nixos_anywhere_says_first_is_gone() {
        let said = [
            "-i",
            "/k",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "StrictHostKeyChecking=no",
            "-oStrictHostKeyChecking=no",
            "-o",
            "stricthostkeychecking no",
            "-o",
            " UserKnownHostsFile = /dev/null",
            "-T",
            "-p",
            "22",
            "root@h",
            "sh",
            "-c",
            "echo -o StrictHostKeyChecking=no",
        ];
        let left = ["-i", "/k", "-T", "-p", "22", "root@h", "sh", "-c", "echo -o StrictHostKeyChecking=no"];
        assert_eq!(after(Program::Ssh, &said), left);
    }

    #[test]
    fn options_after_the_host_count_and_the_command_is_left_alone() {
        assert_eq!(
            after(
                Program::Ssh,
                &["root@h", "-x", "-aoStrictHostKeyChecking=no", "-oPermitLocalCommand=no", "--", "cmd", "-F", "x"]
            ),
            ["root@h", "-x", "-a", "-o", "PermitLocalCommand=no", "--", "cmd", "-F", "x"]
        );
        assert_eq!(
            after(Program::Ssh, &["-F", "/evil", "-Jjump", "-tt", "h", "cmd", "-J", "y"]),
            ["-tt", "h", "cmd", "-J", "y"]
        );
        assert_eq!(after(Program::Ssh, &["-o"]), ["-o"]);
    }

    #[test]
    fn scp_is_not_told_another_ssh() {
        assert_eq!(
            after(Program::Scp, &["-S", "/evil", "-P", "22", "-r", "-oProxyCommand=x", "a", "root@h:-oStrict"]),
            ["-P", "22", "-r", "a", "root@h:-oStrict"]
        );
    }

    #[test]
    fn the_name_decides() {
        assert_eq!(Program::of(OsStr::new("/x/ssh")), Some(Program::Ssh));
        assert_eq!(Program::of(OsStr::new("scp")), Some(Program::Scp));
        assert_eq!(Program::of(OsStr::new("rackctl")), None);
        assert_eq!(main(&["rackctl".into()]).cause, Cause::Local);
        assert!(parse(br#"{"version":2,"knownHosts":"","hostKeyAlgorithms":"","ssh":"","scp":""}"#).is_err());
    }
}
