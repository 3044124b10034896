//! `nixos-anywhere` (1.13), one phase a call. Pure: argv, environment, progress.
//!
//! It waits without deadlines and takes any host key; both are mended from outside: each phase is a process group
//! with a deadline ([`super::process`]), and the `ssh` that it finds is ours ([`super::ssh_wrapper`]). The kexec
//! phase is never run, because the machine has booted our installer.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use super::ssh_wrapper::PINS_ENV;
use crate::model::{Failure, failure::Cause};

/// In this order. A machine whose disko phase did not end well has a dirty disk: begin at disko again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Partitions, formats, mounts: destroys what is on the disk.
    Disko,
    /// Copies the closure and installs it; may be repeated after [`Phase::Disko`].
    Install,
    /// Its success says only that the machine became unreachable: verify that it comes back from its disk.
    Reboot,
}

impl Phase {
    pub const ALL: [Phase; 3] = [Phase::Disko, Phase::Install, Phase::Reboot];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Disko => "disko",
            Phase::Install => "install",
            Phase::Reboot => "reboot",
        }
    }

    /// Generous; a phase that takes longer hangs.
    pub fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Phase::Disko => 20 * 60,
            Phase::Install => 90 * 60,
            Phase::Reboot => 5 * 60,
        })
    }
}

/// Of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// For messages.
    pub node: String,
    /// `flake#attribute`
    pub flake: String,
    pub extra_args: Vec<String>,
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Private key file; without a persistent one `nixos-anywhere` makes a key of its own and uploads it.
    pub identity: PathBuf,
    /// Of the installer that runs there now, `ssh-ed25519 AAAA…`.
    pub host_key: String,
}

/// What a person may not say in `extraArgs`, because it is said here: target, phases, keys, SSH's options.
const OURS: [&str; 14] = [
    "-f",
    "--flake",
    "-i",
    "-p",
    "--ssh-port",
    "--ssh-option",
    "--phases",
    "--target-host",
    "--env-password",
    "--kexec",
    "--post-kexec-ssh-port",
    "--copy-host-keys",
    "--stop-after-disko",
    "--vm-test",
];

/// The argv of one phase, `nixos-anywhere` first.
pub fn argv(spec: &Spec, phase: Phase) -> Result<Vec<OsString>, Failure> {
    let refuse = |why: String| {
        let what = format!("{}: nixos-anywhere, phase {}", spec.node, phase.name());
        Err(Failure::new(Cause::Guard, what, why))
    };
    let ours = |a: &&String| OURS.iter().any(|o| *a == o || a.starts_with(&format!("{o}=")));
    if let Some(bad) = spec.extra_args.iter().find(ours) {
        return refuse(format!("extraArgs may not hold {bad}: rackctl sets it"));
    }
    if spec.flake.is_empty() || spec.flake.starts_with('-') {
        return refuse(format!("`{}` is no flake", spec.flake));
    }
    let word = |t: &str| {
        !t.is_empty() && !t.starts_with('-') && t.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c))
    };
    if !word(&spec.host) || !word(&spec.user) {
        return refuse("host or user holds what no host or user can hold".into());
    }
    let mut argv: Vec<OsString> =
        ["nixos-anywhere", "--flake", &spec.flake, "--phases", phase.name(), "-i"].map(OsString::from).into();
    argv.push(spec.identity.clone().into());
    argv.extend(["--ssh-port".into(), spec.port.to_string().into()]);
    argv.extend(["--target-host".into(), format!("{}@{}", spec.user, spec.host).into()]);
    argv.extend(spec.extra_args.iter().map(OsString::from));
    Ok(argv)
}

/// Variables that a foreign program may see. Not among them: tokens, agents, proxies with passwords, `NIX_CONFIG`
/// (which may hold access tokens).
const ALLOWED: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "NIX_PATH",
    "NIX_REMOTE",
    "NIX_SSL_CERT_FILE",
    "SSL_CERT_FILE",
];

/// Of `ours`, what a foreign program may see.
pub fn environment(ours: impl IntoIterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    ours.into_iter().filter(|(name, _)| ALLOWED.iter().any(|a| OsStr::new(a) == name)).collect()
}

/// [`environment`] with the folder of the wrappers first in `PATH`, and the place of the pins.
pub fn wrapped(
    mut environment: BTreeMap<OsString, OsString>,
    wrappers: &Path,
    pins: &Path,
) -> BTreeMap<OsString, OsString> {
    let mut path = OsString::from(wrappers);
    if let Some(rest) = environment.get(OsStr::new("PATH")).filter(|p| !p.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    environment.insert("PATH".into(), path);
    environment.insert(PINS_ENV.into(), pins.into());
    environment
}

/// What `### Formatting hard drive with disko ###` says; `None` for any other line.
pub fn progress(line: &str) -> Option<&str> {
    let text = line.trim().strip_prefix("### ")?.strip_suffix(" ###")?.trim();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            node: "n1".into(),
            flake: ".#n1".into(),
            extra_args: vec!["--build-on".into(), "local".into()],
            host: "10.0.0.1".into(),
            port: 22,
            user: "root".into(),
            identity: "/keys/id".into(),
            host_key: String::new(),
        }
    }

    #[test]
    fn one_phase_with_our_key_to_our_host() {
        let argv = argv(&spec(), Phase::Install).unwrap();
        assert_eq!(
            argv.join(OsStr::new(" ")),
            "nixos-anywhere --flake .#n1 --phases install -i /keys/id --ssh-port 22 --target-host root@10.0.0.1 --build-on local"
        );
    }

    #[test]
    fn extra_arguments_do_not_overrule() {
        for bad in ["--phases", "--phases=kexec", "--target-host", "--ssh-option", "-i", "--env-password"] {
            let spec = Spec { extra_args: vec![bad.into()], ..spec() };
            assert_eq!(argv(&spec, Phase::Disko).unwrap_err().cause, Cause::Guard, "{bad}");
        }
        for (flake, host) in [("--x", "h"), ("", "h"), (".#a", "-oX"), (".#a", "a b")] {
            let spec = Spec { flake: flake.into(), host: host.into(), ..spec() };
            assert!(argv(&spec, Phase::Disko).is_err(), "{flake} {host}");
        }
    }

    #[test]
    fn the_environment_is_a_short_list() {
        let ours = [("PATH", "/bin"), ("BMC_PASSWORD", "x"), ("NIX_CONFIG", "access-tokens = x"), ("HOME", "/h")];
        let env = environment(ours.map(|(a, b)| (a.into(), b.into())));
        assert_eq!(env.keys().collect::<Vec<_>>(), ["HOME", "PATH"]);
        let env = wrapped(env, Path::new("/w"), Path::new("/p"));
        assert_eq!(
            (env[OsStr::new("PATH")].to_str(), env[OsStr::new(PINS_ENV)].to_str()),
            (Some("/w:/bin"), Some("/p"))
        );
        assert_eq!(wrapped(BTreeMap::new(), Path::new("/w"), Path::new("/p"))[OsStr::new("PATH")], "/w");
    }

    #[test]
    fn progress_is_between_hashes() {
        assert_eq!(progress("### Uploading install SSH keys ###"), Some("Uploading install SSH keys"));
        for other in ["### half", "plain", "### ###", "###  ###"] {
            assert_eq!(progress(other), None, "{other}");
        }
    }
}
