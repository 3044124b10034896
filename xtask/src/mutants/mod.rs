//! `cargo xtask mutants [NAME…]`: does a test notice when a guard, a fence, an order or a limit is broken?
//!
//! Each mutant is put into a copy of the tree below `target/mutants`, built there and held against its tests.

mod list;

use std::{fmt::Write, fs, path::Path};

use self::list::{MUTANTS, Mutant};
use crate::{build, exec::Argv, exec::root, trouble::Trouble};

const PAGE: &str = "docs/MUTANTS.md";
/// A mutant that makes a test wait for ever is killed by this.
const DEADLINE_S: u32 = 1_800;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Survived,
    /// Its text does not stand in the file exactly once, or the changed tree does not build.
    DoesNotApply,
}

pub fn run(names: &[String]) -> Result<(), Trouble> {
    if names.first().is_some_and(|n| n == "--page") {
        let path = root().join(PAGE);
        return fs::write(&path, page()).map_err(|e| Trouble::new(path.display().to_string(), e.to_string()));
    }
    if let Some(unknown) = names.iter().find(|n| !MUTANTS.iter().any(|m| m.name == **n)) {
        return Err(Trouble::usage(format!("there is no mutant `{unknown}`; {PAGE} lists them")));
    }
    let chosen: Vec<&Mutant> =
        MUTANTS.iter().filter(|m| names.is_empty() || names.iter().any(|n| n == m.name)).collect();
    let home = build::target_dir().join("mutants");
    let tree = home.join("tree");
    copy(&tree)?;
    let target = home.join("target");
    // A test that fails anyway would seem to notice everything.
    let suites: std::collections::BTreeSet<&[&str]> = chosen.iter().map(|m| m.tests).collect();
    for suite in suites {
        eprintln!("\n==> the tree as it is: {}", suite.join(" "));
        if !nextest(&tree, &target, suite, &[]).status()?.success() {
            return Err(Trouble::new("mutants", format!("these fail without any mutant: {}", suite.join(" ")))
                .next(format!("cargo nextest run {}", suite.join(" "))));
        }
    }
    let mut fates = Vec::new();
    for mutant in chosen {
        eprintln!("\n==> {} in {}", mutant.name, mutant.file);
        let fate = one(&tree, &target, mutant)?;
        eprintln!("{}: {}", mutant.name, word(fate));
        fates.push((mutant, fate));
    }
    let mut left = Vec::new();
    for (mutant, fate) in &fates {
        println!("{:<40} {:<15} {}", mutant.name, word(*fate), mutant.breaks);
        if *fate != Fate::Killed {
            left.push(mutant.name);
        }
    }
    println!("{} of {} were noticed", fates.len() - left.len(), fates.len());
    match left.is_empty() {
        true => Ok(()),
        false => Err(Trouble::new("mutants", format!("not noticed: {}", left.join(", ")))
            .next(format!("cargo xtask mutants {}", left[0]))),
    }
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Killed => "killed",
        Fate::Survived => "SURVIVED",
        Fate::DoesNotApply => "DOES NOT APPLY",
    }
}

/// What git knows and what is new, as it stands now. Files that are the same keep their times: nothing is built twice.
fn copy(tree: &Path) -> Result<(), Trouble> {
    let listed = Argv::new(&["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]).output()?;
    let trouble = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| Trouble::new(path.clone(), e.to_string())
    };
    for name in listed.split('\0').filter(|n| !n.is_empty()) {
        let (from, to) = (root().join(name), tree.join(name));
        // Deleted and not committed yet.
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(trouble(folder))?;
        }
        fs::write(&to, bytes).map_err(trouble(&to))?;
    }
    // What an earlier copy had and is gone or moved since: Cargo would find two of it.
    let known: std::collections::BTreeSet<&str> = listed.split('\0').collect();
    let mut folders = vec![tree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(trouble(&folder))?.flatten() {
            let path = entry.path();
            let name = path.strip_prefix(tree).unwrap_or(&path).to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name != "Cargo.lock" && (!known.contains(name.as_str()) || !root().join(&name).exists()) {
                fs::remove_file(&path).map_err(trouble(&path))?;
            }
        }
    }
    Ok(())
}

fn one(tree: &Path, target: &Path, mutant: &Mutant) -> Result<Fate, Trouble> {
    let path = tree.join(mutant.file);
    let trouble = |e: std::io::Error| Trouble::new(path.display().to_string(), e.to_string());
    let text = fs::read_to_string(&path).map_err(trouble)?;
    let Some(changed) = apply(&text, mutant) else { return Ok(Fate::DoesNotApply) };
    fs::write(&path, changed).map_err(trouble)?;
    let fate = judge(tree, target, mutant);
    // Whatever came of it: the next one begins with a whole tree.
    fs::write(&path, text).map_err(trouble)?;
    fate
}

fn judge(tree: &Path, target: &Path, mutant: &Mutant) -> Result<Fate, Trouble> {
    if !nextest(tree, target, mutant.tests, &["--no-run"]).status()?.success() {
        return Ok(Fate::DoesNotApply);
    }
    let survived = nextest(tree, target, mutant.tests, &["--no-fail-fast"]).status()?.success();
    Ok(if survived { Fate::Survived } else { Fate::Killed })
}

fn nextest(tree: &Path, target: &Path, tests: &[&str], more: &[&str]) -> Argv {
    Argv::new(&["timeout", "--kill-after=10", &DEADLINE_S.to_string(), "cargo", "nextest", "run"])
        .args(["--manifest-path".to_owned(), tree.join("Cargo.toml").display().to_string()])
        .args(tests.iter().copied())
        .args(more.iter().copied())
        .env("CARGO_TARGET_DIR", target.to_string_lossy())
}

/// `None`: its text does not stand there exactly once.
fn apply(text: &str, mutant: &Mutant) -> Option<String> {
    let once = text.matches(mutant.find).count() == 1 && mutant.find != mutant.replace;
    once.then(|| text.replacen(mutant.find, mutant.replace, 1))
}

fn page() -> String {
    let mut text = format!(
        "# Mutants

{} faults put in by hand, each of which breaks a guard, a fence, an order or a limit. `cargo xtask mutants` puts one
after the other into a copy of the tree below `target/mutants` and runs the tests that must notice;
`cargo xtask mutants NAME…` some of them. It ends with 1 when one survives. An ordinary test checks that the text of
each still stands in its file exactly once. The list is `xtask/src/mutants/list.rs`; this page is written by
`cargo xtask mutants --page`.

| name | file | breaks | noticed by |
|---|---|---|---|
",
        MUTANTS.len()
    );
    for m in MUTANTS {
        let _ = writeln!(text, "| {} | `{}` | {} | `{}` |", m.name, m.file, m.breaks, m.tests.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_still_applies() {
        let mut faults = Vec::new();
        for mutant in MUTANTS {
            let text = fs::read_to_string(root().join(mutant.file)).unwrap_or_default();
            if apply(&text, mutant).is_none() {
                let times = text.matches(mutant.find).count();
                faults.push(format!("{}: its text stands {times} times in {}", mutant.name, mutant.file));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        let names: std::collections::BTreeSet<&str> = MUTANTS.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), MUTANTS.len(), "two have one name");
    }

    #[test]
    fn the_committed_page_is_fresh() {
        let committed = fs::read_to_string(root().join(PAGE)).unwrap_or_default();
        assert!(page() == committed, "{PAGE} is stale: cargo xtask mutants --page");
    }

    #[test]
    fn a_text_that_stands_twice_is_not_changed() {
        let mutant = Mutant { name: "n", file: "f", find: "a", replace: "b", breaks: "I1", tests: &[] };
        assert_eq!(apply("xay", &mutant).as_deref(), Some("xby"));
        assert_eq!((apply("aa", &mutant), apply("", &mutant)), (None, None));
    }
}
