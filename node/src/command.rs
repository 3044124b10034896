//! The commands that rackctl runs over SSH. Results are JSON on standard output, reasons go to standard error.

use crate::node_error::{Doing, NodeError, Result};
use crate::system::{Answer, Request, SOCKET, booted};
use crate::{clock, dmi, etcd, marker};
use rackctl_wire::{BODY_MAX_BYTES, EtcdMember, EtcdStatus, NodeConfig, NodeStatus, PROTOCOL};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const USAGE: &str = "usage: rackctl-node status | etcd start < member.json | etcd stop | etcd status | version";
const EXIT_FAILED: i32 = 1;
const EXIT_USAGE: i32 = 2;
/// The member is for another generation of this installation.
const EXIT_WRONG_GENERATION: i32 = 3;
/// etcd was started and has ended.
const EXIT_NOT_RUNNING: i32 = 4;
/// Longer than PID 1 needs to stop one etcd and start another.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

pub fn run(arguments: &[String]) -> i32 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["status"] => status().and_then(|status| print(&status)).map(|()| 0),
        ["etcd", "start"] => start(),
        ["etcd", "stop"] => ask(&Request::Stop).and_then(|status| print(&status)).map(|()| 0),
        ["etcd", "status"] => ask(&Request::Status).and_then(|status| print(&status)).map(|()| 0),
        ["version"] => {
            print(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "protocol": PROTOCOL })).map(|()| 0)
        }
        _ => {
            eprintln!("{USAGE}");
            return EXIT_USAGE;
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rackctl-node: {error}");
            if error.kind == "wrongGeneration" { EXIT_WRONG_GENERATION } else { EXIT_FAILED }
        }
    }
}

fn print(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).doing("encoding JSON")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).doing("writing to standard output")
}

fn ask(request: &Request) -> Result<Option<EtcdStatus>> {
    let away = |error: std::io::Error| NodeError::io(format_args!("asking PID 1 at {SOCKET}"), error);
    let mut stream = UnixStream::connect(SOCKET).map_err(away)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE)).map_err(away)?;
    let mut bytes = serde_json::to_vec(request).doing("encoding JSON")?;
    bytes.push(b'\n');
    stream.write_all(&bytes).map_err(away)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(BODY_MAX_BYTES as u64)).read_until(b'\n', &mut line).map_err(away)?;
    match serde_json::from_slice(&line).doing("reading PID 1's answer")? {
        Answer::Etcd(status) => Ok(status.map(|status| *status)),
        Answer::Error { kind, message } => {
            let known = ["wrongGeneration", "otherCluster", "protocol", "invalid", "io"];
            let kind = known.into_iter().find(|name| *name == kind).unwrap_or("failed");
            Err(NodeError::new(kind, message))
        }
    }
}

fn start() -> Result<i32> {
    let mut text = Vec::new();
    std::io::stdin().take(BODY_MAX_BYTES as u64).read_to_end(&mut text).doing("reading standard input")?;
    let member: EtcdMember =
        serde_json::from_slice(&text).map_err(|error| NodeError::new("invalid", format!("the member: {error}")))?;
    // Looked at here, too: a stale node says so even where PID 1 is out of order.
    let config: NodeConfig = marker::read(&Path::new("/data").join(marker::NODE))?;
    etcd::check(&member, config.generation, None)?;
    let status = ask(&Request::Start { member: Box::new(member) })?;
    print(&status)?;
    Ok(if status.is_some_and(|status| status.running) { 0 } else { EXIT_NOT_RUNNING })
}

fn status() -> Result<NodeStatus> {
    let data = Path::new("/data");
    let installed: marker::Installed = marker::read(&data.join(marker::INSTALLED))?;
    let booted = booted()?;
    Ok(NodeStatus {
        protocol: PROTOCOL,
        config: marker::read(&data.join(marker::NODE))?,
        boot_id: dmi::boot_id(),
        uptime_ms: clock::uptime_ms(),
        slot: booted.slot,
        root_disk_guid: booted.disk_guid,
        root_disk_serial: booted.disk_serial,
        system_sha256: installed.system_sha256,
        machine: dmi::machine(),
        unix_ms: clock::wall_ms(),
        etcd: ask(&Request::Status)?,
    })
}
