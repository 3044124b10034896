//! Field documentation out of a JSON Schema.

use std::fmt::Write;

use serde_json::Value;

/// A reference that leads to a reference, longer than this, is taken as broken.
const REFS_MAX: usize = 8;

/// A field, or the kind itself.
#[derive(Clone, Debug)]
pub struct Found<'s> {
    pub title: String,
    pub schema: &'s Value,
    root: &'s Value,
    required: bool,
}

/// `spec.` may be left out, as in `node.bmc`. The error is a sentence.
pub fn find<'s>(root: &'s Value, kind: &str, path: &[&str]) -> Result<Found<'s>, String> {
    let mut found = Found { title: kind.to_owned(), schema: root, root, required: true };
    for (depth, word) in path.iter().enumerate() {
        let name = word.split('[').next().unwrap_or(word);
        let next = found.child(name).or_else(|| {
            let spec = (depth == 0).then(|| found.child("spec")).flatten()?;
            spec.child(name)
        });
        found = next.ok_or_else(|| {
            let mut known = found.fields();
            if depth == 0 {
                known.extend(found.child("spec").map(|spec| spec.fields()).unwrap_or_default());
            }
            let near = known
                .iter()
                .map(|k| (strsim::damerau_levenshtein(&k.to_lowercase(), &name.to_lowercase()), k))
                .min()
                .filter(|(distance, _)| *distance <= 3);
            match near {
                Some((_, k)) => format!("`{}` has no field `{name}`; did you mean `{k}`?", found.title),
                None => format!("`{}` has no field `{name}`; there are {}", found.title, known.join(", ")),
            }
        })?;
    }
    Ok(found)
}

impl<'s> Found<'s> {
    /// Follows `$ref`, one-armed `allOf`, and the arm of an `anyOf` that is not null.
    fn settled(&self) -> &'s Value {
        let mut schema = self.schema;
        for _ in 0..REFS_MAX {
            let next = if let Some(reference) = schema["$ref"].as_str() {
                reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))
            } else {
                let arms = schema["allOf"].as_array().or(schema["anyOf"].as_array());
                let mut arms = arms.into_iter().flatten().filter(|arm| arm["type"] != "null");
                arms.next().filter(|_| arms.next().is_none())
            };
            match next {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }

    /// Where the fields are: those of a list's items, of a map's values.
    fn holder(&self) -> &'s Value {
        let mut schema = self.settled();
        for _ in 0..REFS_MAX {
            let inner = ["items", "additionalProperties"].iter().map(|k| &schema[k]).find(|v| v.is_object());
            match inner {
                Some(inner) if !schema["properties"].is_object() => schema = self.with(inner).settled(),
                _ => break,
            }
        }
        schema
    }

    fn with(&self, schema: &'s Value) -> Found<'s> {
        Found { title: self.title.clone(), schema, root: self.root, required: true }
    }

    /// Objects that have fields: the holder, or the arms of a choice.
    fn objects(&self) -> Vec<&'s Value> {
        let holder = self.holder();
        let arms = holder["oneOf"].as_array().or(holder["anyOf"].as_array());
        let mut all = vec![holder];
        all.extend(arms.into_iter().flatten().map(|arm| self.with(arm).settled()));
        all
    }

    fn child(&self, name: &str) -> Option<Found<'s>> {
        self.objects().into_iter().find_map(|holder| {
            let schema = holder["properties"].get(name)?;
            let required = holder["required"].as_array().is_some_and(|r| r.iter().any(|n| n == name));
            Some(Found { title: format!("{}.{name}", self.title), schema, root: self.root, required })
        })
    }

    fn fields(&self) -> Vec<String> {
        let maps = self.objects().into_iter().filter_map(|holder| holder["properties"].as_object());
        maps.flat_map(|map| map.keys().cloned()).collect()
    }

    fn kind(&self) -> String {
        let schema = self.settled();
        let words: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
            _ => vec![],
        };
        match words.as_slice() {
            ["array"] => format!("list of {}", self.with(&schema["items"]).kind()),
            ["object"] if schema["additionalProperties"].is_object() => {
                format!("map of {}", self.with(&schema["additionalProperties"]).kind())
            }
            [] if schema["enum"].is_array() => "string".to_owned(),
            [] => "object".to_owned(),
            words => words.join(" or "),
        }
    }

    fn description(&self) -> &'s str {
        let own = self.schema["description"].as_str();
        own.or(self.settled()["description"].as_str()).unwrap_or_default()
    }

    /// Values that may stand there, where they are counted.
    fn choices(&self) -> Vec<String> {
        let schema = self.settled();
        let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let arms = schema["oneOf"].as_array().into_iter().flatten();
        listed.chain(arms.filter_map(|arm| arm["const"].as_str()).map(str::to_owned)).collect()
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "FIELD:    {} <{}>{}",
            self.title,
            self.kind(),
            if self.required { "" } else { "  optional" }
        );
        if !self.choices().is_empty() {
            let _ = writeln!(out, "VALUES:   {}", self.choices().join(", "));
        }
        if let Some(default) = self.schema.get("default").filter(|d| !d.is_null()) {
            let _ = writeln!(out, "DEFAULT:  {}", super::jsonpath::bare(default));
        }
        for line in self.description().lines() {
            let _ = writeln!(out, "    {line}");
        }
        let names = self.fields();
        if names.is_empty() {
            return out;
        }
        let _ = writeln!(out, "\nFIELDS:");
        for name in names {
            let Some(field) = self.child(&name) else { continue };
            let required = if field.required { "  required" } else { "" };
            let _ = writeln!(out, "  {name} <{}>{required}", field.kind());
            if let Some(line) = field.description().lines().next() {
                let _ = writeln!(out, "      {line}");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "type": "object", "description": "A machine.", "required": ["spec"],
            "properties": {"kind": {"const": "Node"}, "spec": {"$ref": "#/$defs/Spec"}},
            "$defs": {
                "Spec": {"type": "object", "required": ["bmc"], "properties": {
                    "bmc": {"$ref": "#/$defs/Bmc", "description": "How its BMC is reached."},
                    "bootMode": {"anyOf": [{"$ref": "#/$defs/BootMode"}, {"type": "null"}], "description": "What the firmware speaks.\nMore."},
                    "disks": {"type": "object", "additionalProperties": {"type": "object", "properties": {"use": {"type": "string", "default": "keep"}}}},
                }},
                "Bmc": {"type": "object", "properties": {"endpoints": {"type": "array", "items": {"oneOf": [
                    {"type": "object", "properties": {"redfish": {"type": "string"}}},
                    {"type": "object", "properties": {"ipmi": {"type": ["string", "null"]}}}]}}}},
                "BootMode": {"type": "string", "enum": ["uefi", "bios"]},
            }
        })
    }

    #[test]
    fn fields_with_type_and_text() {
        let schema = schema();
        let show = |path: &[&str]| find(&schema, "Node", path).unwrap().text();
        let all = [
            show(&[]),
            show(&["spec"]),
            show(&["bmc", "endpoints"]),
            show(&["spec", "bootMode"]),
            show(&["disks", "use"]),
        ];
        insta::assert_snapshot!(all.join("----\n"));
    }

    #[test]
    fn unknown_fields_get_a_suggestion() {
        let schema = schema();
        assert_eq!(
            find(&schema, "Node", &["bootmod"]).unwrap_err(),
            "`Node` has no field `bootmod`; did you mean `bootMode`?"
        );
        assert_eq!(
            find(&schema, "Node", &["bmc", "zzzzzzzz"]).unwrap_err(),
            "`Node.spec.bmc` has no field `zzzzzzzz`; there are endpoints"
        );
    }

    #[test]
    fn a_reference_to_itself_ends() {
        let schema = json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}});
        assert!(find(&schema, "Node", &["x"]).is_err());
    }
}
