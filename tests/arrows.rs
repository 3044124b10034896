//! Invariant 1: arrows point down. Reads every path into another module of the crate and names the ones that do not.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Module → level. The table of `src/lib.rs`.
const LEVELS: [(&str, u8); 18] = [
    ("model", 0),
    ("etcd", 1),
    ("inventory", 1),
    ("plan", 1),
    ("engine", 2),
    ("bmc", 3),
    ("netboot", 3),
    ("remote", 3),
    ("install", 3),
    ("cluster", 3),
    ("image", 3),
    ("secrets", 3),
    ("store", 3),
    ("run", 4),
    ("output", 4),
    ("lab", 4),
    ("sim", 5),
    ("cli", 6),
    // The crate's own root: `crate::` names that are no module are caught by this one's absence.
    ("main", 7),
];

fn level(module: &str) -> Option<u8> {
    LEVELS.iter().find(|(name, _)| *name == module).map(|(_, level)| *level)
}

/// Why this arrow may not be; `None` when it may.
fn fault(from: &str, to: &str) -> Option<String> {
    if from == to {
        return None;
    }
    let Some(high) = level(from) else { return Some(format!("`{from}` is in no level of the table")) };
    let Some(low) = level(to) else { return Some(format!("`{to}` is in no level of the table")) };
    match (high, low) {
        // A client, not a value: two drivers share it, and nothing else speaks to etcd past them.
        _ if to == "etcd" => {
            (!["cluster", "store"].contains(&from)).then(|| "only `cluster` and `store` speak to etcd".to_owned())
        }
        (high, low) if low > high => Some(format!("level {high} may not know level {low}")),
        // Drivers know values alone: what joins them is above.
        (3, 1..=3) => Some(format!("a driver knows `model` alone, not level {low}")),
        // Text and planning, and the views, do not know their neighbours.
        (high, low) if low == high => Some(format!("both are level {high}: what joins them is above")),
        _ => None,
    }
}

/// The modules that a file of the crate names by `crate::`, with lines counted from 1.
fn arrows(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some(at) = text[offset..].find("crate::") {
        let start = offset + at;
        offset = start + "crate::".len();
        let line = text[..start].matches('\n').count() + 1;
        let before = text[text[..start].rfind('\n').map_or(0, |i| i + 1)..start].trim_start();
        let part_of_a_name = text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if before.starts_with("//") || part_of_a_name {
            continue;
        }
        let rest = &text[offset..];
        if let Some(list) = rest.strip_prefix('{') {
            found.extend(heads(list).into_iter().map(|(lines, name)| (line + lines, name)));
        } else {
            found.push((line, word(rest)));
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first names in `{a::b, c::{d, e}}`, behind its opening brace, each with the lines before it.
fn heads(list: &str) -> Vec<(usize, String)> {
    let (mut depth, mut heads, mut fresh, mut lines) = (1, Vec::new(), true, 0);
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            '\n' => lines += 1,
            c if fresh && depth == 1 && (c.is_alphabetic() || c == '_') => {
                heads.push((lines, word(&list[i..])));
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn arrows_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    assert!(files.len() > LEVELS.len(), "the sources were not found below {}", root.display());
    let mut faults = Vec::new();
    let mut seen = 0;
    for file in &files {
        let inside = file.strip_prefix(&root).unwrap();
        let top = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let from = top.strip_suffix(".rs").unwrap_or(top);
        if from == "lib" {
            continue;
        }
        for (line, to) in arrows(&fs::read_to_string(file).unwrap()) {
            seen += 1;
            if let Some(why) = fault(from, &to) {
                faults.push(format!("src/{}:{line}: {from} -> {to}: {why}", inside.display()));
            }
        }
    }
    assert!(seen > 50, "only {seen} arrows were read: is the reader broken?");
    assert!(faults.is_empty(), "{} arrows point the wrong way:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_module_has_a_level() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for module in lib.lines().filter_map(|l| l.strip_prefix("pub mod ")).filter_map(|l| l.strip_suffix(';')) {
        assert!(level(module).is_some(), "`{module}` is in no level of the table");
    }
}

#[test]
fn the_rules() {
    for (from, to) in [
        ("cli", "model"),
        ("store", "etcd"),
        ("cluster", "etcd"),
        ("etcd", "model"),
        ("lab", "bmc"),
        ("run", "engine"),
        ("output", "store"),
        ("engine", "plan"),
        ("bmc", "bmc"),
    ] {
        assert_eq!(fault(from, to), None, "{from} -> {to}");
    }
    for (from, to) in [
        ("model", "plan"),
        ("bmc", "store"),
        ("bmc", "inventory"),
        ("image", "engine"),
        ("engine", "run"),
        ("output", "cli"),
        ("lab", "output"),
        ("plan", "inventory"),
        ("plan", "etcd"),
        ("run", "etcd"),
        ("etcd", "store"),
        ("bmc", "unknown"),
    ] {
        assert!(fault(from, to).is_some(), "{from} -> {to}");
    }
}

#[test]
fn the_reader_finds_what_people_write() {
    let text = "use crate::model::Mac;\nuse crate::{\n    bmc::{self, wire},\n    store,\n};\n// crate::cli\nlet x = crate::run::go(); rackctl_crate::no();\n";
    let found = arrows(text);
    let expected = [(1, "model"), (3, "bmc"), (4, "store"), (7, "run")];
    assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
}
