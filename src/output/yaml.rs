//! JSON values as YAML that every reader, of version 1.1 or 1.2, takes for the same values.
//!
//! Strings stand plain only where nothing else could be meant; all others are double-quoted
//! (JSON's escapes are YAML's), or literal blocks where they are texts of several lines.

use std::fmt::Write;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// A document of ours is flat; deeper nesting is refused.
const DEPTH_MAX: usize = 32;

/// One document, without `---`, ending with a line feed.
pub fn emit(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => node(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => node(&mut out, value, 0),
        scalar => {
            inline(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

/// Several documents, each begun by `---`.
pub fn emit_all<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    values.into_iter().map(|v| format!("---\n{}", emit(v))).collect()
}

/// A collection that is not empty, as a block at this depth; the cursor stands at a line's start.
fn node(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) => {
            for (i, (key, value)) in map.iter().enumerate() {
                // The first key of a mapping in a list stands behind its dash.
                if i > 0 || !out.ends_with("- ") {
                    indent(out, depth);
                }
                scalar(out, key);
                out.push(':');
                child(out, value, depth);
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                if i > 0 || !out.ends_with("- ") {
                    indent(out, depth);
                }
                match value {
                    Value::Object(map) if !map.is_empty() => {
                        out.push_str("- ");
                        node(out, value, depth + 1);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        out.push_str("- ");
                        node(out, value, depth + 1);
                    }
                    _ => {
                        out.push('-');
                        child(out, value, depth);
                    }
                }
            }
        }
        _ => {}
    }
}

/// What stands behind `key:` or `-`.
fn child(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            node(out, value, depth + 1);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            node(out, value, depth + 1);
        }
        _ => {
            out.push(' ');
            inline(out, value, depth + 1);
            out.push('\n');
        }
    }
}

fn inline(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => {
            // `1e5` is a string to readers of YAML 1.1: their floats need a point.
            let text = n.to_string();
            match text.split_once('e') {
                Some((mantissa, exponent)) if !mantissa.contains('.') => {
                    let sign = if exponent.starts_with('-') { "" } else { "+" };
                    let _ = write!(out, "{mantissa}.0e{sign}{exponent}");
                }
                Some((mantissa, exponent)) => {
                    let sign = if exponent.starts_with(['-', '+']) { "" } else { "+" };
                    let _ = write!(out, "{mantissa}e{sign}{exponent}");
                }
                None => out.push_str(&text),
            }
        }
        Value::String(text) if depth > 0 && suits_block(text) => {
            out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    indent(out, depth);
                    out.push_str(line);
                }
            }
        }
        Value::String(text) => scalar(out, text),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn scalar(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if !is_printable(c) => {
                let code = c as u32;
                let _ = if code > 0xffff { write!(out, "\\U{code:08x}") } else { write!(out, "\\u{code:04x}") };
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// YAML 1.2, production c-printable, less what editors and terminals mistreat.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn is_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let starts = chars.next().is_some_and(|c| c.is_alphabetic() || matches!(c, '_' | '/'));
    if !starts || text.ends_with([' ', ':']) || text.contains(": ") || text.contains(" #") {
        return false;
    }
    let body = |c: char| c.is_alphanumeric() || " _-./:@+=,()*;!~^$%&<>".contains(c);
    if !text.chars().all(|c| body(c) && is_printable(c)) {
        return false;
    }
    // Words that YAML 1.1 or 1.2 reads as something else.
    !matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n")
}

fn suits_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text.ends_with("\n\n")
        && text.chars().all(|c| c == '\n' || is_printable(c))
        && text.split('\n').all(|line| !line.ends_with(' '))
}

/// One document of plain maps, lists and scalars (YAML 1.2, core schema); empty text is null. Anchors,
/// tags and further documents are refused. For our own files: manifests have a reader of their own,
/// which keeps places.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut events = Parser::new_from_str(text);
    let mut document = None;
    while let Some(event) = events.next() {
        match event.map_err(|e| e.to_string())? {
            (
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd,
                _,
            ) => {}
            (_, span) if document.is_some() => return Err(format!("line {}: a second document", span.start.line())),
            (event, _) => document = Some(build(event, &mut events, 0)?),
        }
    }
    Ok(document.unwrap_or(Value::Null))
}

fn build<'a>(event: Event<'a>, events: &mut Parser<'a, StrInput<'a>>, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested deeper than {DEPTH_MAX}"));
    }
    match event {
        Event::Scalar(text, ScalarStyle::Plain, 0, None) => Ok(plain(&text)),
        Event::Scalar(text, _, 0, None) => Ok(Value::String(text.into_owned())),
        Event::SequenceStart(0, None) => {
            let mut list = Vec::new();
            loop {
                match next(events)?.0 {
                    Event::SequenceEnd => return Ok(Value::Array(list)),
                    event => list.push(build(event, events, depth + 1)?),
                }
            }
        }
        Event::MappingStart(0, None) => {
            let mut map = Map::new();
            loop {
                let (event, line) = next(events)?;
                let key = match event {
                    Event::MappingEnd => return Ok(Value::Object(map)),
                    Event::Scalar(text, _, 0, None) => text.into_owned(),
                    _ => return Err(format!("line {line}: a key that is no text")),
                };
                let (event, line) = next(events)?;
                let value = build(event, events, depth + 1)?;
                if map.insert(key.clone(), value).is_some() {
                    return Err(format!("line {line}: `{key}` stands here twice"));
                }
            }
        }
        _ => Err("anchors, aliases and tags are not read here".to_owned()),
    }
}

fn next<'a>(events: &mut Parser<'a, StrInput<'a>>) -> Result<(Event<'a>, usize), String> {
    match events.next() {
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        Some(Err(e)) => Err(e.to_string()),
        None => Err("it ends in the middle".to_owned()),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match serde_json::from_str::<Value>(text) {
            // serde_json's own reading of floats is off by one bit at times.
            Ok(Value::Number(number)) if !number.is_f64() => Value::Number(number),
            _ => match text.parse::<f64>() {
                Ok(number) if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                    Value::from(number)
                }
                _ => Value::String(text.to_owned()),
            },
        },
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
