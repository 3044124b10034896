//! The store in an etcd of its own: for several hosts that work on one fleet. See `docs/STORE.md`.
//!
//! | file | holds |
//! |---|---|
//! | [`url`] | `etcd://…` read (pure) |
//! | [`guard`] | not inside a cluster of the fleet (pure) |
//! | `keys`, `blob`, `table` | names of keys; large values in pieces; who holds which lock (pure) |
//! | `core_client` | guarded writes, reads in pages |
//! | `journal_client`, `lock_client`, `shelf_client`, `transfer_client` | what the trait asks for, made of those |
//! | `store` | the trait: calls that wait for a thread of the store's own |

mod blob;
mod core_client;
pub mod guard;
mod journal_client;
mod keys;
mod lock_client;
mod shelf_client;
mod store;
mod table;
mod transfer_client;
pub mod url;

pub use store::{EtcdStore, LONG_DEADLINE, OPERATION_DEADLINE};
pub use url::EtcdUrl;

use super::Approval;

/// One approval of a plan by one person.
fn approval_name(approval: &Approval) -> String {
    let who = &approval.approver;
    format!("{}/{}@{}", approval.plan_hash, who.user, who.host)
}
