//! Starts a child that the kernel kills when this process dies, however it dies.

use std::{
    io,
    sync::{OnceLock, mpsc},
};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

type Job = Box<dyn FnOnce() + Send>;

/// The kernel's death signal is sent when the *thread* that started the child ends, and a runtime's threads come
/// and go: one thread that lives as long as the process starts all of them.
fn starter() -> Option<&'static mpsc::Sender<Job>> {
    static STARTER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
    STARTER
        .get_or_init(|| {
            let (send, receive) = mpsc::channel::<Job>();
            let thread = std::thread::Builder::new().name("ssh-starter".into());
            thread.spawn(move || receive.into_iter().for_each(|job| job())).ok().map(|_| send)
        })
        .as_ref()
}

/// In a process group of its own, so that ^C at the terminal does not reach it; killed when dropped.
pub(super) async fn spawn(mut command: Command) -> io::Result<Child> {
    let parent = std::process::id();
    command.kill_on_drop(true).process_group(0);
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe system calls.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // Died before the line above took effect.
            if libc::getppid() as u32 != parent {
                libc::_exit(127);
            }
            Ok(())
        });
    }
    let handle = Handle::current();
    let (send, receive) = oneshot::channel();
    let job: Job = Box::new(move || {
        let _runtime = handle.enter();
        // Nobody waits any more: the child is dropped and thereby killed.
        let _ = send.send(command.spawn());
    });
    let gone = || io::Error::other("the thread that starts children is gone");
    starter().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
    receive.await.map_err(|_| gone())?
}
