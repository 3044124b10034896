//! `cargo xtask operators`: several operators at once, for as long as is wanted.

use crate::{build, exec::Argv, setup::root::is_root, stopwatch::Stopwatch, trouble::Trouble};

/// Flags that the tests take as `RACKCTL_CRASH_NAME`.
const FLAGS: [(&str, &str); 4] = [("--races", "TIMES"), ("--rounds", "TIMES"), ("--jobs", "JOBS"), ("--seed", "SEED")];

/// Which tests, and settings for them.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    tests: &'static str,
    settings: Vec<(String, String)>,
}

pub fn parse(words: &[String]) -> Result<Order, Trouble> {
    let mut order = Order { tests: "operators_", settings: Vec::new() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (flag, joined) = word.split_once('=').map_or((word.as_str(), None), |(f, v)| (f, Some(v.to_owned())));
        let Some((_, name)) = FLAGS.iter().find(|(f, _)| *f == flag) else {
            return Err(Trouble::usage(format!("`{flag}` is not understood here")));
        };
        let value =
            joined.or_else(|| words.next().cloned()).ok_or_else(|| Trouble::usage(format!("{flag} needs a value")))?;
        if value.parse::<u64>().is_err() || flag != "--seed" && value == "0" {
            return Err(Trouble::usage(format!("{flag} {value}: that is no value for it")));
        }
        let tests = match flag {
            "--races" => "operators_race_",
            "--rounds" => "operators_never_",
            _ => order.tests,
        };
        if *name == "TIMES" && order.tests != "operators_" {
            return Err(Trouble::usage("--races and --rounds are of different tests: one at a time"));
        }
        order.tests = tests;
        order.settings.push((format!("RACKCTL_CRASH_{name}"), value));
    }
    Ok(order)
}

pub fn run(words: &[String]) -> Result<(), Trouble> {
    let order = parse(words)?;
    if !is_root() {
        return Err(Trouble::new("operators", "laboratories want root").next("sudo -E cargo xtask operators"));
    }
    let mut watch = Stopwatch::start();
    watch.stage("build the tests", || Argv::new(&["cargo", "test", "--test", "operators", "--no-run"]).run())?;
    let tests = Argv::new(&["cargo", "test", "--test", "operators", order.tests, "--"])
        .args(["--nocapture", "--test-threads", "1"])
        .env("RACKCTL_E2E", "required");
    let tests = order.settings.into_iter().fold(tests, |argv, (name, value)| argv.env(&name, value));
    let result = watch.stage("operators", || tests.run());
    eprintln!("\nTime of `cargo xtask operators`\n{}", watch.table());
    result.map_err(|trouble| {
        let kept = build::target_dir().join("tmp/crash-failed");
        trouble.next(format!("ls {}", kept.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_choose_tests_and_become_settings() {
        let words = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let order = parse(&words("--races 200 --jobs=4")).unwrap();
        let pair = |n: &str, v: &str| (format!("RACKCTL_CRASH_{n}"), v.to_owned());
        assert_eq!(order, Order { tests: "operators_race_", settings: vec![pair("TIMES", "200"), pair("JOBS", "4")] });
        assert_eq!(parse(&words("--rounds 5")).unwrap().tests, "operators_never_");
        assert_eq!(parse(&[]).unwrap().tests, "operators_");
        for bad in ["--races", "--races 0", "--jobs x", "--races 2 --rounds 3", "--what 1", "all"] {
            assert!(parse(&words(bad)).is_err(), "{bad}");
        }
    }
}
