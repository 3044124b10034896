//! Text from BMCs, consoles, disks and files of others, before it reaches a terminal.

use std::{borrow::Cow, fmt::Write};

/// One line: every control character is made visible, line ends and tabs too.
pub fn line(text: &str) -> Cow<'_, str> {
    clean(text, |_| false)
}

/// Several lines: line feeds and tabs stay, everything else that could move the cursor is made visible.
pub fn lines(text: &str) -> Cow<'_, str> {
    clean(text, |c| c == '\n' || c == '\t')
}

fn clean(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let harmful = |c: char| is_harmful(c) && !stays(c);
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmful(c) { show(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// C0, DEL and C1 controls drive terminals; bidirectional controls and invisible characters
/// change what a person believes to read (Unicode TR 36, section 2.10).
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `^[` for escape as `cat -v` writes it, `\u{202e}` for what has no such form.
fn show(out: &mut String, c: char) {
    match c {
        '\u{0}'..='\u{1f}' => {
            out.push('^');
            out.push((c as u8 + 0x40) as char);
        }
        '\u{7f}' => out.push_str("^?"),
        _ => {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_become_visible() {
        assert_eq!(line("\u{1b}[2J\u{1b}]0;owned\u{7}"), "^[[2J^[]0;owned^G");
        assert_eq!(line("a\r\nb\tc"), "a^M^Jb^Ic");
        assert_eq!(lines("a\r\nb\tc"), "a^M\nb\tc");
        assert_eq!(line("\u{9b}31m\u{7f}"), "\\u{9b}31m^?");
        assert_eq!(line("evil\u{202e}txt.exe"), "evil\\u{202e}txt.exe");
    }

    #[test]
    fn honest_text_is_left_alone() {
        assert!(matches!(line("Zürich 東京 🙂 n1"), Cow::Borrowed(_)));
    }

    proptest::proptest! {
        #[test]
        fn nothing_harmful_survives(text in "\\PC*|[\\x00-\\u{ff}\\u{2000}-\\u{2070}]*") {
            proptest::prop_assert!(!line(&text).contains(is_harmful));
        }
    }
}
