//! The table of locks: who holds what, as one value under one key.
//!
//! One key, because then a lock of any number of names is taken, stolen or released in one transaction, and an append
//! proves its fence by comparing one revision: as long as the table stands as it was read, so does every lock in it.
//! Renewals are kept elsewhere, so it changes only when locks change hands.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    model::Stamp,
    store::{Claim, Fence, Holder, Lock, StoreError, fenced},
};

/// Locks that were taken together: they live and are renewed as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hold {
    pub run: String,
    pub holder: Holder,
    pub since_ms: u64,
    pub ttl_ms: u64,
    /// etcd's lease to which the hold's life is bound.
    pub lease: u64,
}

/// Fences outlive locks: a number is never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub(super) struct Slot {
    pub fence: u64,
    /// 0: nobody's.
    pub hold: u64,
}

impl From<(u64, u64)> for Slot {
    fn from((fence, hold): (u64, u64)) -> Slot {
        Slot { fence, hold }
    }
}

impl From<Slot> for (u64, u64) {
    fn from(slot: Slot) -> (u64, u64) {
        (slot.fence, slot.hold)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Table {
    /// Number of the last hold.
    pub last: u64,
    pub holds: BTreeMap<u64, Hold>,
    pub names: BTreeMap<String, Slot>,
}

/// What is known of holds beside the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lives {
    /// Holds whose lease lives, by etcd's clock.
    pub living: BTreeSet<u64>,
    pub renewed: BTreeMap<u64, Stamp>,
    /// Revision of that.
    pub renewed_at: BTreeMap<u64, u64>,
}

/// By what right locks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Free ones, our own, and those of dead processes of this host.
    Right,
    /// By order of a person.
    Order { force: bool },
}

/// The table after locks were taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taken {
    pub table: Table,
    pub hold: u64,
    pub fence: Fence,
    /// From whom, and what it is now; only locks of others.
    pub from: Vec<(Lock, Lock)>,
    /// Holds that hold nothing any more, with their leases.
    pub empty: Vec<(u64, u64)>,
}

impl Table {
    /// A lock as it stands at `now`; `alive` is what can be told of a holder from here.
    ///
    /// It has expired when its holder is a dead process of this host, when etcd says that its lease ran out, or when
    /// this boot's clock says so. The wall clock of another host says nothing: where etcd judges, no two clocks
    /// need to agree.
    fn lock(&self, name: &str, lives: &Lives, alive: &impl Fn(&Holder) -> bool, now: &Stamp) -> Option<Lock> {
        let slot = self.names.get(name)?;
        let hold = self.holds.get(&slot.hold)?;
        let renewed = lives.renewed.get(&slot.hold).cloned().unwrap_or_default();
        let one_boot = !now.boot_id.is_empty() && renewed.boot_id == now.boot_id;
        let expired =
            !alive(&hold.holder) || !lives.living.contains(&slot.hold) || one_boot && renewed.expired(hold.ttl_ms, now);
        Some(Lock {
            name: name.to_owned(),
            run: hold.run.clone(),
            holder: hold.holder.clone(),
            fence: slot.fence,
            since_ms: hold.since_ms,
            renewed,
            ttl_ms: hold.ttl_ms,
            expired,
        })
    }

    pub fn locks(&self, lives: &Lives, alive: &impl Fn(&Holder) -> bool, now: &Stamp) -> Vec<Lock> {
        self.names.keys().filter_map(|name| self.lock(name, lives, alive, now)).collect()
    }

    /// The holds of the fence's locks; `Fenced` unless every lock is the one that the fence was given for.
    pub fn in_force(&self, fence: &Fence) -> Result<BTreeSet<u64>, StoreError> {
        let mut holds = BTreeSet::new();
        for (name, number) in &fence.locks {
            match self.names.get(name) {
                Some(slot) if slot.fence == *number && slot.hold != 0 => drop(holds.insert(slot.hold)),
                _ => {
                    let held = self.lock(name, &Lives::default(), &|_| true, &Stamp::default());
                    return Err(fenced(name, *number, held.as_ref()));
                }
            }
        }
        Ok(holds)
    }

    /// All of `names`, or the refusal of the first that cannot be had. `lease` is the new hold's.
    pub fn take(
        &self,
        names: &BTreeSet<String>,
        claim: &Claim<'_>,
        by: By,
        lives: &Lives,
        alive: &impl Fn(&Holder) -> bool,
        lease: u64,
    ) -> Result<Taken, StoreError> {
        let mut table = self.clone();
        table.last += 1;
        let hold = table.last;
        let mut from = Vec::new();
        let mut fences = Vec::new();
        for name in names {
            let held = self.lock(name, lives, alive, claim.now).filter(|lock| lock.holder != *claim.holder);
            if let Some(lock) = &held {
                let had = match by {
                    By::Right => !alive(&lock.holder),
                    By::Order { force } => force || lock.expired,
                };
                if !had {
                    return Err(StoreError::Locked(Box::new(lock.clone())));
                }
            }
            let slot = table.names.entry(name.clone()).or_insert(Slot { fence: 0, hold: 0 });
            *slot = Slot { fence: slot.fence + 1, hold };
            fences.push((name.clone(), slot.fence));
            if let Some(lock) = held {
                from.push((lock, claim.lock(name, slot.fence)));
            }
        }
        if !names.is_empty() {
            let (run, holder) = (claim.run.to_owned(), claim.holder.clone());
            let since_ms = claim.now.unix_ms;
            table.holds.insert(hold, Hold { run, holder, since_ms, ttl_ms: claim.ttl_ms, lease });
        }
        let empty = table.sweep();
        Ok(Taken { table, hold, fence: Fence { locks: fences, actor: claim.holder.to_string() }, from, empty })
    }

    /// Releases what is still the fence's; gives the holds that became empty, with their leases. `None`: nothing is.
    pub fn release(&self, fence: &Fence) -> Option<(Table, Vec<(u64, u64)>)> {
        let mut table = self.clone();
        for (name, number) in &fence.locks {
            if let Some(slot) = table.names.get_mut(name).filter(|slot| slot.fence == *number) {
                slot.hold = 0;
            }
        }
        let empty = table.sweep();
        (table != *self).then_some((table, empty))
    }

    fn sweep(&mut self) -> Vec<(u64, u64)> {
        let used: BTreeSet<u64> = self.names.values().map(|slot| slot.hold).collect();
        let empty: Vec<(u64, u64)> =
            self.holds.iter().filter(|(hold, _)| !used.contains(hold)).map(|(id, hold)| (*id, hold.lease)).collect();
        self.holds.retain(|hold, _| used.contains(hold));
        empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(user: &str) -> Holder {
        Holder {
            user: user.into(),
            host: user.into(),
            pid: 1,
            started_ticks: 1,
            boot_id: user.into(),
            version: "1".into(),
        }
    }

    fn stamp(user: &str, ms: u64) -> Stamp {
        Stamp { unix_ms: 1_000_000 + ms, boot_id: user.into(), boot_ms: ms }
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    fn take(table: &Table, list: &[&str], user: &str, by: By, lives: &Lives) -> Result<Taken, StoreError> {
        let (holder, now) = (holder(user), stamp(user, 5));
        let claim = Claim { run: "r", holder: &holder, now: &now, ttl_ms: 1000 };
        table.take(&names(list), &claim, by, lives, &|h| h.user != "dead", 70 + table.last)
    }

    fn alive(holds: &[u64]) -> Lives {
        Lives {
            living: holds.iter().copied().collect(),
            renewed: holds.iter().map(|h| (*h, stamp("ann", 5))).collect(),
            ..Lives::default()
        }
    }

    #[test]
    fn all_or_none_and_numbers_are_never_given_twice() {
        let ann = take(&Table::default(), &["a", "b"], "ann", By::Right, &Lives::default()).unwrap();
        assert_eq!(ann.fence.locks, [("a".into(), 1), ("b".into(), 1)]);
        let refused = take(&ann.table, &["b", "c"], "bob", By::Right, &alive(&[1])).unwrap_err();
        assert!(matches!(refused, StoreError::Locked(ref lock) if lock.name == "b" && !lock.expired), "{refused}");
        let (free, empty) = ann.table.release(&ann.fence).unwrap();
        assert_eq!((empty, free.holds.len()), (vec![(1, 70)], 0));
        assert!(free.release(&ann.fence).is_none());
        let bob = take(&free, &["b"], "bob", By::Right, &Lives::default()).unwrap();
        assert_eq!(bob.fence.locks, [("b".into(), 2)]);
        let fenced = bob.table.in_force(&ann.fence).unwrap_err().to_string();
        assert!(fenced.contains("`a`") || fenced.contains("lock a"), "{fenced}");
    }

    #[test]
    fn a_lease_that_ran_out_is_not_taken_but_stolen() {
        let ann = take(&Table::default(), &["a", "b"], "ann", By::Right, &Lives::default()).unwrap();
        for lives in [alive(&[1]), Lives::default()] {
            let refused = take(&ann.table, &["a"], "bob", By::Right, &lives).unwrap_err();
            let expired = lives == Lives::default();
            assert!(matches!(refused, StoreError::Locked(ref lock) if lock.expired == expired), "{refused}");
        }
        assert!(take(&ann.table, &["a"], "bob", By::Order { force: false }, &alive(&[1])).is_err());
        assert!(take(&ann.table, &["a"], "bob", By::Order { force: true }, &alive(&[1])).is_ok());
        let bob = take(&ann.table, &["a"], "bob", By::Order { force: false }, &Lives::default()).unwrap();
        assert_eq!((bob.from[0].0.holder.user.as_str(), bob.from[0].1.fence), ("ann", 2));
        assert!(bob.empty.is_empty(), "ann still holds b");
        let fenced = bob.table.in_force(&ann.fence).unwrap_err().to_string();
        assert!(fenced.contains("bob@bob"), "{fenced}");
        assert!(bob.table.in_force(&Fence { locks: vec![("b".into(), 1)], actor: String::new() }).is_ok());
    }

    #[test]
    fn dead_processes_lose_their_locks_and_ones_own_are_taken_anew() {
        let dead = take(&Table::default(), &["a"], "dead", By::Right, &Lives::default()).unwrap();
        let ann = take(&dead.table, &["a"], "ann", By::Right, &alive(&[1])).unwrap();
        assert_eq!((ann.empty.clone(), ann.from.len()), (vec![(1, 70)], 1));
        let again = take(&ann.table, &["a", "b"], "ann", By::Right, &alive(&[2])).unwrap();
        assert_eq!((again.fence.locks[0].1, again.from.len()), (3, 0));
        assert!(again.table.in_force(&ann.fence).is_err());
    }

    #[test]
    fn the_clock_of_another_host_does_not_end_a_lease() {
        let ann = take(&Table::default(), &["a"], "ann", By::Right, &Lives::default()).unwrap();
        let seen = |user: &str, ms: u64, lives: &Lives| ann.table.locks(lives, &|_| true, &stamp(user, ms))[0].expired;
        assert!(!seen("bob", 60_000, &alive(&[1])));
        assert!(seen("ann", 60_000, &alive(&[1])), "its own boot's clock does");
        assert!(seen("ann", 6, &Lives::default()), "etcd does");
    }

    #[test]
    fn it_reads_back_as_it_was_written() {
        let ann = take(&Table::default(), &["a"], "ann", By::Right, &Lives::default()).unwrap();
        let text = serde_json::to_string(&ann.table).unwrap();
        assert!(text.ends_with(r#""names":{"a":[1,1]}}"#), "{text}");
        assert_eq!(serde_json::from_str::<Table>(&text).unwrap(), ann.table);
    }
}
