//! What a machine fetches over HTTP, from its own address.

use std::{net::Ipv4Addr, time::Duration};

use rackctl_wire::{
    ApiError, BODY_MAX_BYTES, Claim, ClaimAnswer, Directive, PROTOCOL, Report, installer_line::Sha256Hex,
};
use reqwest::{Client, ClientBuilder, redirect::Policy};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::timing::API_WAIT_MAX;
use crate::{bmc::tls, model::fleet::Trust};

/// Objects up to this are read whole and their digest is checked; of larger ones this much is read, which proves
/// that they are served, and no more: they are not run.
pub const READ_MAX: usize = 8 << 20;
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(10);
/// Over a minute in all, as long as the real installer waits for a server.
const OBJECT_TRIES: u32 = 70;
const OBJECT_WAIT: Duration = Duration::from_millis(100);

fn builder(from: Ipv4Addr, pin: &str) -> Result<ClientBuilder, String> {
    let (tls, _) = tls::config("provisioning API", &Trust::Pin(pin.to_owned())).map_err(|f| f.why)?;
    Ok(Client::builder()
        .use_preconfigured_tls(tls)
        .local_address(Some(from.into()))
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(REQUEST)
        .pool_max_idle_per_host(1))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

struct Broken {
    /// Worth another try.
    again: bool,
    why: String,
}

/// Plain HTTP, as iPXE and the installer's downloads are.
pub struct Http(Client);

impl Http {
    pub fn new(from: Ipv4Addr) -> Result<Http, String> {
        // No HTTPS is spoken by this client: no key is right.
        let nobody = format!("sha256:{}", "0".repeat(64));
        builder(from, &nobody)?.build().map(Http).map_err(|e| chain(&e))
    }

    /// As much of it as [`READ_MAX`], and how long it is in all.
    pub async fn get(&self, url: &str) -> Result<(Vec<u8>, u64), String> {
        self.fetch(url).await.map_err(|Broken { why, .. }| why)
    }

    async fn fetch(&self, url: &str) -> Result<(Vec<u8>, u64), Broken> {
        let broken = |e: reqwest::Error| Broken { again: true, why: chain(&e) };
        let mut response = self.0.get(url).send().await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            let again = status.is_server_error() || status.as_u16() == 429;
            return Err(Broken { again, why: format!("{url}: HTTP {}", status.as_u16()) });
        }
        let total = response.content_length();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() >= READ_MAX {
                break;
            }
        }
        let total = total.unwrap_or(bytes.len() as u64);
        if (bytes.len() as u64) < total && bytes.len() < READ_MAX {
            let why = format!("{url}: it ended after {} of {total} bytes", bytes.len());
            return Err(Broken { again: true, why });
        }
        Ok((bytes, total))
    }

    /// An object by its digest. A transfer that breaks off is begun again, as the real installer does: a server that
    /// dies and comes back is no reason to fail.
    pub async fn object(&self, assets: &str, digest: &Sha256Hex) -> Result<u64, (&'static str, String)> {
        let url = format!("{assets}/o/{}", digest.0);
        let mut tries = 1;
        let (bytes, total) = loop {
            match self.fetch(&url).await {
                Ok(got) => break got,
                Err(Broken { again, why }) if !again || tries == OBJECT_TRIES => {
                    return Err(("network", format!("{why} (try {tries})")));
                }
                Err(_) => tokio::time::sleep(OBJECT_WAIT.saturating_mul(tries).min(API_WAIT_MAX)).await,
            }
            tries += 1;
        };
        let seen = hex::encode(Sha256::digest(&bytes));
        if bytes.len() as u64 == total && seen != digest.0 {
            return Err(("digestMismatch", format!("{url} has the digest {seen}")));
        }
        Ok(total)
    }
}

#[derive(Debug)]
pub enum CallError {
    /// No answer, or one that says "later".
    Away(String),
    /// The server has decided.
    Refused { status: u16, error: ApiError },
}

impl CallError {
    pub fn session_is_gone(&self) -> bool {
        matches!(self, CallError::Refused { status, error } if *status == 401 || error.kind == "unknownSession")
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Away(text) => f.write_str(text),
            CallError::Refused { status, error } => write!(f, "{} ({}, HTTP {status})", error.message, error.kind),
        }
    }
}

/// The provisioning API, trusted by the key on the kernel's command line.
pub struct Api {
    base: String,
    http: Client,
}

impl Api {
    pub fn new(from: Ipv4Addr, base: &str, pin: &Sha256Hex) -> Result<Api, String> {
        let builder = builder(from, &format!("sha256:{}", pin.0))?.https_only(true);
        Ok(Api { base: base.to_owned(), http: builder.build().map_err(|e| chain(&e))? })
    }

    pub async fn claim(&self, claim: &Claim) -> Result<ClaimAnswer, CallError> {
        let answer: ClaimAnswer = self.post("claim", None, claim).await?;
        if answer.protocol == PROTOCOL {
            return Ok(answer);
        }
        let message = format!("the API speaks protocol {}, this installer {PROTOCOL}", answer.protocol);
        Err(CallError::Refused { status: 200, error: ApiError { kind: "protocol".into(), message } })
    }

    pub async fn report(&self, session: &str, report: &Report) -> Result<Directive, CallError> {
        self.post("report", Some(session), report).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        what: &str,
        session: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let away = |error: reqwest::Error| CallError::Away(chain(&error));
        let mut request = self.http.post(format!("{}/v1/{what}", self.base)).json(body);
        if let Some(session) = session {
            request = request.bearer_auth(session);
        }
        let mut response = request.send().await.map_err(away)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if bytes.len() + chunk.len() > BODY_MAX_BYTES {
                return Err(CallError::Away(format!("the answer to {what} is larger than {BODY_MAX_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| CallError::Away(format!("the answer to {what} is not understood: {error}")));
        }
        Err(refusal(status.as_u16(), &bytes))
    }
}

/// As the real installer takes it: 408, 425, 429 and 5xx mean "later", other errors are final.
fn refusal(status: u16, body: &[u8]) -> CallError {
    let error = serde_json::from_slice::<ApiError>(body)
        .unwrap_or_else(|_| ApiError { kind: format!("http{status}"), message: "no reason was given".into() });
    if status >= 500 || matches!(status, 408 | 425 | 429) {
        CallError::Away(format!("{} ({}, HTTP {status})", error.message, error.kind))
    } else {
        CallError::Refused { status, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// One answer a connection; an empty one breaks it.
    async fn serve(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        base
    }

    #[tokio::test]
    async fn an_object_is_tried_for_until_the_run_is_back_and_its_digest_is_checked() {
        const LATER: &str = "HTTP/1.1 503 Later\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        const OBJECT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n0123";
        const GONE: &str = "HTTP/1.1 404 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let http = Http::new(Ipv4Addr::LOCALHOST).unwrap();
        let right = Sha256Hex(hex::encode(Sha256::digest(b"0123")));
        let base = serve(vec!["", LATER, OBJECT]).await;
        assert_eq!(http.object(&base, &right).await, Ok(4));
        let wrong = Sha256Hex("0".repeat(64));
        let base = serve(vec![OBJECT]).await;
        assert_eq!(http.object(&base, &wrong).await.unwrap_err().0, "digestMismatch");
        let base = serve(vec![GONE, OBJECT]).await;
        assert_eq!(http.object(&base, &right).await.unwrap_err().0, "network");
    }

    #[test]
    fn which_refusals_are_final() {
        let body = br#"{"kind":"tokenUsed","message":"the token was used"}"#;
        for (status, last) in [(401, true), (404, true), (408, false), (429, false), (500, false)] {
            assert_eq!(matches!(refusal(status, body), CallError::Refused { .. }), last, "{status}");
        }
        assert!(refusal(401, b"").session_is_gone());
    }
}
