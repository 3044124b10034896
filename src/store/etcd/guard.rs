//! Never keep the state of a cluster inside that cluster: what rackctl has to mend it with would be gone with it.

use std::net::IpAddr;

use super::url::EtcdUrl;
use crate::model::{
    Failure, Fleet,
    failure::Cause,
    fleet::{ClusterDriver, Node},
};

/// Refuses a store on a machine that is a member of a cluster of the fleet, or is to become one, whatever the port:
/// rackctl may restart, wipe or replace it. `resolved`: the addresses behind each host of the URL, in their order;
/// empty where a name has none.
pub fn outside(fleet: &Fleet, url: &EtcdUrl, resolved: &[Vec<IpAddr>]) -> Result<(), Failure> {
    for cluster in fleet.clusters.values() {
        for node in cluster.members.iter().chain(&cluster.spares).filter_map(|name| fleet.nodes.get(name)) {
            for (at, (host, port)) in url.hosts.iter().enumerate() {
                let addresses = resolved.get(at).map_or(&[][..], Vec::as_slice);
                if !is(node, host, addresses) {
                    continue;
                }
                let place = match &cluster.driver {
                    ClusterDriver::Etcd { client_port, .. } if client_port == port => "a member of it",
                    _ => "a machine of it",
                };
                let why = format!(
                    "{host}:{port} is {} of cluster {}, {place}: the state of a cluster is never kept inside it",
                    node.name, cluster.name
                );
                return Err(Failure::new(Cause::Guard, format!("open {url}"), why)
                    .next("rackctl --store sqlite:PATH … (or an etcd on other machines)"));
            }
        }
    }
    Ok(())
}

/// Refuses an etcd that is cluster `name` itself, however it was reached. Both ids as etcd prints them, in hex.
pub fn not_itself(name: &str, known: Option<&str>, url: &EtcdUrl, cluster_id: &str) -> Result<(), Failure> {
    if known != Some(cluster_id) {
        return Ok(());
    }
    let why = format!("it is cluster {name} itself (cluster id {cluster_id}): its state is never kept inside it");
    Err(Failure::new(Cause::Guard, format!("open {url}"), why)
        .next("rackctl --store sqlite:PATH … (or an etcd on other machines)"))
}

/// By name, or by any address.
fn is(node: &Node, host: &str, addresses: &[IpAddr]) -> bool {
    let short = host.split('.').next().unwrap_or(host);
    if host == node.name || short == node.name && host.parse::<IpAddr>().is_err() {
        return true;
    }
    let own: Vec<IpAddr> =
        node.interfaces.iter().flat_map(|i| i.addresses.iter().map(|a| IpAddr::from(a.addr()))).collect();
    host.parse::<IpAddr>().iter().chain(addresses).any(|address| own.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_known_by_its_id_behind_any_address() {
        let url = EtcdUrl::parse("etcd://192.0.2.1").unwrap();
        assert!(not_itself("core", Some("cdf8"), &url, "cdf8").is_err());
        assert!(not_itself("core", Some("cdf8"), &url, "beef").is_ok());
        assert!(not_itself("core", None, &url, "beef").is_ok());
    }
}
