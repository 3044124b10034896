//! How a node is to start its member: the values that go to the node as [`EtcdMember`]. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use rackctl_wire::{EtcdMember, PROTOCOL};
use uuid::Uuid;

use crate::model::{
    Failure,
    facts::{ClusterFacts, MemberFacts},
    failure::Cause,
};

/// A node as a member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub cluster: String,
    /// The node's name, which is the member's.
    pub name: String,
    /// Of the node's installation.
    pub generation: u64,
    pub address: Ipv4Addr,
    pub client_port: u16,
    pub peer_port: u16,
}

impl Seat {
    /// `http://IP:PORT`
    pub fn client_url(&self) -> String {
        format!("http://{}", SocketAddrV4::new(self.address, self.client_port))
    }

    /// `http://IP:PORT`
    pub fn peer_url(&self) -> String {
        format!("http://{}", SocketAddrV4::new(self.address, self.peer_port))
    }

    fn member(&self, state: &str, initial_cluster: String, token: String) -> EtcdMember {
        let own = self.client_url();
        // On the node itself too, so that a person there can ask with no address at hand.
        let listen = match self.address.is_loopback() {
            true => own.clone(),
            false => format!("{own},http://127.0.0.1:{}", self.client_port),
        };
        EtcdMember {
            protocol: PROTOCOL,
            generation: self.generation,
            cluster: self.cluster.clone(),
            name: self.name.clone(),
            initial_cluster_state: state.into(),
            initial_cluster,
            initial_cluster_token: token,
            listen_client_urls: listen,
            advertise_client_urls: own,
            listen_peer_urls: self.peer_url(),
            initial_advertise_peer_urls: self.peer_url(),
        }
    }
}

/// The first member of a new cluster. `token` must be fresh: etcd's cluster id is derived from it and the URLs, and
/// two clusters of one id that meet overwrite each other's data.
pub fn bootstrap(seat: &Seat, token: Uuid) -> EtcdMember {
    let initial = format!("{}={}", seat.name, seat.peer_url());
    seat.member("new", initial, format!("{}-{token}", seat.cluster))
}

/// A member that was added to the cluster as observed: every other member by its name, and this one by its peer URL.
pub fn joining(seat: &Seat, cluster: &ClusterFacts) -> Result<EtcdMember, Failure> {
    let what = format!("{}: make the configuration of a joining member", seat.name);
    let refuse = |why: String| Failure::new(Cause::Mismatch, &what, why);
    let own_url = seat.peer_url();
    let is_own = |m: &&MemberFacts| m.peer_urls.contains(&own_url);
    let own = cluster
        .members
        .iter()
        .find(is_own)
        .ok_or_else(|| refuse(format!("{own_url} is not in the member list of cluster {}", cluster.cluster_id)))?;
    if !own.name.is_empty() && own.name != seat.name {
        return Err(refuse(format!("member {} with {own_url} is called {}", own.id, own.name)));
    }
    let mut parts = Vec::new();
    for m in &cluster.members {
        let name = if m.id == own.id { &seat.name } else { &m.name };
        if name.is_empty() {
            return Err(refuse(format!(
                "member {} ({}) has not started and has no name",
                m.id,
                m.peer_urls.join(", ")
            )));
        }
        if m.id != own.id && *name == seat.name {
            return Err(refuse(format!("member {} is called {name} too ({})", m.id, m.peer_urls.join(", "))));
        }
        parts.extend(m.peer_urls.iter().map(|url| format!("{name}={url}")));
    }
    parts.sort();
    // Not used by a member that joins, but must not be the default that every cluster in the world has. It names the
    // data directory: a member that was taken out and comes again under a new id does not find its old data.
    let token = format!("{}-joined-{}-{}", seat.cluster, cluster.cluster_id, own.id);
    Ok(seat.member("existing", parts.join(","), token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(name: &str, last: u8) -> Seat {
        Seat {
            cluster: "main".into(),
            name: name.into(),
            generation: 3,
            address: Ipv4Addr::new(10, 0, 0, last),
            client_port: 2379,
            peer_port: 2380,
        }
    }
    fn facts(id: &str, name: &str, last: u8) -> MemberFacts {
        MemberFacts {
            id: id.into(),
            name: name.into(),
            peer_urls: vec![format!("http://10.0.0.{last}:2380")],
            client_urls: vec![],
            learner: name.is_empty(),
            healthy: true,
            version: None,
            raft_index: None,
        }
    }
    fn cluster(members: Vec<MemberFacts>) -> ClusterFacts {
        ClusterFacts { cluster_id: "cafe".into(), members, leader: None, alarms: vec![] }
    }

    // fault: F45 invariant: I6 harness: D
    #[test]
    fn two_bootstraps_never_share_a_token() {
        let (a, b) = (bootstrap(&seat("n1", 1), Uuid::from_u128(1)), bootstrap(&seat("n1", 1), Uuid::from_u128(2)));
        assert_ne!(a.initial_cluster_token, b.initial_cluster_token);
        assert_eq!((a.initial_cluster_state.as_str(), a.initial_cluster.as_str()), ("new", "n1=http://10.0.0.1:2380"));
        assert_eq!(a.listen_client_urls, "http://10.0.0.1:2379,http://127.0.0.1:2379");
        assert_eq!((a.generation, a.protocol), (3, PROTOCOL));
    }

    #[test]
    fn joining_names_all_and_takes_its_own_place() {
        let m = joining(&seat("n2", 2), &cluster(vec![facts("1", "n1", 1), facts("2", "", 2)])).unwrap();
        assert_eq!(m.initial_cluster, "n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380");
        assert_eq!(m.initial_cluster_state, "existing");
        // Again, after it has started.
        let again = joining(&seat("n2", 2), &cluster(vec![facts("1", "n1", 1), facts("2", "n2", 2)])).unwrap();
        assert_eq!(again, m);
    }

    #[test]
    fn joining_refuses_what_etcd_would_refuse_or_misunderstand() {
        let not_added = cluster(vec![facts("1", "n1", 1)]);
        let unnamed = cluster(vec![facts("1", "n1", 1), facts("2", "", 2), facts("3", "", 3)]);
        let other_name = cluster(vec![facts("1", "n1", 1), facts("2", "old", 2)]);
        let twice = cluster(vec![facts("1", "n2", 1), facts("2", "", 2)]);
        for (world, word) in
            [(not_added, "not in the member list"), (unnamed, "no name"), (other_name, "called old"), (twice, "too")]
        {
            let failure = joining(&seat("n2", 2), &world).unwrap_err();
            assert!(failure.why.contains(word), "{}", failure.why);
        }
    }
}
