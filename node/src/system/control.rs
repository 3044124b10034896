//! The socket by which the commands reach PID 1: one request, one answer, each a line of JSON.

use super::member::Member;
use crate::console::say;
use crate::node_error::{Doing, Result};
use rackctl_wire::{BODY_MAX_BYTES, EtcdMember, EtcdStatus};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

pub const SOCKET: &str = "/run/rackctl.sock";
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "camelCase")]
/// What is asked about the etcd member.
pub enum Request {
    Start { member: Box<EtcdMember> },
    Stop,
    Status,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Etcd(Option<Box<EtcdStatus>>),
    Error { kind: String, message: String },
}

pub fn serve(member: Arc<Member>) -> Result<()> {
    let _ = std::fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET).doing(format_args!("listening on {SOCKET}"))?;
    std::fs::set_permissions(SOCKET, PermissionsExt::from_mode(0o600)).doing("closing the socket to others")?;
    std::thread::spawn(move || {
        // One at a time: two starts at once have no meaning.
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    if let Err(error) = answer(&member, stream) {
                        say(format!("control socket: {error}"));
                    }
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    });
    Ok(())
}

fn answer(member: &Member, mut stream: UnixStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut line = Vec::new();
    BufReader::new((&stream).take(BODY_MAX_BYTES as u64)).read_until(b'\n', &mut line)?;
    let result = match serde_json::from_slice::<Request>(&line) {
        Ok(Request::Start { member: config }) => member.start(*config).map(Some),
        Ok(Request::Stop) => member.stop(),
        Ok(Request::Status) => Ok(member.status()),
        Err(error) => Err(crate::node_error::NodeError::new("invalid", error.to_string())),
    };
    let answer = match result {
        Ok(status) => Answer::Etcd(status.map(Box::new)),
        Err(error) => Answer::Error { kind: error.kind.into(), message: error.message },
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)
}
