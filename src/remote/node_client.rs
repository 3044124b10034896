//! The node program of an installed system, spoken to over SSH.

use std::time::Duration;

use rackctl_wire::{BODY_MAX_BYTES, EtcdMember, EtcdStatus, NodeStatus, PROTOCOL};
use serde::de::DeserializeOwned;

use super::{
    client::{Output, Ssh},
    diagnosis::clean,
};
use crate::model::{Failure, failure::Cause};

const PROGRAM: &str = "rackctl-node";
/// Refusals of the node program, as they end its last line, that protect what another operator has made on the node.
const OTHERS: [&str; 1] = ["(otherCluster)"];
/// For one call; an emulated machine under load takes seconds for a handshake.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Stopping waits for etcd to end by itself.
pub const STOP_DEADLINE: Duration = Duration::from_secs(60);

pub async fn node_status(ssh: &Ssh) -> Result<NodeStatus, Failure> {
    let status: NodeStatus = call(ssh, &["status"], None, DEADLINE).await?;
    if status.protocol != PROTOCOL {
        let why = format!("the node program speaks protocol {}, this rackctl {PROTOCOL}", status.protocol);
        return Err(Failure::new(Cause::Mismatch, what(ssh, &["status"]), why));
    }
    Ok(status)
}

/// Says how etcd is to be run, and starts it. The same again changes nothing.
pub async fn etcd_start(ssh: &Ssh, member: &EtcdMember) -> Result<EtcdStatus, Failure> {
    let words = ["etcd", "start"];
    let body = serde_json::to_vec(member).map_err(|e| Failure::new(Cause::Local, what(ssh, &words), e.to_string()))?;
    let status: EtcdStatus = call(ssh, &words, Some(body), DEADLINE).await?;
    if status.configured != *member {
        let why = format!(
            "the node runs member {} of {} from another order than this one",
            status.configured.name, status.configured.cluster
        );
        return Err(Failure::new(Cause::AcceptedButIgnored, what(ssh, &words), why));
    }
    Ok(status)
}

/// Stops it; it stays stopped until it is started again.
pub async fn etcd_stop(ssh: &Ssh) -> Result<(), Failure> {
    let words = ["etcd", "stop"];
    good(ssh, &words, run(ssh, &words, None, STOP_DEADLINE).await?).map(drop)
}

fn what(ssh: &Ssh, words: &[&str]) -> String {
    format!("{}: {PROGRAM} {}", ssh.target().host, words.join(" "))
}

async fn run(ssh: &Ssh, words: &[&str], stdin: Option<Vec<u8>>, deadline: Duration) -> Result<Output, Failure> {
    let command: Vec<String> = std::iter::once(PROGRAM).chain(words.iter().copied()).map(String::from).collect();
    // Each of them may be given twice: the second time changes nothing.
    ssh.run_again(&command, stdin, deadline, BODY_MAX_BYTES).await
}

async fn call<T: DeserializeOwned>(
    ssh: &Ssh,
    words: &[&str],
    stdin: Option<Vec<u8>>,
    deadline: Duration,
) -> Result<T, Failure> {
    let stdout = good(ssh, words, run(ssh, words, stdin, deadline).await?)?;
    serde_json::from_slice(&stdout).map_err(|e| Failure::new(Cause::Malformed, what(ssh, words), e.to_string()))
}

fn good(ssh: &Ssh, words: &[&str], out: Output) -> Result<Vec<u8>, Failure> {
    if out.status == 0 {
        return Ok(out.stdout);
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let said = clean(said.trim().lines().last().unwrap_or("nothing on standard error"), 500);
    if let Some(kind) = OTHERS.iter().find(|kind| said.ends_with(*kind)) {
        let why = format!("somebody else was there before: {}", said.trim_end_matches(kind).trim_end());
        return Err(Failure::new(Cause::Guard, what(ssh, words), why).next("rackctl get members"));
    }
    Err(Failure::new(Cause::Refused, what(ssh, words), format!("it ended with {}: {said}", out.status)))
}
