//! JSON of the gateway: keys and values in base64, 64-bit numbers as strings, and whatever is `false`, `0` or
//! empty left out. Source: etcd `api/etcdserverpb/rpc.proto` under proto3's JSON mapping.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};

/// Numbers come as strings; small ones may come as numbers.
fn number<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    match Value::deserialize(d)? {
        Value::String(text) => text.parse().map_err(|_| D::Error::custom(format!("`{text}` is no 64-bit number"))),
        Value::Number(n) => n.as_u64().ok_or_else(|| D::Error::custom(format!("{n} is no 64-bit number"))),
        other => Err(D::Error::custom(format!("{other} is no 64-bit number"))),
    }
}

fn bytes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(d)?;
    BASE64.decode(&text).map_err(|e| D::Error::custom(format!("not base64: {e}")))
}

/// A text, or for streams an object with a `message`.
fn error_text<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(d)? {
        Value::String(text) => text,
        Value::Object(map) => {
            map.get("message").and_then(Value::as_str).unwrap_or("an error without a text").to_owned()
        }
        _ => String::new(),
    })
}

pub fn encode(data: &[u8]) -> String {
    BASE64.encode(data)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Header {
    #[serde(default, deserialize_with = "number")]
    pub cluster_id: u64,
    #[serde(default, deserialize_with = "number")]
    pub member_id: u64,
    #[serde(default, deserialize_with = "number")]
    pub revision: u64,
    #[serde(default, deserialize_with = "number")]
    pub raft_term: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Member {
    #[serde(rename = "ID", default, deserialize_with = "number")]
    pub id: u64,
    /// Empty until it has started for the first time.
    #[serde(default)]
    pub name: String,
    #[serde(rename = "peerURLs", default)]
    pub peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", default)]
    pub client_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    pub learner: bool,
}

/// Answer of `member/list`, `add`, `remove` and `promote`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Members {
    pub header: Header,
    #[serde(default)]
    pub members: Vec<Member>,
    /// Only after `add`.
    #[serde(default)]
    pub member: Option<Member>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Status {
    pub header: Header,
    #[serde(default)]
    pub version: String,
    /// 0: this member knows of no leader.
    #[serde(default, deserialize_with = "number")]
    pub leader: u64,
    #[serde(rename = "raftIndex", default, deserialize_with = "number")]
    pub raft_index: u64,
    #[serde(rename = "raftTerm", default, deserialize_with = "number")]
    pub raft_term: u64,
    #[serde(rename = "raftAppliedIndex", default, deserialize_with = "number")]
    pub raft_applied_index: u64,
    #[serde(rename = "isLearner", default)]
    pub learner: bool,
    #[serde(default)]
    pub errors: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Alarms {
    #[serde(default)]
    pub alarms: Vec<Alarm>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Alarm {
    #[serde(rename = "memberID", default, deserialize_with = "number")]
    pub member_id: u64,
    /// `NOSPACE`, `CORRUPT`; `NONE` is 0 and left out.
    #[serde(default)]
    pub alarm: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Range {
    pub header: Header,
    #[serde(default)]
    pub kvs: Vec<KeyValue>,
    /// There is more than the limit let through.
    #[serde(default)]
    pub more: bool,
    #[serde(default, deserialize_with = "number")]
    pub count: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct KeyValue {
    #[serde(default, deserialize_with = "bytes")]
    pub key: Vec<u8>,
    #[serde(default, deserialize_with = "bytes")]
    pub value: Vec<u8>,
    #[serde(default, deserialize_with = "number")]
    pub create_revision: u64,
    #[serde(default, deserialize_with = "number")]
    pub mod_revision: u64,
    /// Changes since it was created, the first included.
    #[serde(default, deserialize_with = "number")]
    pub version: u64,
}

/// Answer of calls whose header is all that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Plain {
    /// `transfer-leadership` answers `{}`.
    #[serde(default)]
    pub header: Header,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Txn {
    pub header: Header,
    /// Left out when false.
    #[serde(default)]
    pub succeeded: bool,
    #[serde(default)]
    pub responses: Vec<TxnResponse>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TxnResponse {
    #[serde(default)]
    pub response_range: Option<TxnRange>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TxnRange {
    #[serde(default)]
    pub kvs: Vec<KeyValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Lease {
    #[serde(rename = "ID", default, deserialize_with = "number")]
    pub id: u64,
    #[serde(default)]
    pub error: String,
}

/// Answer of `lease/keepalive`: a stream of which one element is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct KeptAlive {
    #[serde(default)]
    pub result: KeptAliveResult,
    /// A stream that fails says so inside a body that began well.
    #[serde(default, deserialize_with = "error_text")]
    pub error: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct KeptAliveResult {
    /// 0: there is no such lease any more.
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    pub ttl: u64,
}

/// Answer of `auth/authenticate`.
#[derive(Clone, Default, Deserialize)]
pub struct Token {
    #[serde(default)]
    pub token: String,
}

/// `GET /health`: the word `true` in a string, not a boolean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Health {
    #[serde(default)]
    pub health: String,
    #[serde(default)]
    pub reason: String,
}

/// `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Version {
    #[serde(default)]
    pub etcdserver: String,
    #[serde(default)]
    pub etcdcluster: String,
}

/// Body of every error of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ErrorBody {
    #[serde(default, deserialize_with = "error_text")]
    pub error: String,
    #[serde(default)]
    pub message: String,
}

/// A put of `key`, bound to `lease` unless that is 0.
fn put(key: &[u8], value: &[u8], lease: u64) -> Value {
    let mut body = json!({ "key": encode(key), "value": encode(value) });
    if lease != 0 {
        body["lease"] = json!(lease.to_string());
    }
    body
}

pub fn put_request(key: &[u8], value: &[u8], lease: u64) -> Value {
    put(key, value, lease)
}

pub fn range_request(key: &[u8], serializable: bool) -> Value {
    json!({ "key": encode(key), "serializable": serializable })
}

/// Puts `key` if it has never been created or was deleted; otherwise reads it.
pub fn create_request(key: &[u8], value: &[u8], lease: u64) -> Value {
    json!({
        "compare": [{ "key": encode(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
        "success": [{ "request_put": put(key, value, lease) }],
        "failure": [{ "request_range": { "key": encode(key) } }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_false_and_zero() {
        let status: Status =
            serde_json::from_str(r#"{"header":{"cluster_id":"14841639068965178418"},"version":"3.4.23"}"#).unwrap();
        assert_eq!((status.leader, status.learner, status.raft_index), (0, false, 0));
        assert_eq!(status.header.cluster_id, 14841639068965178418);
        let txn: Txn = serde_json::from_str(r#"{"header":{}}"#).unwrap();
        assert!(!txn.succeeded);
    }

    #[test]
    fn numbers_and_base64_that_are_none_are_errors() {
        assert!(serde_json::from_str::<Header>(r#"{"cluster_id":"-1"}"#).is_err());
        assert!(serde_json::from_str::<Header>(r#"{"cluster_id":true}"#).is_err());
        assert!(serde_json::from_str::<KeyValue>(r#"{"key":"%%%"}"#).is_err());
    }

    #[test]
    fn errors_of_streams_are_objects() {
        let text = r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}"#;
        assert_eq!(serde_json::from_str::<ErrorBody>(text).unwrap().error, "etcdserver: no leader");
        assert_eq!(serde_json::from_str::<KeptAlive>(text).unwrap().error, "etcdserver: no leader");
        let gone: KeptAlive = serde_json::from_str(r#"{"result":{"header":{},"ID":"7"}}"#).unwrap();
        assert_eq!((gone.result.ttl, gone.error.as_str()), (0, ""));
    }

    #[test]
    fn a_lease_of_zero_is_not_sent() {
        assert!(put_request(b"k", b"v", 0).get("lease").is_none());
        assert_eq!(put_request(b"k", b"v", u64::MAX)["lease"], json!("18446744073709551615"));
    }
}
