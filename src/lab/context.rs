//! The contexts of `config.yaml`: `{ contexts: [{ name, filename, store? }], currentContext }`. Pure.

use serde_json::{Map, Value, json};

use super::yaml;

pub fn context(lab: &str) -> String {
    format!("lab-{lab}")
}

/// The text with the context put in or replaced; everything else in it stays. It becomes the current one only where
/// none is: a person who works on another fleet is not moved to this one.
pub fn with(text: &str, name: &str, filename: &str) -> Result<String, String> {
    let mut root = root(text)?;
    let mut contexts = contexts(&mut root)?;
    let entry = contexts.iter_mut().find(|c| named(c, name));
    match entry {
        Some(Value::Object(entry)) => {
            entry.insert("filename".into(), filename.into());
        }
        _ => contexts.push(json!({ "name": name, "filename": filename })),
    }
    root.insert("contexts".into(), contexts.into());
    if root.get("currentContext").is_none_or(Value::is_null) {
        root.insert("currentContext".into(), name.into());
    }
    Ok(yaml::document(&root.into()))
}

/// The text without the context; `None` when it is not there and nothing is to be written.
pub fn without(text: &str, name: &str) -> Result<Option<String>, String> {
    let mut root = root(text)?;
    let mut contexts = contexts(&mut root)?;
    let before = contexts.len();
    contexts.retain(|c| !named(c, name));
    let current = root.get("currentContext").and_then(Value::as_str) == Some(name);
    if contexts.len() == before && !current {
        return Ok(None);
    }
    root.insert("contexts".into(), contexts.into());
    if current {
        root.shift_remove("currentContext");
    }
    Ok(Some(yaml::document(&root.into())))
}

fn named(context: &Value, name: &str) -> bool {
    context.get("name").and_then(Value::as_str) == Some(name)
}

fn root(text: &str) -> Result<Map<String, Value>, String> {
    match yaml::parse(text)? {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        _ => Err("it is not a map".into()),
    }
}

fn contexts(root: &mut Map<String, Value>) -> Result<Vec<Value>, String> {
    match root.get_mut("contexts").map(Value::take) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err("`contexts` is not a list".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &str = "currentContext: prod\ncontexts:\n  - name: prod\n    filename: /srv/inventory\n    readOnly: true\ntheme: dark\n";

    #[test]
    fn others_stay_and_the_current_one_too() {
        let text = with(OTHERS, "lab-demo", "/l/inventory").unwrap();
        assert_eq!(
            yaml::parse(&text).unwrap(),
            json!({"currentContext": "prod", "theme": "dark", "contexts": [
                {"name": "prod", "filename": "/srv/inventory", "readOnly": true},
                {"name": "lab-demo", "filename": "/l/inventory"}]})
        );
        assert_eq!(with(&text, "lab-demo", "/l/inventory").unwrap(), text, "twice is once");
        let back = without(&text, "lab-demo").unwrap().unwrap();
        assert_eq!(yaml::parse(&back).unwrap(), yaml::parse(OTHERS).unwrap());
        assert_eq!(without(&back, "lab-demo"), Ok(None));
    }

    #[test]
    fn the_first_one_becomes_current_and_takes_that_with_it() {
        let text = with("", "lab-demo", "/l/inventory").unwrap();
        assert_eq!(yaml::parse(&text).unwrap()["currentContext"], "lab-demo");
        let back = without(&text, "lab-demo").unwrap().unwrap();
        assert_eq!(yaml::parse(&back).unwrap(), json!({"contexts": []}));
    }

    #[test]
    fn a_file_that_is_not_understood_is_not_rewritten() {
        for text in ["- a", "contexts: x", "contexts: [", "a: *b"] {
            assert!(with(text, "lab-demo", "/l").is_err(), "{text}");
            assert!(without(text, "lab-demo").is_err(), "{text}");
        }
    }
}
