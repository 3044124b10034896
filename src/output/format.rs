//! `-o`: which form the data on standard output has.

use std::str::FromStr;

use serde_json::{Value, json};

use super::{
    columns::{Columns, ColumnsError},
    jsonpath::{JsonPathError, Template},
    table::Table,
    yaml,
};

/// Version of the shapes that `-o json` and the manifests have.
pub const API_VERSION: &str = "rackctl.dev/v1alpha1";

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    #[default]
    Table,
    Wide,
    Json,
    Jsonl,
    Yaml,
    Name,
    JsonPath(Template),
    CustomColumns(Columns),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("{0}")]
    Unknown(String),
    #[error(transparent)]
    JsonPath(#[from] JsonPathError),
    #[error(transparent)]
    Columns(#[from] ColumnsError),
}

const WORDS: [&str; 8] = ["table", "wide", "json", "jsonl", "yaml", "name", "jsonpath=…", "custom-columns=…"];

impl FromStr for Format {
    type Err = FormatError;
    fn from_str(text: &str) -> Result<Self, FormatError> {
        if let Some(template) = text.strip_prefix("jsonpath=") {
            return Ok(Format::JsonPath(Template::parse(template)?));
        }
        if let Some(columns) = text.strip_prefix("custom-columns=") {
            return Ok(Format::CustomColumns(Columns::parse(columns)?));
        }
        Ok(match text {
            "table" => Format::Table,
            "wide" => Format::Wide,
            "json" => Format::Json,
            "jsonl" => Format::Jsonl,
            "yaml" => Format::Yaml,
            "name" => Format::Name,
            other => {
                let near = WORDS.iter().map(|w| (strsim::damerau_levenshtein(other, w), *w)).min();
                let hint = match near {
                    Some((distance, word)) if distance <= 2 => format!("; did you mean `{word}`?"),
                    _ => format!("; there are {}", WORDS.join(", ")),
                };
                return Err(FormatError::Unknown(format!("no output format is called `{other}`{hint}")));
            }
        })
    }
}

impl Format {
    /// People read it: tables, with messages around them.
    pub fn is_for_people(&self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }

    /// Items, each with `apiVersion`, `kind`, `metadata`, `spec` and `status`, in this form.
    /// `table` is called for `table` (false) and `wide` (true) alone.
    pub fn render(&self, items: &[Value], width: Option<u16>, table: impl FnOnce(bool) -> Table) -> String {
        match self {
            Format::Table => table(false).render(width),
            Format::Wide => table(true).render(width),
            Format::Json => pretty(&list(items)),
            Format::Jsonl => items.iter().map(|item| format!("{item}\n")).collect(),
            Format::Yaml => yaml::emit_all(items),
            Format::Name => items.iter().map(name).collect(),
            Format::JsonPath(template) => template.render(&list(items)),
            Format::CustomColumns(columns) => columns.table(items).render(width),
        }
    }

    /// One document that is no list: a plan, a version, a summary. `text` is what people get.
    pub fn render_one(&self, value: &Value, text: impl FnOnce(bool) -> String) -> String {
        match self {
            Format::Table => text(false),
            Format::Wide => text(true),
            Format::Json => pretty(value),
            Format::Jsonl => format!("{value}\n"),
            Format::Yaml => yaml::emit(value),
            Format::Name => name(value),
            Format::JsonPath(template) => template.render(value),
            Format::CustomColumns(columns) => columns.table([value]).render(None),
        }
    }
}

/// One document for any number of items.
pub fn list(items: &[Value]) -> Value {
    json!({ "apiVersion": API_VERSION, "kind": "List", "items": items })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// `node/n1`
fn name(item: &Value) -> String {
    let kind = item["kind"].as_str().unwrap_or_default().to_ascii_lowercase();
    let name = item["metadata"]["name"].as_str().unwrap_or_default();
    format!("{kind}/{}\n", super::clean::line(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Value> {
        ["n1", "n2"]
            .map(|name| json!({"apiVersion": API_VERSION, "kind": "Node", "metadata": {"name": name}, "spec": {"protect": false}, "status": {"power": "on"}}))
            .to_vec()
    }

    fn show(format: &str) -> String {
        Format::from_str(format).unwrap_or_else(|e| panic!("{e}")).render(&items(), None, |wide| {
            let mut table = Table::new(["NAME"]);
            table.row([if wide { "wide" } else { "narrow" }]);
            table
        })
    }

    #[test]
    fn every_form() {
        let all: Vec<String> = [
            "table",
            "wide",
            "json",
            "jsonl",
            "yaml",
            "name",
            "jsonpath={.items[*].metadata.name}",
            "custom-columns=WHO:.metadata.name",
        ]
        .iter()
        .map(|format| format!("== {format}\n{}", show(format)))
        .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn json_is_one_document_also_for_none() {
        let empty: Value = serde_json::from_str(&Format::Json.render(&[], None, |_| Table::new(["A"]))).unwrap();
        assert_eq!(empty, json!({"apiVersion": API_VERSION, "kind": "List", "items": []}));
    }

    #[test]
    fn unknown_forms_get_a_suggestion() {
        assert_eq!(
            Format::from_str("jsn").unwrap_err().to_string(),
            "no output format is called `jsn`; did you mean `json`?"
        );
        assert!(Format::from_str("xml-of-old").unwrap_err().to_string().contains("there are table, wide, json"));
        assert!(Format::from_str("jsonpath={.a").is_err());
    }
}
