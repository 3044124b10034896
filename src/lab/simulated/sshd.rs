//! The configuration of a machine's SSH server: OpenSSH's own sshd, one process a connection. Pure.

use std::path::{Path, PathBuf};

use crate::{model::Failure, remote::argv::command_line};

/// Where Debian's `openssh-server` puts it.
pub const PROGRAM: &str = "/usr/sbin/sshd";
/// Names another sshd, by an absolute path.
pub const VARIABLE: &str = "RACKCTL_LAB_SSHD";

/// `named`: the variable's value. sshd wants to be called by an absolute path.
pub fn program(named: Option<std::ffi::OsString>) -> PathBuf {
    named.map(PathBuf::from).filter(|path| path.is_absolute()).unwrap_or_else(|| PROGRAM.into())
}

/// The file that `sshd -i -f` reads. Whatever a client asks to be run, the machine's own command is. sshd hands it to
/// the operator's own shell, and bash, called by sshd at a shell level below 2, reads his `~/.bashrc` first: one that sets
/// up pyenv took more than a quarter of the processor time (28 % in a sample of a sweep of crashes).
pub fn config(host_key: &Path, authorized_keys: &Path, command: &[String]) -> Result<String, Failure> {
    Ok(format!(
        "HostKey {}\nAuthorizedKeysFile {}\nForceCommand {}\nPidFile none\nStrictModes no\nUsePAM no\nUseDNS no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nAllowUsers root\n\
         DisableForwarding yes\nKexAlgorithms curve25519-sha256\nPermitUserRC no\nPermitTTY no\nPrintMotd no\nPrintLastLog no\nLogLevel INFO\nSetEnv SHLVL=2\n",
        quoted(host_key),
        quoted(authorized_keys),
        command_line(command)?,
    ))
}

fn quoted(path: &Path) -> String {
    // `%` would begin a token.
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

/// Words of what the client wanted, as `remote::argv` quotes them for a POSIX shell.
pub fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut some) = (Vec::new(), String::new(), false, false);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => (quoted, some) = (!quoted, true),
            '\\' if !quoted => {
                word.extend(chars.next());
                some = true;
            }
            c if c.is_ascii_whitespace() && !quoted => {
                if std::mem::take(&mut some) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                some = true;
            }
        }
    }
    if some {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_command_is_quoted_for_the_shell_that_runs_it() {
        let text = config(Path::new("/a b/k%"), Path::new("/a b/ak"), &["/x y".into(), "n1".into()]).unwrap();
        assert!(text.contains("HostKey \"/a b/k%%\"\n"), "{text}");
        assert!(text.contains("ForceCommand '/x y' n1\n"), "{text}");
    }

    #[test]
    fn another_program_is_named_by_its_whole_path() {
        assert_eq!(program(None), Path::new(PROGRAM));
        assert_eq!(program(Some("sshd".into())), Path::new(PROGRAM));
        assert_eq!(program(Some("/x/sshd".into())), Path::new("/x/sshd"));
    }

    proptest! {
        #[test]
        fn what_a_client_quotes_reads_back(words in proptest::collection::vec("[ -~]{0,8}", 0..5)) {
            prop_assert_eq!(super::words(&command_line(&words).unwrap()), words);
        }
    }
}
