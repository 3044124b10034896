//! The process between this one and a foreign program.
//!
//! A death signal reaches only the direct child: `nixos-anywhere` is a shell script, and its `ssh` and `nix` would
//! live on after `kill -9` of ours. So the child forks once more before it becomes the program. Its parent half,
//! the supervisor, never execs: it waits for the program, for the death of this process, or for a request to stop,
//! and then kills the whole process group and every descendant that had left the group (they are handed to it as a
//! subreaper). It ends as the program ended: the same exit code, or 128 + the signal.
//!
//! Everything here runs after a fork in what was a process with threads: system calls only, no allocation, no locks.

use std::{io, os::raw::c_int};

/// Between two looks whether the parent is still there, should its death signal have been lost.
const LOOK_MS: i64 = 100;
/// Rounds of killing and reaping descendants at the end; each waits 10 ms.
const SWEEPS: u32 = 50;

/// For `pre_exec`: returns in the process that is to become the program; the supervisor never returns.
///
/// # Safety
/// To be called between fork and exec, in a single-threaded child.
pub(super) unsafe fn interpose(parent: u32) -> io::Result<()> {
    // SAFETY: every call below is async-signal-safe, and the pointers are to locals.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        let mut before: libc::sigset_t = std::mem::zeroed();
        if libc::sigprocmask(libc::SIG_BLOCK, &set, &mut before) != 0
            || libc::setpgid(0, 0) != 0
            || libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) != 0
            || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1) != 0
        {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() as u32 != parent {
            libc::_exit(127);
        }
        let supervisor = libc::getpid();
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // A group of the program's own: the supervisor must survive the kill that it sends.
                if libc::setpgid(0, 0) != 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                if libc::getppid() != supervisor {
                    libc::_exit(127);
                }
                libc::sigprocmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
                Ok(())
            }
            program => {
                libc::setpgid(program, program);
                supervise(parent, program, &set)
            }
        }
    }
}

/// # Safety
/// As [`interpose`].
unsafe fn supervise(parent: u32, program: libc::pid_t, set: &libc::sigset_t) -> ! {
    // SAFETY: async-signal-safe system calls on locals.
    unsafe {
        // Pipes of the program and of our parent must not stay open because of this process: also the one by
        // which the parent learns that the exec went well. Without close_range (Linux 5.9) one by one.
        if libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0u32) != 0 {
            (0..4096).for_each(|fd| {
                libc::close(fd);
            });
        }
        let look = libc::timespec { tv_sec: 0, tv_nsec: LOOK_MS * 1_000_000 };
        loop {
            let mut status: c_int = 0;
            let reaped = libc::waitpid(-1, &mut status, libc::WNOHANG);
            if reaped == program {
                sweep(program);
                libc::_exit(code(status));
            }
            if reaped > 0 {
                continue;
            }
            let signal = libc::sigtimedwait(set, std::ptr::null_mut(), &look);
            // The death signal comes also when only the *thread* that started us has ended.
            let orphaned = libc::getppid() as u32 != parent;
            if orphaned || matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGHUP) {
                sweep(program);
                libc::_exit(128 + libc::SIGKILL);
            }
        }
    }
}

fn code(status: c_int) -> c_int {
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// Kills the group and then, generation by generation, whatever else has become a child of the supervisor.
///
/// # Safety
/// As [`interpose`].
unsafe fn sweep(program: libc::pid_t) {
    // SAFETY: async-signal-safe system calls on locals; the paths are literals that end with NUL.
    unsafe {
        for _ in 0..SWEEPS {
            libc::kill(-program, libc::SIGKILL);
            kill_children();
            let mut status: c_int = 0;
            loop {
                match libc::waitpid(-1, &mut status, libc::WNOHANG) {
                    0 => break,
                    -1 if *libc::__errno_location() == libc::ECHILD => return,
                    -1 => break,
                    _ => {}
                }
            }
            let pause = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            libc::nanosleep(&pause, std::ptr::null_mut());
        }
    }
}

/// Direct children as the kernel lists them (`CONFIG_PROC_CHILDREN`): numbers with spaces between.
///
/// # Safety
/// As [`interpose`].
unsafe fn kill_children() {
    // SAFETY: async-signal-safe system calls; the buffer is a local and as long as it is said to be.
    unsafe {
        let fd = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return;
        }
        let mut buffer = [0u8; 4096];
        let mut pid: libc::pid_t = 0;
        loop {
            let got = libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len());
            if got <= 0 {
                break;
            }
            for byte in buffer.iter().take(got as usize) {
                if byte.is_ascii_digit() {
                    pid = pid.saturating_mul(10).saturating_add(libc::pid_t::from(byte - b'0'));
                } else {
                    if pid > 1 {
                        libc::kill(pid, libc::SIGKILL);
                    }
                    pid = 0;
                }
            }
        }
        libc::close(fd);
    }
}
