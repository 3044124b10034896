//! The program that runs in rackctl's installer and on installed nodes: PID 1 of both, and the
//! commands that rackctl runs over SSH. Its contract with the images is in `README.md`.

mod api;
mod children;
mod clock;
mod cmdline;
mod console;
mod disks;
mod dmi;
mod fetch;
mod files;
mod hostkey;
mod init;
mod installer;
mod marker;
mod modules;
mod mounts;
mod net;
mod netlink;
mod node_error;
mod pin;
mod progress;
mod prober;
mod seed;
mod service;
mod signatures;
mod sshd;
mod unpack;
mod volume;
mod writer;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let code = if std::process::id() == 1 { init::run(&arguments) } else { 2 };
    std::process::exit(code);
}
mod system { pub fn run() -> ! { std::process::exit(1) } pub fn boot(_: &str) -> ! { std::process::exit(1) } }
