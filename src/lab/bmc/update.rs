//! Firmware: SimpleUpdate and the multipart push (DSP0266 14.4). The version is the one in the image's name.

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Fault,
    paths::{INVENTORY, MANAGER, SYSTEM, bare},
    reply::{self, Reply, refuse},
    state::State,
    tasks::Effect,
};

/// Where images are pushed to.
pub const PUSH: &str = "/redfish/v1/UpdateService/update-multipart";
/// Largest image: the laboratory's are small.
pub const PUSH_MAX: usize = 32 << 20;
const ACTION: &str = "UpdateService.SimpleUpdate";
const PROTOCOLS: [&str; 3] = ["HTTP", "HTTPS", "TFTP"];
/// Updates at a time.
const MAX_RUNNING: usize = 4;

impl State {
    pub fn simple_update(&mut self, now: OffsetDateTime, sent: &Value) -> Reply {
        let Some(uri) = sent["ImageURI"].as_str() else { return reply::parameter_missing(ACTION, "ImageURI") };
        let protocol = sent["TransferProtocol"].as_str();
        if let Some(word) = protocol.filter(|w| !PROTOCOLS.contains(w)) {
            return reply::parameter_value(ACTION, "TransferProtocol", word);
        }
        let with_scheme = ["http://", "https://", "tftp://"].iter().any(|s| uri.starts_with(s));
        if !with_scheme && protocol.is_none() {
            return reply::parameter_missing(ACTION, "TransferProtocol");
        }
        let name = uri.rsplit('/').next().unwrap_or(uri).to_owned();
        self.update(now, &name, &sent["Targets"])
    }

    /// `multipart/form-data` with `UpdateParameters` (JSON) and `UpdateFile` (RFC 7578).
    pub fn push(&mut self, now: OffsetDateTime, headers: &HeaderMap, bytes: &[u8]) -> Reply {
        if self.has(Fault::UpdateNoPush) {
            return reply::missing(PUSH);
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let boundary = kind.split(';').find_map(|part| part.trim().strip_prefix("boundary="));
        let Some(boundary) = boundary.filter(|_| kind.starts_with("multipart/form-data")) else {
            let text = "The media type of the request is not multipart/form-data.";
            return refuse(415, "HeaderInvalid", text, &["Content-Type"]);
        };
        let parts = parts(bytes, boundary.trim_matches('"'));
        let part = |name: &str| parts.iter().find(|p| p.name == name);
        let (Some(parameters), Some(file)) = (part("UpdateParameters"), part("UpdateFile")) else {
            return refuse(
                400,
                "MissingOrMalformedPart",
                "UpdateParameters or UpdateFile is missing or malformed.",
                &[],
            );
        };
        let Ok(parameters) = serde_json::from_slice::<Value>(parameters.content) else { return reply::malformed() };
        if file.content.is_empty() {
            return refuse(400, "MissingOrMalformedPart", "UpdateFile is empty.", &[]);
        }
        let name = file.file.clone().unwrap_or_default();
        self.update(now, &name, &parameters["Targets"])
    }

    fn update(&mut self, now: OffsetDateTime, image: &str, targets: &Value) -> Reply {
        let target = match targets.get(0).and_then(Value::as_str).map(bare) {
            None => "BMC".to_owned(),
            Some(path) => {
                let known = path.strip_prefix(INVENTORY).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
                match (known, path.as_str()) {
                    (Some(name), _) if self.docs.get(&path).is_some() => name,
                    (_, SYSTEM) => "BIOS".into(),
                    (_, MANAGER) => "BMC".into(),
                    _ => return reply::parameter_value(ACTION, "Targets", &path),
                }
            }
        };
        let Some(version) = version_in(image) else {
            let text = format!("The image '{image}' has no version in its name and is no firmware.");
            return refuse(400, "Update.1.1.UpdateNotApplicable", &text, &[image, &target]);
        };
        if self.jobs.running() >= MAX_RUNNING {
            return reply::busy(true);
        }
        self.begin(now, &format!("Update of {target}"), Effect::Firmware(target, version))
    }

    /// The version as it is shown from now on, in the inventory and where else it stands.
    pub fn set_firmware(&mut self, name: &str, version: &str) {
        self.docs.merge(&format!("{INVENTORY}/{name}"), &json!({ "Version": version }));
        match name {
            "BIOS" => drop(self.docs.merge(SYSTEM, &json!({ "BiosVersion": version }))),
            "BMC" => {
                self.docs.merge(MANAGER, &json!({ "FirmwareVersion": version }));
                // A new firmware of the BMC is started: what was in memory is gone.
                self.bmc_restarts();
            }
            _ => {}
        }
        self.version += 1;
    }
}

struct Part<'a> {
    name: String,
    file: Option<String>,
    content: &'a [u8],
}

/// The parts between the boundaries; malformed ones are left out.
fn parts<'a>(bytes: &'a [u8], boundary: &str) -> Vec<Part<'a>> {
    let mark = format!("--{boundary}").into_bytes();
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| find(rest, &mark)) {
        starts.push(at + found);
        at += found + mark.len();
    }
    let mut parts = Vec::new();
    for pair in starts.windows(2) {
        let [from, to] = pair else { continue };
        let Some(whole) = bytes.get(from + mark.len()..*to) else { continue };
        let Some(head_end) = find(whole, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(whole.get(..head_end).unwrap_or_default()).into_owned();
        let content = whole.get(head_end + 4..).unwrap_or_default();
        let content = content.strip_suffix(b"\r\n").unwrap_or(content);
        let quoted = |name: &str| {
            let rest = head.split_once(&format!("{name}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        // ` name="` and not the end of `filename="`.
        if let Some(name) = quoted(" name") {
            parts.push(Part { name, file: quoted("filename"), content });
        }
    }
    parts
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// `bios-2.19.1.bin` → `2.19.1`: the longest run of digits and dots that has a dot in it.
fn version_in(image: &str) -> Option<String> {
    let runs = image.split(|c: char| !c.is_ascii_digit() && c != '.').map(|run| run.trim_matches('.'));
    let versions = runs.filter(|run| run.contains('.') && run.len() <= 40);
    versions.max_by_key(|run| run.len()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_out_of_names() {
        assert_eq!(version_in("bios-2.19.1.bin").as_deref(), Some("2.19.1"));
        assert_eq!(version_in("iDRAC_7.10.30.00_A00.EXE").as_deref(), Some("7.10.30.00"));
        assert_eq!(version_in("readme.txt"), None);
    }

    #[test]
    fn a_form_is_taken_apart() {
        let body = b"--X\r\nContent-Disposition: form-data; name=\"UpdateParameters\"\r\n\r\n{}\r\n--X\r\n\
            Content-Disposition: form-data; name=\"UpdateFile\"; filename=\"a-1.2.bin\"\r\n\r\nab\r\ncd\r\n--X--\r\n";
        let parts = parts(body, "X");
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].name.as_str(), parts[0].content), ("UpdateParameters", &b"{}"[..]));
        assert_eq!((parts[1].file.as_deref(), parts[1].content), (Some("a-1.2.bin"), &b"ab\r\ncd"[..]));
    }
}
