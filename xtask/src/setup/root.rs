//! Root's rights, where a command needs them: a network namespace can be made by root alone.

use std::{env, fs, path::PathBuf};

use crate::{exec::Argv, trouble::Trouble};

/// What a command under sudo must see as we do: whose state it is, and how it was told to work.
const KEPT: [&str; 10] = [
    "HOME",
    "PATH",
    "TERM",
    "NO_COLOR",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "RACKCTL_NODE_PROGRAM",
    "RACKCTL_LAB_ACCEL",
    "RACKCTL_STORE",
];

pub struct Root {
    /// User and group to whom files are given back; `None`: we are root.
    person: Option<(u32, u32)>,
    kept: Vec<(String, String)>,
}

/// Effective user and group, as the kernel says it (proc(5), status).
fn ids() -> (u32, u32) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let id = |key: &str| {
        let ids = status.lines().find_map(|line| line.strip_prefix(key));
        ids.and_then(|ids| ids.split_whitespace().nth(1)).and_then(|id| id.parse().ok())
    };
    // Whoever cannot be told apart from others is not taken for root.
    (id("Uid:").unwrap_or(u32::MAX), id("Gid:").unwrap_or(u32::MAX))
}

pub fn is_root() -> bool {
    ids().0 == 0
}

/// `sudo`, or nothing for root.
pub fn prefix() -> &'static [&'static str] {
    if is_root() { &[] } else { &["sudo"] }
}

impl Root {
    pub fn find() -> Root {
        let kept = KEPT.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?))).collect();
        Root { person: Some(ids()).filter(|(user, _)| *user != 0), kept }
    }

    pub fn needs_sudo(&self) -> bool {
        self.person.is_some()
    }

    /// The command as root, with the person's environment.
    pub fn argv(&self, words: &[&str]) -> Argv {
        match self.person {
            None => Argv::new(words),
            Some(_) => Argv::new(&["sudo", "env"])
                .args(self.kept.iter().map(|(name, value)| format!("{name}={value}")))
                .args(words.iter().copied()),
        }
    }

    /// Files that root made in the person's folders become the person's.
    pub fn give_back(&self) -> Result<(), Trouble> {
        let Some((user, group)) = self.person else { return Ok(()) };
        let folders = self.folders().into_iter().filter(|f| f.is_dir()).map(|f| f.to_string_lossy().into_owned());
        let folders: Vec<String> = folders.collect();
        if folders.is_empty() {
            return Ok(());
        }
        Argv::new(&["sudo", "chown", "-R", "--no-dereference", &format!("{user}:{group}"), "--"]).args(folders).run()
    }

    fn folders(&self) -> Vec<PathBuf> {
        let value = |name: &str| self.kept.iter().find(|(n, _)| n == name).map(|(_, v)| PathBuf::from(v));
        [("XDG_STATE_HOME", ".local/state"), ("XDG_CACHE_HOME", ".cache"), ("XDG_CONFIG_HOME", ".config")]
            .into_iter()
            .filter_map(|(name, below)| value(name).or_else(|| Some(value("HOME")?.join(below))))
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("rackctl"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_keeps_their_environment_and_gets_their_files() {
        let kept = vec![("HOME".to_owned(), "/home/me".to_owned()), ("XDG_CACHE_HOME".to_owned(), "/c".to_owned())];
        let me = Root { person: Some((1000, 1000)), kept };
        let words = me.argv(&["rackctl", "runs"]).words;
        assert_eq!(words, ["sudo", "env", "HOME=/home/me", "XDG_CACHE_HOME=/c", "rackctl", "runs"]);
        let folders = ["/home/me/.local/state/rackctl", "/c/rackctl", "/home/me/.config/rackctl"].map(PathBuf::from);
        assert_eq!(me.folders(), folders);
        let root = Root { person: None, kept: Vec::new() };
        assert_eq!(root.argv(&["rackctl"]).words, ["rackctl"]);
        assert!(!root.needs_sudo());
    }
}
