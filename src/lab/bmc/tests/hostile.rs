//! BMCs that mean harm, or are merely broken: limits hold, passwords stay here.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::model::{Failure, failure::Cause};

/// Answers each path with raw bytes; `None` leaves the connection open without an answer.
type Script = fn(&str) -> Option<Vec<u8>>;

struct Hostile {
    node: fleet::Node,
    seen: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hostile(script: Script) -> Hostile {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let certificate = certificate("evil", None).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(certificate.server_config().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = seen.clone();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, heard) = (acceptor.clone(), heard.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    let read = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
                    request.extend_from_slice(&buffer[..read]);
                    let text = String::from_utf8_lossy(&request);
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length =
                        head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        break;
                    }
                }
                let line = String::from_utf8_lossy(&request).lines().next()?.to_owned();
                heard.lock().unwrap().push(line.clone());
                match script(line.split(' ').nth(1)?) {
                    Some(answer) => stream.write_all(&answer).await.ok()?,
                    None => tokio::time::sleep(Duration::from_secs(60)).await,
                }
                stream.shutdown().await.ok()
            });
        }
    });
    Hostile { node: node("n1", url, Trust::Pin(certificate.pin)), seen, task }
}

fn http(status: &str, headers: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut answer =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n", body.len())
            .into_bytes();
    answer.extend_from_slice(body);
    Some(answer)
}

fn json(value: serde_json::Value) -> Option<Vec<u8>> {
    http("200 OK", "", value.to_string().as_bytes())
}

/// A root without sessions: what follows is one system.
fn root() -> Option<Vec<u8>> {
    json(serde_json::json!({"RedfishVersion": "1.0.0", "Systems": {"@odata.id": "/redfish/v1/Systems"}}))
}

fn options(deadline: Duration) -> Options {
    Options { read_only: false, deadline, ledger: Arc::new(crate::bmc::NoLedger), observer: None, gate: None }
}

async fn facts(script: Script) -> (Failure, Vec<String>) {
    let hostile = hostile(script).await;
    let limit = Duration::from_secs(20);
    let failure = match Client::open(&hostile.node, &passwords(PASSWORD), options(limit)).await {
        Ok(client) => client.facts().await.unwrap_err(),
        Err(failure) => failure,
    };
    let seen = hostile.seen.lock().unwrap().clone();
    (failure, seen)
}

// fault: F16 invariant: I19 harness: P
#[tokio::test]
async fn a_huge_answer_is_cut_off() {
    let (failure, _) = facts(|path| match path {
        "/redfish/v1/" => root(),
        _ => http("200 OK", "", &vec![b' '; 5 << 20]),
    })
    .await;
    assert!(failure.cause == Cause::Malformed && failure.why.contains("4194304"), "{failure}");
}

// fault: F16 invariant: I19 harness: P
#[tokio::test]
async fn deep_nesting_is_not_parsed() {
    let (failure, _) = facts(|path| match path {
        "/redfish/v1/" => root(),
        _ => http("200 OK", "", "[".repeat(100_000).as_bytes()),
    })
    .await;
    assert!(failure.cause == Cause::Malformed && failure.why.contains("nests"), "{failure}");
}

// fault: F16 invariant: I19 harness: P
#[tokio::test]
async fn endless_members_end() {
    let (failure, seen) = facts(|path| match path {
        "/redfish/v1/" => root(),
        page => json(serde_json::json!({"Members": [], "Members@odata.nextLink": format!("{page}x")})),
    })
    .await;
    assert!(failure.cause == Cause::Malformed && failure.why.contains("does not end"), "{failure}");
    assert!(seen.len() < 25, "{}", seen.len());
    let (failure, _) = facts(|path| match path {
        "/redfish/v1/" => root(),
        _ => {
            let members: Vec<_> = (0..500).map(|n| serde_json::json!({"@odata.id": format!("/s/{n}")})).collect();
            json(serde_json::json!({"Members": members}))
        }
    })
    .await;
    assert!(failure.cause == Cause::Malformed && failure.why.contains("more than"), "{failure}");
}

// fault: F16 invariant: I17 harness: P
#[tokio::test]
async fn redirects_and_foreign_links_are_not_followed() {
    let (failure, seen) = facts(|path| match path {
        "/redfish/v1/" => root(),
        _ => http("307 Temporary Redirect", "location: https://127.0.0.1:1/steal\r\n", b""),
    })
    .await;
    assert!(failure.cause == Cause::Refused && failure.why.contains("redirects"), "{failure}");
    assert_eq!(seen.len(), 2);
    let (failure, seen) = facts(|_| {
        json(serde_json::json!({"RedfishVersion": "1", "Systems": {"@odata.id": "https://127.0.0.1:1/redfish/v1/Systems"}}))
    })
    .await;
    assert!(failure.cause == Cause::Malformed && failure.why.contains("leads away"), "{failure}");
    assert_eq!(seen, ["GET /redfish/v1/ HTTP/1.1"]);
    let (failure, seen) = facts(|_| {
        json(serde_json::json!({"Systems": {}, "Links": {"Sessions": {"@odata.id": "//evil.example/Sessions"}}}))
    })
    .await;
    assert!(failure.cause == Cause::Malformed && failure.why.contains("leads away"), "{failure}");
    assert_eq!(seen.len(), 1, "the password was not sent anywhere");
}

// fault: F16 invariant: I18 harness: P
#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let hostile = hostile(|path| (path == "/redfish/v1/").then(root).flatten()).await;
    let limit = Duration::from_secs(1);
    let started = std::time::Instant::now();
    // Without sessions the first request behind the root shows whether the password is taken: there it is silent.
    let failure = Client::open(&hostile.node, &passwords(PASSWORD), options(limit)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Deadline);
    assert!(started.elapsed() < Duration::from_secs(3));
}

// fault: F2 invariant: I18 harness: P
#[tokio::test]
async fn later_is_waited_for_within_bounds_and_told() {
    let (failure, seen) = facts(|path| match path {
        "/redfish/v1/" => root(),
        _ => http("503 Service Unavailable", "retry-after: 0\r\n", b"<html>"),
    })
    .await;
    assert_eq!((failure.cause, seen.len()), (Cause::Busy, 5), "{failure}");
}

#[tokio::test]
async fn what_is_no_redfish_and_no_tls_is_said() {
    let (failure, _) = facts(|_| json(serde_json::json!({"hello": 1}))).await;
    assert!(failure.cause == Cause::Malformed && failure.why.contains("no Redfish"), "{failure}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let pin = Trust::Pin(format!("sha256:{}", "0".repeat(64)));
    let plain = node("n1", format!("https://{address}"), pin.clone());
    let failure = Client::open(&plain, &passwords(PASSWORD), options(Duration::from_secs(5))).await.unwrap_err();
    assert!(failure.why.contains("does not speak TLS"), "{failure}");
    task.abort();
    let mut nobody = node("n1", "https://127.0.0.1:1".into(), pin);
    let failure = Client::open(&nobody, &passwords(PASSWORD), options(Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
    let ipmi = Endpoint { at: EndpointAt::Ipmi("127.0.0.1:1".into()), credential: "lab".into(), trust: Trust::None };
    nobody.bmc.as_mut().unwrap().endpoints.push(ipmi);
    let failure = Client::open(&nobody, &passwords(PASSWORD), options(Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
    assert!(
        failure.why.contains("https://127.0.0.1:1: no connection")
            && failure.why.contains("; ipmi://127.0.0.1:1: nothing listens"),
        "{failure}"
    );
}
