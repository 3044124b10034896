//! Child processes of PID 1: its own, which are waited for by name, and orphans, which are reaped.

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use std::collections::HashSet;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static OWN: Mutex<Option<HashSet<i32>>> = Mutex::new(None);
/// Zombies of others stay at most this long.
const REAP_INTERVAL: Duration = Duration::from_millis(500);

fn own() -> MutexGuard<'static, Option<HashSet<i32>>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child that the reaper leaves alone.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let mut own = own();
    let child = command.spawn()?;
    own.get_or_insert_default().insert(child.id() as i32);
    Ok(child)
}

pub fn wait(child: &mut Child) -> std::io::Result<ExitStatus> {
    let status = child.wait();
    own().get_or_insert_default().remove(&(child.id() as i32));
    status
}

/// `None` while it runs.
pub fn poll(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let status = child.try_wait()?;
    if status.is_some() {
        own().get_or_insert_default().remove(&(child.id() as i32));
    }
    Ok(status)
}

/// Runs to the end and gives the output; for short tools.
pub fn output(command: &mut Command) -> std::io::Result<(ExitStatus, String)> {
    use std::io::Read;
    use std::process::Stdio;
    const OUTPUT_MAX: u64 = 64 << 10;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let mut text = Vec::new();
    if let Some(mut pipe) = child.stderr.take() {
        let _ = (&mut pipe).take(OUTPUT_MAX).read_to_end(&mut text);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    }
    let status = wait(&mut child)?;
    Ok((status, String::from_utf8_lossy(&text).trim().to_owned()))
}

/// Reaps adopted orphans for as long as the program runs.
pub fn reap_orphans() {
    std::thread::spawn(|| {
        loop {
            reap_once();
            std::thread::sleep(REAP_INTERVAL);
        }
    });
}

fn reap_once() {
    let own = own();
    // Only looked at (WNOWAIT): an own child at the head of the line is left to who waits for it.
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) = waitid(Id::All, look) {
        if own.as_ref().is_some_and(|own| own.contains(&pid.as_raw())) {
            return;
        }
        if waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            return;
        }
    }
}
