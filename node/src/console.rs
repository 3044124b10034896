//! Short plain lines for whoever watches the serial console.

use std::io::Write;

/// Control characters in foreign text (disk labels, error messages of a server) become `?`.
pub fn clean(text: &str) -> String {
    text.chars().take(2_000).map(|c| if c.is_control() { '?' } else { c }).collect()
}

pub fn say(text: impl AsRef<str>) {
    // One write per line, and a console that is gone is no reason to stop.
    let line = format!("rackctl-node: {}\n", clean(text.as_ref()));
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_do_not_reach_the_console() {
        assert_eq!(super::clean("a\x1b[2Jb\nc"), "a?[2Jb?c");
    }
}
