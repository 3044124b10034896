//! The flags that every verb knows, after flag > environment > context.

use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    args::{
        GlobalArgs,
        globals::{ColorWhen, LogFormat},
    },
    context::{self, ConfigFile},
};
use crate::{
    inventory::{self, Faults, Loaded, Source},
    model::{Failure, Fleet, failure::Cause},
    output::{Format, Stop, stdout},
};

/// An inventory on standard input that is larger than this is refused.
const STDIN_MAX_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug, Default)]
pub struct Globals {
    /// Empty: the default folders of the working directory.
    pub filenames: Vec<PathBuf>,
    /// `None`: the file in the state folder that belongs to the fleet.
    pub store: Option<String>,
    pub site: Option<String>,
    /// The context that was named, or is the current one.
    pub context: Option<String>,
    pub read_only: bool,
    pub format: Format,
    pub verbose: u8,
    pub log_format: LogFormat,
    pub color: Color,
    pub timeout: Option<Duration>,
    /// `None`: each verb's own default.
    pub concurrency: Option<usize>,
    /// It is a step of a playbook that speaks: programs get the playbook's report, which is one document, and not this.
    pub within_playbook: bool,
}

/// Where escape sequences may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Color {
    pub stdout: bool,
    pub stderr: bool,
}

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub struct Env {
    pub inventory: Vec<PathBuf>,
    pub store: Option<String>,
    /// NO_COLOR is there and not empty (no-color.org).
    pub no_color: bool,
    pub stdout_terminal: bool,
    pub stderr_terminal: bool,
}

impl Env {
    pub fn read() -> Self {
        let inventory = std::env::var_os("RACKCTL_INVENTORY").filter(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Env {
            inventory: inventory.map(|v| std::env::split_paths(&v).collect()).unwrap_or_default(),
            store: std::env::var("RACKCTL_STORE").ok().filter(|v| !v.is_empty()),
            no_color: dumb || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()),
            stdout_terminal: std::io::stdout().is_terminal(),
            stderr_terminal: std::io::stderr().is_terminal(),
        }
    }
}

impl Color {
    pub fn decide(when: Option<ColorWhen>, env: &Env) -> Color {
        match when.unwrap_or_default() {
            ColorWhen::Always => Color { stdout: true, stderr: true },
            ColorWhen::Never => Color::default(),
            ColorWhen::Auto => {
                Color { stdout: env.stdout_terminal && !env.no_color, stderr: env.stderr_terminal && !env.no_color }
            }
        }
    }
}

impl Globals {
    /// Pure. `folder`: where `config.yaml` stands, to which its relative paths belong.
    pub fn resolve(args: &GlobalArgs, env: &Env, config: &ConfigFile, folder: &Path) -> Result<Globals, Failure> {
        let name = args.context.as_ref().or(config.current_context.as_ref());
        let chosen = match name {
            None => None,
            Some(name) => Some(config.context(name).ok_or_else(|| unknown_context(name, config))?),
        };
        let from_context = || chosen.and_then(|c| c.filename.as_ref()).map(|f| f.paths(folder)).unwrap_or_default();
        let filenames = match (args.filename.as_slice(), env.inventory.as_slice()) {
            ([], []) => from_context(),
            ([], said) | (said, _) => said.to_vec(),
        };
        Ok(Globals {
            filenames,
            store: args.store.clone().or(env.store.clone()).or_else(|| chosen.and_then(|c| c.store.clone())),
            site: chosen.and_then(|c| c.site.clone()),
            context: name.cloned(),
            read_only: args.read_only || chosen.is_some_and(|c| c.read_only),
            format: args.output.clone().unwrap_or_default(),
            verbose: args.verbose,
            log_format: args.log_format.unwrap_or_default(),
            color: Color::decide(args.color, env),
            timeout: args.timeout,
            concurrency: args.concurrency.map(|n| n as usize),
            within_playbook: false,
        })
    }

    /// With the environment and the file of contexts of this process.
    pub fn load(args: &GlobalArgs) -> Result<Globals, Stop> {
        let env = Env::read();
        // Without a home folder there are no contexts; that only matters when one is named.
        let (config, folder) = match (context::path(), &args.context) {
            (Ok(path), _) => {
                let file = context::parse(&context::read(&path)?, &path)?;
                (file, path.parent().unwrap_or(Path::new("/")).to_owned())
            }
            (Err(_), None) => (ConfigFile::default(), PathBuf::from("/")),
            (Err(failure), Some(_)) => return Err(failure.into()),
        };
        let globals = Globals::resolve(args, &env, &config, &folder).map_err(Stop::usage)?;
        let named = args.context.as_ref().and_then(|name| config.context(name)).is_some_and(|c| c.filename.is_some());
        if named && args.filename.is_empty() && !env.inventory.is_empty() {
            stdout::note("note: RACKCTL_INVENTORY is set and counts more than the context's filename");
        }
        Ok(globals)
    }

    /// Without any file: for verbs that must work when those are broken.
    pub fn bare(args: &GlobalArgs) -> Globals {
        let plain = GlobalArgs { context: None, ..args.clone() };
        let resolved = Globals::resolve(&plain, &Env::read(), &ConfigFile::default(), Path::new("/"));
        // Cannot fail: no context is named.
        resolved.unwrap_or_default()
    }

    /// The inventory, checked. Its warnings go to standard error.
    pub fn fleet(&self) -> Result<Fleet, Stop> {
        self.loaded(inventory::load_values)
    }

    /// [`Globals::fleet`] for verbs that only look: of thousands of nodes, what an earlier look kept may be taken where
    /// no file has changed since.
    pub fn fleet_to_look(&self) -> Result<Fleet, Stop> {
        match kept_fleets() {
            Some(folder) => self.loaded(|sources| inventory::load_to_look(sources, &folder)),
            None => self.fleet(),
        }
    }

    /// [`Globals::fleet`], and where each value of its nodes comes from.
    pub fn fleet_with_origins(&self) -> Result<Fleet, Stop> {
        self.loaded(inventory::load)
    }

    fn loaded(&self, load: impl Fn(&[Source]) -> Result<Loaded, Faults>) -> Result<Fleet, Stop> {
        let loaded = load(&sources(&self.filenames)?).map_err(super::validate::stop)?;
        for warning in &loaded.warnings {
            stdout::note(&format!("warning: {warning}"));
        }
        let mut fleet = loaded.fleet;
        if fleet.context.is_none() {
            fleet.context.clone_from(&self.context);
        }
        Ok(fleet)
    }

    /// Data to standard output, in the chosen format.
    pub fn print(
        &self,
        items: &[serde_json::Value],
        table: impl FnOnce(bool) -> crate::output::Table,
    ) -> Result<(), Stop> {
        stdout::print(&self.format.render(items, stdout::width(), table))
    }
}

/// Where resolved fleets are kept; a host without a home keeps none.
fn kept_fleets() -> Option<PathBuf> {
    Some(super::paths::cache().ok()?.join("fleets"))
}

fn unknown_context(name: &str, config: &ConfigFile) -> Failure {
    let known: Vec<&str> = config.contexts.iter().map(|c| c.name.as_str()).collect();
    let why = match known.as_slice() {
        [] => "there are no contexts yet".to_owned(),
        known => format!("there are {}", known.join(", ")),
    };
    Failure::new(Cause::Refused, format!("no context is called `{name}`"), why).next("rackctl config view")
}

/// `-` is standard input, read once.
pub fn sources(filenames: &[PathBuf]) -> Result<Vec<Source>, Stop> {
    let mut sources = Vec::new();
    for path in filenames {
        if path.as_os_str() != "-" {
            sources.push(Source::Path(path.clone()));
            continue;
        }
        let mut text = String::new();
        let fault = |why: String| Failure::new(Cause::Local, "read the inventory from standard input", why);
        std::io::stdin()
            .lock()
            .take(STDIN_MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|e| Stop::usage(fault(e.to_string())))?;
        if text.len() as u64 > STDIN_MAX_BYTES {
            return Err(Stop::usage(fault(format!("more than {STDIN_MAX_BYTES} bytes"))));
        }
        sources.push(Source::Stdin(text));
    }
    Ok(sources)
}

/// The fleet that the flags on a line being completed mean; nothing when anything is wrong.
pub fn for_completion(words: &[String]) -> Option<Fleet> {
    let mut args = GlobalArgs::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (flag, joined) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        match flag {
            "-f" | "-i" | "--filename" | "--inventory" => {
                args.filename.extend(joined.or_else(|| words.next().cloned()).map(PathBuf::from));
            }
            "--context" => args.context = joined.or_else(|| words.next().cloned()),
            _ => {}
        }
    }
    args.filename.retain(|path| path.as_os_str() != "-");
    let path = context::path().ok()?;
    let config = context::load().ok()?;
    let globals = Globals::resolve(&args, &Env::read(), &config, path.parent()?).ok()?;
    let sources = sources(&globals.filenames).ok()?;
    let loaded = match kept_fleets() {
        Some(folder) => inventory::load_to_look(&sources, &folder),
        None => inventory::load_values(&sources),
    };
    loaded.ok().map(|loaded| loaded.fleet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ConfigFile {
        let text = "currentContext: a\ncontexts:\n- {name: a, filename: inv, store: 'sqlite:/a.db', readOnly: true, site: fra1}\n- {name: b, filename: /b}\n";
        context::parse(text, Path::new("/c/config.yaml")).unwrap()
    }

    fn resolve(args: &GlobalArgs, env: &Env) -> Globals {
        Globals::resolve(args, env, &config(), Path::new("/c")).unwrap()
    }

    #[test]
    fn flag_then_environment_then_context() {
        let mut args = GlobalArgs::default();
        let mut env = Env::default();
        let globals = resolve(&args, &env);
        assert_eq!((globals.filenames, globals.store.as_deref()), (vec!["/c/inv".into()], Some("sqlite:/a.db")));
        assert!(globals.read_only && globals.site.as_deref() == Some("fra1"));

        env.inventory = vec!["/env".into()];
        env.store = Some("sqlite:/env.db".into());
        let globals = resolve(&args, &env);
        assert_eq!((globals.filenames, globals.store.as_deref()), (vec!["/env".into()], Some("sqlite:/env.db")));

        args.filename = vec!["x".into(), "y".into()];
        args.store = Some("sqlite:/flag.db".into());
        let globals = resolve(&args, &env);
        assert_eq!(globals.filenames, ["x", "y"].map(PathBuf::from));
        assert_eq!(globals.store.as_deref(), Some("sqlite:/flag.db"));
    }

    #[test]
    fn a_named_context_replaces_the_current_one() {
        let args = GlobalArgs { context: Some("b".into()), ..GlobalArgs::default() };
        let globals = resolve(&args, &Env::default());
        assert_eq!((globals.filenames, globals.store, globals.read_only), (vec!["/b".into()], None, false));
        let args = GlobalArgs { context: Some("c".into()), ..GlobalArgs::default() };
        let failure = Globals::resolve(&args, &Env::default(), &config(), Path::new("/c")).unwrap_err();
        assert_eq!(failure.to_string(), "no context is called `c`: there are a, b");
    }

    #[test]
    fn colours_need_a_terminal_and_no_objection() {
        let mut env = Env { stderr_terminal: true, ..Env::default() };
        assert_eq!(Color::decide(None, &env), Color { stdout: false, stderr: true });
        env.no_color = true;
        assert_eq!(Color::decide(None, &env), Color::default());
        assert_eq!(Color::decide(Some(ColorWhen::Always), &env), Color { stdout: true, stderr: true });
    }
}
