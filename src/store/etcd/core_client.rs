//! What every operation on the store is made of: guarded writes, reads in pages, large values in pieces.
//!
//! No write is sent without a compare that fails once it has been carried out, or once anything it was based on has
//! changed. So a write may be sent again when its answer was lost, and one that lay in a stopped member's buffers
//! and comes through later does nothing.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::{
    blob::{self, Packed},
    journal_client::Seen,
    keys::Keys,
};
use crate::{
    etcd::{
        error::{Fault, Kind as EtcdKind},
        pool_client::{Answer, Pool, Unanswered},
        request::{Compare, Op, Span, TXN_OPS_MAX, Transaction},
        wire::{KeyValue, Txn, TxnResponse},
    },
    model::{Failure, failure::Cause},
    store::{StoreError, moved_to},
};

/// How often a write whose ground has changed is made anew. Each time somebody else's write came through.
pub(super) const CONFLICTS_MAX: u32 = 64;
/// Keys of one page.
const PAGE_KEYS: usize = 1_000;
/// Pieces that are read at once: what an answer may bear.
const PIECES_AT_ONCE: usize = 4;

pub(super) struct Core {
    pub pool: Pool,
    pub keys: Keys,
    /// What was last read of locks and head: an append that is based on it needs no read.
    pub seen: Mutex<Option<Seen>>,
}

/// Whether a write makes the store another one: observations, sessions and renewals do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Matters,
    Passing,
}

/// What became of a guarded write.
pub(super) enum Written {
    /// At this revision.
    Done { revision: u64 },
    /// A compare failed; what the failure's reads gave, in their order. `repeated`: maybe because an earlier try of
    /// the same write came through.
    Not { found: Vec<Option<KeyValue>>, repeated: bool },
}

/// What a change makes of a value.
pub(super) enum Change {
    Put(Vec<u8>),
    Delete,
    Nothing,
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value)
        .map_err(|e| StoreError::Failed(Failure::new(Cause::Local, "etcd store: write", e.to_string())))
}

pub(super) fn from_json<T: DeserializeOwned>(data: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(data).map_err(|e| {
        let why = format!("a value cannot be read ({e}): it was written by another version, or damaged");
        StoreError::Failed(Failure::new(Cause::Malformed, "etcd store: read", why).next("rackctl version"))
    })
}

/// In the words of the store, with what to do about it.
pub(super) fn failed(what: &str, unanswered: &Unanswered) -> StoreError {
    let mut failure = unanswered.failure(&format!("etcd store: {what}"));
    failure.next = match &unanswered.fault {
        Fault::Etcd(EtcdKind::Other, text) if text.contains("database space exceeded") => {
            Some("etcdctl alarm list; etcdctl defrag, after etcdctl compact".into())
        }
        Fault::NotListening(_) | Fault::Unreachable(_) | Fault::Deadline(_) | Fault::Etcd(EtcdKind::NoQuorum, _) => {
            Some("etcdctl endpoint health --cluster".into())
        }
        _ => None,
    };
    StoreError::Failed(failure)
}

/// Somebody else was faster, every time.
pub(super) fn contended(what: &str) -> StoreError {
    let why = format!("other writers were faster {CONFLICTS_MAX} times in a row");
    StoreError::Failed(Failure::new(Cause::Busy, format!("etcd store: {what}"), why).next("rackctl runs"))
}

impl Core {
    /// Sends one guarded write. `look`: keys to read where a compare fails.
    pub async fn write(
        &self,
        what: &str,
        weight: Weight,
        mut compare: Vec<Compare>,
        mut success: Vec<Op>,
        look: &[Vec<u8>],
    ) -> Result<Written, StoreError> {
        // The content of a store that is being filled is nobody's ground.
        compare.push(Compare::Changed { key: self.keys.importing(), at: 0 });
        if weight == Weight::Matters {
            success.push(Op::put(self.keys.serial(), Vec::new()));
        }
        let mut failure = vec![Op::Get { key: self.keys.importing() }];
        failure.extend(look.iter().map(|key| Op::Get { key: key.clone() }));
        let Answer { value, repeated } = self.send(what, Transaction { compare, success, failure }).await?;
        if value.succeeded {
            return Ok(Written::Done { revision: value.header.revision });
        }
        let mut found: Vec<Option<KeyValue>> = value.responses.into_iter().map(first).collect();
        if found.is_empty() {
            return Err(importing());
        }
        if let Some(mark) = found.remove(0) {
            return Err(moved_place(&mark.value).map_or_else(importing, |place| moved_to(&place)));
        }
        found.resize(look.len(), None);
        Ok(Written::Not { found, repeated })
    }

    pub async fn send(&self, what: &str, transaction: Transaction) -> Result<Answer<Txn>, StoreError> {
        let transaction = Arc::new(transaction);
        self.pool
            .call(|client| {
                let transaction = Arc::clone(&transaction);
                async move { client.transact(&transaction).await }
            })
            .await
            .map_err(|e| failed(what, &e))
    }

    /// Several reads of one moment, in their order.
    pub async fn look(&self, what: &str, reads: Vec<Op>) -> Result<Vec<Vec<KeyValue>>, StoreError> {
        let wanted = reads.len();
        let transaction = Transaction { success: reads, ..Transaction::default() };
        let answer = self.send(what, transaction).await?;
        let mut found: Vec<Vec<KeyValue>> =
            answer.value.responses.into_iter().map(|r| r.response_range.map(|r| r.kvs).unwrap_or_default()).collect();
        found.resize(wanted, Vec::new());
        Ok(found)
    }

    pub async fn cluster_id(&self, what: &str) -> Result<u64, StoreError> {
        let key = &self.keys.meta();
        let answer = self.pool.call(|client| async move { client.range(key, false).await }).await;
        Ok(answer.map_err(|e| failed(what, &e))?.value.header.cluster_id)
    }

    /// The value behind a key, put together if it is in pieces, and the revision of its last change.
    pub async fn get(&self, what: &str, key: Vec<u8>) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
        let found = self.look(what, vec![Op::Get { key }]).await?;
        match found.into_iter().flatten().next() {
            None => Ok(None),
            Some(found) => Ok(Some((self.unpacked(what, found.value).await?, found.mod_revision))),
        }
    }

    /// Everything in a span at one revision, in pages; also gives that revision.
    pub async fn scan(&self, what: &str, mut span: Span) -> Result<(Vec<KeyValue>, u64), StoreError> {
        span.limit = PAGE_KEYS;
        let mut all = Vec::new();
        loop {
            let page = self
                .pool
                .call(|client| {
                    let span = span.clone();
                    async move { client.span(&span).await }
                })
                .await;
            let page = match page {
                Ok(answer) => answer.value,
                // A page of large values: in smaller steps.
                Err(Unanswered { fault: Fault::TooLarge, .. }) if span.limit > 1 => {
                    span.limit = (span.limit / 4).max(1);
                    continue;
                }
                Err(e) => return Err(failed(what, &e)),
            };
            // The first page says which moment the others are to show.
            if span.revision == 0 {
                span.revision = page.header.revision;
            }
            let Some(last) = page.kvs.last() else { return Ok((all, span.revision)) };
            span.from = last.key.clone();
            span.from.push(0);
            let more = page.more;
            all.extend(page.kvs);
            if !more {
                return Ok((all, span.revision));
            }
        }
    }

    /// A kept value as it was before it was cut.
    pub async fn unpacked(&self, what: &str, kept: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let mut cache = BTreeMap::new();
        self.unpacked_with(what, kept, &mut cache).await
    }

    /// Pieces that were read already are in `cache`.
    pub async fn unpacked_with(
        &self,
        what: &str,
        kept: Vec<u8>,
        cache: &mut BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<u8>, StoreError> {
        let Some(names) = blob::pieces(&kept) else { return Ok(kept) };
        let missing: Vec<&String> = names.iter().filter(|name| !cache.contains_key(*name)).collect();
        for some in missing.chunks(PIECES_AT_ONCE) {
            let reads = some.iter().map(|name| Op::Get { key: self.keys.chunk(name) }).collect();
            for (name, found) in some.iter().zip(self.look(what, reads).await?) {
                let piece = found.into_iter().next().map(|kv| kv.value).unwrap_or_default();
                if !blob::genuine(name, &piece) {
                    let why = format!("a piece of a large value ({name}) is missing or is not what was written");
                    let failure = Failure::new(Cause::Malformed, format!("etcd store: {what}"), why);
                    return Err(StoreError::Failed(failure.next("rackctl state rebuild")));
                }
                cache.insert((*name).clone(), piece);
            }
        }
        let pieces: Vec<&[u8]> = names.iter().filter_map(|name| cache.get(name).map(Vec::as_slice)).collect();
        Ok(pieces.concat())
    }

    /// Cuts a large value and writes its pieces; what it gives stands under the value's key. Pieces bear their content
    /// in their name: to write one twice, or late, changes nothing.
    pub async fn packed(&self, what: &str, value: Vec<u8>, always: bool) -> Result<Vec<u8>, StoreError> {
        if value.len() > blob::VALUE_MAX_BYTES {
            let why = format!("a value of {} bytes, at most {} are kept", value.len(), blob::VALUE_MAX_BYTES);
            return Err(StoreError::Failed(Failure::new(Cause::Refused, format!("etcd store: {what}"), why)));
        }
        let Packed { value, chunks } = blob::pack(value, always);
        // What is there already, and for a fleet that is most of it, is not sent again.
        for some in chunks.chunks(TXN_OPS_MAX) {
            let asked = some.iter().map(|(digest, _)| Op::Exists { key: self.keys.chunk(digest) }).collect();
            for ((digest, piece), found) in some.iter().zip(self.look(what, asked).await?) {
                if found.is_empty() {
                    let key = self.keys.chunk(digest);
                    let absent = Compare::Changed { key: key.clone(), at: 0 };
                    let put = vec![Op::put(key, piece.clone())];
                    self.send(what, Transaction { compare: vec![absent], success: put, failure: vec![] }).await?;
                }
            }
        }
        Ok(value)
    }

    /// Reads, changes and writes one value: again from the reading on when somebody else changed it meanwhile.
    /// `change` sees what is there, and whether that may be an earlier try of this very change.
    pub async fn update(
        &self,
        what: &str,
        weight: Weight,
        key: Vec<u8>,
        mut change: impl FnMut(Option<&[u8]>, bool) -> Result<Change, StoreError> + Send,
    ) -> Result<(), StoreError> {
        let mut repeated = false;
        for _ in 0..CONFLICTS_MAX {
            let now = self.get(what, key.clone()).await?;
            let at = now.as_ref().map_or(0, |(_, at)| *at);
            let op = match change(now.as_ref().map(|(value, _)| value.as_slice()), repeated)? {
                Change::Nothing => return Ok(()),
                Change::Delete => Op::Delete { key: key.clone() },
                Change::Put(value) => Op::put(key.clone(), self.packed(what, value, false).await?),
            };
            let compare = vec![Compare::Changed { key: key.clone(), at }];
            match self.write(what, weight, compare, vec![op], &[]).await? {
                Written::Done { .. } => return Ok(()),
                Written::Not { repeated: again, .. } => repeated |= again,
            }
        }
        Err(contended(what))
    }
}

fn first(response: TxnResponse) -> Option<KeyValue> {
    response.response_range.and_then(|range| range.kvs.into_iter().next())
}

/// What the key `importing` holds in a store that was moved, before the place.
const MOVED: &str = "moved:";

pub(super) fn moved_mark(place: &str) -> Vec<u8> {
    format!("{MOVED}{place}").into_bytes()
}

pub(super) fn moved_place(mark: &[u8]) -> Option<String> {
    std::str::from_utf8(mark).ok()?.strip_prefix(MOVED).map(str::to_owned)
}

/// Content is neither there nor absent.
pub(super) fn importing() -> StoreError {
    let why = "an import into this store is under way, or was broken off: its content is not whole";
    StoreError::Failed(
        Failure::new(Cause::Guard, "etcd store", why).next("rackctl store import FILE (again, to the end)"),
    )
}
