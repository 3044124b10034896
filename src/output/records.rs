//! What only the store, the servers and the clusters know: runs, locks, leases, events, members.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Kind, Table, age, format::API_VERSION};
use crate::{
    engine::play::Row,
    model::{Mac, facts::UnixMs},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Record {
    Run(Run),
    Lock(Lock),
    Lease(Lease),
    Event(Event),
    Member(Member),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub id: String,
    /// `apply`, `install`, `power off`, …
    pub goal: String,
    /// `Running`, `Done`, `Failed`, `Interrupted`, …
    pub phase: String,
    pub nodes: Vec<String>,
    pub operator: String,
    pub started: UnixMs,
    pub ended: Option<UnixMs>,
    pub reason: Option<String>,
    /// Of a playbook, each step and how it stands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// `node/n1`, `cluster/core`, `network/prov`
    pub subject: String,
    pub holder: String,
    pub host: String,
    pub run: Option<String>,
    pub since: UnixMs,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub network: String,
    pub node: String,
    pub mac: Mac,
    pub address: std::net::Ipv4Addr,
    pub given: UnixMs,
    pub ends: UnixMs,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub at: UnixMs,
    pub run: Option<String>,
    /// A node or a cluster.
    pub subject: String,
    /// `StepBegun`, `StepDone`, …
    pub kind: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub cluster: String,
    pub name: String,
    /// As the cluster prints it.
    pub id: String,
    /// `leader`, `voter`, `learner`
    pub role: String,
    pub healthy: bool,
    pub version: Option<String>,
    pub peer_urls: Vec<String>,
    pub observed: UnixMs,
}

impl Record {
    pub fn kind(&self) -> Kind {
        match self {
            Record::Run(_) => Kind::Run,
            Record::Lock(_) => Kind::Lock,
            Record::Lease(_) => Kind::Lease,
            Record::Event(_) => Kind::Event,
            Record::Member(_) => Kind::Member,
        }
    }

    pub fn name(&self) -> String {
        match self {
            Record::Run(run) => run.id.clone(),
            Record::Lock(lock) => lock.subject.clone(),
            Record::Lease(lease) => format!("{}/{}", lease.network, lease.mac),
            Record::Event(event) => format!("{}/{}", event.subject, event.at),
            Record::Member(member) => format!("{}/{}", member.cluster, member.name),
        }
    }

    /// Everything in `status`: nobody wrote any of it.
    pub fn item(&self) -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": self.kind().title(), "metadata": { "name": self.name() },
            "spec": {}, "status": self,
        })
    }

    /// Is it about this node, cluster or run?
    pub fn is_about(&self, name: &str) -> bool {
        match self {
            Record::Run(run) => run.id == name || run.nodes.iter().any(|n| n == name),
            Record::Lock(lock) => lock.subject == name || lock.subject.split_once('/').is_some_and(|(_, n)| n == name),
            Record::Lease(lease) => lease.node == name || lease.network == name,
            Record::Event(event) => event.subject == name || event.run.as_deref() == Some(name),
            Record::Member(member) => member.name == name || member.cluster == name,
        }
    }

    fn cells(&self, now: UnixMs) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let ago = |at: UnixMs| age::since(now, at);
        match self {
            Record::Run(run) => vec![
                run.id.clone(),
                run.goal.clone(),
                run.phase.clone(),
                run.nodes.len().to_string(),
                run.operator.clone(),
                age::stamp(run.started),
                run.ended.map(|end| age::since(end, run.started)).unwrap_or_default(),
                text(&run.reason),
            ],
            Record::Lock(lock) => {
                vec![lock.subject.clone(), lock.holder.clone(), lock.host.clone(), text(&lock.run), ago(lock.since)]
            }
            Record::Lease(lease) => vec![
                lease.network.clone(),
                lease.node.clone(),
                lease.mac.to_string(),
                lease.address.to_string(),
                ago(lease.given),
                if lease.ends > now { age::since(lease.ends, now) } else { "over".to_owned() },
            ],
            Record::Event(event) => {
                vec![ago(event.at), text(&event.run), event.subject.clone(), event.kind.clone(), event.message.clone()]
            }
            Record::Member(member) => vec![
                member.cluster.clone(),
                member.name.clone(),
                member.id.clone(),
                member.role.clone(),
                if member.healthy { "yes" } else { "no" }.to_owned(),
                text(&member.version),
                ago(member.observed),
                member.peer_urls.join(","),
            ],
        }
    }
}

fn headers(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Run => &["RUN", "GOAL", "PHASE", "NODES", "OPERATOR", "STARTED", "TOOK", "REASON"],
        Kind::Lock => &["SUBJECT", "HOLDER", "HOST", "RUN", "AGE"],
        Kind::Lease => &["NETWORK", "NODE", "MAC", "ADDRESS", "AGE", "ENDS IN"],
        Kind::Event => &["AGE", "RUN", "SUBJECT", "EVENT", "MESSAGE"],
        Kind::Member => &["CLUSTER", "NAME", "ID", "ROLE", "HEALTHY", "VERSION", "OBSERVED", "PEERS"],
        _ => &["NAME"],
    }
}

/// Records of one kind.
pub fn table(kind: Kind, records: &[Record], now: UnixMs) -> Table {
    let mut table = Table::new(headers(kind).iter().copied());
    records.iter().filter(|record| record.kind() == kind).for_each(|record| table.row(record.cells(now)));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = 1_767_366_245_000;

    fn records() -> Vec<Record> {
        vec![
            Record::Run(Run {
                id: "r-1".into(),
                goal: "apply".into(),
                phase: "Interrupted".into(),
                nodes: vec!["n1".into(), "n2".into()],
                operator: "ann".into(),
                started: NOW - 400_000,
                ended: Some(NOW - 300_000),
                reason: Some("^C".into()),
                steps: vec![],
            }),
            Record::Lock(Lock {
                subject: "node/n1".into(),
                holder: "ann".into(),
                host: "ops1".into(),
                run: Some("r-1".into()),
                since: NOW - 5_000,
            }),
            Record::Lease(Lease {
                network: "prov".into(),
                node: "n1".into(),
                mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
                address: [10, 77, 0, 11].into(),
                given: NOW - 60_000,
                ends: NOW + 540_000,
            }),
            Record::Event(Event {
                at: NOW - 3_000,
                run: Some("r-1".into()),
                subject: "n1".into(),
                kind: "StepDone".into(),
                message: "power on\u{1b}[2J".into(),
            }),
            Record::Member(Member {
                cluster: "core".into(),
                name: "n1".into(),
                id: "8e9e05c52164694d".into(),
                role: "leader".into(),
                healthy: true,
                version: Some("3.4.23".into()),
                peer_urls: vec!["http://10.77.0.11:2380".into()],
                observed: NOW - 1_000,
            }),
        ]
    }

    #[test]
    fn tables_of_all() {
        let all: String = records().iter().map(|r| table(r.kind(), &records(), NOW).render(None)).collect();
        insta::assert_snapshot!(all);
    }

    #[test]
    fn items_have_the_five_parts_and_a_subject() {
        for record in records() {
            let item = record.item();
            assert!(["apiVersion", "kind", "metadata", "spec", "status"].iter().all(|key| item.get(key).is_some()));
            assert!(record.is_about("n1"), "{item}");
            assert!(!record.is_about("n9"));
        }
    }
}
