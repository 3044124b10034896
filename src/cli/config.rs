//! `rackctl config`: the contexts.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    args::host::{Config, ConfigVerb},
    context::{self, ConfigFile},
    globals::Globals,
};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Stop, Table, format::API_VERSION, stdout, yaml},
};

pub fn run(globals: &Globals, args: &Config) -> Result<Exit, Stop> {
    let path = context::path()?;
    let text = context::read(&path)?;
    let file = context::parse(&text, &path)?;
    match &args.verb {
        ConfigVerb::View => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            stdout::print(&globals.format.render(&items(&file), stdout::width(), |_| table(&file, folder)))?;
        }
        ConfigVerb::UseContext { name } => {
            let text = with_current(&text, &file, name).map_err(Stop::usage)?;
            context::write(&path, &text)?;
            stdout::note(&format!("the current context is now {name}"));
        }
    }
    Ok(Exit::Done)
}

fn items(file: &ConfigFile) -> Vec<Value> {
    let item = |context: &context::Context| {
        let mut spec = serde_json::to_value(context).unwrap_or_default();
        if let Value::Object(map) = &mut spec {
            map.shift_remove("name");
        }
        let current = file.current_context.as_ref() == Some(&context.name);
        json!({ "apiVersion": API_VERSION, "kind": "Context", "metadata": { "name": context.name },
            "spec": spec, "status": { "current": current } })
    };
    file.contexts.iter().map(item).collect()
}

fn table(file: &ConfigFile, folder: &Path) -> Table {
    let mut table = Table::new(["CURRENT", "NAME", "SITE", "READ ONLY", "STORE", "FILENAME"]);
    for context in &file.contexts {
        let paths = context.filename.as_ref().map(|f| f.paths(folder)).unwrap_or_default();
        let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        table.row([
            if file.current_context.as_ref() == Some(&context.name) { "*" } else { "" },
            &context.name,
            context.site.as_deref().unwrap_or_default(),
            if context.read_only { "yes" } else { "no" },
            context.store.as_deref().unwrap_or_default(),
            &paths.join(","),
        ]);
    }
    table
}

/// The text with another current context; fields that this version does not know stay.
fn with_current(text: &str, file: &ConfigFile, name: &str) -> Result<String, Failure> {
    let fault = |why: String| Failure::new(Cause::Refused, format!("use context {name}"), why);
    if file.context(name).is_none() {
        let known: Vec<&str> = file.contexts.iter().map(|c| c.name.as_str()).collect();
        let why = format!("there is no such context; there are: {}", known.join(", "));
        return Err(fault(why).next("rackctl config view"));
    }
    let mut value = yaml::parse(text).map_err(fault)?;
    value["currentContext"] = json!(name);
    Ok(yaml::emit(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "currentContext: a\ntheme: dark\ncontexts:\n- name: a\n  filename: inv\n- name: b\n  filename: [/x, /y]\n  readOnly: true\n  site: fra1\n";

    fn file() -> ConfigFile {
        context::parse(TEXT, Path::new("/c/config.yaml")).unwrap()
    }

    #[test]
    fn contexts_as_a_table() {
        insta::assert_snapshot!(table(&file(), Path::new("/c")).render(None));
    }

    #[test]
    fn another_context_and_nothing_else() {
        let text = with_current(TEXT, &file(), "b").unwrap();
        let mut expected = yaml::parse(TEXT).unwrap();
        expected["currentContext"] = json!("b");
        assert_eq!(yaml::parse(&text), Ok(expected));
        assert!(with_current(TEXT, &file(), "c").unwrap_err().why.contains("a, b"));
    }
}
