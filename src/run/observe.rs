//! Facts: what BMCs, installed systems and clusters say now, asked in parallel, each with its age.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use rackctl_wire::NodeStatus;

use super::{
    baselines, clock,
    sessions::{self, LogIn, Stopped, Until},
    world::store_failure,
};
use crate::{
    bmc,
    cluster::etcd::observe_client,
    model::{
        Failure, Fleet,
        baseline::BaselineFacts,
        facts::{BmcFacts, Facts, InstallPhase, NodeFacts, NodeRecord, Observed},
        failure::Cause,
        fleet::{ClusterDriver, Node},
    },
    remote::{argv::Target, client::Ssh, node_client},
    store::Store,
};

/// For a look at one machine.
const LOOK_DEADLINE: Duration = Duration::from_secs(30);
/// More of it, where firmware, BIOS attributes and volumes are read too.
const BASELINE_DEADLINE: Duration = Duration::from_secs(120);
const SSH_DEADLINE: Duration = Duration::from_secs(20);
/// For the TCP connection alone.
const SSH_CONNECT: Duration = Duration::from_secs(4);

pub struct Asking {
    pub passwords: Arc<bmc::Passwords>,
    pub store: Arc<dyn Store>,
    pub read_only: bool,
    pub concurrency: usize,
    pub scratch: PathBuf,
    pub observer: Option<bmc::client::Observer>,
    /// Ask BMCs too, not only systems and clusters.
    pub bmcs: bool,
    /// And for what the inventory's baselines say.
    pub baselines: bool,
    /// Ends all of it.
    pub stopped: Stopped,
}

fn observed<T>(value: Result<T, Failure>) -> Observed<T> {
    Observed { at: clock::unix_ms(), value }
}

pub async fn facts(fleet: &Fleet, names: &[String], asking: &Asking) -> Result<Facts, Failure> {
    let records = asking.store.node_records().map_err(|e| store_failure(&e))?;
    let record = |name: &str| records.iter().find(|(n, _)| n == name).map(|(_, r)| r.clone());
    let nodes: Vec<(&String, &Node)> = names.iter().filter_map(|n| fleet.nodes.get_key_value(n)).collect();
    let mut facts = Facts::default();
    let mut looks = stream::iter(nodes.into_iter().map(|(name, node)| {
        let record = record(name);
        async move { (name.clone(), Box::pin(look(node, record, asking)).await) }
    }))
    .buffer_unordered(asking.concurrency.max(1));
    while let Some((name, seen)) = looks.next().await {
        // What is shown later by `get` and `describe`; losing it costs nothing but freshness.
        if !*asking.stopped.borrow()
            && let Ok(value) = serde_json::to_value(&seen)
        {
            let _ = asking.store.put_observed(&name, clock::unix_ms(), &value);
        }
        facts.nodes.insert(name, seen);
    }
    drop(looks);
    // Half of what was asked for is no ground to plan on.
    let interrupted = || Failure::new(Cause::Interrupted, "ask the machines", "it was interrupted");
    if *asking.stopped.borrow() {
        return Err(interrupted());
    }
    for cluster in fleet.clusters.values() {
        let ClusterDriver::Etcd { client_port, .. } = cluster.driver else { continue };
        let endpoints: Vec<String> = cluster
            .members
            .iter()
            .filter(|m| record(m).is_some_and(|r| r.phase != InstallPhase::Unknown && r.may_serve()))
            .filter_map(|m| fleet.member_address(m, client_port))
            .map(|a| format!("http://{a}"))
            .collect();
        if !endpoints.is_empty() {
            let seen = tokio::select! {
                seen = observe_client::observe(&endpoints) => seen,
                () = sessions::stop(&asking.stopped) => return Err(interrupted()),
            };
            facts.clusters.insert(cluster.name.clone(), observed(seen));
        }
    }
    Ok(facts)
}

async fn look(node: &Node, record: Option<NodeRecord>, asking: &Asking) -> NodeFacts {
    let mut facts = NodeFacts::default();
    let bmc = async {
        if !asking.bmcs || node.bmc.is_none() {
            return None;
        }
        let wanted = asking.baselines && !node.baseline.is_empty();
        let limit = if wanted { LOOK_DEADLINE + BASELINE_DEADLINE } else { LOOK_DEADLINE };
        Some(bmc_facts(node, asking, wanted, limit).await)
    };
    let system = async {
        let record = record.as_ref().filter(|r| !r.system_host_key.is_empty())?;
        tokio::select! {
            status = system_status(node, &record.system_host_key, &asking.scratch) => Some(status),
            () = sessions::stop(&asking.stopped) => None,
        }
    };
    let (bmc, system) = tokio::join!(bmc, system);
    let (bmc, baseline) = match bmc {
        Some(Ok((seen, baseline))) => (Some(Ok(seen)), baseline),
        Some(Err(failure)) => (Some(Err(failure)), None),
        None => (None, None),
    };
    facts.baseline = baseline;
    if let Some(Ok(seen)) = &bmc
        && let Err(differing) = bmc::identity::compare(&node.identity, seen)
    {
        facts.identity_mismatches = differing.iter().map(ToString::to_string).collect();
    }
    facts.bmc = bmc.map(observed);
    facts.system = system.map(observed);
    facts.record = record;
    facts
}

async fn bmc_facts(
    node: &Node,
    asking: &Asking,
    baseline: bool,
    limit: Duration,
) -> Result<(BmcFacts, Option<BaselineFacts>), Failure> {
    let how =
        LogIn { read_only: asking.read_only, deadline: LOOK_DEADLINE, observer: asking.observer.clone(), gate: None };
    let until = Until { stopped: &asking.stopped, limit: Some(limit) };
    sessions::look(&asking.store, node, &asking.passwords, how, until, async |client: &bmc::Client| {
        let facts = client.facts().await?;
        let seen = match baseline {
            true => Some(baselines::facts(client, &node.baseline).await),
            false => None,
        };
        Ok((facts, seen))
    })
    .await
}

pub async fn system_status(node: &Node, host_key: &str, scratch: &Path) -> Result<NodeStatus, Failure> {
    let ask = async {
        let ssh = Ssh::prepare(ssh_target(node, host_key)?, scratch)?;
        node_client::node_status(&ssh).await
    };
    let late = || Failure::new(Cause::Unreachable, format!("{}: ask its system", node.name), "no answer over SSH");
    tokio::time::timeout(SSH_DEADLINE, ask).await.unwrap_or_else(|_| Err(late()))
}

pub fn ssh_target(node: &Node, host_key: &str) -> Result<Target, Failure> {
    let address = node.address().ok_or_else(|| {
        Failure::new(Cause::Guard, format!("{}: SSH", node.name), "the inventory gives it no address")
    })?;
    Ok(Target {
        host: address.to_string(),
        port: 22,
        user: node.ssh.user.clone().unwrap_or_else(|| "root".to_owned()),
        identity: node.ssh.identity.clone(),
        host_key: host_key.to_owned(),
        connect_timeout: SSH_CONNECT,
        agent: false,
    })
}
