//! The verbs: create, list, delete, control.

use std::{
    env, fs,
    io::{BufRead, BufReader, ErrorKind, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

use super::{
    context,
    control::{FirstWord, LabInfo, LabState, Request, Response},
    control_client, create_exec,
    layout::{Folders, Layout},
    owner_exec, preflight, preflight_exec,
    process_exec::{self, local},
    spec::{self, Lab, Spec},
    supervisor,
};
use crate::model::{Failure, failure::Cause, fleet::Lifecycle};

/// Namespace, taps and BMCs stand within this, even beside other laboratories.
const READY: Duration = Duration::from_secs(60);
/// A supervisor that was told to end has ended its machines within this.
const ENDED: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// How much of the supervisor's log a failure quotes.
const QUOTE_MAX: usize = 800;

/// Makes a laboratory and waits until every BMC of it answers.
///
/// A dead laboratory of that name is replaced, files and all. Gives the path of the inventory.
pub fn create(spec: &Spec) -> Result<PathBuf, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let lab = Lab::plan(spec, Uuid::new_v4(), u64::try_from(now.as_millis()).unwrap_or(u64::MAX))?;
    let host = if spec.simulated.is_some() { preflight_exec::look_simulated() } else { preflight_exec::look() };
    preflight::check(&lab.name, &host)?;
    let folders = folders()?;
    let dir = match &spec.dir {
        Some(dir) => std::path::absolute(dir).map_err(|e| local(format!("find {}", dir.display()), e))?,
        None => folders.entry(&lab.name),
    };
    let layout = Layout::new(&dir);
    layout.check(&lab)?;
    // Held while files are made; the supervisor takes it over below.
    let ownership = owner_exec::take(&lab.name, &dir)?;
    if let Some(old) = registered(&folders, &lab.name)? {
        ownership.clean(&old)?;
        remove_files(&lab.name, &old)?;
        unregister(&folders, &lab.name)?;
    }
    ownership.clean(&layout)?;
    make_empty(&lab.name, &dir)?;
    // Registered before it is filled: whatever fails from here on, `delete` finds it.
    register(&folders, &lab.name, &dir)?;
    let made = create_exec::fill(&lab, &layout);
    drop(ownership);
    let ready = made.and_then(|()| start(&lab, &layout, spec.program.as_deref())).and_then(|()| {
        let inventory = layout.inventory();
        edit_config(&folders.config, |text| {
            context::with(text, &context::context(&lab.name), &inventory.display().to_string()).map(Some)
        })
    });
    match ready {
        Ok(()) => Ok(layout.inventory()),
        Err(failure) => {
            // The failure quotes the log; leaving half a laboratory behind helps nobody.
            if let Err(second) = delete(&lab.name) {
                return Err(Failure { why: format!("{}; and then: {second}", failure.why), ..failure });
            }
            Err(failure)
        }
    }
}

/// Every laboratory that is registered. What a dead one left running is cleaned away, its files stay.
pub fn list() -> Result<Vec<LabInfo>, Failure> {
    let folders = folders()?;
    let what = || format!("list {}", folders.labs.display());
    let entries = match fs::read_dir(&folders.labs) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| local(what(), e))?,
    };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let mut all = Vec::new();
    for name in names {
        let Some(layout) = registered(&folders, &name)? else { continue };
        let Ok(lab) = load(&layout) else { continue };
        let pid = process_exec::recorded(&layout.pid()).filter(process_exec::is_alive).map(|process| process.pid);
        // Only who may clean does: for another user a dead laboratory is listed as such and left alone.
        if pid.is_none()
            && nix::unistd::geteuid().is_root()
            && let Ok(ownership) = owner_exec::take(&name, &layout.dir)
        {
            ownership.clean(&layout)?;
            ownership.forget();
        }
        let of = |lifecycle| lab.machines.iter().filter(|m| m.lifecycle == lifecycle).count() as u32;
        all.push(LabInfo {
            state: if pid.is_some() { LabState::Running } else { LabState::Dead },
            nodes: of(Lifecycle::Active),
            spares: of(Lifecycle::Spare),
            inventory: layout.inventory(),
            context: context::context(&name),
            namespace: lab.netns(),
            since_ms: lab.created_ms,
            pid,
            dir: layout.dir,
            name,
        });
    }
    Ok(all)
}

/// Ends a laboratory and removes everything of it: processes, namespace, context, files.
pub fn delete(name: &str) -> Result<(), Failure> {
    let folders = folders()?;
    let layout = found(&folders, name)?;
    if let Some(supervisor) = process_exec::recorded(&layout.pid()).filter(process_exec::is_alive) {
        let asked = control_client::ask(name, &layout.control(), &Request::Shutdown);
        let until = Instant::now() + if asked.is_ok() { ENDED } else { Duration::ZERO };
        while process_exec::is_alive(&supervisor) && Instant::now() < until {
            std::thread::sleep(POLL);
        }
        process_exec::end(&supervisor)?;
    }
    let ownership = owner_exec::take(name, &layout.dir)?;
    ownership.clean(&layout)?;
    remove_files(name, &layout)?;
    unregister(&folders, name)?;
    edit_config(&folders.config, |text| context::without(text, &context::context(name)))?;
    ownership.forget();
    Ok(())
}

/// One question to the laboratory's supervisor.
pub fn control(name: &str, request: &Request) -> Result<Response, Failure> {
    control_client::ask(name, &found(&folders()?, name)?.control(), request)
}

/// Where the laboratory's files are.
pub fn layout(name: &str) -> Result<Layout, Failure> {
    found(&folders()?, name)
}

pub fn load(layout: &Layout) -> Result<Lab, Failure> {
    let path = layout.lab();
    let what = || format!("read {}", path.display());
    let bytes = fs::read(&path).map_err(|e| local(what(), e))?;
    let lab: Lab = serde_json::from_slice(&bytes).map_err(|e| Failure::new(Cause::Malformed, what(), e.to_string()))?;
    if lab.version != Lab::VERSION {
        return Err(Failure::new(
            Cause::Malformed,
            what(),
            format!("it has version {}, this program reads {}", lab.version, Lab::VERSION),
        ));
    }
    Ok(lab)
}

fn folders() -> Result<Folders, Failure> {
    Folders::from(env::var_os("XDG_STATE_HOME"), env::var_os("XDG_CONFIG_HOME"), env::var_os("HOME"))
}

/// The directory behind the registry entry: a folder, or a link to one elsewhere.
fn registered(folders: &Folders, name: &str) -> Result<Option<Layout>, Failure> {
    let entry = folders.entry(name);
    match fs::symlink_metadata(&entry) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(local(format!("lab {name}: look at {}", entry.display()), error)),
        Ok(meta) if meta.is_symlink() => fs::read_link(&entry)
            .map(|dir| Some(Layout::new(dir)))
            .map_err(|e| local(format!("lab {name}: find it"), e)),
        Ok(_) => Ok(Some(Layout::new(entry))),
    }
}

fn found(folders: &Folders, name: &str) -> Result<Layout, Failure> {
    spec::check_name(name)?;
    registered(folders, name)?.ok_or_else(|| {
        Failure::new(
            Cause::Refused,
            format!("lab {name}: find it"),
            format!("there is no such laboratory in {}", folders.labs.display()),
        )
        .next("rackctl lab list")
    })
}

fn register(folders: &Folders, name: &str, dir: &Path) -> Result<(), Failure> {
    let entry = folders.entry(name);
    if entry == dir {
        return Ok(());
    }
    create_exec::folder(&folders.labs)?;
    std::os::unix::fs::symlink(dir, &entry).map_err(|e| local(format!("lab {name}: register it"), e))
}

/// A link only: a folder in the registry is the laboratory itself, and [`remove_files`] has removed it.
fn unregister(folders: &Folders, name: &str) -> Result<(), Failure> {
    process_exec::remove_if_there(&folders.entry(name))
}

/// Removes a directory that says itself that it is this laboratory, and no other.
fn remove_files(name: &str, layout: &Layout) -> Result<(), Failure> {
    let what = || format!("lab {name}: remove {}", layout.dir.display());
    if !layout.dir.exists() {
        return Ok(());
    }
    let is_ours = match load(layout) {
        Ok(lab) => lab.name == name,
        // Made and not yet filled.
        Err(_) => fs::read_dir(&layout.dir).is_ok_and(|mut entries| entries.next().is_none()),
    };
    if !is_ours {
        return Err(Failure::new(Cause::Guard, what(), "its lab.json does not say that it is this laboratory")
            .next(format!("ls -la {}", layout.dir.display())));
    }
    fs::remove_dir_all(&layout.dir).map_err(|e| local(what(), e))
}

fn make_empty(name: &str, dir: &Path) -> Result<(), Failure> {
    let what = || format!("lab {name}: make {}", dir.display());
    if let Some(parent) = dir.parent() {
        create_exec::folder(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let empty = fs::read_dir(dir).map_err(|e| local(what(), e))?.next().is_none();
            if empty {
                return Ok(());
            }
            Err(Failure::new(Cause::Guard, what(), "it is there and not empty")
                .next(format!("rackctl lab create {name} --dir {}-2", dir.display())))
        }
        Err(error) => Err(local(what(), error)),
    }
}

/// Runs the supervisor and hears its first word.
fn start(lab: &Lab, layout: &Layout, program: Option<&Path>) -> Result<(), Failure> {
    let what = || format!("lab {}: start its supervisor", lab.name);
    let program = match program {
        Some(program) => program.to_owned(),
        None => env::current_exe().map_err(|e| local(what(), e))?,
    };
    let log = fs::OpenOptions::new().create(true).append(true).open(layout.log()).map_err(|e| local(what(), e))?;
    let mut child = Command::new(&program)
        .arg(supervisor::VERB)
        .arg(&layout.dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|e| local(what(), format!("{}: {e}", program.display())))?;
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut line = Vec::new();
            let read = BufReader::new(stdout).take(1 << 20).read_until(b'\n', &mut line);
            // Nobody listens after the deadline.
            let _ = sender.send(read.map(|_| line));
        });
    }
    let word = receiver.recv_timeout(READY);
    // The process that was started forks and ends at once; what goes on is its child.
    if word.is_err() {
        let _ = child.kill();
    }
    child.wait().map_err(|e| local(what(), e))?;
    let quote = || {
        let log = fs::read(layout.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(QUOTE_MAX)..]).trim().to_owned()
    };
    let line = match word {
        Ok(line) => line.map_err(|e| local(what(), e))?,
        Err(_) => {
            return Err(Failure::new(
                Cause::Deadline,
                what(),
                format!("no word from it in {} s; its log ends: {}", READY.as_secs(), quote()),
            ));
        }
    };
    match serde_json::from_slice(&line) {
        Ok(FirstWord::Ready { .. }) => Ok(()),
        Ok(FirstWord::Failed(failure)) => Err(failure),
        Err(_) => Err(local(what(), format!("it ended without a word; its log ends: {}", quote()))),
    }
}

/// Reads the configuration, changes it under a lock and writes it whole. `None` from `edit`: nothing to write.
fn edit_config(path: &Path, edit: impl Fn(&str) -> Result<Option<String>, String>) -> Result<(), Failure> {
    let what = || format!("edit {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(|e| local(what(), e))?;
    // Two laboratories made side by side edit one file; the folder is what both can lock.
    let folder = fs::File::open(folder).map_err(|e| local(what(), e))?;
    let _locked = nix::fcntl::Flock::lock(folder, nix::fcntl::FlockArg::LockExclusive)
        .map_err(|(_, error)| local(what(), error))?;
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        other => other.map_err(|e| local(what(), e))?,
    };
    let edited = edit(&text).map_err(|why| {
        Failure::new(Cause::Malformed, what(), why).next(format!("${{EDITOR:-vi}} {}", path.display()))
    })?;
    match edited {
        // Through a link to where the file really stands.
        Some(edited) => {
            let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            process_exec::write_atomically(&real, edited.as_bytes(), 0o600)
        }
        None => Ok(()),
    }
}
