//! The journal as a file of JSON lines that proves itself: the first line says which records follow, and which
//! head the chain had. Pure: lines in and out.

use serde::{Deserialize, Serialize};

use super::{Broken, Head, Lineage, Record, chain};

/// First line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// Version of this form.
    pub audit: u32,
    /// Absent: the whole chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Sequence numbers of the records that follow, first and last of each row without a gap.
    pub ranges: Vec<(u64, u64)>,
    /// Of the chain when it was exported.
    pub head: Head,
    pub lineage: Lineage,
}

pub const VERSION: u32 = 1;

impl Header {
    pub fn of(records: &[Record], run: Option<String>, head: Head, lineage: Lineage) -> Header {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for record in records {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == record.seq => *last = record.seq,
                _ => ranges.push((record.seq, record.seq)),
            }
        }
        Header { audit: VERSION, run, ranges, head, lineage }
    }
}

/// Takes an export line by line.
pub struct Audit {
    header: Header,
    /// The rest of the ranges, the next number first.
    due: Vec<(u64, u64)>,
    link: chain::Link,
    /// A beginning of a hash that must be there.
    wanted: Option<String>,
    records: u64,
}

/// What an export was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    pub header: Header,
    pub records: u64,
}

impl Audit {
    /// From the first line.
    pub fn begin(first: &str, wanted: Option<String>) -> Result<Audit, String> {
        let header: Header = serde_json::from_str(first)
            .map_err(|e| format!("its first line is not that of an audit export of this version: {e}"))?;
        if header.audit != VERSION {
            return Err(format!("it has form {}, this rackctl knows {VERSION}", header.audit));
        }
        let mut due = header.ranges.clone();
        due.reverse();
        Ok(Audit { header, due, link: chain::Link::start(), wanted, records: 0 })
    }

    /// One more line.
    pub fn take(&mut self, line: &str) -> Result<(), Broken> {
        let Some((next, last)) = self.due.pop() else {
            return Err(broken(self.link.seq + 1, "a record too many is there"));
        };
        let record: Record =
            serde_json::from_str(line).map_err(|e| broken(next, &format!("it cannot be read: {e}")))?;
        // After a gap the hash before is not known from here; the record's own still is.
        if next > self.link.seq + 1 {
            self.link = chain::Link { seq: next - 1, previous: None };
        }
        self.link.take(&record)?;
        if self.header.run.as_ref().is_some_and(|run| *run != record.run) {
            return Err(broken(next, "it is of another run"));
        }
        if next == self.header.head.seq && record.hash != self.header.head.hash {
            return Err(broken(next, "the head of the chain was another record"));
        }
        if next < last {
            self.due.push((next + 1, last));
        }
        self.wanted.take_if(|wanted| record.hash.starts_with(wanted.as_str()));
        self.records += 1;
        Ok(())
    }

    pub fn end(self) -> Result<Audited, Broken> {
        if let Some((next, _)) = self.due.last() {
            return Err(broken(*next, "it and what stood behind it is missing at the end"));
        }
        if self.header.run.is_none() && self.link.seq != self.header.head.seq {
            return Err(broken(self.link.seq + 1, "records are missing at the end"));
        }
        if let Some(wanted) = self.wanted {
            let why = format!("no record has the hash {wanted}: the chain is another one, or was cut and made anew");
            return Err(broken(self.link.seq + 1, &why));
        }
        Ok(Audited { header: self.header, records: self.records })
    }
}

fn broken(seq: u64, why: &str) -> Broken {
    Broken { seq, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::{Draft, Fence, Holder, MemoryStore, RecordKind, Store};

    fn export(run: Option<&str>) -> Vec<String> {
        let store = MemoryStore::new();
        for (run, step) in [("r-1", "a"), ("r-2", "b"), ("r-1", "c"), ("r-1", "d"), ("r-2", "e")] {
            let draft = Draft {
                subject: "n1".into(),
                step: step.into(),
                attempt: 1,
                kind: RecordKind::Done,
                body: json!({ "of": step }),
            };
            store.append(run, 1, &Fence::of_nothing(&Holder::this()), draft).unwrap();
        }
        let records = run.map_or_else(|| store.chain(), |run| store.journal(run)).unwrap();
        let header = Header::of(&records, run.map(str::to_owned), store.head().unwrap(), store.lineage().unwrap());
        let records = records.iter().map(|r| serde_json::to_string(r).unwrap());
        std::iter::once(serde_json::to_string(&header).unwrap()).chain(records).collect()
    }

    fn verify(lines: &[String], wanted: Option<&str>) -> Result<Audited, Broken> {
        let mut audit = Audit::begin(&lines[0], wanted.map(str::to_owned)).unwrap();
        lines[1..].iter().try_for_each(|line| audit.take(line))?;
        audit.end()
    }

    #[test]
    fn what_was_exported_holds_whole_and_by_run() {
        assert_eq!(verify(&export(None), None).unwrap().header.ranges, [(1, 5)]);
        let of_run = verify(&export(Some("r-1")), None).unwrap();
        assert_eq!((of_run.records, of_run.header.ranges), (3, vec![(1, 1), (3, 4)]));
        let none = verify(&export(Some("r-9")), None).unwrap();
        assert_eq!((none.records, none.header.ranges), (0, vec![]));
        assert!(Audit::begin("{}", None).is_err());
        assert!(Audit::begin(&export(None)[1], None).is_err(), "a record is no header");
    }

    #[test]
    fn every_change_names_the_first_record_that_it_touched() {
        for run in [None, Some("r-1")] {
            let whole = export(run);
            let seqs: Vec<u64> = whole[1..].iter().map(|l| serde_json::from_str::<Record>(l).unwrap().seq).collect();
            for (index, seq) in seqs.iter().enumerate() {
                let at = index + 1;
                let changed = |change: &dyn Fn(&mut Vec<String>)| {
                    let mut lines = whole.clone();
                    change(&mut lines);
                    verify(&lines, None).unwrap_err().seq
                };
                assert_eq!(changed(&|l| l[at] = l[at].replace("\"of\":\"", "\"of\":\"x")), *seq, "edited {seq}");
                assert_eq!(changed(&|l| drop(l.remove(at))), *seq, "removed {seq}");
                assert_eq!(changed(&|l| l.truncate(at)), *seq, "cut before {seq}");
                assert_eq!(changed(&|l| l[at].truncate(20)), *seq, "torn at {seq}");
                if at + 1 < whole.len() {
                    assert_eq!(changed(&|l| l.swap(at, at + 1)), *seq, "swapped {seq} and the next");
                }
            }
        }
        let mut longer = export(None);
        longer.push(longer[5].clone());
        assert_eq!(verify(&longer, None).unwrap_err().seq, 6);
    }

    #[test]
    fn a_chain_that_was_made_anew_lacks_the_hash_that_was_printed() {
        let ours = export(None);
        let hash = serde_json::from_str::<Record>(&ours[3]).unwrap().hash;
        assert!(verify(&ours, Some(&hash[..12])).is_ok());
        let strange = verify(&ours, Some("0123456789ab")).unwrap_err();
        assert!(strange.why.contains("0123456789ab"), "{strange}");
    }
}
