//! The machines and their BMCs, seen without rackctl: disks on the host, request logs, the supervisor's own word.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::PathBuf,
    time::Duration,
};

use rackctl::lab::{
    Request, Response,
    control::{LabStatus, MachineStatus},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Bench;

impl Bench {
    pub fn ask(&self, request: &Request) -> Response {
        let mut stream = UnixStream::connect(self.layout.control()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(&serde_json::to_vec(request).unwrap()).unwrap();
        stream.write_all(b"\n").unwrap();
        let mut answer = Vec::new();
        BufReader::new(stream).take(8 << 20).read_until(b'\n', &mut answer).unwrap();
        match serde_json::from_slice(&answer).unwrap() {
            Response::Failed { failure } => panic!("{request:?}: {failure}"),
            response => response,
        }
    }

    pub fn status(&self) -> LabStatus {
        let Response::Status { status } = self.ask(&Request::Status) else { panic!("no status") };
        status
    }
    pub fn machine(&self, node: &str) -> MachineStatus {
        self.status().machines.into_iter().find(|m| m.name == node).unwrap()
    }

    /// `GET /redfish/v1/…` of every request that the node's BMC has seen.
    pub fn requests(&self, node: &str) -> Vec<String> {
        let Response::Requests { requests } = self.ask(&Request::Requests { node: node.into() }) else {
            panic!("no requests")
        };
        let text = |v: &Value, field: &str| v[field].as_str().unwrap().to_owned();
        requests.iter().map(|r| format!("{} {}", text(r, "method"), text(r, "path"))).collect()
    }
    /// All BMCs' requests so far, by node.
    pub fn all_requests(&self) -> Vec<(String, Vec<String>)> {
        self.lab().machines.into_iter().map(|m| (m.name.clone(), self.requests(&m.name))).collect()
    }
    /// What the BMCs were asked since `before` besides reading, logging in and logging out.
    pub fn writes_since(&self, before: &[(String, Vec<String>)]) -> Vec<String> {
        let mut writes = Vec::new();
        for ((node, now), (_, old)) in self.all_requests().into_iter().zip(before) {
            assert!(now.starts_with(old), "{node}: its BMC's log was cut or restarted");
            let new = &now[old.len()..];
            writes.extend(new.iter().filter(|r| is_write(r)).map(|r| format!("{node}: {r}")));
        }
        writes
    }

    pub fn disk(&self, node: &str) -> PathBuf {
        self.layout.machine(node).disk()
    }
    /// SHA-256 of the whole disk; holes are skipped by their place, so that a sparse disk costs little.
    pub fn disk_digest(&self, node: &str) -> String {
        let file = fs::File::open(self.disk(node)).unwrap();
        let mut digest = Sha256::new();
        let mut at = 0_i64;
        use nix::unistd::{Whence, lseek};
        // SEEK_DATA says ENXIO where only a hole is left.
        while let Ok(begin) = lseek(&file, at, Whence::SeekData) {
            let end = lseek(&file, begin, Whence::SeekHole).unwrap();
            let mut buffer = vec![0; 1 << 20];
            let mut from = begin as u64;
            while from < end as u64 {
                let room = buffer.len().min((end as u64 - from) as usize);
                file.read_exact_at(&mut buffer[..room], from).unwrap();
                // Zeros that are written and zeros that are a hole are the same disk.
                if buffer[..room].iter().any(|b| *b != 0) {
                    digest.update(from.to_be_bytes());
                    digest.update(&buffer[..room]);
                }
                from += room as u64;
            }
            at = end;
        }
        hex::encode(digest.finalize())
    }
    pub fn disk_is_blank(&self, node: &str) -> bool {
        self.disk_digest(node) == hex::encode(Sha256::digest(b""))
    }
    /// GUID in the header of the disk's partition table (UEFI 2.10, 5.3.2), where there is one.
    pub fn disk_guid(&self, node: &str) -> Option<uuid::Uuid> {
        let mut header = [0; 512];
        fs::File::open(self.disk(node)).unwrap().read_exact_at(&mut header, 512).unwrap();
        (&header[..8] == b"EFI PART").then(|| uuid::Uuid::from_slice_le(&header[56..72]).unwrap())
    }

    /// Everything that the machine's serial port ever said.
    pub fn console(&self, node: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.layout.machine(node).serial_log()).unwrap_or_default()).into_owned()
    }
}

pub fn is_write(request: &str) -> bool {
    let (method, path) = request.split_once(' ').unwrap();
    !matches!(method, "GET" | "HEAD") && !path.starts_with("/redfish/v1/SessionService/Sessions")
}
