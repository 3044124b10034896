//! etcd, spoken to through its v3 JSON gateway.
//!
//! | file | holds |
//! |---|---|
//! | [`client`], [`error`], [`wire`] | the small client, shared with the store: see [`crate::etcd`] |
//! | [`observe_client`], [`observed`] | all endpoints asked at once; the answers joined into facts (pure) |
//! | [`change_client`] | add, wait, promote, remove, verify: each looks first and may be called again |
//! | [`member`] | how a node is to start its member (pure) |
//! | [`synced`] | has a learner caught up? (pure) |

pub mod change_client;
pub mod member;
pub mod observe_client;
pub mod observed;
pub mod synced;
pub mod verify_client;

pub use crate::etcd::{client, error, wire};

/// Ids are 64-bit numbers on the wire and bare lower-case hex everywhere else, as etcd prints them.
pub fn hex_id(id: u64) -> String {
    format!("{id:x}")
}

/// The reverse of [`hex_id`]; `None` for what is no id.
pub fn parse_id(hex: &str) -> Option<u64> {
    u64::from_str_radix(hex, 16).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_go_there_and_back() {
        for id in [0, 1, 0x8e9e_05c5_2164_694d, u64::MAX] {
            assert_eq!(super::parse_id(&super::hex_id(id)), Some(id));
        }
        assert_eq!(super::parse_id("not hex"), None);
    }
}
