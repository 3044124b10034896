//! Runs a program under ptrace, counts what it and its children enter of some system calls, and kills at a point.
//!
//! Counting is over all threads of a role in the order of time; what `strace -e inject=…:when=N` counts, each thread for
//! itself, cannot name every call of a program of many threads once. A seccomp filter stops at these calls alone, so
//! that the program is hardly slower.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    fs,
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::point::{CALLS, Call, Point, Role};

/// After the death of the traced program its children may live for so long.
pub const GONE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Traced {
    pub counts: BTreeMap<(Role, Call), u64>,
    /// Programs of the children that entered a call, and how often.
    pub children: BTreeMap<String, u64>,
    /// Name of the process that was killed at the point; `None`: the point was not reached.
    pub hit: Option<String>,
    /// Exit code of the program itself, or the number of the signal below 0.
    pub code: i32,
    /// Children that outlived it by more than [`GONE`], by name.
    pub strays: Vec<String>,
    pub took: Duration,
}

/// `deadline`: the program is killed then.
pub fn run(command: &Command, out: &Path, err: &Path, point: Option<Point>, deadline: Duration) -> Traced {
    let root = start(command, out, err);
    let since = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let guard = std::thread::spawn({
        let over = over.clone();
        move || {
            while !over.load(Ordering::SeqCst) {
                if since.elapsed() > deadline {
                    let _ = kill(Pid::from_raw(root), Signal::SIGKILL);
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    let mut tracer = Tracer { root, point, ..Tracer::default() };
    let mut ended: Option<Instant> = None;
    loop {
        // Tracees of this thread alone: other threads trace other programs.
        let mut flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        flags.set(WaitPidFlag::WNOHANG, ended.is_some());
        match waitpid(None, Some(flags)) {
            Ok(WaitStatus::StillAlive) => {
                if ended.is_some_and(|at| at.elapsed() > GONE) {
                    tracer.end_strays();
                    ended = None;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(status) => {
                if tracer.see(status) {
                    ended = Some(Instant::now());
                    over.store(true, Ordering::SeqCst);
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    let _ = guard.join();
    tracer.result.took = since.elapsed();
    tracer.result
}

#[derive(Default)]
struct Tracer {
    root: i32,
    point: Option<Point>,
    /// The harness's own exec is behind us.
    begun: bool,
    /// Threads that are traced, and the process that each is of.
    process: BTreeMap<i32, i32>,
    result: Traced,
}

impl Tracer {
    /// True when the program itself has ended.
    fn see(&mut self, status: WaitStatus) -> bool {
        match status {
            WaitStatus::Exited(pid, code) => {
                self.process.remove(&pid.as_raw());
                if pid.as_raw() == self.root {
                    self.result.code = code;
                    return true;
                }
            }
            WaitStatus::Signaled(pid, signal, _) => {
                self.process.remove(&pid.as_raw());
                if pid.as_raw() == self.root {
                    self.result.code = -(signal as i32);
                    return true;
                }
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                if event == libc::PTRACE_EVENT_EXEC {
                    self.begun = true;
                    self.process.insert(pid.as_raw(), pid.as_raw());
                }
                if event == libc::PTRACE_EVENT_SECCOMP {
                    self.enters(pid);
                }
                go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => {
                // A new thread or child begins with a stop that is ours, not its own.
                let first = !self.process.contains_key(&pid.as_raw());
                self.process_of(pid);
                let pass = if first && signal == Signal::SIGSTOP { None } else { Some(signal) };
                go_on(pid, pass);
            }
            _ => {}
        }
        false
    }

    fn process_of(&mut self, thread: Pid) -> i32 {
        *self.process.entry(thread.as_raw()).or_insert_with(|| {
            let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
            let line = status.lines().find_map(|l| l.strip_prefix("Tgid:"));
            line.and_then(|l| l.trim().parse().ok()).unwrap_or(thread.as_raw())
        })
    }

    fn enters(&mut self, thread: Pid) {
        let Some((call, ..)) = event_message(thread).and_then(|place| CALLS.get(place)) else {
            return;
        };
        if !self.begun {
            return;
        }
        let process = self.process_of(thread);
        let role = if process == self.root { Role::Main } else { Role::Child };
        let count = self.result.counts.entry((role, *call)).or_default();
        *count += 1;
        let name = || name(process);
        if role == Role::Child {
            *self.result.children.entry(name()).or_default() += 1;
        }
        if self.point == Some(Point { role, call: *call, number: *count }) && self.result.hit.is_none() {
            self.result.hit = Some(name());
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
    }

    fn end_strays(&mut self) {
        let left: BTreeSet<i32> = self.process.values().copied().collect();
        for process in left {
            // Without a command line it has no memory of its own any more: the kernel is taking it apart.
            let name = name(process);
            if !name.is_empty() {
                self.result.strays.push(name);
            }
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
    }
}

/// One that was killed meanwhile does not go on, and need not.
fn go_on(thread: Pid, signal: Option<Signal>) {
    // SAFETY: numbers alone.
    unsafe { libc::ptrace(libc::PTRACE_CONT, thread.as_raw(), 0, signal.map_or(0, |s| s as i32)) };
}

fn event_message(thread: Pid) -> Option<usize> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one word to where `message` is.
    let got = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, thread.as_raw(), 0, &raw mut message) };
    (got == 0).then_some(message as usize)
}

/// `ssh`, or the second word where it is rackctl itself.
fn name(process: i32) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let program = words.first().map(|w| w.rsplit('/').next().unwrap_or_default().to_owned()).unwrap_or_default();
    match words.get(1) {
        Some(second) if program.starts_with("rackctl") => format!("{program} {second}"),
        _ => program,
    }
}

fn filter() -> Vec<libc::sock_filter> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let word = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let numbers: Vec<(u32, u32)> = CALLS
        .iter()
        .enumerate()
        .flat_map(|(place, (_, _, numbers))| numbers.iter().map(move |n| (*n as u32, place as u32)))
        .collect();
    // Offset 0 of seccomp_data is the number of the call. Laboratories are of one architecture: the caller's.
    let mut program = vec![word(LOAD, 0)];
    for (number, place) in numbers {
        program.push(libc::sock_filter { code: EQUAL, jt: 0, jf: 1, k: number });
        program.push(word(RETURN, libc::SECCOMP_RET_TRACE | place));
    }
    program.push(word(RETURN, libc::SECCOMP_RET_ALLOW));
    program
}

/// Forked here and not by `Command`, which waits for the exec that this thread has to let go on.
fn start(command: &Command, out: &Path, err: &Path) -> i32 {
    let text = |t: &std::ffi::OsStr| CString::new(t.as_bytes()).unwrap();
    let program = text(command.get_program());
    let words: Vec<CString> = std::iter::once(program.clone()).chain(command.get_args().map(text)).collect();
    let mut variables: BTreeMap<_, _> = std::env::vars_os().collect();
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => variables.insert(name.to_owned(), value.to_owned()),
            None => variables.remove(name),
        };
    }
    let variables: Vec<CString> = variables
        .iter()
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).unwrap())
        .collect();
    let pointers = |all: &[CString]| -> Vec<*const libc::c_char> {
        all.iter().map(|t| t.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&words), pointers(&variables));
    let folder = text(command.get_current_dir().unwrap_or(Path::new("/")).as_os_str());
    let streams =
        [fs::File::open("/dev/null").unwrap(), fs::File::create(out).unwrap(), fs::File::create(err).unwrap()];
    let mut filter = filter();
    let sieve = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };

    // SAFETY: between fork and exec only calls that are safe after a fork of a process of many threads.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: as above; every pointer was made before the fork and lives until the exec.
        unsafe {
            for (to, from) in streams.iter().enumerate() {
                libc::dup2(from.as_raw_fd(), to as i32);
            }
            let ready = libc::chdir(folder.as_ptr()) == 0
                && libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0
                && libc::raise(libc::SIGSTOP) == 0
                && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &sieve) == 0;
            if ready {
                libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
            }
            libc::_exit(126);
        }
    }
    let child = Pid::from_raw(pid);
    let stopped = waitpid(child, Some(WaitPidFlag::__WALL)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    let options = libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_EXITKILL;
    // SAFETY: numbers alone.
    let set = unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    go_on(child, None);
    pid
}

#[test]
fn calls_of_children_are_counted_and_killed_apart() {
    let folder = tempfile::tempdir().unwrap();
    let [out, err] = ["out", "err"].map(|n| folder.path().join(n));
    let script = "for i in 1 2 3; do touch $i; mv $i x$i; done; echo done";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).current_dir(folder.path());
    let long = Duration::from_secs(20);
    let whole = run(&shell, &out, &err, None, long);
    assert_eq!((whole.code, whole.counts.get(&(Role::Child, Call::Rename))), (0, Some(&3)), "{whole:?}");
    assert_eq!(whole.counts.get(&(Role::Child, Call::Execve)).copied(), Some(6), "{whole:?}");
    assert!(whole.strays.is_empty() && whole.hit.is_none());

    for n in 1..=3 {
        fs::remove_file(folder.path().join(format!("x{n}"))).unwrap();
    }
    let second = Some(Point { role: Role::Child, call: Call::Rename, number: 2 });
    let cut = run(&shell, &out, &err, second, long);
    assert_eq!((cut.code, cut.hit.as_deref()), (0, Some("mv")), "{cut:?}");
    let there: Vec<bool> = (1..=3).map(|n| folder.path().join(format!("x{n}")).exists()).collect();
    assert_eq!(there, [true, false, true], "the second was killed before it renamed");

    let mut direct = Command::new("/bin/mv");
    direct.args(["2", "y2"]).current_dir(folder.path());
    let cut = run(&direct, &out, &err, Some(Point { role: Role::Main, call: Call::Rename, number: 1 }), long);
    assert_eq!((cut.code, cut.hit.as_deref()), (-9, Some("mv")), "{cut:?}");
    assert!(folder.path().join("2").exists() && !folder.path().join("y2").exists());
}
