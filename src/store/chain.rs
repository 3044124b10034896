//! The hash chain over all records of a store: an edited, removed or reordered record is found.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Draft, Fence, Record, SCHEMA_VERSION, StoreError};
use crate::model::{Failure, failure::Cause};

/// SHA-256 (hex) over the record's canonical JSON with an empty `hash`.
pub(super) fn hash(record: &Record) -> String {
    let bare = Record { hash: String::new(), ..record.clone() };
    // Fields stand in the order of the type and maps as they were given: the same bytes at every read.
    let text = serde_json::to_vec(&bare).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}

/// The record that comes after that head, without its hash.
pub(super) fn follow(seq: u64, hash: String, run: &str, at_ms: u64, fence: &Fence, draft: Draft) -> Record {
    Record {
        schema: SCHEMA_VERSION,
        run: run.to_owned(),
        seq: seq + 1,
        at_ms,
        subject: draft.subject,
        step: draft.step,
        attempt: draft.attempt,
        kind: draft.kind,
        fence: fence.highest(),
        actor: fence.actor.clone(),
        body: draft.body,
        previous: hash,
        hash: String::new(),
    }
}

/// The record with its hash. Its body is brought to a form that reads back as what was written: a float that JSON's
/// reader rounds otherwise than its writer would break the chain for ever.
pub(super) fn seal(mut record: Record) -> Record {
    settle(&mut record.body);
    record.hash = hash(&record);
    record
}

fn settle(value: &mut Value) {
    /// Nearly all floats read back as they are; the others settle a bit in the last place further on.
    const ROUNDS: u32 = 8;
    match value {
        Value::Number(number) if number.is_f64() => {
            for _ in 0..ROUNDS {
                match serde_json::from_str::<serde_json::Number>(&number.to_string()) {
                    Ok(back) if back == *number => return,
                    Ok(back) => *number = back,
                    Err(_) => break,
                }
            }
            *value = Value::String(number.to_string());
        }
        Value::Array(list) => list.iter_mut().for_each(settle),
        Value::Object(map) => map.values_mut().for_each(settle),
        _ => {}
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

/// A place in a chain, and what may come next.
pub(super) struct Link {
    pub seq: u64,
    /// `None`: not known, whatever the next record says is taken.
    pub previous: Option<String>,
}

impl Link {
    pub(super) fn start() -> Link {
        Link { seq: 0, previous: Some(String::new()) }
    }

    pub(super) fn take(&mut self, record: &Record) -> Result<(), Broken> {
        let broken = |why: &str| Err(Broken { seq: self.seq + 1, why: why.to_owned() });
        if record.seq != self.seq + 1 {
            return broken("a record is missing before this one, or two changed places");
        }
        if self.previous.as_ref().is_some_and(|previous| record.previous != *previous) {
            return broken("it does not follow the record before it");
        }
        if hash(record) != record.hash {
            return broken("its content is not what was written");
        }
        self.seq += 1;
        self.previous = Some(record.hash.clone());
        Ok(())
    }
}

/// `Ok(head hash)` of an unbroken chain.
pub fn verify(records: &[Record]) -> Result<String, Broken> {
    let mut link = Link::start();
    records.iter().try_for_each(|record| link.take(record))?;
    Ok(link.previous.unwrap_or_default())
}
