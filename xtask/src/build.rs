//! Builds the static node program and rackctl.

use std::path::PathBuf;

use crate::{
    exec::{Argv, root},
    trouble::Trouble,
};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where cargo builds: `CARGO_TARGET_DIR`, else `target/` of the repository.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The program of installers and nodes. Static, because the installer's first stage holds no C library.
pub fn node_program() -> Result<PathBuf, Trouble> {
    Argv::new(&["cargo", "build", "--profile", "node", "--package", "rackctl-node", "--target", TARGET])
        // With a named target these flags reach the program alone, not build scripts and macros.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .run()?;
    Ok(target_dir().join(TARGET).join("node/rackctl-node"))
}

pub fn rackctl(release: bool) -> Result<PathBuf, Trouble> {
    let build = Argv::new(&["cargo", "build", "--package", "rackctl", "--bin", "rackctl"]);
    let (build, folder) = if release { (build.args(["--release"]), "release") } else { (build, "debug") };
    build.run()?;
    Ok(target_dir().join(folder).join("rackctl"))
}
