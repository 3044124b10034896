//! Who is unavailable now, for any reason: asked afresh before anything that serves is taken away.

use std::collections::{BTreeSet, HashMap};

use futures_util::{StreamExt, stream};

use super::{World, observe, world::store_failure};
use crate::{
    cluster::etcd::observe_client,
    engine::look,
    model::{Failure, facts::NodeRecord, fleet::ClusterDriver},
};

/// Machines asked at the same time.
const AT_ONCE: usize = 32;

/// Of the plan's pools and failure domains. A machine that was never installed serves nothing and is not counted; which
/// members are, is [`look::away`]'s.
pub(super) async fn down(world: &World) -> Result<BTreeSet<String>, Failure> {
    let records = world.store.node_records().map_err(|e| store_failure(&e))?;
    // Asked for every node of every rack. One of which nothing is known since the state was lost is asked as well, and
    // counts unless it is seen to serve.
    let installed: HashMap<&str, &NodeRecord> =
        records.iter().filter(|(_, r)| r.may_serve()).map(|(name, record)| (name.as_str(), record)).collect();
    let installed = |name: &str| installed.get(name).copied();
    let mut down = BTreeSet::new();
    let mut asked: BTreeSet<&String> = BTreeSet::new();
    let mut pools = Vec::new();
    for (name, pool) in &world.plan.pools {
        let Some(cluster) = world.fleet.clusters.get(name) else { continue };
        let ClusterDriver::Etcd { client_port, .. } = cluster.driver else { continue };
        let members: Vec<&String> = pool.nodes.iter().filter(|n| installed(n).is_some()).collect();
        asked.extend(members.iter());
        let made = world.store.cluster_record(name).map_err(|e| store_failure(&e))?.is_some();
        if members.is_empty() || !made {
            continue;
        }
        let endpoints: Vec<String> = members
            .iter()
            .filter_map(|m| world.fleet.member_address(m, client_port))
            .map(|a| format!("http://{a}"))
            .collect();
        pools.push((&pool.nodes, members, endpoints));
    }
    // All at the same time: a silent member takes seconds, and what was seen first would be old by the end.
    let mut pools = stream::iter(pools.into_iter().map(|(nodes, members, endpoints)| async move {
        let facts = observe_client::observe(&endpoints).await.ok();
        look::away(nodes, &members, facts.as_ref()).into_iter().cloned().collect::<Vec<String>>()
    }))
    .buffer_unordered(AT_ONCE);
    while let Some(missing) = pools.next().await {
        down.extend(missing);
    }
    drop(pools);
    // Machines of no cluster, and all of a failure domain, by themselves.
    let alone = world.plan.pools.iter().filter(|(name, _)| !world.fleet.clusters.contains_key(*name));
    let alone = alone.flat_map(|(_, pool)| &pool.nodes);
    let others: BTreeSet<&String> =
        world.plan.domains.values().flat_map(|d| &d.nodes).chain(alone).filter(|n| !asked.contains(n)).collect();
    let looks = others.into_iter().filter_map(|name| Some((name, installed(name)?, world.fleet.nodes.get(name)?)));
    let mut looks = stream::iter(looks.map(|(name, record, node)| async move {
        let answer = observe::system_status(node, &record.system_host_key, world.scratch()).await;
        (name.clone(), answer.is_err())
    }))
    .buffer_unordered(AT_ONCE);
    while let Some((name, silent)) = looks.next().await {
        if silent {
            down.insert(name);
        }
    }
    Ok(down)
}
