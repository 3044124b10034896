use serde_json::{Value, json};

use super::{emit, parse};

fn read(text: &str) -> Value {
    parse(text).unwrap_or_else(|e| panic!("{e} in\n{text}"))
}

#[test]
fn refuses_what_it_would_not_keep() {
    for text in ["a: &x 1\nb: *x", "a: !t 1", "a: 1\na: 2", "a: [1", "a: 1\n---\nb: 1", "{[a]: 1}"] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(parse(&"[".repeat(100)).is_err());
    assert_eq!(parse(""), Ok(Value::Null));
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
        "",
        " ",
        "~",
        "null",
        "NULL",
        "true",
        "Yes",
        "no",
        "on",
        "OFF",
        "y",
        "N",
        "1",
        "-1",
        "0x1f",
        "0o7",
        "1e3",
        ".5",
        ".inf",
        ".nan",
        "1_000",
        "12:30",
        "2026-01-02",
        "- a",
        "a: b",
        "a:",
        "a #b",
        "#a",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
        "'a",
        "\"a",
        "{a",
        "[a",
        "]",
        "}",
        ",",
        "?",
        "? a",
        "|",
        ">",
        "---",
        "...",
        "=",
        "<<",
        "a\tb",
        "a\\b",
        "a\u{feff}",
        "é",
        "a\u{85}b",
        "a\u{2028}b",
        "x\n",
        "\nx",
        "x\n\n",
        " x\ny",
        "x\n y",
        "x \ny",
        "a b ",
        "🙂",
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
    let text = prop_oneof!["[ -~\\n]{0,12}", "[a-z]{1,5}", ".{0,6}", "(true|no|null|1|-|:|#| |\\n|'|\"|\\\\|a){0,6}"];
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
