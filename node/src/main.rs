//! The program that runs in rackctl's installer and on installed nodes: PID 1 of both, and the
//! commands that rackctl runs over SSH.

mod api;
mod children;
mod clock;
mod cmdline;
mod command;
mod console;
mod disks;
mod dmi;
mod etcd;
mod fetch;
mod files;
mod grubenv;
mod hardware;
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
mod prober;
mod progress;
mod seed;
mod service;
mod signatures;
mod sshd;
mod system;
mod unpack;
mod volume;
mod writer;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let code = if std::process::id() == 1 { init::run(&arguments) } else { command::run(&arguments) };
    std::process::exit(code);
}
