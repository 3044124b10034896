//! The hash chain over all records of a store: an edited, removed or reordered record is found.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Record, StoreError};
use crate::model::{Failure, failure::Cause};

/// SHA-256 (hex) over the record's canonical JSON with an empty `hash`.
pub(super) fn hash(record: &Record) -> String {
    let bare = Record { hash: String::new(), ..record.clone() };
    // Fields stand in the order of the type and maps as they were given: the same bytes at every read.
    let text = serde_json::to_vec(&bare).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}

/// The record with its hash. Its body is brought to a form that reads back as what was written: a float that JSON
/// rounds on its way in would break the chain for ever.
pub(super) fn seal(mut record: Record) -> Record {
    if has_float(&record.body) {
        for _ in 0..ROUNDS {
            let text = serde_json::to_string(&record.body).unwrap_or_default();
            let Ok(back) = serde_json::from_str::<Value>(&text) else { break };
            if serde_json::to_string(&back).is_ok_and(|again| again == text) {
                break;
            }
            record.body = back;
        }
    }
    record.hash = hash(&record);
    record
}

/// Rounding settles at once or after one more look; never later than this.
const ROUNDS: u32 = 4;

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter().any(has_float),
        Value::Object(map) => map.values().any(has_float),
        _ => false,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is broken at record {seq}: {why}")]
pub struct Broken {
    pub seq: u64,
    pub why: String,
}

impl From<Broken> for StoreError {
    fn from(broken: Broken) -> StoreError {
        StoreError::Failed(
            Failure::new(Cause::Guard, "state file: read", broken.to_string()).next("rackctl state rebuild"),
        )
    }
}

/// `Ok(head hash)` of an unbroken chain.
pub fn verify(records: &[Record]) -> Result<String, Broken> {
    let mut previous = String::new();
    let mut seq = 0;
    for record in records {
        seq += 1;
        let broken = |why: &str| Broken { seq, why: why.to_owned() };
        if record.seq != seq {
            return Err(broken("a record is missing before this one, or two changed places"));
        }
        if record.previous != previous {
            return Err(broken("it does not follow the record before it"));
        }
        if hash(record) != record.hash {
            return Err(broken("its content is not what was written"));
        }
        previous = record.hash.clone();
    }
    Ok(previous)
}
