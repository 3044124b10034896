//! Level 5: deterministic simulation. Fleets of machines, BMCs, networks, disks, installers and clusters under a
//! virtual clock drive the real planner, the real engine, the real guards and the real claim desk; one number decides
//! everything, and the world keeps a log of its own against which the invariants are checked.
//!
//! ```text
//! seed ──► fleet, faults, script ──► world (tasks under a virtual clock) ──► log ──► invariants
//!                                       ▲      │
//!                     plan · engine · desk · guards · store (the real ones, driven by `drive`)
//! ```
//!
//! [`exec`] is the clock, [`world`], [`machine`], [`bmc`], [`installer`] and [`etcd`] what is out there, [`tool`],
//! [`drivers`] and [`operator`] what we do with it, [`faults`] what goes wrong, [`check`] what must hold all the same.

mod acts;
mod bmc;
mod check;
mod drive;
mod drivers;
mod durable;
mod etcd;
mod exec;
mod fate;
mod faults;
mod fleet;
mod installer;
mod log;
mod machine;
mod member_drivers;
mod operator;
mod recovery;
mod rng;
mod script;
mod tool;
mod watch;
mod world;

#[cfg(test)]
mod planted;
#[cfg(test)]
mod scenes;
#[cfg(test)]
mod tests;

pub use check::{Invariant, Violation};
pub use faults::Profile;
pub use script::{Report, Scenario, simulate};
