//! Looks at this host.

use std::{env, fs, path::Path};

use super::{
    preflight::{Host, NEEDS},
    qemu::Accel,
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

fn is_there(need: &str) -> bool {
    if need.starts_with('/') {
        return Path::new(need).is_file();
    }
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(need).is_file()))
}
