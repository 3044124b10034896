//! `cargo xtask reliability`: which test shows what, written to `docs/RELIABILITY.md`.

mod markers;
mod words;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use self::{
    markers::Marker,
    words::{FAULTS, HARNESSES, INVARIANTS},
};
use crate::{exec::root, trouble::Trouble};

const PAGE: &str = "docs/RELIABILITY.md";
/// Where tests are.
const FOLDERS: [&str; 5] = ["src", "tests", "node/src", "node/tests", "wire/src"];

pub fn run() -> Result<(), Trouble> {
    let text = generated()?;
    let path = root().join(PAGE);
    fs::write(&path, text).map_err(|e| Trouble::new(path.display().to_string(), e.to_string()))
}

/// The page as the markers say it now.
pub fn generated() -> Result<String, Trouble> {
    let mut markers = Vec::new();
    for file in FOLDERS.iter().flat_map(|folder| sources(&root().join(folder))) {
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        let text = fs::read_to_string(&file).map_err(|e| Trouble::new(name.clone(), e.to_string()))?;
        markers.extend(markers::read(&name, &text).map_err(|why| Trouble::new("markers of tests", why))?);
    }
    markers.sort();
    Ok(page(&markers))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

fn page(markers: &[Marker]) -> String {
    let shown = FAULTS.iter().filter(|f| markers.iter().any(|m| m.faults.contains(&f.0))).count();
    let held = (1..=INVARIANTS.len()).filter(|n| markers.iter().any(|m| m.invariants.contains(&(*n as u8)))).count();
    let mut text = format!(
        "# Reliability

What can go wrong, what must happen then, and which tests show it. Written by `cargo xtask reliability` from markers
above the tests; a test compares this page with them. **{shown} of {} faults and {held} of {} invariants are shown
by a test.** A test that is named shows its case; it does not prove that the fault is handled in every place.

A marker is a comment above the test:

    // fault: F52 invariant: I8 I11 harness: K

| harness | how |
|---|---|
",
        FAULTS.len(),
        INVARIANTS.len()
    );
    for (letter, how) in HARNESSES {
        let _ = writeln!(text, "| {letter} | {how} |");
    }
    text.push_str(
        "\n## Faults\n\n| | what goes wrong | what must happen | keeps | shown by |\n|---|---|---|---|---|\n",
    );
    for fault in &FAULTS {
        let keeps: Vec<String> = fault.3.iter().map(|n| format!("I{n}")).collect();
        let by = tests(markers.iter().filter(|m| m.faults.contains(&fault.0)));
        let _ = writeln!(text, "| F{:02} | {} | {} | {} | {by} |", fault.0, fault.1, fault.2, keeps.join(" "));
    }
    text.push_str("\n## Invariants\n\n| | what holds | shown by |\n|---|---|---|\n");
    for (number, invariant) in (1u8..).zip(INVARIANTS) {
        let by = tests(markers.iter().filter(|m| m.invariants.contains(&number)));
        let _ = writeln!(text, "| I{number} | {invariant} | {by} |");
    }
    text
}

/// Tests by file; letters of their harnesses behind each.
fn tests<'a>(markers: impl Iterator<Item = &'a Marker>) -> String {
    let mut files: Vec<(&str, Vec<String>)> = Vec::new();
    for marker in markers {
        let letters: Vec<String> = marker.harness.iter().map(char::to_string).collect();
        let one = format!("{} ({})", marker.test, letters.join(" "));
        match files.last_mut().filter(|(file, _)| *file == marker.file) {
            Some((_, tests)) => tests.push(one),
            None => files.push((&marker.file, vec![one])),
        }
    }
    if files.is_empty() {
        return "**not shown yet**".to_owned();
    }
    let files: Vec<String> = files.into_iter().map(|(file, tests)| format!("`{file}`: {}", tests.join(", "))).collect();
    files.join("<br>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_fresh() {
        let committed = fs::read_to_string(root().join(PAGE)).unwrap_or_default();
        assert!(generated().unwrap() == committed, "{PAGE} is stale: cargo xtask reliability");
    }

    #[test]
    fn faults_are_numbered_as_they_stand_and_keep_invariants_that_exist() {
        for (number, fault) in (1u8..).zip(&FAULTS) {
            assert_eq!(fault.0, number);
            assert!(fault.3.iter().all(|i| (1..=INVARIANTS.len()).contains(&usize::from(*i))), "F{number}");
        }
    }

    #[test]
    fn what_no_test_shows_is_said_to_be_so() {
        assert_eq!(tests(std::iter::empty()), "**not shown yet**");
        let marker = |file: &str, test: &str| Marker {
            file: file.into(),
            test: test.into(),
            faults: [1].into(),
            invariants: [18].into(),
            harness: ['K', 'P'].into(),
        };
        let all = [marker("a.rs", "x"), marker("a.rs", "y"), marker("b.rs", "z")];
        assert_eq!(tests(all.iter()), "`a.rs`: x (K P), y (K P)<br>`b.rs`: z (K P)");
        assert!(page(&all).contains("**1 of 60 faults and 1 of 20 invariants"));
    }
}
