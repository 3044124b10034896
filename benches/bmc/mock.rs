//! Thousands of BMCs in one program: every address of 127.1.0.0/16 is one, with one key. No more of Redfish than a look
//! at the power needs; the password is checked.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    ops::Sub,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{Request, Response, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rackctl::lab::bmc::certificate;
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;

use super::measure;

pub const PASSWORD: &str = "bench-bmc";
pub const SYSTEM: &str = "/redfish/v1/Systems/1";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const PORT: u16 = 8443;
const TOKEN: &str = "0123456789abcdef";
const BACKLOG: u32 = 16_384;

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static HANDSHAKES: AtomicU64 = AtomicU64::new(0);

pub fn addresses(count: usize) -> Vec<SocketAddr> {
    let at = |i: usize| Ipv4Addr::new(127, 1, (i / 250) as u8, 1 + (i % 250) as u8);
    (0..count).map(|i| SocketAddr::from((at(i), PORT))).collect()
}

#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub requests: u64,
    pub handshakes: u64,
    pub worked_s: f64,
}

impl Sub for Counts {
    type Output = Counts;
    fn sub(self, before: Counts) -> Counts {
        Counts {
            requests: self.requests - before.requests,
            handshakes: self.handshakes - before.handshakes,
            worked_s: self.worked_s - before.worked_s,
        }
    }
}

/// The program that is them all.
pub struct Mocks {
    child: Child,
    words: BufReader<std::process::ChildStdout>,
    /// SHA-256 of the public key, base64.
    pub pin: String,
}

impl Mocks {
    pub fn start(folder: &Path) -> Mocks {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("mock")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut words = BufReader::new(child.stdout.take().unwrap());
        let mut pin = String::new();
        words.read_line(&mut pin).unwrap();
        Mocks { child, words, pin: pin.trim().to_owned() }
    }

    pub fn counts(&mut self) -> Counts {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        self.words.read_line(&mut line).unwrap();
        let (requests, handshakes) = line.trim().split_once(' ').unwrap();
        Counts {
            requests: requests.parse().unwrap(),
            handshakes: handshakes.parse().unwrap(),
            worked_s: measure::worked_s(self.child.id()),
        }
    }

    pub fn stop(mut self) {
        // It ends with its standard input.
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Serves until standard input ends; a line of it asks for the counts.
pub fn run(folder: &Path, latency_ms: (u64, u64)) {
    let certificate = certificate("bmc", Some(Ipv4Addr::new(127, 1, 0, 1).into())).unwrap();
    std::fs::write(folder.join("cert.pem"), &certificate.cert_pem).unwrap();
    let tls = certificate.server_config().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(listen(TlsAcceptor::from(tls), latency_ms));
    println!("{}", STANDARD.encode(hex::decode(certificate.pin.strip_prefix("sha256:").unwrap()).unwrap()));
    for _ in std::io::stdin().lock().lines() {
        println!("{} {}", REQUESTS.load(Relaxed), HANDSHAKES.load(Relaxed));
    }
}

async fn listen(acceptor: TlsAcceptor, latency_ms: (u64, u64)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    // This namespace has no other interface than loopback.
    socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).unwrap();
    let listener = socket.listen(BACKLOG).unwrap();
    let drawn = Arc::new(AtomicU64::new(1));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (acceptor, drawn) = (acceptor.clone(), drawn.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            HANDSHAKES.fetch_add(1, Relaxed);
            let answer = service_fn(|request| answer(request, latency_ms, drawn.clone()));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    (least, most): (u64, u64),
    drawn: Arc<AtomicU64>,
) -> Result<Response<String>, Infallible> {
    REQUESTS.fetch_add(1, Relaxed);
    // SplitMix64: the same latencies in the same order, each time.
    let mut x = drawn.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    tokio::time::sleep(Duration::from_millis(least + (x ^ (x >> 31)) % (most - least + 1))).await;
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let basic = format!("Basic {}", STANDARD.encode(format!("root:{PASSWORD}")));
    let known = header("authorization") == basic || header("x-auth-token") == TOKEN;
    let path = request.uri().path().trim_end_matches('/');
    let (status, body) = match (request.method().as_str(), path) {
        ("GET", "/redfish/v1") => (200, root()),
        ("POST", SESSIONS) => (201, format!(r#"{{"@odata.id":"{SESSIONS}/1","Id":"1"}}"#)),
        _ if !known => (401, String::new()),
        ("GET", SYSTEM) => (200, system()),
        ("DELETE", _) => (204, String::new()),
        _ => (404, String::new()),
    };
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    let answer = if status == 401 { answer.header(header::WWW_AUTHENTICATE, "Basic realm=\"bmc\"") } else { answer };
    let answer = match status {
        201 => answer.header("X-Auth-Token", TOKEN).header(header::LOCATION, format!("{SESSIONS}/1")),
        _ => answer,
    };
    Ok(answer.body(body).unwrap())
}

fn root() -> String {
    format!(
        r##"{{"@odata.id":"/redfish/v1/","@odata.type":"#ServiceRoot.v1_9_0.ServiceRoot","Id":"RootService",
        "RedfishVersion":"1.11.0","Systems":{{"@odata.id":"/redfish/v1/Systems"}},
        "Links":{{"Sessions":{{"@odata.id":"{SESSIONS}"}}}}}}"##
    )
}

/// As large as real ones are: 3.5 kB.
fn system() -> String {
    format!(
        r##"{{"@odata.id":"{SYSTEM}","@odata.type":"#ComputerSystem.v1_13_0.ComputerSystem","Id":"1","PowerState":"On",
        "Manufacturer":"Bench","Model":"M1","SerialNumber":"S1","Status":{{"State":"Enabled","Health":"OK"}},
        "Boot":{{"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideTarget":"None"}},"Oem":{{"Bench":"{}"}},
        "Actions":{{"#ComputerSystem.Reset":{{"target":"{SYSTEM}/Actions/ComputerSystem.Reset"}}}}}}"##,
        "x".repeat(3_000)
    )
}
