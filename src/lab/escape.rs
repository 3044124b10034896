//! The escape of a serial console, as ssh(1) has it: `~.` at the start of a line leaves, `~~` there sends one tilde. Pure.

#[derive(Debug)]
pub struct Escape {
    at_line_start: bool,
    tilde: bool,
}

impl Default for Escape {
    fn default() -> Self {
        Escape { at_line_start: true, tilde: false }
    }
}

/// What is to be sent of what was typed, and whether the person leaves (what was typed after that is dropped).
#[derive(Debug, PartialEq, Eq)]
pub struct Typed {
    pub send: Vec<u8>,
    pub leave: bool,
}

impl Escape {
    pub fn typed(&mut self, bytes: &[u8]) -> Typed {
        let mut send = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if std::mem::take(&mut self.tilde) {
                match byte {
                    b'.' => return Typed { send, leave: true },
                    b'~' => {}
                    // It was no escape: the tilde that was held back comes first.
                    _ => send.push(b'~'),
                }
            } else if self.at_line_start && byte == b'~' {
                self.tilde = true;
                continue;
            }
            send.push(byte);
            self.at_line_start = matches!(byte, b'\r' | b'\n');
        }
        Typed { send, leave: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Typed whole and byte by byte: a terminal may hand it over either way.
    fn both(text: &str) -> (String, bool) {
        let whole = Escape::default().typed(text.as_bytes());
        let mut escape = Escape::default();
        let mut send = Vec::new();
        let mut leave = false;
        for byte in text.bytes() {
            let typed = escape.typed(&[byte]);
            send.extend(typed.send);
            if typed.leave {
                leave = true;
                break;
            }
        }
        assert_eq!((&send, leave), (&whole.send, whole.leave), "{text:?}");
        (String::from_utf8(send).unwrap(), leave)
    }

    #[test]
    fn leaves_only_at_the_start_of_a_line() {
        assert_eq!(both("~."), (String::new(), true));
        assert_eq!(both("ls\r~.rest"), ("ls\r".into(), true));
        assert_eq!(both("a~.b"), ("a~.b".into(), false));
        assert_eq!(both("~~.\r"), ("~.\r".into(), false));
        assert_eq!(both("~a~."), ("~a~.".into(), false));
        assert_eq!(both("~\r~."), ("~\r".into(), true));
    }
}
