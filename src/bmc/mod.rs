//! Level 3: driving a machine through its BMC over Redfish or IPMI. Knows `model` only; reports, never decides, never
//! prints. [`driver`] walks a node's endpoints and joins both ways behind one [`Client`]; `either` and `users` are what both know of the BMC.
//!
//! Pure: [`boot`], [`order`] and [`reset`] (which request brings a wish about), [`ladder`] (which way comes next), [`read`] (resources → facts), [`identity`] (is this
//! the machine of the inventory?), [`link`] (where a foreign link may lead), [`quirks`], [`proof`] (a password is tried at
//! one machine first), [`tls_offer`] (what an old BMC has); and a noun a file what else a BMC holds: [`logs`],
//! [`events`], [`sensors`], [`bios`], [`firmware`], [`media`], [`accounts`], [`certificates`], [`volumes`], [`neighbours`]. I/O:
//! [`client`] (Redfish), [`ipmi::client`] and the handshakes of [`tls`]; [`settle`] is the waiting that both ways share.

pub mod accounts;
pub mod bios;
pub mod boot;
pub mod certificates;
pub mod client;
pub mod driver;
mod either;
pub mod events;
pub mod firmware;
pub mod fuzz;
pub mod identity;
pub mod inspect;
pub mod ipmi;
pub mod ladder;
pub mod link;
pub mod logs;
pub mod media;
pub mod neighbours;
pub mod order;
pub mod proof;
pub mod quirks;
pub mod read;
pub mod redfish;
pub mod reset;
pub mod sensors;
mod settle;
pub mod tls;
pub mod tls_offer;
mod users;
pub mod volumes;

pub use client::{Leave, Leftover, Login, NoLedger, Options, Passwords, RequestLine, SessionLedger};
pub use driver::{Client, Keep};
pub use reset::Wish;
