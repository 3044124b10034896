//! HTTP: boot scripts, seeds and objects by digest. GET and HEAD alone; a path names something of the table or nothing.

pub mod range;
pub mod serve;

use std::net::Ipv4Addr;

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode, header};

use super::{cpio, ipxe, live::Live};
use crate::model::{
    Mac,
    boot::{BootChoice, BootMachine, NetbootEvent},
};
use range::Range;

/// What is answered, before it becomes a response. For HEAD the body's length is told and the body is not sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: Bytes,
    pub object: Option<Tagged>,
    /// Told when the body has been sent (`Whole`) or at once where there is none.
    pub event: Option<NetbootEvent>,
}

/// What an object's answer says besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    pub sha256: String,
    /// First byte, last byte, whole length: for 206; for 416 the length alone counts.
    pub range: Option<(u64, u64)>,
    pub total: u64,
}

impl Answer {
    fn plain(status: StatusCode, text: &'static str) -> Answer {
        let body = Bytes::from_static(text.as_bytes());
        Answer { status, content_type: "text/plain", body, object: None, event: None }
    }
    fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Answer {
        Answer { status: StatusCode::OK, content_type, body: body.into(), object: None, event: None }
    }
}

/// The whole decision. `peer` is the connection's other end.
pub fn route(live: &Live, peer: Ipv4Addr, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, peer, path, "GET and HEAD only\n");
    }
    if path == "/healthz" {
        return Answer::ok("text/plain", "ok\n");
    }
    // Objects are public within the run: their digests are their names. Scripts and seeds are each one machine's.
    if let Some(sha256) = path.strip_prefix("/o/") {
        return match live.object(sha256) {
            Some(_) if live.machine_at(peer).is_none() => {
                refuse(StatusCode::FORBIDDEN, peer, path, "not a machine of this run\n")
            }
            Some(object) => {
                let kind = match object.about.tftp_name.as_deref() {
                    // UEFI HTTP Boot takes what it loads for a program only by this type, or by a name in .efi.
                    Some(name) if name.ends_with(".efi") => "application/efi",
                    _ => "application/octet-stream",
                };
                object_answer(sha256, kind, &object.bytes, headers)
            }
            None => refuse(StatusCode::NOT_FOUND, peer, path, "no such object in this run\n"),
        };
    }
    let (answer, event): (Answer, fn(String, Mac) -> NetbootEvent) =
        if let Some(mac) = path.strip_prefix("/boot/").and_then(|name| name.strip_suffix(".ipxe")) {
            match own(live, peer, mac) {
                Ok(machine) => (script(live, machine), |node, mac| NetbootEvent::ScriptServed { node, mac }),
                Err((status, why)) => return refuse(status, peer, path, why),
            }
        } else if let Some(mac) = path.strip_prefix("/seed/").and_then(|name| name.strip_suffix(".cpio")) {
            match own(live, peer, mac) {
                Ok(machine) => match seed(machine) {
                    Some(answer) => (answer, |node, mac| NetbootEvent::SeedServed { node, mac }),
                    None => return refuse(StatusCode::NOT_FOUND, peer, path, "this machine is not being installed\n"),
                },
                Err((status, why)) => return refuse(status, peer, path, why),
            }
        } else {
            return refuse(StatusCode::NOT_FOUND, peer, path, "not found\n");
        };
    // A HEAD is a question, not a delivery.
    let event = live
        .machine_at(peer)
        .filter(|_| method == Method::GET && answer.status == StatusCode::OK)
        .map(|machine| event(machine.node.clone(), machine.mac));
    Answer { event, ..answer }
}

/// The machine of this MAC, if the peer has its address.
fn own<'a>(live: &'a Live, peer: Ipv4Addr, mac: &str) -> Result<&'a BootMachine, (StatusCode, &'static str)> {
    // With hyphens as we write it; with colons, bare or as iPXE escapes them, if typed by a person.
    let mac = mac.replace("%3A", ":");
    let machine = mac.parse().ok().and_then(|mac| live.machine(mac)).ok_or((StatusCode::NOT_FOUND, "not found\n"))?;
    if machine.address == peer { Ok(machine) } else { Err((StatusCode::FORBIDDEN, "another machine's\n")) }
}

fn script(live: &Live, machine: &BootMachine) -> Answer {
    match ipxe::render(live, machine) {
        Ok(script) => Answer::ok("text/plain", script),
        // The table is validated before it comes here; a script that does nothing but say so is the second guard.
        Err(_) => Answer::ok(
            "text/plain",
            "#!ipxe\necho rackctl: the boot table holds a value that cannot stand in a script\nexit 1\n",
        ),
    }
}

fn seed(machine: &BootMachine) -> Option<Answer> {
    match &machine.boot {
        BootChoice::Installer { seed_json, .. } => {
            Some(Answer::ok("application/octet-stream", cpio::one_file("rackctl", "seed.json", seed_json.as_bytes())))
        }
        BootChoice::Withdrawn | BootChoice::LocalDisk => None,
    }
}

fn object_answer(sha256: &str, content_type: &'static str, bytes: &Bytes, headers: &HeaderMap) -> Answer {
    let total = bytes.len() as u64;
    let tag = format!("\"{sha256}\"");
    let tagged = |range| Some(Tagged { sha256: sha256.to_owned(), range, total });
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|tags| range::matches(tags, &tag)) {
        return Answer {
            status: StatusCode::NOT_MODIFIED,
            content_type,
            body: Bytes::new(),
            object: tagged(None),
            event: None,
        };
    }
    // A range of another version is no range (RFC 9110 section 13.1.5).
    let asked = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|version| version == tag));
    let (status, body, range) = match asked.map_or(Range::Whole, |asked| range::read(asked, total)) {
        Range::Whole => (StatusCode::OK, bytes.clone(), None),
        Range::Part(first, last) => {
            (StatusCode::PARTIAL_CONTENT, bytes.slice(first as usize..=last as usize), Some((first, last)))
        }
        Range::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new(), None),
    };
    Answer { status, content_type, body, object: tagged(range), event: None }
}

fn refuse(status: StatusCode, peer: Ipv4Addr, path: &str, text: &'static str) -> Answer {
    let path = path.chars().take(160).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    let event = Some(NetbootEvent::HttpRefused { address: peer, path, status: status.as_u16() });
    Answer { event, ..Answer::plain(status, text) }
}
