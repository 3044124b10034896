//! The journal: one chain, whose head is a key that each append compares and replaces. An append that knows the head
//! and the locks is one transaction, one way there and back.

use uuid::Uuid;

use super::{
    blob::TXN_MAX_BYTES,
    core_client::{CONFLICTS_MAX, Core, Weight, Written, contended, from_json, to_json},
    table::Table,
};
use crate::{
    etcd::{
        request::{Compare, Op, Span},
        wire::KeyValue,
    },
    store::{Draft, Fence, Head, Record, SCHEMA_VERSION, StoreError, chain},
};

/// Runs of a journal's keys that lie closer than this are read in one go.
const GAP_MAX: u64 = 64;

/// Locks and head as they were read, with the revisions that prove them unchanged.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub table: Table,
    pub table_at: u64,
    pub head: Head,
    pub head_at: u64,
    /// A fence that this table bears out.
    sure: Option<Fence>,
}

impl Seen {
    pub fn of(table: Option<&KeyValue>, head: Option<&KeyValue>) -> Result<Seen, StoreError> {
        Ok(Seen {
            table: table.map_or_else(|| Ok(Table::default()), |kv| from_json(&kv.value))?,
            table_at: table.map_or(0, |kv| kv.mod_revision),
            head: head.map_or_else(|| Ok(Head::default()), |kv| from_json(&kv.value))?,
            head_at: head.map_or(0, |kv| kv.mod_revision),
            sure: None,
        })
    }

    fn check(&mut self, fence: &Fence) -> Result<(), StoreError> {
        if self.sure.as_ref() != Some(fence) {
            self.table.in_force(fence)?;
            self.sure = Some(fence.clone());
        }
        Ok(())
    }
}

/// Records that follow `head`, sealed.
pub(super) fn follow(head: &Head, run: &str, now_ms: u64, fence: &Fence, drafts: Vec<Draft>) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for draft in drafts {
        let (seq, previous) =
            records.last().map_or((head.seq, head.hash.clone()), |last| (last.seq, last.hash.clone()));
        records.push(chain::seal(Record {
            schema: SCHEMA_VERSION,
            run: run.to_owned(),
            seq: seq + 1,
            at_ms: now_ms,
            subject: draft.subject,
            step: draft.step,
            attempt: draft.attempt,
            kind: draft.kind,
            fence: fence.highest(),
            actor: fence.actor.clone(),
            body: draft.body,
            previous,
            hash: String::new(),
        }));
    }
    records
}

/// Records as one value: JSON lines.
pub(super) fn lines(records: &[Record]) -> Result<Vec<u8>, StoreError> {
    let mut text = Vec::new();
    for record in records {
        text.extend(to_json(record)?);
        text.push(b'\n');
    }
    Ok(text)
}

pub(super) fn records(value: &[u8]) -> Result<Vec<Record>, StoreError> {
    value.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(from_json).collect()
}

impl Core {
    pub(super) async fn look_seen(&self, what: &str) -> Result<Seen, StoreError> {
        let reads = vec![Op::Get { key: self.keys.locks() }, Op::Get { key: self.keys.head() }];
        let found = self.look(what, reads).await?;
        Seen::of(found[0].first(), found[1].first())
    }

    /// What writes these records of one run: `mark` is found again under the key of [`super::keys::Keys::by_run`].
    pub(super) async fn write_records(&self, records: &[Record], mark: &str) -> Result<Vec<Op>, StoreError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(Vec::new()) };
        let value = self.packed("append to the journal", lines(records)?, false).await?;
        let head = Head { seq: last.seq, hash: last.hash.clone() };
        Ok(vec![
            Op::put(self.keys.record(first.seq), value),
            Op::put(self.keys.by_run(&first.run, first.seq), mark.as_bytes().to_vec()),
            Op::put(self.keys.head(), to_json(&head)?),
        ])
    }

    pub(super) async fn append(
        &self,
        run: &str,
        now_ms: u64,
        fence: &Fence,
        draft: Draft,
    ) -> Result<Record, StoreError> {
        const WHAT: &str = "append to the journal";
        // Appends of one process follow each other: they would only be in each other's way.
        let mut known = self.seen.lock().await;
        let mark = Uuid::new_v4().to_string();
        let mut fresh = false;
        for _ in 0..CONFLICTS_MAX {
            if known.is_none() {
                *known = Some(self.look_seen(WHAT).await?);
                fresh = true;
            }
            let Some(seen) = known.as_mut() else { continue };
            if let Err(refused) = seen.check(fence) {
                // What was read earlier may be older than the fence.
                if fresh {
                    return Err(refused);
                }
                *known = None;
                continue;
            }
            let record = match follow(&seen.head, run, now_ms, fence, vec![draft.clone()]).pop() {
                Some(record) => record,
                None => continue,
            };
            let ops = self.write_records(std::slice::from_ref(&record), &mark).await?;
            let locks = Compare::Changed { key: self.keys.locks(), at: seen.table_at };
            let head = Compare::Changed { key: self.keys.head(), at: seen.head_at };
            let own = self.keys.by_run(run, record.seq);
            let look = [self.keys.locks(), self.keys.head(), own];
            match self.write(WHAT, Weight::Matters, vec![locks, head], ops, &look).await {
                Ok(Written::Done { revision }) => {
                    seen.head = Head { seq: record.seq, hash: record.hash.clone() };
                    seen.head_at = revision;
                    return Ok(record);
                }
                Ok(Written::Not { found, .. }) => {
                    let table = found[0].as_ref();
                    let next = Seen::of(table, found[1].as_ref())?;
                    let ours = found[2].as_ref().is_some_and(|kv| kv.value == mark.as_bytes());
                    *known = Some(next);
                    fresh = true;
                    if ours {
                        return Ok(record);
                    }
                }
                Err(error) => {
                    *known = None;
                    return Err(error);
                }
            }
        }
        Err(contended(WHAT))
    }

    /// Verified, and up to the head at least: what was deleted at its end is missed too.
    pub(super) async fn chain(&self) -> Result<Vec<Record>, StoreError> {
        const WHAT: &str = "read the journal";
        let head = self.look_seen(WHAT).await?.head;
        let (found, _) = self.scan(WHAT, Span::prefix(&self.keys.journal())).await?;
        let mut all = Vec::new();
        for kv in found {
            all.extend(records(&self.unpacked(WHAT, kv.value).await?)?);
        }
        chain::verify(&all)?;
        // More may have come since the head was read.
        let at = head.seq.checked_sub(1).and_then(|at| all.get(usize::try_from(at).ok()?));
        if head.seq > 0 && at.is_none_or(|record| record.hash != head.hash) {
            let seq = head.seq.min(all.len() as u64 + 1);
            return Err(
                chain::Broken { seq, why: "records are missing at the end, or others stand there".into() }.into()
            );
        }
        Ok(all)
    }

    pub(super) async fn journal(&self, run: &str) -> Result<Vec<Record>, StoreError> {
        const WHAT: &str = "read a run's journal";
        let start = self.keys.of_run(run);
        let span = Span { keys_only: true, ..Span::prefix(&start) };
        let (index, revision) = self.scan(WHAT, span).await?;
        let seqs = index.iter().filter_map(|kv| self.keys.rest(&start, &kv.key)?.parse().ok());
        let mut all = Vec::new();
        for (from, to) in stretches(seqs) {
            let span = Span { from: self.keys.record(from), to: self.keys.record(to + 1), revision, ..Span::default() };
            for kv in self.scan(WHAT, span).await?.0 {
                let some = records(&self.unpacked(WHAT, kv.value).await?)?;
                all.extend(some.into_iter().filter(|record| record.run == run));
            }
        }
        Ok(all)
    }
}

/// Numbers in order as stretches `(first, last)`, small gaps included.
fn stretches(numbers: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match all.last_mut() {
            Some((_, last)) if number <= *last + GAP_MAX => *last = number,
            _ => all.push((number, number)),
        }
    }
    all
}

/// A chain's records in groups for one key each: of one run, and small enough for one transaction with others.
pub(super) fn groups(records: &[Record]) -> Result<Vec<(usize, usize)>, StoreError> {
    const RECORDS_MAX: usize = 64;
    let mut groups = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, record) in records.iter().enumerate() {
        let size = to_json(record)?.len();
        let another = record.run != records[from].run || bytes + size > TXN_MAX_BYTES / 4 || at - from >= RECORDS_MAX;
        if at > from && another {
            groups.push((from, at));
            (from, bytes) = (at, 0);
        }
        bytes += size;
    }
    if from < records.len() {
        groups.push((from, records.len()));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordKind;

    fn draft(size: usize) -> Draft {
        Draft {
            subject: "n1".into(),
            step: "s".into(),
            attempt: 1,
            kind: RecordKind::Intent,
            body: serde_json::json!("x".repeat(size)),
        }
    }

    #[test]
    fn records_follow_each_other_and_read_back() {
        let fence = Fence { locks: vec![("a".into(), 7)], actor: "ann".into() };
        let first = follow(&Head::default(), "r", 5, &fence, vec![draft(1), draft(2)]);
        let head = Head { seq: 2, hash: first[1].hash.clone() };
        let all = [first, follow(&head, "r2", 6, &fence, vec![draft(3)])].concat();
        assert_eq!(chain::verify(&all).unwrap(), all[2].hash);
        assert_eq!(records(&lines(&all).unwrap()).unwrap(), all);
        assert_eq!(groups(&all).unwrap(), [(0, 2), (2, 3)], "a key has records of one run");
    }

    #[test]
    fn groups_stay_small() {
        let fence = Fence { locks: vec![], actor: "ann".into() };
        let many = follow(&Head::default(), "r", 5, &fence, (0..130).map(|_| draft(1)).collect());
        assert_eq!(groups(&many).unwrap(), [(0, 64), (64, 128), (128, 130)]);
        let large = follow(&Head::default(), "r", 5, &fence, vec![draft(TXN_MAX_BYTES), draft(1)]);
        assert_eq!(groups(&large).unwrap(), [(0, 1), (1, 2)]);
        assert!(groups(&[]).unwrap().is_empty());
    }

    #[test]
    fn small_gaps_are_read_over() {
        assert_eq!(stretches([1, 2, 5, 500, 501].into_iter()), [(1, 5), (500, 501)]);
        assert!(stretches([].into_iter()).is_empty());
    }
}
