//! `cargo xtask test`: every test, the end-to-end one included.

use std::fs;

use crate::{
    build, doctests,
    exec::{Argv, root},
    setup::{
        self,
        needs::{DEMO, TEST},
        root::is_root,
        tools::NEXTEST,
    },
    skipped,
    stopwatch::Stopwatch,
    trouble::Trouble,
};

/// Where nextest's default profile leaves its JUnit report (.config/nextest.toml).
const JUNIT: &str = "nextest/default/junit.xml";
/// Tests with emulated machines (the group of .config/nextest.toml) or network namespaces: they need root.
const AS_ROOT: &str = "(group(machines) | binary(=netboot_wire))";

/// `arguments` go to nextest.
pub fn run(arguments: &[String]) -> Result<(), Trouble> {
    let (result, told) = untold(arguments);
    tell(&told);
    result
}

/// As [`run`]; the summaries come back, for who has more to do before the end.
pub fn untold(arguments: &[String]) -> (Result<(), Trouble>, Vec<String>) {
    let mut watch = Stopwatch::start();
    let mut told = Vec::new();
    let result = all(arguments, &mut watch, &mut told);
    eprintln!("\nTime of `cargo xtask test`\n{}", watch.table());
    (result, told)
}

/// The summaries stand last, where a reader looks.
pub fn tell(told: &[String]) {
    told.iter().for_each(|line| eprintln!("{line}"));
}

fn all(arguments: &[String], watch: &mut Stopwatch, told: &mut Vec<String>) -> Result<(), Trouble> {
    watch.stage("packages", || setup::packages(&[DEMO.as_slice(), TEST.as_slice()].concat()))?;
    watch.stage("cargo-nextest", || NEXTEST.ensure())?;
    let node_program = watch.stage("build the node program", build::node_program)?;
    if doctests::exist(&[&root().join("src"), &root().join("wire/src")]) {
        watch.stage("tests in the documentation", || {
            Argv::new(&["cargo", "test", "--quiet", "--workspace", "--doc"]).run()
        })?;
    }
    watch.stage("build the tests", || Argv::new(&["cargo", "nextest", "run", "--workspace", "--no-run"]).run())?;
    let images = build::target_dir().join("xtask/images");
    fs::create_dir_all(&images).map_err(|e| Trouble::new(images.display().to_string(), e.to_string()))?;
    let nextest = |filter: &[&str]| {
        Argv::new(&["cargo", "nextest", "run", "--workspace"])
            .args(filter.iter().copied())
            .args(arguments.iter().map(String::as_str))
            .env("RACKCTL_NODE_PROGRAM", node_program.to_string_lossy())
            .env("RACKCTL_IMAGE_DIR", images.to_string_lossy())
            // All that machines need was just installed: one that cannot be made is a failure here, no skip.
            .env("RACKCTL_E2E", "required")
    };
    if is_root() {
        return watch.stage("tests", || once(&nextest(&[]), told));
    }
    if !arguments.is_empty() {
        // Filters of nextest are joined by "or": a choice of ours would widen theirs.
        told.push("not root: tests that need it were skipped".to_owned());
        return watch.stage("tests", || once(&nextest(&[]), told));
    }
    let others = format!("not {AS_ROOT}");
    watch.stage("tests", || once(&nextest(&["-E", &others]), told))?;
    // Built by the person; run through sudo.
    let runner = nextest(&["-E", AS_ROOT]).env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -E");
    watch.stage("tests with emulated machines, as root", || once(&runner, told))
}

fn once(nextest: &Argv, told: &mut Vec<String>) -> Result<(), Trouble> {
    let junit = build::target_dir().join(JUNIT);
    // An older report must not speak for this run.
    let _ = fs::remove_file(&junit);
    let mut summary = None;
    let status = nextest.watch(|line| {
        if line.contains("Summary [") {
            summary = Some(line.to_owned());
        }
    })?;
    let skipped = skipped::lines(&fs::read_to_string(&junit).unwrap_or_default());
    if !skipped.is_empty() {
        told.push(format!("{} reasons why tests did not look at everything:", skipped.len()));
        told.extend(skipped.into_iter().map(|line| format!("  {line}")));
    }
    told.extend(summary);
    match status.success() {
        true => Ok(()),
        false => Err(Trouble::new("tests", format!("nextest ended with {status}; the failures are above"))
            .next(format!("cd {} && cargo nextest run NAME-OF-THE-TEST", root().display()))),
    }
}
