//! IPMI 2.0 over LAN: the second way to a BMC, where Redfish is missing, broken or its TLS too old.
//!
//! Sans-I/O: [`session`] turns (now, event) into packets, outcomes and the next deadline; around it stand the codecs
//! of packets ([`rmcp`], [`rakp`], [`message`], [`crypto`]) and one file a noun of the protocol. [`client`] is the UDP
//! driver; [`tool`] is `ipmitool`, the way out for BMCs that do not get through the handshake. Numbers are those of the IPMI Specification 2.0, revision 1.1, with errata 7 (cipher suite 17).
//!
//! The laboratory's BMC uses the same codecs from the other side.

pub mod bytes;
pub mod chassis;
pub mod client;
pub mod completion;
pub mod crypto;
pub mod device;
pub mod fault;
pub mod fru;
pub mod fuzz;
pub mod guid;
pub mod handshake;
pub mod message;
pub mod options;
pub mod rakp;
pub mod rmcp;
pub mod sdr;
pub mod sel;
pub mod sensor;
pub mod session;
pub mod shown;
pub mod sol;
pub mod status;
pub mod text;
pub mod tool;
pub mod tool_exec;
pub mod user;
pub mod words;

pub use client::{Client, Present, presence};
pub use crypto::Suite;
pub use fault::Fault;
pub use message::{Command, Effect};
