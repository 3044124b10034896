//! Ids as etcd computes them, so that the same URLs and token give the same cluster here as there. Pure.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

fn first_eight(bytes: &[u8]) -> u64 {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    hash.as_ref().iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

/// Of a member of a new cluster (`token`, no time) or of one that is added (no token, seconds since 1970).
pub fn member_id(peer_urls: &[String], token: &str, unix_s: Option<u64>) -> u64 {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    let time = unix_s.map(|s| s.to_string()).unwrap_or_default();
    first_eight(format!("{}{token}{time}", urls.concat()).as_bytes())
}

pub fn cluster_id(members: impl Iterator<Item = u64>) -> u64 {
    let mut ids: Vec<u64> = members.collect();
    ids.sort_unstable();
    first_eight(&ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As etcd 3.4.23 answered for `--initial-cluster n1=http://127.0.0.1:24011 --initial-cluster-token tok`.
    #[test]
    fn ids_are_those_of_etcd() {
        let member = member_id(&["http://127.0.0.1:24011".into()], "tok", None);
        assert_eq!(member, 7_656_798_149_588_023_683);
        assert_eq!(cluster_id([member].into_iter()), 13_521_018_516_982_840_418);
    }
}
