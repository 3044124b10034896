//! The process that owns a laboratory: its namespace, its machines and their BMCs. It outlives the command that made it
//! and ends with SIGTERM, with `lab delete`, or with all of its machines when it is killed.

use std::{fs, io::Write, os::fd::AsFd, path::Path, process::ExitCode};

use nix::{
    fcntl::{Flock, FlockArg},
    sched::CloneFlags,
    unistd::{self, ForkResult},
};

use super::{
    client,
    control::FirstWord,
    layout::Layout,
    netns,
    owner_exec::{self, Ownership},
    process_exec::{self, local},
    simulated,
    spec::Lab,
    supervisor_serve,
};
use crate::model::{Failure, failure::Cause};

/// First argument of the hidden entry: `PROGRAM __lab-supervisor DIR`.
pub const VERB: &str = "__lab-supervisor";

/// The hidden entry. To be called before any thread is started: it forks, and it enters the namespace with its one
/// thread so that all later ones are in it.
pub fn main(dir: &Path) -> ExitCode {
    match daemonise() {
        Ok(Side::Started) => ExitCode::SUCCESS,
        Ok(Side::Goes) => match stand(dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{failure}");
                // Nobody may be listening; the log has it.
                let _ = say(&FirstWord::Failed(failure));
                ExitCode::FAILURE
            }
        },
        Err(failure) => {
            eprintln!("{failure}");
            let _ = say(&FirstWord::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

enum Side {
    /// This process has done its part.
    Started,
    Goes,
}

/// A session of its own, without a terminal to get one by accident.
fn daemonise() -> Result<Side, Failure> {
    let fault = |error: nix::errno::Errno| local("lab: leave the terminal", error);
    // Safety: there is one thread, see `main`.
    match unsafe { unistd::fork() }.map_err(fault)? {
        ForkResult::Parent { .. } => return Ok(Side::Started),
        ForkResult::Child => {}
    }
    unistd::setsid().map_err(fault)?;
    // Nothing is read or written outside DIR by a relative path, and no mount is kept busy.
    unistd::chdir("/").map_err(fault)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    Ok(Side::Goes)
}

fn stand(dir: &Path) -> Result<(), Failure> {
    let layout = Layout::new(dir);
    let lab = client::load(&layout)?;
    let _lock = lock(&lab, &layout)?;
    let ownership = owner_exec::take(&lab.name, &layout.dir)?;
    ownership.clean(&layout)?;
    let stood = with_namespace(&lab, &layout, &ownership);
    let cleaned = ownership.clean(&layout);
    ownership.forget();
    stood.and(cleaned)
}

/// Two names for one directory, or one directory for two names: the owner's lock would not notice.
fn lock(lab: &Lab, layout: &Layout) -> Result<Flock<fs::File>, Failure> {
    let what = || format!("lab {}: lock {}", lab.name, layout.dir.display());
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(layout.lock())
        .map_err(|e| local(what(), e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| Failure::new(Cause::Busy, what(), format!("another supervisor has it: {error}")))
}

fn with_namespace(lab: &Lab, layout: &Layout, _owned: &Ownership) -> Result<(), Failure> {
    let what = || format!("lab {}: stand up", lab.name);
    let me = process_exec::identify(std::process::id() as i32).ok_or_else(|| local(what(), "/proc is not readable"))?;
    let text = serde_json::to_vec(&me).map_err(|e| local(what(), e))?;
    process_exec::write_atomically(&layout.pid(), &text, 0o644)?;
    for argv in netns::make(lab) {
        process_exec::run(&argv)?;
    }
    if lab.simulated.is_some() {
        // Machines and BMCs stand on the other side of a cable, as real ones do.
        simulated::separate(layout)?;
        for argv in netns::machines(lab, std::process::id()) {
            process_exec::run(&argv)?;
        }
    } else {
        let namespace = fs::File::open(Path::new("/run/netns").join(lab.netns())).map_err(|e| local(what(), e))?;
        nix::sched::setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|e| local(what(), e))?;
    }
    // One thread: QEMU is started by it and told to die with it (prctl(2) means the thread, not the process).
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| local(what(), e))?;
    runtime.block_on(supervisor_serve::serve(lab, layout, || {
        say(&FirstWord::Ready { pid: me.pid }).map_err(|e| local(what(), e))
    }))
}

/// One line to whoever started us; afterwards nothing is ever printed there again.
fn say(word: &FirstWord) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush())?;
    let null = fs::OpenOptions::new().write(true).open("/dev/null")?;
    unistd::dup2_stdout(null)?;
    Ok(())
}
