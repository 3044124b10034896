//! `cargo xtask crash-points`: rackctl killed at every system call that matters, and resumed.

use crate::{build, exec::Argv, setup::root::is_root, stopwatch::Stopwatch, trouble::Trouble};

/// Flags that the harness takes as `RACKCTL_CRASH_NAME`, and what a value of each must be.
const FLAGS: [(&str, &str, Value); 9] = [
    ("--stride", "STRIDE", Value::Number),
    ("--from", "FROM", Value::Number),
    ("--seed", "SEED", Value::Number),
    ("--jobs", "JOBS", Value::Number),
    ("--double", "DOUBLE", Value::Number),
    ("--times", "TIMES", Value::Number),
    ("--minutes", "MINUTES", Value::Number),
    ("--only", "ONLY", Value::Points),
    ("--program", "PROGRAM", Value::Text),
];

#[derive(Clone, Copy, PartialEq)]
enum Value {
    Number,
    Points,
    Text,
}

/// Settings for the harness.
pub fn parse(words: &[String]) -> Result<Vec<(String, String)>, Trouble> {
    let mut settings = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (flag, joined) = word.split_once('=').map_or((word.as_str(), None), |(f, v)| (f, Some(v.to_owned())));
        let Some((_, name, kind)) = FLAGS.iter().find(|(f, ..)| *f == flag) else {
            return Err(Trouble::usage(format!("`{flag}` is not understood here")));
        };
        let value =
            joined.or_else(|| words.next().cloned()).ok_or_else(|| Trouble::usage(format!("{flag} needs a value")))?;
        let good = match kind {
            Value::Number => value.parse::<u64>().is_ok(),
            Value::Points => value.split(',').all(|p| p.split(':').count() == 3),
            Value::Text => !value.is_empty(),
        };
        if !good || (flag == "--stride" || flag == "--jobs") && value == "0" {
            return Err(Trouble::usage(format!("{flag} {value}: that is no value for it")));
        }
        settings.push((format!("RACKCTL_CRASH_{name}"), value));
    }
    Ok(settings)
}

pub fn run(words: &[String]) -> Result<(), Trouble> {
    let release = words.iter().any(|w| w == "--release");
    let words: Vec<String> = words.iter().filter(|w| *w != "--release").cloned().collect();
    let mut settings = parse(&words)?;
    if !is_root() {
        return Err(Trouble::new("crash points", "laboratories want root").next("sudo -E cargo xtask crash-points"));
    }
    let mut watch = Stopwatch::start();
    watch.stage("build the harness", || Argv::new(&["cargo", "test", "--test", "crash_points", "--no-run"]).run())?;
    if release {
        let program = watch.stage("build rackctl", || build::rackctl(true))?;
        settings.push(("RACKCTL_CRASH_PROGRAM".into(), program.display().to_string()));
    }
    let harness = Argv::new(&["cargo", "test", "--test", "crash_points", "crash_points_all", "--"])
        .args(["--ignored", "--nocapture"]);
    let harness = settings.into_iter().fold(harness, |argv, (name, value)| argv.env(&name, value));
    let result = watch.stage("crash points", || harness.run());
    eprintln!("\nTime of `cargo xtask crash-points`\n{}", watch.table());
    result.map_err(|trouble| {
        let kept = build::target_dir().join("tmp/crash-failed");
        trouble.next(format!("ls {}", kept.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_become_settings() {
        let settings = parse(&words("--stride 3 --only=main:fsync:1,child:sendto:2")).unwrap();
        let pair = |n: &str, v: &str| (format!("RACKCTL_CRASH_{n}"), v.to_owned());
        assert_eq!(settings, [pair("STRIDE", "3"), pair("ONLY", "main:fsync:1,child:sendto:2")]);
        for bad in ["--stride", "--stride 0", "--stride x", "--only main:fsync", "--what 1", "all"] {
            assert!(parse(&words(bad)).is_err(), "{bad}");
        }
    }
}
