//! Level 3: driving a machine through its BMC over Redfish. Knows `model` only; reports, never decides, never prints.
//!
//! Pure: [`boot`] and [`reset`] (which request brings a wish about), [`read`] (resources → facts), [`identity`] (is this
//! the machine of the inventory?), [`link`] (where a foreign link may lead), [`quirks`], [`proof`] (a password
//! is tried at one machine first), [`tls_offer`] (what an old BMC has). I/O: [`client`] and the handshakes of [`tls`].

pub mod boot;
pub mod client;
pub mod identity;
pub mod inspect;
pub mod link;
pub mod proof;
pub mod quirks;
pub mod read;
pub mod redfish;
pub mod reset;
pub mod tls;
pub mod tls_offer;

pub use client::{Client, Leave, Leftover, Login, NoLedger, Options, Passwords, RequestLine, SessionLedger};
