//! Reads the inventory from files, folders or standard input: with what lies below it, the one file here that does I/O.

mod kept;
mod list;
pub mod rewrite;

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sha2::{Digest, Sha256};

use list::Listed;

use super::{
    check::{self, Object},
    effective::{self, Effective, Settled, effective},
    fault::{At, Fault, Faults, Report},
    kinds::Kind,
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

/// Files that are worth a thread.
const MIN_FILES_EACH: usize = 4;
/// Objects that are worth a thread, only to be forgotten.
const MIN_OBJECTS_EACH: usize = 1_000;

/// Reads, checks and resolves. Without sources: [`default_sources`] of the working directory.
///
/// # Errors
/// Every fault that was found, in all files, with file, line and suggestion.
pub fn load(sources: &[Source]) -> Result<Loaded, Faults> {
    load_all(sources, true)
}

/// As [`load`], without `Fleet::origins`: nobody asks where the values of all nodes come from.
pub fn load_values(sources: &[Source]) -> Result<Loaded, Faults> {
    load_all(sources, false)
}

/// As [`load_values`], for verbs that only look: what an earlier load kept below `folder` is taken, where no file has
/// changed since. Whatever is odd about it, or about the files, is a reason to read them.
pub fn load_to_look(sources: &[Source], folder: &Path) -> Result<Loaded, Faults> {
    let mut faults = Vec::new();
    let places = Places::of(sources, &mut faults)?;
    let slot = kept::Slot::of(&places, folder).filter(|_| faults.is_empty());
    if let Some(loaded) = slot.as_ref().and_then(kept::Slot::get) {
        return Ok(loaded);
    }
    let loaded = whole(places, false, faults)?;
    if let Some(slot) = slot {
        slot.put(&loaded);
    }
    Ok(loaded)
}

fn load_all(sources: &[Source], origins: bool) -> Result<Loaded, Faults> {
    let mut faults = Vec::new();
    whole(Places::of(sources, &mut faults)?, origins, faults)
}

/// Everything that a load depends on.
struct Places {
    /// Before the first file was looked at.
    began: SystemTime,
    /// As the operator named them; standard input is none.
    named: Vec<PathBuf>,
    here: PathBuf,
    home: Option<PathBuf>,
    /// [`fleet_id`]
    id: String,
    files: Vec<list::Listed>,
}

impl Places {
    fn of(sources: &[Source], faults: &mut Vec<Fault>) -> Result<Places, Faults> {
        let here = std::env::current_dir()
            .map_err(|e| alone(".", format!("the working directory cannot be read: {e}"), None))?;
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
        let named = sources.iter().filter_map(|s| if let Source::Path(path) = s { Some(path.clone()) } else { None });
        let began = SystemTime::now();
        let files = list::list(sources, &here, faults);
        Ok(Places { began, named: named.collect(), id: fleet_id(sources, &here), here, home, files })
    }
}

fn whole(places: Places, origins: bool, faults: Vec<Fault>) -> Result<Loaded, Faults> {
    let Places { here, home, id, files, .. } = places;
    let mut loaded = read(files, &here, home.as_deref(), origins, faults)?;
    if loaded.fleet.id.is_empty() {
        loaded.fleet.id = id;
    }
    Ok(loaded)
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

/// Everything behind the listing of files: the same for files, standard input and tests.
fn read(
    listed: Vec<Listed>,
    here: &Path,
    home: Option<&Path>,
    origins: bool,
    mut faults: Vec<Fault>,
) -> Result<Loaded, Faults> {
    let files: Vec<PathBuf> = listed.iter().map(|t| t.name.clone()).collect();
    let (mut report, mut warnings) = (Report::default(), Report::default());
    let numbered: Vec<(u32, Listed)> = (0..).zip(listed).collect();
    let objects = parallel::pieces(numbered, MIN_FILES_EACH, &mut report, |piece, report| {
        piece.into_iter().flat_map(|(number, file)| objects(number, file, here, home, report)).collect()
    });
    let index = effective::index(&objects);
    let nodes = effective(&objects, &index, origins, &mut report);
    rules::check(&objects, &index, &nodes, &files, &mut report, &mut warnings);
    drop(index);
    let fine = report.is_empty() && faults.is_empty();
    let places = if fine { places(&objects, &files) } else { BTreeMap::new() };
    let nodes: Vec<Settled> = if fine { nodes.into_iter().map(Effective::settled).collect() } else { Vec::new() };
    let (machines, others): (Vec<Object>, Vec<Object>) = objects.into_iter().partition(|o| o.kind == Kind::Node);
    // To give the memory of ten thousand trees back takes as long as to check them. Before they are resolved, which
    // takes as much.
    parallel::pieces(machines, MIN_OBJECTS_EACH, &mut report, |piece, _| {
        drop(piece);
        Vec::<()>::new()
    });
    let mut fleet = Fleet::default();
    if fine {
        fleet = resolve::fleet(&others, nodes, &mut report);
        fleet.places = places;
        name(&others, &mut fleet);
    }
    faults.extend(report.into_faults(&files));
    if faults.is_empty() {
        Ok(Loaded { fleet, warnings: warnings.into_faults(&files), files })
    } else {
        Err(Faults(faults))
    }
}

/// The objects of one file, checked against their schemas.
fn objects(number: u32, file: Listed, here: &Path, home: Option<&Path>, report: &mut Report) -> Vec<Object> {
    let mut objects = Vec::new();
    let whole = here.join(&file.name);
    let bytes = match file.text {
        Some(text) => text.into_bytes(),
        None => match bytes(&whole) {
            Ok(bytes) => bytes,
            Err(error) => {
                let at = At { file: number, line: 0, column: 0 };
                let help = list::help(&error).map(str::to_owned);
                report.add(at, "", format!("the file cannot be read: {error}"), help);
                return objects;
            }
        },
    };
    match std::str::from_utf8(&bytes) {
        Ok(content) => {
            for tree in yaml::read(number, content, report) {
                check::document(tree, report, &mut objects);
            }
        }
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            let at = At { file: number, line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 };
            report.add(at, "", "the file is not UTF-8 text", None);
        }
    }
    // The folder that paths in it are relative to; those of standard input are relative to the working directory.
    let base = whole.parent().unwrap_or(here);
    for object in &mut objects {
        anchor(object, base, home);
    }
    objects
}

/// One more than the limit, so that `yaml::read` sees what is too long.
fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(yaml::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
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
    let sites = || objects.iter().filter(|o| o.kind == Kind::Site);
    let label = |key: &str| {
        sites().find_map(|o| o.root.dig(&["metadata", "labels", key]).and_then(Tree::text).map(str::to_owned))
    };
    fleet.id = label("fleet").unwrap_or_default();
    fleet.context = label("lab").map(|name| format!("lab-{name}"));
}
