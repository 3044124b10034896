//! apt's command lines, and what its answers mean. Pure.

use crate::exec::Argv;

/// Where a call of apt takes its sources and its index from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// A private configuration: folder of the sources, folder of the index. `None`: the host's own.
    pub private: Option<(String, String)>,
    /// Release that counts more than the others.
    pub release: Option<String>,
}

impl Sources {
    fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        if let Some((parts, lists)) = &self.private {
            for option in [
                "Dir::Etc::SourceList=/dev/null".to_owned(),
                format!("Dir::Etc::SourceParts={parts}"),
                format!("Dir::State::Lists={lists}"),
                // The host's own caches describe its own index.
                "Dir::Cache::pkgcache=".to_owned(),
                "Dir::Cache::srcpkgcache=".to_owned(),
            ] {
                options.extend(["-o".to_owned(), option]);
            }
        }
        if let Some(release) = &self.release {
            options.extend(["-t".to_owned(), release.clone()]);
        }
        options
    }
}

/// `root`: sudo or nothing.
pub fn update(root: &[&str], sources: &Sources) -> Argv {
    Argv::new(root).args(["apt-get", "-q", "-o", "Acquire::Retries=3"]).args(sources.options()).args(["update"])
}

/// Never removes a package, never asks.
pub fn install(root: &[&str], sources: &Sources, packages: &[&str]) -> Argv {
    Argv::new(root)
        .args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "Acquire::Retries=3"])
        .args(sources.options())
        .args(["--no-install-recommends", "--no-remove", "install", "--"])
        .args(packages.iter().copied())
}

/// What [`install`] would do; changes nothing and needs no root.
pub fn rehearse(sources: &Sources, packages: &[&str]) -> Argv {
    Argv::new(&["apt-get", "-q", "-y", "--simulate"])
        .args(sources.options())
        .args(["--no-install-recommends", "--no-remove", "install", "--"])
        .args(packages.iter().copied())
}

/// `apt-cache policy`: every one of the packages has a version that can be installed.
pub fn all_offered(policy: &str, packages: &[&str]) -> bool {
    let offered = |package: &&str| {
        let mut lines = policy.lines().skip_while(|line| line.strip_suffix(':') != Some(package));
        lines.nth(2).and_then(|line| line.trim().strip_prefix("Candidate: ")).is_some_and(|version| version != "(none)")
    };
    packages.iter().all(offered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_removed_and_nothing_asked() {
        let argv = install(&["sudo"], &Sources::default(), &["ovmf", "git"]);
        let line = argv.words.join(" ");
        assert!(line.starts_with("sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y "), "{line}");
        assert!(line.ends_with("--no-install-recommends --no-remove install -- ovmf git"), "{line}");
    }

    #[test]
    fn a_private_configuration_leaves_the_hosts_alone() {
        let sources = Sources {
            private: Some(("/t/parts".into(), "/t/lists".into())),
            release: Some("bookworm-backports".into()),
        };
        let line = rehearse(&sources, &["ovmf"]).words.join(" ");
        assert!(line.contains("-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=/t/parts"), "{line}");
        assert!(line.contains("-o Dir::State::Lists=/t/lists"), "{line}");
        assert!(line.contains("-t bookworm-backports --no-install-recommends"), "{line}");
    }

    #[test]
    fn policy_says_what_is_offered() {
        let policy = "git:\n  Installed: (none)\n  Candidate: 1:2.39\n  Version table:\novmf:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        assert!(all_offered(policy, &["git"]));
        assert!(!all_offered(policy, &["git", "ovmf"]));
        assert!(!all_offered(policy, &["seabios"]));
        assert!(!all_offered("", &["git"]));
    }
}
