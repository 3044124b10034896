//! Locks and their leases. The record of a lock is a plain key, so that who held it stays known; the holder's life is
//! a key bound to a lease of etcd, which `renew` keeps alive and which is gone when the lease runs out.

use std::{collections::BTreeSet, time::Duration};

use super::{
    blob,
    core_client::{
        CONFLICTS_MAX, Core, Weight, Written, contended, failed, from_json, moved_mark, moved_place, to_json,
    },
    journal_client::{Seen, follow},
    table::{By, Hold, Lives, Table, Taken},
};
use crate::{
    etcd::request::{Compare, Op, Transaction},
    model::{Failure, Stamp, failure::Cause},
    store::{Claim, Draft, Fence, Holder, Lock, RecordKind, StoreError, all_free, clock, stolen},
};

/// Of the table of locks, which is one value: about ten thousand locks.
pub(super) const TABLE_MAX_BYTES: usize = blob::TXN_MAX_BYTES;
/// Holds that one transaction clears away behind those whose locks were taken. What others leave is found by nobody:
/// their lives end by themselves.
const CLEARED_MAX: usize = 40;

/// Who takes locks, and how.
pub(super) struct Wanted {
    pub names: BTreeSet<String>,
    pub run: String,
    pub holder: Holder,
    pub now: Stamp,
    pub ttl: Duration,
    /// `None`: by right. Else by order of a person: whether by force, and why.
    pub order: Option<(bool, String)>,
}

/// For the lease: at least as long as the lock's, in etcd's whole seconds.
fn lease_s(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
}

/// An id of our own, so that asking for it twice gives one lease. etcd's ids are positive signed numbers.
fn lease_id() -> u64 {
    (uuid::Uuid::new_v4().as_u128() as u64 >> 1).max(1)
}

impl Core {
    async fn look_locks(&self, what: &str) -> Result<(Seen, Lives), StoreError> {
        let keys = &self.keys;
        let reads = vec![
            Op::Get { key: keys.locks() },
            Op::Get { key: keys.head() },
            Op::GetPrefix { prefix: keys.lives() },
            Op::GetPrefix { prefix: keys.renewals() },
        ];
        let found = self.look(what, reads).await?;
        let number = |start: &[u8], key: &[u8]| keys.rest(start, key).and_then(|n| n.parse::<u64>().ok());
        let living = found[2].iter().filter_map(|kv| number(&keys.lives(), &kv.key)).collect();
        let mut lives = Lives { living, ..Lives::default() };
        for kv in &found[3] {
            if let Some(hold) = number(&keys.renewals(), &kv.key) {
                lives.renewed.insert(hold, from_json(&kv.value)?);
                lives.renewed_at.insert(hold, kv.mod_revision);
            }
        }
        Ok((Seen::of(found[0].first(), found[1].first())?, lives))
    }

    pub(super) async fn locks(&self) -> Result<Vec<Lock>, StoreError> {
        let (seen, lives) = self.look_locks("read locks").await?;
        Ok(seen.table.locks(&lives, &Holder::alive, &clock::stamp()))
    }

    pub(super) async fn moved(&self) -> Result<Option<String>, StoreError> {
        let found = self.look("read where it was moved to", vec![Op::Get { key: self.keys.importing() }]).await?;
        Ok(found[0].first().and_then(|kv| moved_place(&kv.value)))
    }

    /// No other write goes through while the mark stands: it takes the place of an import's.
    pub(super) async fn set_moved(&self, to: Option<&str>) -> Result<(), StoreError> {
        const WHAT: &str = "say where it was moved to";
        let key = self.keys.importing();
        for _ in 0..CONFLICTS_MAX {
            let Some(to) = to else {
                let found = self.look(WHAT, vec![Op::Get { key: key.clone() }]).await?;
                let Some(mark) = found[0].first().filter(|kv| moved_place(&kv.value).is_some()) else { return Ok(()) };
                let compare = vec![Compare::Changed { key: key.clone(), at: mark.mod_revision }];
                let success = vec![Op::Delete { key: key.clone() }];
                self.send(WHAT, Transaction { compare, success, failure: vec![] }).await?;
                continue;
            };
            if self.moved().await?.as_deref() == Some(to) {
                return Ok(());
            }
            let (seen, lives) = self.look_locks(WHAT).await?;
            all_free(seen.table.locks(&lives, &Holder::alive, &clock::stamp()))?;
            let compare = vec![Compare::Changed { key: self.keys.locks(), at: seen.table_at }];
            let put = vec![Op::put(key.clone(), moved_mark(to))];
            match self.write(WHAT, Weight::Passing, compare, put, &[]).await {
                Ok(Written::Done { .. }) => return Ok(()),
                Ok(Written::Not { .. }) => {}
                // Maybe an earlier try of this very write.
                Err(error) => match self.moved().await? {
                    Some(place) if place == to => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
        Err(contended(WHAT))
    }

    /// What every change of the table writes: the table, and the holds that it emptied taken away.
    fn table_ops(&self, table: &Table, empty: &[(u64, u64)]) -> Result<Vec<Op>, StoreError> {
        let value = to_json(table)?;
        if value.len() > TABLE_MAX_BYTES {
            let why =
                format!("the table of locks would have {} bytes, at most {TABLE_MAX_BYTES} are kept", value.len());
            let failure = Failure::new(Cause::Refused, "etcd store: lock", why);
            return Err(StoreError::Failed(failure.next("rackctl apply with fewer nodes at once")));
        }
        let mut ops = vec![Op::put(self.keys.locks(), value)];
        for (hold, _) in empty.iter().take(CLEARED_MAX) {
            ops.push(Op::Delete { key: self.keys.life(*hold) });
            ops.push(Op::Delete { key: self.keys.renewed(*hold) });
        }
        Ok(ops)
    }

    /// A renewal at `now`. Leases are counted from there, not from when etcd hears of it: one that came too late to be
    /// one gives no life.
    fn renewal_ops(&self, id: u64, hold: &Hold, now: &Stamp) -> Result<Vec<Op>, StoreError> {
        let mut ops = vec![Op::put(self.keys.renewed(id), to_json(now)?)];
        if !now.expired(hold.ttl_ms, &clock::stamp()) {
            ops.push(Op::Put { key: self.keys.life(id), value: Vec::new(), lease: hold.lease });
        }
        Ok(ops)
    }

    async fn grant(&self, what: &str, ttl: Duration) -> Result<u64, StoreError> {
        let (id, ttl_s) = (lease_id(), lease_s(ttl).max(1));
        let answer = self.pool.call(|client| async move { client.lease_grant_as(id, ttl_s).await }).await;
        answer.map(|_| id).map_err(|e| failed(what, &e))
    }

    /// What it does not reach runs out by itself.
    async fn revoke(&self, leases: impl Iterator<Item = u64>) {
        for lease in leases.take(CLEARED_MAX) {
            let _ = self.pool.call(|client| async move { client.lease_revoke(lease).await }).await;
        }
    }

    pub(super) async fn take(&self, wanted: &Wanted) -> Result<Fence, StoreError> {
        const WHAT: &str = "lock";
        let claim = Claim {
            run: &wanted.run,
            holder: &wanted.holder,
            now: &wanted.now,
            ttl_ms: u64::try_from(wanted.ttl.as_millis()).unwrap_or(u64::MAX),
        };
        if wanted.names.is_empty() {
            return Ok(Fence::of_nothing(&wanted.holder));
        }
        let by = wanted.order.as_ref().map_or(By::Right, |(force, _)| By::Order { force: *force });
        let mut known = self.seen.lock().await;
        let mut lease = 0;
        let mut outcome = Err(contended(WHAT));
        let mut sent: Option<Taken> = None;
        let mut revoked: Vec<u64> = Vec::new();
        for _ in 0..CONFLICTS_MAX {
            let (seen, lives) = match self.look_locks(WHAT).await {
                Ok(looked) => looked,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            // An earlier try came through, if its lease stands in the table.
            if let Some(taken) = sent.take_if(|t| seen.table.holds.get(&t.hold).is_some_and(|h| h.lease == lease)) {
                revoked = taken.empty.iter().map(|(_, lease)| *lease).collect();
                *known = Some(seen);
                outcome = Ok(taken.fence);
                break;
            }
            let taken = match seen.table.take(&wanted.names, &claim, by, &lives, &Holder::alive, lease) {
                Ok(taken) => taken,
                Err(refused) => {
                    outcome = Err(refused);
                    break;
                }
            };
            // Asked for only now: what is refused anyway needs none.
            if lease == 0 {
                match self.grant(WHAT, wanted.ttl).await {
                    Ok(id) => lease = id,
                    Err(error) => return Err(error),
                }
                continue;
            }
            match self.write_taken(WHAT, wanted, &seen, &taken, lease).await {
                Ok(Written::Done { .. }) => {
                    revoked = taken.empty.iter().map(|(_, lease)| *lease).collect();
                    *known = None;
                    outcome = Ok(taken.fence);
                    break;
                }
                Ok(Written::Not { .. }) => sent = Some(taken),
                Err(error) => {
                    *known = None;
                    outcome = Err(error);
                    break;
                }
            }
        }
        drop(known);
        match &outcome {
            Ok(_) => self.revoke(revoked.into_iter()).await,
            // A write of unknown outcome may have come through: without its lease the lock it made is an expired one.
            Err(_) if lease != 0 => self.revoke([lease].into_iter()).await,
            Err(_) => {}
        }
        outcome
    }

    async fn write_taken(
        &self,
        what: &str,
        wanted: &Wanted,
        seen: &Seen,
        taken: &Taken,
        lease: u64,
    ) -> Result<Written, StoreError> {
        let mut ops = self.table_ops(&taken.table, &taken.empty)?;
        if let Some(hold) = taken.table.holds.get(&taken.hold) {
            ops.extend(self.renewal_ops(taken.hold, hold, &wanted.now)?);
        }
        let mut compare = vec![Compare::Changed { key: self.keys.locks(), at: seen.table_at }];
        if let Some((force, reason)) = &wanted.order {
            let drafts: Vec<Draft> = taken
                .from
                .iter()
                .map(|(from, to)| Draft {
                    subject: from.name.clone(),
                    step: "lock".to_owned(),
                    attempt: 1,
                    kind: RecordKind::LockStolen,
                    body: stolen(from, to, reason, *force),
                })
                .collect();
            let records = follow(&seen.head, &wanted.run, wanted.now.unix_ms, &taken.fence, drafts);
            ops.extend(self.write_records(&records, &lease.to_string()).await?);
            compare.push(Compare::Changed { key: self.keys.head(), at: seen.head_at });
        }
        self.write(what, Weight::Matters, compare, ops, &[]).await
    }

    /// The holder's life goes on for its lease from now on. A lease that ran out is made anew, as long as nobody has
    /// taken a lock: whose it is, the table says.
    pub(super) async fn renew(&self, fence: &Fence, now: &Stamp) -> Result<(), StoreError> {
        const WHAT: &str = "renew locks";
        for _ in 0..CONFLICTS_MAX {
            let (seen, lives) = self.look_locks(WHAT).await?;
            let holds = seen.table.in_force(fence)?;
            let mut table = seen.table.clone();
            let mut ops = Vec::new();
            let mut compare = vec![Compare::Changed { key: self.keys.locks(), at: seen.table_at }];
            for hold in &holds {
                // A renewal that comes through late must not take the place of a later one.
                let at = lives.renewed_at.get(hold).copied().unwrap_or(0);
                compare.push(Compare::Changed { key: self.keys.renewed(*hold), at });
            }
            for id in holds {
                if let Some(hold) = table.holds.get_mut(&id) {
                    self.keep_alive(WHAT, hold).await?;
                    ops.extend(self.renewal_ops(id, hold, now)?);
                }
            }
            if table != seen.table {
                ops.extend(self.table_ops(&table, &[])?);
            }
            match self.write(WHAT, Weight::Passing, compare, ops, &[]).await? {
                Written::Done { .. } => return Ok(()),
                Written::Not { .. } => {}
            }
        }
        Err(contended(WHAT))
    }

    /// A lease that has run out is asked for anew.
    async fn keep_alive(&self, what: &str, hold: &mut Hold) -> Result<(), StoreError> {
        let lease = hold.lease;
        let kept = self.pool.call(|client| async move { client.lease_keep_alive(lease).await }).await;
        if kept.map_err(|e| failed(what, &e))?.value.is_none() {
            hold.lease = self.grant(what, Duration::from_millis(hold.ttl_ms)).await?;
        }
        Ok(())
    }

    pub(super) async fn unlock(&self, fence: &Fence) -> Result<(), StoreError> {
        const WHAT: &str = "unlock";
        for _ in 0..CONFLICTS_MAX {
            let seen = self.look_seen(WHAT).await?;
            let Some((table, empty)) = seen.table.release(fence) else { return Ok(()) };
            let compare = vec![Compare::Changed { key: self.keys.locks(), at: seen.table_at }];
            let ops = self.table_ops(&table, &empty)?;
            match self.write(WHAT, Weight::Matters, compare, ops, &[]).await? {
                Written::Done { .. } => {
                    self.revoke(empty.into_iter().map(|(_, lease)| lease)).await;
                    return Ok(());
                }
                Written::Not { .. } => {}
            }
        }
        Err(contended(WHAT))
    }
}
