//! The hash chain over all records of a store: an edited, removed or reordered record is found.

use sha2::{Digest, Sha256};

use super::Record;

/// SHA-256 (hex) over the record's canonical JSON with an empty `hash`.
pub(super) fn hash(record: &Record) -> String {
    let bare = Record { hash: String::new(), ..record.clone() };
    // Fields stand in the order of the type and maps as they were given: the same bytes at every read.
    let text = serde_json::to_vec(&bare).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is broken at record {seq}: {why}")]
pub struct Broken {
    pub seq: u64,
    pub why: String,
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
