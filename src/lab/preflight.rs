//! What a laboratory needs of this host. The decision is pure; [`super::preflight_exec`] looks.

use crate::model::{Failure, failure::Cause};

use super::qemu::{IPXE_ROM, OVMF_CODE, OVMF_VARS, PROGRAM, SEABIOS};

/// A file or a program on PATH, and the Debian package that has it.
pub const NEEDS: [(&str, &str); 7] = [
    (PROGRAM, "qemu-system-x86"),
    (OVMF_CODE, "ovmf"),
    (OVMF_VARS, "ovmf"),
    (SEABIOS, "seabios"),
    (IPXE_ROM, "ipxe-qemu"),
    ("ip", "iproute2"),
    ("ssh-keygen", "openssh-client"),
];

/// Of simulated machines.
pub const SIMULATED_NEEDS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("ssh-keygen", "openssh-client"), (super::simulated::SSHD, "openssh-server")];

/// What was found.
#[derive(Clone, Debug)]
pub struct Host {
    pub root: bool,
    /// Of [`NEEDS`] or [`SIMULATED_NEEDS`], the first members that are not there.
    pub missing: Vec<&'static str>,
    /// Opening /dev/net/tun: why not.
    pub tun: Result<(), String>,
    /// Value of RACKCTL_LAB_ACCEL, where it is not a known word.
    pub unknown_accel: Option<String>,
}

pub fn check(lab: &str, host: &Host) -> Result<(), Failure> {
    let refuse = |why: String, next: String| {
        Err(Failure::new(Cause::Local, format!("lab {lab}: look at this host"), why).next(next))
    };
    if !host.root {
        return refuse(
            "a network namespace and its taps can be made by root only".into(),
            format!("sudo rackctl lab create {lab}"),
        );
    }
    let mut packages: Vec<&str> = NEEDS
        .iter()
        .chain(&SIMULATED_NEEDS)
        .filter(|(need, _)| host.missing.contains(need))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if !packages.is_empty() {
        return refuse(
            format!("missing: {}", host.missing.join(", ")),
            format!("sudo apt-get install {}", packages.join(" ")),
        );
    }
    if let Err(why) = &host.tun {
        return refuse(format!("/dev/net/tun: {why}"), "sudo modprobe tun".into());
    }
    if let Some(word) = &host.unknown_accel {
        return refuse(
            format!("RACKCTL_LAB_ACCEL is `{word}`; it may be tcg or kvm"),
            "unset RACKCTL_LAB_ACCEL".into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host { root: true, missing: vec![], tun: Ok(()), unknown_accel: None }
    }

    #[test]
    fn names_exactly_the_packages_that_are_missing() {
        assert_eq!(check("demo", &host()), Ok(()));
        let failure =
            check("demo", &Host { missing: vec![PROGRAM, OVMF_CODE, OVMF_VARS, IPXE_ROM], ..host() }).unwrap_err();
        assert_eq!(failure.next.as_deref(), Some("sudo apt-get install qemu-system-x86 ovmf ipxe-qemu"));
        let failure = check("demo", &Host { missing: vec![super::super::simulated::SSHD], ..host() }).unwrap_err();
        assert_eq!(failure.next.as_deref(), Some("sudo apt-get install openssh-server"));
        let failure = check("demo", &Host { missing: vec!["ip"], ..host() }).unwrap_err();
        assert_eq!(failure.next.as_deref(), Some("sudo apt-get install iproute2"));
    }

    #[test]
    fn every_other_lack_says_what_mends_it() {
        let next = |host| check("demo", &host).unwrap_err().next.unwrap();
        assert!(next(Host { root: false, ..host() }).starts_with("sudo rackctl"));
        assert_eq!(next(Host { tun: Err("No such file".into()), ..host() }), "sudo modprobe tun");
        assert_eq!(next(Host { unknown_accel: Some("hvf".into()), ..host() }), "unset RACKCTL_LAB_ACCEL");
    }
}
