//! SSH to installed nodes and installers, each authenticated against its pinned host key.
//!
//! The system's `ssh` does the protocol. One process runs per command, started by [`client::Ssh`], and the argv
//! is built by the pure [`argv`]. A shared connection (ControlMaster) is not used on purpose: OpenSSH's master, as
//! the `openssh` crate starts it (`-M -f -N -o ControlPersist=yes`), leaves its parent and lives on. Measured with
//! OpenSSH 9.2: such a master was still there 10 s after `kill -9` of its caller, while a process of ours was gone
//! within 10 ms. The price is a handshake and a login shell per command: 0.42 s on loopback on a busy two-core
//! host, 60 ms of it processor time on this side.

pub mod argv;
pub mod client;
pub mod diagnosis;
pub mod key;
pub mod node_client;
pub mod scan_exec;
mod spawn_exec;
