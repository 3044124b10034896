//! Who holds a lock, told apart from a dead process that had the same number.

use std::{fmt, sync::OnceLock};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    pub user: String,
    pub host: String,
    pub pid: u32,
    /// Clock ticks after boot at which the process started (`/proc/PID/stat`, field 22).
    pub started_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    pub version: String,
}

impl Holder {
    /// This process. Read once: a look at ten thousand machines asks for it ten thousand times.
    pub fn this() -> Holder {
        static THIS: OnceLock<Holder> = OnceLock::new();
        THIS.get_or_init(Holder::read).clone()
    }

    fn read() -> Holder {
        let read = |path: &str| std::fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
        let pid = std::process::id();
        Holder {
            user: std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| user_name()),
            host: read("/proc/sys/kernel/hostname"),
            pid,
            started_ticks: started_ticks(pid).unwrap_or(0),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Whether the process may still act. Another host's cannot be told from here: it counts as alive.
    pub fn alive(&self) -> bool {
        let here = Holder::this();
        if self.host != here.host {
            return true;
        }
        self.boot_id == here.boot_id && started_ticks(self.pid) == Some(self.started_ticks)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} (pid {})", self.user, self.host, self.pid)
    }
}

/// By the user's number, where the environment names nobody.
fn user_name() -> String {
    let uid = nix::unistd::getuid();
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// `None`: no such process, or a zombie, which will never act again.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold anything: count from the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_namesake_is_not() {
        let me = Holder::this();
        assert!(me.alive());
        assert!(!Holder { started_ticks: me.started_ticks + 1, ..me.clone() }.alive());
        assert!(!Holder { boot_id: "another boot".into(), ..me.clone() }.alive());
        assert!(Holder { host: "elsewhere".into(), pid: 1, ..me }.alive());
    }
}
