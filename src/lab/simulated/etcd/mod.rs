//! A simulated etcd: clusters whose members answer etcd's v3 JSON gateway, in one process and without raft.
//!
//! What rackctl can see is as etcd 3.4.23 shows it: ids (computed as etcd does), member lists, learners and their
//! promotion, quorum, leaders, alarms, leases, a key space, error texts and codes, and the reasons for which a
//! member does not start. What is left out: networks that divide, snapshots, watches, authentication.
//!
//! | question | file |
//! |---|---|
//! | which clusters there are, who runs, leads, follows | [`world`] (pure) |
//! | may this member start, and as whom | [`seating`] (pure) |
//! | changes of membership, alarms, leadership | [`calls`] (pure) |
//! | keys, transactions, leases | [`keys`], [`requests`] (pure) |
//! | a question in JSON, its answer in JSON | [`answer`] (pure) |
//! | listeners, and the handle that others hold | [`serve`] |

pub mod answer;
mod calls;
mod ids;
mod keys;
mod refusal;
mod requests;
mod seating;
pub mod serve;
mod state;
pub mod world;

pub use serve::Cloud;
pub use world::Timing;
