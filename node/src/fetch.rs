//! Objects of the asset server: named by their digest, checked before anyone sees them.

use crate::api::{backoff, chain};
use crate::cmdline::Sha256Hex;
use crate::console::say;
use crate::hostkey::hex;
use crate::node_error::{Doing, NodeError, Result};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, RANGE};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Tries in a row that bring no byte.
const TRIES: u32 = 12;
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A transfer that is silent this long is broken off and taken up again.
const SILENCE: Duration = Duration::from_secs(15);
/// What has to stay free beside the object.
const MEMORY_RESERVE_BYTES: u64 = 48 << 20;

pub fn client() -> Result<reqwest::Client> {
    // The digest is the protection here; nothing secret goes over this connection.
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .doing("setting up TLS")?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_DEADLINE)
        .read_timeout(SILENCE)
        .build()
        .map_err(|error| NodeError::new("network", chain(&error)))
}

enum Broken {
    /// Worth another try.
    Again(String),
    Final(NodeError),
}

/// Whether an object of `size` fits into `available` bytes of memory.
fn fits(size: u64, available: Option<u64>) -> Result<()> {
    match available {
        Some(available) if size.saturating_add(MEMORY_RESERVE_BYTES) > available => Err(NodeError::new(
            "space",
            format!(
                "the object has {size} bytes, {available} bytes of memory are free, {MEMORY_RESERVE_BYTES} stay in reserve"
            ),
        )),
        _ => Ok(()),
    }
}

/// First byte and whole length of `bytes FIRST-LAST/LENGTH` (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, length.parse().ok()?))
}

/// Fetches `url` into `path` and checks it. On any error the file is removed.
pub async fn object(url: &str, digest: &Sha256Hex, path: &Path, progress: impl Fn(u64, Option<u64>)) -> Result<u64> {
    let result = fetch(url, digest, path, progress).await;
    if result.is_err() {
        let _ = std::fs::remove_file(path);
    }
    result
}

async fn fetch(url: &str, digest: &Sha256Hex, path: &Path, progress: impl Fn(u64, Option<u64>)) -> Result<u64> {
    let client = client()?;
    let mut state = Partial { file: File::create(path).doing("making the file")?, hash: Sha256::new(), done: 0 };
    let mut tries = 0;
    loop {
        let before = state.done;
        match state.attempt(&client, url, &progress).await {
            Ok(()) => break,
            Err(Broken::Final(error)) => return Err(error),
            Err(Broken::Again(text)) => {
                tries = if state.done > before { 1 } else { tries + 1 };
                if tries >= TRIES {
                    return Err(NodeError::new("network", format!("fetching {url} failed {TRIES} times: {text}")));
                }
                say(format!("fetching broke off at byte {}: {text}", state.done));
                tokio::time::sleep(backoff(tries - 1)).await;
            }
        }
    }
    let Partial { hash, done, .. } = state;
    let seen = hex(&hash.finalize());
    if seen != digest.0 {
        let message = format!("{url} has sha256:{seen}, expected was sha256:{}", digest.0);
        return Err(NodeError::new("digestMismatch", message));
    }
    Ok(done)
}

struct Partial {
    file: File,
    hash: Sha256,
    done: u64,
}

impl Partial {
    fn restart(&mut self) -> Result<()> {
        use std::io::Seek;
        self.file.set_len(0).doing("emptying the file")?;
        self.file.rewind().doing("emptying the file")?;
        self.hash = Sha256::new();
        self.done = 0;
        Ok(())
    }

    async fn attempt(
        &mut self,
        client: &reqwest::Client,
        url: &str,
        progress: &impl Fn(u64, Option<u64>),
    ) -> std::result::Result<(), Broken> {
        let again = |error: reqwest::Error| Broken::Again(chain(&error));
        let mut request = client.get(url);
        if self.done > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.done));
        }
        let mut response = request.send().await.map_err(again)?;
        let total = match response.status() {
            StatusCode::OK => {
                if self.done > 0 {
                    self.restart().map_err(Broken::Final)?;
                }
                response.content_length()
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                match range.and_then(content_range) {
                    Some((first, total)) if first == self.done => Some(total),
                    _ => {
                        self.restart().map_err(Broken::Final)?;
                        return Err(Broken::Again("the server answered with another range".into()));
                    }
                }
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Broken::Again(format!("HTTP {status}")));
            }
            status => return Err(Broken::Final(NodeError::new("network", format!("{url}: HTTP {status}")))),
        };
        if let Some(total) = total {
            fits(total.saturating_sub(self.done), crate::dmi::memory("MemAvailable")).map_err(Broken::Final)?;
        }
        while let Some(chunk) = response.chunk().await.map_err(again)? {
            if total.is_some_and(|total| self.done + chunk.len() as u64 > total) {
                return Err(Broken::Final(NodeError::new("network", format!("{url} is longer than it said"))));
            }
            self.file.write_all(&chunk).doing("storing what was fetched").map_err(Broken::Final)?;
            self.hash.update(&chunk);
            self.done += chunk.len() as u64;
            progress(self.done, total);
        }
        match total {
            Some(total) if self.done < total => Err(Broken::Again(format!("{} of {total} bytes came", self.done))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    /// Serves each canned answer to one connection and gives back the requests.
    fn serve(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/o/x", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut buffer = [0u8; 4096];
                let length = stream.read(&mut buffer).unwrap();
                requests.push(String::from_utf8_lossy(&buffer[..length]).to_lowercase());
                stream.write_all(&answer).unwrap();
            }
            requests
        });
        (url, thread)
    }

    fn run(url: &str, digest: &[u8], path: &Path) -> Result<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let digest = Sha256Hex(hex(&Sha256::digest(digest)));
        runtime.block_on(object(url, &digest, path, |_, _| {}))
    }

    // fault: F26 harness: P
    #[test]
    fn a_broken_transfer_is_taken_up_again() {
        let (url, thread) = serve(vec![
            b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234".to_vec(),
            b"HTTP/1.1 206 Part\r\nContent-Length: 5\r\nContent-Range: bytes 5-9/10\r\n\r\n56789".to_vec(),
        ]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        assert_eq!(run(&url, b"0123456789", &path), Ok(10));
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
        let requests = thread.join().unwrap();
        assert!(requests[2].contains("range: bytes=5-"), "{}", requests[2]);
    }

    #[test]
    fn a_server_without_ranges_starts_over() {
        let (url, thread) = serve(vec![
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234".to_vec(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789".to_vec(),
        ]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        assert_eq!(run(&url, b"0123456789", &path), Ok(10));
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
        thread.join().unwrap();
    }

    // fault: F26 invariant: I5 harness: P
    #[test]
    fn a_wrong_digest_leaves_nothing() {
        let (url, thread) =
            serve(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad".to_vec()]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let error = run(&url, b"good", &path).unwrap_err();
        assert_eq!(error.kind, "digestMismatch");
        for text in [b"bad".as_slice(), b"good"] {
            assert!(error.message.contains(&hex(&Sha256::digest(text))), "{}", error.message);
        }
        assert!(!path.exists());
        thread.join().unwrap();
    }

    #[test]
    fn not_found_is_final() {
        let (url, thread) = serve(vec![b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()]);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(run(&url, b"x", &dir.path().join("object")).unwrap_err().kind, "network");
        thread.join().unwrap();
    }

    #[test]
    fn memory_is_looked_at_first() {
        assert!(fits(100 << 20, Some(400 << 20)).is_ok());
        assert_eq!(fits(380 << 20, Some(400 << 20)).unwrap_err().kind, "space");
    }
}
