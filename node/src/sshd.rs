//! The SSH server. What it allows is in the images' own configuration; its keys are put where that looks.

use crate::node_error::{Doing, Result};
use rackctl_wire::image::layout;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Options after the program's name.
pub fn arguments() -> [&'static str; 4] {
    ["-D", "-e", "-f", layout::SSHD_CONFIG]
}

/// `root`: the directory to run in, `None` for the root of this process.
pub fn command(root: Option<&Path>) -> Command {
    // sshd re-executes itself: its path must be absolute (in its own root).
    let mut command = Command::new(layout::SSHD);
    command.args(arguments()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
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
pub fn prepare(root: &Path, host_key: &str, authorized_keys: &[String]) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let mut dirs = vec![below(layout::PRIVSEP_DIR)];
    dirs.extend(
        [layout::HOST_KEY, layout::AUTHORIZED_KEYS].iter().filter_map(|path| Some(below(path).parent()?.to_owned())),
    );
    for dir in dirs {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&dir)
            .doing(format_args!("making {}", dir.display()))?;
    }
    crate::files::write_atomic(&below(layout::HOST_KEY), host_key.as_bytes(), 0o600)?;
    let keys: String = authorized_keys.iter().map(|key| format!("{}\n", crate::console::clean(key))).collect();
    crate::files::write_atomic(&below(layout::AUTHORIZED_KEYS), keys.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_stand_where_the_configuration_looks() {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path(), "KEY", &["ssh-ed25519 A\nB".into(), "ssh-rsa C".into()]).unwrap();
        let below = |path: &str| dir.path().join(path.trim_start_matches('/'));
        assert_eq!(std::fs::read_to_string(below(layout::AUTHORIZED_KEYS)).unwrap(), "ssh-ed25519 A?B\nssh-rsa C\n");
        assert_eq!(std::fs::metadata(below(layout::HOST_KEY)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(below(layout::PRIVSEP_DIR).is_dir());
    }
}
