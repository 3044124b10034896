//! Foreign JSON under limits: size, nesting. Nothing here trusts a BMC.

use std::io::Read;

use serde_json::Value;

/// Bytes of one answer. The largest resource of the vendors' trees (an attribute registry) has 1.3 MB; we read none of those.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// Levels of objects and arrays in one answer. Real systems stay under 12.
pub const MAX_NESTING: usize = 32;
/// Characters of a foreign text that are kept.
pub const MAX_TEXT_CHARS: usize = 256;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    #[error("the answer has {0} bytes or more, the limit is {MAX_BODY_BYTES}")]
    Size(usize),
    #[error("the answer nests deeper than {MAX_NESTING} levels")]
    Nesting,
    #[error("the answer is no JSON: {0}")]
    Syntax(String),
    #[error("the answer is packed (gzip) and cannot be unpacked: {0}")]
    Packed(String),
}

/// Reads one JSON document; an empty one is null (many BMCs answer a PATCH so).
pub fn read(bytes: &[u8]) -> Result<Value, JsonFault> {
    if bytes.len() > MAX_BODY_BYTES {
        return Err(JsonFault::Size(bytes.len()));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    if deeper_than(bytes, MAX_NESTING) {
        return Err(JsonFault::Nesting);
    }
    serde_json::from_slice(bytes).map_err(|e| JsonFault::Syntax(clean(&e.to_string())))
}

/// A packed body (gzip, RFC 1952). Never more is unpacked than one answer may have, however small it came.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>, JsonFault> {
    let mut out = Vec::new();
    let mut unpacked = flate2::read::GzDecoder::new(bytes).take(MAX_BODY_BYTES as u64 + 1);
    unpacked.read_to_end(&mut out).map_err(|e| JsonFault::Packed(clean(&e.to_string())))?;
    if out.len() > MAX_BODY_BYTES { Err(JsonFault::Size(out.len())) } else { Ok(out) }
}

/// Whether brackets outside of strings nest deeper than `limit`: seen before a value is built.
fn deeper_than(bytes: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// A foreign text made fit for a terminal: control and bidirectional-override characters become spaces, ends are trimmed, length is cut.
pub fn clean(text: &str) -> String {
    let harmless = |c: char| {
        let steers = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if steers { ' ' } else { c }
    };
    let mut kept: String = text.chars().take(MAX_TEXT_CHARS).map(harmless).collect();
    kept.truncate(kept.trim_end().len());
    kept.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_strings_only() {
        assert_eq!(read(br#"{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ \" ["}"#).map(|v| v.is_object()), Ok(true));
        let deep = "[".repeat(MAX_NESTING + 1) + &"]".repeat(MAX_NESTING + 1);
        assert_eq!(read(deep.as_bytes()), Err(JsonFault::Nesting));
        let allowed = "[".repeat(MAX_NESTING) + &"]".repeat(MAX_NESTING);
        assert!(read(allowed.as_bytes()).is_ok());
    }

    // invariant: I19 harness: D
    #[test]
    fn a_small_body_that_unpacks_to_a_large_one_is_refused() {
        use std::io::Write;
        let packed = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpack(&packed(br#"{"Id": "1"}"#)).as_deref(), Ok(br#"{"Id": "1"}"#.as_slice()));
        let bomb = packed(&vec![b' '; MAX_BODY_BYTES * 16]);
        assert!(bomb.len() < MAX_BODY_BYTES / 32, "{}", bomb.len());
        assert_eq!(unpack(&bomb), Err(JsonFault::Size(MAX_BODY_BYTES + 1)));
        let mut torn = packed(br#"{"Id": "1"}"#);
        torn.truncate(torn.len() - 6);
        assert!(matches!(unpack(&torn), Err(JsonFault::Packed(_))));
        assert!(matches!(unpack(b"{}"), Err(JsonFault::Packed(_))));
    }

    #[test]
    fn size_and_syntax_and_emptiness() {
        assert!(matches!(read(&vec![b' '; MAX_BODY_BYTES + 1]), Err(JsonFault::Size(_))));
        assert!(matches!(read(b"<html>"), Err(JsonFault::Syntax(_))));
        assert_eq!(read(b" \r\n"), Ok(Value::Null));
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(clean("  X\u{1b}[31m\nY\u{202e}Z "), "X [31m Y Z");
        assert_eq!(clean(&"ä".repeat(1000)).chars().count(), MAX_TEXT_CHARS);
    }
}
