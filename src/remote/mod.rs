//! SSH to installed nodes and installers, each authenticated against its pinned host key.
//!
//! The system's `ssh` does the protocol. One process runs per command, started by [`client::Ssh`], and the argv
//! is built by the pure [`argv`]. A shared connection (ControlMaster) is not used on purpose: OpenSSH's master, as
//! the `openssh` crate starts it (`-M -f -N`), leaves its parent and lives on. Measured on OpenSSH 9.2: such a
//! master was there 10 s after `kill -9` of its caller, while a process of ours is gone within 10 ms.
//! What that costs is one handshake per command: 60 ms on loopback.

pub mod argv;
pub mod client;
pub mod diagnosis;
pub mod key;
pub mod node_client;
mod spawn_exec;
