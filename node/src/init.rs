//! PID 1: what both roles begin with.

use crate::cmdline::{self, Role};
use crate::console::say;
use crate::{children, installer, modules, mounts, net, system};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// Argument with which the initramfs executes the program of the new root.
pub const SWITCHED: &str = "system";

/// Never comes back: PID 1 that ends is a kernel panic.
pub fn run(arguments: &[String]) -> i32 {
    panic_says_and_stays();
    if arguments.first().map(String::as_str) == Some(SWITCHED) {
        console();
        system::run();
    }
    let mounted = mounts::kernel_file_systems(Path::new("/"), true);
    console();
    say(format!("version {}", env!("CARGO_PKG_VERSION")));
    if let Err(error) = mounted {
        say(error.to_string());
    }
    children::reap_orphans();
    modules::load_all();
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    match cmdline::role(&line) {
        Some(Role::Installer) => installer::run(&line),
        Some(Role::System) => system::boot(&line),
        None => {
            say("neither rackctl.node nor rackctl.boot=system is on the kernel command line");
            stay()
        }
    }
}

/// The kernel gives no console where the initramfs has no device node: take one from devtmpfs.
fn console() {
    if let Ok(file) = OpenOptions::new().read(true).write(true).open("/dev/console") {
        for fd in 0..3 {
            // SAFETY: both descriptors are this process' own.
            unsafe { libc::dup2(file.as_raw_fd(), fd) };
        }
        if file.as_raw_fd() < 3 {
            std::mem::forget(file);
        }
    }
}

/// A bug must not become a kernel panic: whoever is logged in shall be able to look.
fn panic_says_and_stays() {
    std::panic::set_hook(Box::new(|info| {
        say(format!("BUG: {info}"));
        stay()
    }));
}

/// Nothing more is done; what runs beside keeps running.
pub fn stay() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3_600));
    }
}

pub fn reboot() -> ! {
    nix::unistd::sync();
    // Kernels break the queues of virtio devices before a restart (seen with Debian's 6.1.0-56), and virtio_net's
    // `start_xmit` waits for ever at a broken one: a late acknowledgement of some connection hangs the machine.
    net::silence();
    let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT);
    say("the kernel refused to restart");
    stay()
}
