//! Looks at a cluster until it has been healthy for long enough.

use std::time::Duration;

use super::gate::{Gate, Soak, verdict};
use crate::{
    cluster::etcd::observe_client,
    model::{Failure, Fleet, failure::Cause, fleet::ClusterDriver},
    run::clock,
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// To the open gate, or a failure at the deadline. `told` hears why it is closed, whenever that changes.
pub async fn healthy(
    fleet: &Fleet,
    cluster: &str,
    healthy_ms: u64,
    deadline_ms: u64,
    mut told: impl FnMut(&str),
) -> Result<(), Failure> {
    let what = format!("wait for cluster {cluster}");
    let Some(spec) = fleet.clusters.get(cluster) else {
        return Err(Failure::new(Cause::Guard, what, "it is not in the inventory").next("rackctl get clusters"));
    };
    let ClusterDriver::Etcd { client_port, .. } = spec.driver else {
        let why = "this version looks into etcd clusters alone";
        return Err(Failure::new(Cause::Refused, what, why).next(format!("rackctl describe cluster {cluster}")));
    };
    let endpoints: Vec<String> = spec
        .members
        .iter()
        .filter_map(|m| fleet.member_address(m, client_port))
        .map(|a| format!("http://{a}"))
        .collect();
    let now_ms = || u64::try_from(clock::since_boot().as_millis()).unwrap_or(u64::MAX);
    let mut soak = Soak::new(now_ms(), healthy_ms, deadline_ms);
    let mut last = String::new();
    loop {
        let seen = observe_client::observe(&endpoints).await;
        match soak.look(now_ms(), verdict(spec, &seen)) {
            Gate::Open => return Ok(()),
            Gate::Late { why } => {
                let why = format!("not healthy for {} s within {} s: {why}", healthy_ms / 1_000, deadline_ms / 1_000);
                return Err(Failure::new(Cause::Deadline, what, why)
                    .next(format!("rackctl describe cluster {cluster} --refresh")));
            }
            Gate::Closed { why } => {
                // Seconds of health are no news.
                let news = why.split_once(" s of ").map_or(why.as_str(), |(_, rest)| rest);
                if news != last {
                    told(&why);
                    last = news.to_owned();
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
