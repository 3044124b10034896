//! What the child gives up once its ports are open: everything but raw sockets and low ports.

use std::io;

const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_RAW: u32 = 13;
const KEPT: u32 = 1 << CAP_NET_BIND_SERVICE | 1 << CAP_NET_RAW;
/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit words a set.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The process dies with its parent, and neither a debugger nor a core file sees its memory (it holds seeds).
pub fn bind_to_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// For the calling thread and all that it starts afterwards: call it before the first thread.
pub fn drop_all_but_network() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    // Empty anyway unless somebody set them up; on kernels without ambient capabilities there is nothing to clear.
    let _ = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64);
    let mut header = Header { version: VERSION, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: the header and two sets are what version 3 reads and writes.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    let low = KEPT & sets[0].permitted;
    let kept = [Sets { effective: low, permitted: low, inheritable: 0 }, Sets::default()];
    // SAFETY: as above; the sets are read only.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, kept.as_ptr()) })
}

fn prctl(option: i32, value: u64) -> io::Result<()> {
    // SAFETY: these options take integers and touch no memory.
    check(i64::from(unsafe { libc::prctl(option, value, 0u64, 0u64, 0u64) }))
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
