//! What is asked of etcd's key space: transactions and ranges, as the gateway wants them.

use serde_json::{Value, json};

use super::wire::encode;

/// Operations in one transaction: `--max-txn-ops` of a server that was not told otherwise. etcd counts the
/// compares, the operations of `success` and those of `failure` each for itself.
pub const TXN_OPS_MAX: usize = 128;

/// A condition; a transaction's are all to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Revision of the key's last change; 0: it does not exist.
    Changed { key: Vec<u8>, at: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// `lease` 0: none.
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        lease: u64,
    },
    Delete {
        key: Vec<u8>,
    },
    /// All keys that begin with it.
    DeletePrefix {
        prefix: Vec<u8>,
    },
    Get {
        key: Vec<u8>,
    },
    /// The key without its value.
    Exists {
        key: Vec<u8>,
    },
    /// All keys that begin with it: only where they are known to be few.
    GetPrefix {
        prefix: Vec<u8>,
    },
}

impl Op {
    pub fn put(key: Vec<u8>, value: Vec<u8>) -> Op {
        Op::Put { key, value, lease: 0 }
    }

    /// About what it adds to a request.
    pub fn bytes(&self) -> usize {
        match self {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key } | Op::Get { key } | Op::Exists { key } => key.len(),
            Op::DeletePrefix { prefix } | Op::GetPrefix { prefix } => 2 * prefix.len(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Op::Put { key, value, lease } => {
                let mut put = json!({ "key": encode(key), "value": encode(value) });
                if *lease != 0 {
                    put["lease"] = json!(lease.to_string());
                }
                json!({ "request_put": put })
            }
            Op::Delete { key } => json!({ "request_delete_range": { "key": encode(key) } }),
            Op::DeletePrefix { prefix } => {
                json!({ "request_delete_range": { "key": encode(prefix), "range_end": encode(&end(prefix)) } })
            }
            Op::Get { key } => json!({ "request_range": { "key": encode(key) } }),
            Op::Exists { key } => json!({ "request_range": { "key": encode(key), "keys_only": true } }),
            Op::GetPrefix { prefix } => {
                json!({ "request_range": { "key": encode(prefix), "range_end": encode(&end(prefix)) } })
            }
        }
    }
}

/// All of `compare` hold: `success` is done, else `failure`. One revision, all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

impl Transaction {
    pub fn json(&self) -> Value {
        let compare: Vec<Value> = self
            .compare
            .iter()
            .map(|Compare::Changed { key, at }| {
                json!({ "key": encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": at.to_string() })
            })
            .collect();
        let ops = |ops: &[Op]| ops.iter().map(Op::json).collect::<Vec<_>>();
        json!({ "compare": compare, "success": ops(&self.success), "failure": ops(&self.failure) })
    }
}

/// Keys in `[from, to)`, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
    /// 0: all.
    pub limit: usize,
    /// As the key space was at this revision; 0: as it is now.
    pub revision: u64,
    pub keys_only: bool,
}

impl Span {
    pub fn prefix(prefix: &[u8]) -> Span {
        Span { from: prefix.to_vec(), to: end(prefix), ..Span::default() }
    }

    pub fn json(&self) -> Value {
        let mut body = json!({ "key": encode(&self.from), "range_end": encode(&self.to) });
        if self.limit != 0 {
            body["limit"] = json!(self.limit.to_string());
        }
        if self.revision != 0 {
            body["revision"] = json!(self.revision.to_string());
        }
        if self.keys_only {
            body["keys_only"] = json!(true);
        }
        body
    }
}

/// The first key behind all that begin with `prefix`.
pub fn end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // Nothing lies behind: etcd's sign for "to the end of the key space".
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(end(b"/a/"), b"/a0");
        assert_eq!(end(&[1, 0xff, 0xff]), [2]);
        assert_eq!(end(&[0xff]), [0]);
    }

    #[test]
    fn a_transaction_as_the_gateway_wants_it() {
        let transaction = Transaction {
            compare: vec![Compare::Changed { key: b"h".into(), at: 7 }],
            success: vec![
                Op::Put { key: b"k".into(), value: b"v".into(), lease: u64::MAX },
                Op::Delete { key: b"d".into() },
            ],
            failure: vec![Op::Get { key: b"h".into() }],
        };
        assert_eq!(
            transaction.json(),
            json!({
                "compare": [{ "key": "aA==", "target": "MOD", "result": "EQUAL", "mod_revision": "7" }],
                "success": [
                    { "request_put": { "key": "aw==", "value": "dg==", "lease": "18446744073709551615" } },
                    { "request_delete_range": { "key": "ZA==" } },
                ],
                "failure": [{ "request_range": { "key": "aA==" } }],
            })
        );
    }
}
