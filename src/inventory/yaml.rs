//! Text → tree of values, each with its line and column. YAML 1.2 (core schema), of which JSON is a part.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::{
    fault::{At, Report},
    words::known,
};

/// Longest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// Deepest nesting of maps and lists.
pub const MAX_DEPTH: usize = 64;
/// Values of one file, those that aliases repeat included: a "billion laughs" ends here. Ten thousand machines in one
/// file have a quarter of it.
pub const MAX_VALUES: usize = 1_000_000;
/// Documents of one file.
pub const MAX_DOCUMENTS: usize = 50_000;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    pub at: At,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Arc<Vec<Tree>>),
    /// In the order of the file. A key that stands twice was reported.
    ///
    /// Shared: what a profile says stands in thousands of nodes, and is copied only where one of them differs.
    Map(Arc<Vec<Entry>>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: Cow<'static, str>,
    pub key_at: At,
    pub value: Tree,
}

impl Tree {
    pub fn get(&self, key: &str) -> Option<&Tree> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.value)
    }
    /// Down a path of map keys.
    pub fn dig(&self, path: &[&str]) -> Option<&Tree> {
        path.iter().try_fold(self, |tree, key| tree.get(key))
    }
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
    pub fn items(&self) -> &[Tree] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(i) => (*i).into(),
            Value::Float(f) => (*f).into(),
            Value::Text(t) => t.as_str().into(),
            Value::List(items) => items.iter().map(Tree::to_json).collect(),
            // A field without a value is a field that is not there.
            Value::Map(entries) => {
                let said = entries.iter().filter(|e| e.value.value != Value::Null);
                said.map(|e| (e.key.to_string(), e.value.to_json())).collect()
            }
        }
    }
    /// `a map`, `text`, …: for messages.
    pub fn what(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a truth value",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// All documents of a file. A syntax error ends its document; reading goes on at the next `---`.
pub(crate) fn read(file: u32, text: &str, report: &mut Report) -> Vec<Tree> {
    let whole = At { file, line: 0, column: 0 };
    if text.len() > MAX_FILE_BYTES {
        report.add(
            whole,
            "",
            format!("the file has {} bytes; at most {MAX_FILE_BYTES} are read", text.len()),
            Some("split it: any number of files may hold one inventory".into()),
        );
        return Vec::new();
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut budget = MAX_VALUES;
    // Offset in bytes, and the lines before it.
    let (mut start, mut lines) = (0, 0);
    loop {
        let mut reader =
            Reader { file, lines, budget, anchors: HashMap::new(), stack: Vec::new(), documents: &mut documents };
        let Some(stop) = reader.run(&text[start..], report) else { return documents };
        budget = reader.budget;
        report.add(stop.at, "", stop.message, stop.help);
        if stop.fatal || documents.len() >= MAX_DOCUMENTS {
            return documents;
        }
        match next_document(&text[start..], stop.at.line.saturating_sub(lines)) {
            Some((offset, skipped)) => {
                start += offset;
                lines += skipped;
            }
            None => return documents,
        }
    }
}

/// First line, at or after the faulty one (from 1) and not the first of the text, that begins a document:
/// its offset in bytes, and the number of lines before it.
fn next_document(text: &str, faulty: u32) -> Option<(usize, u32)> {
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let index = index as u32;
        if index > 0
            && index + 1 >= faulty
            && line.strip_prefix("---").is_some_and(|rest| rest.trim_start() != rest || rest.is_empty())
        {
            return Some((offset, index));
        }
        offset += line.len();
    }
    None
}

/// Why reading a document ended early.
struct Stop {
    at: At,
    message: String,
    help: Option<String>,
    /// A limit: the rest of the file is not read.
    fatal: bool,
}

enum Open {
    List { at: At, anchor: usize, items: Vec<Tree> },
    Map { at: At, anchor: usize, entries: Vec<Entry>, keys: Keys, key: Option<(Cow<'static, str>, At)> },
}

/// Maps of up to so many keys are searched as they are.
const FEW_KEYS: usize = 16;

/// Where the keys of a map stand, once there are many.
#[derive(Default)]
struct Keys(HashMap<Cow<'static, str>, At>);

impl Keys {
    // The key is kept as it is: a borrowed one costs nothing.
    #[allow(clippy::ptr_arg)]
    /// Notes a key, of a map that has these entries; where it stood before, if it did.
    fn note(&mut self, entries: &[Entry], key: &Cow<'static, str>, at: At) -> Option<At> {
        if entries.len() < FEW_KEYS {
            return entries.iter().rev().find(|e| e.key == *key).map(|e| e.key_at);
        }
        if self.0.is_empty() {
            self.0.extend(entries.iter().map(|e| (e.key.clone(), e.key_at)));
        }
        self.0.insert(key.clone(), at)
    }
}

struct Reader<'a> {
    file: u32,
    lines: u32,
    budget: usize,
    /// Anchors of the document: the value and how many values it has.
    anchors: HashMap<usize, (Tree, usize)>,
    stack: Vec<Open>,
    documents: &'a mut Vec<Tree>,
}

impl Reader<'_> {
    fn run(&mut self, text: &str, report: &mut Report) -> Option<Stop> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => return Some(self.syntax(&error)),
            };
            let at = self.at(span.start.line(), span.start.col());
            if let Err(stop) = self.take(event, at, report) {
                return Some(stop);
            }
        }
        None
    }

    fn at(&self, line: usize, column: usize) -> At {
        let line = u32::try_from(line).unwrap_or(u32::MAX).saturating_add(self.lines);
        At { file: self.file, line, column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1) }
    }

    fn syntax(&self, error: &ScanError) -> Stop {
        let at = self.at(error.marker().line(), error.marker().col());
        // The parser reads ahead, and stops at a depth of its own before ours is reached.
        if error.info().contains("recursion limit") {
            return too_deep(at);
        }
        let help = match error.info() {
            info if info.contains("tab") => Some("indent with spaces".into()),
            info if info.contains("mapping values are not allowed") => {
                Some("put text that holds `: ` in quotes, and check the indentation of this line".into())
            }
            _ => None,
        };
        Stop { at, message: format!("YAML syntax: {}", error.info()), help, fatal: false }
    }

    fn spend(&mut self, at: At, count: usize) -> Result<(), Stop> {
        match self.budget.checked_sub(count) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(Stop {
                at,
                message: format!("the file has more than {MAX_VALUES} values, aliases resolved"),
                help: Some("split it: any number of files may hold one inventory".into()),
                fatal: true,
            }),
        }
    }

    fn take(&mut self, event: Event<'_>, at: At, report: &mut Report) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(at, 1)?;
                let value = scalar(text, style, tag.as_deref(), at, report);
                self.put(Tree { at, value }, anchor, report)
            }
            Event::SequenceStart(anchor, tag) => {
                self.no_tag(tag.as_deref(), at, report);
                self.open(at, Open::List { at, anchor, items: Vec::new() })
            }
            Event::MappingStart(anchor, tag) => {
                self.no_tag(tag.as_deref(), at, report);
                self.open(at, Open::Map { at, anchor, entries: Vec::new(), keys: Keys::default(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                // Ten thousand machines are a hundred thousand small maps: what they grew by and do not use would be
                // the larger part of them.
                Some(Open::List { at, anchor, mut items }) => {
                    items.shrink_to_fit();
                    self.put(Tree { at, value: Value::List(Arc::new(items)) }, anchor, report)
                }
                Some(Open::Map { at, anchor, mut entries, .. }) => {
                    entries.shrink_to_fit();
                    self.put(Tree { at, value: Value::Map(Arc::new(entries)) }, anchor, report)
                }
                None => Ok(()),
            },
            Event::Alias(id) => match self.anchors.get(&id) {
                Some((tree, count)) => {
                    let (tree, count) = (tree.clone(), *count);
                    self.spend(at, count)?;
                    let depth = self.stack.len() + depth(&tree);
                    if depth > MAX_DEPTH { Err(too_deep(at)) } else { self.put(tree, 0, report) }
                }
                None => Err(Stop {
                    at,
                    message: "the alias names a value that is not complete here".into(),
                    help: None,
                    fatal: false,
                }),
            },
            Event::DocumentStart(_) | Event::DocumentEnd => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => Ok(()),
        }
    }

    fn open(&mut self, at: At, open: Open) -> Result<(), Stop> {
        self.spend(at, 1)?;
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.stack.push(open);
        Ok(())
    }

    fn put(&mut self, tree: Tree, anchor: usize, report: &mut Report) -> Result<(), Stop> {
        if anchor > 0 {
            // What is kept for aliases costs memory too, also where no alias uses it.
            let count = count(&tree);
            self.spend(tree.at, count)?;
            self.anchors.insert(anchor, (tree.clone(), count));
        }
        match self.stack.last_mut() {
            None => self.documents.push(tree),
            Some(Open::List { items, .. }) => items.push(tree),
            Some(Open::Map { entries, keys, key, .. }) => match key.take() {
                Some((key, key_at)) => entries.push(Entry { key, key_at, value: tree }),
                None => {
                    let at = tree.at;
                    let text = match tree.value {
                        Value::Text(text) => known(&text).map_or(Cow::Owned(text), Cow::Borrowed),
                        Value::Bool(b) => b.to_string().into(),
                        Value::Int(i) => i.to_string().into(),
                        Value::Float(f) => f.to_string().into(),
                        Value::Null => "null".into(),
                        Value::List(_) | Value::Map(_) => {
                            report.add(at, "", "a key of a map must be text", None);
                            Cow::Borrowed("")
                        }
                    };
                    if let Some(first) = keys.note(entries, &text, at) {
                        let message = format!("duplicate key `{text}`: it stands on line {} already", first.line);
                        report.add(at, "", message, Some("keep one of the two".into()));
                    }
                    *key = Some((text, at));
                }
            },
        }
        if self.stack.is_empty() && self.documents.len() > MAX_DOCUMENTS {
            let at = self.at(0, 0);
            let message = format!("the file has more than {MAX_DOCUMENTS} documents");
            return Err(Stop { at, message, help: Some("split it".into()), fatal: true });
        }
        Ok(())
    }

    fn no_tag(&self, tag: Option<&Tag>, at: At, report: &mut Report) {
        if tag.is_some_and(|t| !t.is_yaml_core_schema()) {
            report.add(at, "", "tags (`!name`) mean nothing here", Some("leave the tag out".into()));
        }
    }
}

fn too_deep(at: At) -> Stop {
    Stop { at, message: format!("more than {MAX_DEPTH} maps and lists inside each other"), help: None, fatal: false }
}

fn count(tree: &Tree) -> usize {
    1 + match &tree.value {
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|e| count(&e.value)).sum(),
        _ => 0usize,
    }
}

fn depth(tree: &Tree) -> usize {
    match &tree.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
        _ => 0,
    }
}

/// YAML 1.2, 10.3.2: what a plain scalar is.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, at: At, report: &mut Report) -> Value {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => return Value::Text(text.into_owned()),
        Some(tag) if !tag.is_yaml_core_schema() => {
            report.add(at, "", "tags (`!name`) mean nothing here", Some("leave the tag out".into()));
        }
        _ => {}
    }
    if style != ScalarStyle::Plain {
        return Value::Text(text.into_owned());
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(&text).unwrap_or_else(|| Value::Text(text.into_owned()))
}

fn number(text: &str) -> Option<Value> {
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !bare.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    if bare.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Value::Int);
    }
    let float = bare.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if float { text.parse().ok().filter(|f: &f64| f.is_finite()).map(Value::Float) } else { None }
}

fn digits(text: &str, radix: u32) -> Option<Value> {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if plain { i64::from_str_radix(text, radix).ok().map(Value::Int) } else { None }
}
