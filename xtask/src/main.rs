//! `cargo xtask`: developers' chores. Each does its own set-up on a fresh Debian 12 with Rust.

mod bench;
mod build;
mod ci;
mod crash_points;
mod demo;
mod doctests;
mod exec;
mod fuzz;
mod heavy;
mod man;
mod mutants;
mod operators;
mod reliability;
mod setup;
mod simulate;
mod skipped;
mod stopwatch;
mod test;
mod trouble;

use std::process::ExitCode;

use trouble::Trouble;

const USAGE: &str = "\
cargo xtask demo [--nodes N] [--name NAME] [--release] [--no-keep]
    three emulated machines, powered off, become a healthy etcd cluster
    --nodes N     machines (default 3)
    --name NAME   laboratory (default demo); one of that name is deleted first
    --release     optimised rackctl (default: the profile that builds quickest)
    --keep        leave the laboratory running afterwards (the default)
    --no-keep     delete it when the run has succeeded
cargo xtask test [NEXTEST ARGUMENT…]
    every test, the end-to-end one included
cargo xtask heavy
    what takes minutes more: every combination of BMCs' lies, a minute of fuzzing for each target
cargo xtask ci
    rustfmt, clippy, cargo deny, then `test` and `heavy`
cargo xtask crash-points [FLAG…]
    rackctl killed at every fsync, fdatasync, pwrite64, rename, sendto, connect and execve of an installation and
    join of four simulated machines, and resumed: the machines must not notice. Half an hour and more; as root
    --stride N --from N   every N-th point alone, from that one on
    --jobs N              laboratories at a time (default 8)
    --double N            N random crashes of two more
    --seed S              of the random choices and of the order
    --minutes N           begin none after so long
    --only POINT[,POINT]  one crash again, as a failure names it: main:fsync:12
    --times N             that often
    --program FILE        another rackctl than the one that is built here
    --release             an optimised one: a crash takes less processor time, the build more
cargo xtask operators [FLAG…]
    several operators at once on simulated machines: races for a bootstrap, a process that is stopped for three leases,
    eight operators on forty machines; as root
    --races N             bootstrap races alone, so many with one store and so many with two
    --rounds N            the eight alone, so many commands each
    --jobs N              laboratories at a time (default 5)
    --seed S              of the random choices
cargo xtask simulate [--runs N] [--seed S] [--nodes N] [--faults none|crash|light|heavy] [--jobs J] [--log]
    fleets under a virtual clock, with the invariants checked; a world that breaks one is told with what replays it
cargo xtask man
    man/ from the command line's grammar
cargo xtask bench scale
    ten thousand machines: figures against their targets (optimised build)
cargo xtask bench bmc
    ten thousand BMCs over TLS, a thousand over IPMI: `power status --all` beside curl and a floor; as root
cargo xtask fuzz [--seconds N] [--only redfish|ipmi]
    what a BMC may send, made up under coverage; 60 s each unless told
cargo xtask mutants [NAME…]
    faults put in by hand: which of them no test notices
cargo xtask reliability
    docs/RELIABILITY.md from the markers above the tests
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chore, rest) = match arguments.split_first() {
        Some((chore, rest)) => (chore.as_str(), rest),
        None => ("help", [].as_slice()),
    };
    let done = match chore {
        "demo" => demo::Options::parse(rest).and_then(|options| demo::run(&options)),
        "test" => test::run(rest).map(|()| ExitCode::SUCCESS),
        "heavy" => no_arguments(rest).and_then(|()| heavy::run()).map(|()| ExitCode::SUCCESS),
        "ci" => no_arguments(rest).and_then(|()| ci::run()).map(|()| ExitCode::SUCCESS),
        "crash-points" => crash_points::run(rest).map(|()| ExitCode::SUCCESS),
        "simulate" => simulate::run(rest),
        "fuzz" => fuzz::Options::parse(rest).and_then(|o| fuzz::run(&o)).map(|()| ExitCode::SUCCESS),
        "operators" => operators::run(rest).map(|()| ExitCode::SUCCESS),
        "man" => no_arguments(rest).and_then(|()| man::run()).map(|()| ExitCode::SUCCESS),
        "bench" => bench::run(rest).map(|()| ExitCode::SUCCESS),
        "mutants" => mutants::run(rest).map(|()| ExitCode::SUCCESS),
        "reliability" => no_arguments(rest).and_then(|()| reliability::run()).map(|()| ExitCode::SUCCESS),
        "help" | "-h" | "--help" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => Err(Trouble::usage(format!("there is no chore `{other}`"))),
    };
    done.unwrap_or_else(|trouble| {
        eprintln!("{trouble}");
        ExitCode::from(trouble.code)
    })
}

fn no_arguments(rest: &[String]) -> Result<(), Trouble> {
    match rest.first() {
        None => Ok(()),
        Some(word) => Err(Trouble::usage(format!("`{word}` is not understood here"))),
    }
}
