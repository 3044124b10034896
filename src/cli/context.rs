//! `~/.config/rackctl/config.yaml`: named sets of inventory, store and site.
//!
//! ```yaml
//! currentContext: lab-demo
//! contexts:
//!   - name: lab-demo
//!     filename: /home/me/.local/state/rackctl/labs/demo/inventory    # or a list of them
//!     store: sqlite:/var/lib/rackctl/demo.db
//!     site: fra1
//!     readOnly: true
//! ```

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::{Failure, failure::Cause};

/// A configuration larger than this is not one.
const FILE_MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_context: Option<String>,
    #[serde(default)]
    pub contexts: Vec<Context>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<Filenames>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// One path or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Filenames {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

impl Filenames {
    /// Relative ones are relative to the configuration's folder.
    pub fn paths(&self, folder: &Path) -> Vec<PathBuf> {
        match self {
            Filenames::One(path) => vec![folder.join(path)],
            Filenames::Many(paths) => paths.iter().map(|path| folder.join(path)).collect(),
        }
    }
}

impl ConfigFile {
    pub fn context(&self, name: &str) -> Option<&Context> {
        self.contexts.iter().find(|c| c.name == name)
    }
}

/// `$XDG_CONFIG_HOME/rackctl/config.yaml`, else below HOME. Relative values do not count (XDG Base Directory 0.8).
pub fn path_from(config_home: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, Failure> {
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(config_home)
        .or_else(|| absolute(home).map(|home| home.join(".config")))
        .map(|base| base.join("rackctl/config.yaml"))
        .ok_or_else(|| {
            Failure::new(Cause::Local, "find config.yaml", "neither XDG_CONFIG_HOME nor HOME names an absolute path")
                .next("export HOME=/root")
        })
}

pub fn path() -> Result<PathBuf, Failure> {
    path_from(std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME"))
}

/// The file as it is understood; one that is not there is empty.
pub fn load() -> Result<ConfigFile, Failure> {
    let path = path()?;
    parse(&read(&path)?, &path)
}

/// Text of the file; empty when it is not there.
pub fn read(path: &Path) -> Result<String, Failure> {
    let fault = |why: String| Failure::new(Cause::Local, format!("read {}", path.display()), why);
    match fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_MAX_BYTES => Err(fault(format!("it has more than {FILE_MAX_BYTES} bytes"))),
        Ok(_) => fs::read_to_string(path).map_err(|e| fault(e.to_string())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(fault(e.to_string())),
    }
}

pub fn parse(text: &str, path: &Path) -> Result<ConfigFile, Failure> {
    let fault = |why: String| {
        Failure::new(Cause::Local, format!("read {}", path.display()), why).next(format!("$EDITOR {}", path.display()))
    };
    let value = crate::output::yaml::parse(text).map_err(fault)?;
    if value.is_null() {
        return Ok(ConfigFile::default());
    }
    serde_json::from_value(value).map_err(|e| fault(e.to_string()))
}

/// Whole or not at all: a temporary file in the same folder, then a rename.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let fault = |e: io::Error| Failure::new(Cause::Local, format!("write {}", path.display()), e.to_string());
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(fault)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fault)?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(fault)?;
    file.as_file().sync_all().map_err(fault)?;
    file.persist(path).map_err(|e| fault(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_then_home() {
        let some = |text: &str| Some(OsString::from(text));
        assert_eq!(path_from(some("/c"), some("/h")), Ok("/c/rackctl/config.yaml".into()));
        assert_eq!(path_from(some("relative"), some("/h")), Ok("/h/.config/rackctl/config.yaml".into()));
        assert!(path_from(None, some("")).is_err());
    }

    #[test]
    fn one_or_many_files_and_unknown_fields() {
        let text = "currentContext: a\ncontexts:\n  - {name: a, filename: inv}\n  - name: b\n    filename: [/x, y]\n    readOnly: true\n";
        let file = parse(text, Path::new("/c/config.yaml")).unwrap();
        let paths = |name: &str| file.context(name).unwrap().filename.clone().unwrap().paths(Path::new("/c"));
        assert_eq!(paths("a"), [PathBuf::from("/c/inv")]);
        assert_eq!(paths("b"), [PathBuf::from("/x"), PathBuf::from("/c/y")]);
        assert!(file.context("b").unwrap().read_only);
        let fault = parse("contexts: [{name: a, inventory: x}]", Path::new("/c/config.yaml")).unwrap_err();
        assert!(fault.why.contains("unknown field `inventory`"), "{fault}");
        assert_eq!(parse("", Path::new("/c")), Ok(ConfigFile::default()));
    }
}
