//! Reads the inventory from files, folders or standard input: the one file here that does I/O.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{
    check::{self, Object},
    effective::{self, effective},
    fault::{At, Fault, Faults, Report},
    parallel, paths, resolve, rules,
    yaml::{self, Entry, Tree, Value},
};
use crate::model::Fleet;

/// Files that one load reads at most.
pub const MAX_FILES: usize = 20_000;
/// Folders inside each other.
pub const MAX_FOLDERS_DEEP: usize = 16;
/// Where the inventory stands unless something else is said, below the working directory.
pub const DEFAULT_FOLDERS: [&str; 3] = ["inventory", "profiles", "playbooks"];

/// Where manifests come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, or a folder of which every `*.yaml`, `*.yml` and `*.json` below is read, in order of their paths.
    /// Files and folders that begin with a dot are passed over.
    Path(PathBuf),
    /// Text that the caller read from standard input; paths in it are relative to the working directory.
    Stdin(String),
}

/// An inventory without faults.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub fleet: Fleet,
    /// What is probably not meant, but can be worked with.
    pub warnings: Vec<Fault>,
    /// The files that were read, as the operator named them.
    pub files: Vec<PathBuf>,
}

/// The default sources below a working directory: those of [`DEFAULT_FOLDERS`] that exist.
pub fn default_sources(directory: &Path) -> Vec<Source> {
    let folders = DEFAULT_FOLDERS.iter().map(|name| directory.join(name));
    folders.filter(|p| p.is_dir()).map(Source::Path).collect()
}

/// One text to read.
struct Text {
    name: PathBuf,
    /// Absolute folder that its paths are relative to.
    base: PathBuf,
    bytes: Vec<u8>,
}

/// Files that are worth a thread.
const MIN_FILES_EACH: usize = 4;
/// Objects that are worth a thread, only to be forgotten.
const MIN_OBJECTS_EACH: usize = 1_000;

/// Reads, checks and resolves. Without sources: [`default_sources`] of the working directory.
///
/// # Errors
/// Every fault that was found, in all files, with file, line and suggestion.
pub fn load(sources: &[Source]) -> Result<Loaded, Faults> {
    whole(sources, true)
}

/// As [`load`], without `Fleet::origins`: nobody asks where the values of all nodes come from.
pub fn load_values(sources: &[Source]) -> Result<Loaded, Faults> {
    whole(sources, false)
}

fn whole(sources: &[Source], origins: bool) -> Result<Loaded, Faults> {
    let here =
        std::env::current_dir().map_err(|e| alone(".", format!("the working directory cannot be read: {e}"), None))?;
    let defaults;
    let sources = match sources {
        [] => {
            defaults = default_sources(&here);
            if defaults.is_empty() {
                let help = "name files or folders with -f, or begin with `rackctl explain node`";
                return Err(alone(
                    ".",
                    "no inventory here: none of inventory/, profiles/, playbooks/ exists".into(),
                    Some(help),
                ));
            }
            &defaults
        }
        some => some,
    };
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute());
    let mut faults = Vec::new();
    let texts = texts(sources, &here, &mut faults);
    let loaded = read(texts, home.as_deref(), origins, faults);
    loaded.map(|mut loaded| {
        if loaded.fleet.id.is_empty() {
            loaded.fleet.id = fleet_id(sources, &here);
        }
        loaded
    })
}

fn alone(file: impl Into<PathBuf>, message: String, help: Option<&str>) -> Faults {
    Faults(vec![fault(file, message, help)])
}

fn fault(file: impl Into<PathBuf>, message: String, help: Option<&str>) -> Fault {
    let suggestion = help.map(str::to_owned);
    Fault { file: file.into(), line: 0, column: 0, path: String::new(), message, suggestion }
}

/// The first 12 hex digits of the SHA-256 of the sources' canonical paths, sorted: the same fleet whatever the order
/// of the flags, and whatever the working directory.
fn fleet_id(sources: &[Source], here: &Path) -> String {
    let canonical = |p: &Path| fs::canonicalize(p).unwrap_or_else(|_| here.join(p));
    let mut paths: Vec<PathBuf> = sources
        .iter()
        .map(|source| match source {
            Source::Path(path) => canonical(path),
            Source::Stdin(_) => canonical(here),
        })
        .collect();
    paths.sort();
    paths.dedup();
    let mut hash = Sha256::new();
    for path in paths {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..6])
}

fn texts(sources: &[Source], here: &Path, faults: &mut Vec<Fault>) -> Vec<Text> {
    let mut texts = Vec::new();
    // A file that two sources name is read once.
    let mut seen = std::collections::HashSet::new();
    for source in sources {
        match source {
            Source::Stdin(text) => {
                texts.push(Text { name: "stdin".into(), base: here.to_owned(), bytes: text.clone().into_bytes() });
            }
            Source::Path(path) if path.is_dir() => {
                folder(path, here, 0, &mut seen, &mut texts, faults);
            }
            Source::Path(path) => file(path, here, &mut seen, &mut texts, faults),
        }
    }
    if texts.is_empty() && faults.is_empty() {
        let folders = sources.iter().filter_map(|s| if let Source::Path(path) = s { Some(path) } else { None });
        faults
            .extend(folders.map(|path| fault(path.clone(), "no *.yaml, *.yml or *.json in this folder".into(), None)));
    }
    texts
}

type Seen = std::collections::HashSet<PathBuf>;

fn folder(path: &Path, here: &Path, depth: usize, seen: &mut Seen, texts: &mut Vec<Text>, faults: &mut Vec<Fault>) {
    if depth > MAX_FOLDERS_DEEP {
        return faults.push(fault(path, format!("more than {MAX_FOLDERS_DEEP} folders inside each other"), None));
    }
    // A link to a folder above would be read without end.
    if !seen.insert(fs::canonicalize(path).unwrap_or_else(|_| here.join(path))) {
        return;
    }
    let listed =
        fs::read_dir(path).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>());
    let mut entries = match listed {
        Ok(entries) => entries,
        Err(error) => return faults.push(fault(path, format!("the folder cannot be read: {error}"), None)),
    };
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        let manifest = entry.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "yaml" | "yml" | "json"));
        if hidden {
            continue;
        } else if entry.is_dir() {
            folder(&entry, here, depth + 1, seen, texts, faults);
        } else if manifest && entry.is_file() && !is_lock(&entry) {
            file(&entry, here, seen, texts, faults);
        }
    }
}

/// `rackctl.lock.yaml` holds what was observed, not what is wanted.
fn is_lock(path: &Path) -> bool {
    path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("rackctl.lock."))
}

fn file(path: &Path, here: &Path, seen: &mut Seen, texts: &mut Vec<Text>, faults: &mut Vec<Fault>) {
    let whole = here.join(path);
    if !seen.insert(fs::canonicalize(&whole).unwrap_or_else(|_| whole.clone())) {
        return;
    }
    if texts.len() >= MAX_FILES {
        if texts.len() == MAX_FILES {
            faults.push(fault(path, format!("more than {MAX_FILES} files"), None));
        }
        return;
    }
    // `/dev/stdin`, a pipe of a shell (`<(…)`) are files too; the limit holds for them as well.
    let bytes = fs::File::open(&whole).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(yaml::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    match bytes {
        Ok(bytes) => {
            let base = whole.parent().map(Path::to_path_buf).unwrap_or_else(|| here.to_owned());
            texts.push(Text { name: path.to_owned(), base, bytes });
        }
        Err(error) => {
            let help = (error.kind() == std::io::ErrorKind::NotFound)
                .then_some("check the path after -f (or RACKCTL_INVENTORY)");
            faults.push(fault(path, format!("the file cannot be read: {error}"), help));
        }
    }
}

/// Everything behind the reading of files: the same for files, standard input and tests.
fn read(texts: Vec<Text>, home: Option<&Path>, origins: bool, mut faults: Vec<Fault>) -> Result<Loaded, Faults> {
    let files: Vec<PathBuf> = texts.iter().map(|t| t.name.clone()).collect();
    let (mut report, mut warnings) = (Report::default(), Report::default());
    let numbered: Vec<(u32, Text)> = (0..).zip(texts).collect();
    let objects = parallel::pieces(numbered, MIN_FILES_EACH, &mut report, |piece, report| {
        piece.into_iter().flat_map(|(number, text)| objects(number, &text, home, report)).collect()
    });
    let index = effective::index(&objects);
    let nodes = effective(&objects, &index, origins, &mut report);
    rules::check(&objects, &index, &nodes, &files, &mut report, &mut warnings);
    let mut fleet = Fleet::default();
    if report.is_empty() && faults.is_empty() {
        fleet = resolve::fleet(&objects, nodes, &mut report);
        fleet.places = places(&objects, &files);
        name(&objects, &mut fleet);
    }
    drop(index);
    // To give the memory of ten thousand trees back takes as long as to check them.
    parallel::pieces(objects, MIN_OBJECTS_EACH, &mut report, |piece, _| {
        drop(piece);
        Vec::<()>::new()
    });
    faults.extend(report.into_faults(&files));
    if faults.is_empty() {
        Ok(Loaded { fleet, warnings: warnings.into_faults(&files), files })
    } else {
        Err(Faults(faults))
    }
}

/// The objects of one file, checked against their schemas.
fn objects(number: u32, text: &Text, home: Option<&Path>, report: &mut Report) -> Vec<Object> {
    let mut objects = Vec::new();
    match std::str::from_utf8(&text.bytes) {
        Ok(content) => {
            for tree in yaml::read(number, content, report) {
                check::document(tree, report, &mut objects);
            }
        }
        Err(error) => {
            let line = text.bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            let at = At { file: number, line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 };
            report.add(at, "", "the file is not UTF-8 text", None);
        }
    }
    for object in &mut objects {
        anchor(object, &text.base, home);
    }
    objects
}

fn anchor(object: &mut Object, base: &Path, home: Option<&Path>) {
    let Value::Map(entries) = &mut object.root.value else { return };
    for Entry { value, .. } in Arc::make_mut(entries).iter_mut().filter(|e| e.key == "spec") {
        paths::anchor(object.kind, value, base, home);
    }
}

fn places(objects: &[Object], files: &[PathBuf]) -> BTreeMap<String, String> {
    let place =
        |at: At| files.get(at.file as usize).map_or_else(String::new, |f| format!("{}:{}", f.display(), at.line));
    objects.iter().map(|o| (o.id(), place(o.root.at))).collect()
}

/// The labels `fleet` (the id, instead of the hash of paths) and `lab` (the laboratory's name) of a Site.
fn name(objects: &[Object], fleet: &mut Fleet) {
    let sites = || objects.iter().filter(|o| o.kind == super::kinds::Kind::Site);
    let label = |key: &str| {
        sites().find_map(|o| o.root.dig(&["metadata", "labels", key]).and_then(Tree::text).map(str::to_owned))
    };
    fleet.id = label("fleet").unwrap_or_default();
    fleet.context = label("lab").map(|name| format!("lab-{name}"));
}
