//! Looks at this host.

use std::{env, fs, path::Path};

use super::{
    preflight::{Host, NEEDS, SIMULATED_NEEDS},
    qemu::Accel,
    simulated,
};

pub const ACCEL_VARIABLE: &str = "RACKCTL_LAB_ACCEL";

pub fn look() -> Host {
    let accel = env::var(ACCEL_VARIABLE).ok();
    Host {
        root: nix::unistd::geteuid().is_root(),
        missing: NEEDS.iter().map(|(need, _)| *need).filter(|need| !is_there(need)).collect(),
        tun: fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map(drop)
            .map_err(|error| error.to_string()),
        unknown_accel: accel.filter(|word| Accel::from_word(Some(word)).is_none()),
    }
}

/// What simulated machines need: neither QEMU nor taps.
pub fn look_simulated() -> Host {
    Host {
        root: nix::unistd::geteuid().is_root(),
        missing: SIMULATED_NEEDS
            .iter()
            .map(|(need, _)| *need)
            .filter(|need| match *need {
                simulated::SSHD => !simulated::sshd_program(env::var_os(simulated::SSHD_VARIABLE)).is_file(),
                need => !is_there(need),
            })
            .collect(),
        tun: Ok(()),
        unknown_accel: None,
    }
}

fn is_there(need: &str) -> bool {
    if need.starts_with('/') {
        return Path::new(need).is_file();
    }
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(need).is_file()))
}
