//! Are there tests in the documentation at all? To run none costs a minute of compiling.

use std::{fs, path::Path};

/// Of the libraries' sources.
pub fn exist(folders: &[&Path]) -> bool {
    folders.iter().any(|folder| {
        fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return exist(&[&path]);
            }
            path.extension().is_some_and(|e| e == "rs") && fs::read_to_string(&path).is_ok_and(|text| in_text(&text))
        })
    })
}

/// A fenced block in a doc comment that rustdoc takes for Rust: no word behind the fence, or one of its own.
fn in_text(text: &str) -> bool {
    let mut open = false;
    for line in text.lines() {
        let line = line.trim_start();
        let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            open = false;
            continue;
        };
        if let Some(word) = doc.trim_start().strip_prefix("```") {
            let rust = ["rust", "no_run", "should_panic", "compile_fail", "edition"];
            if !open && (word.is_empty() || rust.iter().any(|r| word.starts_with(r))) {
                return true;
            }
            open = !open;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rust_counts() {
        assert!(in_text("/// x\n/// ```\n/// assert!(true);\n/// ```\n"));
        assert!(in_text("//! ```no_run\n//! f();\n//! ```\n"));
        assert!(!in_text("/// ```text\n/// a\n/// ```\nfn f() {}\n/// ```yaml\n/// a: b\n/// ```\n"));
        assert!(!in_text("let fence = \"```\";\n// ```\n"));
    }
}
