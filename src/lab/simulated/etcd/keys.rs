//! The key space: revisions, ranges, transactions, leases. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::refusal::Refusal;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub create_revision: u64,
    pub mod_revision: u64,
    pub version: u64,
    pub lease: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub ttl_s: u64,
    pub granted_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpace {
    /// 1 when nothing was ever written.
    pub revision: u64,
    entries: BTreeMap<Vec<u8>, Entry>,
    leases: BTreeMap<u64, Lease>,
}

impl Default for KeySpace {
    fn default() -> Self {
        KeySpace { revision: 1, entries: BTreeMap::new(), leases: BTreeMap::new() }
    }
}

/// `end` empty: one key. `end` a zero byte: everything from `key` on. Otherwise `[key, end)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub key: Vec<u8>,
    pub end: Vec<u8>,
}

impl Span {
    fn holds(&self, key: &[u8]) -> bool {
        match self.end.as_slice() {
            [] => key == self.key,
            [0] => key >= self.key.as_slice(),
            end => key >= self.key.as_slice() && key < end,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put { key: Vec<u8>, value: Vec<u8>, lease: u64 },
    Range { span: Span, limit: usize, count_only: bool, keys_only: bool },
    Delete { span: Span },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Put,
    Range { entries: Vec<(Vec<u8>, Entry)>, count: u64, more: bool },
    Delete { deleted: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Equal,
    Greater,
    Less,
    NotEqual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Version(u64),
    Create(u64),
    Mod(u64),
    Value(Vec<u8>),
    Lease(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: Vec<u8>,
    pub order: Order,
    pub target: Target,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

impl KeySpace {
    /// All of them at one revision, or none.
    pub fn apply(&mut self, ops: &[Op]) -> Result<Vec<Done>, Refusal> {
        let mut put = BTreeSet::new();
        for op in ops {
            match op {
                Op::Put { key, .. } if key.is_empty() => return Err(Refusal::no_key()),
                Op::Put { lease, .. } if *lease != 0 && !self.leases.contains_key(lease) => {
                    return Err(Refusal::no_lease());
                }
                Op::Put { key, .. } if !put.insert(key) => return Err(Refusal::twice_in_txn()),
                Op::Range { span, .. } | Op::Delete { span } if span.key.is_empty() => return Err(Refusal::no_key()),
                _ => {}
            }
        }
        let next = self.revision + 1;
        let mut wrote = false;
        let done = ops
            .iter()
            .map(|op| match op {
                Op::Put { key, value, lease } => {
                    wrote = true;
                    let before = self.entries.get(key);
                    let entry = Entry {
                        value: value.clone(),
                        create_revision: before.map_or(next, |e| e.create_revision),
                        mod_revision: next,
                        version: before.map_or(1, |e| e.version + 1),
                        lease: *lease,
                    };
                    self.entries.insert(key.clone(), entry);
                    Done::Put
                }
                Op::Range { span, limit, count_only, keys_only } => self.range(span, *limit, *count_only, *keys_only),
                Op::Delete { span } => {
                    let before = self.entries.len();
                    self.entries.retain(|key, _| !span.holds(key));
                    let deleted = (before - self.entries.len()) as u64;
                    wrote |= deleted > 0;
                    Done::Delete { deleted }
                }
            })
            .collect();
        if wrote {
            self.revision = next;
        }
        Ok(done)
    }

    pub fn range(&self, span: &Span, limit: usize, count_only: bool, keys_only: bool) -> Done {
        let found = self.entries.iter().filter(|(key, _)| span.holds(key));
        let count = found.clone().count();
        let take = if limit == 0 { usize::MAX } else { limit };
        let mut entries: Vec<(Vec<u8>, Entry)> = match count_only {
            true => vec![],
            false => found.take(take).map(|(k, e)| (k.clone(), e.clone())).collect(),
        };
        if keys_only {
            entries.iter_mut().for_each(|(_, entry)| entry.value.clear());
        }
        Done::Range { more: !count_only && entries.len() < count, entries, count: count as u64 }
    }

    pub fn txn(&mut self, txn: &Txn) -> Result<(bool, Vec<Done>), Refusal> {
        let holds = txn.compare.iter().all(|c| self.compares(c));
        let done = self.apply(if holds { &txn.success } else { &txn.failure })?;
        Ok((holds, done))
    }

    fn compares(&self, compare: &Compare) -> bool {
        let entry = self.entries.get(&compare.key);
        let number = |f: fn(&Entry) -> u64| entry.map_or(0, f);
        let ordering = match &compare.target {
            Target::Version(n) => number(|e| e.version).cmp(n),
            Target::Create(n) => number(|e| e.create_revision).cmp(n),
            Target::Mod(n) => number(|e| e.mod_revision).cmp(n),
            Target::Lease(n) => number(|e| e.lease).cmp(n),
            // A key that is not there has no value to compare with: never true.
            Target::Value(value) => match entry {
                Some(entry) => entry.value.cmp(value),
                None => return false,
            },
        };
        match compare.order {
            Order::Equal => ordering.is_eq(),
            Order::NotEqual => ordering.is_ne(),
            Order::Greater => ordering.is_gt(),
            Order::Less => ordering.is_lt(),
        }
    }

    pub fn grant(&mut self, id: u64, ttl_s: u64, now_ms: u64) -> Result<(), Refusal> {
        if self.leases.contains_key(&id) {
            return Err(Refusal::lease_exists());
        }
        self.leases.insert(id, Lease { ttl_s, granted_ms: now_ms });
        Ok(())
    }

    pub fn keep_alive(&mut self, id: u64, now_ms: u64) -> Option<u64> {
        let lease = self.leases.get_mut(&id)?;
        lease.granted_ms = now_ms;
        Some(lease.ttl_s)
    }

    /// Whole seconds that are left, and what was granted.
    pub fn time_to_live(&self, id: u64, now_ms: u64) -> Option<(u64, u64)> {
        let lease = self.leases.get(&id)?;
        let end = lease.granted_ms + lease.ttl_s * 1000;
        Some((end.saturating_sub(now_ms) / 1000, lease.ttl_s))
    }

    pub fn revoke(&mut self, id: u64) -> Result<(), Refusal> {
        self.leases.remove(&id).ok_or_else(Refusal::no_lease)?;
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.lease != id);
        if self.entries.len() < before {
            self.revision += 1;
        }
        Ok(())
    }

    pub fn expired(&self, now_ms: u64) -> Vec<u64> {
        let over = |lease: &Lease| now_ms >= lease.granted_ms + lease.ttl_s * 1000;
        self.leases.iter().filter(|(_, lease)| over(lease)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], lease: u64) -> Op {
        Op::Put { key: key.into(), value: b"v".into(), lease }
    }

    #[test]
    fn a_transaction_is_one_revision_and_all_or_nothing() {
        let mut keys = KeySpace::default();
        keys.apply(&[put(b"a", 0), put(b"b", 0)]).unwrap();
        assert_eq!(keys.revision, 2);
        assert_eq!(keys.apply(&[put(b"c", 0), put(b"d", 9)]).unwrap_err(), Refusal::no_lease());
        let all = keys.range(&Span { key: b"a".into(), end: vec![0] }, 0, false, false);
        assert!(matches!(all, Done::Range { count: 2, more: false, .. }), "{all:?}");
        let create = Compare { key: b"a".into(), order: Order::Equal, target: Target::Create(0) };
        let txn = Txn { compare: vec![create], success: vec![put(b"a", 0)], failure: vec![] };
        assert_eq!(keys.txn(&txn).unwrap(), (false, vec![]));
        assert_eq!(keys.revision, 2);
    }

    #[test]
    fn what_is_bound_to_a_lease_goes_with_it() {
        let mut keys = KeySpace::default();
        keys.grant(5, 2, 1000).unwrap();
        keys.apply(&[put(b"a", 5)]).unwrap();
        assert!(keys.expired(2999).is_empty());
        assert_eq!(keys.expired(3000), [5]);
        assert_eq!(keys.time_to_live(5, 1500), Some((1, 2)));
        keys.revoke(5).unwrap();
        assert_eq!(keys.revoke(5).unwrap_err(), Refusal::no_lease());
        let one = keys.range(&Span { key: b"a".into(), end: vec![] }, 0, false, false);
        assert!(matches!(one, Done::Range { count: 0, .. }));
    }
}
