//! The JSON Schema of the manifests (draft 2020-12), and its compiled form that the checks and `explain` walk.

use std::{collections::HashMap, sync::LazyLock};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{
    kinds::Kind,
    manifest::{API_VERSION, Metadata},
};

/// One document for all kinds: `oneOf` over them, definitions under `$defs`.
pub fn combined() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let kinds: Vec<Value> = Kind::ALL.into_iter().map(|kind| object(kind, &mut generator)).collect();
    finish(json!({ "title": "rackctl manifests", "oneOf": kinds }), generator)
}

/// The schema of one kind.
pub fn of(kind: Kind) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let schema = object(kind, &mut generator);
    finish(schema, generator)
}

fn finish(schema: Value, mut generator: schemars::SchemaGenerator) -> Value {
    let mut whole = Map::new();
    whole.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    if let Value::Object(parts) = schema {
        whole.extend(parts);
    }
    whole.insert("$defs".into(), Value::Object(generator.take_definitions(true)));
    Value::Object(whole)
}

fn object(kind: Kind, generator: &mut schemars::SchemaGenerator) -> Value {
    let spec = kind.spec_schema(generator).to_value();
    let metadata = generator.subschema_for::<Metadata>().to_value();
    json!({
        "title": kind.name(),
        "type": "object",
        "properties": {
            "apiVersion": { "description": "Version of the manifests.", "type": "string", "const": API_VERSION },
            "kind": { "description": "What the object is.", "type": "string", "const": kind.name() },
            "metadata": metadata,
            "spec": spec,
            "status": { "description": "What was observed; written by rackctl, never by people, and ignored when read.", "type": "object" },
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
    })
}

/// A schema, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub description: Option<String>,
    pub default: Option<Value>,
    pub rule: Rule,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    Any,
    Bool,
    Number,
    Integer {
        min: i64,
        max: i64,
    },
    /// A number, or a share in percent.
    Count,
    Text {
        format: Option<String>,
    },
    /// One of these words; with what each means.
    Words(Vec<(String, Option<String>)>),
    List {
        item: Box<Shape>,
        min: usize,
        max: usize,
    },
    Map(MapRule),
    /// One of several kinds of value; no two of them take the same kind but by what stands first.
    Forms(Vec<Shape>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct MapRule {
    /// In the order of the documentation.
    pub fields: Vec<(String, Shape)>,
    index: HashMap<String, usize>,
    pub required: Vec<String>,
    /// The shape of fields that have no name of their own (labels); `None`: there are none.
    pub rest: Option<Box<Shape>>,
    /// Exactly one of these must be there; empty: no such rule.
    pub one_of: Vec<String>,
}

impl MapRule {
    pub fn field(&self, name: &str) -> Option<&Shape> {
        self.index.get(name).and_then(|i| self.fields.get(*i)).map(|(_, shape)| shape)
    }
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }
}

/// The compiled schema of a kind.
pub fn shape(kind: Kind) -> &'static Shape {
    static SHAPES: LazyLock<HashMap<Kind, Shape>> = LazyLock::new(|| {
        Kind::ALL
            .into_iter()
            .map(|kind| {
                let schema = of(kind);
                (kind, compile(&schema, &schema["$defs"], 0))
            })
            .collect()
    });
    static NONE: Shape = Shape { description: None, default: None, rule: Rule::Any };
    SHAPES.get(&kind).unwrap_or(&NONE)
}

/// References are followed this deep; our types do not contain themselves.
const MAX_REFERENCES: usize = 32;

fn compile(schema: &Value, defs: &Value, depth: usize) -> Shape {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
    let rule = if depth > MAX_REFERENCES { Rule::Any } else { rule(schema, defs, depth) };
    // The words at a reference speak of the field; those at its target, of the type.
    let described = |shape: Shape| shape.description;
    let description =
        text("description").or_else(|| target(schema, defs).and_then(|t| described(compile(t, defs, depth + 1))));
    Shape { description, default: schema.get("default").cloned(), rule }
}

/// What `$ref`, or `anyOf` with null, points at.
fn target<'a>(schema: &'a Value, defs: &'a Value) -> Option<&'a Value> {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
        return defs.get(name);
    }
    match forms(schema).as_slice() {
        [one] => Some(one),
        _ => None,
    }
}

/// The branches of an `anyOf`, without null.
fn forms(schema: &Value) -> Vec<&Value> {
    let any = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    any.filter(|s| s.get("type").and_then(Value::as_str) != Some("null")).collect()
}

fn rule(schema: &Value, defs: &Value, depth: usize) -> Rule {
    if let Some(target) = target(schema, defs) {
        return compile(target, defs, depth + 1).rule;
    }
    let several = forms(schema);
    if !several.is_empty() {
        return Rule::Forms(several.into_iter().map(|s| compile(s, defs, depth + 1)).collect());
    }
    let words = words(schema);
    if !words.is_empty() {
        return Rule::Words(words);
    }
    let number = |key: &str| schema.get(key).and_then(Value::as_i64);
    let length = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let format = schema.get("format").and_then(Value::as_str);
    if format == Some("rackctl-count") {
        return Rule::Count;
    }
    match kind_of(schema) {
        Some("boolean") => Rule::Bool,
        Some("number") => Rule::Number,
        Some("integer") => {
            Rule::Integer { min: number("minimum").unwrap_or(i64::MIN), max: number("maximum").unwrap_or(i64::MAX) }
        }
        Some("string") => Rule::Text { format: format.map(str::to_owned) },
        Some("array") => Rule::List {
            item: Box::new(compile(schema.get("items").unwrap_or(&Value::Bool(true)), defs, depth + 1)),
            min: length("minItems").unwrap_or(0),
            max: length("maxItems").unwrap_or(usize::MAX),
        },
        Some("object") => Rule::Map(map(schema, defs, depth)),
        _ => Rule::Any,
    }
}

fn kind_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|k| *k != "null"),
        _ => None,
    }
}

fn words(schema: &Value) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let note = |s: &Value| s.get("description").and_then(Value::as_str).map(str::to_owned);
    let mut collect = |s: &Value, note: Option<String>| {
        for word in s.get("enum").and_then(Value::as_array).into_iter().flatten().chain(s.get("const")) {
            found.extend(word.as_str().map(|w| (w.to_owned(), note.clone())));
        }
    };
    collect(schema, None);
    for branch in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        collect(branch, note(branch));
    }
    found
}

fn map(schema: &Value, defs: &Value, depth: usize) -> MapRule {
    let fields: Vec<(String, Shape)> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, field)| (name.clone(), compile(field, defs, depth + 1)))
        .collect();
    let names = |list: Option<&Value>| -> Vec<String> {
        list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let any = Shape { description: None, default: None, rule: Rule::Any };
    let rest = match schema.get("additionalProperties") {
        Some(Value::Bool(false)) => None,
        Some(rest @ Value::Object(_)) => Some(Box::new(compile(rest, defs, depth + 1))),
        _ => Some(Box::new(any)),
    };
    let one_of = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    MapRule {
        index: fields.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect(),
        fields,
        required: names(schema.get("required")),
        rest,
        one_of: one_of.flat_map(|branch| names(branch.get("required"))).collect(),
    }
}
