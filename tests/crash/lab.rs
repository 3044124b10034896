//! A simulated laboratory for one crash: made afresh, looked at from outside, gone afterwards.
#![allow(dead_code)] // each test binary uses a part of it

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use rackctl::{
    lab::{
        Request, Response,
        control::{LabStatus, MachineStatus},
        layout::Layout,
        simulated::SSHD_VARIABLE,
    },
    store::SqliteStore,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    point::Point,
    tracer::{self, Traced},
};
use crate::cluster_support::sshd;

pub struct Lab {
    pub name: String,
    pub root: PathBuf,
    layout: Layout,
    pub keep: bool,
    /// For every command: `RACKCTL_STORE`, `RACKCTL_LEASE`.
    pub variables: Vec<(&'static str, String)>,
    /// Number of the next file of what was said.
    said: AtomicUsize,
}

pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}: {} {}", self.code, last_lines(&self.out), last_lines(&self.err))
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let text = lines[lines.len().saturating_sub(6)..].join(" | ");
    text.chars().take(700).collect()
}

/// Why this host cannot have laboratories of simulated machines.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("simulated laboratories want root".into());
    }
    sshd::program().is_none().then(|| "there is no sshd".into())
}

impl Lab {
    /// `slot`: laboratories of different slots stand beside each other.
    pub fn create(slot: &str, words: &[&str]) -> Result<Lab, String> {
        let checkout = hex::encode(&Sha256::digest(env!("CARGO_MANIFEST_DIR"))[..2]);
        let name = format!("cp-{checkout}-{slot}");
        // Short, because sockets lie below it.
        let root = std::env::temp_dir().join(format!("rackctl-{name}"));
        let layout = Layout::new(root.join("lab"));
        let lab = Lab { layout, root, name, keep: false, variables: vec![], said: AtomicUsize::new(0) };
        lab.remove();
        for folder in ["said", "state", "config", "home", "cache"] {
            fs::create_dir_all(lab.root.join(folder)).map_err(|e| e.to_string())?;
        }
        let dir = lab.layout.dir.display().to_string();
        let said = lab.run(&[&["lab", "create", &lab.name, "--simulated", "--dir", &dir], words].concat());
        if said.code != 0 {
            return Err(format!("no laboratory: {said}"));
        }
        Ok(lab)
    }

    fn command(&self, words: &[&str]) -> Command {
        // A copy, where the program is built anew while hundreds of runs are under way.
        let program = super::sweep::setting("PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_rackctl").to_owned());
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("RACKCTL_") || text == "SUDO_USER" || text == "NO_COLOR" {
                command.env_remove(&name);
            }
        }
        command.args(words).current_dir(&self.root).envs(self.variables.iter().map(|(n, v)| (n, v)));
        for (name, folder) in
            [("HOME", "home"), ("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache")]
        {
            command.env(name, self.root.join(folder));
        }
        if words.first() == Some(&"lab")
            && let Some((program, libraries)) = sshd::program()
        {
            command.env(SSHD_VARIABLE, program);
            if let Some(folder) = libraries {
                command.env::<_, OsString>("LD_LIBRARY_PATH", folder.into());
            }
        }
        command
    }

    /// Another operator: state of their own, which is what the first one's is now.
    pub fn second_operator(&self, name: &str) {
        let copied = Command::new("cp").arg("-a").arg(self.root.join("state")).arg(self.root.join(name)).status();
        assert!(copied.unwrap().success());
    }

    /// Both streams into files; `state`: whose.
    pub fn start_as(&self, state: &str, words: &[&str]) -> Going {
        let mut command = self.on_context(words);
        command.env("XDG_STATE_HOME", self.root.join(state));
        let [out, err] = self.files(words);
        command.stdin(Stdio::null());
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        Going { child: command.spawn().unwrap(), out, err }
    }

    fn on_context(&self, words: &[&str]) -> Command {
        self.command(&[&["--context", &format!("lab-{}", self.name)], words].concat())
    }

    fn files(&self, words: &[&str]) -> [PathBuf; 2] {
        let number = self.said.fetch_add(1, Ordering::SeqCst);
        let word = words.first().copied().unwrap_or_default();
        ["out", "err"].map(|kind| self.root.join(format!("said/{number:02}-{word}.{kind}")))
    }

    fn finish(&self, words: &[&str], mut command: Command) -> Said {
        let [out, err] = self.files(words);
        command.stdin(Stdio::null());
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let code = command.status().unwrap().code().unwrap_or(-1);
        Said { code, out: text(&out), err: text(&err) }
    }

    /// Without a context.
    pub fn run(&self, words: &[&str]) -> Said {
        self.finish(words, self.command(words))
    }

    /// On the laboratory's context.
    pub fn rackctl(&self, words: &[&str]) -> Said {
        self.finish(words, self.on_context(words))
    }

    /// As an operator of this name.
    pub fn rackctl_as(&self, user: &str, words: &[&str]) -> Said {
        let mut command = self.on_context(words);
        command.env("USER", user);
        self.finish(words, command)
    }

    /// The same under the tracer.
    pub fn traced(&self, words: &[&str], point: Option<Point>, deadline: Duration) -> (Traced, Said) {
        let [out, err] = self.files(words);
        let traced = tracer::run(&self.on_context(words), &out, &err, point, deadline);
        let said = Said { code: traced.code, out: text(&out), err: text(&err) };
        (traced, said)
    }

    /// `plan` with these words: its hash.
    pub fn plan_hash(&self, of: &[&str]) -> Result<String, String> {
        let said = self.rackctl(&[&["plan", "-o", "json"], of].concat());
        let value: Value = serde_json::from_str(&said.out).map_err(|e| format!("plan: {e}: {said}"))?;
        value["metadata"]["hash"].as_str().map(str::to_owned).ok_or_else(|| format!("a plan without a hash: {said}"))
    }

    fn ask(&self, request: &Request) -> Result<Response, String> {
        let fault = |e: std::io::Error| format!("the laboratory does not answer: {e}");
        let mut stream = UnixStream::connect(self.layout.control()).map_err(fault)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(fault)?;
        let question = serde_json::to_vec(request).map_err(|e| e.to_string())?;
        stream.write_all(&question).and_then(|()| stream.write_all(b"\n")).map_err(fault)?;
        let mut answer = Vec::new();
        BufReader::new(stream).take(8 << 20).read_until(b'\n', &mut answer).map_err(fault)?;
        serde_json::from_slice(&answer).map_err(|e| format!("an answer of the laboratory: {e}"))
    }

    pub fn status(&self) -> Result<LabStatus, String> {
        match self.ask(&Request::Status)? {
            Response::Status { status } => Ok(status),
            other => Err(format!("no status but {other:?}")),
        }
    }

    pub fn machines(&self) -> Result<Vec<MachineStatus>, String> {
        Ok(self.status()?.machines)
    }

    /// Entries of the log of the node's BMC.
    pub fn requests(&self, node: &str) -> Result<Vec<Value>, String> {
        match self.ask(&Request::Requests { node: node.into() })? {
            Response::Requests { requests } => Ok(requests),
            other => Err(format!("no requests but {other:?}")),
        }
    }

    /// `None`: no command has made one yet.
    pub fn store(&self) -> Option<SqliteStore> {
        self.store_of("state")
    }

    pub fn store_of(&self, state: &str) -> Option<SqliteStore> {
        let fleets = fs::read_dir(self.root.join(state).join("rackctl/fleets")).ok()?;
        let path = fleets.filter_map(|e| Some(e.ok()?.path().join("state.db"))).find(|p| p.exists())?;
        SqliteStore::open(&path).ok()
    }

    /// What the machine answers to a command over SSH.
    pub fn node(&self, node: &str, words: &[&str]) -> Result<Value, String> {
        let words = words.iter().map(|w| (*w).to_owned()).collect();
        match self.ask(&Request::Node { node: node.into(), words, stdin: String::new() })? {
            Response::Node { said } => serde_json::from_str(&said.stdout).map_err(|e| format!("{e}: {said:?}")),
            other => Err(format!("no answer of {node} but {other:?}")),
        }
    }

    /// `POST` of an empty question to the etcd member at this address, from within the laboratory.
    pub fn etcd(&self, address: Ipv4Addr, path: &str) -> Result<Value, String> {
        let space = fs::File::open(format!("/run/netns/rackctl-{}", self.name)).map_err(|e| e.to_string())?;
        let path = path.to_owned();
        // A thread of its own: namespaces are of threads.
        let asked = std::thread::spawn(move || -> Result<Value, String> {
            nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).map_err(|e| e.to_string())?;
            let mut stream = TcpStream::connect((address, 2379)).map_err(|e| e.to_string())?;
            stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| e.to_string())?;
            let request = format!("POST {path} HTTP/1.0\r\nContent-Length: 2\r\n\r\n{{}}");
            stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
            let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
            serde_json::from_str(body).map_err(|e| format!("{e}: {answer}"))
        });
        asked.join().map_err(|_| "the question panicked".to_owned())?
    }

    /// Processes in the namespace where runs serve; the machines have one of their own.
    pub fn inside(&self) -> Vec<String> {
        let Ok(space) = fs::metadata(format!("/run/netns/rackctl-{}", self.name)) else { return vec![] };
        let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().into_string().ok());
        pids.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()))
            .filter(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| m.ino() == space.ino()))
            .map(|pid| format!("{pid} {}", fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim()))
            .collect()
    }

    fn remove(&self) {
        if self.layout.dir.exists() {
            let _ = self.command(&["lab", "delete", &self.name]).output();
        }
        let _ = fs::remove_dir_all(&self.root);
    }

    /// Copies what helps to understand a failure to `to`.
    pub fn save(&self, to: &Path) {
        let _ = fs::remove_dir_all(to);
        let _ = fs::create_dir_all(to);
        let mut files: Vec<PathBuf> = vec![self.layout.log()];
        let said = fs::read_dir(self.root.join("said"));
        files.extend(said.into_iter().flatten().filter_map(|e| Some(e.ok()?.path())));
        files.extend(
            fs::read_dir(self.root.join("state/rackctl/fleets"))
                .into_iter()
                .flatten()
                .filter_map(|e| Some(e.ok()?.path().join("state.db"))),
        );
        for machine in self.machines().unwrap_or_default() {
            files.push(machine.serial_log.clone());
            let name = to.join(format!("{}.bmc.json", machine.name));
            let _ = fs::write(name, serde_json::to_vec(&self.requests(&machine.name).unwrap_or_default()).unwrap());
        }
        for path in files {
            let name: Vec<String> =
                path.strip_prefix(&self.root).unwrap_or(&path).iter().map(|p| p.to_string_lossy().into()).collect();
            let _ = fs::copy(&path, to.join(name.join("-")));
        }
    }
}

/// A command under way; killed when dropped.
pub struct Going {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Going {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `None`: not within this time.
    pub fn wait(&mut self, deadline: Duration) -> Option<Said> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let code = status.code().unwrap_or(-1);
                return Some(Said { code, out: text(&self.out), err: text(&self.err) });
            }
            if since.elapsed() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.keep {
            self.remove();
        }
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
