//! What a lost state is made anew from: what machines and clusters say now. Pure: facts in, records out.
//!
//! One rule above all: what cannot be told is recorded as unknown, so that no later plan takes it for bare. A
//! cluster that may exist is recorded as made, so that none is ever bootstrapped beside it.

use std::collections::BTreeMap;

use rackctl_wire::{EtcdMember, NodeStatus};
use uuid::Uuid;

use crate::{
    bmc::identity::swapped,
    model::{
        facts::{InstallPhase, NodeFacts, NodeRecord},
        fleet::{Cluster, Node},
        power::PowerState,
    },
    store::ClusterRecord,
};

/// The generation that a node of unknown past is given: above any that an earlier installation can have had, so that
/// one that comes back from it is known to be stale.
pub const GENERATION_UNKNOWN: u64 = 1_000;

/// A record and why it says what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<T> {
    pub record: T,
    pub why: String,
}

/// The record of a node. `key`: the host key that it was asked with, if there was one; `hint`: what could still be
/// read of the lost state; `no_key`: why there is none.
pub fn node(
    node: &Node,
    facts: &NodeFacts,
    key: Option<&str>,
    no_key: Option<&str>,
    hint: Option<&NodeRecord>,
    run: &str,
    now_ms: u64,
) -> Told<NodeRecord> {
    let unknown = |why: String| Told {
        record: NodeRecord {
            generation: hint.map_or(GENERATION_UNKNOWN, |h| h.generation.max(1)),
            run: run.to_owned(),
            phase: InstallPhase::Unknown,
            system_host_key: key.unwrap_or_default().to_owned(),
            // The mark of an unfinished write lets a person's `--reinstall` finish it; nil is the mark of no disk.
            disk_guid: hint.map_or_else(Uuid::nil, |h| h.disk_guid),
            disk_serial: hint.and_then(|h| h.disk_serial.clone()),
            system_sha256: hint.map(|h| h.system_sha256.clone()).unwrap_or_default(),
            at: now_ms,
            over: None,
        },
        why,
    };
    if !facts.identity_mismatches.is_empty() {
        return unknown(format!("its BMC is of another machine: {}", facts.identity_mismatches.join("; ")));
    }
    let status = match (facts.system.as_ref().map(|o| &o.value), key) {
        (Some(Ok(status)), Some(_)) => status,
        (Some(Err(failure)), Some(_)) => return unknown(silent(facts, &failure.to_string())),
        _ => return unknown(silent(facts, no_key.unwrap_or("its SSH host key is not known"))),
    };
    if let Err(why) = is_of(node, status) {
        return unknown(why);
    }
    Told {
        record: NodeRecord {
            generation: status.config.generation,
            run: status.config.run.clone(),
            phase: InstallPhase::Installed,
            system_host_key: key.unwrap_or_default().to_owned(),
            disk_guid: status.root_disk_guid,
            disk_serial: status.root_disk_serial.clone(),
            system_sha256: status.system_sha256.clone(),
            at: now_ms,
            over: None,
        },
        why: format!(
            "it answers as generation {}, up from disk {}",
            status.config.generation,
            status.root_disk_serial.as_deref().unwrap_or("without a serial")
        ),
    }
}

fn silent(facts: &NodeFacts, why: &str) -> String {
    match facts.bmc.as_ref().map(|o| &o.value) {
        Some(Ok(bmc)) if bmc.power == PowerState::Off => {
            "its power is off: what is on its disk cannot be told".to_owned()
        }
        Some(Err(failure)) => format!("neither system nor BMC can be asked: {why}; {}", failure.why),
        _ => why.to_owned(),
    }
}

/// Whether the system that answers is this node's: by name, and by what its firmware says of the machine.
fn is_of(node: &Node, status: &NodeStatus) -> Result<(), String> {
    if status.config.node != node.name {
        return Err(format!("the system that answers calls itself {}", status.config.node));
    }
    let machine = &status.machine;
    let mut agree = false;
    if let (Some(want), Some(seen)) = (node.identity.uuid, machine.uuid) {
        if seen != want && seen != swapped(want) {
            return Err(format!("the machine's UUID is {seen}, the inventory says {want}"));
        }
        agree = true;
    }
    if let Some(want) = &node.identity.serial {
        let seen: Vec<&String> = [&machine.serial, &machine.sku, &machine.board_serial].into_iter().flatten().collect();
        if seen.iter().any(|s| s.trim().eq_ignore_ascii_case(want.trim())) {
            agree = true;
        } else if let Some(serial) = &machine.serial {
            return Err(format!("the machine's serial is {serial}, the inventory says {want}"));
        }
    }
    if let Some(interface) = node.provision() {
        let want = interface.mac.to_string();
        if machine.macs.iter().any(|m| m.eq_ignore_ascii_case(&want)) {
            agree = true;
        } else if !machine.macs.is_empty() {
            return Err(format!("none of the machine's interfaces is {want}"));
        }
    }
    match agree {
        true => Ok(()),
        false => Err("nothing that the machine says of itself ties it to the inventory".to_owned()),
    }
}

/// The record of a cluster, from what its members' own systems say and from `seen`, the id that its members agree
/// on, if they answer. `None`: it was never made.
pub fn cluster(
    cluster: &Cluster,
    records: &BTreeMap<String, NodeRecord>,
    systems: &BTreeMap<String, NodeStatus>,
    seen: Option<&str>,
    run: &str,
) -> Option<Told<ClusterRecord>> {
    let installed = |m: &&String| records.get(*m).is_some_and(|r| r.phase == InstallPhase::Installed);
    let configured: Vec<_> = cluster
        .members
        .iter()
        .filter(installed)
        .filter_map(|m| Some((m, &systems.get(m)?.etcd.as_ref()?.configured)))
        .filter(|(_, etcd)| etcd.cluster == cluster.name)
        .collect();
    let record = |member: &str, token: &str| ClusterRecord {
        generation: 1,
        run: run.to_owned(),
        bootstrap_member: member.to_owned(),
        token: token.to_owned(),
        cluster_id: seen.map(str::to_owned),
        found: true,
    };
    if let Some((member, etcd)) =
        configured.iter().find(|(_, etcd)| etcd.initial_cluster_state == "new").or(configured.first())
    {
        // Whoever joined was told the id of what it joined; two that were each begun as new are two clusters.
        let begun = |(_, e): &&(&String, &EtcdMember)| e.initial_cluster_state == "new";
        let other =
            configured.iter().filter(begun).find(|(_, e)| e.initial_cluster_token != etcd.initial_cluster_token);
        let why = match (other, seen) {
            (Some((other, _)), _) => format!("{member} and {other} were each begun as a new cluster: look at both"),
            (None, Some(id)) => format!("{} of its members run it; its id is {id}", configured.len()),
            (None, None) => format!("{} of its members are set up for it, and none answers", configured.len()),
        };
        // Members are started with the cluster's name before it.
        let token = etcd.initial_cluster_token.as_str();
        let token = token.strip_prefix(&format!("{}-", cluster.name)).unwrap_or(token);
        return Some(Told { record: record(member, token), why });
    }
    if seen.is_some() {
        let why = "it answers, and no installed node says that it is a member".to_owned();
        return Some(Told { record: record("", ""), why });
    }
    let strangers: Vec<&str> = cluster.members.iter().filter(|m| !installed(m)).map(String::as_str).collect();
    if strangers.is_empty() {
        return None;
    }
    let why = format!(
        "it may exist on {}: it is taken to, and is not made anew (--no-cluster {} says otherwise)",
        strangers.join(", "),
        cluster.name
    );
    Some(Told { record: record("", ""), why })
}

#[cfg(test)]
mod tests {
    use rackctl_wire::EtcdStatus;
    use serde_json::json;

    use super::*;
    use crate::model::{Failure, facts::Observed, failure::Cause};

    const KEY: &str = "ssh-ed25519 AAAA";
    const UUID: &str = "11111111-2222-3333-4444-555555555555";

    fn inventory() -> Node {
        serde_json::from_value(json!({
            "name": "n1", "labels": {}, "site": null, "hardwareClass": null, "profile": null, "lifecycle": "active",
            "management": "full", "protect": false,
            "identity": { "serial": "S1", "uuid": UUID, "serialFrom": "serialNumber" }, "bmc": null,
            "interfaces": [{ "name": null, "mac": "52:54:00:00:00:01", "network": null, "role": null, "addresses": [] }],
            "disks": {}, "location": {}, "arch": "amd64", "bootMode": "uefi", "bootMethod": "pxe", "console": null,
            "minimum": {}, "image": null, "kernelParams": [], "install": null, "services": [],
            "ssh": { "user": null, "identity": null, "authorizedKeys": [] }, "dns": [],
        }))
        .unwrap()
    }

    fn status() -> NodeStatus {
        serde_json::from_value(json!({
            "protocol": 1,
            "config": {
                "protocol": 1, "node": "n1", "fleet": "f", "run": "r-7", "generation": 3, "hostname": "n1",
                "interfaces": [], "authorizedKeys": [],
            },
            "bootId": "b", "uptimeMs": 1, "slot": "a", "rootDiskGuid": UUID, "rootDiskSerial": "D1",
            "systemSha256": "ab", "machine": { "uuid": UUID, "serial": "S1", "macs": ["52:54:00:00:00:01"] },
        }))
        .unwrap()
    }

    fn facts(system: Option<Result<NodeStatus, Failure>>) -> NodeFacts {
        NodeFacts { system: system.map(|value| Observed { at: 1, value }), ..NodeFacts::default() }
    }

    fn judge(facts: &NodeFacts, key: Option<&str>, hint: Option<&NodeRecord>) -> Told<NodeRecord> {
        node(&inventory(), facts, key, None, hint, "rebuild-1", 9)
    }

    #[test]
    fn a_system_that_answers_as_itself_is_installed() {
        let told = judge(&facts(Some(Ok(status()))), Some(KEY), None);
        let record = &told.record;
        assert_eq!((record.phase, record.generation, record.run.as_str()), (InstallPhase::Installed, 3, "r-7"));
        assert_eq!((record.disk_guid.to_string().as_str(), record.system_host_key.as_str()), (UUID, KEY));
        assert!(told.why.contains("generation 3"), "{}", told.why);
    }

    #[test]
    fn everything_else_is_unknown_and_never_bare() {
        let with = |change: &dyn Fn(&mut NodeStatus)| {
            let mut status = status();
            change(&mut status);
            facts(Some(Ok(status)))
        };
        let silent = Failure::new(Cause::Unreachable, "n1: ask its system", "no answer over SSH");
        let cases = [
            (facts(None), None, "host key is not known"),
            (facts(Some(Err(silent))), Some(KEY), "no answer over SSH"),
            (facts(Some(Ok(status()))), None, "host key is not known"),
            (with(&|s| s.config.node = "n2".into()), Some(KEY), "calls itself n2"),
            (with(&|s| s.machine.uuid = Some(Uuid::from_u128(9))), Some(KEY), "UUID"),
            (with(&|s| s.machine.serial = Some("S9".into())), Some(KEY), "serial is S9"),
            (with(&|s| s.machine.macs = vec!["52:54:00:00:00:09".into()]), Some(KEY), "interfaces"),
            (with(&|s| s.machine = Default::default()), Some(KEY), "nothing that the machine says"),
            (
                NodeFacts { identity_mismatches: vec!["serial: A, B".into()], ..facts(Some(Ok(status()))) },
                Some(KEY),
                "another machine",
            ),
        ];
        for (facts, key, why) in cases {
            let told = judge(&facts, key, None);
            assert_eq!(told.record.phase, InstallPhase::Unknown, "{}", told.why);
            assert_eq!((told.record.generation, told.record.disk_guid), (GENERATION_UNKNOWN, Uuid::nil()));
            assert!(told.why.contains(why), "{} lacks {why}", told.why);
        }
    }

    #[test]
    fn a_hint_keeps_the_mark_of_an_unfinished_write() {
        let hint =
            NodeRecord { phase: InstallPhase::Installing, ..judge(&facts(Some(Ok(status()))), Some(KEY), None).record };
        let told = judge(&facts(None), None, Some(&hint));
        assert_eq!(told.record.phase, InstallPhase::Unknown);
        assert_eq!((told.record.generation, told.record.disk_guid), (3, hint.disk_guid));
    }

    fn etcd(state: &str, token: &str) -> EtcdStatus {
        EtcdStatus {
            configured: EtcdMember {
                protocol: 1,
                generation: 3,
                cluster: "c".into(),
                name: "n1".into(),
                initial_cluster_state: state.into(),
                initial_cluster: String::new(),
                initial_cluster_token: token.into(),
                listen_client_urls: String::new(),
                advertise_client_urls: String::new(),
                listen_peer_urls: String::new(),
                initial_advertise_peer_urls: String::new(),
            },
            running: true,
            starts: 1,
            last_exit: None,
            has_data: true,
            log_tail: Vec::new(),
        }
    }

    #[test]
    fn a_cluster_that_may_exist_is_never_made_anew() {
        let spec = Cluster {
            name: "c".into(),
            driver: crate::model::fleet::ClusterDriver::Other { kind: "etcd".into() },
            members: vec!["n1".into(), "n2".into()],
            size: 2,
            spares: Vec::new(),
            depends_on: Vec::new(),
            rollout: Default::default(),
        };
        let up = judge(&facts(Some(Ok(status()))), Some(KEY), None).record;
        let unknown = judge(&facts(None), None, None).record;
        let records =
            |second: &NodeRecord| BTreeMap::from([("n1".to_owned(), up.clone()), ("n2".to_owned(), second.clone())]);
        let systems = |one: Option<EtcdStatus>, two: Option<EtcdStatus>| {
            BTreeMap::from([
                ("n1".to_owned(), NodeStatus { etcd: one, ..status() }),
                ("n2".to_owned(), NodeStatus { etcd: two, ..status() }),
            ])
        };
        let told = |second: &NodeRecord, systems: &BTreeMap<String, NodeStatus>, seen: Option<&str>| {
            cluster(&spec, &records(second), systems, seen, "rebuild-1")
        };
        // All answer, and none has ever run it.
        assert_eq!(told(&up, &systems(None, None), None), None);
        // One cannot be told.
        let placeholder = told(&unknown, &systems(None, None), None).unwrap();
        assert!(placeholder.why.contains("n2") && placeholder.record.token.is_empty());
        // What a member of unknown past says does not count.
        let told_by_stranger = told(&unknown, &systems(None, Some(etcd("new", "t2"))), None).unwrap();
        assert!(told_by_stranger.record.token.is_empty());
        // The one that was bootstrapped is found again, with its token and id.
        let found =
            told(&up, &systems(Some(etcd("existing", "c-joined-beef")), Some(etcd("new", "c-t"))), Some("beef"))
                .unwrap();
        assert!(found.why.contains("2 of its members"), "{}", found.why);
        assert_eq!((found.record.bootstrap_member.as_str(), found.record.token.as_str()), ("n2", "t"));
        assert_eq!(found.record.cluster_id.as_deref(), Some("beef"));
        let torn = told(&up, &systems(Some(etcd("new", "t1")), Some(etcd("new", "t2"))), None).unwrap();
        assert!(torn.why.contains("each begun as a new cluster"), "{}", torn.why);
    }
}
