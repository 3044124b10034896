//! Level 4: the one loop. Events in, effects out, and everything durable before it is done.
//!
//! ```text
//! drivers ──Event──► engine (pure) ──Effect──► journal (intent) ──► drivers
//! ```
//!
//! [`desk`] is where installers claim and report, [`board`] what the network-boot servers are told,
//! [`machines`] and [`members`] carry a step out. None of them decides: the engine does.

pub mod api;
mod around;
mod baselines;
mod bmcs;
pub mod board;
mod boots;
pub mod clock;
pub mod desk;
pub mod inspect;
mod journal;
pub mod keys;
mod loop_;
pub mod machines;
pub mod members;
pub mod netns;
pub mod observe;
mod permits;
pub mod play;
mod power;
pub mod rebuild;
pub mod sessions;
mod world;

pub use baselines::item as firmware_item;
pub use bmcs::HANDED;
pub use boots::left as boot_left;
pub use journal::{CLAIM_VOID, TAKEN_OUT, claim_is_void, owed, owes_power, past, restore};
pub use loop_::{Ended, Notice, Outside, Pace, execute};
pub use power::wanted as boot_wanted;
pub use world::{World, WorldParts, servers_ended};
