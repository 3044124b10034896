//! Simulated machines: what stands behind a laboratory's BMCs where it was made with `--simulated`.
//!
//! A machine is a task of the supervisor. On the wire it is a real one: frames of its own hardware address, DHCP,
//! TFTP, HTTP, the provisioning API over TLS with its pinned key, an OpenSSH server with the host key that it made
//! and claimed. Behind the wire nothing is run: a kernel is fetched and not started, a disk is a JSON file, and etcd
//! is [`etcd`].
//!
//! | question | file |
//! |---|---|
//! | what the machine is doing, power, counters | [`machine`] |
//! | how it boots | `firmware`, `dhcp`, `script`, `cpio`, `tftp_client`, `http_client` |
//! | how it is installed | `installer`, `progress`, [`disk`], `disk_store`, `host_key` |
//! | how it runs | `system_serve`, `sshd`, [`agent`], [`node_client`] |
//! | what it boots and installs | [`images`] |
//! | what the supervisor separates itself from | `privsep_exec` |
//! | what all share | [`site`], `segment_socket`, `address_socket`, [`timing`] |

mod address_socket;
pub mod agent;
mod console_serve;
mod cpio;
mod dhcp;
pub mod disk;
mod disk_store;
pub mod etcd;
mod firmware;
mod host_key;
mod http_client;
pub mod images;
mod installer;
pub mod machine;
pub mod node_client;
mod privsep_exec;
mod progress;
mod script;
mod segment_socket;
pub mod site;
mod sshd;
mod system_serve;
mod tftp_client;
pub mod timing;

pub use machine::{Account, Machine};
pub use privsep_exec::separate;
pub use site::Site;
pub use sshd::{PROGRAM as SSHD, VARIABLE as SSHD_VARIABLE, program as sshd_program};
pub use timing::Timing;
