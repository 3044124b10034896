//! Level 3: driving a machine through its BMC over Redfish. Knows `model` only; reports, never decides, never prints.
//!
//! Pure: [`boot`] and [`reset`] (which request brings a wish about), [`read`] (resources → facts), [`identity`] (is this
//! the machine of the inventory?), [`link`] (where a foreign link may lead), [`quirks`]; and a noun a file what else a BMC
//! holds: [`logs`], [`sensors`], [`bios`], [`firmware`], [`media`], [`accounts`], [`certificates`], [`volumes`],
//! [`neighbours`]. I/O: [`client`] and the handshakes of [`tls`].

pub mod accounts;
pub mod bios;
pub mod boot;
pub mod certificates;
pub mod client;
pub mod firmware;
pub mod identity;
pub mod link;
pub mod logs;
pub mod media;
pub mod neighbours;
pub mod quirks;
pub mod read;
pub mod redfish;
pub mod reset;
pub mod sensors;
pub mod tls;
pub mod volumes;

pub use client::{Client, Leave, Leftover, Login, NoLedger, Options, Passwords, RequestLine, SessionLedger};
