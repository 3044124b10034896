//! Looks at processes and sockets from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::Bench;

/// A process as `/proc` shows it: number and start, which no two share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: i32,
    pub started: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Argument lists and environments, one entry a distinct value.
    pub said: BTreeSet<Vec<u8>>,
    pub name: String,
}

/// Parent and start of a process that is not a zombie.
fn stat(pid: i32) -> Option<(i32, u64, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (front, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?, front.split_once('(')?.1.to_owned()))
}

fn pids() -> Vec<i32> {
    fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// `parent` and all that came of it.
pub fn family(parent: i32) -> BTreeMap<Process, String> {
    let all: BTreeMap<i32, (i32, u64, String)> = pids().into_iter().filter_map(|p| Some((p, stat(p)?))).collect();
    let mut found = BTreeSet::from([parent]);
    loop {
        let more: Vec<i32> =
            all.iter().filter(|(p, (up, ..))| found.contains(up) && !found.contains(p)).map(|(p, _)| *p).collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found
        .into_iter()
        .filter_map(|pid| all.get(&pid).map(|(_, started, name)| (Process { pid, started: *started }, name.clone())))
        .collect()
}

pub fn is_alive(process: &Process) -> bool {
    stat(process.pid).is_some_and(|(_, started, _)| started == process.started)
}

/// Watches a process and its children until it is told to stop: what their argument lists and environments say.
pub struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeMap<Process, Seen>>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn begin(parent: i32) -> Watch {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
        let (told, notes) = (stop.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                for (process, name) in family(parent) {
                    let read = |file: &str| fs::read(format!("/proc/{}/{file}", process.pid)).unwrap_or_default();
                    let mut notes: std::sync::MutexGuard<'_, BTreeMap<Process, Seen>> = notes.lock().unwrap();
                    let entry = notes.entry(process.clone()).or_default();
                    entry.said.extend([read("cmdline"), read("environ")]);
                    entry.name = name;
                }
                std::thread::sleep(Duration::from_millis(60));
            }
        });
        Watch { stop, seen, thread: Some(thread) }
    }
    /// All that was seen, the watched process itself included.
    pub fn end(mut self) -> BTreeMap<Process, Seen> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Bench {
    /// Processes in the laboratory's namespace that are neither its supervisor nor its machines.
    pub fn strangers(&self) -> Vec<String> {
        let status = self.status();
        let space = fs::read_link(format!("/proc/{}/ns/net", status.pid)).unwrap();
        let own: Vec<i32> = status.machines.iter().filter_map(|m| m.pid).chain([status.pid]).collect();
        pids()
            .into_iter()
            .filter(|pid| !own.contains(pid))
            .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|s| s == space))
            .filter_map(|pid| stat(pid).map(|(.., name)| format!("{pid} {name}")))
            .collect()
    }

    /// `udp 67`, `tcp 8443`, `packet`: what listens in the laboratory's namespace, its BMCs left out.
    pub fn listening(&self) -> Vec<String> {
        let pid = self.status().pid;
        let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        let mut found = Vec::new();
        for kind in ["udp", "udp6", "tcp", "tcp6"] {
            for line in table(kind).lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let port = u16::from_str_radix(fields[1].rsplit_once(':').unwrap().1, 16).unwrap();
                // 0A: LISTEN. BMCs listen on 443 (Redfish) and 623 (IPMI).
                if (kind.starts_with("udp") || fields[3] == "0A") && ![443, 623].contains(&port) {
                    found.push(format!("{kind} {port}"));
                }
            }
        }
        found
            .extend(["packet", "raw", "raw6"].iter().filter(|k| table(k).lines().count() > 1).map(|k| (*k).to_owned()));
        found
    }
}
