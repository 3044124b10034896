//! `cargo xtask ci`: what must hold before a change is taken in. Quick checks first.

use std::time::{Duration, Instant};

use crate::{
    exec::Argv,
    heavy,
    setup::{self, needs, tools::DENY},
    stopwatch::Stopwatch,
    test,
    trouble::Trouble,
};

/// A mirror that has not begun to answer by then is out of reach.
const DATABASE_DEADLINE: Duration = Duration::from_secs(60);

pub fn run() -> Result<(), Trouble> {
    let mut watch = Stopwatch::start();
    watch.stage("packages", || setup::packages(&needs::DEMO))?;
    watch.stage("format", || {
        Argv::new(&["cargo", "fmt", "--all", "--check"]).run().map_err(|t| t.next("cargo fmt --all"))
    })?;
    watch.stage("clippy", || {
        Argv::new(&["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]).run()
    })?;
    watch.stage("cargo-deny", || DENY.ensure())?;
    watch.stage("licences, bans and sources", || {
        Argv::new(&["cargo", "deny", "--workspace", "--all-features", "check", "bans", "licenses", "sources"]).run()
    })?;
    watch.stage("advisories", advisories)?;
    eprintln!("\nTime of the checks\n{}", watch.table());
    let (tests, told) = test::untold(&[]);
    // After all that fails fast.
    let result = tests.and_then(|()| heavy::run());
    test::tell(&told);
    result
}

/// Known vulnerabilities, where the database of them can be had.
fn advisories() -> Result<(), Trouble> {
    let begun = Instant::now();
    let fetch = Argv::new(&["timeout", &DATABASE_DEADLINE.as_secs().to_string(), "cargo", "deny", "fetch", "db"]);
    match fetch.ask() {
        Some((true, _)) => {
            Argv::new(&["cargo", "deny", "--workspace", "--all-features", "check", "--disable-fetch", "advisories"])
                .run()
        }
        _ => {
            eprintln!(
                "NOT CHECKED: the advisory database could not be fetched (tried for {} s); see deny.toml",
                begun.elapsed().as_secs()
            );
            Ok(())
        }
    }
}
