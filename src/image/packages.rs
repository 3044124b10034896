//! What is taken from the distribution: names only. Versions and digests stand in the lock.

use serde::{Deserialize, Serialize};

use crate::model::fleet::Arch;

/// A distribution that images can be built from.
pub struct Distro {
    pub name: &'static str,
    pub arch: Arch,
    /// `Architecture:` of its packages.
    pub debian_arch: &'static str,
    /// Directory of its libraries below `usr/lib`.
    pub library_dir: &'static str,
    /// Package and start of its version by which the right release is known: an index of another
    /// release on the building host is refused, not mixed in.
    pub mark: (&'static str, &'static str),
    /// Metapackage whose first dependency is the kernel; a package named `linux-image-…` in the image's list replaces it.
    pub kernel: &'static str,
    pub userland: &'static [&'static str],
    pub grub: &'static [&'static str],
    pub loaders: &'static str,
    /// Pins that are built from until the index no longer has them.
    pub lock: &'static str,
}

pub const DISTROS: &[Distro] = &[Distro {
    name: "debian-12",
    arch: Arch::Amd64,
    debian_arch: "amd64",
    library_dir: "x86_64-linux-gnu",
    mark: ("libc6", "2.36-"),
    kernel: "linux-image-cloud-amd64",
    userland: &[
        "busybox-static",
        "e2fsprogs",
        "etcd-client",
        "etcd-server",
        "openssh-server",
        "openssh-sftp-server",
        // Libraries of the above.
        "libaudit1",
        "libblkid1",
        "libc6",
        "libcap-ng0",
        "libcap2",
        "libcom-err2",
        "libcrypt1",
        "libext2fs2",
        "libgcrypt20",
        "libgpg-error0",
        "libgssapi-krb5-2",
        "libk5crypto3",
        "libkeyutils1",
        "libkrb5-3",
        "libkrb5support0",
        "liblz4-1",
        "liblzma5",
        "libnsl2",
        "libpam0g",
        "libpcre2-8-0",
        "libselinux1",
        "libssl3",
        "libsystemd0",
        "libtirpc3",
        "libuuid1",
        "libwrap0",
        "libzstd1",
        "zlib1g",
    ],
    grub: &["grub-common", "grub-efi-amd64-bin", "grub-pc-bin", "libdevmapper1.02.1", "libudev1"],
    loaders: "ipxe",
    lock: include_str!("../../images/debian-12-amd64.lock.json"),
}];

impl Distro {
    pub fn find(name: &str, arch: Arch) -> Option<&'static Distro> {
        DISTROS.iter().find(|d| d.name == name && d.arch == arch)
    }

    /// The names wanted for an image with these extra packages: sorted, once each.
    pub fn wanted(&self, extra: &[String]) -> Vec<String> {
        let kernel_given = extra.iter().any(|name| is_kernel(name));
        let mut names: Vec<String> = self.userland.iter().chain(self.grub).map(|n| n.to_string()).collect();
        names.push(self.loaders.to_string());
        if !kernel_given {
            names.push(self.kernel.to_string());
        }
        names.extend(extra.iter().cloned());
        names.sort();
        names.dedup();
        names
    }
}

pub fn is_kernel(name: &str) -> bool {
    name.starts_with("linux-image-")
}

/// Debian Policy 5.6.7. Nothing else may reach a command line.
pub fn is_package_name(name: &str) -> bool {
    name.len() >= 2
        && name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

/// Debian Policy 5.6.12.
pub fn is_version(version: &str) -> bool {
    !version.is_empty()
        && version.len() <= 100
        && version.starts_with(|c: char| c.is_ascii_alphanumeric())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || ".+-~:".contains(c))
}

/// Exactly which file a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pin {
    /// The name in the list; `name` differs where that is a metapackage.
    pub wanted: String,
    pub name: String,
    pub version: String,
    pub sha256: String,
    pub size_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lock {
    pub distro: String,
    pub arch: Arch,
    /// Sorted by `wanted`.
    pub packages: Vec<Pin>,
}

impl Lock {
    pub fn parse(text: &str, distro: &Distro) -> Result<Lock, String> {
        let lock: Lock = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if lock.distro != distro.name || lock.arch != distro.arch {
            return Err(format!("is for {}, not for {}", lock.distro, distro.name));
        }
        for pin in &lock.packages {
            let digest = pin.sha256.len() == 64 && pin.sha256.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
            if !is_package_name(&pin.wanted) || !is_package_name(&pin.name) || !is_version(&pin.version) || !digest {
                return Err(format!("{:?} {:?}: bad name, version or digest", pin.name, pin.version));
            }
        }
        Ok(lock)
    }

    pub fn pin(&self, wanted: &str) -> Option<&Pin> {
        self.packages.iter().find(|pin| pin.wanted == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_lock_covers_every_name_of_its_table() {
        for distro in DISTROS {
            let lock = Lock::parse(distro.lock, distro).unwrap();
            let missing: Vec<_> = distro.wanted(&[]).into_iter().filter(|n| lock.pin(n).is_none()).collect();
            assert!(missing.is_empty(), "{}: no pin for {missing:?}", distro.name);
        }
    }

    #[test]
    fn names_that_could_be_options_are_refused() {
        for good in ["libc6", "libstdc++6", "libdevmapper1.02.1"] {
            assert!(is_package_name(good), "{good}");
        }
        for bad in ["-o", "a b", "", "x", "Foo", "a=1", "../x"] {
            assert!(!is_package_name(bad), "{bad}");
        }
        assert!(is_version("1:9.2p1-2+deb12u10") && is_version("252.39-1~deb12u2"));
        assert!(!is_version("-1") && !is_version("1 2") && !is_version("1/2"));
    }

    #[test]
    fn a_kernel_in_the_list_replaces_the_default_one() {
        let distro = &DISTROS[0];
        assert!(distro.wanted(&[]).contains(&distro.kernel.to_string()));
        let names = distro.wanted(&["linux-image-amd64".to_string(), "libc6".to_string()]);
        assert!(names.contains(&"linux-image-amd64".to_string()) && !names.contains(&distro.kernel.to_string()));
        assert_eq!(names.iter().filter(|n| *n == "libc6").count(), 1);
    }
}
