//! The SSH server: keys only, one host key, no files of its own.

use crate::node_error::{Doing, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// sshd re-executes itself, so its path must be absolute (in its own root).
pub const PROGRAM: &str = "/usr/sbin/sshd";
/// Directory for the privilege separation of Debian's build.
pub const PRIVSEP: &str = "run/sshd";

/// Options after the program's name.
pub fn arguments(host_key: &str, authorized_keys: &str) -> Vec<String> {
    let mut arguments: Vec<String> = ["-D", "-e", "-f", "/dev/null", "-h", host_key].map(String::from).to_vec();
    for option in [
        &format!("AuthorizedKeysFile={authorized_keys}"),
        "AuthenticationMethods=publickey",
        "PasswordAuthentication=no",
        "KbdInteractiveAuthentication=no",
        "PermitRootLogin=prohibit-password",
        "AllowUsers=root",
        "UsePAM=no",
        "UseDNS=no",
        "PrintMotd=no",
        "PidFile=none",
        "LogLevel=ERROR",
        "ClientAliveInterval=15",
        "ClientAliveCountMax=8",
        "AllowAgentForwarding=no",
        "AllowTcpForwarding=local",
        "Subsystem=sftp internal-sftp",
    ] {
        arguments.push("-o".into());
        arguments.push(option.into());
    }
    arguments
}

/// `root`: the directory to run in, `None` for the root of this process.
pub fn command(root: Option<&Path>, host_key: &str, authorized_keys: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments(host_key, authorized_keys)).stdin(Stdio::null()).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    in_root(&mut command, root);
    command
}

/// Makes `command` run in another root.
pub fn in_root(command: &mut Command, root: Option<&Path>) {
    if let Some(root) = root.map(Path::to_owned) {
        // SAFETY: between fork and exec only two system calls are made, on a path made before.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::chroot(&root).map_err(std::io::Error::from)?;
                nix::unistd::chdir("/").map_err(std::io::Error::from)
            });
        }
    }
}

/// Directories and keys below `root` that sshd wants, with the modes that it demands.
pub fn prepare(root: &Path, host_key: (&str, &str), authorized_keys: (&str, &[String])) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let mut dirs = vec![root.join(PRIVSEP)];
    dirs.extend([host_key.0, authorized_keys.0].iter().filter_map(|path| Some(below(path).parent()?.to_owned())));
    for dir in dirs {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir).doing(format_args!("making {}", dir.display()))?;
    }
    crate::files::write_atomic(&below(host_key.0), host_key.1.as_bytes(), 0o600)?;
    let keys: String = authorized_keys.1.iter().map(|key| format!("{}\n", crate::console::clean(key))).collect();
    crate::files::write_atomic(&below(authorized_keys.0), keys.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_sshd_accepts_the_options() {
        let dir = tempfile::tempdir().unwrap();
        let key = crate::hostkey::HostKey::generate().unwrap();
        prepare(dir.path(), ("/etc/key", &key.private_file().unwrap()), ("/etc/authorized", &["ssh-ed25519 A\nB".into()]))
            .unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("etc/authorized")).unwrap(), "ssh-ed25519 A?B\n");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let Ok(output) =
            Command::new(PROGRAM).arg("-T").args(arguments(&path("etc/key"), &path("etc/authorized"))).output()
        else {
            eprintln!("SKIPPED: sshd is not installed");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("passwordauthentication no") && text.contains("usepam no"), "{output:?}");
        assert!(text.contains(&format!("hostkey {}", path("etc/key"))), "{text}");
    }
}
