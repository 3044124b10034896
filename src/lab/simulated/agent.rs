//! What `rackctl-node` of an installed simulated machine answers: the commands of `node/src/command.rs`.

use rackctl_wire::{EtcdMember, EtcdStatus, MachineIds, NodeStatus, PROTOCOL, member};
use serde::{Deserialize, Serialize};

use super::machine::Machine;

const EXIT_FAILED: i32 = 1;
const EXIT_USAGE: i32 = 2;
const EXIT_WRONG_GENERATION: i32 = 3;
const EXIT_NOT_RUNNING: i32 = 4;
/// As a shell ends that finds no such program.
const EXIT_NOT_FOUND: i32 = 127;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Said {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

fn failed(status: i32, why: impl std::fmt::Display) -> Said {
    Said { status, stdout: String::new(), stderr: format!("rackctl-node: {why}\n") }
}

fn json(status: i32, value: &impl Serialize) -> Said {
    match serde_json::to_string(value) {
        Ok(text) => Said { status, stdout: format!("{text}\n"), stderr: String::new() },
        Err(error) => failed(EXIT_FAILED, error),
    }
}

/// Of a machine whose installed system is up. `stdin` is what the command was given.
pub fn run(machine: &Machine, words: &[String], stdin: &str) -> Said {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((program, arguments)) = words.split_first() else {
        return Said {
            status: EXIT_USAGE,
            stdout: String::new(),
            stderr: "a simulated machine has no shell; it runs rackctl-node alone\n".into(),
        };
    };
    match (*program, arguments) {
        ("true", _) => Said { status: 0, stdout: String::new(), stderr: String::new() },
        ("rackctl-node", ["status"]) => match status(machine) {
            Ok(status) => json(0, &status),
            Err(why) => failed(EXIT_FAILED, why),
        },
        ("rackctl-node", ["etcd", "status"]) => json(0, &etcd(machine)),
        ("rackctl-node", ["etcd", "stop"]) => match stop(machine) {
            Ok(status) => json(0, &status),
            Err(why) => failed(EXIT_FAILED, why),
        },
        ("rackctl-node", ["etcd", "start"]) => start(machine, stdin),
        ("rackctl-node", ["version"]) => {
            json(0, &serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "protocol": PROTOCOL }))
        }
        ("rackctl-node", _) => failed(
            EXIT_USAGE,
            "usage: rackctl-node status | etcd start < member.json | etcd stop | etcd status | version",
        ),
        (other, _) => Said {
            status: EXIT_NOT_FOUND,
            stdout: String::new(),
            stderr: format!("{other}: not found: a simulated machine runs rackctl-node alone\n"),
        },
    }
}

fn status(machine: &Machine) -> Result<NodeStatus, String> {
    let booted = machine.booted().ok_or("the system is going down")?;
    let (disk, identity) = (machine.disk.get(), machine.identity());
    Ok(NodeStatus {
        protocol: PROTOCOL,
        config: disk.node.ok_or("its disk has no node.json")?,
        boot_id: booted.boot_id,
        uptime_ms: u64::try_from(booted.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        slot: "a".into(),
        root_disk_guid: disk.guid.ok_or("its disk has no partition table")?,
        root_disk_serial: Some(identity.disk_serial),
        system_sha256: disk.system_sha256.ok_or("its disk has no installed.json")?,
        machine: MachineIds {
            uuid: Some(identity.uuid),
            serial: Some(identity.serial),
            macs: vec![machine.spec.mac.to_string()],
            ..MachineIds::default()
        },
        unix_ms: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_millis()).ok()),
        etcd: etcd(machine),
    })
}

fn etcd(machine: &Machine) -> Option<EtcdStatus> {
    let configured = machine.disk.get().etcd?;
    let booted = machine.booted();
    let (cloud, node) = (&machine.site.cloud, machine.spec.name.as_str());
    let running = cloud.running(node);
    let refused = booted.as_ref().and_then(|b| b.last_exit.clone()).filter(|_| !running);
    Some(EtcdStatus {
        running,
        starts: booted.map_or(0, |b| b.starts),
        last_exit: refused.or_else(|| cloud.last_exit(node)),
        has_data: cloud.has_data(node, &configured.initial_cluster_token),
        log_tail: Vec::new(),
        configured,
    })
}

fn stop(machine: &Machine) -> Result<Option<EtcdStatus>, String> {
    machine.disk.change(|disk| disk.etcd_enabled = false)?;
    machine.site.cloud.stop(&machine.spec.name);
    Ok(etcd(machine))
}

fn start(machine: &Machine, stdin: &str) -> Said {
    let wanted: EtcdMember = match serde_json::from_str(stdin) {
        Ok(wanted) => wanted,
        Err(error) => return failed(EXIT_FAILED, format!("the member: {error} (invalid)")),
    };
    let disk = machine.disk.get();
    let generation = disk.node.as_ref().map_or(0, |node| node.generation);
    if let Err(refused) = member::check(&wanted, generation, disk.etcd.as_ref()) {
        let status = if refused.kind == "wrongGeneration" { EXIT_WRONG_GENERATION } else { EXIT_FAILED };
        return failed(status, format!("{} ({})", refused.message, refused.kind));
    }
    let same = disk.etcd.as_ref() == Some(&wanted) && disk.etcd_enabled;
    if !same || !machine.site.cloud.running(&machine.spec.name) {
        let kept = machine.disk.change(|disk| {
            disk.etcd = Some(wanted.clone());
            disk.etcd_enabled = true;
        });
        if let Err(why) = kept {
            return failed(EXIT_FAILED, why);
        }
        // One that runs from another order gives way.
        machine.site.cloud.stop(&machine.spec.name);
        if let Err(why) = machine.start_member(&wanted) {
            machine.say(&format!("etcd ended: {why}"));
        }
    }
    let status = etcd(machine);
    let running = status.as_ref().is_some_and(|s| s.running);
    json(if running { 0 } else { EXIT_NOT_RUNNING }, &status)
}
