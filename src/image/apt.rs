//! apt's signed index as values: what it offers, and which pins that gives. Text in, values out.

use std::collections::BTreeMap;

use super::packages::{Distro, Lock, Pin, is_kernel, is_package_name, is_version};

/// One version of a package that the index offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub name: String,
    pub version: String,
    pub sha256: String,
    pub size_bytes: u64,
    pub depends: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    pub offers: Vec<Offer>,
    /// Version that apt would install.
    pub candidates: BTreeMap<String, String>,
}

/// A pin that the index no longer has, and what took its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    pub wanted: String,
    /// `None`: there was no pin yet.
    pub from: Option<String>,
    pub to: String,
}

pub fn show_argv(names: &[String]) -> Vec<String> {
    let mut argv: Vec<String> = ["apt-cache", "show", "--"].map(String::from).to_vec();
    argv.extend(names.iter().cloned());
    argv
}

pub fn policy_argv(names: &[String]) -> Vec<String> {
    let mut argv: Vec<String> = ["apt-cache", "policy", "--"].map(String::from).to_vec();
    argv.extend(names.iter().cloned());
    argv
}

pub fn download_argv(pins: &[Pin]) -> Vec<String> {
    let mut argv: Vec<String> =
        ["apt-get", "--quiet", "--option", "Acquire::Retries=2", "download", "--"].map(String::from).to_vec();
    argv.extend(pins.iter().map(|pin| format!("{}={}", pin.name, pin.version)));
    argv
}

/// `apt-cache show`: records of `Key: value` lines, separated by empty lines. Records without a
/// digest are those of installed packages that no index offers.
pub fn parse_show(text: &str) -> Vec<Offer> {
    let mut offers = Vec::new();
    for record in text.split("\n\n") {
        let field = |key: &str| {
            record
                .lines()
                .find_map(|line| line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')))
                .map(|value| value.trim().to_string())
        };
        let (Some(name), Some(version), Some(sha256), Some(size)) =
            (field("Package"), field("Version"), field("SHA256"), field("Size"))
        else {
            continue;
        };
        let Ok(size_bytes) = size.parse() else { continue };
        let digest = sha256.len() == 64 && sha256.chars().all(|c| c.is_ascii_hexdigit());
        if digest && is_package_name(&name) && is_version(&version) {
            let depends = field("Depends").unwrap_or_default();
            offers.push(Offer { name, version, sha256: sha256.to_ascii_lowercase(), size_bytes, depends });
        }
    }
    offers
}

/// `apt-cache policy`: `name:` and below it `  Candidate: version`.
pub fn parse_policy(text: &str) -> BTreeMap<String, String> {
    let mut candidates = BTreeMap::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_suffix(':').filter(|rest| !rest.starts_with(' ')) {
            name = rest;
        } else if let Some(version) = line.trim().strip_prefix("Candidate: ").filter(|v| is_version(v)) {
            candidates.insert(name.to_string(), version.to_string());
        }
    }
    candidates
}

impl Index {
    fn offer(&self, name: &str, version: &str) -> Option<&Offer> {
        self.offers.iter().find(|o| o.name == name && o.version == version)
    }

    fn candidate(&self, name: &str) -> Option<&Offer> {
        let version = self.candidates.get(name)?;
        // Where the installed version is newer than the index, the newest that can be had is the first.
        self.offer(name, version).or_else(|| self.offers.iter().find(|o| o.name == name))
    }

    /// The kernel that a metapackage stands for now.
    pub fn kernel_behind(&self, meta: &str) -> Option<String> {
        let first = self.candidate(meta)?.depends.split([',', '|', '(']).next()?.trim().to_string();
        (is_kernel(&first) && is_package_name(&first)).then_some(first)
    }
}

/// The pins for these names: the recorded ones as far as the index still has them, else its candidates.
pub fn resolve(distro: &Distro, wanted: &[String], lock: &Lock, index: &Index) -> Result<(Lock, Vec<Renewal>), String> {
    let (mark, start) = distro.mark;
    match index.candidate(mark) {
        None => return Err(format!("apt's index has no package {mark}")),
        Some(offer) if !offer.version.starts_with(start) => {
            return Err(format!("apt's index is of another release: {mark} is {}, not {start}…", offer.version));
        }
        Some(_) => {}
    }
    let (mut packages, mut renewals) = (Vec::new(), Vec::new());
    for name in wanted {
        let pin = lock.pin(name);
        if let Some(pin) = pin
            && let Some(offer) = index.offer(&pin.name, &pin.version)
        {
            if offer.sha256 != pin.sha256 {
                return Err(format!(
                    "{} {}: the index says SHA-256 {}, the lock {}",
                    pin.name, pin.version, offer.sha256, pin.sha256
                ));
            }
            packages.push(pin.clone());
            continue;
        }
        let real =
            if is_kernel(name) { index.kernel_behind(name).unwrap_or_else(|| name.clone()) } else { name.clone() };
        let offer = index.candidate(&real).ok_or_else(|| format!("apt's index has no package {real}"))?;
        packages.push(Pin {
            wanted: name.clone(),
            name: real,
            version: offer.version.clone(),
            sha256: offer.sha256.clone(),
            size_bytes: offer.size_bytes,
        });
        let from = pin.map(|pin| format!("{} {}", pin.name, pin.version));
        renewals.push(Renewal { wanted: name.clone(), from, to: format!("{} {}", offer.name, offer.version) });
    }
    // Pins of other images of this distribution stay.
    packages.extend(lock.packages.iter().filter(|pin| !wanted.contains(&pin.wanted)).cloned());
    packages.sort_by(|a, b| a.wanted.cmp(&b.wanted));
    Ok((Lock { distro: distro.name.to_string(), arch: distro.arch, packages }, renewals))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::packages::DISTROS;

    fn record(name: &str, version: &str, digit: char, depends: &str) -> String {
        let sha = digit.to_string().repeat(64);
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nDepends: {depends}\nDescription: x\n more: text\n .\n SHA256: no\nSize: 10\nSHA256: {sha}\n\n"
        )
    }

    fn index() -> Index {
        let show = [
            record("libc6", "2.36-9", '1', ""),
            record("openssh-server", "1:9.2p1-2+deb12u10", '2', "libc6"),
            record("openssh-server", "1:9.2p1-2+deb12u9", '3', "libc6"),
            record("linux-image-cloud-amd64", "6.1.192-2", '4', "linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)"),
            record("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2", '5', "kmod"),
            "Package: local\nVersion: 1\nStatus: install ok installed\n\n".to_string(),
        ]
        .concat();
        let policy = "libc6:\n  Installed: 2.36-8\n  Candidate: 2.36-9\n  Version table:\n     2.36-9 500\n        500 http://x bookworm/main amd64 Packages\nopenssh-server:\n  Installed: (none)\n  Candidate: 1:9.2p1-2+deb12u10\nlinux-image-cloud-amd64:\n  Candidate: 6.1.192-2\nlinux-image-6.1.0-56-cloud-amd64:\n  Candidate: 6.1.192-2\ngone:\n  Candidate: (none)\n";
        Index { offers: parse_show(&show), candidates: parse_policy(policy) }
    }

    fn lock(pins: &[(&str, &str, &str, char)]) -> Lock {
        let pin = |(wanted, name, version, digit): &(&str, &str, &str, char)| Pin {
            wanted: wanted.to_string(),
            name: name.to_string(),
            version: version.to_string(),
            sha256: digit.to_string().repeat(64),
            size_bytes: 10,
        };
        Lock { distro: "debian-12".into(), arch: DISTROS[0].arch, packages: pins.iter().map(pin).collect() }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn apt_text_becomes_offers_and_candidates() {
        let index = index();
        assert_eq!(index.offers.len(), 5);
        assert_eq!(index.offers[1].size_bytes, 10);
        assert_eq!(index.candidates["openssh-server"], "1:9.2p1-2+deb12u10");
        assert!(!index.candidates.contains_key("gone"));
        assert_eq!(index.kernel_behind("linux-image-cloud-amd64").unwrap(), "linux-image-6.1.0-56-cloud-amd64");
    }

    #[test]
    fn a_pin_stays_while_the_index_has_it_and_is_renewed_when_it_is_gone() {
        let old = lock(&[
            ("linux-image-cloud-amd64", "linux-image-6.1.0-53-cloud-amd64", "6.1.187-1", '9'),
            ("openssh-server", "openssh-server", "1:9.2p1-2+deb12u9", '3'),
        ]);
        let wanted = names(&["libc6", "linux-image-cloud-amd64", "openssh-server"]);
        let (new, renewals) = resolve(&DISTROS[0], &wanted, &old, &index()).unwrap();
        assert_eq!(new.pin("openssh-server"), old.pin("openssh-server"));
        assert_eq!(new.pin("linux-image-cloud-amd64").unwrap().name, "linux-image-6.1.0-56-cloud-amd64");
        assert_eq!(renewals.len(), 2);
        assert_eq!(renewals[0].from, None);
        assert_eq!(renewals[1].from.as_deref(), Some("linux-image-6.1.0-53-cloud-amd64 6.1.187-1"));
        let (again, none) = resolve(&DISTROS[0], &wanted, &new, &index()).unwrap();
        assert_eq!((again, none.len()), (new, 0));
    }

    #[test]
    fn another_digest_another_release_and_an_unknown_package_are_refused() {
        let changed = lock(&[("openssh-server", "openssh-server", "1:9.2p1-2+deb12u9", 'a')]);
        let message = resolve(&DISTROS[0], &names(&["openssh-server"]), &changed, &index()).unwrap_err();
        assert!(message.contains("SHA-256"), "{message}");
        let message = resolve(&DISTROS[0], &names(&["nonesuch"]), &lock(&[]), &index()).unwrap_err();
        assert!(message.contains("nonesuch"), "{message}");
        let mut other = index();
        other.offers[0].version = "2.41-1".into();
        let message = resolve(&DISTROS[0], &names(&["libc6"]), &lock(&[]), &other).unwrap_err();
        assert!(message.contains("another release"), "{message}");
    }
}
