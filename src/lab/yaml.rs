//! The YAML that a laboratory writes, and the little of it that it reads back: the contexts. Pure.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// A configuration is flat; deeper nesting is not one.
const DEPTH_MAX: usize = 32;

/// One document in block style, keys in the order they were put in.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&" ".repeat(indent));
                out.push_str(&scalar(key));
                out.push(':');
                below(value, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&" ".repeat(indent));
                out.push('-');
                if is_leaf(item) {
                    below(item, indent, out);
                } else {
                    // The first line of the item stands behind its hyphen.
                    let mut inner = String::new();
                    block(item, indent + 2, &mut inner);
                    out.push(' ');
                    out.push_str(inner.get(indent + 2..).unwrap_or_default());
                }
            }
        }
        leaf => {
            out.push_str(&flow(leaf));
            out.push('\n');
        }
    }
}

fn below(value: &Value, indent: usize, out: &mut String) {
    if is_leaf(value) {
        out.push(' ');
        block(value, 0, out);
    } else {
        out.push('\n');
        block(value, indent + 2, out);
    }
}

fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

fn flow(leaf: &Value) -> String {
    match leaf {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Plain only where no reader of any YAML version could take it for anything but this text; JSON's quotes elsewhere.
fn scalar(text: &str) -> String {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'/');
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b));
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    if first && rest && !word { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

/// One document of plain maps, lists and scalars. Empty text is null. Anchors, tags and a second document are refused.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut document = None;
    while let Some(event) = parser.next() {
        let (event, span) = event.map_err(|error| error.to_string())?;
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
            _ if document.is_some() => return Err(format!("line {}: a second document", span.start.line())),
            event => document = Some(node(event, &mut parser, 0)?),
        }
    }
    Ok(document.unwrap_or(Value::Null))
}

type Events<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

fn next<'a>(parser: &mut Events<'a>) -> Result<(Event<'a>, usize), String> {
    match parser.next() {
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("it ends in the middle".into()),
    }
}

fn node(event: Event<'_>, parser: &mut Events<'_>, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested deeper than {DEPTH_MAX}"));
    }
    match event {
        Event::Scalar(text, ScalarStyle::Plain, 0, None) => Ok(plain(&text)),
        Event::Scalar(text, _, 0, None) => Ok(Value::String(text.into_owned())),
        Event::SequenceStart(0, None) => {
            let mut items = Vec::new();
            loop {
                match next(parser)?.0 {
                    Event::SequenceEnd => return Ok(Value::Array(items)),
                    event => items.push(node(event, parser, depth + 1)?),
                }
            }
        }
        Event::MappingStart(0, None) => {
            let mut map = Map::new();
            loop {
                let (event, line) = next(parser)?;
                let key = match event {
                    Event::MappingEnd => return Ok(Value::Object(map)),
                    Event::Scalar(text, _, 0, None) => text.into_owned(),
                    _ => return Err(format!("line {line}: a key that is not a plain text")),
                };
                let (event, line) = next(parser)?;
                let value = node(event, parser, depth + 1)?;
                if map.insert(key.clone(), value).is_some() {
                    return Err(format!("line {line}: `{key}` twice"));
                }
            }
        }
        other => Err(format!("anchors, aliases and tags are not read here: {other:?}")),
    }
}

/// The core schema of YAML 1.2, as far as JSON goes.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match text.parse::<i64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::String(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn writes_what_a_person_would() {
        let text = document(&json!({
            "kind": "Site", "metadata": {"name": "n1", "labels": {}},
            "spec": {"dns": [], "list": ["10.0.0.1", {"a": 1, "b": ["x"]}], "on": "no", "size": "4Gi", "flag": true}
        }));
        assert_eq!(
            text,
            "kind: Site\nmetadata:\n  name: n1\n  labels: {}\nspec:\n  dns: []\n  list:\n    - \"10.0.0.1\"\n    - a: 1\n      b:\n        - x\n  \"on\": \"no\"\n  size: \"4Gi\"\n  flag: true\n"
        );
    }

    #[test]
    fn refuses_what_it_would_not_keep() {
        for text in ["a: &x 1\nb: *x", "a: !t 1", "a: 1\na: 2", "a: [1", "a: 1\n---\nb: 1"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse(""), Ok(Value::Null));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~äß\n\t]{0,12}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[ -~]{0,8}", inner), 0..4).prop_map(|v| Value::Object(v.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(value in values()) {
            prop_assert_eq!(parse(&document(&value)), Ok(value));
        }
    }
}
