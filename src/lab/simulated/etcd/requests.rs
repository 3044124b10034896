//! Questions of the gateway, read: base64 for bytes, 64-bit numbers as strings or as numbers. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::{
    keys::{Compare, Done, Entry, Op, Order, Span, Target, Txn},
    refusal::Refusal,
};

pub fn number(body: &Value, name: &str) -> Result<u64, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(Value::Number(n)) => {
            n.as_u64().ok_or_else(|| Refusal::malformed(format!("json: cannot unmarshal {n} into {name}")))
        }
        Some(Value::String(text)) => {
            text.parse().map_err(|_| Refusal::malformed(format!("json: cannot unmarshal `{text}` into {name}")))
        }
        Some(_) => Err(Refusal::malformed(format!("json: cannot unmarshal {name}"))),
    }
}

pub fn flag(body: &Value, name: &str) -> bool {
    body.get(name).and_then(Value::as_bool).unwrap_or(false)
}

pub fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn bytes(body: &Value, name: &str) -> Result<Vec<u8>, Refusal> {
    BASE64.decode(text(body, name)).map_err(|e| Refusal::malformed(format!("illegal base64 data in {name}: {e}")))
}

fn span(body: &Value) -> Result<Span, Refusal> {
    Ok(Span { key: bytes(body, "key")?, end: bytes(body, "range_end")? })
}

pub fn put(body: &Value) -> Result<Op, Refusal> {
    Ok(Op::Put { key: bytes(body, "key")?, value: bytes(body, "value")?, lease: number(body, "lease")? })
}

pub fn range(body: &Value) -> Result<Op, Refusal> {
    Ok(Op::Range {
        span: span(body)?,
        limit: usize::try_from(number(body, "limit")?).unwrap_or(usize::MAX),
        count_only: flag(body, "count_only"),
        keys_only: flag(body, "keys_only"),
    })
}

pub fn delete(body: &Value) -> Result<Op, Refusal> {
    Ok(Op::Delete { span: span(body)? })
}

fn ops(body: &Value, name: &str) -> Result<Vec<Op>, Refusal> {
    let list = body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|op| match (op.get("request_put"), op.get("request_range"), op.get("request_delete_range")) {
            (Some(body), None, None) => put(body),
            (None, Some(body), None) => range(body),
            (None, None, Some(body)) => delete(body),
            _ => Err(Refusal::malformed("a request of a transaction must be one put, range or delete")),
        })
        .collect()
}

pub fn txn(body: &Value) -> Result<Txn, Refusal> {
    let list = body.get("compare").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let compare = list.iter().map(compare).collect::<Result<_, _>>()?;
    Ok(Txn { compare, success: ops(body, "success")?, failure: ops(body, "failure")? })
}

fn compare(body: &Value) -> Result<Compare, Refusal> {
    let order = match text(body, "result") {
        "" | "EQUAL" => Order::Equal,
        "GREATER" => Order::Greater,
        "LESS" => Order::Less,
        "NOT_EQUAL" => Order::NotEqual,
        other => return Err(Refusal::malformed(format!("unknown value \"{other}\" for result"))),
    };
    let target = match text(body, "target") {
        "" | "VERSION" => Target::Version(number(body, "version")?),
        "CREATE" => Target::Create(number(body, "create_revision")?),
        "MOD" => Target::Mod(number(body, "mod_revision")?),
        "VALUE" => Target::Value(bytes(body, "value")?),
        "LEASE" => Target::Lease(number(body, "lease")?),
        other => return Err(Refusal::malformed(format!("unknown value \"{other}\" for target"))),
    };
    Ok(Compare { key: bytes(body, "key")?, order, target })
}

/// Puts the field there unless it is 0, false or empty: proto3 leaves those out.
pub fn set(object: &mut Value, name: &str, value: Value) {
    let nothing = match &value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    if !nothing {
        object[name] = value;
    }
}

pub fn long(n: u64) -> Value {
    Value::String(n.to_string())
}

fn entry(key: &[u8], entry: &Entry) -> Value {
    let mut kv = json!({ "key": BASE64.encode(key) });
    set(&mut kv, "create_revision", long(entry.create_revision));
    set(&mut kv, "mod_revision", long(entry.mod_revision));
    set(&mut kv, "version", long(entry.version));
    set(&mut kv, "value", Value::String(BASE64.encode(&entry.value)));
    set(&mut kv, "lease", long(entry.lease));
    kv
}

/// With `header` in it.
pub fn done(header: Value, done: &Done) -> Value {
    let mut answer = json!({ "header": header });
    match done {
        Done::Put => {}
        Done::Delete { deleted } => set(&mut answer, "deleted", long(*deleted)),
        Done::Range { entries, count, more } => {
            set(&mut answer, "kvs", entries.iter().map(|(key, e)| entry(key, e)).collect());
            set(&mut answer, "more", Value::Bool(*more));
            set(&mut answer, "count", long(*count));
        }
    }
    answer
}

pub fn txn_answer(header: Value, revision: u64, holds: bool, all: &[Done]) -> Value {
    let mut answer = json!({ "header": header });
    set(&mut answer, "succeeded", Value::Bool(holds));
    let each = all.iter().map(|one| {
        let name = match one {
            Done::Put => "response_put",
            Done::Range { .. } => "response_range",
            Done::Delete { .. } => "response_delete_range",
        };
        json!({ name: done(json!({ "revision": revision.to_string() }), one) })
    });
    set(&mut answer, "responses", each.collect());
    answer
}
