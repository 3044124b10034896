//! A laboratory for one test: the real program on emulated machines, and what is seen of both from outside.
//!
//! `RACKCTL_E2E=required` makes a missing host feature a failure instead of a skip. `RACKCTL_NODE_PROGRAM` names the
//! static node program where it is not in this target folder. What a failed test left to read is kept in `target/tmp/e2e-failed`.

#![allow(dead_code)] // no test uses all of it
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

pub mod eyes;
pub mod machines;
pub mod secrets;

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};
use rackctl::{
    lab::{
        layout::Layout,
        preflight::{self, Host, NEEDS, SIMULATED_NEEDS},
        simulated::{SSHD, SSHD_VARIABLE},
        spec::Lab,
    },
    run::keys::Keys,
    store::{Record, RunRecord, SqliteStore, Store},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A whole bring-up on two busy cores without KVM.
pub const BRING_UP: Duration = Duration::from_secs(600);
/// Any verb that only looks.
pub const LOOK: Duration = Duration::from_secs(90);
/// Packages are downloaded and unpacked once per target folder.
const BUILD: Duration = Duration::from_secs(900);

pub struct Bench {
    /// Of the laboratory: told apart from that of another checkout on this host.
    pub name: String,
    /// Short, because sockets lie below it.
    pub root: PathBuf,
    pub cache: PathBuf,
    pub layout: Layout,
    /// Of the environment, for every command.
    settings: Vec<(&'static str, OsString)>,
    said: AtomicUsize,
    _turn: Flock<fs::File>,
}

/// How a command ended.
pub struct Said {
    pub words: String,
    pub code: i32,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("`{}` is not one JSON document: {e}\n{self}", self.words))
    }
    /// Everything that a person saw.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }
    pub fn exits(self, code: i32) -> Said {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }
    pub fn tells(self, what: &[&str]) -> Said {
        for part in what {
            assert!(self.all().contains(part), "{part:?} is not said by {self}");
        }
        self
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (words, code, took) = (&self.words, self.code, self.took.as_secs_f32());
        write!(
            f,
            "`rackctl {words}`: exit {code} after {took:.1} s\n--- stdout\n{}\n--- stderr\n{}",
            self.out, self.err
        )
    }
}

/// A command under way; killed if it is dropped.
pub struct Going {
    pub child: Child,
    words: String,
    out: PathBuf,
    err: PathBuf,
    since: Instant,
    over: bool,
}

impl Going {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }
    /// What it has printed so far on both streams.
    pub fn so_far(&self) -> String {
        [&self.out, &self.err].map(|p| text(p)).concat()
    }
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
    /// SIGKILL, and reaped: it is a zombie no longer.
    pub fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said(-9)
    }
    pub fn wait(mut self, deadline: Duration) -> Said {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return self.said(status.code().unwrap_or(-1));
            }
            if self.since.elapsed() > deadline {
                let said = self.kill();
                panic!("still at work after {} s: {said}", deadline.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    fn said(&mut self, code: i32) -> Said {
        self.over = true;
        let (out, err) = (text(&self.out), text(&self.err));
        Said { words: self.words.clone(), code, out, err, took: self.since.elapsed() }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Until `look` says something; panics with `what` after `deadline`.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(since.elapsed() < deadline, "{what}: not within {} s", deadline.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Does all of it and fails once, with everything that was wrong: a bring-up for each finding would be dear.
pub struct Findings(Vec<String>);

impl Findings {
    pub fn new() -> Findings {
        Findings(Vec::new())
    }
    pub fn check(&mut self, check: impl FnOnce()) {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
            let text = panic.downcast_ref::<String>().cloned();
            self.0.push(text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default());
        }
    }
    pub fn none(self) {
        assert!(self.0.is_empty(), "{} findings:\n\n{}", self.0.len(), self.0.join("\n\n"));
    }
}

/// Makes a laboratory; `None` where this host cannot have one, which is said.
pub fn bench(test: &str, nodes: u32, spares: u32) -> Option<Bench> {
    let missing = NEEDS.iter().map(|(need, _)| *need).filter(|need| !is_there(need)).collect();
    let tun = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").map(drop).map_err(|e| e.to_string());
    let host = Host { root: nix::unistd::geteuid().is_root(), missing, tun, unknown_accel: None };
    if !can(test, &host) {
        return None;
    }
    let (nodes, spares) = (nodes.to_string(), spares.to_string());
    let program = vec![("RACKCTL_NODE_PROGRAM", node_program().into_os_string())];
    let bench = stand(test, &["--nodes", &nodes, "--spares", &spares], program);
    // Here and not within a plan, so that no deadline of a test has a download in it.
    let built = bench.rackctl(&["image", "build"], BUILD).exits(0);
    eprintln!("images ready after {:.1} s", built.took.as_secs_f32());
    Some(bench)
}

/// A laboratory of simulated machines. `sshd`: the program, and the folder of libraries that the system lacks.
pub fn simulated(test: &str, words: &[&str], sshd: Option<(PathBuf, Option<PathBuf>)>) -> Option<Bench> {
    let missing = SIMULATED_NEEDS
        .iter()
        .map(|(need, _)| *need)
        .filter(|need| if *need == SSHD { sshd.is_none() } else { !is_there(need) })
        .collect();
    let host = Host { root: nix::unistd::geteuid().is_root(), missing, tun: Ok(()), unknown_accel: None };
    if !can(test, &host) {
        return None;
    }
    let (program, libraries) = sshd?;
    let mut settings = vec![(SSHD_VARIABLE, program.into_os_string())];
    settings.extend(libraries.map(|folder| ("LD_LIBRARY_PATH", folder.into_os_string())));
    Some(stand(test, &[&["--simulated"], words].concat(), settings))
}

fn can(test: &str, host: &Host) -> bool {
    let Err(failure) = preflight::check(test, host) else { return true };
    assert!(std::env::var("RACKCTL_E2E").as_deref() != Ok("required"), "RACKCTL_E2E=required, and {failure}");
    eprintln!("SKIPPED: {failure}");
    false
}

fn stand(test: &str, words: &[&str], settings: Vec<(&'static str, OsString)>) -> Bench {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(target).unwrap();
    // One laboratory at a time: the machines of one are all that two cores carry.
    let turn = fs::OpenOptions::new().create(true).truncate(false).write(true).open(target.join("e2e.lock")).unwrap();
    let turn = Flock::lock(turn, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    let checkout = hex::encode(&Sha256::digest(env!("CARGO_MANIFEST_DIR"))[..2]);
    let name = format!("e2e-{test}-{checkout}");
    let root = std::env::temp_dir().join(format!("rackctl-{name}"));
    let layout = Layout::new(root.join("lab"));
    let cache = target.join("e2e-cache");
    let bench = Bench { layout, cache, name, root, settings, said: AtomicUsize::new(0), _turn: turn };
    bench.remove();
    fs::DirBuilder::new().mode(0o700).create(&bench.root).unwrap();
    for folder in ["said", "state", "config", "home"] {
        fs::create_dir(bench.root.join(folder)).unwrap();
    }
    let dir = bench.layout.dir.display().to_string();
    let made = bench.run(&[&["lab", "create", &bench.name, "--dir", &dir], words].concat(), LOOK).exits(0);
    eprintln!("laboratory ready after {:.2} s", made.took.as_secs_f32());
    assert_eq!(made.out.trim(), bench.layout.inventory().display().to_string(), "stdout is the path alone");
    bench
}

fn is_there(need: &str) -> bool {
    if need.starts_with('/') {
        return Path::new(need).is_file();
    }
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(need).is_file()))
}

/// The static program of installers and nodes. Without it nothing of this can be tested: that is no reason to skip.
fn node_program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = std::env::var_os("RACKCTL_NODE_PROGRAM")
        .map_or_else(|| target.join("x86_64-unknown-linux-gnu/node/rackctl-node"), PathBuf::from);
    assert!(
        program.is_file(),
        "{} is not there; build it: RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile node -p rackctl-node --target x86_64-unknown-linux-gnu",
        program.display()
    );
    program
}

impl Bench {
    /// With nothing of the caller's settings in it.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rackctl"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if (text.starts_with("RACKCTL_") && text != "RACKCTL_LAB_ACCEL")
                || text == "SUDO_USER"
                || text == "NO_COLOR"
            {
                command.env_remove(&name);
            }
        }
        command
            .args(words)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .env("HOME", self.root.join("home"))
            .env("XDG_STATE_HOME", self.root.join("state"))
            .env("XDG_CONFIG_HOME", self.root.join("config"))
            .env("XDG_CACHE_HOME", &self.cache)
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a command of which both streams are kept in files.
    pub fn start_command(&self, mut command: Command) -> Going {
        let words: Vec<String> = command.get_args().map(|w| w.to_string_lossy().into_owned()).collect();
        let number = self.said.fetch_add(1, Ordering::SeqCst);
        let file = |kind: &str| self.root.join("said").join(format!("{number:03}.{kind}"));
        let (out, err) = (file("out"), file("err"));
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let since = Instant::now();
        Going { child: command.spawn().unwrap(), words: words.join(" "), out, err, since, over: false }
    }

    /// On the laboratory's context.
    pub fn start(&self, words: &[&str]) -> Going {
        self.start_command(self.command(&[&["--context", &format!("lab-{}", self.name)], words].concat()))
    }
    pub fn rackctl(&self, words: &[&str], deadline: Duration) -> Said {
        self.start(words).wait(deadline)
    }
    /// A look, which takes no longer than a look may.
    pub fn look(&self, words: &[&str]) -> Said {
        self.rackctl(words, LOOK)
    }
    /// Without a context.
    pub fn run(&self, words: &[&str], deadline: Duration) -> Said {
        self.start_command(self.command(words)).wait(deadline)
    }

    /// Hash of the plan of these words.
    pub fn plan_hash(&self, words: &[&str]) -> String {
        let said = self.look(&[&["plan", "-o", "json"], words].concat());
        said.json()["metadata"]["hash"].as_str().unwrap().to_owned()
    }

    /// Folder of the fleet's store and keys.
    pub fn fleet_folder(&self) -> PathBuf {
        let mut found = fs::read_dir(self.root.join("state/rackctl/fleets")).unwrap().map(|e| e.unwrap().path());
        let folder = found.next().expect("a fleet has a folder");
        assert_eq!(found.next(), None, "one laboratory, one fleet");
        folder
    }
    pub fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.fleet_folder().join("state.db")).unwrap()
    }
    pub fn keys(&self) -> Keys {
        Keys::open(&self.fleet_folder().join("keys")).unwrap()
    }
    /// Newest first.
    /// Newest first; those of `power` and `boot set`, which are runs too, left out.
    pub fn runs(&self) -> Vec<RunRecord> {
        self.store().runs().unwrap().into_iter().filter(|r| !r.goal.is_short()).collect()
    }
    pub fn journal(&self, run: &str) -> Vec<Record> {
        self.store().journal(run).unwrap()
    }

    pub fn lab(&self) -> Lab {
        serde_json::from_slice(&fs::read(self.layout.lab()).unwrap()).unwrap()
    }

    /// Changes a manifest of the laboratory's inventory.
    pub fn edit(&self, file: &str, edit: impl Fn(String) -> String) {
        let path = self.layout.inventory().join(file);
        let before = fs::read_to_string(&path).unwrap();
        let after = edit(before.clone());
        assert_ne!(before, after, "nothing was edited in {file}");
        fs::write(path, after).unwrap();
    }

    fn remove(&self) {
        if !self.root.exists() {
            return;
        }
        if self.layout.dir.exists() {
            let gone = self.command(&["lab", "delete", &self.name]).output().unwrap();
            if !gone.status.success() {
                eprintln!("lab delete {}: {}", self.name, String::from_utf8_lossy(&gone.stderr));
            }
        }
        let _ = fs::remove_dir_all(&self.root);
    }

    /// What helps to understand a failure: consoles, the supervisor's log, everything that was said.
    fn keep(&self) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-failed").join(&self.name);
        let _ = fs::remove_dir_all(&kept);
        fs::create_dir_all(&kept).unwrap();
        let consoles = self.lab().machines.into_iter().map(|m| self.layout.machine(&m.name).serial_log());
        let said = fs::read_dir(self.root.join("said")).unwrap().map(|e| e.unwrap().path());
        for path in consoles.chain([self.layout.log()]).chain(said) {
            let name: PathBuf = path
                .strip_prefix(&self.root)
                .unwrap()
                .iter()
                .map(|p| p.to_string_lossy())
                .collect::<Vec<_>>()
                .join("-")
                .into();
            let _ = fs::copy(&path, kept.join(name));
        }
        let _ = fs::copy(self.fleet_folder().join("state.db"), kept.join("state.db"));
        eprintln!("kept for reading: {}", kept.display());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would end the test before the laboratory is gone.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.keep()));
        }
        self.remove();
    }
}
