//! One value of a manifest changed in its text: comments, order and form of everything else stay. Pure.
//!
//! The text that comes out is read again, and must say what the old one said but for that value: what the small edits
//! here do not understand (aliases, odd scalars) is refused, never guessed at.

use serde_json::Value as Json;

use super::{
    fault::{At, Report},
    yaml::{self, Tree, Value},
};

/// One step into a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// Longest flow map that is put on a line of its own key.
const LINE: usize = 100;

/// Puts `value` at `path` of the document of this kind and name, in place of a scalar that stands there.
///
/// # Errors
/// Says why the text cannot be changed so.
pub fn set(text: &str, kind: &str, name: &str, path: &[Step<'_>], value: &Json) -> Result<String, String> {
    let documents = parse(text)?;
    let index = find(&documents, kind, name)?;
    let document = documents.get(index).ok_or("it has no such document")?;
    let (mut tree, mut rest) = (document, path);
    while let Some((step, tail)) = rest.split_first() {
        let next = match step {
            Step::Key(key) => tree.get(key),
            Step::Item(item) => Some(tree.items().get(*item).ok_or("the list is shorter than it was")?),
        };
        let Some(next) = next else { break };
        (tree, rest) = (next, tail);
    }
    let source = Source { text };
    let edited = match rest.split_first() {
        None => source.replace(tree, value)?,
        Some((Step::Key(key), tail)) => source.insert(tree, key, &nested(tail, value)?)?,
        Some((Step::Item(_), _)) => return Err("the list is shorter than it was".into()),
    };
    let mut wanted: Vec<Json> = documents.iter().map(Tree::to_json).collect();
    put(wanted.get_mut(index).ok_or("it has no such document")?, path, value)?;
    let now: Vec<Json> = parse(&edited)?.iter().map(Tree::to_json).collect();
    if now == wanted { Ok(edited) } else { Err("it is written in a way that cannot be changed safely".into()) }
}

/// Adds to the document's `spec` what `patch` has and it has not. What stands is never replaced.
///
/// # Errors
/// As [`set`].
pub fn fill(text: &str, kind: &str, name: &str, patch: &Json) -> Result<String, String> {
    let documents = parse(text)?;
    let index = find(&documents, kind, name)?;
    let spec = documents.get(index).and_then(|d| d.get("spec"));
    let mut missing: Vec<(Vec<String>, &Json)> = Vec::new();
    lacking(spec, patch, &mut vec!["spec".to_owned()], &mut missing);
    let mut text = text.to_owned();
    for (path, value) in missing {
        let steps: Vec<Step<'_>> = path.iter().map(|key| Step::Key(key)).collect();
        text = set(&text, kind, name, &steps, value)?;
    }
    Ok(text)
}

fn lacking<'a>(
    tree: Option<&Tree>,
    patch: &'a Json,
    path: &mut Vec<String>,
    missing: &mut Vec<(Vec<String>, &'a Json)>,
) {
    match (tree, patch) {
        (None, value) => missing.push((path.clone(), value)),
        (Some(tree), Json::Object(fields)) if matches!(tree.value, Value::Map(_)) => {
            for (key, value) in fields {
                path.push(key.clone());
                lacking(tree.get(key), value, path, missing);
                path.pop();
            }
        }
        (Some(_), _) => {}
    }
}

fn parse(text: &str) -> Result<Vec<Tree>, String> {
    let mut report = Report::default();
    let documents = yaml::read(0, text, &mut report);
    if report.is_empty() { Ok(documents) } else { Err("it has faults; `rackctl validate` names them".into()) }
}

fn find(documents: &[Tree], kind: &str, name: &str) -> Result<usize, String> {
    let is = |d: &&Tree| {
        d.get("kind").and_then(Tree::text) == Some(kind)
            && d.dig(&["metadata", "name"]).and_then(Tree::text) == Some(name)
    };
    let mut found = documents.iter().enumerate().filter(|(_, d)| is(d));
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Ok(index),
        _ => Err(format!("it does not have exactly one {kind} `{name}`")),
    }
}

/// The value inside the maps that are still to be made.
fn nested(path: &[Step<'_>], value: &Json) -> Result<Json, String> {
    let mut value = value.clone();
    for step in path.iter().rev() {
        let Step::Key(key) = step else { return Err("a list cannot be made from its middle".into()) };
        value = Json::Object([((*key).to_owned(), value)].into_iter().collect());
    }
    Ok(value)
}

fn put(document: &mut Json, path: &[Step<'_>], value: &Json) -> Result<(), String> {
    let mut place = document;
    for step in path {
        place = match step {
            Step::Key(key) => {
                if place.is_null() {
                    *place = Json::Object(serde_json::Map::new());
                }
                let map = place.as_object_mut().ok_or("what stands there is no map")?;
                map.entry((*key).to_owned()).or_insert(Json::Null)
            }
            Step::Item(item) => place.get_mut(*item).ok_or("the list is shorter than it was")?,
        };
    }
    *place = value.clone();
    Ok(())
}

struct Source<'a> {
    text: &'a str,
}

impl Source<'_> {
    /// Offset of a place, in bytes. Columns count characters.
    fn offset(&self, at: At) -> Result<usize, String> {
        let lost = || "a place in it was lost".to_owned();
        let mut start = 0;
        for _ in 1..at.line {
            start += self.text.get(start..).and_then(|rest| rest.find('\n')).ok_or_else(lost)? + 1;
        }
        let line = self.text.get(start..).ok_or_else(lost)?;
        // A mark at the beginning of the file is no column.
        let mark = if start == 0 && line.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let line = line.get(mark..).ok_or_else(lost)?;
        let column = usize::try_from(at.column.saturating_sub(1)).map_err(|_| lost())?;
        let within = line.char_indices().map(|(at, _)| at).chain([line.len()]).nth(column).ok_or_else(lost)?;
        Ok(start + mark + within)
    }

    fn from(&self, offset: usize) -> &str {
        self.text.get(offset..).unwrap_or_default()
    }

    /// Begin and end of a scalar that stands on one line.
    fn scalar(&self, tree: &Tree) -> Option<(usize, usize)> {
        let begin = self.offset(tree.at).ok()?;
        let rest = self.from(begin).lines().next()?;
        let length = match (rest.chars().next()?, &tree.value) {
            (_, Value::Map(_) | Value::List(_) | Value::Null) | ('|' | '>' | '&' | '*' | '!', _) => return None,
            ('"', _) => {
                let mut escaped = false;
                let end = rest.char_indices().skip(1).find(|(_, c)| {
                    let ends = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                });
                end?.0 + 1
            }
            ('\'', _) => {
                let mut at = 1;
                loop {
                    at += rest.get(at..)?.find('\'')? + 1;
                    if !rest.get(at..)?.starts_with('\'') {
                        break at;
                    }
                    at += 1;
                }
            }
            (_, Value::Text(text)) => rest.starts_with(text.as_str()).then_some(text.len())?,
            _ => rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | '}' | ']')).unwrap_or(rest.len()),
        };
        Some((begin, begin + length))
    }

    fn replace(&self, tree: &Tree, value: &Json) -> Result<String, String> {
        if value.is_array() || value.is_object() {
            return Err("a list or a map stands there already".into());
        }
        let (begin, end) = self.scalar(tree).ok_or("what stands there is not a plain value on one line")?;
        Ok(self.spliced(begin, end, &value.to_string()))
    }

    fn spliced(&self, begin: usize, end: usize, by: &str) -> String {
        let (head, tail) = (self.text.get(..begin).unwrap_or_default(), self.from(end));
        format!("{head}{by}{tail}")
    }

    /// A new key in a map.
    fn insert(&self, map: &Tree, key: &str, value: &Json) -> Result<String, String> {
        let Value::Map(entries) = &map.value else { return Err(format!("`{key}` has no map to stand in")) };
        let begin = self.offset(map.at)?;
        let last = entries.iter().rev().find_map(|e| self.scalar(&e.value));
        if self.from(begin).starts_with('{') {
            let quoted = match entries.first() {
                Some(first) => self.from(self.offset(first.key_at)?).starts_with('"'),
                None => false,
            };
            let field = format!("{}: {}", word(key, quoted), flow(value, quoted));
            return Ok(match (last, entries.is_empty()) {
                (Some((_, end)), _) => self.spliced(end, end, &format!(", {field}")),
                (None, true) => self.spliced(begin + 1, begin + 1, &format!(" {field} ")),
                (None, false) => self.spliced(begin + 1, begin + 1, &format!(" {field},")),
            });
        }
        let first = entries.first().ok_or("an empty map stands there")?;
        let indent = " ".repeat(usize::try_from(first.key_at.column.saturating_sub(1)).unwrap_or_default());
        let end_of_line = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let lines = block(key, value, &indent).join(end_of_line);
        match last {
            // Behind the line of the last plain value, with its comment.
            Some((_, end)) => {
                let line = self.from(end).find('\n').map(|at| end + at + 1);
                Ok(match line {
                    Some(line) => self.spliced(line, line, &format!("{indent}{lines}{end_of_line}")),
                    None => self.spliced(self.text.len(), self.text.len(), &format!("{end_of_line}{indent}{lines}")),
                })
            }
            // Before its first key.
            None => {
                let at = self.offset(first.key_at)?;
                Ok(self.spliced(at, at, &format!("{lines}{end_of_line}{indent}")))
            }
        }
    }
}

/// A field of a block map: its lines, of which the first is not indented.
fn block(key: &str, value: &Json, indent: &str) -> Vec<String> {
    let key = word(key, false);
    let line = format!("{key}: {}", flow(value, false));
    match value {
        Json::Array(items) if !items.is_empty() => {
            let items = items.iter().map(|item| format!("{indent}  - {}", flow(item, false)));
            std::iter::once(format!("{key}:")).chain(items).collect()
        }
        Json::Object(fields) if line.len() > LINE => {
            let deeper = format!("{indent}  ");
            let fields = fields.iter().flat_map(|(k, v)| {
                let mut lines = block(k, v, &deeper);
                if let Some(first) = lines.first_mut() {
                    first.insert_str(0, &deeper);
                }
                lines
            });
            std::iter::once(format!("{key}:")).chain(fields).collect()
        }
        _ => vec![line],
    }
}

/// On one line. JSON's strings are YAML's double-quoted ones.
fn flow(value: &Json, quoted: bool) -> String {
    match value {
        Json::Object(fields) if fields.is_empty() => "{}".to_owned(),
        Json::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(k, v)| format!("{}: {}", word(k, quoted), flow(v, quoted))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(|v| flow(v, quoted)).collect();
            format!("[{}]", items.join(", "))
        }
        plain => plain.to_string(),
    }
}

fn word(key: &str, quoted: bool) -> String {
    let plain = !key.is_empty()
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && key.starts_with(|c: char| c.is_ascii_alphabetic());
    if plain && !quoted { key.to_owned() } else { Json::String(key.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PIN: [Step<'_>; 6] = [
        Step::Key("spec"),
        Step::Key("bmc"),
        Step::Key("endpoints"),
        Step::Item(0),
        Step::Key("tls"),
        Step::Key("pin"),
    ];

    fn pinned(text: &str) -> Result<String, String> {
        set(text, "Node", "n1", &PIN, &json!("sha256:ab"))
    }

    fn node(spec: &str) -> String {
        format!(
            "# the first\nkind: Site\nmetadata: {{ name: n1 }}\n---\nkind: Node # ours\nmetadata: {{ name: n1 }}\nspec:\n{spec}"
        )
    }

    #[test]
    fn a_pin_stands_where_a_person_would_write_it() {
        let one = node(
            "  bmc:\n    endpoints:\n      - { redfish: \"https://é.1\", credential: bmc } # rack 4\n  protect: false\n",
        );
        let wanted = one.replace("credential: bmc }", "credential: bmc, tls: { pin: \"sha256:ab\" } }");
        assert_eq!(pinned(&one).unwrap(), wanted);
        // A second time it is replaced.
        let other = set(&wanted, "Node", "n1", &PIN, &json!("sha256:cd")).unwrap();
        assert_eq!(other, wanted.replace("sha256:ab", "sha256:cd"));

        let two = node(
            "  bmc:\n    endpoints:\n      - redfish: https://a # here\n        credential: 'it''s'\n      # below\n      - ipmi: b\n",
        );
        let wanted = two.replace("'it''s'\n", "'it''s'\n        tls: { pin: \"sha256:ab\" }\n");
        assert_eq!(pinned(&two).unwrap(), wanted);

        let three = node("  bmc: { endpoints: [{ redfish: https://a, tls: { ca: x.pem } }] }");
        assert_eq!(pinned(&three).unwrap(), three.replace("ca: x.pem", "ca: x.pem, pin: \"sha256:ab\""));
        let windows = two.replace('\n', "\r\n");
        assert_eq!(pinned(&windows).unwrap(), pinned(&two).unwrap().replace('\n', "\r\n"));
        let json = "{\n  \"kind\": \"Node\",\n  \"metadata\": {\"name\": \"n1\"},\n  \"spec\": {\"bmc\": {\"endpoints\": [{\"redfish\": \"https://a\"}]}}\n}\n";
        let edited = pinned(json).unwrap();
        assert_eq!(
            serde_json::from_str::<Json>(&edited).unwrap()["spec"]["bmc"]["endpoints"][0]["tls"]["pin"],
            "sha256:ab"
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        // The alias would give the pin to n2 as well.
        let shared = "kind: Node\nmetadata: { name: n1 }\nspec: { bmc: &b { endpoints: [{ redfish: https://a }] } }\n";
        let shared = format!("{shared}---\n{}", shared.replace("n1", "n2"));
        assert!(set(&shared, "Node", "n3", &PIN, &json!("x")).unwrap_err().contains("`n3`"));
        let alias =
            "x: &e [{ redfish: https://a }]\nkind: Node\nmetadata: { name: n1 }\nspec: { bmc: { endpoints: *e } }\n";
        assert!(pinned(alias).is_err());
        assert!(pinned("kind: Node\nkind: Node\n").unwrap_err().contains("faults"));
        assert!(pinned(&node("  bmc: { endpoints: [] }\n")).is_err());
        assert!(set(&node("  site: fra\n"), "Node", "n1", &[Step::Key("spec")], &json!({"a": 1})).is_err());
    }

    #[test]
    fn what_is_missing_is_filled_in_and_what_stands_stays() {
        let text = node("  # where\n  site: fra # west\n  identity: { serial: S1 }\n\n  bmc: {}\n");
        let patch = json!({
            "identity": { "serial": "OTHER", "uuid": "u-1" },
            "interfaces": [{ "mac": "52:54:00:00:00:01" }, { "mac": "52:54:00:00:00:02" }],
            "disks": { "root": { "match": { "serial": "D 1" } } },
        });
        let filled = fill(&text, "Node", "n1", &patch).unwrap();
        let wanted = node(
            "  # where\n  site: fra # west\n  interfaces:\n    - { mac: \"52:54:00:00:00:01\" }\n    - { mac: \"52:54:00:00:00:02\" }\n  \
             disks: { root: { match: { serial: \"D 1\" } } }\n  identity: { serial: S1, uuid: \"u-1\" }\n\n  bmc: {}\n",
        );
        assert_eq!(sorted(&filled), sorted(&wanted), "{filled}");
        assert_eq!(fill(&filled, "Node", "n1", &patch).unwrap(), filled, "a second time there is nothing to do");
    }

    fn sorted(text: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_edited_rightly_or_refused(text in "[a-z :{}\\[\\],'\"#|>&*\n-]{0,80}") {
            let text = format!("kind: Node\nmetadata: {{ name: n1 }}\nspec:\n  bmc:\n    endpoints:\n      - redfish: {text}\n");
            if let Ok(edited) = pinned(&text) {
                let now = parse(&edited).unwrap();
                let pin = now[0].dig(&["spec", "bmc", "endpoints"]).and_then(|e| e.items().first()).and_then(|e| e.dig(&["tls", "pin"]));
                proptest::prop_assert_eq!(pin.and_then(Tree::text), Some("sha256:ab"));
            }
        }
    }
}
