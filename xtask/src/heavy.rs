//! `cargo xtask heavy`: what takes minutes and finds little that an ordinary run does not. `ci` does it last.

use crate::{
    exec::Argv,
    fuzz,
    setup::{self, needs::TEST, tools::NEXTEST},
    stopwatch::Stopwatch,
    trouble::Trouble,
};

pub fn run() -> Result<(), Trouble> {
    let mut watch = Stopwatch::start();
    let result = all(&mut watch);
    eprintln!("\nTime of `cargo xtask heavy`\n{}", watch.table());
    result
}

fn all(watch: &mut Stopwatch) -> Result<(), Trouble> {
    watch.stage("packages", || setup::packages(&TEST))?;
    watch.stage("cargo-nextest", || NEXTEST.ensure())?;
    watch.stage("tests of the profile heavy", || {
        // The whole workspace, as `cargo xtask test` builds it: other features of dependencies would build it anew.
        Argv::new(&["cargo", "nextest", "run", "--workspace", "--profile", "heavy", "--run-ignored", "only"]).run()
    })?;
    watch.stage("fuzzing", || fuzz::run(&fuzz::Options::default()))
}
