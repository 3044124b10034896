//! A BMC's stream of events: server-sent events (DSP0266 13.6; the form is the HTML standard's, 9.2.6). Pure.
//!
//! An event is taken as a word that something happened, and no more: what happened is read from the log, which is whole
//! where a stream has gaps (queues of BMCs are short, and a stream that broke off missed what came meanwhile).

/// Bytes of one line; the rest of a longer one is skipped.
const MAX_LINE: usize = 64 * 1024;

/// Takes bytes as they come.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The event under way has data.
    data: bool,
    /// The byte before was `\r`: a `\n` that follows belongs to it.
    returned: bool,
}

impl Parser {
    /// How many events are whole with these bytes. Comments (signs of life) and events without data are none.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut whole = 0;
        for byte in bytes {
            let after_return = std::mem::replace(&mut self.returned, *byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => whole += usize::from(self.end_of_line()),
                _ if self.line.len() < MAX_LINE => self.line.push(*byte),
                _ => {}
            }
        }
        whole
    }

    /// Whether an event is whole.
    fn end_of_line(&mut self) -> bool {
        if self.line.is_empty() {
            return std::mem::take(&mut self.data);
        }
        let field = self.line.split(|b| *b == b':').next().unwrap_or_default();
        self.data |= field == b"data";
        self.line.clear();
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_are_counted_and_signs_of_life_are_not() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(b": stream 4\n\nid: 1\ndata: {\"Events\":"), 0);
        assert_eq!(parser.feed(b"[]}\n\n: alive\n\n"), 1);
        assert_eq!(parser.feed(b"id: 2\r\ndata: a\r\ndata: b\r\n\r\n"), 1);
        assert_eq!(parser.feed(b"event: none\n\ndata\n\n"), 1, "a field without a colon has an empty value");
        assert_eq!(parser.feed(b"data: \xff\xfe\r\rdata:x\n\r"), 2, "each ending may be another");
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut parser = Parser::default();
        for _ in 0..64 {
            assert_eq!(parser.feed(&[b'x'; 4096]), 0);
        }
        assert!(parser.line.len() <= MAX_LINE);
        assert_eq!(parser.feed(b"\ndata: 1\n\n"), 1);
    }

    proptest! {
        /// However the network cuts it.
        #[test]
        fn cuts_do_not_matter(text in "(data: [a-z]{0,5}(\r\n|\n|\r)|: k\n|\n|\r\n|id: 3\n){0,20}", at in 0usize..200) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            let whole = Parser::default().feed(bytes);
            let mut parser = Parser::default();
            prop_assert_eq!(parser.feed(&bytes[..at]) + parser.feed(&bytes[at..]), whole);
        }
    }
}
