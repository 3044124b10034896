//! Files and programs that the chores use, and the Debian packages that have them. Pure.

use std::path::Path;

/// What must be there, the package that has it, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Absolute: a file. Otherwise a program on PATH.
    pub file: &'static str,
    pub package: &'static str,
    pub why: &'static str,
}

const fn need(file: &'static str, package: &'static str, why: &'static str) -> Need {
    Need { file, package, why }
}

pub const DEMO: [Need; 11] = [
    need("qemu-system-x86_64", "qemu-system-x86", "emulates the machines"),
    need("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf", "their UEFI firmware"),
    need("/usr/share/seabios/bios-256k.bin", "seabios", "their BIOS"),
    need("/usr/lib/ipxe/undionly.kpxe", "ipxe", "the network loaders"),
    need("/usr/lib/ipxe/qemu/pxe-virtio.rom", "ipxe-qemu", "the BIOS machine's network ROM"),
    need("ip", "iproute2", "the network namespace"),
    need("ssh", "openssh-client", "rackctl ssh, and the check of installed systems"),
    need("mke2fs", "e2fsprogs", "file systems of the disks in tests"),
    need("git", "git", "the inventory's revision in plans"),
    need("dpkg-deb", "dpkg", "unpacks the packages of images"),
    need("cc", "gcc", "links Rust programs and builds SQLite"),
];

pub const TEST: [Need; 4] = [
    need("busybox", "busybox-static", "a small userland in tests"),
    need("ipmi_sim", "openipmi", "a BMC that the IPMI client is tested against"),
    need("ipmitool", "ipmitool", "drives the laboratory's BMC in tests"),
    need("/usr/sbin/ipmipower", "freeipmi-tools", "drives the laboratory's BMC in tests"),
];

pub const FUZZ: [Need; 1] = [need("c++", "g++", "builds libFuzzer")];

/// Packages of the QEMU family, which must come from one release together.
pub const FAMILY: [&str; 5] = ["qemu-system-x86", "ovmf", "seabios", "ipxe", "ipxe-qemu"];

pub fn missing(needs: &[Need], is_file: impl Fn(&Path) -> bool, is_program: impl Fn(&str) -> bool) -> Vec<Need> {
    let there = |file: &str| if file.starts_with('/') { is_file(Path::new(file)) } else { is_program(file) };
    needs.iter().filter(|need| !there(need.file)).copied().collect()
}

/// Packages of these needs, each once: the ordinary ones, and those of the QEMU family.
pub fn packages(needs: &[Need]) -> (Vec<&'static str>, Vec<&'static str>) {
    let mut names: Vec<&str> = needs.iter().map(|n| n.package).collect();
    names.dedup();
    names.into_iter().partition(|name| !FAMILY.contains(name))
}

/// One line each, for systems without apt.
pub fn list(needs: &[Need]) -> String {
    needs
        .iter()
        .map(|n| format!("  {} ({}; Debian has it in {})", n.file, n.why, n.package))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_missed() {
        let all = missing(&DEMO, |_| false, |_| false);
        assert_eq!(all, DEMO);
        let some = missing(&DEMO, |path| path.ends_with("OVMF_CODE_4M.fd"), |program| program != "qemu-system-x86_64");
        assert_eq!(packages(&some), (vec![], vec!["qemu-system-x86", "seabios", "ipxe", "ipxe-qemu"]));
        let (plain, family) = packages(&DEMO);
        assert_eq!(family, FAMILY);
        assert_eq!(plain, ["iproute2", "openssh-client", "e2fsprogs", "git", "dpkg", "gcc"]);
        assert!(
            list(&some).starts_with("  qemu-system-x86_64 (emulates the machines; Debian has it in qemu-system-x86)\n")
        );
    }
}
