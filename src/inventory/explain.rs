//! `rackctl explain node.bmc.endpoints`: the documentation of a field, from the schema. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    check::list,
    fault::did_you_mean,
    kinds::Kind,
    manifest::API_VERSION,
    schema::{MapRule, Rule, Shape, shape},
};

/// A path that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .help.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct ExplainError {
    pub message: String,
    pub help: Option<String>,
}

/// What a path leads to.
pub struct Explained {
    kind: Kind,
    /// From the object on: `spec.bmc.endpoints`; empty: the kind itself.
    path: String,
    shape: &'static Shape,
}

/// Explains `KIND[.field…]`, as text that ends with a newline.
pub fn explain(path: &str) -> Result<String, ExplainError> {
    find(path).map(|found| found.text())
}

/// Follows `KIND[.field…]`. `KIND` is any word of [`Kind::words`]; `spec` may be left out, and `[]` or `[0]` behind a
/// list as well.
pub fn find(path: &str) -> Result<Explained, ExplainError> {
    let mut words = path.split('.');
    let kind_word = words.next().unwrap_or_default();
    let kind = Kind::from_word(kind_word).ok_or_else(|| {
        let known = || Kind::ALL.into_iter().flat_map(|k| k.words().iter().copied());
        let all = || format!("known are {}", list(Kind::ALL.into_iter().map(|k| k.words()[0])));
        ExplainError {
            message: format!("unknown kind `{kind_word}`"),
            help: did_you_mean(&kind_word.to_lowercase(), known()).or_else(|| Some(all())),
        }
    })?;
    let root = shape(kind);
    let spec = map_of(root).and_then(|m| m.field("spec")).unwrap_or(root);
    let mut here = root;
    let mut said = String::new();
    for word in words {
        let name = word.split('[').next().unwrap_or(word);
        let rule = map_of(here);
        let found = rule.and_then(|m| m.field(name).or(m.rest.as_deref()));
        // `node.bmc` is `node.spec.bmc`.
        let (found, rule, prefix) = match found {
            None if said.is_empty() => (map_of(spec).and_then(|m| m.field(name)), map_of(spec), "spec."),
            found => (found, rule, ""),
        };
        here = found.ok_or_else(|| {
            let place = if said.is_empty() { kind.name().to_owned() } else { said.clone() };
            ExplainError {
                message: format!("{place} has no field `{name}`"),
                help: rule.and_then(|m| {
                    did_you_mean(name, m.names()).or_else(|| Some(format!("known are {}", list(m.names()))))
                }),
            }
        })?;
        let _ = write!(said, "{}{prefix}{name}", if said.is_empty() { "" } else { "." });
    }
    let shape = if said.is_empty() { spec } else { here };
    Ok(Explained { kind, path: said, shape })
}

impl Explained {
    pub fn text(&self) -> String {
        render(self.kind, &self.path, self.shape)
    }

    /// The same for programs.
    pub fn value(&self) -> Value {
        let map = map_of(self.shape);
        let fields: Vec<Value> = map
            .iter()
            .flat_map(|map| map.fields.iter().map(move |(name, field)| (map, name, field)))
            .map(|(map, name, field)| {
                json!({ "name": name, "type": type_of(&field.rule), "required": map.required.contains(name),
                    "description": field.description })
            })
            .collect();
        let words: Vec<&str> = match &self.shape.rule {
            Rule::Words(words) => words.iter().map(|(w, _)| w.as_str()).collect(),
            _ => Vec::new(),
        };
        let name = if self.path.is_empty() {
            self.kind.name().to_owned()
        } else {
            format!("{}.{}", self.kind.name(), self.path)
        };
        json!({
            "apiVersion": API_VERSION, "kind": "Explanation", "metadata": { "name": name }, "spec": {},
            "status": { "type": type_of(&self.shape.rule), "description": self.shape.description,
                "default": self.shape.default, "words": words, "fields": fields },
        })
    }

    /// Names of the fields below, for completion.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        map_of(self.shape).into_iter().flat_map(MapRule::names)
    }
}

/// The fields of a map, or of the maps in a list.
fn map_of(shape: &Shape) -> Option<&MapRule> {
    match &shape.rule {
        Rule::Map(map) => Some(map),
        Rule::List { item, .. } => map_of(item),
        // The map that stands here itself, before one inside of a list.
        Rule::Forms(forms) => {
            let own = forms.iter().find(|f| matches!(f.rule, Rule::Map(_)));
            own.or_else(|| forms.iter().find(|f| map_of(f).is_some())).and_then(map_of)
        }
        _ => None,
    }
}

fn render(kind: Kind, path: &str, shape: &Shape) -> String {
    let mut text = format!("KIND:     {}\nVERSION:  {API_VERSION}\n", kind.name());
    if path.is_empty() {
        let _ = writeln!(text, "NAMES:    {}", kind.words().join(", "));
    } else {
        let _ = writeln!(text, "FIELD:    {path}\nTYPE:     {}", type_of(&shape.rule));
    }
    if let Some(default) = shape.default.as_ref().filter(|d| !d.is_null()) {
        let _ = writeln!(text, "DEFAULT:  {default}");
    }
    let _ = writeln!(text, "\nDESCRIPTION:");
    indent(&mut text, shape.description.as_deref().unwrap_or("No more is said."), 4);
    let words = match &shape.rule {
        Rule::Forms(forms) => {
            forms.iter().find_map(|f| if let Rule::Words(words) = &f.rule { Some(words) } else { None })
        }
        Rule::Words(words) => Some(words),
        _ => None,
    };
    if let Some(words) = words {
        let _ = writeln!(text, "\nWORDS:");
        for (word, note) in words {
            let _ = writeln!(text, "    {word}{}", note.as_ref().map(|n| format!(" — {n}")).unwrap_or_default());
        }
    }
    let heading = if path.is_empty() { "FIELDS (of spec)" } else { "FIELDS" };
    if let Some(map) = map_of(shape).filter(|m| !m.fields.is_empty()) {
        let _ = writeln!(text, "\n{heading}:");
        for (name, field) in &map.fields {
            let required = if map.required.contains(name) { " (required)" } else { "" };
            let _ = writeln!(text, "    {name} <{}>{required}", type_of(&field.rule));
            if let Some(description) = &field.description {
                indent(&mut text, description, 8);
            }
        }
    }
    text
}

fn type_of(rule: &Rule) -> String {
    match rule {
        Rule::Any => "any".into(),
        Rule::Bool => "boolean".into(),
        Rule::Number => "number".into(),
        Rule::Integer { .. } => "integer".into(),
        Rule::Count => "integer or percentage".into(),
        Rule::Text { format: None } => "string".into(),
        Rule::Text { format: Some(format) } => format.trim_start_matches("rackctl-").replace('-', " "),
        Rule::Words(words) => words.iter().map(|(w, _)| w.as_str()).collect::<Vec<_>>().join(" | "),
        Rule::List { item, .. } => format!("list of {}", type_of(&item.rule)),
        Rule::Map(MapRule { fields, rest: Some(rest), .. }) if fields.is_empty() => {
            format!("map of {}", type_of(&rest.rule))
        }
        Rule::Map(_) => "object".into(),
        Rule::Forms(forms) => forms.iter().map(|f| type_of(&f.rule)).collect::<Vec<_>>().join(" | "),
    }
}

/// Columns of a line of explanation.
const WIDTH: usize = 88;

/// Paragraphs are filled; lines inside a fence stand as they are.
fn indent(text: &mut String, description: &str, by: usize) {
    let pad = " ".repeat(by);
    let mut line = String::new();
    let mut fenced = false;
    let flush = |line: &mut String, text: &mut String| {
        if !line.is_empty() {
            let _ = writeln!(text, "{pad}{line}");
            line.clear();
        }
    };
    for one in description.lines() {
        if one.trim_start().starts_with("```") {
            fenced = !fenced;
            flush(&mut line, text);
        } else if fenced {
            let _ = writeln!(text, "{pad}{one}");
        } else if one.trim().is_empty() {
            flush(&mut line, text);
            text.push('\n');
        } else {
            for word in one.split_whitespace() {
                if !line.is_empty() && line.chars().count() + word.chars().count() + 1 > WIDTH - by {
                    flush(&mut line, text);
                }
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
        }
    }
    flush(&mut line, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explains_with_and_without_spec() {
        let text = explain("node.bmc.endpoints").unwrap();
        assert!(text.contains("FIELD:    spec.bmc.endpoints\nTYPE:     list of object"), "{text}");
        assert!(text.contains("credential <name> (required)"), "{text}");
        assert_eq!(explain("no.spec.bmc.endpoints[0]").unwrap(), text);
        assert!(explain("hc.boot.method").unwrap().contains("pxe | uefi-http | virtual-media"));
        assert!(explain("nodes").unwrap().contains("hardwareClass <name>"));
        assert!(explain("cl.metadata.labels").unwrap().contains("map of label"));
    }

    #[test]
    fn unknown_paths_have_a_suggestion() {
        let fault = |path: &str| explain(path).unwrap_err().to_string();
        assert_eq!(fault("noed"), "unknown kind `noed`; did you mean `node`?");
        assert_eq!(fault("node.bmc.endpoint"), "spec.bmc has no field `endpoint`; did you mean `endpoints`?");
        assert_eq!(fault("node.lifecylce"), "Node has no field `lifecylce`; did you mean `lifecycle`?");
    }

    #[test]
    fn every_field_of_every_kind_is_documented() {
        fn walk(shape: &Shape, path: &str, bare: &mut Vec<String>) {
            if let Some(map) = map_of(shape) {
                for (name, field) in &map.fields {
                    let path = format!("{path}.{name}");
                    if field.description.as_deref().is_none_or(str::is_empty) {
                        bare.push(path.clone());
                    }
                    walk(field, &path, bare);
                }
            }
        }
        let mut bare = Vec::new();
        Kind::ALL.into_iter().for_each(|kind| walk(shape(kind), kind.name(), &mut bare));
        assert_eq!(bare, Vec::<String>::new());
    }

    #[test]
    fn programs_get_the_same() {
        let value = find("node.lifecycle").unwrap().value();
        assert_eq!(value["metadata"]["name"], "Node.spec.lifecycle");
        assert_eq!(value["status"]["words"][1], "spare");
        let value = find("node.bmc").unwrap().value();
        let endpoints =
            value["status"]["fields"].as_array().unwrap().iter().find(|f| f["name"] == "endpoints").unwrap();
        assert_eq!((endpoints["type"].as_str(), endpoints["required"].as_bool()), (Some("list of object"), Some(true)));
        assert!(find("node").unwrap().fields().any(|f| f == "bmc"));
    }
}
