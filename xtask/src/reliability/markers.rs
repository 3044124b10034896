//! `// fault: F52 F54 invariant: I8 harness: K` above a test.

use std::collections::BTreeSet;

use super::words::{FAULTS, HARNESSES, INVARIANTS};

/// Lines between a marker and the function that it is about: attributes, documentation, other markers.
const REACH: usize = 12;

/// What one test shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Marker {
    pub file: String,
    pub test: String,
    pub faults: BTreeSet<u8>,
    pub invariants: BTreeSet<u8>,
    pub harness: BTreeSet<char>,
}

fn begins(line: &str) -> bool {
    ["// fault: ", "// invariant: "].iter().any(|word| line.starts_with(word))
}

/// All markers of a file; a marker that cannot be understood is an error that names its line.
pub fn read(file: &str, text: &str) -> Result<Vec<Marker>, String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| begins(line)) {
        let at = |why: String| format!("{file}:{}: {why}", index + 1);
        let mut marker = fields(file, line.trim_start_matches('/')).map_err(at)?;
        let below = lines[index + 1..].iter().take(REACH);
        let test = below.take_while(|l| !l.is_empty()).find_map(|l| function(l));
        marker.test = test.ok_or_else(|| at("no test stands right below this marker".into()))?;
        found.push(marker);
    }
    Ok(found)
}

fn fields(file: &str, text: &str) -> Result<Marker, String> {
    let mut marker = Marker {
        file: file.to_owned(),
        test: String::new(),
        faults: BTreeSet::new(),
        invariants: BTreeSet::new(),
        harness: BTreeSet::new(),
    };
    let mut field = "";
    for word in text.split_whitespace() {
        if let Some(name) = word.strip_suffix(':') {
            field = name;
            continue;
        }
        let number = |prefix: char, most: usize| {
            let number: Option<u8> = word.strip_prefix(prefix).and_then(|n| n.parse().ok());
            number
                .filter(|n| (1..=most).contains(&usize::from(*n)))
                .ok_or_else(|| format!("`{word}` is none of {prefix}1 to {prefix}{most}"))
        };
        match field {
            "fault" => drop(marker.faults.insert(number('F', FAULTS.len())?)),
            "invariant" => drop(marker.invariants.insert(number('I', INVARIANTS.len())?)),
            "harness" => {
                let letter = HARNESSES.iter().map(|(c, _)| *c).find(|c| word == c.to_string());
                marker.harness.insert(letter.ok_or_else(|| format!("`{word}` is no harness"))?);
            }
            other => return Err(format!("`{other}:` is none of fault:, invariant:, harness:")),
        }
    }
    match (marker.faults.is_empty() && marker.invariants.is_empty(), marker.harness.is_empty()) {
        (true, _) => Err("it names neither a fault nor an invariant".into()),
        (_, true) => Err("it names no harness".into()),
        _ => Ok(marker),
    }
}

/// The name in `async fn name(…`.
fn function(line: &str) -> Option<String> {
    let rest = line.strip_prefix("fn ").or_else(|| line.split_once(" fn ").map(|(_, rest)| rest))?;
    let modifiers = line.strip_suffix(rest)?.trim_end_matches("fn ");
    if !modifiers.split_whitespace().all(|word| matches!(word, "pub" | "async" | "unsafe")) {
        return None;
    }
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    Some(name).filter(|n| !n.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_belongs_to_the_test_below() {
        let text =
            "\n    // fault: F52 F54 invariant: I8 harness: K P\n    #[tokio::test]\n    async fn it_holds() {\n";
        let marker = Marker {
            file: "a.rs".into(),
            test: "it_holds".into(),
            faults: [52, 54].into(),
            invariants: [8].into(),
            harness: ['K', 'P'].into(),
        };
        assert_eq!(read("a.rs", text), Ok(vec![marker]));
        assert_eq!(read("a.rs", "// fault lines are something else\nfn x() {}"), Ok(vec![]));
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line() {
        for (text, why) in [
            ("// fault: F61 harness: P\nfn a() {}", "a.rs:1: `F61` is none of F1 to F60"),
            ("// fault: F1 harness: Z\nfn a() {}", "a.rs:1: `Z` is no harness"),
            ("// fault: F1\nfn a() {}", "a.rs:1: it names no harness"),
            ("// fault: F1 harness: P\n\nfn a() {}", "a.rs:1: no test stands right below this marker"),
            ("// invariant: I1 harnes: P\nfn a() {}", "a.rs:1: `harnes:` is none of fault:, invariant:, harness:"),
            ("// fault: harness: P\nfn a() {}", "a.rs:1: it names neither a fault nor an invariant"),
        ] {
            assert_eq!(read("a.rs", text), Err(why.to_owned()));
        }
    }
}
