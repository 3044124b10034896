//! One call to one endpoint. Every call has a deadline, every body a limit, no redirect is followed and no
//! proxy asked. Nothing is tried again here: who calls knows whether that is right.

use std::{error::Error as _, io, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    error::{Fault, Kind, classify},
    request::{Span, Transaction},
    tls_load,
    wire::{
        Alarms, ErrorBody, Header, Health, KeptAlive, Lease, Members, Plain, Range, Status, Token, Txn, Version,
        create_request, encode, put_request, range_request,
    },
};
use crate::model::{Failure, Secret, failure::Cause};

/// Largest body that is read. A member list of a hundred members has 20 KiB.
pub const BODY_MAX_BYTES: usize = 4 << 20;
/// For a call; etcd itself gives up on a proposal after 5 s + 2 election timeouts (7 s).
pub const CALL_DEADLINE: Duration = Duration::from_secs(8);
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// Speaks to `http://IP:PORT`, or with a CA to `https://HOST:PORT`.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    deadline: Duration,
    token: Option<String>,
}

impl Client {
    pub fn new(endpoint: &str, deadline: Duration) -> Result<Client, Failure> {
        Client::with(endpoint, deadline, &tls_load::Files::default())
    }

    pub fn with(endpoint: &str, deadline: Duration, files: &tls_load::Files) -> Result<Client, Failure> {
        let what = format!("{endpoint}: make an HTTP client for etcd");
        let base = endpoint.trim_end_matches('/').to_string();
        let url = reqwest::Url::parse(&base).map_err(|e| Failure::new(Cause::Local, &what, e.to_string()))?;
        let wanted = if files.ca.is_some() { "https" } else { "http" };
        if url.scheme() != wanted || url.path() != "/" {
            return Err(Failure::new(Cause::Local, &what, format!("the endpoint must be {wanted}://IP:PORT")));
        }
        // Plain HTTP, too, gets a configuration: the HTTP client would otherwise look for a process-wide one.
        let tls = tls_load::config(&what, files)?;
        let http = http_client(deadline, tls).map_err(|e| Failure::new(Cause::Local, &what, e))?;
        Ok(Client { http, base, deadline, token: None })
    }

    /// The same client, with what [`Client::authenticate`] gave.
    pub fn with_token(&self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self.clone() }
    }

    pub fn endpoint(&self) -> &str {
        &self.base
    }

    /// As this member knows it (`linearizable: false`, also without quorum), or as the cluster has agreed on it.
    /// etcd 3.4 has only the first kind and silently ignores the wish for the other, so a linearizable read goes
    /// before it, which brings this member up to everything committed before the call.
    pub async fn members(&self, linearizable: bool) -> Result<Members, Fault> {
        if linearizable {
            self.range(b"/rackctl/verify", false).await?;
        }
        self.post("/v3/cluster/member/list", &json!({ "linearizable": linearizable })).await
    }

    pub async fn member_add_learner(&self, peer_url: &str) -> Result<Members, Fault> {
        self.post("/v3/cluster/member/add", &json!({ "peerURLs": [peer_url], "isLearner": true })).await
    }

    pub async fn member_promote(&self, id: u64) -> Result<Members, Fault> {
        self.post("/v3/cluster/member/promote", &json!({ "ID": id.to_string() })).await
    }

    pub async fn member_remove(&self, id: u64) -> Result<Members, Fault> {
        self.post("/v3/cluster/member/remove", &json!({ "ID": id.to_string() })).await
    }

    pub async fn status(&self) -> Result<Status, Fault> {
        self.post("/v3/maintenance/status", &json!({})).await
    }

    pub async fn alarms(&self) -> Result<Alarms, Fault> {
        self.post("/v3/maintenance/alarm", &json!({ "action": "GET" })).await
    }

    /// Only the leader takes it.
    pub async fn move_leader(&self, target: u64) -> Result<(), Fault> {
        let body = json!({ "targetID": target.to_string() });
        self.post::<Plain>("/v3/maintenance/transfer-leadership", &body).await.map(drop)
    }

    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<Header, Fault> {
        Ok(self.post::<Plain>("/v3/kv/put", &put_request(key, value, 0)).await?.header)
    }

    /// One key. `serializable`: from this member's own state, maybe old, also without quorum.
    pub async fn range(&self, key: &[u8], serializable: bool) -> Result<Range, Fault> {
        self.post("/v3/kv/range", &range_request(key, serializable)).await
    }

    /// What [`Span`] asks for; `count` in the answer goes beyond its limit.
    pub async fn span(&self, span: &Span) -> Result<Range, Fault> {
        self.post("/v3/kv/range", &span.json()).await
    }

    pub async fn transact(&self, transaction: &Transaction) -> Result<Txn, Fault> {
        self.post("/v3/kv/txn", &transaction.json()).await
    }

    /// Number of keys in `[from, to)`.
    pub async fn count(&self, from: &[u8], to: &[u8]) -> Result<u64, Fault> {
        let body = json!({ "key": encode(from), "range_end": encode(to), "count_only": true });
        Ok(self.post::<Range>("/v3/kv/range", &body).await?.count)
    }

    pub async fn delete(&self, key: &[u8]) -> Result<Header, Fault> {
        Ok(self.post::<Plain>("/v3/kv/deleterange", &json!({ "key": encode(key) })).await?.header)
    }

    /// Compare-and-create; `succeeded` says whether the key is now ours, else the answer holds what is there.
    pub async fn create(&self, key: &[u8], value: &[u8], lease: u64) -> Result<Txn, Fault> {
        self.post("/v3/kv/txn", &create_request(key, value, lease)).await
    }

    /// Seconds; the id is etcd's choice.
    pub async fn lease_grant(&self, ttl_s: u64) -> Result<u64, Fault> {
        let lease: Lease = self.post("/v3/lease/grant", &json!({ "TTL": ttl_s.to_string() })).await?;
        if lease.id == 0 || !lease.error.is_empty() {
            return Err(Fault::Malformed(format!("a lease without an id ({})", lease.error)));
        }
        Ok(lease.id)
    }

    /// A lease of this id for at least so many seconds; one that is there already was asked for before.
    pub async fn lease_grant_as(&self, id: u64, ttl_s: u64) -> Result<(), Fault> {
        let body = json!({ "ID": id.to_string(), "TTL": ttl_s.to_string() });
        match self.post::<Lease>("/v3/lease/grant", &body).await {
            Ok(lease) if lease.id == id => Ok(()),
            Ok(lease) => Err(Fault::Malformed(format!("a lease {} instead of {id} ({})", lease.id, lease.error))),
            Err(fault) if fault.kind() == Some(Kind::LeaseExists) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Seconds that the lease lives from now on; `None`: it has run out.
    pub async fn lease_keep_alive(&self, id: u64) -> Result<Option<u64>, Fault> {
        let body = json!({ "ID": id.to_string() });
        match self.post::<KeptAlive>("/v3/lease/keepalive", &body).await {
            Ok(answer) if answer.error.is_empty() => Ok(Some(answer.result.ttl).filter(|ttl| *ttl > 0)),
            Ok(answer) => Err(Fault::Etcd(classify(&answer.error), answer.error)),
            Err(fault) if fault.kind() == Some(Kind::LeaseNotFound) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// A token for [`Client::with_token`].
    pub async fn authenticate(&self, user: &str, password: &Secret) -> Result<String, Fault> {
        let body = json!({ "name": user, "password": password.expose() });
        Ok(self.post::<Token>("/v3/auth/authenticate", &body).await?.token)
    }

    /// Deletes what is bound to it.
    pub async fn lease_revoke(&self, id: u64) -> Result<(), Fault> {
        self.post::<Plain>("/v3/lease/revoke", &json!({ "ID": id.to_string() })).await.map(drop)
    }

    /// `GET /health`, which also sees alarms. An unhealthy member answers 503 with the same body.
    pub async fn health(&self) -> Result<Health, Fault> {
        let (status, body) = self.exchange(self.http.get(format!("{}/health", self.base))).await?;
        match serde_json::from_slice::<Health>(&body) {
            Ok(health) if !health.health.is_empty() => Ok(health),
            _ => Err(malformed(status, &body)),
        }
    }

    pub async fn version(&self) -> Result<Version, Fault> {
        let (status, body) = self.exchange(self.http.get(format!("{}/version", self.base))).await?;
        decode(status, &body)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Fault> {
        let mut request = self.http.post(format!("{}{path}", self.base)).json(body);
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let (status, body) = self.exchange(request).await?;
        decode(status, &body)
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>), Fault> {
        let whole = async {
            let mut answer = request.send().await.map_err(|e| transport(&e, self.deadline))?;
            let status = answer.status().as_u16();
            let mut body = Vec::new();
            while let Some(part) = answer.chunk().await.map_err(|e| transport(&e, self.deadline))? {
                if body.len() + part.len() > BODY_MAX_BYTES {
                    return Err(Fault::TooLarge);
                }
                body.extend_from_slice(&part);
            }
            Ok((status, body))
        };
        match tokio::time::timeout(self.deadline, whole).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::Deadline(self.deadline)),
        }
    }
}

fn http_client(deadline: Duration, tls: rustls::ClientConfig) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_DEADLINE.min(deadline))
        .timeout(deadline)
        .pool_idle_timeout(Duration::from_secs(5))
        .build()
        .map_err(|e| e.to_string())
}

/// Only a refused connection proves that nothing was done.
fn transport(error: &reqwest::Error, deadline: Duration) -> Fault {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return Fault::NotListening("connection refused".into());
        }
        text = inner.to_string();
        source = inner.source();
    }
    if error.is_connect() {
        let seconds = CONNECT_DEADLINE.min(deadline).as_secs_f32();
        let text = if error.is_timeout() { format!("no connection within {seconds} s") } else { text };
        Fault::Unreachable(text)
    } else if error.is_timeout() {
        Fault::Deadline(deadline)
    } else {
        Fault::Unreachable(text)
    }
}

fn decode<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, Fault> {
    if status == 200 {
        return serde_json::from_slice(body).map_err(|e| Fault::Malformed(e.to_string()));
    }
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(error) if !error.error.is_empty() => Err(Fault::Etcd(classify(&error.error), error.error)),
        Ok(error) if !error.message.is_empty() => Err(Fault::Etcd(classify(&error.message), error.message)),
        _ => Err(malformed(status, body)),
    }
}

/// Foreign bytes, cut short and without control characters.
fn malformed(status: u16, body: &[u8]) -> Fault {
    let text: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(160).collect();
    Fault::Malformed(format!("HTTP {status}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::{super::error::Kind, *};

    #[test]
    fn error_bodies_are_read() {
        let body = br#"{"error":"etcdserver: unhealthy cluster","code":14,"message":"etcdserver: unhealthy cluster"}"#;
        assert_eq!(decode::<Plain>(503, body).unwrap_err().kind(), Some(Kind::UnhealthyCluster));
        let fault = decode::<Plain>(404, b"<html>\x1b[31mnot here").unwrap_err();
        assert_eq!(fault, Fault::Malformed("HTTP 404: <html>[31mnot here".into()));
        assert!(matches!(decode::<Plain>(200, b"{").unwrap_err(), Fault::Malformed(_)));
    }

    #[test]
    fn only_plain_http_endpoints() {
        assert!(Client::new("http://127.0.0.1:1/", CALL_DEADLINE).is_ok());
        for bad in ["https://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:1/path"] {
            assert_eq!(Client::new(bad, CALL_DEADLINE).unwrap_err().cause, Cause::Local, "{bad}");
        }
    }
}
