//! Runs foreign programs and looks at processes.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::process::{self, ProcessId, Stat};
use crate::model::{Failure, failure::Cause};

/// A process that was asked to end has this long before it is made to.
const END_GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

pub fn local(what: impl Into<String>, why: impl std::fmt::Display) -> Failure {
    Failure::new(Cause::Local, what, why.to_string())
}

/// Runs one argument list to its end; what it printed on standard output, or what it complained of.
pub fn run(argv: &[String]) -> Result<String, Failure> {
    let what = || argv.join(" ");
    let (program, words) = argv.split_first().ok_or_else(|| local("run a program", "no argument list"))?;
    let output =
        Command::new(program).args(words).stdin(Stdio::null()).output().map_err(|error| local(what(), error))?;
    if !output.status.success() {
        return Err(local(what(), format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn stat(pid: i32) -> Option<Stat> {
    process::parse_stat(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
}

/// What to record of a process that runs now; `None`: it does not.
pub fn identify(pid: i32) -> Option<ProcessId> {
    stat(pid).map(|stat| ProcessId { pid, start_ticks: stat.start_ticks, boot_id: boot_id() })
}

pub fn is_alive(recorded: &ProcessId) -> bool {
    process::is_same(recorded, &boot_id(), stat(recorded.pid))
}

/// Asks a process proven to be the recorded one to end, then makes it; returns once it is gone.
pub fn end(recorded: &ProcessId) -> Result<(), Failure> {
    let what = || format!("end process {}", recorded.pid);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if !is_alive(recorded) {
            return Ok(());
        }
        match kill(Pid::from_raw(recorded.pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(local(what(), error)),
        }
        let until = Instant::now() + END_GRACE;
        while is_alive(recorded) && Instant::now() < until {
            std::thread::sleep(POLL);
        }
    }
    if is_alive(recorded) { Err(local(what(), "it is still there after SIGKILL")) } else { Ok(()) }
}

/// A recorded process from its file; `None` where there is none or it makes no sense (a half-written file of a crash).
pub fn recorded(path: &Path) -> Option<ProcessId> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes beside the target and renames: nobody ever reads half a file.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let fault = |error: std::io::Error| local(format!("write {}", path.display()), error);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = Path::new(&name);
    remove_if_there(beside)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(beside).map_err(fault)?;
    std::io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all()).map_err(fault)?;
    fs::rename(beside, path).map_err(fault)
}

pub fn remove_if_there(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(local(format!("remove {}", path.display()), error)),
        _ => Ok(()),
    }
}

/// The child gets SIGKILL when this *thread* ends (prctl(2)): call it from the thread that lives as long as the program.
pub fn die_with_parent(command: &mut Command) {
    let parent = Pid::this();
    // Safety: between fork and exec only prctl and getppid are called, both async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above.
            if Pid::parent() == parent { Ok(()) } else { Err(std::io::Error::from_raw_os_error(libc::ECHILD)) }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_the_recorded_process_and_no_other() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let real = identify(child.id() as i32).unwrap();
        let other = ProcessId { start_ticks: real.start_ticks + 1, ..real.clone() };
        end(&other).unwrap();
        assert!(is_alive(&real), "a process that is not proven ours was ended");
        end(&real).unwrap();
        assert!(!is_alive(&real));
        child.wait().unwrap();
    }

    #[test]
    fn a_failed_program_says_which_and_what_it_printed() {
        let failure = run(&["ls".into(), "/no/such/folder".into()]).unwrap_err();
        assert_eq!(failure.what, "ls /no/such/folder");
        assert!(failure.why.contains("No such file"), "{failure}");
    }
}
