use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value, json};

use super::emit;

/// Reads one document back by YAML 1.2's core schema.
fn read(text: &str) -> Value {
    let mut events = Parser::new_from_str(text).map(|e| e.unwrap_or_else(|e| panic!("{e} in\n{text}")).0);
    loop {
        match events.next() {
            Some(Event::DocumentStart(_)) => {
                let first = events.next().unwrap();
                return build(first, &mut events);
            }
            Some(_) => {}
            None => panic!("no document in {text:?}"),
        }
    }
}

fn build<'a>(event: Event<'a>, rest: &mut impl Iterator<Item = Event<'a>>) -> Value {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
        Event::Scalar(text, ..) => Value::String(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut list = Vec::new();
            loop {
                match rest.next().unwrap() {
                    Event::SequenceEnd => return Value::Array(list),
                    event => list.push(build(event, rest)),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut map = Map::new();
            loop {
                match rest.next().unwrap() {
                    Event::MappingEnd => return Value::Object(map),
                    event => {
                        let key = match build(event, rest) {
                            Value::String(key) => key,
                            other => panic!("key {other} is no string"),
                        };
                        let event = rest.next().unwrap();
                        map.insert(key, build(event, rest));
                    }
                }
            }
        }
        other => panic!("{other:?}"),
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
                Ok(number) if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => json!(number),
                _ => Value::String(text.to_owned()),
            },
        },
    }
}

#[test]
fn looks_like_what_people_write() {
    let value = json!({
        "apiVersion": "rackctl.dev/v1alpha1",
        "kind": "Node",
        "metadata": {"name": "n1", "labels": {"role": "control-plane", "on": "yes"}},
        "spec": {
            "bmc": {"endpoints": [{"redfish": "https://10.0.0.11", "tls": {"pin": "sha256:00"}}], "mac": "52:54:00:00:00:01"},
            "version": "3.10", "empty": {}, "none": [], "text": "two\nlines\n", "nothing": null, "matrix": [[1, 2.5], ["a"]],
            "time": "12:30:45", "octal": "0644", "esc": "\u{1b}[31m", "unit": 12, "protect": false
        }
    });
    insta::assert_snapshot!(emit(&value));
    assert_eq!(read(&emit(&value)), value);
}

#[test]
fn words_that_mean_something_else_are_quoted() {
    for text in [
        "", " ", "~", "null", "NULL", "true", "Yes", "no", "on", "OFF", "y", "N", "1", "-1", "0x1f", "0o7", "1e3", ".5",
        ".inf", ".nan", "1_000", "12:30", "2026-01-02", "- a", "a: b", "a:", "a #b", "#a", "&a", "*a", "!a", "%a", "@a",
        "`a", "'a", "\"a", "{a", "[a", "]", "}", ",", "?", "? a", "|", ">", "---", "...", "=", "<<", "a\tb", "a\\b",
        "a\u{feff}", "é", "a\u{85}b", "a\u{2028}b", "x\n", "\nx", "x\n\n", " x\ny", "x\n y", "x \ny", "a b ", "🙂",
    ] {
        for value in [json!(text), json!({"k": text}), json!([text]), json!([[text, {text: text}]])] {
            let yaml = emit(&value);
            assert_eq!(read(&yaml), value, "{text:?} as {yaml:?}");
        }
    }
    for text in ["no", "0x1f", "2026-01-02", "1e3", "12:30"] {
        assert!(emit(&json!(text)).starts_with('"'), "{text}");
    }
}

fn values() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let text = prop_oneof![
        "[ -~\\n]{0,12}",
        "[a-z]{1,5}",
        ".{0,6}",
        "(true|no|null|1|-|:|#| |\\n|'|\"|\\\\|a){0,6}"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300..1e300f64).prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(text.clone(), inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn every_value_comes_back(value in values()) {
        let yaml = emit(&value);
        proptest::prop_assert_eq!(read(&yaml), value, "{}", yaml);
    }
}
