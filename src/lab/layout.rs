//! Where the files of a laboratory are. Pure: paths in, paths out.
//!
//! ```text
//! DIR/lab.json  lock  supervisor.log  supervisor.pid  control.sock  bmc-password  id_ed25519[.pub]  inventory/
//! DIR/n1/disk.raw  vars.fd  bmc-cert.pem  bmc-key.pem  qemu.pid  qemu.log  qmp.sock  serial.sock  serial.log
//! ```
//!
//! Of simulated machines, instead of what is QEMU's: `DIR/images/`, and
//! `DIR/n1/disk.json  ssh_host_ed25519_key  authorized_keys  sshd_config  sshd.log`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::spec::Lab;
use crate::model::{Failure, failure::Cause};

/// `sun_path` without its final zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// Held by the supervisor for its whole life; says who owns the namespace, whatever state folder they use.
pub const OWNERS: &str = "/run/rackctl/labs";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub dir: PathBuf,
}

impl Layout {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Layout { dir: dir.into() }
    }
    pub fn lab(&self) -> PathBuf {
        self.dir.join("lab.json")
    }
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }
    pub fn log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }
    pub fn pid(&self) -> PathBuf {
        self.dir.join("supervisor.pid")
    }
    pub fn control(&self) -> PathBuf {
        self.dir.join("control.sock")
    }
    pub fn password(&self) -> PathBuf {
        self.dir.join("bmc-password")
    }
    pub fn identity(&self) -> PathBuf {
        self.dir.join("id_ed25519")
    }
    pub fn inventory(&self) -> PathBuf {
        self.dir.join("inventory")
    }
    /// What simulated machines boot and install.
    pub fn images(&self) -> PathBuf {
        self.dir.join("images")
    }
    pub fn machine(&self, node: &str) -> MachineLayout {
        MachineLayout { dir: self.dir.join(node) }
    }

    /// QEMU and the control socket cannot be bound under a longer path.
    pub fn check(&self, lab: &Lab) -> Result<(), Failure> {
        let longest = lab
            .machines
            .iter()
            .map(|m| self.machine(&m.name).serial_socket())
            .chain([self.control()])
            .max_by_key(|path| path.as_os_str().len());
        match longest {
            Some(path) if path.as_os_str().len() > SOCKET_PATH_MAX => Err(Failure::new(
                Cause::Refused,
                format!("lab {}: choose the directory", lab.name),
                format!(
                    "{} has {} bytes and a socket's path may have {SOCKET_PATH_MAX}",
                    path.display(),
                    path.as_os_str().len()
                ),
            )
            .next(format!("rackctl lab create {0} --dir /var/tmp/{0}", lab.name))),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineLayout {
    pub dir: PathBuf,
}

impl MachineLayout {
    /// Of a simulated machine: what stands on its disk.
    pub fn simulated_disk(&self) -> PathBuf {
        self.dir.join("disk.json")
    }
    /// What the SSH server of a simulated machine reads, and what it says.
    pub fn ssh_host_key(&self) -> PathBuf {
        self.dir.join("ssh_host_ed25519_key")
    }
    pub fn authorized_keys(&self) -> PathBuf {
        self.dir.join("authorized_keys")
    }
    pub fn sshd_config(&self) -> PathBuf {
        self.dir.join("sshd_config")
    }
    pub fn sshd_log(&self) -> PathBuf {
        self.dir.join("sshd.log")
    }
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk.raw")
    }
    pub fn vars(&self) -> PathBuf {
        self.dir.join("vars.fd")
    }
    pub fn bmc_certificate(&self) -> PathBuf {
        self.dir.join("bmc-cert.pem")
    }
    pub fn bmc_key(&self) -> PathBuf {
        self.dir.join("bmc-key.pem")
    }
    pub fn pid(&self) -> PathBuf {
        self.dir.join("qemu.pid")
    }
    pub fn qemu_log(&self) -> PathBuf {
        self.dir.join("qemu.log")
    }
    pub fn qmp_socket(&self) -> PathBuf {
        self.dir.join("qmp.sock")
    }
    pub fn serial_socket(&self) -> PathBuf {
        self.dir.join("serial.sock")
    }
    /// Everything that the serial port ever said, over all boots.
    pub fn serial_log(&self) -> PathBuf {
        self.dir.join("serial.log")
    }
    /// QEMU serves one console at a time; who holds this lock has it.
    pub fn console_lock(&self) -> PathBuf {
        self.dir.join("console.lock")
    }
}

/// The two XDG folders that a laboratory writes to (XDG Base Directory 0.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// `…/rackctl/labs`: an entry a laboratory, a folder or a link to one.
    pub labs: PathBuf,
    /// `…/rackctl/config.yaml`.
    pub config: PathBuf,
}

impl Folders {
    /// From the values of XDG_STATE_HOME, XDG_CONFIG_HOME and HOME; relative or empty ones do not count.
    pub fn from(state: Option<OsString>, config: Option<OsString>, home: Option<OsString>) -> Result<Folders, Failure> {
        let absolute = |value: Option<OsString>| {
            value.map(PathBuf::from).filter(|path| path.is_absolute() && path != Path::new(""))
        };
        let home = absolute(home);
        let base = |given: Option<OsString>, below: &str, variable: &str| {
            absolute(given).or_else(|| home.as_ref().map(|home| home.join(below))).ok_or_else(|| {
                Failure::new(
                    Cause::Local,
                    "lab: find the folder for its files",
                    format!("neither {variable} nor HOME names an absolute path"),
                )
                .next("export HOME=/root")
            })
        };
        Ok(Folders {
            labs: base(state, ".local/state", "XDG_STATE_HOME")?.join("rackctl/labs"),
            config: base(config, ".config", "XDG_CONFIG_HOME")?.join("rackctl/config.yaml"),
        })
    }

    pub fn entry(&self, name: &str) -> PathBuf {
        self.labs.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::spec::Spec;

    #[test]
    fn a_directory_too_deep_for_sockets_is_refused_before_anything_is_made() {
        let lab = Lab::plan(&Spec::new("demo"), uuid::Uuid::nil(), 0).unwrap();
        assert!(Layout::new("/var/tmp/demo").check(&lab).is_ok());
        let failure = Layout::new(format!("/{}", "d".repeat(100))).check(&lab).unwrap_err();
        assert!(failure.why.contains("107"), "{failure}");
    }

    #[test]
    fn folders_follow_xdg_and_fall_back_to_home() {
        let some = |text: &str| Some(OsString::from(text));
        let folders = Folders::from(some("relative"), some("/c"), some("/h")).unwrap();
        assert_eq!(folders.entry("x"), Path::new("/h/.local/state/rackctl/labs/x"));
        assert_eq!(folders.config, Path::new("/c/rackctl/config.yaml"));
        assert!(Folders::from(None, some("/c"), some("")).is_err());
    }
}
