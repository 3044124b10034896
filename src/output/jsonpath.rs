//! `-o jsonpath=TEMPLATE`, the subset of kubectl's that people use.
//!
//! Text outside braces is copied, `\n`, `\t` and `\\` understood. Inside: a path (`.spec.x`,
//! `['a.b']`, `[0]`, `[-1]`, `[1:3]`, `[*]`, `.*`, `..name`, `[?(@.a=="b")]`), a quoted text, or
//! `range PATH` … `end`. What is missing prints nothing.

use serde_json::Value;

/// `range` inside `range`, deeper than this, is refused.
pub const NESTING_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Path(Path),
    Range(Path, Vec<Part>),
}

/// A way to values inside a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// Begins at the document (`$`), also inside a range.
    root: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// Every value below with this name.
    Below(String),
    All,
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    Filter(Box<Filter>),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    /// Without a comparison: the left side exists.
    compare: Option<(Compare, Operand)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Eq,
    Ne,
    Le,
    Ge,
    Lt,
    Gt,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}, at character {at} of `{template}`")]
pub struct JsonPathError {
    pub why: String,
    /// Counted from 1.
    pub at: usize,
    pub template: String,
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, JsonPathError> {
        // kubectl takes `.metadata.name` without braces too.
        let whole = if text.contains('{') || text.is_empty() { text.to_owned() } else { format!("{{{text}}}") };
        let mut reader = Reader { text: whole.chars().collect(), at: 0 };
        let parsed = reader.parts(0);
        parsed.map(Template).map_err(|why| JsonPathError { why, at: reader.at + 1, template: text.to_owned() })
    }

    /// Values of one path stand side by side, separated by spaces. Strings bare, everything else as JSON.
    pub fn render(&self, document: &Value) -> String {
        let mut out = String::new();
        render(&mut out, &self.0, document, document);
        out
    }
}

impl Path {
    /// `.spec.x` or `{.spec.x}`.
    pub fn parse(text: &str) -> Result<Path, JsonPathError> {
        let bare = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let mut reader = Reader { text: bare.chars().collect(), at: 0 };
        let parsed = reader.path().and_then(|path| {
            reader.blanks();
            if reader.peek().is_some() { Err("the path does not end here".to_owned()) } else { Ok(path) }
        });
        parsed.map_err(|why| JsonPathError { why, at: reader.at + 1, template: text.to_owned() })
    }

    pub fn select<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.walk(value, value)
    }

    fn walk<'v>(&self, document: &'v Value, current: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![if self.root { document } else { current }];
        for step in &self.steps {
            found = found.into_iter().flat_map(|value| step.apply(document, value)).collect();
        }
        found
    }
}

impl Step {
    fn apply<'v>(&self, document: &'v Value, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Step::Below(name), _) => {
                let mut found = Vec::new();
                below(name, value, &mut found);
                found
            }
            (Step::All, Value::Array(list)) => list.iter().collect(),
            (Step::All, Value::Object(map)) => map.values().collect(),
            (Step::Index(i), Value::Array(list)) => {
                place(*i, list.len()).and_then(|i| list.get(i)).into_iter().collect()
            }
            (Step::Slice(from, to), Value::Array(list)) => {
                let bound = |b: &Option<i64>, or: usize| b.map_or(or, |i| clamp(i, list.len()));
                let (from, to) = (bound(from, 0), bound(to, list.len()));
                list.get(from..to).into_iter().flatten().collect()
            }
            (Step::Filter(filter), Value::Array(list)) => list.iter().filter(|v| filter.holds(document, v)).collect(),
            (Step::Filter(filter), Value::Object(map)) => map.values().filter(|v| filter.holds(document, v)).collect(),
            _ => Vec::new(),
        }
    }
}

fn place(index: i64, len: usize) -> Option<usize> {
    if index < 0 { len.checked_sub(index.unsigned_abs() as usize) } else { Some(index as usize) }
}

fn clamp(index: i64, len: usize) -> usize {
    if index < 0 { len.saturating_sub(index.unsigned_abs() as usize) } else { (index as usize).min(len) }
}

fn below<'v>(name: &str, value: &'v Value, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(name));
            map.values().for_each(|v| below(name, v, found));
        }
        Value::Array(list) => list.iter().for_each(|v| below(name, v, found)),
        _ => {}
    }
}

impl Filter {
    fn holds(&self, document: &Value, current: &Value) -> bool {
        let left = self.left.value(document, current);
        let Some((compare, right)) = &self.compare else { return left.is_some() };
        let (Some(left), Some(right)) = (left, right.value(document, current)) else { return false };
        use std::cmp::Ordering::*;
        let order = match (&left, &right) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) if a == b => Some(Equal),
            _ => None,
        };
        match compare {
            Compare::Eq => order == Some(Equal),
            Compare::Ne => order != Some(Equal),
            Compare::Lt => order == Some(Less),
            Compare::Gt => order == Some(Greater),
            Compare::Le => matches!(order, Some(Less | Equal)),
            Compare::Ge => matches!(order, Some(Greater | Equal)),
        }
    }
}

impl Operand {
    fn value(&self, document: &Value, current: &Value) -> Option<Value> {
        match self {
            Operand::Path(path) => path.walk(document, current).first().map(|v| (*v).clone()),
            Operand::Literal(value) => Some(value.clone()),
        }
    }
}

fn render(out: &mut String, parts: &[Part], document: &Value, current: &Value) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(path) => {
                for (i, value) in path.walk(document, current).into_iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    out.push_str(&bare(value));
                }
            }
            Part::Range(path, body) => {
                for value in path.walk(document, current) {
                    render(out, body, document, value);
                }
            }
        }
    }
}

/// Strings as they are, everything else as JSON on one line; null is nothing.
pub fn bare(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }
    fn take(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }
    fn eat(&mut self, token: &str) -> bool {
        let found = token.chars().enumerate().all(|(i, c)| self.text.get(self.at + i) == Some(&c));
        if found {
            self.at += token.chars().count();
        }
        found
    }
    fn need(&mut self, token: &str) -> Result<(), String> {
        if self.eat(token) { Ok(()) } else { Err(format!("`{token}` is missing")) }
    }
    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Up to the end of the template, or to `{end}` of the range at this depth.
    fn parts(&mut self, depth: usize) -> Result<Vec<Part>, String> {
        if depth > NESTING_MAX {
            return Err(format!("more than {NESTING_MAX} ranges inside each other"));
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        loop {
            let Some(c) = self.take() else {
                flush(&mut parts, &mut text);
                return if depth == 0 { Ok(parts) } else { Err("`{end}` of a range is missing".to_owned()) };
            };
            match c {
                '\\' => text.push(escaped(self.take().ok_or("a backslash at the end")?)),
                '{' => {
                    flush(&mut parts, &mut text);
                    self.blanks();
                    if self.word("end") {
                        self.close()?;
                        return if depth > 0 { Ok(parts) } else { Err("`end` without `range`".to_owned()) };
                    } else if self.word("range") {
                        self.blanks();
                        let path = self.path()?;
                        self.close()?;
                        let body = self.parts(depth + 1)?;
                        parts.push(Part::Range(path, body));
                    } else if let Some(quote @ ('"' | '\'')) = self.peek() {
                        self.at += 1;
                        parts.push(Part::Text(self.quoted(quote)?));
                        self.close()?;
                    } else {
                        let path = self.path()?;
                        parts.push(Part::Path(path));
                        self.close()?;
                    }
                }
                c => text.push(c),
            }
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let after = self.text.get(self.at + word.chars().count());
        !after.is_some_and(|c| c.is_alphanumeric() || *c == '_') && self.eat(word)
    }

    fn close(&mut self) -> Result<(), String> {
        self.blanks();
        self.need("}")
    }

    fn path(&mut self) -> Result<Path, String> {
        let root = self.eat("$");
        let current = !root && self.eat("@");
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Below(self.name()?));
            } else if self.eat(".") {
                match self.peek() {
                    Some('[') => {}
                    Some('*') => {
                        self.at += 1;
                        steps.push(Step::All);
                    }
                    // `{.}` is the value itself.
                    None | Some('}' | ')' | ' ') if steps.is_empty() => return Ok(Path { root, steps }),
                    _ => steps.push(Step::Field(self.name()?)),
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else if steps.is_empty() && !root && !current {
                steps.push(Step::Field(self.name()?));
            } else {
                return Ok(Path { root, steps });
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                self.at += 1;
                name.push(self.take().ok_or("a backslash at the end")?);
            } else if c.is_alphanumeric() || matches!(c, '_' | '-' | '/') {
                self.at += 1;
                name.push(c);
            } else {
                break;
            }
        }
        if name.is_empty() { Err("the name of a field is missing".to_owned()) } else { Ok(name) }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        self.blanks();
        let step = match self.peek() {
            Some('*') => {
                self.at += 1;
                Step::All
            }
            Some(quote @ ('"' | '\'')) => {
                self.at += 1;
                Step::Field(self.quoted(quote)?)
            }
            Some('?') => {
                self.at += 1;
                self.need("(")?;
                let filter = self.filter()?;
                self.need(")")?;
                Step::Filter(Box::new(filter))
            }
            _ => {
                let from = self.integer()?;
                if self.eat(":") {
                    Step::Slice(from, self.integer()?)
                } else {
                    Step::Index(from.ok_or("a number, `*`, a quoted name or `?(…)` is missing in the brackets")?)
                }
            }
        };
        self.blanks();
        self.need("]")?;
        Ok(step)
    }

    fn integer(&mut self) -> Result<Option<i64>, String> {
        let mut digits = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_ascii_digit() || *c == '-') {
            self.at += 1;
            digits.push(c);
        }
        if digits.is_empty() {
            return Ok(None);
        }
        digits.parse().map(Some).map_err(|_| format!("`{digits}` is no number"))
    }

    fn filter(&mut self) -> Result<Filter, String> {
        let left = self.operand()?;
        self.blanks();
        let tokens = [
            ("==", Compare::Eq),
            ("!=", Compare::Ne),
            ("<=", Compare::Le),
            (">=", Compare::Ge),
            ("<", Compare::Lt),
            (">", Compare::Gt),
        ];
        for (token, compare) in tokens {
            if self.eat(token) {
                let right = self.operand()?;
                self.blanks();
                return Ok(Filter { left, compare: Some((compare, right)) });
            }
        }
        Ok(Filter { left, compare: None })
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.blanks();
        match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                self.at += 1;
                Ok(Operand::Literal(Value::String(self.quoted(quote)?)))
            }
            Some('@' | '$' | '.') => Ok(Operand::Path(self.path()?)),
            _ => {
                let mut word = String::new();
                while let Some(c) = self.peek().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '+' | '.')) {
                    self.at += 1;
                    word.push(c);
                }
                serde_json::from_str(&word)
                    .map(Operand::Literal)
                    .map_err(|_| format!("`{word}` is neither a path (`@.x`), a number, true, false nor a quoted text"))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.take().ok_or_else(|| format!("the closing {quote} is missing"))? {
                c if c == quote => return Ok(text),
                '\\' => text.push(escaped(self.take().ok_or("a backslash at the end")?)),
                c => text.push(c),
            }
        }
    }
}

fn flush(parts: &mut Vec<Part>, text: &mut String) {
    if !text.is_empty() {
        parts.push(Part::Text(std::mem::take(text)));
    }
}

fn escaped(c: char) -> char {
    match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list() -> Value {
        json!({"kind": "List", "items": [
            {"metadata": {"name": "n1", "labels": {"a/b": "x"}}, "spec": {"rack": "r1", "unit": 3, "macs": ["a", "b", "c"]}, "status": {"power": "on"}},
            {"metadata": {"name": "n2"}, "spec": {"rack": "r2", "unit": 12, "protect": true}, "status": {"power": "off"}},
        ]})
    }

    fn run(template: &str) -> String {
        Template::parse(template).unwrap_or_else(|e| panic!("{e}")).render(&list())
    }

    #[test]
    fn kubectl_habits() {
        for (template, says) in [
            ("{.items[*].metadata.name}", "n1 n2"),
            (".items[0].metadata.name", "n1"),
            ("{$.items[-1].metadata.name}", "n2"),
            ("{range .items[*]}{.metadata.name}{\"\\t\"}{.spec.rack}{\"\\n\"}{end}", "n1\tr1\nn2\tr2\n"),
            ("{range .items[*]}{.metadata.name}={.spec.unit}, {end}", "n1=3, n2=12, "),
            ("{range .items[*]}{@.metadata.name}{'\\n'}{end}", "n1\nn2\n"),
            ("{.items[?(@.spec.rack==\"r2\")].metadata.name}", "n2"),
            ("{.items[?(@.spec.unit>3)].metadata.name}", "n2"),
            ("{.items[?(@.spec.unit <= 3)].metadata.name}", "n1"),
            ("{.items[?(@.spec.protect)].metadata.name}", "n2"),
            ("{.items[?(@.spec.protect==true)].metadata.name}", "n2"),
            ("{.items[?(@.status.power!='off')].metadata.name}", "n1"),
            ("{.items[0].metadata.labels['a/b']}", "x"),
            ("{.items[0].metadata.labels.a\\/b}", "x"),
            ("{.items[0].spec.macs[0:2]} {.items[0].spec.macs[1:]}", "a b b c"),
            ("{..name}", "n1 n2"),
            ("{.items[0].metadata}", r#"{"name":"n1","labels":{"a/b":"x"}}"#),
            ("power: {.items[*].status.*}\\n", "power: on off\n"),
            ("{.nothing.here}", ""),
            ("{range .items[*]}{$.kind}{end}", "ListList"),
        ] {
            assert_eq!(run(template), says, "{template}");
        }
    }

    #[test]
    fn faults_name_the_place() {
        for (template, says) in [
            ("{.items[*}", "`]` is missing, at character 10 of `{.items[*}`"),
            ("{range .items[*]}{.x}", "`{end}` of a range is missing, at character 22 of `{range .items[*]}{.x}`"),
            ("{end}", "`end` without `range`, at character 6 of `{end}`"),
            (
                "{.items[?(@.a==b)]}",
                "`b` is neither a path (`@.x`), a number, true, false nor a quoted text, at character 17 of `{.items[?(@.a==b)]}`",
            ),
            ("{\"abc}", "the closing \" is missing, at character 7 of `{\"abc}`"),
        ] {
            assert_eq!(Template::parse(template).unwrap_err().to_string(), says);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_template_panics(text in "[{}\\[\\].*?()@$=<>'\"a0:\\\\ -]{0,24}|\\PC{0,12}") {
            if let Ok(template) = Template::parse(&text) {
                template.render(&list());
            }
        }
    }
}
